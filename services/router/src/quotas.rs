//! How many messages an organization may send, over all routers. A router takes slices of what the store allows and
//! spends them without asking again; while there are none it refuses without asking either.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio::sync::Mutex;
use waystation_domain::OrganizationId;
use waystation_proto::common::v1::ErrorReason;
use waystation_rpc::Fault;
use waystation_runtime::Clock;
use waystation_store::QuotaStore;

/// A slice is what the rate allows in so many parts of a second: the store is asked so often at most.
const SLICES_A_SECOND: u32 = 20;
/// What is left of a slice after this time is given up: the organization may be using another router.
const SLICE_LIFE: Duration = Duration::from_secs(1);
/// Organizations that are remembered.
const CAPACITY: u64 = 100_000;
/// An organization that sends nothing for so long is forgotten.
const REMEMBERED: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Quotas {
    store: Arc<dyn QuotaStore>,
    clock: Clock,
    /// Where an organization has chosen nothing; `None`: without limit.
    usual: Option<u32>,
    slices: Cache<OrganizationId, Arc<Mutex<Slice>>>,
}

#[derive(Default)]
struct Slice {
    left: u32,
    until: Option<Instant>,
    /// There is none before then.
    refused_until: Option<Instant>,
}

impl Quotas {
    pub(crate) fn new(store: Arc<dyn QuotaStore>, usual: Option<u32>, clock: Clock) -> Quotas {
        let slices = Cache::builder().max_capacity(CAPACITY).time_to_idle(REMEMBERED).build();
        Quotas { store, clock, usual, slices }
    }

    /// Lets one message through, or says when to try again.
    pub(crate) async fn take(
        &self,
        organization: &OrganizationId,
        chosen: Option<u32>,
    ) -> Result<Result<(), TooMany>, Fault> {
        let Some(a_second) = chosen.or(self.usual) else { return Ok(Ok(())) };
        let slice = self.slices.get_with_by_ref(organization, Arc::default);
        // Held while the store is asked: whoever comes meanwhile waits for the same slice.
        let mut slice = slice.lock().await;
        let now = self.clock.instant();
        if let Some(until) = slice.refused_until.filter(|until| *until > now) {
            return Ok(Err(TooMany { again: until - now, a_second }));
        }
        if slice.left == 0 || slice.until.is_none_or(|until| until <= now) {
            let wanted = (a_second / SLICES_A_SECOND).max(1);
            let taken = self.store.slice(organization, a_second, wanted, None).await.map_err(Fault::unavailable)?;
            *slice = Slice { left: taken.granted, until: Some(now + SLICE_LIFE), refused_until: None };
            if taken.granted == 0 {
                slice.refused_until = Some(now + taken.again);
                return Ok(Err(TooMany { again: taken.again, a_second }));
            }
        }
        slice.left -= 1;
        Ok(Ok(()))
    }
}

/// An organization is held back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooMany {
    /// When to try again.
    pub(crate) again: Duration,
    /// Messages that it may send in a second.
    pub(crate) a_second: u32,
}

impl From<TooMany> for Fault {
    fn from(TooMany { again, a_second }: TooMany) -> Fault {
        let message = format!("the organization may send {a_second} messages a second");
        Fault::new(ErrorReason::RateLimited, message).retry(again).limit(a_second)
    }
}
