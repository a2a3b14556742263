//! The log of one organization as it arrives here: pushed in any order, read where something is missing, told in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use waystation_domain::{FeedEvent, FeedExtent, FeedGap, FeedPoint};
use waystation_wire::SharedEvent;

/// Events that came before the ones in front of them.
const EARLY: usize = 256;
/// The newest events are kept for those who are a little behind: so many, and so many bytes of data.
const RECENT: usize = 64;
const RECENT_BYTES: usize = 64 * 1024;

/// What is known of a log.
#[derive(Debug, Default)]
pub(super) struct Tap {
    /// How far it reaches; the head is that of the last event that was told.
    extent: FeedExtent,
    /// The newest ones that were told, without holes.
    recent: VecDeque<Arc<SharedEvent>>,
    recent_bytes: usize,
    early: BTreeMap<u64, Arc<SharedEvent>>,
}

/// What is to be told, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct News {
    pub(super) gaps: Vec<FeedGap>,
    pub(super) events: Vec<Arc<SharedEvent>>,
}

impl Tap {
    /// Begins at the head.
    pub(super) fn begin(extent: FeedExtent) -> Tap {
        Tap { extent, ..Tap::default() }
    }

    /// Where the log is, as far as it was told.
    pub(super) fn head(&self) -> FeedPoint {
        FeedPoint { epoch: self.extent.epoch(), sequence: self.extent.head }
    }

    /// How far the log reaches, as it was known last.
    pub(super) fn extent(&self) -> &FeedExtent {
        &self.extent
    }

    /// Takes pushed events; answers what they make ready to be told, and whether something in front of them is missing.
    pub(super) fn take(&mut self, events: Vec<FeedEvent>) -> (Vec<Arc<SharedEvent>>, bool) {
        let mut ready = Vec::with_capacity(events.len());
        let mut is_foreign = false;
        for event in events {
            let (sequence, head) = (event.position.sequence, self.extent.head);
            if sequence == head + 1 {
                ready.push(self.tell(SharedEvent::new(event)));
                self.take_early(&mut ready);
            } else if sequence > head && self.early.len() < EARLY {
                self.early.insert(sequence, SharedEvent::new(event));
            } else if sequence <= head {
                // The store gives a sequence again only under another epoch: it has lost something.
                is_foreign |= self.extent.owner(sequence) != Some(event.position.epoch);
            }
        }
        let is_behind = is_foreign || !self.early.is_empty();
        (ready, is_behind)
    }

    fn take_early(&mut self, ready: &mut Vec<Arc<SharedEvent>>) {
        while let Some(first) = self.early.first_entry() {
            match first.key().cmp(&(self.extent.head + 1)) {
                std::cmp::Ordering::Less => drop(first.remove()),
                std::cmp::Ordering::Equal => {
                    let event = first.remove();
                    ready.push(self.tell(event));
                }
                std::cmp::Ordering::Greater => return,
            }
        }
    }

    /// Takes a piece of the log that was read after the head.
    pub(super) fn take_piece(&mut self, extent: &FeedExtent, events: Vec<Arc<SharedEvent>>) -> News {
        let start = extent.start(self.head());
        let mut news = News::default();
        if start.after != self.extent.head || !start.gaps.is_empty() {
            // What was pushed of another life of the store is read again.
            self.early.clear();
            self.forget_recent();
            self.extent.head = start.after;
            news.gaps = start.gaps;
        }
        self.extent.epochs.clone_from(&extent.epochs);
        self.extent.floor = extent.floor;
        for event in events {
            // Pushes may have come while it was read.
            if event.event.position.sequence == self.extent.head + 1 {
                news.events.push(self.tell(event));
            }
        }
        self.take_early(&mut news.events);
        news
    }

    /// The newest events after a point, if they are all here.
    pub(super) fn since(&self, point: FeedPoint) -> Option<Vec<Arc<SharedEvent>>> {
        let first = self.recent.front()?.event.position.sequence;
        let is_known = point.sequence == 0 || point.epoch == self.extent.epoch();
        if !is_known || point.sequence + 1 < first || point.sequence > self.extent.head {
            return None;
        }
        let after = self.recent.iter().filter(|event| event.event.position.sequence > point.sequence);
        Some(after.cloned().collect())
    }

    /// Holds nothing for those who are behind.
    pub(super) fn forget_recent(&mut self) {
        self.recent = VecDeque::new();
        self.recent_bytes = 0;
    }

