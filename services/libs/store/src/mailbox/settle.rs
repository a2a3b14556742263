//! What clients say about messages.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waystation_domain::{AckRange, Charge, Heads, MessageId, MessageRef, Nack, Reject, SessionId};

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
    /// Messages of which the caller wants to know whether they are acknowledged now.
    pub confirm: Vec<MessageRef>,
}

/// What became of a settlement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// Entries that left by its acks.
    pub acknowledged: u64,
    /// How long each of these took from its acceptance, in no order.
    pub took: Vec<Duration>,
    /// Entries that it made dead letters.
    pub dead: u64,
    /// Nacks, rejects and charges were ignored: the fence did not hold.
    pub fenced: bool,
    /// Afterwards.
    pub heads: Heads,
    /// For each message of `confirm`, whether it is acknowledged.
    pub confirmed: Vec<bool>,
}

/// Removes every entry of a mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Purge {
    /// Whose.
    pub mailbox: MailboxKey,
}

/// Drops dead letters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForgetDeadLetters {
    /// Whose.
    pub mailbox: MailboxKey,
    /// Their numbers; others are ignored.
    pub numbers: Vec<u64>,
}
