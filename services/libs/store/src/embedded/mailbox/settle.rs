//! Acks, nacks, rejects and charges (rules 6 and 8).

use std::time::Duration;

use waystation_domain::{Lane, MessageId, Position, Timestamp};

use super::exits::DeadLetter;
use super::{Leaving, Mailbox};
use crate::limits;
use crate::mailbox::{AckRange, ExitReason, MessageRef, MessageState, Settled, Settlement};

/// Why a message is dead when nobody said.
const ATTEMPTS_USED_UP: &str = "attempts used up";

impl Mailbox {
    pub(in crate::embedded) fn settle(&mut self, settlement: &Settlement, now: Timestamp) -> Settled {
        let before = self.counters;
        let mut took = Vec::new();
        for ack in &settlement.acks {
            self.acknowledge_range(*ack, now, &mut took);
        }
        for id in &settlement.ack_ids {
            self.acknowledge_id(id, now, &mut took);
        }
        if settlement.gap_mark <= self.exits.head() {
            self.gap_mark = self.gap_mark.max(settlement.gap_mark);
        }
        let fenced = self.check_fence(&settlement.session, settlement.fence).is_err();
        if !fenced {
            for nack in &settlement.nacks {
                self.end_attempt(nack.position, nack.attempt, nack.delay, now);
            }
            for charge in &settlement.charges {
                self.end_attempt(charge.position, charge.attempt, Duration::ZERO, now);
            }
            for reject in &settlement.rejects {
                if self.was_sent(reject.position) && self.resident(reject.position).is_some() {
                    self.bury(reject.position, &reject.reason, now);
                }
            }
        }
        let confirmed = settlement.confirm.iter().map(|which| self.is_acknowledged(which));
        Settled {
            acknowledged: self.counters.acknowledged - before.acknowledged,
            took,
            dead: self.counters.dead - before.dead,
            fenced,
            heads: self.heads(now),
            confirmed: confirmed.collect(),
        }
    }

    fn is_acknowledged(&self, which: &MessageRef) -> bool {
        let state = match which {
            MessageRef::Position(position) => self.state(*position),
            MessageRef::Id(id) => self.message(id).state,
        };
        state == MessageState::Acknowledged
    }

    fn was_sent(&self, position: Position) -> bool {
        position.sequence <= self.lanes[position.lane].sent
    }

    fn acknowledge_range(&mut self, ack: AckRange, now: Timestamp, took: &mut Vec<Duration>) {
        let AckRange { epoch, lane, from, to } = ack;
        let to = to.min(self.lanes[lane].sent);
        if from > to {
            return;
        }
        let sequences: Vec<u64> = self.lanes[lane].entries.range(from..=to).map(|(sequence, _)| *sequence).collect();
        for sequence in sequences {
            if self.owner(lane, sequence) == Some(epoch) {
                let entry = self.remove(lane, sequence, Leaving::Acknowledged, now);
                took.extend(entry.map(|entry| now.since(entry.accepted)));
            }
        }
    }

    fn acknowledge_id(&mut self, id: &MessageId, now: Timestamp, took: &mut Vec<Duration>) {
        let named = self.ids.get(id).map(|known| (known.lane, known.sequence, None));
        let composed = || id.position().map(|p| (p.lane, p.sequence, Some(p.epoch)));
        let Some((lane, sequence, epoch)) = named.or_else(composed) else { return };
        let owner = self.owner(lane, sequence);
        let owned = epoch.is_none() || epoch == owner;
        if owned && sequence <= self.lanes[lane].sent {
            let entry = self.remove(lane, sequence, Leaving::Acknowledged, now);
            took.extend(entry.map(|entry| now.since(entry.accepted)));
        }
    }

    /// Charges an attempt; the entry is sent again after the delay, or buried if it was the last.
    fn end_attempt(&mut self, position: Position, attempt: u32, delay: Duration, now: Timestamp) {
        let sent = self.was_sent(position);
        let Some(entry) = self.resident(position) else { return };
        if !sent || entry.attempt != attempt || self.nacked.contains_key(&(position.lane, position.sequence)) {
            return;
        }
        if attempt >= limits::ATTEMPTS {
            return self.bury(position, ATTEMPTS_USED_UP, now);
        }
        let time = now.after(delay.min(limits::NACK_DELAY));
        if let Some(entry) = self.lanes[position.lane].entries.get_mut(&position.sequence) {
            entry.attempt += 1;
        }
        self.taken.remove(&(position.lane, position.sequence));
        self.nacked.insert((position.lane, position.sequence), time);
        self.due_by(time);
    }

    /// Rule 8: what the last holder may have died of is charged when another one takes over.
    pub(super) fn charge_oldest(&mut self, now: Timestamp) {
        for lane in Lane::ALL {
            let sent = self.lanes[lane].sent;
            let waits = |sequence: u64| self.nacked.contains_key(&(lane, sequence));
            let oldest = self.lanes[lane].entries.range(..=sent).find(|(sequence, _)| !waits(**sequence));
            let Some((&sequence, entry)) = oldest else { continue };
            if entry.attempt >= limits::ATTEMPTS {
                if let Some(position) = self.position(lane, sequence) {
                    self.bury(position, ATTEMPTS_USED_UP, now);
                }
            } else if let Some(entry) = self.lanes[lane].entries.get_mut(&sequence) {
                entry.attempt += 1;
            }
        }
    }

    fn bury(&mut self, position: Position, reason: &str, now: Timestamp) {
        let Some(entry) = self.entry(position.lane, position.sequence) else { return };
        self.remove(position.lane, position.sequence, Leaving::Exit(ExitReason::Dead), now);
        self.dead.push(DeadLetter::new(entry, reason, now), now);
        self.due_by(now);
    }

    /// Removes every entry, in flight or not.
    pub(in crate::embedded) fn purge(&mut self, now: Timestamp) -> u64 {
        let mut purged = 0;
        for lane in Lane::ALL {
            let sequences: Vec<u64> = self.lanes[lane].entries.keys().copied().collect();
            for sequence in sequences {
                self.remove(lane, sequence, Leaving::Exit(ExitReason::Purged), now);
                purged += 1;
            }
        }
        purged
    }
}
