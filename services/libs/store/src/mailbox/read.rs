//! Reading the log.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_domain::{ChannelId, Epoch, EventType, Lane, MessageId, PerLane, Position, SessionId};

use super::MailboxKey;

/// How far a mailbox has grown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Heads {
    /// Last sequence of each lane.
    pub lanes: PerLane<u64>,
    /// Last position of the exits log.
    pub exits: u64,
    /// Until the next nacked entry is due.
    pub next_due: Option<Duration>,
}

/// Reads on from a position.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadMailbox {
    /// Whose mailbox.
    pub mailbox: MailboxKey,
    /// Must hold it.
    pub session: SessionId,
    /// Of its activation.
    pub fence: u64,
    /// A repeat with the same number finds the same nacked entries.
    pub read_id: u64,
    /// Last sequence sent of each lane.
    pub positions: PerLane<u64>,
    /// Exits told up to here.
    pub exits_position: u64,
    /// Room in the window: entries.
    pub max_entries: usize,
    /// Room in the window for critical entries, the extra ones included.
    pub max_critical: usize,
    /// Room in the window: bytes.
    pub max_bytes: u64,
    /// Nothing is in flight: the first entry fits whatever its size.
    pub window_empty: bool,
}

/// A piece of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadAnswer {
    /// To be told before the entries.
    pub gaps: Vec<Gap>,
    /// Exits told up to here by the gaps.
    pub exits_position: u64,
    /// Nacked ones first, then the log.
    pub entries: Vec<Entry>,
    /// After the read.
    pub heads: Heads,
    /// Sequences up to here have been returned, left, or wait out a nack.
    pub positions: PerLane<u64>,
    /// Current epoch.
    pub epoch: Epoch,
}

/// One resident entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// The caller's or the composed one.
    pub id: MessageId,
    /// What it is.
    pub event_type: EventType,
    /// Shown to the daemon.
    pub channel: Option<ChannelId>,
    /// As the caller sent it. (Not part of an answer's digest in the journal.)
    #[serde(skip)]
    pub data: Bytes,
    /// From 1.
    pub attempt: u32,
}

/// How an entry left other than by an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Its time to live ended.
    Expired,
    /// Attempts used up, or rejected.
    Dead,
    /// Made room for a newer one.
    Overflowed,
    /// Removed by an operator.
    Purged,
}

/// Consecutive sequences that left a lane for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Position in the exits log of its last exit.
    pub position: u64,
    /// `None`: the exits themselves were trimmed; lane and sequences are not known.
    pub left: Option<GapRange>,
    /// How many entries.
    pub count: u64,
}

/// Which sequences a gap covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GapRange {
    /// Why they left.
    pub reason: ExitReason,
    /// The lane.
    pub lane: Lane,
    /// First sequence.
    pub from: u64,
    /// Last sequence.
    pub to: u64,
    /// Owns the first sequence.
    pub epoch: Epoch,
}

/// Why a fenced operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Refused {
    /// The store does not know the session: open it again.
    SessionUnknown,
    /// Another session holds the mailbox, or this one by a later activation.
    NotHolder,
}
