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

/// All mailboxes are counted anew within this time, a few partitions at each look.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

/// The mailboxes of a partition, by organization.
type Counted = HashMap<OrganizationId, Totals>;

/// Counts of partitions, each with the moment at which it was made.
#[derive(Default)]
pub(super) struct RollingTotals(Vec<Option<(Instant, Counted)>>);

impl RollingTotals {
    fn counted(&self) -> impl Iterator<Item = &Counted> {
        self.0.iter().flatten().map(|(_, counted)| counted)
    }

    pub(super) fn of_all(&self) -> Totals {
        self.counted().flat_map(HashMap::values).copied().sum()
    }

    pub(super) fn of(&self, organization: &OrganizationId) -> Totals {
        self.counted().filter_map(|counted| counted.get(organization)).copied().sum()
    }
}

impl Redis {
    /// Counts what is due, then asks about all that was counted.
    pub(super) async fn rolling_totals(
        &self,
        ask: impl FnOnce(&RollingTotals) -> Totals + Send,
    ) -> Result<Totals, Unavailable> {
        let due: Vec<usize> = {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.0.resize(self.places.partitions, None);
            let fresh = |counted: &Option<(Instant, Counted)>| {
                counted.as_ref().is_some_and(|(when, _)| when.elapsed() < COUNTED_WITHIN)
            };
            (0..self.places.partitions).filter(|partition| !fresh(&totals.0[*partition])).collect()
        };
        // After the first look a share of them comes due at a time, because each was counted at its own moment.
        let share = if due.len() == self.places.partitions { due.len() } else { self.places.partitions.div_ceil(8) };
        for partition in due.into_iter().take(share) {
            let counted = self.count(partition).await?;
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.0[partition] = Some((Instant::now(), counted));
        }
        Ok(ask(&self.totals.lock().unwrap_or_else(PoisonError::into_inner)))
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
