//! Frames of a gateway, read.

use bytes::Bytes;
use serde_json::value::RawValue;
use waystation_domain::{
    ChannelId, Epoch, EventType, FeedPoint, FeedPosition, Lane, MessageId, OrchestratorId, PerLane, Position,
    SessionId, Timestamp, TraceParent, Window,
};

use super::payload;

/// A frame of a gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    /// Id of the client's frame that it answers.
    pub reply_to: Option<String>,
    /// What it says.
    pub told: Told,
}

/// What a gateway says.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Logged in.
    Welcome(Welcome),
    /// Not logged in; the close follows.
    AuthRefused(AuthRefused),
    /// Answers a heartbeat.
    HeartbeatAck(HeartbeatAck),
    /// A message of the mailbox.
    Mail(Mail),
    /// An event of the feed.
    Event(FeedItem),
    /// Something left a log, or may have.
    Gap(GapNotice),
    /// All that waited has been sent.
    ReplayComplete {
        /// Last sequence of each lane when the mailbox was taken over.
        heads: PerLane<u64>,
    },
    /// Subscriptions now in force.
    Subscribed(Subscribed),
    /// A frame had no effect.
    Error(Refused),
    /// There were too many frames.
    RateLimit {
        /// Type of the frame.
        action: String,
        /// Seconds until it will be taken again.
        retry_after: u64,
    },
    /// What became of acks.
    AckResult(AckResult),
    /// A message was accepted.
    SendAck(SendAck),
    /// The new token is in force.
    AuthRefreshed(AuthRefreshed),
    /// Connect again elsewhere.
    Reconnect {
        /// For people.
        reason: String,
        /// Milliseconds to wait.
        delay: u64,
    },
    /// Answers a call about tasks, or is of a type that is not known here.
    Other {
        /// Type of the frame.
        kind: String,
        /// As it stands in the frame.
        payload: Bytes,
    },
}

/// `auth_success`
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// This connection.
    pub session: SessionId,
    /// Granted.
    pub scopes: Vec<String>,
    /// By the clock of the gateway.
    pub server_time: Option<Timestamp>,
    /// Milliseconds between heartbeats.
    pub heartbeat_interval: u64,
    /// Of the mailbox; `None` on standby.
    pub epoch: Option<Epoch>,
    /// The log goes on where the client stopped.
    pub resumed: bool,
    /// Why not: `store_restarted` or `possibly_lost`.
    pub reason: Option<String>,
    /// The store may have lost what the client remembers.
    pub possibly_lost: bool,
    /// In force.
    pub window: Option<Window>,
    /// Where the feed is read from, if anything is subscribed.
    pub feed: Option<FeedPoint>,
}

/// `auth_error`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRefused {
    /// AUTH_FAILED, TOKEN_EXPIRED, INSUFFICIENT_SCOPE or MAX_CONNECTIONS.
    pub code: String,
    /// For people.
    pub message: String,
}

/// `heartbeat_ack`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeartbeatAck {
    /// By the clock of the gateway.
    pub server_time: Option<Timestamp>,
    /// Last sequence of each lane, if the store could be asked.
    pub heads: Option<PerLane<u64>>,
    /// All of the feed up to here has been sent or is not subscribed.
    pub feed: Option<FeedPoint>,
}

/// A message of the mailbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    /// For acks.
    pub id: MessageId,
    /// What it is.
    pub event_type: EventType,
    /// A JSON object, as its sender wrote it.
    pub data: Bytes,
    /// If it has one.
    pub channel: Option<ChannelId>,
    /// If another daemon sent it.
    pub sender: Option<OrchestratorId>,
    /// If its sender named one.
    pub trace: Option<TraceParent>,
    /// Where it stands.
    pub position: Position,
    /// From 1.
    pub attempt: u32,
    /// It may have been delivered before.
    pub redelivered: bool,
}

