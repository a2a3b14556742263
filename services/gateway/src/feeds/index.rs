//! Which subscribers an event is for: it costs the number of those who want it, not of all there are.

use std::collections::{BTreeSet, HashMap};

use waystation_domain::{ChannelId, EventType, Subscriptions};

/// Number of a subscriber.
pub(super) type Slot = usize;

/// Subscribers by what they asked for.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By the text of the pattern.
    patterns: HashMap<String, Takers>,
}

/// Subscribers of one pattern.
#[derive(Debug, Default)]
struct Takers {
    /// Whatever the channel.
    all: BTreeSet<Slot>,
    /// Those who have named channels, for events without one.
    limited: BTreeSet<Slot>,
    by_channel: HashMap<ChannelId, BTreeSet<Slot>>,
}

impl Takers {
    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.limited.is_empty()
    }
}

impl Index {
    pub(super) fn insert(&mut self, slot: Slot, subscriptions: &Subscriptions) {
        for wanted in &subscriptions.patterns {
            let takers = self.patterns.entry(wanted.pattern.as_str().to_owned()).or_default();
            if wanted.channels.is_empty() {
                takers.all.insert(slot);
                continue;
            }
            takers.limited.insert(slot);
            for channel in &wanted.channels {
                takers.by_channel.entry(channel.clone()).or_default().insert(slot);
            }
        }
    }

    pub(super) fn remove(&mut self, slot: Slot, subscriptions: &Subscriptions) {
        for wanted in &subscriptions.patterns {
            let Some(takers) = self.patterns.get_mut(wanted.pattern.as_str()) else { continue };
            takers.all.remove(&slot);
            takers.limited.remove(&slot);
            for channel in &wanted.channels {
                if let Some(slots) = takers.by_channel.get_mut(channel) {
                    slots.remove(&slot);
                    if slots.is_empty() {
                        takers.by_channel.remove(channel);
                    }
                }
            }
            if takers.is_empty() {
                self.patterns.remove(wanted.pattern.as_str());
            }
        }
    }

    /// Calls `found` for each subscriber that a pattern of its own matches; for one with several of them more than once.
    pub(super) fn matching(&self, event_type: &EventType, channel: Option<&ChannelId>, mut found: impl FnMut(Slot)) {
        let name = event_type.as_str();
        let mut look = |pattern: &str| {
            let Some(takers) = self.patterns.get(pattern) else { return };
            takers.all.iter().copied().for_each(&mut found);
            let limited = match channel {
                None => Some(&takers.limited),
                Some(channel) => takers.by_channel.get(channel),
            };
            limited.into_iter().flatten().copied().for_each(&mut found);
        };
        look("*");
        look(name);
        let mut wide = String::with_capacity(name.len() + 1);
        for (dot, _) in name.match_indices('.') {
            wide.clear();
            wide.push_str(&name[..=dot]);
            wide.push('*');
            look(&wide);
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use waystation_domain::Pattern;

    use super::*;

    fn wants(patterns: &[&str], channels: &[&str]) -> Subscriptions {
        let patterns: Vec<Pattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        let channels = channels.iter().map(|text| text.parse().unwrap()).collect();
        Subscriptions::default().subscribe(&patterns, &channels).unwrap()
    }

    fn found(index: &Index, event_type: &str, channel: Option<&str>) -> Vec<Slot> {
        let channel: Option<ChannelId> = channel.map(|text| text.parse().unwrap());
        let mut found = BTreeSet::new();
        index.matching(&event_type.parse().unwrap(), channel.as_ref(), |slot| {
            found.insert(slot);
        });
        found.into_iter().collect()
    }

    /// Every kind of subscription, by slot.
    fn all() -> Vec<Subscriptions> {
        vec![
            wants(&["*"], &[]),
            wants(&["message.received", "message.*"], &[]),
            wants(&["message.*"], &["c1", "c2"]),
            wants(&["a.b.*"], &[]),
            wants(&["a.*"], &["c2"]),
            wants(&["a.b.c"], &[]),
        ]
    }

    #[test]
    fn those_are_found_who_want_the_event() {
        let mut index = Index::default();
        all().iter().enumerate().for_each(|(slot, wanted)| index.insert(slot, wanted));
        assert_eq!(found(&index, "message.received", None), [0, 1, 2]);
        assert_eq!(found(&index, "message.received", Some("c2")), [0, 1, 2]);
        assert_eq!(found(&index, "message.received", Some("c3")), [0, 1]);
        assert_eq!(found(&index, "message", None), [0]);
        assert_eq!(found(&index, "a.b.c", None), [0, 3, 4, 5]);
        assert_eq!(found(&index, "a.b.d", Some("c1")), [0, 3]);
        assert_eq!(found(&index, "a.bc", None), [0, 4]);
    }

    #[test]
    fn the_index_and_the_subscriptions_say_the_same() {
        let mut index = Index::default();
        let all = all();
        all.iter().enumerate().for_each(|(slot, wanted)| index.insert(slot, wanted));
        for event in ["message.received", "message.x", "message", "a.b.c", "a.b.d", "a.c", "b"] {
            for channel in [None, Some("c1"), Some("c2"), Some("c3")] {
                let id: Option<ChannelId> = channel.map(|text| text.parse().unwrap());
                let event_type = event.parse().unwrap();
                let wanting = all.iter().enumerate().filter(|(_, wanted)| wanted.wants(&event_type, id.as_ref()));
                let expected: Vec<Slot> = wanting.map(|(slot, _)| slot).collect();
                assert_eq!(found(&index, event, channel), expected, "{event} {channel:?}");
            }
        }
    }

    #[test]
    fn nothing_is_left_of_those_who_go() {
        let mut index = Index::default();
        all().iter().enumerate().for_each(|(slot, wanted)| index.insert(slot, wanted));
        all().iter().enumerate().for_each(|(slot, wanted)| index.remove(slot, wanted));
        assert!(index.is_empty());
    }
}
