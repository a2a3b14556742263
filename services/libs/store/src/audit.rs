//! Who did what: chains of events, for each organization and for the cell, in which nothing can be changed unnoticed.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use waystation_domain::{OrganizationId, Timestamp};

use crate::Unavailable;
use crate::mailbox::Now;

/// What an event is about. Each has chains of its own, so that a storm of logins pushes out no change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AuditLog {
    /// What was made, changed or ended.
    Changes,
    /// Who logged in, or tried to.
    Logins,
}

/// Names a chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Chain {
    /// Whose; `None`: the cell's own.
    pub organization: Option<OrganizationId>,
    /// About what.
    pub log: AuditLog,
}

/// One event, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// From 1, without holes.
    pub sequence: u64,
    /// When, by the clock of the service that saw it.
    pub time: Timestamp,
    /// What was done, as `api_key.created`.
    pub action: String,
    /// Who did it, as `service:platform`.
    pub actor: String,
    /// To what, as `api_key:k1`.
    pub target: String,
    /// What the caller called its request, if anything.
    pub request: String,
    /// `ok`, or why it was refused.
    pub result: String,
    /// What else there is to know.
    pub detail: String,
    /// HMAC over all this and the one before.
    pub mac: [u8; 32],
}

/// Chains of events.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Continues a chain, if its last sequence is `after` (0: it is empty); answers whether it was. The oldest beyond
    /// [`crate::limits::AUDIT_EVENTS`] leave.
    async fn append_audit(
        &self,
        chain: &Chain,
        after: u64,
        records: Vec<AuditRecord>,
        now: Now,
    ) -> Result<bool, Unavailable>;
    /// The last event of a chain.
    async fn audit_head(&self, chain: &Chain) -> Result<Option<AuditRecord>, Unavailable>;
    /// Events of a chain after a sequence, oldest first.
    async fn audit(&self, chain: &Chain, after: u64, most: usize) -> Result<Vec<AuditRecord>, Unavailable>;
}
