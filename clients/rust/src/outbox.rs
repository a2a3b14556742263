//! Messages that the gateway has not accepted yet: bounded, by priority, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use waystation_domain::{Lane, MessageId};

use crate::outgoing::Outgoing;

/// Most messages under way: as many as a gateway reads without an answer (docs/protocol.md, "Send").
const IN_FLIGHT: usize = 64;
/// Most bytes under way, likewise.
const IN_FLIGHT_BYTES: usize = 1 << 20;

type Place = (Lane, u64);

/// One that waits, with what its sender waits on.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    pub(crate) id: MessageId,
    pub(crate) outgoing: Outgoing,
    pub(crate) ticket: T,
    /// Set while it is under way.
    pub(crate) sent: Option<Instant>,
}

/// Messages by lane, then in the order in which they came.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    entries: BTreeMap<Place, Waiting<T>>,
    places: HashMap<MessageId, Place>,
    /// Not under way.
    ready: BTreeSet<Place>,
    count: u64,
    in_flight: usize,
    in_flight_bytes: usize,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Outbox {
            entries: BTreeMap::new(),
            places: HashMap::new(),
            ready: BTreeSet::new(),
            count: 0,
            in_flight: 0,
            in_flight_bytes: 0,
        }
    }
}

impl<T> Outbox<T> {
    /// How many wait, those under way included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Puts one behind those of its lane. Gives it back if one with its id waits already.
    pub(crate) fn push(&mut self, id: MessageId, outgoing: Outgoing, ticket: T) -> Result<(), T> {
        if self.places.contains_key(&id) {
            return Err(ticket);
        }
        self.count += 1;
        let place = (outgoing.lane, self.count);
        self.places.insert(id.clone(), place);
        self.ready.insert(place);
        self.entries.insert(place, Waiting { id, outgoing, ticket, sent: None });
        Ok(())
    }

    /// Takes out the oldest of the lowest lane that is not under way, and not more urgent than `lane`.
    pub(crate) fn displace(&mut self, lane: Lane) -> Option<Waiting<T>> {
        let lowest = self.ready.iter().map(|(lane, _)| *lane).next_back().filter(|lowest| *lowest >= lane)?;
        let place = *self.ready.range((lowest, 0)..).next()?;
        self.remove(place)
    }

    /// The next one to send, if it may be under way beside the others.
    pub(crate) fn next(&mut self, now: Instant) -> Option<&Waiting<T>> {
        let place = *self.ready.first()?;
        let bytes = self.entries.get(&place)?.outgoing.bytes();
        let fits = self.in_flight == 0 || self.in_flight_bytes + bytes <= IN_FLIGHT_BYTES;
        if self.in_flight >= IN_FLIGHT || !fits {
            return None;
        }
        self.ready.remove(&place);
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        let waiting = self.entries.get_mut(&place)?;
        waiting.sent = Some(now);
        Some(waiting)
    }

    /// It is accepted, or never will be.
    pub(crate) fn settle(&mut self, id: &MessageId) -> Option<Waiting<T>> {
        let place = *self.places.get(id)?;
        self.remove(place)
    }

    /// It goes again, before those that came after it.
    pub(crate) fn again(&mut self, id: &MessageId) {
        if let Some(place) = self.places.get(id).copied()
            && let Some(waiting) = self.entries.get_mut(&place)
            && waiting.sent.take().is_some()
        {
            self.in_flight -= 1;
            self.in_flight_bytes -= waiting.outgoing.bytes();
            self.ready.insert(place);
        }
    }

    /// The connection is gone: all go again, in their order.
    pub(crate) fn all_again(&mut self) {
        let (ready, sent) = (&mut self.ready, self.entries.iter_mut().filter(|(_, waiting)| waiting.sent.is_some()));
        for (place, waiting) in sent {
            waiting.sent = None;
            ready.insert(*place);
        }
        (self.in_flight, self.in_flight_bytes) = (0, 0);
    }

    /// When the one was sent that has waited longest for its answer.
    pub(crate) fn oldest_sent(&self) -> Option<Instant> {
        if self.in_flight == 0 {
            return None;
        }
        self.entries.values().filter_map(|waiting| waiting.sent).min()
    }

    pub(crate) fn get_mut(&mut self, id: &MessageId) -> Option<&mut Waiting<T>> {
        self.entries.get_mut(self.places.get(id)?)
    }

