//! What clients say about messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waystation_domain::{AckRange, Charge, Heads, MessageId, Position, SessionId};

use super::MailboxKey;

/// Settlements of many sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settle {
    /// Each judged on its own.
    pub settlements: Vec<Settlement>,
}

/// What one session settles.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settlement {
    /// Whose mailbox.
    pub mailbox: MailboxKey,
    /// Which session.
    pub session: SessionId,
    /// Of its activation; acks do not need it.
    pub fence: u64,
    /// Acknowledged runs.
    pub acks: Vec<AckRange>,
    /// Acknowledged by ids that the gateway cannot place.
    pub ack_ids: Vec<MessageId>,
    /// Try again later.
    pub nacks: Vec<Nack>,
    /// Never again.
    pub rejects: Vec<Reject>,
    /// Attempts that ended without an answer.
    pub charges: Vec<Charge>,
    /// Gaps acknowledged without a hole up to here.
    pub gap_mark: u64,
}

/// Not processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// Which.
    pub position: Position,
    /// The attempt that ends; another one makes this a no-op.
    pub attempt: u32,
    /// At most 1 h.
    pub delay: Duration,
}

/// Never to be processed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Which.
    pub position: Position,
    /// Kept with the dead letter.
    pub reason: String,
}

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// Entries that left by its acks.
    pub acknowledged: u64,
    /// Nacks, rejects and charges were ignored: the fence did not hold.
    pub fenced: bool,
    /// Afterwards.
    pub heads: Heads,
}

/// Removes every entry of a mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Purge {
    /// Whose.
    pub mailbox: MailboxKey,
}
