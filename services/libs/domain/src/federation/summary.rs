//! What a cell can do for an organization of another one, in one line, and how that is told without telling all each time.

use std::collections::BTreeMap;

use super::{Capability, CapabilityName, Registration, Standing, cell_of};

/// What a cell can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The best of each that somebody has.
    pub capabilities: BTreeMap<CapabilityName, Capability>,
    /// Slots that are free, of those who are there.
    pub free: u32,
}

/// A summary as it was told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldSummary {
    /// Whose numbers these are: another one, and nothing that is known fits.
    pub epoch: u64,
    /// Counts what was told, from 1.
    pub sequence: u64,
    /// What it says.
    pub summary: Summary,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryUpdate {
    /// See [`ToldSummary::epoch`].
    pub epoch: u64,
    /// What it becomes.
    pub sequence: u64,
    /// All of it, not what has changed.
    pub is_full: bool,
    /// Capabilities that have come or are otherwise.
    pub changed: Vec<Capability>,
    /// Those that have gone.
    pub removed: Vec<CapabilityName>,
    /// Slots that are free.
    pub free: u32,
}

impl Summary {
    /// Takes in somebody with its free slots, if it can be asked. What other cells do for us is not ours to give. `granted` are
    /// the capabilities that may be told of; empty: all.
    pub fn count(&mut self, registration: &Registration, standing: Standing, free: u32, granted: &[CapabilityName]) {
        let is_granted = |capability: &&Capability| granted.is_empty() || granted.contains(&capability.name);
        let is_there =
            !matches!(standing, Standing::Offline | Standing::Draining) && cell_of(&registration.id).is_none();
        if !is_there || !granted.is_empty() && !registration.capabilities.iter().any(|one| is_granted(&one)) {
            return;
        }
        self.free = self.free.saturating_add(free);
        for capability in registration.capabilities.iter().filter(is_granted) {
            let best = self.capabilities.entry(capability.name.clone()).or_insert_with(|| capability.clone());
            best.version = best.version.max(capability.version);
            best.level = best.level.max(capability.level);
        }
    }
}

impl ToldSummary {
    /// What must be told of what is so now, and notes that it is; `None`: nothing.
    pub fn tell(&mut self, now: Summary) -> Option<SummaryUpdate> {
        let is_full = self.sequence == 0;
        if !is_full && now == self.summary {
            return None;
        }
        let before = &self.summary.capabilities;
        let changed = now.capabilities.values().filter(|capability| before.get(&capability.name) != Some(*capability));
        let removed = before.keys().filter(|name| !now.capabilities.contains_key(*name));
        let update = SummaryUpdate {
            epoch: self.epoch,
            sequence: self.sequence + 1,
            is_full,
            changed: changed.cloned().collect(),
            removed: removed.cloned().collect(),
            free: now.free,
        };
        self.sequence += 1;
        self.summary = now;
        Some(update)
    }

    /// Takes in what was told. `false`: something is missing in between, and all must be told anew.
    pub fn hear(&mut self, update: SummaryUpdate) -> bool {
        if update.is_full {
            *self = ToldSummary { epoch: update.epoch, ..ToldSummary::default() };
        } else if update.epoch != self.epoch || update.sequence != self.sequence + 1 {
            return false;
        }
        self.sequence = update.sequence;
        self.summary.free = update.free;
        for name in &update.removed {
            self.summary.capabilities.remove(name);
        }
        let changed = update.changed.into_iter().map(|capability| (capability.name.clone(), capability));
        self.summary.capabilities.extend(changed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(capabilities: &[(&str, Option<u32>)]) -> Registration {
        let capability = |(name, level): &(&str, Option<u32>)| Capability {
            name: name.parse().unwrap(),
            version: None,
            level: *level,
        };
        Registration {
            id: "anna".parse().unwrap(),
            name: String::new(),
            region: String::new(),
            tier: String::new(),
            capabilities: capabilities.iter().map(capability).collect(),
            max_concurrent: 5,
            weight: 100,
            token_limit: None,
        }
    }

    fn summary(of: &[(&str, Option<u32>)], free: u32) -> Summary {
        let mut summary = Summary::default();
        summary.count(&registration(of), Standing::Online, free, &[]);
        summary
    }

    #[test]
    fn a_summary_is_the_best_of_those_who_are_there() {
        let mut summary = summary(&[("research", Some(3))], 2);
        summary.count(&registration(&[("research", Some(7)), ("testing", None)]), Standing::Busy, 1, &[]);
        summary.count(&registration(&[("security", None)]), Standing::Offline, 9, &[]);
        summary.count(&registration(&[("security", None)]), Standing::Draining, 9, &[]);
        let found: Vec<_> = summary.capabilities.values().map(|one| (one.name.to_string(), one.level)).collect();
        assert_eq!(found, [("research".to_owned(), Some(7)), ("testing".to_owned(), None)]);
        assert_eq!(summary.free, 3);
        // Of what is granted, and of nobody who has none of it.
        let mut granted = Summary::default();
        let testing = ["testing".parse().unwrap()];
        granted.count(&registration(&[("research", None)]), Standing::Online, 5, &testing);
        granted.count(&registration(&[("research", None), ("testing", None)]), Standing::Online, 2, &testing);
        let peer = Registration { id: "cell.c".parse().unwrap(), ..registration(&[("testing", None)]) };
        granted.count(&peer, Standing::Online, 7, &testing);
        assert_eq!((granted.capabilities.len(), granted.free), (1, 2));
    }

    #[test]
    fn both_sides_agree_whatever_is_lost_in_between() {
        let steps = [
            summary(&[("a", None), ("b", Some(1))], 1),
            summary(&[("b", Some(2))], 1),
            summary(&[("b", Some(2)), ("c", None)], 0),
            summary(&[], 0),
        ];
        for lost in 0..steps.len() {
            let mut teller = ToldSummary { epoch: 7, ..ToldSummary::default() };
            let mut hearer = ToldSummary::default();
            for (at, step) in steps.iter().enumerate() {
                let Some(update) = teller.tell(step.clone()) else { panic!("it has changed") };
                if at == lost {
                    continue;
                }
                if !hearer.hear(update.clone()) {
                    assert!(lost < at, "nothing was lost");
                    // It asks anew, and is told all.
                    teller = ToldSummary { epoch: 8, ..ToldSummary::default() };
                    assert!(hearer.hear(teller.tell(step.clone()).unwrap()));
                }
                assert_eq!(hearer, teller);
            }
            assert_eq!(teller.tell(steps[3].clone()), None, "nothing has changed");
        }
    }
}
