//! Every number of the mailbox rules, in one place.

use std::time::Duration;

/// Entries that a mailbox holds over all lanes.
pub const MAILBOX_ENTRIES: usize = 1_000;
/// Payload bytes that a mailbox holds over all lanes.
pub const MAILBOX_BYTES: u64 = 8 * 1024 * 1024;
/// Longest and default time to live of a message.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most that an organization may let a mailbox hold.
pub const LARGEST_MAILBOX_ENTRIES: usize = 100_000;
/// See [`LARGEST_MAILBOX_ENTRIES`]; payload bytes.
pub const LARGEST_MAILBOX_BYTES: u64 = 256 * 1024 * 1024;
/// Entries that one append may evict under REPLACE_OLDEST.
pub const EVICTIONS: usize = 64;
/// Deliveries of a message before it is a dead letter.
pub const ATTEMPTS: u32 = 5;
/// Longest delay of a nack.
pub const NACK_DELAY: Duration = Duration::from_secs(3600);
/// Live sessions of an orchestrator.
pub const SESSIONS: usize = 5;
/// Lease of a gateway incarnation.
pub const LEASE: Duration = Duration::from_secs(15);
/// An active session without a frame for so long yields to another.
pub const YIELD_AFTER: Duration = Duration::from_secs(35);
/// After a drain only the same daemon may take the active role for so long.
pub const DRAIN_RESERVATION: Duration = Duration::from_secs(10);
/// An orchestrator whose last session ended without goodbye is `reconnecting` for so long.
pub const RECONNECTING: Duration = Duration::from_secs(60);
/// What a mailbox has to tell and nobody confirms is told again after so long.
pub const NEWS_AGAIN: Duration = Duration::from_secs(5);
/// Displacing back so often within [`DISPLACEMENT_PERIOD`] ends both instances.
pub const DISPLACEMENTS: usize = 3;
/// See [`DISPLACEMENTS`].
pub const DISPLACEMENT_PERIOD: Duration = Duration::from_secs(60);
/// Daemons of an orchestrator whose subscriptions are kept.
pub const DAEMONS: usize = 20;
/// Epochs that a mailbox remembers.
pub const EPOCHS: usize = 16;
/// Exits that a mailbox lists.
pub const EXITS: usize = 1_000;
/// How long exits and dead letters are kept.
pub const EXITS_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Dead letters of a mailbox.
pub const DEAD_LETTERS: usize = 1_000;
/// Payload bytes of the dead letters of a mailbox.
pub const DEAD_LETTER_BYTES: u64 = 8 * 1024 * 1024;
/// Callers' ids of settled messages that are always kept for [`IDS_AGE_ALL`].
pub const IDS: usize = 100_000;
/// See [`IDS`].
pub const IDS_AGE_ALL: Duration = Duration::from_secs(120);
/// The newest callers' ids, kept for [`IDS_AGE_NEWEST`].
pub const IDS_NEWEST: usize = 1_000;
/// See [`IDS_NEWEST`].
pub const IDS_AGE_NEWEST: Duration = Duration::from_secs(24 * 3600);
/// How long a Redis may take to let a connection stand.
pub const REDIS_CONNECT: Duration = Duration::from_secs(2);
/// How long a Redis may take to answer. With `appendfsync everysec` it may hold writes back for 2 s; an answer that
/// comes later than this is an unknown outcome.
pub const REDIS_ANSWER: Duration = Duration::from_secs(5);
/// How long replicas may take to say that they have what was written; then it is an unknown outcome.
pub const REDIS_REPLICAS: Duration = Duration::from_secs(1);
/// How long a sentinel may take to connect, and to answer.
pub const SENTINEL_ANSWER: Duration = Duration::from_millis(500);
/// How often it is asked whether the master is still the one that is used.
pub const SENTINEL_LOOK: Duration = Duration::from_secs(2);
/// Partitions of a Redis store unless configured otherwise.
pub const PARTITIONS: usize = 64;
/// Bytes of journal before a new file is begun.
pub const JOURNAL_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Events that a feed keeps.
pub const FEED_EVENTS: u64 = 100_000;
/// Bytes of their data.
pub const FEED_BYTES: u64 = 64 * 1024 * 1024;
/// How long.
pub const FEED_AGE: Duration = Duration::from_secs(24 * 3600);
/// How long a revocation is listed: as long as any token may live.
pub const REVOCATION_AGE: Duration = Duration::from_secs(31 * 24 * 3600);
/// A login that was not refreshed for so long is forgotten.
pub const LOGIN_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A refresh token presented again within this time after its rotation gets the same successor.
pub const REFRESH_GRACE: Duration = Duration::from_secs(10);
/// Audit events that a chain keeps.
pub const AUDIT_EVENTS: usize = 10_000;
/// Metrics of an orchestrator's daemons that are kept.
pub const METRICS: usize = 100;
/// How long.
pub const METRICS_AGE: Duration = Duration::from_secs(24 * 3600);
/// A registered daemon that is silent for three heartbeats gives way to another.
pub const REGISTRATION_SILENCE: Duration = Duration::from_secs(90);
/// Expired messages of a mailbox that one step of a sweep lets go, so that none holds the store for long.
pub const EXPIRIES: usize = 64;
