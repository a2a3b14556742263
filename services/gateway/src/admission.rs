//! How many connections may wait for their login, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use waystation_domain::Network;

use crate::Limits;

/// Counts connections that have not logged in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Inner>);

struct Inner {
    most: usize,
    most_per_address: usize,
    /// Through them come many.
    proxies: Vec<Network>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Nobody is admitted any more.
    closed: bool,
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that has not logged in; dropped when it has.
pub(crate) struct Unauthenticated {
    admission: Admission,
    address: IpAddr,
}

impl Admission {
    pub(crate) fn new(limits: Limits, proxies: Vec<Network>) -> Admission {
        Admission(Arc::new(Inner {
            most: limits.unauthenticated,
            most_per_address: limits.unauthenticated_per_address,
            proxies,
            counts: Mutex::default(),
        }))
    }

    /// Admits nobody any more.
    pub(crate) fn close(&self) {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// Connections that have not logged in.
    pub(crate) fn waiting(&self) -> usize {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// `None`: too many wait already, or the gateway is stopping.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Unauthenticated> {
        let is_proxy = self.0.proxies.iter().any(|network| network.contains(address));
        let address = Network::counted_with(address);
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        let too_many = !is_proxy && of_address >= self.0.most_per_address;
        if counts.closed || counts.all >= self.0.most || too_many {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, of_address + 1);
        Some(Unauthenticated { admission: self.clone(), address })
    }
}

impl Drop for Unauthenticated {
    fn drop(&mut self) {
        let mut counts = self.admission.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        let left = counts.by_address.get(&self.address).copied().unwrap_or(1) - 1;
        if left == 0 {
            counts.by_address.remove(&self.address);
        } else {
            counts.by_address.insert(self.address, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_counts_as_one_address() {
        let limits = Limits { unauthenticated: 3, unauthenticated_per_address: 2, ..Limits::default() };
        let admission = Admission::new(limits, Vec::new());
        let admit = |address: &str| admission.admit(address.parse().unwrap());
        let first = admit("2001:db8::1");
        let second = admit("2001:db8::2");
        assert!(first.is_some() && second.is_some());
        assert!(admit("2001:db8::3").is_none());
        let other = admit("192.0.2.1");
        assert!(other.is_some());
        assert!(admit("192.0.2.2").is_none(), "three wait in all");
        drop(first);
        assert!(admit("2001:db8::3").is_some());
    }

    #[test]
    fn behind_a_proxy_are_many() {
        let limits = Limits { unauthenticated: 3, unauthenticated_per_address: 1, ..Limits::default() };
        let admission = Admission::new(limits, vec!["192.0.2.0/24".parse().unwrap()]);
        let admitted: Vec<_> = (0..4).map(|_| admission.admit("192.0.2.1".parse().unwrap())).collect();
        assert_eq!(admitted.iter().filter(|admitted| admitted.is_some()).count(), 3, "the limit of all holds");
    }
}
