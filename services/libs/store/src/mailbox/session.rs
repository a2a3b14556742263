//! Sessions, the active one among them, and the gateways that hold them.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_domain::{
    Activation, DaemonId, Epoch, Heads, IncarnationId, InstanceId, LoginId, ReportedStatus, ResumePoint, ResumeVerdict,
    SessionId, Subscriptions, Timestamp, Window,
};

use super::MailboxKey;

/// What a router knows of gateways from its table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// Incarnations whose lease has ended.
    pub gone: Vec<IncarnationId>,
    /// Incarnations that are about to stop.
    pub draining: Vec<IncarnationId>,
}

impl Liveness {
    pub(crate) fn is_gone(&self, incarnation: &IncarnationId) -> bool {
        self.gone.contains(incarnation)
    }

    pub(crate) fn is_draining(&self, incarnation: &IncarnationId) -> bool {
        self.draining.contains(incarnation)
    }
}

/// A daemon that has logged in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenSession {
    /// Whose mailbox it serves.
    pub mailbox: MailboxKey,
    /// Minted by the gateway.
    pub session: SessionId,
    /// The process.
    pub daemon: DaemonId,
    /// Its token family.
    pub login: LoginId,
    /// Announced as `client.instance`.
    pub instance: Option<InstanceId>,
    /// Where it is connected.
    pub incarnation: IncarnationId,
    /// URI of that gateway.
    pub address: String,
    /// Its token allows messages:read.
    pub reads_mail: bool,
    /// How much it takes unacknowledged.
    pub window: Window,
    /// What it remembers.
    pub resume: Option<ResumePoint>,
    /// Replaces the daemon's subscriptions.
    pub subscriptions: Option<Subscriptions>,
    /// `None`: a new connection. Else what [`Opened::born`] was when this connection was new: it is opened again, and
    /// does not displace a newer one of its daemon.
    pub born: Option<u64>,
    /// Live sessions that the orchestrator may have; usually [`crate::limits::SESSIONS`].
    pub most: usize,
    /// What the router knows of gateways.
    pub liveness: Liveness,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opened {
    /// If it holds the mailbox.
    pub activation: Option<Activation>,
    /// How the resume point was judged.
    pub verdict: ResumeVerdict,
    /// In force for the daemon.
    pub subscriptions: Subscriptions,
    /// Sessions that it displaced.
    pub displaced: Vec<Displaced>,
    /// Counts new connections of the mailbox.
    pub born: u64,
}

/// A session that must be told that it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Displaced {
    /// Which.
    pub session: SessionId,
    /// Where it is connected.
    pub incarnation: IncarnationId,
    /// URI of that gateway.
    pub address: String,
    /// Why.
    pub because: DisplacedBecause,
}

/// Why a session was displaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum DisplacedBecause {
    /// A newer connection of the same daemon.
    Superseded,
    /// Two instances of one daemon keep displacing each other.
    DuplicateIdentity,
}

/// Why a session was not opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum OpenRefused {
    /// Five others live.
    TooManySessions,
    /// The lease of the gateway has ended, or it never had one.
    IncarnationExpired,
    /// It was to be opened again, but a newer connection of its daemon lives.
    Superseded,
    /// Two instances of one daemon keep displacing each other; the other one was ended too.
    DuplicateIdentity(Vec<Displaced>),
}

/// The session that holds a mailbox, as a router needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HolderRef {
    /// Which.
    pub session: SessionId,
    /// Of its activation.
    pub fence: u64,
    /// Where it is connected.
    pub incarnation: IncarnationId,
    /// URI of that gateway.
    pub address: String,
}

/// Tells a gateway that one of its sessions holds a mailbox now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActivationNotice {
    /// Whom to tell.
    pub holder: HolderRef,
    /// What to tell.
    pub activation: Activation,
}

/// A session that ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CloseSession {
    /// Whose mailbox it served.
    pub mailbox: MailboxKey,
    /// Which; unknown ones are ignored.
    pub session: SessionId,
    /// Offline at once, not reconnecting.
    pub goodbye: bool,
    /// The gateway had asked for it: no attempt is charged, and for 10 s only the same daemon takes the role.
    pub drained: bool,
    /// What the router knows of gateways.
    pub liveness: Liveness,
}

/// Heartbeats of many sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compare {
    /// One for each session.
    pub reports: Vec<SessionReport>,
    /// What the router knows of gateways.
    pub liveness: Liveness,
}

/// What one session reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionReport {
    /// Whose mailbox.
    pub mailbox: MailboxKey,
    /// Which session.
    pub session: SessionId,
    /// `None`: unchanged.
    pub status: Option<ReportedStatus>,
    /// JSON object; `None`: unchanged.
    pub metrics: Option<Bytes>,
    /// Since the last frame of the client.
    pub idle: Duration,
}

/// What the store knows of a session's mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ComparedSession {
    /// How far it has grown.
    pub heads: Heads,
    /// Current epoch.
    pub epoch: Epoch,
    /// If the session holds it.
    pub activation: Option<Activation>,
}

/// What the store knows of the sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// In the order of the reports; `None`: unknown, open it again.
    pub results: Vec<Option<ComparedSession>>,
    /// Sessions that hold a mailbox now because another yielded.
    pub activated: Vec<ActivationNotice>,
}

/// Replaces the subscriptions of a session's daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subscribe {
    /// Whose mailbox.
    pub mailbox: MailboxKey,
    /// Must live.
    pub session: SessionId,
    /// All of them.
    pub subscriptions: Subscriptions,
}

/// A gateway says that it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RenewIncarnation {
    /// Which run of it.
    pub incarnation: IncarnationId,
    /// URI that routers dial.
    pub address: String,
    /// It is about to stop.
    pub draining: bool,
    /// How long it then lives without a renewal.
    pub lease: Duration,
}

/// The state of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Renewed {
    /// It lives.
    Live,
    /// It had ended; it cannot be revived.
    Expired,
}

/// A gateway incarnation that the store lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncarnationInfo {
    /// Which.
    pub incarnation: IncarnationId,
    /// URI that routers dial.
    pub address: String,
    /// Its lease has ended.
    pub gone: bool,
    /// It is about to stop.
    pub draining: bool,
    /// End of the lease.
    pub lease_until: Timestamp,
}

/// Does what has become due.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sweep {
    /// Most mailboxes to look at.
    pub limit: usize,
}

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Sessions that hold a mailbox now.
    pub activated: Vec<ActivationNotice>,
    /// Holders with something new to read.
    pub grown: Vec<(HolderRef, Heads)>,
    /// Mailboxes looked at, and incarnations removed.
    pub handled: usize,
    /// A mailbox that was looked at has more to let go than one step does: sweep again.
    pub more: bool,
    /// What subscribers have not been told yet; it comes again until [`NewsTold`].
    pub news: Vec<(MailboxKey, MailboxNews)>,
}

/// What has changed in a mailbox since subscribers were told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MailboxNews {
    /// It is online or offline, and since when; it was told to be otherwise. `reconnecting` is neither.
    pub presence: Option<(bool, Timestamp)>,
    /// Dead letters: the last number that was told, and the last there is; equal if there is no news.
    pub letters: (u64, u64),
}

/// Subscribers have been told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewsTold {
    /// Of which mailbox.
    pub mailbox: MailboxKey,
    /// That it is online or offline.
    pub online: Option<bool>,
    /// Dead letters up to this number.
    pub letters: u64,
}