    /// All, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting<T>> {
        self.entries.values()
    }

    /// Takes all out.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Waiting<T>> + use<T> {
        std::mem::take(self).entries.into_values()
    }

    fn remove(&mut self, place: Place) -> Option<Waiting<T>> {
        let waiting = self.entries.remove(&place)?;
        self.places.remove(&waiting.id);
        self.ready.remove(&place);
        if waiting.sent.is_some() {
            self.in_flight -= 1;
            self.in_flight_bytes -= waiting.outgoing.bytes();
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn now() -> Instant {
        // A fixed moment: only differences matter.
        use std::sync::LazyLock;
        static START: LazyLock<Instant> = LazyLock::new(|| tokio::time::Instant::now().into_std());
        *START
    }

    fn id(text: &str) -> MessageId {
        MessageId::naming(text).unwrap()
    }

    fn outgoing(lane: Lane, bytes: usize) -> Outgoing {
        Outgoing::to_orchestrator("o", &json!({"x": "x".repeat(bytes)})).unwrap().lane(lane)
    }

    fn outbox(messages: &[(&str, Lane)]) -> Outbox<()> {
        let mut outbox = Outbox::default();
        for (name, lane) in messages {
            outbox.push(id(name), outgoing(*lane, 1), ()).unwrap();
        }
        outbox
    }

    fn sent(outbox: &mut Outbox<()>) -> Vec<String> {
        std::iter::from_fn(|| outbox.next(now()).map(|waiting| waiting.id.to_string())).collect()
    }

    #[test]
    fn the_urgent_go_first_and_each_lane_keeps_its_order() {
        let mut outbox = outbox(&[("a", Lane::Low), ("b", Lane::Normal), ("c", Lane::Critical), ("d", Lane::Normal)]);
        assert_eq!(sent(&mut outbox), ["c", "b", "d", "a"]);
        assert!(outbox.settle(&id("b")).is_some() && outbox.settle(&id("b")).is_none());
        outbox.all_again();
        assert_eq!(sent(&mut outbox), ["c", "d", "a"], "in order again, without what was accepted");
    }

    #[test]
    fn one_that_was_refused_for_now_goes_again_before_the_next() {
        let mut outbox = outbox(&[("a", Lane::Normal), ("b", Lane::Normal)]);
        assert_eq!(outbox.next(now()).unwrap().id, id("a"));
        outbox.again(&id("a"));
        assert_eq!(sent(&mut outbox), ["a", "b"]);
    }

    #[test]
    fn so_many_are_under_way_and_no_more() {
        let mut outbox = Outbox::default();
        for number in 0..100 {
            outbox.push(id(&number.to_string()), outgoing(Lane::Normal, 1), ()).unwrap();
        }
        assert_eq!(sent(&mut outbox).len(), IN_FLIGHT);
        outbox.settle(&id("7"));
        assert_eq!(sent(&mut outbox), ["64"]);
        let mut large = Outbox::default();
        for number in 0..9 {
            large.push(id(&number.to_string()), outgoing(Lane::Normal, 180_000), ()).unwrap();
        }
        assert_eq!(sent(&mut large).len(), 5);
        assert_eq!((large.in_flight, large.len()), (5, 9));
    }

    #[test]
    fn an_id_waits_once() {
        let mut outbox = outbox(&[("a", Lane::Normal)]);
        assert!(outbox.push(id("a"), outgoing(Lane::Low, 1), ()).is_err());
    }

    #[test]
    fn the_oldest_of_the_lowest_lane_makes_room_but_never_for_less() {
        let mut outbox = outbox(&[("a", Lane::High), ("b", Lane::Low), ("c", Lane::Low)]);
        assert_eq!(outbox.displace(Lane::Normal).unwrap().id, id("b"));
        assert_eq!(outbox.displace(Lane::Normal).unwrap().id, id("c"));
        assert!(outbox.displace(Lane::Normal).is_none(), "a more urgent one stays");
        assert_eq!(outbox.displace(Lane::Critical).unwrap().id, id("a"));
    }

    #[test]
    fn the_longest_wait_is_known() {
        let mut outbox = outbox(&[("a", Lane::Normal), ("b", Lane::Normal)]);
        assert_eq!(outbox.oldest_sent(), None);
        outbox.next(now());
        outbox.next(now() + Duration::from_secs(1));
        assert_eq!(outbox.oldest_sent(), Some(now()));
        outbox.settle(&id("a"));
        assert_eq!(outbox.oldest_sent(), Some(now() + Duration::from_secs(1)));
    }
}
