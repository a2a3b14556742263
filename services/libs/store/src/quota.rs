//! How much organizations may do, shared by all who let them. What is counted is forgotten with the store's process: a
//! limit holds again after a moment.

use std::time::Duration;

use async_trait::async_trait;
use waystation_domain::{OrganizationId, Timestamp};

use crate::Unavailable;
use crate::mailbox::Now;

/// An organization may use what it has not used for so long.
pub const BURST: Duration = Duration::from_secs(2);
/// Parts of one, in which fractions are counted.
pub(crate) const PARTS: u64 = 1_000;

/// What somebody gets who asks for a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// So many, at most as many as asked for.
    pub granted: u32,
    /// If there are none: when there is one again.
    pub again: Duration,
}

/// Limits that several processes share: each takes a slice and spends it without asking again.
#[async_trait]
pub trait QuotaStore: Send + Sync {
    /// Takes up to `wanted` from what an organization may do at a rate a second.
    async fn slice(
        &self,
        organization: &OrganizationId,
        a_second: u32,
        wanted: u32,
        now: Now,
    ) -> Result<Slice, Unavailable>;
}

/// What is left of a limit, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub(crate) parts: u64,
    pub(crate) at: Timestamp,
}

impl Bucket {
    pub(crate) fn full(a_second: u32, now: Timestamp) -> Bucket {
        Bucket { parts: u64::from(a_second) * PARTS * BURST.as_secs(), at: now }
    }

    /// Takes what is there. A rate that has changed holds from now on.
    pub(crate) fn take(&mut self, a_second: u32, wanted: u32, now: Timestamp) -> Slice {
        let millis = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        // One part is a thousandth, and there are a thousand milliseconds in a second.
        let grown = millis.saturating_mul(u64::from(a_second));
        self.parts = self.parts.saturating_add(grown).min(Bucket::full(a_second, now).parts);
        self.at = self.at.max(now);
        let granted = u32::try_from(self.parts / PARTS).unwrap_or(u32::MAX).min(wanted);
        self.parts -= u64::from(granted) * PARTS;
        let lacking = if granted == 0 { PARTS - self.parts.min(PARTS) } else { 0 };
        Slice { granted, again: Duration::from_millis(lacking.div_ceil(u64::from(a_second.max(1)))) }
    }
}
