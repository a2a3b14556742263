//! What goes into a session and what comes out.

use std::time::Duration;

use bytes::Bytes;
use waystation_domain::{
    AckRange, Activation, Charge, Entry, FeedPoint, Gap, Heads, MessageId, MessageRef, Nack, PerLane, Reject,
    ReportedStatus, ResumePoint, ResumeVerdict, ScopeSet, SessionId, Subscriptions, Timestamp, Window,
};

use crate::close::CloseCode;
use crate::follow::FollowRequest;
use crate::frame::{ErrorCode, Outgoing, Sent, ServerFrame, TaskCall};

/// Numbers of a session; the same for all of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct SessionConfig {
    /// How often a client sends heartbeats.
    pub heartbeat: Duration,
    /// So many missed ones end the session.
    pub missed: u32,
    /// A heartbeat sooner than this after the last one is answered by `rate_limit`.
    pub heartbeat_least: Duration,
    /// The store is asked at least so often whether a hint was lost.
    pub compare_every: Duration,
    /// Counted frames that a plain client may send in a period.
    pub messages: u32,
    /// Counted frames that a client may send that announces `client{}`.
    pub messages_announced: u32,
    /// See above.
    pub messages_period: Duration,
    /// Frames beyond a limit that end the session.
    pub refusals: u32,
    /// The redelivery clock: without an ack for so long.
    pub redelivery: Duration,
    /// The redelivery clock: the oldest is unacknowledged for so long.
    pub redelivery_oldest: Duration,
    /// After a failed call.
    pub retry: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig {
            heartbeat: Duration::from_secs(30),
            missed: 3,
            heartbeat_least: Duration::from_secs(10),
            compare_every: Duration::from_secs(35),
            messages: 100,
            messages_announced: 6_000,
            messages_period: Duration::from_secs(60),
            refusals: 100,
            redelivery: Duration::from_secs(30),
            redelivery_oldest: Duration::from_secs(600),
            retry: Duration::from_millis(500),
        }
    }
}

/// Who is connected.
#[derive(Clone, Debug)]
pub struct ClientProfile {
    /// This connection.
    pub session: SessionId,
    /// Id of its `auth` frame, for the answer.
    pub auth_frame: Option<String>,
    /// What it remembered.
    pub resume: Option<ResumePoint>,
    /// What it remembered of the feed.
    pub resume_feed: Option<FeedPoint>,
    /// It announced `client{}`.
    pub announces_client: bool,
    /// It knows the `gap` frame.
    pub knows_gaps: bool,
}

/// What the store answered to the opening.
#[derive(Clone, Debug)]
pub struct Opening {
    /// If the session holds the mailbox.
    pub activation: Option<Activation>,
    /// How the resume point was judged.
    pub verdict: ResumeVerdict,
    /// In force for the daemon.
    pub subscriptions: Subscriptions,
    /// What the client may.
    pub allowance: Allowance,
    /// Where the feed was, if anything is subscribed.
    pub feed_head: Option<FeedPoint>,
}

/// What the organization lets a client do.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// How much it takes unacknowledged: what it asked for, at most what it may.
    pub window: Window,
    /// Counted frames in a period if it is a plain client; `None`: as configured.
    pub messages: Option<u32>,
    /// The same if it announces `client{}`.
    pub messages_announced: Option<u32>,
}

/// A hint from a router.
#[derive(Clone, Debug)]
pub struct Push {
    /// Of the activation that it belongs to.
    pub fence: u64,
    /// What it says.
    pub hint: Hint,
}

/// What a router says.
#[derive(Clone, Debug)]
pub enum Hint {
    /// Probably the next of its lane.
    Entry(Entry),
    /// The mailbox has grown.
    Heads(Heads),
    /// The session holds the mailbox.
    Activated(Activation),
    /// The session is over.
    Terminated(Ending),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Another connection of the daemon.
    Superseded,
    /// Two instances keep displacing each other.
    DuplicateIdentity,
    /// The token has ended.
    TokenExpired,
    /// The token has been revoked.
    Revoked,
    /// An operator ended it.
    Terminated,
    /// The gateway stops and the client did not go.
    Restarting,
    /// The client does not read.
    SlowConsumer,
    /// A message or frame over the limit.
    TooBig,
    /// A violation of WebSocket.
    ProtocolError,
    /// Text that is no UTF-8.
    InvalidText,
    /// Too many frames.
    RateLimited,
}

impl Ending {
    /// What the connection is closed with.
    pub fn close_code(self) -> CloseCode {
        match self {
            Ending::Superseded => CloseCode::Superseded,
            Ending::DuplicateIdentity => CloseCode::DuplicateIdentity,
            Ending::TokenExpired => CloseCode::TokenExpired,
            Ending::Revoked | Ending::Terminated => CloseCode::SessionTerminated,
            Ending::Restarting => CloseCode::Restarting,
            Ending::SlowConsumer => CloseCode::SlowConsumer,
            Ending::TooBig => CloseCode::TooBig,
            Ending::ProtocolError => CloseCode::ProtocolError,
            Ending::InvalidText => CloseCode::InvalidText,
            Ending::RateLimited => CloseCode::RateLimited,
        }
    }
}

