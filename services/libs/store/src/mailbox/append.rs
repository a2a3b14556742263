//! Accepting messages.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_domain::{ChannelId, EventType, Lane, MessageId, OrchestratorId, Position, TraceParent};

use super::{HolderRef, Liveness, MailboxKey, MessageState};
use crate::limits;

/// Messages to accept in one step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Append {
    /// In their order for each mailbox and lane.
    pub messages: Vec<AppendMessage>,
    /// What the router knows of gateways.
    pub liveness: Liveness,
}

/// One message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppendMessage {
    /// Addressee.
    pub mailbox: MailboxKey,
    /// Given by the caller; `None`: composed from the position.
    pub id: Option<MessageId>,
    /// What it is.
    pub event_type: EventType,
    /// Shown to the daemon.
    pub channel: Option<ChannelId>,
    /// The trace that it belongs to; no part of what makes two messages the same.
    pub trace: Option<TraceParent>,
    /// The orchestrator that sends it, if one does; likewise.
    pub sender: Option<OrchestratorId>,
    /// A JSON object.
    pub data: Bytes,
    /// Its lane.
    pub lane: Lane,
    /// At most [`limits::TIME_TO_LIVE`].
    pub time_to_live: Duration,
    /// What to do without a live holder.
    pub if_offline: IfOffline,
    /// Caps of the mailbox.
    pub limits: MailboxLimits,
}

/// What becomes of a message when no live session holds the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IfOffline {
    /// It waits.
    Queue,
    /// It is refused.
    Fail,
}

/// Caps of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxLimits {
    /// Entries over all lanes.
    pub entries: usize,
    /// Payload bytes over all lanes.
    pub bytes: u64,
    /// What to do when it is full.
    pub overflow: Overflow,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        MailboxLimits {
            entries: limits::MAILBOX_ENTRIES,
            bytes: limits::MAILBOX_BYTES,
            overflow: Overflow::RefuseNewest,
        }
    }
}

/// What to do when a mailbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overflow {
    /// The newcomer is refused.
    RefuseNewest,
    /// The oldest entry not in flight of the lowest lane makes room.
    ReplaceOldest,
}

/// An accepted message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Appended {
    /// Where it stands.
    pub position: Position,
    /// As it is now.
    pub state: MessageState,
    /// The id was known: nothing new was made.
    pub duplicate: bool,
    /// The session to tell, if one lives.
    pub holder: Option<HolderRef>,
    /// How to tell it.
    pub route: Route,
}

/// How the holder learns of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Route {
    /// Send the entry itself: the sent mark has moved over it.
    Push,
    /// Tell the head: the session is behind and reads.
    Behind,
}

/// Why a message was not accepted. Nothing was kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AppendRefused {
    /// Nobody is connected, and the caller did not want to wait.
    Offline,
    /// The caps are reached.
    Full,
    /// The store's memory is full.
    StoreFull,
    /// Something else has changed the mailbox in the store; whether the message was kept is not known.
    Damaged,
    /// The id stands for another message.
    IdReused,
}