/// An event of the feed.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedItem {
    /// Its own.
    pub id: MessageId,
    /// What it is.
    pub event_type: EventType,
    /// A JSON object, as its publisher wrote it.
    pub data: Bytes,
    /// If it has one.
    pub channel: Option<ChannelId>,
    /// If a daemon published it.
    pub sender: Option<OrchestratorId>,
    /// If its publisher named one.
    pub trace: Option<TraceParent>,
    /// Where it stands.
    pub position: FeedPosition,
}

/// What left a log otherwise than by an ack.
#[derive(Clone, Debug, PartialEq)]
pub struct GapNotice {
    /// Acknowledged by this; `None`: of the feed, which is not acknowledged.
    pub id: Option<MessageId>,
    /// expired, dead, overflowed, purged, trimmed or possibly_lost.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Which, if it is known.
    pub span: Option<GapSpan>,
}

/// Consecutive sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapSpan {
    /// That owns them.
    pub epoch: Epoch,
    /// `None`: of the feed.
    pub lane: Option<Lane>,
    /// First.
    pub from: u64,
    /// Last.
    pub to: u64,
}

/// `subscribed`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Patterns.
    pub event_types: Vec<String>,
    /// Taken out of them.
    pub excluded: Vec<String>,
}

/// `error`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// INVALID_MESSAGE, NOT_AUTHENTICATED, INSUFFICIENT_SCOPE, RATE_LIMITED or INTERNAL_ERROR.
    pub code: String,
    /// For people.
    pub message: String,
    /// Member of the frame.
    pub field: Option<String>,
    /// More exactly why.
    pub reason: Option<String>,
}

/// `ack_result`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckResult {
    /// Events, and whether they have left the mailbox by an ack.
    pub results: Vec<(MessageId, bool)>,
}

/// `send_ack`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendAck {
    /// The client's.
    pub id: MessageId,
    /// DISPATCHED, QUEUED, PUBLISHED, or what has become of a repeat.
    pub status: String,
    /// In the lane of its addressee, or in the feed.
    pub sequence: u64,
}

/// `auth_refreshed`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthRefreshed {
    /// When the new token ends.
    pub expires: Option<Timestamp>,
}

/// What came is no frame of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default())]
pub struct Garbage {
    /// Where.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// Reads a frame. What it carries is not copied: `data` shares the memory of `frame`.
///
/// # Errors
/// If it is no frame of the protocol. The error names the field.
pub fn decode(frame: &Bytes) -> Result<Inbound, Garbage> {
    let garbage = |(message, field)| Garbage { field, message };
    let envelope: payload::Envelope<'_> = crate::payload::parse(frame).map_err(garbage)?;
    let told = told(&envelope.kind, envelope.payload, frame).map_err(garbage)?;
    Ok(Inbound { reply_to: envelope.reply_to.map(Into::into), told })
}

fn told(kind: &str, raw: Option<&RawValue>, frame: &Bytes) -> Result<Told, crate::payload::Refusal> {
    let text = raw.map_or("{}", RawValue::get);
    match kind {
        "event" => payload::event(text, frame),
        "gap" => payload::gap(text),
        "auth_success" => payload::welcome(text),
        "auth_error" => payload::auth_refused(text),
        "heartbeat_ack" => payload::heartbeat_ack(text),
        "replay_complete" => payload::replay_complete(text),
        "subscribed" => payload::subscribed(text),
        "error" => payload::refused(text),
        "rate_limit" => payload::rate_limit(text),
        "ack_result" => payload::ack_result(text),
        "send_ack" => payload::send_ack(text),
        "auth_refreshed" => payload::auth_refreshed(text),
        "reconnect" => payload::reconnect(text),
        other => {
            let payload = raw.map_or(Bytes::from_static(b"{}"), |raw| frame.slice_ref(raw.get().as_bytes()));
            Ok(Told::Other { kind: other.to_owned(), payload })
        }
    }
}
