//! All mailboxes in numbers.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use waystation_domain::{OrganizationId, Timestamp};

use super::scripts::Script;
use super::{Args, Redis, reply};
use crate::Unavailable;
use crate::mailbox::Totals;

/// All mailboxes are counted anew within this time, if there are few: a few partitions at each look …
const COUNTED_WITHIN: Duration = Duration::from_secs(30);
/// … and else so that a look at all of them, which takes the Redis some 75 µs for each, is a twentieth of the time.
const SHARE: u32 = 20;
/// One look goes on to the next partition for so long; the first one, at the start, for longer.
const LOOK: Duration = Duration::from_millis(200);
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// The mailboxes of a partition, by organization.
type Counted = HashMap<OrganizationId, Totals>;

/// What a look at a partition found.
struct Look {
    at: Instant,
    took: Duration,
    counted: Counted,
}

/// The last look at each partition.
#[derive(Default)]
pub(super) struct RollingTotals(Vec<Option<Look>>);

impl RollingTotals {
    fn counted(&self) -> impl Iterator<Item = &Counted> {
        self.0.iter().flatten().map(|look| &look.counted)
    }

    pub(super) fn of_all(&self) -> Totals {
        self.counted().flat_map(HashMap::values).copied().sum()
    }

    pub(super) fn of(&self, organization: &OrganizationId) -> Totals {
        self.counted().filter_map(|counted| counted.get(organization)).copied().sum()
    }

    /// Partitions to look at, and for how long at most. After the first look a share of them comes due at a time, because
    /// each was counted at its own moment.
    fn due(&self, now: Instant) -> (Vec<usize>, Duration) {
        let all: Duration = self.0.iter().flatten().map(|look| look.took).sum();
        let within = COUNTED_WITHIN.max(all * SHARE);
        let is_due =
            |look: &Option<Look>| look.as_ref().is_none_or(|look| now.saturating_duration_since(look.at) >= within);
        let mut due: Vec<usize> = (0..self.0.len()).filter(|partition| is_due(&self.0[*partition])).collect();
        if due.len() == self.0.len() {
            return (due, FIRST_LOOK);
        }
        due.truncate(self.0.len().div_ceil(8));
        (due, LOOK)
    }
}

impl Redis {
    /// Counts what is due, then asks about all that was counted.
    pub(super) async fn rolling_totals(
        &self,
        ask: impl FnOnce(&RollingTotals) -> Totals + Send,
    ) -> Result<Totals, Unavailable> {
        let totals = || self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, longest) = {
            let mut totals = totals();
            totals.0.resize_with(self.places.partitions, || None);
            totals.due(Instant::now())
        };
        let begun = Instant::now();
        for partition in due {
            let at = Instant::now();
            let counted = self.count(partition).await?;
            totals().0[partition] = Some(Look { at, took: at.elapsed(), counted });
            if begun.elapsed() > longest {
                break;
            }
        }
        Ok(ask(&totals()))
    }

    async fn count(&self, partition: usize) -> Result<Counted, Unavailable> {
        let mut counted = Counted::default();
        let mut cursor = String::from("0");
        loop {
            let mut args = Args::default();
            args.text(&cursor);
            let mut answer = reply::list(self.run_in(partition, Script::Totals, args, None).await?)?;
            cursor = reply::text(reply::next(&mut answer)?)?;
            while let Some(organization) = answer.next() {
                let organization = reply::parse(&reply::text(organization)?)?;
                let mut number = || reply::number(reply::next(&mut answer)?);
                let found = Totals {
                    mailboxes: number()?,
                    resident: number()?,
                    conservation_delta: number()?,
                    filling: number()?,
                    oldest: Some(number()?).filter(|millis| *millis > 0).map(Timestamp::from_millis),
                };
                let sum = counted.entry(organization).or_default();
                *sum = [*sum, found].into_iter().sum();
            }
            if cursor == "0" {
                return Ok(counted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_store_is_looked_at_less_often() {
        let start = Instant::now();
        let look = |at, took| Some(Look { at, took: Duration::from_millis(took), counted: Counted::new() });
        let mut totals = RollingTotals((0..64).map(|_| None).collect());
        assert_eq!(totals.due(start), ((0..64).collect(), FIRST_LOOK));
        totals.0.fill_with(|| look(start, 2));
        totals.0[7] = None;
        assert_eq!(totals.due(start), (vec![7], LOOK), "what was not reached comes next");
        let later = start + COUNTED_WITHIN;
        totals.0[7] = look(later, 2);
        assert_eq!(totals.due(later).0, [0, 1, 2, 3, 4, 5, 6, 8]);
        // 64 partitions of 100 ms each take 6.4 s: a twentieth of 128 s.
        totals.0.fill_with(|| look(start, 100));
        assert!(totals.due(start + Duration::from_secs(127)).0.is_empty());
        assert_eq!(totals.due(start + Duration::from_secs(128)).0.len(), 64);
    }
}
