//! Mailboxes and the sessions that serve them.

mod append;
mod digest;
mod read;
mod session;
mod settle;
mod view;

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use waystation_domain::{OrchestratorId, OrganizationId, SessionId, Timestamp};

pub use append::{Append, AppendMessage, AppendRefused, Appended, IfOffline, MailboxLimits, Overflow, Route};
pub(crate) use digest::ContentDigest;
pub use read::{ReadAnswer, ReadMailbox, Refused};
pub use session::{
    ActivationNotice, CloseSession, Compare, Compared, ComparedSession, Displaced, DisplacedBecause, HolderRef,
    IncarnationInfo, Liveness, MailboxNews, NewsTold, OpenRefused, OpenSession, Opened, RenewIncarnation, Renewed,
    SessionReport, Subscribe, Sweep, Swept,
};
pub use settle::{ForgetDeadLetters, Purge, Settle, Settled, Settlement};
pub(crate) use view::is_filling;
pub use view::{
    Counters, DeadLetterView, LaneView, MailboxView, MessageState, MessageView, Presence, PresenceView, ResidentView,
    SessionView, Totals,
};
// The words of the log are the domain's; whoever uses this trait needs them with it.
pub use waystation_domain::{
    AckRange, Activation, Charge, Entry, ExitReason, Gap, GapRange, Heads, MessageRef, Nack, Reject, ReportedStatus,
    ResumePoint, ResumeVerdict, Window,
};

use crate::{Durability, Unavailable};

/// Whose mailbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MailboxKey {
    /// Tenant.
    pub organization: OrganizationId,
    /// Addressee.
    pub orchestrator: OrchestratorId,
}

/// The moment at which an operation is judged. `None`: by the store's own clock, as in production.
pub type Now = Option<Timestamp>;

/// Calls of one operation to another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Its name.
    pub operation: &'static str,
    /// How many were made.
    pub count: u64,
    /// Of them, how many were not answered as they should be.
    pub failed: u64,
    /// How long all of them took together.
    pub took: Duration,
}

/// Mailboxes with their sessions. Every method is one atomic step.
///
/// An error means that the outcome is unknown; every method may be repeated.
#[async_trait]
pub trait MailboxStore: Send + Sync {
    /// What is promised about accepted messages now.
    fn durability(&self) -> Durability;

    /// Another number than before means that a process of the store was replaced: what it had acknowledged may be
    /// lost, and whoever remembers something of it must look again.
    fn life(&self) -> u64;

    /// Calls to another process so far, by operation; empty if there is none.
    fn calls(&self) -> Vec<Calls>;

    /// How many appends may usefully be under way at once: those of one lane of traffic wait for each other.
    fn partitions(&self) -> usize;

    /// The lane of traffic of a mailbox, below [`MailboxStore::partitions`].
    fn partition_of(&self, key: &MailboxKey) -> usize;

    /// Accepts messages, each on its own merits, in their order.
    async fn append(&self, append: Append, now: Now) -> Result<Vec<Result<Appended, AppendRefused>>, Unavailable>;

    /// Opens a session; the first eligible one becomes active.
    async fn open(&self, open: OpenSession, now: Now) -> Result<Result<Opened, OpenRefused>, Unavailable>;

    /// Ends a session; answers who is active instead, if that changed.
    async fn close(&self, close: CloseSession, now: Now) -> Result<Option<ActivationNotice>, Unavailable>;

    /// Reads on from a position. Fenced.
    async fn read(&self, read: ReadMailbox, now: Now) -> Result<Result<ReadAnswer, Refused>, Unavailable>;

    /// Acks, nacks, rejects and charges; answers one for each settlement.
    async fn settle(&self, settle: Settle, now: Now) -> Result<Vec<Settled>, Unavailable>;

    /// Heartbeats: keeps what is reported, answers the heads. `None` for unknown sessions.
    async fn compare(&self, compare: Compare, now: Now) -> Result<Compared, Unavailable>;

    /// Replaces the subscriptions of a session's daemon.
    async fn subscribe(&self, subscribe: Subscribe, now: Now) -> Result<Result<(), Refused>, Unavailable>;

    /// Renews the lease of a gateway incarnation, or takes it for the first time.
    async fn renew(&self, renew: RenewIncarnation, now: Now) -> Result<Renewed, Unavailable>;

    /// Does what has become due: expiry, sessions of dead incarnations, ended reservations.
    async fn sweep(&self, sweep: Sweep, now: Now) -> Result<Swept, Unavailable>;

    /// Notes what subscribers have been told of a mailbox.
    async fn note_told(&self, told: NewsTold, now: Now) -> Result<(), Unavailable>;

    /// Removes every entry; answers how many.
    async fn purge(&self, purge: Purge, now: Now) -> Result<u64, Unavailable>;

    /// Drops dead letters that have been dealt with; answers how many of them were there.
    async fn forget_dead_letters(&self, forget: ForgetDeadLetters, now: Now) -> Result<u64, Unavailable>;

    /// Incarnations whose sessions the store still lists.
    async fn incarnations(&self, now: Now) -> Result<Vec<IncarnationInfo>, Unavailable>;

    /// A mailbox in numbers; `None` if nobody ever used it.
    async fn mailbox(&self, key: &MailboxKey, now: Now) -> Result<Option<MailboxView>, Unavailable>;

    /// What became of a message.
    async fn message(
        &self,
        key: &MailboxKey,
        id: &waystation_domain::MessageId,
        now: Now,
    ) -> Result<MessageView, Unavailable>;

    /// Resident entries after a place, by lane and sequence, at most `most`. Nothing changes by it.
    async fn residents(
        &self,
        key: &MailboxKey,
        after: (waystation_domain::Lane, u64),
        most: usize,
        now: Now,
    ) -> Result<Vec<ResidentView>, Unavailable>;

    /// Dead letters after a number, oldest first, at most `most`.
    async fn dead_letters(
        &self,
        key: &MailboxKey,
        after: u64,
        most: usize,
        now: Now,
    ) -> Result<Vec<DeadLetterView>, Unavailable>;

    /// Live sessions, newest first.
    async fn sessions(&self, key: &MailboxKey, liveness: &Liveness, now: Now) -> Result<Vec<SessionView>, Unavailable>;

    /// Whether the orchestrator can be reached.
    async fn presence(&self, key: &MailboxKey, liveness: &Liveness, now: Now) -> Result<PresenceView, Unavailable>;

    /// Who holds a mailbox and how far it has grown, for a router that does not know what became of its append.
    async fn holder(
        &self,
        key: &MailboxKey,
        liveness: &Liveness,
        now: Now,
    ) -> Result<Option<(HolderRef, Heads)>, Unavailable>;

    /// Whether the store still is what it was configured to be; else why it is not.
    async fn judge(&self) -> Result<(), String> {
        Ok(())
    }

    /// All mailboxes in numbers; a large store answers what it counted within the last minute.
    async fn totals(&self) -> Result<Totals, Unavailable>;

    /// The mailboxes of an organization in numbers, likewise.
    async fn organization_totals(&self, organization: &OrganizationId) -> Result<Totals, Unavailable>;

    /// Finds a live session by its id alone.
    async fn locate(&self, session: &SessionId) -> Result<Option<(MailboxKey, SessionView)>, Unavailable>;
}
