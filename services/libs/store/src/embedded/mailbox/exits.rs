//! What left a mailbox other than by an ack: listed, so that it can be told (rule 13).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_domain::{
    ChannelId, Entry, EventType, Lane, MessageId, OrchestratorId, PerLane, Position, Timestamp, TraceParent,
};

use super::Mailbox;
use crate::limits;
use crate::mailbox::{DeadLetterView, ExitReason, Gap, GapRange};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Exits {
    /// Consecutive positions; the last one is `head`.
    log: VecDeque<Exit>,
    head: u64,
    /// Highest sequence of each lane that was trimmed.
    floor: PerLane<u64>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Exit {
    lane: Lane,
    sequence: u64,
    reason: ExitReason,
    at: Timestamp,
}

impl Exits {
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    pub(super) fn floor(&self, lane: Lane) -> u64 {
        self.floor[lane]
    }

    pub(super) fn push(&mut self, lane: Lane, sequence: u64, reason: ExitReason, now: Timestamp) {
        self.log.push_back(Exit { lane, sequence, reason, at: now });
        self.head += 1;
        self.trim(now);
    }

    pub(super) fn reason(&self, lane: Lane, sequence: u64) -> Option<ExitReason> {
        self.log.iter().find(|exit| exit.lane == lane && exit.sequence == sequence).map(|exit| exit.reason)
    }

    fn trim(&mut self, now: Timestamp) {
        while let Some(oldest) = self.log.front() {
            if self.log.len() <= limits::EXITS && now.since(oldest.at) <= limits::EXITS_AGE {
                return;
            }
            let floor = &mut self.floor[oldest.lane];
            *floor = (*floor).max(oldest.sequence);
            self.log.pop_front();
        }
    }

    /// Exits after a position with their own positions, and how many of them were trimmed.
    fn after(&self, position: u64) -> (u64, impl Iterator<Item = (u64, Exit)>) {
        let first = self.head - self.log.len() as u64 + 1;
        let from = (position + 1).max(first);
        let trimmed = first.saturating_sub(position + 1);
        let skip = usize::try_from(from - first).unwrap_or(usize::MAX);
        (trimmed, (from..).zip(self.log.iter().skip(skip).copied()))
    }
}

impl Mailbox {
    /// Exits after a position, consecutive ones of a lane and reason as one gap.
    pub(super) fn gaps_after(&self, position: u64) -> Vec<Gap> {
        let (trimmed, exits) = self.exits.after(position);
        let mut gaps: Vec<Gap> = Vec::new();
        if trimmed > 0 {
            gaps.push(Gap { position: position + trimmed, left: None, count: trimmed });
        }
        for (position, exit) in exits {
            let Some(epoch) = self.owner(exit.lane, exit.sequence) else { continue };
            let range =
                GapRange { reason: exit.reason, lane: exit.lane, from: exit.sequence, to: exit.sequence, epoch };
            if let Some(last) = gaps.last_mut()
                && let Some(known) = &mut last.left
                && range == (GapRange { from: known.to + 1, to: known.to + 1, ..*known })
            {
                known.to = exit.sequence;
                last.count += 1;
                last.position = position;
            } else {
                gaps.push(Gap { position, left: Some(range), count: 1 });
            }
        }
        gaps
    }
}

/// Messages that could not be processed, with their payload.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct DeadLetters {
    /// By number: those that were dealt with are missing.
    letters: BTreeMap<u64, DeadLetter>,
    /// Number of the last one.
    head: u64,
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DeadLetter {
    position: Position,
    id: MessageId,
    event_type: EventType,
    channel: Option<ChannelId>,
    data: Bytes,
    trace: Option<TraceParent>,
    sender: Option<OrchestratorId>,
    accepted: Timestamp,
    reason: String,
    attempts: u32,
    at: Timestamp,
}

impl DeadLetter {
    pub(super) fn new(entry: Entry, reason: &str, now: Timestamp) -> DeadLetter {
        let Entry { position, id, event_type, channel, data, attempt, trace, sender, accepted } = entry;
        let (reason, attempts, at) = (reason.to_owned(), attempt, now);
        DeadLetter { position, id, event_type, channel, data, trace, sender, accepted, reason, attempts, at }
    }

    fn view(&self, number: u64) -> DeadLetterView {
        let entry = Entry {
            position: self.position,
            id: self.id.clone(),
            event_type: self.event_type.clone(),
            channel: self.channel.clone(),
            data: self.data.clone(),
            attempt: self.attempts,
            trace: self.trace.clone(),
            sender: self.sender.clone(),
            accepted: self.accepted,
        };
        DeadLetterView { number, entry, reason: self.reason.clone(), at: self.at }
    }
}

impl DeadLetters {
    /// Number of the last one.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    pub(super) fn len(&self) -> u64 {
        self.letters.len() as u64
    }

    /// Keeps a letter; the oldest make room.
    pub(super) fn push(&mut self, letter: DeadLetter, now: Timestamp) {
        self.bytes += letter.data.len() as u64;
        self.head += 1;
        self.letters.insert(self.head, letter);
        while let Some((&number, oldest)) = self.letters.first_key_value() {
            let fits = self.letters.len() <= limits::DEAD_LETTERS && self.bytes <= limits::DEAD_LETTER_BYTES;
            if fits && now.since(oldest.at) <= limits::EXITS_AGE {
                return;
            }
            self.forget(number);
        }
    }

    /// Drops a letter; answers whether it was there.
    pub(super) fn forget(&mut self, number: u64) -> bool {
        let letter = self.letters.remove(&number);
        self.bytes -= letter.as_ref().map_or(0, |letter| letter.data.len() as u64);
        letter.is_some()
    }

    pub(super) fn after(&self, number: u64, most: usize) -> Vec<DeadLetterView> {
        let after = self.letters.range(number.saturating_add(1)..);
        after.take(most).map(|(number, letter)| letter.view(*number)).collect()
    }
}