/// What the owner of a session does for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Write a frame.
    Send(ServerFrame),
    /// Read the mailbox, then [`super::Session::handle_read`].
    Read(ReadRequest),
    /// Settle, then [`super::Session::handle_settled`].
    Settle(SettleRequest),
    /// Ask for the heads, then [`super::Session::handle_compared`].
    Compare {
        /// What the daemon reports.
        status: Option<ReportedStatus>,
        /// A JSON object.
        metrics: Option<Bytes>,
        /// Since its last frame.
        idle: Duration,
    },
    /// Replace the daemon's subscriptions, then [`super::Session::handle_subscribed`].
    Subscribe(Subscriptions),
    /// What is subscribed has changed: whoever matches events must know.
    Filter(Subscriptions),
    /// Follow the feed, then [`super::Session::handle_feed`].
    Follow(FollowRequest),
    /// The session reads at its own pace: nothing comes by itself any more.
    Unfollow,
    /// Route a message, then [`super::Session::handle_sent`].
    Route {
        /// The frame.
        reply_to: Option<String>,
        /// The message.
        message: Box<Outgoing>,
    },
    /// Make a call about tasks, then [`super::Session::handle_called`].
    Call {
        /// The frame.
        reply_to: Option<String>,
        /// The call.
        call: Box<TaskCall>,
    },
    /// Judge a new token, then [`super::Session::handle_refreshed`].
    Renew {
        /// The frame.
        reply_to: Option<String>,
        /// A JWT.
        access_token: String,
    },
    /// Open the session again, then [`super::Session::handle_reopened`].
    Reopen,
    /// Tell whoever watches.
    Note(Note),
    /// Write what is waiting, then close.
    Close(CloseCode),
}

/// Something that operators may watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The client begins to get what waited for it.
    ReplayStarted,
    /// All that waited has been sent.
    ReplayCompleted,
}

/// Why a message of a daemon was not accepted, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRefused {
    /// What kind of fault.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Where.
    pub field: Option<String>,
    /// More exactly why.
    pub reason: Option<&'static str>,
    /// The organization sends too much: when to try again, and how many a second it may.
    pub limited: Option<(Duration, u32)>,
}

/// What became of a message of a daemon.
pub type SendOutcome = Result<Sent, SendRefused>;

/// What came of a call about tasks: type and payload of the answer.
pub type CallOutcome = Result<(&'static str, serde_json::Value), SendRefused>;

/// A token that took the place of the one before.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// Granted.
    pub scopes: ScopeSet,
    /// When it ends.
    pub expires: Timestamp,
}

/// How a connection does, as it sees itself.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Since the last frame of the client.
    pub silent: Duration,
    /// Since its last heartbeat.
    pub since_heartbeat: Option<Duration>,
    /// A heartbeat is overdue.
    pub is_overdue: bool,
    /// From the sending of the message acknowledged last to its ack.
    pub latency: Option<Duration>,
    /// Since a frame went either way, heartbeats aside.
    pub since_traffic: Option<Duration>,
    /// Frames of the client.
    pub received: u64,
    /// Of these, those that were refused.
    pub refused: u64,
    /// Messages sent and not acknowledged.
    pub in_flight: usize,
    /// What the client reported last.
    pub status: Option<ReportedStatus>,
    /// A JSON object.
    pub metrics: Option<Bytes>,
    /// It was told to leave.
    pub is_leaving: bool,
}

/// A call did not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFailed {
    /// No answer; the outcome is unknown.
    Unavailable,
    /// The store does not know the session.
    SessionUnknown,
    /// Another session holds the mailbox.
    NotHolder,
}

/// Reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// Of the activation.
    pub fence: u64,
    /// Grows with each read; the same for a repeat.
    pub read_id: u64,
    /// Last sequence sent of each lane.
    pub positions: PerLane<u64>,
    /// Exits told up to here.
    pub exits_position: u64,
    /// Room: entries.
    pub max_entries: u32,
    /// Room for critical entries.
    pub max_critical: u32,
    /// Room: bytes.
    pub max_bytes: u64,
    /// Nothing is in flight.
    pub window_empty: bool,
}

/// A piece of the log.
#[derive(Clone, Debug)]
pub struct ReadResult {
    /// The read that it answers.
    pub read_id: u64,
    /// To be told first.
    pub gaps: Vec<Gap>,
    /// Exits told up to here.
    pub exits_position: u64,
    /// In the order of delivery.
    pub entries: Vec<Entry>,
    /// After the read.
    pub heads: Heads,
    /// Sequences up to here have been returned, left, or wait out a nack.
    pub positions: PerLane<u64>,
}

/// Settles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettleRequest {
    /// Of the activation.
    pub fence: u64,
    /// Acknowledged runs.
    pub acks: Vec<AckRange>,
    /// Acknowledged, but not sent on this connection.
    pub ack_ids: Vec<MessageId>,
    /// To be sent again later.
    pub nacks: Vec<Nack>,
    /// Never to be sent again.
    pub rejects: Vec<Reject>,
    /// Attempts that ended without an answer.
    pub charges: Vec<Charge>,
    /// To be confirmed.
    pub confirm: Vec<MessageRef>,
    /// Gaps acknowledged without a hole; 0: none.
    pub gap_mark: u64,
}

/// What became of a settlement.
#[derive(Clone, Debug)]
pub struct SettleAnswer {
    /// Nacks, rejects and charges were ignored: the fence did not hold.
    pub fenced: bool,
    /// Afterwards.
    pub heads: Heads,
    /// For each message to be confirmed, whether it is acknowledged.
    pub confirmed: Vec<bool>,
}

/// What the store knows of the session.
#[derive(Clone, Copy, Debug)]
pub struct CompareAnswer {
    /// Of the mailbox.
    pub heads: Heads,
    /// If the session holds the mailbox.
    pub activation: Option<Activation>,
}
