//! Subscriptions, and events for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

use waystation_domain::{ChannelId, FeedPoint, Pattern};
use waystation_wire::client::{FeedItem, GapNotice, Outbound, Refused};

use super::{Core, Moment, Pending};
use crate::error::{Disconnect, Stopped};
use crate::event::Event;
use crate::journal::Record;
use crate::subscription::{FeedNews, Offer, Reader};

/// All who read the feed.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    readers: BTreeMap<u64, Reader>,
    /// Subscriptions that the gateway did not take for now.
    again: Option<Instant>,
    /// As it was last written down.
    noted: Option<FeedPoint>,
}

/// Of which channels a pattern is wanted; none: of all.
type Wanted<'a> = BTreeMap<&'a str, BTreeSet<ChannelId>>;

impl Feeds {
    pub(super) fn due(&self) -> Option<Instant> {
        self.again
    }

    /// What the gateway should know: a pattern that several want, for all of their channels.
    fn wanted(&self) -> Wanted<'_> {
        let mut wanted = Wanted::new();
        for reader in self.readers.values() {
            for pattern in &reader.patterns {
                let channels: BTreeSet<ChannelId> = reader.channels.iter().cloned().collect();
                wanted
                    .entry(pattern.as_str())
                    .and_modify(|known| {
                        let of_all = known.is_empty() || channels.is_empty();
                        if of_all { known.clear() } else { known.extend(channels.iter().cloned()) }
                    })
                    .or_insert_with(|| channels.clone());
            }
        }
        wanted
    }

    /// Tells all readers. One who has no room for it is told again when the feed is read again.
    pub(super) fn gap(&mut self, notice: &GapNotice) {
        self.readers.retain(|_, reader| {
            let is_behind = reader.progress.behind.load(Ordering::Acquire);
            is_behind || reader.offer(FeedNews::Gap(notice.clone())) != Offer::Abandoned
        });
    }

    pub(super) fn stop(&mut self, why: &Stopped) {
        for reader in std::mem::take(&mut self.readers).into_values() {
            if *why != Stopped::Closed {
                // A full queue ends all the same; the client's own end says why.
                reader.sender.try_send(Err(why.clone())).ok();
            }
            reader.sender.close();
        }
    }

    /// Up to where everybody is done.
    fn done(&self, present: Option<FeedPoint>) -> Option<FeedPoint> {
        let of = |reader: &Reader| if reader.is_idle() { present } else { reader.done() };
        self.readers.values().map(of).min_by_key(|point| point.map(|point| point.sequence)).unwrap_or(present)
    }
}

/// Whether whoever has the first pattern gets all of the second.
fn covers(wide: &str, narrow: &str) -> bool {
    wide == "*" || wide.strip_suffix('*').is_some_and(|prefix| narrow.starts_with(prefix))
}

impl Core {
    pub(super) fn subscribe(&mut self, mut reader: Reader, now: Moment) {
        reader.pass(self.inbox.memory.feed);
        let number = reader.number;
        let patterns = reader.patterns.clone();
        self.feeds.readers.insert(number, reader);
        if self.link.is_up() {
            self.say_subscriptions(&patterns, number, now);
        }
    }

    /// Says what is wanted of these patterns.
    fn say_subscriptions(&mut self, patterns: &[Pattern], number: u64, now: Moment) {
        let mut frames: BTreeMap<Vec<ChannelId>, Vec<String>> = BTreeMap::new();
        for (pattern, channels) in self.feeds.wanted() {
            if patterns.iter().any(|asked| asked.as_str() == pattern) {
                frames.entry(channels.into_iter().collect()).or_default().push(pattern.to_owned());
            }
        }
        for (channel_ids, patterns) in frames {
            let event_types = patterns.iter().map(String::as_str).collect();
            let frame = Outbound::Subscribe { event_types, channel_ids: &channel_ids };
            self.say(&frame, now, Pending::Subscribe(number));
        }
    }

    /// The daemon's subscriptions outlive a connection, but not always a store.
    pub(super) fn subscribe_all(&mut self, now: Moment) {
        for (number, patterns) in self.all_patterns() {
            self.say_subscriptions(&patterns, number, now);
        }
    }

    fn all_patterns(&self) -> Vec<(u64, Vec<Pattern>)> {
        self.feeds.readers.iter().map(|(number, reader)| (*number, reader.patterns.clone())).collect()
    }

    pub(super) fn subscribe_again(&mut self, reader: u64, at: Instant) {
        if self.feeds.readers.contains_key(&reader) {
            self.feeds.again = Some(at);
        }
    }

