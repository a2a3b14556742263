//! From hints and reads to frames (rules 3 and 4).

use std::time::Instant;

use waystation_domain::{Entry, Lane, PerLane, Position};

use super::{CallFailed, Command, EARLY, EARLY_FOR, Note, ReadRequest, ReadResult, Session};
use crate::frame::{EventFrame, ServerFrame};

/// A read brings at most so many entries and bytes, however large the window is: the first of a long backlog are on
/// their way while the next are read, and no connection holds megabytes.
const PIECE: u32 = 128;
const PIECE_BYTES: u64 = 1 << 20;
/// Epochs of which a connection remembers what it sent.
const EPOCHS: usize = 4;

impl Session {
    /// A pushed entry is sent if it is the next of its lane and fits; else the log is read.
    pub(super) fn take_pushed(&mut self, entry: Entry, now: Instant) {
        let position = entry.position;
        if self.epoch != Some(position.epoch) {
            // The store began another epoch: the activation is asked for anew.
            self.compare_at = now;
            return;
        }
        let lane = &mut self.lanes[position.lane];
        if position.sequence <= lane.sent {
            return;
        }
        let next = position.sequence == lane.sent + 1;
        let silent = self.draining || !self.listening;
        if !next && self.early.len() < EARLY && !silent {
            self.early.insert((position.lane, position.sequence), entry);
            self.early_until.get_or_insert(now + EARLY_FOR);
            return;
        }
        if !next || silent || !self.in_flight.fits(&entry) {
            lane.head = lane.head.max(position.sequence);
            return;
        }
        self.deliver(entry, now);
        self.deliver_early(position.lane, now);
        self.tell_replay();
    }

    /// Sends the early ones that have become the next.
    fn deliver_early(&mut self, lane: Lane, now: Instant) {
        if self.early.is_empty() {
            return;
        }
        loop {
            let sent = self.lanes[lane].sent;
            self.early.retain(|(of, sequence), _| *of != lane || *sequence > sent);
            let key = (lane, sent + 1);
            match self.early.remove(&key) {
                Some(entry) if self.in_flight.fits(&entry) => self.deliver(entry, now),
                Some(_) => self.lanes[lane].head = self.lanes[lane].head.max(sent + 1),
                None => break,
            }
            if self.lanes[lane].sent == sent {
                break;
            }
        }
        if self.early.is_empty() {
            self.early_until = None;
        }
    }

    /// What came early is read instead.
    pub(super) fn give_up_early(&mut self) {
        for (lane, sequence) in std::mem::take(&mut self.early).into_keys() {
            let head = &mut self.lanes[lane].head;
            *head = (*head).max(sequence);
        }
        self.early_until = None;
    }

    fn deliver(&mut self, entry: Entry, now: Instant) {
        let shown_before = self.show(entry.position);
        let lane = &mut self.lanes[entry.position.lane];
        let again = entry.position.sequence <= lane.mark || entry.attempt > 1 || shown_before;
        let redelivered = again || self.epoch != Some(entry.position.epoch);
        lane.sent = lane.sent.max(entry.position.sequence);
        lane.head = lane.head.max(entry.position.sequence);
        self.in_flight.sent(&entry, now);
        self.last_traffic = Some(now);
        self.clock_after_send(now);
        self.send(ServerFrame::Event(EventFrame { entry, redelivered }));
    }

    /// Notes what the client gets to see; answers whether it has got it before on this connection. An activation that
    /// is told once more has the marks of its beginning, and what was sent since is above them.
    fn show(&mut self, position: Position) -> bool {
        let known = self.shown.iter().position(|(epoch, _)| *epoch == position.epoch);
        let index = known.unwrap_or_else(|| {
            if self.shown.len() == EPOCHS {
                self.shown.remove(0);
            }
            self.shown.reserve_exact(1);
            self.shown.push((position.epoch, PerLane::default()));
            self.shown.len() - 1
        });
        let shown = &mut self.shown[index].1[position.lane];
        let before = position.sequence <= *shown;
        *shown = position.sequence.max(*shown);
        before
    }

