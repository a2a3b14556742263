//! Reading the log.

use serde::{Deserialize, Serialize};
use waystation_domain::{Entry, Epoch, Gap, Heads, PerLane, SessionId};

use super::MailboxKey;

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

/// Why a fenced operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Refused {
    /// The store does not know the session: open it again.
    SessionUnknown,
    /// Another session holds the mailbox, or this one by a later activation.
    NotHolder,
}
