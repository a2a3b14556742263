//! Frames by their meaning, in any format.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waystation_domain::policy::FrameKind;
use waystation_domain::{
    ChannelId, DaemonId, Entry, Epoch, EventType, FeedGap, FeedPoint, Gap, InstanceId, Lane, MessageId, OrchestratorId,
    Pattern, PerLane, ReportedStatus, ResumePoint, ResumeVerdict, SessionId, Timestamp, Window,
};

use crate::feed::SharedEvent;

/// A frame of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Its id, for `replyTo`.
    pub id: Option<String>,
    /// What it says.
    pub frame: ClientFrame,
}

/// What a client says.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientFrame {
    /// Logs in.
    Auth(Box<AuthRequest>),
    /// Is alive.
    Heartbeat(Heartbeat),
    /// Wants events.
    Subscribe {
        /// Which.
        patterns: Vec<Pattern>,
        /// Of which channels.
        channels: BTreeSet<ChannelId>,
    },
    /// Does not want them any more.
    Unsubscribe {
        /// Which.
        patterns: Vec<Pattern>,
    },
    /// Has processed events.
    Ack(Ack),
    /// Could not process one now.
    Nack {
        /// Which.
        id: MessageId,
        /// When it is sent again.
        delay: Duration,
    },
    /// Can never process one.
    Reject {
        /// Which.
        id: MessageId,
        /// Kept with the dead letter.
        reason: String,
    },
    /// Is still working on one.
    Extend {
        /// Which.
        id: MessageId,
    },
    /// Sends a message.
    Send(Box<Outgoing>),
    /// Has a new token for the same login.
    AuthRefresh {
        /// A JWT.
        access_token: String,
    },
    /// Leaves for good.
    Goodbye,
    /// Calls about tasks that orchestrators hand to each other.
    Task(Box<TaskCall>),
}

impl ClientFrame {
    /// Its kind, which says who may send it.
    pub fn kind(&self) -> FrameKind {
        match self {
            ClientFrame::Auth(_) => FrameKind::Auth,
            ClientFrame::Heartbeat(_) => FrameKind::Heartbeat,
            ClientFrame::Subscribe { .. } => FrameKind::Subscribe,
            ClientFrame::Unsubscribe { .. } => FrameKind::Unsubscribe,
            ClientFrame::Ack(_) => FrameKind::Ack,
            ClientFrame::Nack { .. } => FrameKind::Nack,
            ClientFrame::Reject { .. } => FrameKind::Reject,
            ClientFrame::Extend { .. } => FrameKind::Extend,
            ClientFrame::Send(_) => FrameKind::Send,
            ClientFrame::AuthRefresh { .. } => FrameKind::AuthRefresh,
            ClientFrame::Goodbye => FrameKind::Goodbye,
            ClientFrame::Task(call) => call.kind,
        }
    }
}

/// A call about tasks. The protocol carries it; what is said in it, federation judges.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskCall {
    /// Which: one of [`TaskCall::KINDS`].
    pub kind: FrameKind,
    /// A JSON object.
    pub payload: Bytes,
}

impl TaskCall {
    /// All there are.
    pub const KINDS: [FrameKind; 11] = [
        FrameKind::Register,
        FrameKind::Deregister,
        FrameKind::QueryCapabilities,
        FrameKind::Delegate,
        FrameKind::DelegationResponse,
        FrameKind::DelegationProgress,
        FrameKind::DelegationResult,
        FrameKind::DelegationCancel,
        FrameKind::ContextGet,
        FrameKind::ContextPut,
        FrameKind::Broadcast,
    ];

    /// The call of a frame's type.
    pub fn kind_of(name: &str) -> Option<FrameKind> {
        TaskCall::KINDS.into_iter().find(|kind| kind.name() == name)
    }
}

/// Events that have been processed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ack {
    /// By their ids.
    pub ids: Vec<MessageId>,
    /// By lane: what was sent on this connection up to there; 0: nothing.
    pub up_to: PerLane<u64>,
    /// An `ack_result` is wanted.
    pub confirm: bool,
}

/// Whom a daemon sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// The mailbox of an orchestrator.
    Orchestrator(OrchestratorId),
    /// Everybody who has subscribed to the channel.
    Channel(ChannelId),
}

/// A message of a daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// The addressee.
    pub to: Addressee,
    /// What it is; `None`: `message.received`.
    pub event_type: Option<EventType>,
    /// A JSON object.
    pub data: Bytes,
    /// Its lane.
    pub lane: Lane,
    /// `None`: one is minted.
    pub id: Option<MessageId>,
    /// `None`: the organization's default.
    pub time_to_live: Option<Duration>,
}

