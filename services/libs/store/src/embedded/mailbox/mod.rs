//! One mailbox: the literal model of the delivery rules.
//!
//! **Invariants:** no clock, no randomness, no I/O: the same operations in the same order give the
//! same answers, which is how the journal is replayed. Nothing leaves [`Mailbox::lanes`] but through
//! [`Mailbox::remove`], which counts it.

mod append;
mod exits;
mod expiry;
mod ids;
mod news;
mod read;
mod sessions;
mod settle;
mod view;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_domain::{
    ChannelId, Epoch, EventType, Lane, MessageId, OrchestratorId, PerLane, Position, Timestamp, TraceParent,
};

use crate::limits;
use crate::mailbox::{Counters, ExitReason, Heads};
use exits::{DeadLetters, Exits};
use ids::Ids;
use sessions::{LastHolder, Reservation, Sessions};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Mailbox {
    epochs: VecDeque<EpochStart>,
    lanes: PerLane<LaneLog>,
    count: usize,
    bytes: u64,
    /// Entries that wait out a nack, or that no read has found since.
    nacked: BTreeMap<(Lane, u64), Timestamp>,
    /// Entries that a read found after a nack: its fence and read id.
    taken: BTreeMap<(Lane, u64), (u64, u64)>,
    counters: Counters,
    ids: Ids,
    exits: Exits,
    dead: DeadLetters,
    /// Gaps up to here have been acknowledged.
    gap_mark: u64,
    sessions: Sessions,
    /// Sent marks as the present activation found them.
    marks: PerLane<u64>,
    last_holder: Option<LastHolder>,
    reservation: Option<Reservation>,
    /// When a sweep should look at this mailbox; `None`: nothing is due.
    due: Option<Timestamp>,
    told: news::Told,
}

/// An epoch and the first sequences that it owns.
#[derive(Debug, Serialize, Deserialize)]
struct EpochStart {
    epoch: Epoch,
    first: PerLane<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct LaneLog {
    /// Last sequence given.
    head: u64,
    /// Entries at or below may have been delivered.
    sent: u64,
    /// Resident ones.
    entries: BTreeMap<u64, Resident>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Resident {
    /// The caller's; `None`: composed.
    id: Option<MessageId>,
    event_type: EventType,
    channel: Option<ChannelId>,
    trace: Option<TraceParent>,
    sender: Option<OrchestratorId>,
    data: Bytes,
    accepted: Timestamp,
    expires: Timestamp,
    attempt: u32,
}

/// Why an entry goes.
#[derive(Clone, Copy)]
enum Leaving {
    Acknowledged,
    Exit(ExitReason),
}

impl Mailbox {
    /// When a sweep should look at it.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    fn due_by(&mut self, time: Timestamp) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }

    /// Rule 11: begins an epoch if the store is not the one that was seen last.
    fn ensure_epoch(&mut self, generation: Epoch) {
        if self.epochs.back().is_some_and(|last| last.epoch == generation) {
            return;
        }
        let first = self.lanes.map(|lane| lane.head + 1);
        self.epochs.push_back(EpochStart { epoch: generation, first });
        if self.epochs.len() > limits::EPOCHS {
            self.epochs.pop_front();
        }
    }

    fn epoch(&self) -> Option<Epoch> {
        self.epochs.back().map(|last| last.epoch)
    }

    /// The epoch that owns a sequence. What is older than all that are remembered belongs to the oldest.
    fn owner(&self, lane: Lane, sequence: u64) -> Option<Epoch> {
        let owner = self.epochs.iter().rev().find(|start| start.first[lane] <= sequence);
        owner.or(self.epochs.front()).map(|start| start.epoch)
    }

    /// The last sequence that an epoch owns, if it is remembered.
    fn last_owned(&self, epoch: Epoch, lane: Lane) -> Option<u64> {
        let index = self.epochs.iter().position(|start| start.epoch == epoch)?;
        Some(self.epochs.get(index + 1).map_or(self.lanes[lane].head, |next| next.first[lane] - 1))
    }

    fn position(&self, lane: Lane, sequence: u64) -> Option<Position> {
        self.owner(lane, sequence).map(|epoch| Position { epoch, lane, sequence })
    }

    /// The entry at a position, if that epoch owns the sequence.
    fn resident(&self, position: Position) -> Option<&Resident> {
        let owned = self.owner(position.lane, position.sequence) == Some(position.epoch);
        self.lanes[position.lane].entries.get(&position.sequence).filter(|_| owned)
    }

    fn in_flight(&self, lane: Lane, sequence: u64) -> bool {
        let sent = sequence <= self.lanes[lane].sent && !self.nacked.contains_key(&(lane, sequence));
        sent && self.sessions.holder().is_some()
    }

    fn heads(&self, now: Timestamp) -> Heads {
        let next_due = self.nacked.values().min();
        Heads {
            lanes: self.lanes.map(|lane| lane.head),
            exits: self.exits.head(),
            next_due: next_due.map(|due| due.since(now)),
        }
    }

    /// The only way out of a lane.
    fn remove(&mut self, lane: Lane, sequence: u64, leaving: Leaving, now: Timestamp) -> Option<Resident> {
        let entry = self.lanes[lane].entries.remove(&sequence)?;
        self.count -= 1;
        self.bytes -= entry.data.len() as u64;
        self.nacked.remove(&(lane, sequence));
        self.taken.remove(&(lane, sequence));
        match leaving {
            Leaving::Acknowledged => self.counters.acknowledged += 1,
            Leaving::Exit(reason) => {
                *match reason {
                    ExitReason::Expired => &mut self.counters.expired,
                    ExitReason::Dead => &mut self.counters.dead,
                    ExitReason::Overflowed => &mut self.counters.overflowed,
                    ExitReason::Purged => &mut self.counters.purged,
                } += 1;
                self.exits.push(lane, sequence, reason, now);
            }
        }
        if let Some(id) = &entry.id {
            self.ids.settled(id, now);
        }
        Some(entry)
    }
}
