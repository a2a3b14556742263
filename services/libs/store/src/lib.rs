//! Waystation's shared state: traits by kind of data, and the backends behind them.
//!
//! The embedded backend lives in one process and is the executable specification of the mailbox
//! rules; every other backend must answer exactly like it, which the `conformance` suite checks.
//!
//! **Invariants:** only this crate knows how state is kept. `now` and randomness are arguments.

pub mod audit;
pub mod credential;
pub mod federation;
pub mod feed;
pub mod limits;
pub mod mailbox;
pub mod quota;
pub mod report;

#[cfg(feature = "conformance")]
pub mod conformance;
mod embedded;
mod redis;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::redis::{Channels, Listener, RedisConfig, Said, Speaker};
pub use audit::AuditStore;
pub use credential::CredentialStore;
pub use federation::FederationStore;
pub use feed::FeedStore;
pub use mailbox::MailboxStore;
pub use quota::QuotaStore;
pub use report::ReportStore;

/// What a store promises about what it accepted. Ordered: more is safer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In the memory of the process.
    Process,
    /// Written to the operating system: survives kill -9, not a power cut.
    PageCache,
    /// Flushed to the disk.
    Fsync,
    /// On a second machine.
    Replicated,
}

/// Which store to open.
#[derive(Clone, Debug)]
pub enum Config {
    /// In this process, without a journal.
    Memory,
    /// In this process, with a journal.
    Journal {
        /// Directory of the journal; made if it is not there, then locked.
        dir: PathBuf,
        /// Whether each answer waits for the disk.
        fsync: bool,
        /// A new file with a snapshot is begun after so many bytes. Default: [`limits::JOURNAL_FILE_BYTES`].
        file_bytes: u64,
    },
}

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another process uses the directory.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The journal is damaged before its end; starting would lose what follows.
    #[error("{}: {problem} at byte {offset}; nothing was changed", path.display())]
    Damaged {
        /// The journal file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The Redis must not be used as it is.
    #[error("{0}")]
    Unfit(String),
}

/// The store cannot answer now; whether the operation took place is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store does not answer: {0}")]
pub struct Unavailable(pub String);

/// An open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// Mailboxes and sessions.
    pub mailboxes: Arc<dyn MailboxStore>,
    /// Events of organizations.
    pub feeds: Arc<dyn FeedStore>,
    /// Orchestrators that take tasks, and the tasks.
    pub federation: Arc<dyn FederationStore>,
    /// Organizations, keys, logins and revocations.
    pub credentials: Arc<dyn CredentialStore>,
    /// Who did what.
    pub audit: Arc<dyn AuditStore>,
    /// What daemons say of themselves.
    pub reports: Arc<dyn ReportStore>,
    /// How much organizations may do.
    pub quotas: Arc<dyn QuotaStore>,
}

/// Opens a store in this process. `generation` must be random: it names the store's life in epochs.
///
/// # Errors
/// If the journal cannot be opened, is in use, or is damaged before its end.
pub fn open(config: &Config, generation: u64) -> Result<Store, OpenError> {
    let embedded = Arc::new(embedded::Embedded::open(config, generation)?);
    Ok(Store {
        mailboxes: embedded.clone(),
        feeds: embedded.clone(),
        federation: embedded.clone(),
        credentials: embedded.clone(),
        audit: embedded.clone(),
        reports: embedded.clone(),
        quotas: embedded,
    })
}

/// Opens a store in a Redis. `generation` must be random: epochs that this process begins come from it.
///
/// A Redis that does not answer is no error: operations are unavailable until it does.
///
/// # Errors
/// If a URL is not one, or the Redis must not be used: too old, evicting, less durable than configured, or used with
/// another number of partitions.
pub async fn connect(config: &RedisConfig, generation: u64) -> Result<Store, OpenError> {
    let redis = Arc::new(self::redis::Redis::connect(config, generation).await?);
    Ok(Store {
        mailboxes: redis.clone(),
        feeds: redis.clone(),
        federation: redis.clone(),
        credentials: redis.clone(),
        audit: redis.clone(),
        reports: redis.clone(),
        quotas: redis,
    })
}
