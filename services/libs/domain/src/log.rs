//! What a mailbox's log is made of, as stores answer it and sessions deliver it.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ChannelId, Epoch, EventType, Lane, MessageId, OrchestratorId, PerLane, Position, Timestamp, TraceParent};

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

/// What a session must know to serve the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// Counts activations of the mailbox.
    pub fence: u64,
    /// Current epoch.
    pub epoch: Epoch,
    /// Entries at or below may have been delivered before.
    pub marks: PerLane<u64>,
    /// What there is.
    pub heads: Heads,
    /// Gaps up to here have been acknowledged.
    pub gap_mark: u64,
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
    /// A JSON object as the caller sent it. Serialization is for digests of answers and leaves it out.
    #[serde(skip)]
    pub data: Bytes,
    /// From 1.
    pub attempt: u32,
    /// The trace that the caller named.
    pub trace: Option<TraceParent>,
    /// The orchestrator that sent it, as its token said; `None`: a backend.
    pub sender: Option<OrchestratorId>,
    /// When it was accepted: by the clock of the store or, if it was pushed, of the router.
    #[serde(skip)]
    pub accepted: Timestamp,
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

/// Consecutive sequences of one lane and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckRange {
    /// As sent.
    pub epoch: Epoch,
    /// Lane.
    pub lane: Lane,
    /// First.
    pub from: u64,
    /// Last.
    pub to: u64,
}

/// An attempt that ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Which entry.
    pub position: Position,
    /// The attempt that ends; another one makes this a no-op.
    pub attempt: u32,
}

/// Not processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// Which entry.
    pub position: Position,
    /// The attempt that ends; another one makes this a no-op.
    pub attempt: u32,
    /// Until it is sent again. At most 1 h.
    pub delay: Duration,
}

/// Never to be processed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Which entry.
    pub position: Position,
    /// Kept with the dead letter.
    pub reason: String,
}

/// A message that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageRef {
    /// By where it stands or stood.
    Position(Position),
    /// By its id.
    Id(MessageId),
}

/// What a client remembers of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// `None`: a text that never was an epoch.
    pub epoch: Option<Epoch>,
    /// Last sequence seen of each lane.
    pub positions: PerLane<u64>,
}

/// How the store judges what a client remembers (delivery, rule 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ResumeVerdict {
    /// Nothing was remembered.
    Fresh,
    /// The log goes on where the client stopped.
    Resumed,
    /// Another epoch, but nothing that the client saw is missing.
    StoreRestarted,
    /// The client saw what the store does not have.
    PossiblyLost,
}

/// What a daemon says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportedStatus {
    /// Working.
    Active,
    /// Waiting for work.
    Idle,
    /// Cannot take more.
    Busy,
    /// Wants nothing for now: not eligible to be active.
    Paused,
    /// In trouble.
    Error,
}

impl ReportedStatus {
    const ALL: [ReportedStatus; 5] = [
        ReportedStatus::Active,
        ReportedStatus::Idle,
        ReportedStatus::Busy,
        ReportedStatus::Paused,
        ReportedStatus::Error,
    ];

    /// The word in the protocols.
    pub fn name(self) -> &'static str {
        match self {
            ReportedStatus::Active => "active",
            ReportedStatus::Idle => "idle",
            ReportedStatus::Busy => "busy",
            ReportedStatus::Paused => "paused",
            ReportedStatus::Error => "error",
        }
    }

    /// The status of a word.
    pub fn from_name(name: &str) -> Option<ReportedStatus> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// How an orchestrator wants to be seen by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportedPresence {
    /// There.
    Online,
    /// Not there for a while.
    Away,
    /// There, and not to be disturbed.
    Busy,
    /// As if not there.
    Offline,
}

impl ReportedPresence {
    /// The word in the protocols.
    pub fn name(self) -> &'static str {
        match self {
            ReportedPresence::Online => "online",
            ReportedPresence::Away => "away",
            ReportedPresence::Busy => "busy",
            ReportedPresence::Offline => "offline",
        }
    }
}

/// How much a session takes unacknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Entries.
    pub entries: u32,
    /// Payload bytes.
    pub bytes: u64,
}

impl Window {
    /// Critical entries may exceed the window by so many.
    pub const CRITICAL_EXTRA: u32 = 16;

    /// The smallest that a client can get.
    pub const SMALLEST: Window = Window { entries: 1, bytes: 64 << 10 };
    /// The largest.
    pub const LARGEST: Window = Window { entries: 1_000, bytes: 16 << 20 };

    /// A window within the limits: 1 to 1,000 entries, 64 KiB to 16 MiB.
    pub fn within_limits(entries: u32, bytes: u64) -> Window {
        let Window { entries: fewest, bytes: least } = Window::SMALLEST;
        let Window { entries: most, bytes: largest } = Window::LARGEST;
        Window { entries: entries.clamp(fewest, most), bytes: bytes.clamp(least, largest) }
    }

    /// What both allow.
    #[must_use]
    pub fn at_most(self, other: Window) -> Window {
        Window { entries: self.entries.min(other.entries), bytes: self.bytes.min(other.bytes) }
    }
}

impl Default for Window {
    fn default() -> Self {
        Window { entries: 256, bytes: 1 << 20 }
    }
}
