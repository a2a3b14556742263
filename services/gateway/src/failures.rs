//! Logins that failed, counted by the network they came from.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use waystation_domain::Network;

use crate::Limits;

/// The time over which failures are counted.
const PERIOD: Duration = Duration::from_secs(60);
/// Networks that are counted; the ones seen longest ago are forgotten first.
const NETWORKS: u64 = 100_000;

/// Counts failures. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Failures(Arc<Inner>);

struct Inner {
    most: u32,
    most_of_network: u32,
    /// Those of one period, under one key.
    all: Cache<(), Arc<AtomicU32>>,
    by_network: Cache<IpAddr, Arc<AtomicU32>>,
}

/// A network from which too many logins have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyFailures {
    pub(crate) retry_after: Duration,
    pub(crate) current: u32,
    pub(crate) most: u32,
}

impl Failures {
    pub(crate) fn new(limits: Limits) -> Failures {
        Failures(Arc::new(Inner {
            most: limits.failed_logins,
            most_of_network: limits.failed_logins_per_address,
            all: Cache::builder().time_to_live(PERIOD).build(),
            by_network: Cache::builder().time_to_live(PERIOD).max_capacity(NETWORKS).build(),
        }))
    }

    /// Whether a login from there is looked at. While too many fail in all, networks from which none failed still get in:
    /// else whoever makes failures could lock everybody out.
    ///
    /// # Errors
    /// When to try again.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), TooManyFailures> {
        let Inner { most, most_of_network, all, by_network } = &*self.0;
        let read = |count: Option<Arc<AtomicU32>>| count.map_or(0, |count| count.load(Ordering::Relaxed));
        let current = read(by_network.get(&Network::counted_with(address)));
        let flooded = current > 0 && read(all.get(&())) >= *most;
        if current >= *most_of_network || flooded {
            return Err(TooManyFailures { retry_after: PERIOD, current, most: *most_of_network });
        }
        Ok(())
    }

    /// A login from there has failed.
    pub(crate) fn note(&self, address: IpAddr) {
        let Inner { all, by_network, .. } = &*self.0;
        all.get_with((), Arc::default).fetch_add(1, Ordering::Relaxed);
        by_network.get_with(Network::counted_with(address), Arc::default).fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(most: u32, most_of_network: u32) -> Failures {
        Failures::new(Limits { failed_logins: most, failed_logins_per_address: most_of_network, ..Limits::default() })
    }

    #[test]
    fn a_network_that_fails_too_often_waits_and_others_do_not() {
        let failures = failures(100, 2);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..2 {
            assert!(failures.check(address("2001:db8::1")).is_ok());
            failures.note(address("2001:db8::1"));
        }
        let refused = failures.check(address("2001:db8::2")).unwrap_err();
        assert_eq!((refused.current, refused.most), (2, 2), "one network");
        assert!(failures.check(address("2001:db8:0:1::1")).is_ok());
        assert!(failures.check(address("192.0.2.1")).is_ok());
    }

    #[test]
    fn in_a_flood_only_those_who_never_failed_get_in() {
        let failures = failures(3, 100);
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        for n in 0..3 {
            failures.note(address(n));
        }
        assert!(failures.check(address(0)).is_err());
        assert!(failures.check(address(9)).is_ok());
    }
}