/// A login.
#[derive(Clone, PartialEq)]
pub struct AuthRequest {
    /// A JWT.
    pub access_token: String,
    /// The process.
    pub daemon: DaemonId,
    /// Whom it serves.
    pub orchestrator: OrchestratorId,
    /// What it remembers.
    pub resume: Option<ResumePoint>,
    /// What it remembers of the feed.
    pub resume_feed: Option<FeedPoint>,
    /// How much it takes unacknowledged.
    pub window: Window,
    /// Replaces the daemon's subscriptions.
    pub subscriptions: Option<Vec<Pattern>>,
    /// Announced as `client.instance`.
    pub instance: Option<InstanceId>,
    /// It announced `client{}`: answers are given that old clients do not know.
    pub announces_client: bool,
    /// It announced `resume`, `client` or `maxInFlight`: it knows the `gap` frame.
    pub knows_gaps: bool,
}

impl std::fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthRequest")
            .field("daemon", &self.daemon)
            .field("orchestrator", &self.orchestrator)
            .finish_non_exhaustive()
    }
}

/// A sign of life.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// What the daemon says of itself.
    pub status: Option<ReportedStatus>,
    /// A JSON object.
    pub metrics: Option<Bytes>,
}

/// Why a frame cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError {
    /// Id of the frame, if it could be read.
    pub reply_to: Option<String>,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub field: Option<String>,
}

/// `code` of an `error` frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The frame cannot be taken.
    InvalidMessage,
    /// Log in first.
    NotAuthenticated,
    /// The token does not allow it.
    InsufficientScope,
    /// Not now: something is full.
    RateLimited,
    /// A fault behind the gateway; the frame had no effect, or an unknown one.
    InternalError,
}

impl ErrorCode {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::InvalidMessage => "INVALID_MESSAGE",
            ErrorCode::NotAuthenticated => "NOT_AUTHENTICATED",
            ErrorCode::InsufficientScope => "INSUFFICIENT_SCOPE",
            ErrorCode::RateLimited => "RATE_LIMITED",
            ErrorCode::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// `code` of an `auth_error` frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRejection {
    /// Unknown, forged or foreign token.
    AuthFailed,
    /// The token has ended.
    TokenExpired,
    /// It does not allow to receive anything.
    InsufficientScope,
    /// Five others live.
    MaxConnections,
}

impl AuthRejection {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            AuthRejection::AuthFailed => "AUTH_FAILED",
            AuthRejection::TokenExpired => "TOKEN_EXPIRED",
            AuthRejection::InsufficientScope => "INSUFFICIENT_SCOPE",
            AuthRejection::MaxConnections => "MAX_CONNECTIONS",
        }
    }

    /// The close that follows.
    pub fn close_code(self) -> crate::CloseCode {
        match self {
            AuthRejection::AuthFailed => crate::CloseCode::AuthFailed,
            AuthRejection::TokenExpired => crate::CloseCode::TokenExpired,
            AuthRejection::InsufficientScope => crate::CloseCode::InsufficientScope,
            AuthRejection::MaxConnections => crate::CloseCode::RateLimited,
        }
    }
}

