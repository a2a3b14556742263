//! Reading the log (rule 4).

use waystation_domain::{Lane, MessageId, PerLane, Timestamp};

use super::Mailbox;
use crate::mailbox::{Entry, ReadAnswer, ReadMailbox, Refused};

/// What still fits.
struct Budget<'a> {
    read: &'a ReadMailbox,
    entries: usize,
    bytes: u64,
}

impl Budget<'_> {
    fn takes(&mut self, lane: Lane, size: u64) -> bool {
        let most = if lane == Lane::Critical { self.read.max_critical } else { self.read.max_entries };
        let alone = self.read.window_empty && self.entries == 0;
        let fits = alone || self.entries < most && self.bytes + size <= self.read.max_bytes;
        if fits {
            self.entries += 1;
            self.bytes += size;
        }
        fits
    }
}

impl Mailbox {
    pub(in crate::embedded) fn read(&mut self, read: &ReadMailbox, now: Timestamp) -> Result<ReadAnswer, Refused> {
        self.check_fence(&read.session, read.fence)?;
        self.expire(now);
        let epoch = self.epoch().ok_or(Refused::SessionUnknown)?;
        let mut budget = Budget { read, entries: 0, bytes: 0 };
        let mut positions = PerLane::from_fn(|lane| read.positions[lane].min(self.lanes[lane].head));
        let mut found = Vec::new();
        if self.find_nacked(&mut budget, &positions, now, &mut found) {
            self.find_following(&mut budget, &mut positions, now, &mut found);
        }
        for &(lane, sequence) in &found {
            let log = &mut self.lanes[lane];
            log.sent = log.sent.max(sequence);
            if self.nacked.remove(&(lane, sequence)).is_some() {
                self.taken.insert((lane, sequence), (read.fence, read.read_id));
            }
        }
        let entries = found.iter().filter_map(|&(lane, sequence)| self.entry(lane, sequence)).collect();
        let gaps = self.gaps_after(read.exits_position.max(self.gap_mark));
        let exits_position = self.exits.head();
        Ok(ReadAnswer { gaps, exits_position, entries, heads: self.heads(now), positions, epoch })
    }

    /// Entries at or below the position that were nacked and are due. Answers whether all fitted.
    fn find_nacked(
        &self,
        budget: &mut Budget<'_>,
        positions: &PerLane<u64>,
        now: Timestamp,
        found: &mut Vec<(Lane, u64)>,
    ) -> bool {
        let this_read = (budget.read.fence, budget.read.read_id);
        let due = self.nacked.iter().filter(|(_, time)| **time <= now).map(|(at, _)| *at);
        let again = self.taken.iter().filter(|(_, read)| **read == this_read).map(|(at, _)| *at);
        let mut nacked: Vec<(Lane, u64)> = due.chain(again).filter(|(lane, seq)| *seq <= positions[*lane]).collect();
        nacked.sort_unstable();
        for (lane, sequence) in nacked {
            let Some(entry) = self.lanes[lane].entries.get(&sequence) else { continue };
            if !budget.takes(lane, entry.data.len() as u64) {
                return false;
            }
            found.push((lane, sequence));
        }
        true
    }

    /// What follows the position, in weighted rounds.
    fn find_following(
        &self,
        budget: &mut Budget<'_>,
        positions: &mut PerLane<u64>,
        now: Timestamp,
        found: &mut Vec<(Lane, u64)>,
    ) {
        let ready = |lane: Lane, sequence: u64| self.nacked.get(&(lane, sequence)).is_none_or(|time| *time <= now);
        let mut following = PerLane::from_fn(|lane| {
            let after = self.lanes[lane].entries.range(positions[lane] + 1..);
            after.filter(move |(sequence, _)| ready(lane, **sequence)).peekable()
        });
        loop {
            let before = found.len();
            for (lane, entries) in following.iter_mut() {
                for _ in 0..lane.weight() {
                    let Some(&(&sequence, entry)) = entries.peek() else {
                        positions[lane] = self.lanes[lane].head;
                        break;
                    };
                    if !budget.takes(lane, entry.data.len() as u64) {
                        return;
                    }
                    found.push((lane, sequence));
                    positions[lane] = sequence;
                    entries.next();
                }
            }
            if found.len() == before {
                return;
            }
        }
    }

    pub(super) fn entry(&self, lane: Lane, sequence: u64) -> Option<Entry> {
        let resident = self.lanes[lane].entries.get(&sequence)?;
        let position = self.position(lane, sequence)?;
        Some(Entry {
            position,
            id: resident.id.clone().unwrap_or_else(|| MessageId::composed(position)),
            event_type: resident.event_type.clone(),
            channel: resident.channel.clone(),
            data: resident.data.clone(),
            attempt: resident.attempt,
            trace: resident.trace.clone(),
            sender: resident.sender.clone(),
            accepted: resident.accepted,
        })
    }
}
