//! What operators and callers may see.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_domain::{
    DaemonId, Entry, Epoch, ExitReason, IncarnationId, LoginId, PerLane, Position, ReportedStatus, SessionId,
    Subscriptions, Timestamp,
};

use crate::limits;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum MessageState {
    /// It waits.
    Queued,
    /// A live session holds it, or is told of it.
    Dispatched {
        /// From 1.
        attempt: u32,
    },
    /// A daemon has acknowledged it.
    Acknowledged,
    /// It left otherwise.
    Exited(ExitReason),
    /// Never known, or forgotten.
    Unknown,
}

/// A message by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MessageView {
    /// As it is now.
    pub state: MessageState,
    /// Where it stands or stood.
    pub position: Option<Position>,
}

/// Where the messages of a mailbox have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// By an ack.
    pub acknowledged: u64,
    /// Time to live ended.
    pub expired: u64,
    /// Attempts used up, or rejected.
    pub dead: u64,
    /// Made room.
    pub overflowed: u64,
    /// Removed by an operator.
    pub purged: u64,
}

/// A mailbox in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxView {
    /// Current epoch; `None` before the first append or session.
    pub epoch: Option<Epoch>,
    /// By lane.
    pub lanes: PerLane<LaneView>,
    /// Payload bytes.
    pub bytes: u64,
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// When the oldest resident entry was accepted.
    pub oldest: Option<Timestamp>,
    /// Since the mailbox exists.
    pub counters: Counters,
    /// Who holds it.
    pub holder: Option<SessionId>,
}

impl MailboxView {
    /// Messages ever accepted: the sum of the heads.
    pub fn accepted(&self) -> u64 {
        self.lanes.iter().map(|(_, lane)| lane.head).sum()
    }

    /// Accepted less all that can be accounted for: 0, always (R19).
    pub fn conservation_delta(&self) -> i64 {
        let Counters { acknowledged, expired, dead, overflowed, purged } = self.counters;
        let resident: u64 = self.lanes.iter().map(|(_, lane)| lane.depth).sum();
        let accounted = acknowledged + expired + dead + overflowed + purged + resident;
        self.accepted().cast_signed() - accounted.cast_signed()
    }
}

/// A resident entry, as somebody who does not consume it may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResidentView {
    /// As a session would get it.
    pub entry: Entry,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When its time to live ends.
    pub expires: Timestamp,
    /// It has been sent to the session that holds the mailbox, and is not waiting out a nack.
    pub in_flight: bool,
}

/// A message that could not be processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterView {
    /// Counts the dead letters of the mailbox.
    pub number: u64,
    /// As it was delivered last.
    pub entry: Entry,
    /// What its daemon said, or that its attempts were used up.
    pub reason: String,
    /// When it died.
    pub at: Timestamp,
}

/// All mailboxes in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Mailboxes that were ever used.
    pub mailboxes: u64,
    /// Entries that wait or are in flight.
    pub resident: u64,
    /// Sum of the conservation deltas without their signs: 0, always (R19).
    pub conservation_delta: u64,
    /// Mailboxes that hold four fifths of [`limits::MAILBOX_ENTRIES`] or of [`limits::MAILBOX_BYTES`], or more.
    pub filling: u64,
    /// When the oldest entry was accepted that waits or is in flight.
    pub oldest: Option<Timestamp>,
}

/// Whether a mailbox counts among those that are filling.
pub(crate) fn is_filling(entries: u64, bytes: u64) -> bool {
    let most = u64::try_from(limits::MAILBOX_ENTRIES).unwrap_or(u64::MAX);
    5 * entries >= 4 * most || 5 * bytes >= 4 * limits::MAILBOX_BYTES
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Totals>>(each: I) -> Totals {
        each.fold(Totals::default(), |sum, one| Totals {
            mailboxes: sum.mailboxes + one.mailboxes,
            resident: sum.resident + one.resident,
            conservation_delta: sum.conservation_delta + one.conservation_delta,
            filling: sum.filling + one.filling,
            oldest: sum.oldest.into_iter().chain(one.oldest).min(),
        })
    }
}

/// One lane in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneView {
    /// Last sequence given.
    pub head: u64,
    /// Resident entries.
    pub depth: u64,
}

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Which.
    pub session: SessionId,
    /// The process.
    pub daemon: DaemonId,
    /// Its token family.
    pub login: LoginId,
    /// Where it is connected.
    pub incarnation: IncarnationId,
    /// Since when.
    pub opened: Timestamp,
    /// Holds the mailbox.
    pub active: bool,
    /// What it reported last.
    pub status: Option<ReportedStatus>,
    /// What it reported last.
    pub metrics: Option<Bytes>,
    /// In force.
    pub subscriptions: Subscriptions,
}

/// Whether an orchestrator can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceView {
    /// As observed.
    pub presence: Presence,
    /// Live sessions.
    pub sessions: usize,
    /// When the last one ended, if none lives.
    pub last_seen: Option<Timestamp>,
    /// What the active daemon reported last.
    pub status: Option<ReportedStatus>,
    /// Sessions live, and no daemon has been heard for [`crate::limits::YIELD_AFTER`].
    pub silent: bool,
}

/// As observed, not as reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A session lives.
    Online,
    /// The last one ended without goodbye, not long ago.
    Reconnecting,
    /// None.
    Offline,
}