    pub(super) fn retry_subscriptions(&mut self, now: Moment) {
        if self.feeds.again.is_some_and(|at| at <= now.instant) {
            self.feeds.again = None;
            if self.link.is_up() {
                self.subscribe_all(now);
            }
        }
    }

    pub(super) fn subscription_refused(&mut self, reader: u64, refused: Refused) {
        self.actions.events.push(Event::Refused(refused));
        if let Some(reader) = self.feeds.readers.remove(&reader) {
            reader.sender.close();
        }
    }

    pub(super) fn unsubscribe(&mut self, reader: u64, now: Moment) {
        let Some(Reader { patterns, .. }) = self.feeds.readers.remove(&reader) else { return };
        if !self.link.is_up() {
            return;
        }
        let wanted = self.feeds.wanted();
        let (kept, gone): (Vec<Pattern>, Vec<Pattern>) =
            patterns.into_iter().partition(|pattern| wanted.contains_key(pattern.as_str()));
        // To unsubscribe what a wider pattern covers would take it out of that.
        let unwanted = |pattern: &&Pattern| !wanted.keys().any(|wide| covers(wide, pattern.as_str()));
        let gone: Vec<String> = gone.iter().filter(unwanted).map(|pattern| pattern.as_str().to_owned()).collect();
        if !gone.is_empty() {
            let event_types = gone.iter().map(String::as_str).collect();
            self.say(&Outbound::Unsubscribe { event_types }, now, Pending::Other("unsubscribe"));
        }
        self.say_subscriptions(&kept, reader, now);
    }

    pub(super) fn feed_event(&mut self, item: FeedItem) {
        let point = FeedPoint { epoch: Some(item.position.epoch), sequence: item.position.sequence };
        if !self.inbox.memory.passes(item.position) {
            self.watch.statistics.duplicates_filtered += 1;
            return;
        }
        let mut abandoned = Vec::new();
        let mut slow = false;
        for (number, reader) in &mut self.feeds.readers {
            let is_known = reader.last.is_some_and(|last| last.epoch == point.epoch && last.sequence >= point.sequence);
            if reader.progress.behind.load(Ordering::Acquire) || is_known {
                continue;
            }
            if !reader.wants(&item) {
                if reader.is_idle() {
                    reader.pass(Some(point));
                }
                continue;
            }
            match reader.offer(FeedNews::Event(item.clone())) {
                Offer::Taken => {
                    reader.last = Some(point);
                    self.watch.statistics.events_received += 1;
                }
                Offer::Behind => slow = true,
                Offer::Abandoned => abandoned.push(*number),
            }
        }
        for number in abandoned {
            self.feeds.readers.remove(&number);
        }
        if slow {
            self.actions.events.push(Event::SlowConsumer);
        }
    }

    /// The gateway says that nothing up to here is missing.
    pub(super) fn feed_is_at(&mut self, point: FeedPoint) {
        let memory = &mut self.inbox.memory;
        let is_ahead = memory.feed.is_none_or(|feed| feed.epoch != point.epoch || feed.sequence < point.sequence);
        let nobody_behind = self.feeds.readers.values().all(|reader| !reader.progress.behind.load(Ordering::Acquire));
        if is_ahead && nobody_behind {
            memory.feed = Some(point);
        }
    }

    /// A slow reader has room again: the feed is read from where it is.
    pub(super) fn resync(&mut self, reader: u64) {
        let Some(reader) = self.feeds.readers.get(&reader) else { return };
        if !reader.progress.behind.swap(false, Ordering::SeqCst) {
            return;
        }
        // Another slow reader may have asked for more.
        let feed = &mut self.inbox.memory.feed;
        let is_further =
            |now: FeedPoint| reader.last.is_some_and(|last| now.epoch == last.epoch && now.sequence < last.sequence);
        if !feed.is_some_and(is_further) {
            *feed = reader.last;
        }
        // A login that is under way has told another position.
        if !self.link.is_down() {
            self.hang_up(Disconnect::Resync);
        }
    }

    /// Writes down how far events have been processed.
    pub(super) fn note_progress(&mut self) {
        if !self.keeps_state || self.feeds.readers.is_empty() {
            return;
        }
        let done = self.feeds.done(self.inbox.memory.feed);
        if let Some(point) = done.filter(|_| done != self.feeds.noted) {
            self.feeds.noted = done;
            self.actions.records.push(Record::Feed(point));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_patterns_cover_narrow_ones() {
        for (wide, narrow, expected) in [
            ("*", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.*", true),
            ("a.*", "ab.c", false),
            ("a.b", "a.b", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
        }
    }
}