    pub(super) fn read_next(&mut self) {
        let wanted = self.fence > 0 && self.reading.is_none() && !self.draining && self.listening && !self.closed;
        if !wanted || self.commands.len() >= super::COMMANDS || !self.is_behind() {
            return;
        }
        let request = self.repeat.take().unwrap_or_else(|| {
            self.next_read_id += 1;
            ReadRequest {
                fence: self.fence,
                read_id: self.next_read_id,
                positions: self.lanes.map(|lane| lane.sent),
                exits_position: self.exits.told,
                max_entries: self.in_flight.room(Lane::Normal).min(PIECE),
                max_critical: self.in_flight.room(Lane::Critical).min(PIECE),
                max_bytes: self.in_flight.room_bytes().min(PIECE_BYTES),
                window_empty: self.in_flight.is_empty(),
            }
        });
        self.due = false;
        self.reading = Some(request);
        self.commands.push_back(Command::Read(request));
    }

    /// Whether the log has something that would fit.
    pub(super) fn is_behind(&self) -> bool {
        if self.repeat.is_some() || self.exits.head > self.exits.told {
            return true;
        }
        if self.blocked {
            return false;
        }
        let room = |lane: Lane| self.in_flight.room(lane) > 0 && self.in_flight.room_bytes() > 0;
        self.lanes.iter().any(|(lane, state)| (state.head > state.sent || self.due) && room(lane))
    }

    /// The store has answered a read, or not.
    pub fn handle_read(&mut self, read: Result<ReadResult, CallFailed>, now: Instant) {
        let Some(request) = self.reading.take() else { return };
        match read {
            // Nothing new is sent while draining; the log keeps it.
            Ok(_) if self.draining => {}
            Ok(result) if result.read_id == request.read_id => self.take_read(&request, result, now),
            Ok(_) => self.reading = Some(request),
            Err(CallFailed::Unavailable) => {
                // The very same read again: what it may have found after a nack is found by no other.
                self.repeat = Some(request);
                self.retry_at = Some(now + self.config.retry);
            }
            Err(CallFailed::NotHolder) => {
                self.stand_by();
                self.compare_at = now;
            }
            Err(CallFailed::SessionUnknown) => {
                self.stand_by();
                self.commands.push_back(Command::Reopen);
            }
        }
        self.step(now);
    }

    fn take_read(&mut self, request: &ReadRequest, result: ReadResult, now: Instant) {
        // Nothing fitted; but acks that came while the read was under way may have made room.
        let same_room = self.in_flight.room(Lane::Normal).min(PIECE) <= request.max_entries
            && self.in_flight.room_bytes().min(PIECE_BYTES) <= request.max_bytes
            && !self.in_flight.is_empty();
        self.blocked = result.entries.is_empty() && !request.window_empty && same_room;
        if self.replay.is_some() && !self.replaying && !result.entries.is_empty() {
            self.replaying = true;
            self.commands.push_back(Command::Note(Note::ReplayStarted));
        }
        let told = self.exits.told;
        for gap in result.gaps.into_iter().filter(|gap| gap.position > told) {
            self.in_flight.told_gap(gap.position);
            self.send(ServerFrame::Gap { gap, as_event: !self.profile.knows_gaps });
        }
        self.exits.told = self.exits.told.max(result.exits_position);
        let mut behind = waystation_domain::PerLane::<bool>::default();
        for entry in result.entries {
            let position = entry.position;
            let nacked = position.sequence <= request.positions[position.lane];
            if nacked {
                // What was found after a nack is found once: it is sent even if the window has filled since.
                if !self.in_flight.holds(position) {
                    self.deliver(entry, now);
                }
            } else if position.sequence > self.lanes[position.lane].sent && !behind[position.lane] {
                if self.in_flight.fits(&entry) {
                    self.deliver(entry, now);
                } else {
                    behind[position.lane] = true;
                }
            }
        }
        for (lane, state) in self.lanes.iter_mut() {
            if !behind[lane] {
                state.sent = state.sent.max(result.positions[lane]);
            }
        }
        self.note_heads(&result.heads, now);
        for lane in Lane::ALL {
            self.deliver_early(lane, now);
        }
        self.tell_replay();
    }

    /// Tells a client that knows it that the backlog of the activation has been sent.
    pub(super) fn tell_replay(&mut self) {
        let Some(heads) = self.replay else { return };
        let gaps_wait = self.exits.told < self.exits.head;
        if gaps_wait || self.lanes.iter().any(|(lane, state)| state.sent < heads[lane]) {
            return;
        }
        self.replay = None;
        if let Some(epoch) = self.epoch.filter(|_| self.profile.knows_gaps) {
            self.send(ServerFrame::ReplayComplete { epoch, heads });
        }
        if std::mem::take(&mut self.replaying) {
            self.commands.push_back(Command::Note(Note::ReplayCompleted));
        }
    }
}