    fn tell(&mut self, event: Arc<SharedEvent>) -> Arc<SharedEvent> {
        let position = event.event.position;
        self.extent.head = position.sequence;
        if self.extent.epoch() != Some(position.epoch) {
            self.extent.epochs.push((position.epoch, position.sequence));
        }
        self.recent_bytes += event.event.data.len();
        self.recent.push_back(event.clone());
        while self.recent.len() > RECENT || self.recent_bytes > RECENT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.event.data.len();
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waystation_domain::{Audience, Epoch, FeedLoss, FeedPosition, MessageId, Timestamp};

    use super::*;

    fn event(epoch: u64, sequence: u64) -> FeedEvent {
        let position = FeedPosition { epoch: Epoch::from_raw(epoch), sequence };
        FeedEvent {
            position,
            id: MessageId::of_feed(position),
            event_type: "invoice.paid".parse().unwrap(),
            channel: None,
            trace: None,
            sender: None,
            audience: Audience::default(),
            time: Timestamp::default(),
            data: Bytes::from_static(b"{}"),
        }
    }

    fn extent(epochs: &[(u64, u64)], head: u64, floor: u64) -> FeedExtent {
        let epochs = epochs.iter().map(|(epoch, first)| (Epoch::from_raw(*epoch), *first)).collect();
        FeedExtent { epochs, head, floor }
    }

    fn sequences(events: &[Arc<SharedEvent>]) -> Vec<u64> {
        events.iter().map(|event| event.event.position.sequence).collect()
    }

    fn take(tap: &mut Tap, events: &[u64]) -> (Vec<u64>, bool) {
        let (ready, is_behind) = tap.take(events.iter().map(|sequence| event(1, *sequence)).collect());
        (sequences(&ready), is_behind)
    }

    fn piece(tap: &mut Tap, extent: &FeedExtent, events: &[(u64, u64)]) -> (Vec<FeedLoss>, Vec<u64>) {
        let events = events.iter().map(|(epoch, sequence)| SharedEvent::new(event(*epoch, *sequence))).collect();
        let news = tap.take_piece(extent, events);
        (news.gaps.iter().map(|gap| gap.loss).collect(), sequences(&news.events))
    }

    #[test]
    fn events_are_told_in_order_however_they_come() {
        let mut tap = Tap::begin(extent(&[(1, 1)], 5, 0));
        assert_eq!(take(&mut tap, &[6, 7]), (vec![6, 7], false));
        assert_eq!(take(&mut tap, &[9, 10]), (vec![], true), "8 is missing");
        assert_eq!(take(&mut tap, &[7, 8]), (vec![8, 9, 10], false), "it was on another way");
        assert_eq!(take(&mut tap, &[3, 10]), (vec![], false), "known");
        assert_eq!(take(&mut tap, &[13]), (vec![], true));
        assert_eq!(piece(&mut tap, &extent(&[(1, 1)], 13, 0), &[(1, 11), (1, 12)]), (vec![], vec![11, 12, 13]));
        assert_eq!(tap.head(), FeedPoint { epoch: Some(Epoch::from_raw(1)), sequence: 13 });
    }

    #[test]
    fn the_first_event_of_all_is_told() {
        let mut tap = Tap::begin(FeedExtent::default());
        assert_eq!(tap.head(), FeedPoint { epoch: None, sequence: 0 });
        assert_eq!(take(&mut tap, &[1]), (vec![1], false));
        assert_eq!(tap.head().epoch, Some(Epoch::from_raw(1)));
    }

    #[test]
    fn a_store_that_has_lost_something_is_read_anew_and_that_is_told() {
        let mut tap = Tap::begin(extent(&[(1, 1)], 10, 0));
        let (ready, is_behind) = tap.take(vec![event(2, 8)]);
        assert!(ready.is_empty() && is_behind);
        let now = extent(&[(1, 1), (2, 8)], 8, 0);
        assert_eq!(piece(&mut tap, &now, &[]), (vec![FeedLoss::PossiblyLost], vec![]), "it was read from elsewhere");
        assert_eq!(piece(&mut tap, &now, &[(2, 8)]), (vec![], vec![8]));
    }

    #[test]
    fn an_epoch_that_goes_on_without_a_hole_has_lost_nothing() {
        let mut tap = Tap::begin(extent(&[(1, 1)], 10, 0));
        let (ready, is_behind) = tap.take(vec![event(2, 11)]);
        assert_eq!((sequences(&ready), is_behind), (vec![11], false));
        assert_eq!(tap.extent().epochs.len(), 2);
    }

    #[test]
    fn what_was_trimmed_before_it_was_told_is_a_gap() {
        let mut tap = Tap::begin(extent(&[(1, 1)], 10, 0));
        let found = piece(&mut tap, &extent(&[(1, 1)], 40, 30), &[(1, 31), (1, 32)]);
        assert_eq!(found, (vec![FeedLoss::Trimmed], vec![31, 32]));
    }

    #[test]
    fn those_who_are_a_little_behind_find_the_newest_here() {
        let mut tap = Tap::begin(extent(&[(1, 1)], 0, 0));
        take(&mut tap, &(1..=100).collect::<Vec<_>>());
        let since = |tap: &Tap, epoch: u64, sequence| {
            let point = FeedPoint { epoch: Some(Epoch::from_raw(epoch)), sequence };
            tap.since(point).map(|events| sequences(&events))
        };
        assert_eq!(since(&tap, 1, 97), Some(vec![98, 99, 100]));
        assert_eq!(since(&tap, 1, 100), Some(vec![]));
        assert_eq!(since(&tap, 1, 36).map(|events| events.len()), Some(64));
        assert_eq!(since(&tap, 1, 35), None, "too far");
        assert_eq!(since(&tap, 2, 97), None, "another epoch must be judged");
        tap.forget_recent();
        assert_eq!(since(&tap, 1, 97), None);
    }
}
