//! Sets of sequences that are nearly without holes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most ranges that are kept. A mailbox holds at most some thousand messages, and each hole is one of them.
const MOST: usize = 16_384;

/// Numbers from 1, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ranges {
    /// First to last; neither overlapping nor adjacent.
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, last)| number <= *last)
    }

    /// Adds all from `from` to `to`.
    pub(crate) fn insert(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        let (mut first, mut last) = (from, to);
        // Whatever begins before the end of the new range and ends after what lies before it, is part of it.
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.ranges.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.ranges.insert(first, last);
        // The oldest are forgotten, never joined: a message may come twice, none may be skipped.
        if self.ranges.len() > MOST {
            self.ranges.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_a_set(inserted in proptest::collection::vec((1..60u64, 0..6u64), 0..40)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (from, length) in inserted {
                ranges.insert(from, from + length);
                set.extend(from..=from + length);
            }
            for number in 0..80 {
                prop_assert_eq!(ranges.contains(number), set.contains(&number));
            }
            let bounds: Vec<_> = ranges.ranges.iter().collect();
            prop_assert!(bounds.windows(2).all(|pair| pair[0].1 + 1 < *pair[1].0), "neither overlapping nor adjacent");
        }
    }

    #[test]
    fn the_oldest_are_forgotten_and_none_is_invented() {
        let mut ranges = Ranges::default();
        for number in 0..=MOST as u64 {
            ranges.insert(number * 2 + 2, number * 2 + 2);
        }
        assert!(!ranges.contains(2) && ranges.contains(4) && !ranges.contains(5));
        ranges.insert(u64::MAX - 1, u64::MAX);
        assert!(ranges.contains(u64::MAX));
    }
}