/// A frame for a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerFrame {
    /// Logged in.
    AuthSuccess {
        /// The auth frame.
        reply_to: Option<String>,
        /// This connection.
        session: SessionId,
        /// Granted.
        scopes: Vec<String>,
        /// How often to send heartbeats.
        heartbeat_interval: Duration,
        /// Of the mailbox; `None` on standby.
        epoch: Option<Epoch>,
        /// How the resume point was judged.
        verdict: ResumeVerdict,
        /// In force.
        window: Window,
        /// Set if the store may have lost what the client saw.
        lost: Option<LossNotice>,
        /// Where the feed is read from, if anything is subscribed.
        feed: Option<FeedPoint>,
    },
    /// Not logged in.
    AuthError {
        /// The auth frame.
        reply_to: Option<String>,
        /// Why.
        rejection: AuthRejection,
        /// For people.
        message: String,
    },
    /// Answers a heartbeat.
    HeartbeatAck {
        /// The heartbeat.
        reply_to: Option<String>,
        /// When the next one is due.
        next: Duration,
        /// Last sequence of each lane, if the store could be asked.
        heads: Option<PerLane<u64>>,
        /// All up to here of the feed has been sent or is not subscribed.
        feed: Option<FeedPoint>,
    },
    /// A message.
    Event(EventFrame),
    /// An event of the feed.
    FeedEvent(Arc<SharedEvent>),
    /// Events of the feed that are not delivered.
    FeedGap {
        /// Which.
        gap: FeedGap,
        /// `gap`, or for plain clients an event of type `system.gap`.
        as_event: bool,
    },
    /// Something left the log otherwise than by an ack.
    Gap {
        /// What.
        gap: Gap,
        /// `gap`, or for plain clients an event of type `system.gap`.
        as_event: bool,
    },
    /// All that was there at the activation has been sent.
    ReplayComplete {
        /// Of the heads.
        epoch: Epoch,
        /// Last sequence of each lane at the activation.
        heads: PerLane<u64>,
    },
    /// The full set now in force.
    Subscribed {
        /// The frame.
        reply_to: Option<String>,
        /// Patterns.
        patterns: Vec<Pattern>,
        /// Taken out of them.
        excluded: Vec<Pattern>,
        /// All channels that patterns are limited to.
        channels: BTreeSet<ChannelId>,
    },
    /// A frame had no effect.
    Error {
        /// The frame.
        reply_to: Option<String>,
        /// What kind of fault.
        code: ErrorCode,
        /// For people.
        message: String,
        /// Where.
        field: Option<String>,
        /// More exactly why, as gRPC callers are told.
        reason: Option<&'static str>,
    },
    /// A frame was not taken because there were too many.
    RateLimit {
        /// The frame.
        reply_to: Option<String>,
        /// Type of the frame.
        action: &'static str,
        /// When it will be taken again.
        retry_after: Duration,
        /// In the present period.
        current: u32,
        /// In a period.
        most: u32,
    },
    /// What became of acks.
    AckResult {
        /// The ack frame.
        reply_to: Option<String>,
        /// In the order of the frame.
        results: Vec<(MessageId, AckStatus)>,
    },
    /// A message was accepted.
    SendAck {
        /// The send frame.
        reply_to: Option<String>,
        /// What was promised.
        sent: Sent,
    },
    /// The new token is in force.
    AuthRefreshed {
        /// The frame.
        reply_to: Option<String>,
        /// Granted.
        scopes: Vec<String>,
        /// When the new token ends.
        expires: Timestamp,
    },
    /// Answers a call about tasks.
    TaskAnswer {
        /// The call.
        reply_to: Option<String>,
        /// Type of the frame.
        kind: &'static str,
        /// A JSON object.
        payload: serde_json::Value,
    },
    /// Come back elsewhere.
    Reconnect {
        /// Why.
        reason: &'static str,
        /// This client's own share of the spread.
        delay: Duration,
    },
}

impl ServerFrame {
    /// Id of the client's frame that it answers.
    pub fn reply_to(&self) -> Option<&str> {
        match self {
            ServerFrame::AuthSuccess { reply_to, .. }
            | ServerFrame::AuthError { reply_to, .. }
            | ServerFrame::HeartbeatAck { reply_to, .. }
            | ServerFrame::Subscribed { reply_to, .. }
            | ServerFrame::Error { reply_to, .. }
            | ServerFrame::RateLimit { reply_to, .. }
            | ServerFrame::AckResult { reply_to, .. }
            | ServerFrame::SendAck { reply_to, .. }
            | ServerFrame::TaskAnswer { reply_to, .. }
            | ServerFrame::AuthRefreshed { reply_to, .. } => reply_to.as_deref(),
            ServerFrame::Event(_)
            | ServerFrame::FeedEvent(_)
            | ServerFrame::FeedGap { .. }
            | ServerFrame::Gap { .. }
            | ServerFrame::ReplayComplete { .. }
            | ServerFrame::Reconnect { .. } => None,
        }
    }
}

/// What became of an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckStatus {
    /// The message has left the mailbox by an ack, now or before.
    Acked,
    /// It has not: the ack did nothing.
    Stale,
}

impl AckStatus {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            AckStatus::Acked => "ACKED",
            AckStatus::Stale => "STALE",
        }
    }
}

/// A daemon's message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The daemon's or the minted one.
    pub id: MessageId,
    /// As RouteMessage names it, without its prefix.
    pub status: &'static str,
    /// In the lane of its addressee.
    pub sequence: u64,
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct EventFrame {
    /// What the store answered.
    pub entry: Entry,
    /// It may have been delivered before.
    pub redelivered: bool,
}

/// What `auth_success.gap` tells: the store may have lost what lies between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossNotice {
    /// What the client remembers.
    pub seen: PerLane<u64>,
    /// Of what the client remembers, if it is an epoch at all.
    pub epoch: Option<Epoch>,
}
