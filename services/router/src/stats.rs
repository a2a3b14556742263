//! What this router has done, by organization.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use waystation_domain::{OrganizationId, Timestamp};
use waystation_proto::router::v1::{DeliveryTime, GetStatsResponse};
use waystation_rpc::Fault;
use waystation_rpc::convert::timestamp_to;
use waystation_store::limits::TIME_TO_LIVE;

use crate::Parts;

/// Organizations that are counted by themselves; more are counted together only.
const ORGANIZATIONS: usize = 1_000;

/// Counts since the start.
pub(crate) struct Stats {
    since: Timestamp,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: Counted,
    by_organization: HashMap<OrganizationId, Counted>,
}

struct Counted {
    accepted: u64,
    duplicates: u64,
    refused: u64,
    acknowledged: u64,
    dead: u64,
    /// Milliseconds from acceptance to acknowledgement.
    took: Histogram<u32>,
}

impl Default for Counted {
    fn default() -> Self {
        let longest = u64::try_from(TIME_TO_LIVE.as_millis()).unwrap_or(u64::MAX);
        let took = Histogram::new_with_bounds(1, longest, 2);
        let took = took.unwrap_or_else(|error| unreachable!("the bounds are constants: {error}"));
        Counted { accepted: 0, duplicates: 0, refused: 0, acknowledged: 0, dead: 0, took }
    }
}

impl Stats {
    pub(crate) fn new(since: Timestamp) -> Stats {
        Stats { since, counts: Mutex::default() }
    }

    fn count(&self, organization: &OrganizationId, change: impl Fn(&mut Counted)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts.all);
        if let Some(known) = counts.by_organization.get_mut(organization) {
            change(known);
        } else if counts.by_organization.len() < ORGANIZATIONS {
            change(counts.by_organization.entry(organization.clone()).or_default());
        }
    }

    pub(crate) fn accepted(&self, organization: &OrganizationId, duplicate: bool) {
        self.count(organization, |counted| {
            *(if duplicate { &mut counted.duplicates } else { &mut counted.accepted }) += 1;
        });
    }

    pub(crate) fn refused(&self, organization: &OrganizationId) {
        self.count(organization, |counted| counted.refused += 1);
    }

    pub(crate) fn settled(&self, organization: &OrganizationId, took: &[Duration], dead: u64) {
        self.count(organization, |counted| {
            counted.acknowledged += took.len() as u64;
            counted.dead += dead;
            for time in took {
                counted.took.saturating_record(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
            }
        });
    }

    fn read(&self, organization: Option<&OrganizationId>) -> GetStatsResponse {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let none = Counted::default();
        let counted = match organization {
            None => &counts.all,
            Some(organization) => counts.by_organization.get(organization).unwrap_or(&none),
        };
        GetStatsResponse {
            since_time: Some(timestamp_to(self.since)),
            accepted: counted.accepted,
            duplicates: counted.duplicates,
            refused: counted.refused,
            acknowledged: counted.acknowledged,
            dead: counted.dead,
            success_rate: success_rate(counted.acknowledged, counted.dead),
            delivery_time: delivery_time(&counted.took),
            queue_depth: 0,
            mailboxes: 0,
        }
    }
}

fn success_rate(acknowledged: u64, dead: u64) -> Option<f64> {
    let all = acknowledged + dead;
    (all > 0).then(|| acknowledged as f64 / all as f64)
}

fn delivery_time(took: &Histogram<u32>) -> Option<DeliveryTime> {
    (!took.is_empty()).then(|| DeliveryTime {
        count: took.len(),
        mean_ms: took.mean(),
        p50_ms: took.value_at_quantile(0.5),
        p90_ms: took.value_at_quantile(0.9),
        p99_ms: took.value_at_quantile(0.99),
        p999_ms: took.value_at_quantile(0.999),
        max_ms: took.max(),
    })
}

/// The counts of this router and what the store holds.
pub(crate) async fn answer(parts: &Parts, organization: Option<&OrganizationId>) -> Result<GetStatsResponse, Fault> {
    let store = &parts.store.mailboxes;
    let totals = match organization {
        None => store.totals().await,
        Some(organization) => store.organization_totals(organization).await,
    };
    let totals = totals.map_err(Fault::unavailable)?;
    let counted = parts.stats.read(organization);
    Ok(GetStatsResponse { queue_depth: totals.resident, mailboxes: totals.mailboxes, ..counted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organizations_are_counted_apart_and_together() {
        let stats = Stats::new(Timestamp::default());
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        stats.accepted(&one, false);
        stats.accepted(&one, true);
        stats.refused(&other);
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        stats.settled(&one, &times, 25);
        let of_one = stats.read(Some(&one));
        assert_eq!((of_one.accepted, of_one.duplicates, of_one.refused), (1, 1, 0));
        assert_eq!((of_one.acknowledged, of_one.success_rate), (100, Some(0.8)));
        let time = of_one.delivery_time.unwrap();
        assert_eq!((time.p50_ms, time.p99_ms, time.max_ms), (50, 99, 100));
        assert!((time.mean_ms - 50.5).abs() < 0.1);
        let of_other = stats.read(Some(&other));
        assert_eq!((of_other.refused, of_other.success_rate, of_other.delivery_time), (1, None, None));
        assert_eq!(stats.read(None).refused, 1);
    }
}
