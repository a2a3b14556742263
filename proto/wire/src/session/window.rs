//! What has been sent and not acknowledged (rule 5).

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use waystation_domain::{Entry, Lane, MessageId, PerLane, Position, Window};

#[derive(Debug)]
pub(super) struct InFlight {
    window: Window,
    lanes: PerLane<BTreeMap<u64, Held>>,
    /// Entries whose id does not name their position.
    by_id: HashMap<MessageId, (Lane, u64)>,
    /// Gaps told, by their position; true: acknowledged, but not all before.
    gaps: BTreeMap<u64, bool>,
    count: usize,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) position: Position,
    pub(super) attempt: u32,
    /// When it was sent.
    pub(super) since: Instant,
    id: Option<MessageId>,
    bytes: u64,
}

impl Held {
    fn id(&self) -> MessageId {
        self.id.clone().unwrap_or_else(|| MessageId::composed(self.position))
    }
}

/// What an id of an ack stands for.
#[derive(Debug, PartialEq)]
pub(super) enum Acked {
    /// An entry sent on this connection, and when.
    Entry(Position, Instant),
    /// Gaps up to here are now acknowledged without a hole.
    Gaps(u64),
    /// A gap, but not the next one.
    Gap,
    /// A gap that was not told on this connection.
    UnknownGap,
    /// Not sent on this connection.
    Elsewhere,
}

impl InFlight {
    pub(super) fn new(window: Window) -> InFlight {
        InFlight { window, lanes: PerLane::default(), by_id: HashMap::new(), gaps: BTreeMap::new(), count: 0, bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Entries of a lane that still fit.
    pub(super) fn room(&self, lane: Lane) -> u32 {
        let extra = if lane == Lane::Critical { Window::CRITICAL_EXTRA } else { 0 };
        let count = u32::try_from(self.count).unwrap_or(u32::MAX);
        (self.window.entries + extra).saturating_sub(count)
    }

    pub(super) fn room_bytes(&self) -> u64 {
        self.window.bytes.saturating_sub(self.bytes)
    }

    pub(super) fn fits(&self, entry: &Entry) -> bool {
        let size = entry.data.len() as u64;
        self.is_empty() || self.room(entry.position.lane) > 0 && size <= self.room_bytes()
    }

    pub(super) fn holds(&self, position: Position) -> bool {
        self.lanes[position.lane].contains_key(&position.sequence)
    }

    pub(super) fn sent(&mut self, entry: &Entry, now: Instant) {
        let position = entry.position;
        let id = (entry.id.position() != Some(position)).then(|| entry.id.clone());
        if let Some(id) = &id {
            self.by_id.insert(id.clone(), (position.lane, position.sequence));
        }
        let bytes = entry.data.len() as u64;
        let held = Held { position, attempt: entry.attempt, since: now, id, bytes };
        if self.lanes[position.lane].insert(position.sequence, held).is_none() {
            self.count += 1;
            self.bytes += bytes;
        }
    }

    pub(super) fn told_gap(&mut self, position: u64) {
        if self.gaps.insert(position, false).is_none() {
            self.count += 1;
        }
    }

    pub(super) fn release(&mut self, lane: Lane, sequence: u64) -> Option<Held> {
        let held = self.lanes[lane].remove(&sequence)?;
        self.count -= 1;
        self.bytes -= held.bytes;
        if let Some(id) = &held.id {
            self.by_id.remove(id);
        }
        Some(held)
    }

    /// Where the entry of an id stands, if it is in flight here.
    pub(super) fn find(&self, id: &MessageId) -> Option<Position> {
        let of_caller = self.by_id.get(id).map(|(lane, sequence)| (*lane, *sequence));
        let (lane, sequence) = of_caller.or_else(|| id.position().map(|named| (named.lane, named.sequence)))?;
        let sent = self.lanes[lane].get(&sequence)?.position;
        // A composed id of another epoch is not what was sent here.
        (of_caller.is_some() || id.position() == Some(sent)).then_some(sent)
    }

    /// Lets go of the entry of an id.
    pub(super) fn take(&mut self, id: &MessageId) -> Option<Held> {
        let Position { lane, sequence, .. } = self.find(id)?;
        self.release(lane, sequence)
    }

    /// Lets go of what is in flight of a lane up to a sequence, in its order.
    pub(super) fn take_up_to(&mut self, lane: Lane, sequence: u64) -> Vec<(MessageId, Held)> {
        let sequences: Vec<u64> = self.lanes[lane].range(..=sequence).map(|(sequence, _)| *sequence).collect();
        let held = sequences.into_iter().filter_map(|sequence| self.release(lane, sequence));
        held.map(|held| (held.id(), held)).collect()
    }

    /// Takes an ack of one id.
    pub(super) fn acknowledge(&mut self, id: &MessageId) -> Acked {
        if let Some(gap) = id.gap() {
            return self.acknowledge_gap(gap);
        }
        self.take(id).map_or(Acked::Elsewhere, |held| Acked::Entry(held.position, held.since))
    }

    fn acknowledge_gap(&mut self, position: u64) -> Acked {
        match self.gaps.get_mut(&position) {
            None => return Acked::UnknownGap,
            Some(acknowledged) if *acknowledged => return Acked::Gap,
            Some(acknowledged) => *acknowledged = true,
        }
        self.count -= 1;
        let mut mark = None;
        while let Some(first) = self.gaps.first_entry() {
            if !*first.get() {
                break;
            }
            mark = Some(*first.key());
            first.remove();
        }
        mark.map_or(Acked::Gap, Acked::Gaps)
    }

    /// The oldest unacknowledged entry of each lane.
    pub(super) fn oldest(&self) -> PerLane<Option<Position>> {
        self.lanes.map(|lane| lane.first_key_value().map(|(_, held)| held.position))
    }
}

/// Since when an entry is the oldest of its lane.
pub(super) type OldestSince = PerLane<Option<(Position, Instant)>>;
