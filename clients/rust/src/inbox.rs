//! What has been received and applied: each message once, whatever is repeated.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use waystation_domain::{Epoch, FeedPoint, FeedPosition, Lane, MessageId, PerLane, Position, ResumePoint};
use waystation_wire::client::{GapSpan, Mail};

use crate::ranges::Ranges;

/// Most epochs that are remembered; the store remembers as many (delivery, rule 11).
const EPOCHS: usize = 16;

/// What a message is to the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Hand it out.
    New {
        /// It was handed out before by a process that ended before it was settled: it may have been applied.
        in_doubt: bool,
    },
    /// It has been applied: acknowledge it again.
    Applied,
    /// It is being worked on.
    InHand,
    /// The gateway said before that another message stands there.
    Contradiction,
}

/// What survives the process, if a state file is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// By epoch, oldest first.
    epochs: Vec<(Epoch, PerLane<Seen>)>,
    /// Handed out and not settled.
    begun: BTreeMap<(Epoch, Lane, u64), ()>,
    /// Of the feed.
    pub(crate) feed: Option<FeedPoint>,
}

/// What is known of one lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Highest.
    last: u64,
    applied: Ranges,
}

fn key(Position { epoch, lane, sequence }: Position) -> (Epoch, Lane, u64) {
    (epoch, lane, sequence)
}

impl Memory {
    fn of(&mut self, epoch: Epoch) -> &mut PerLane<Seen> {
        let known = self.epochs.iter().position(|(known, _)| *known == epoch);
        let index = known.unwrap_or_else(|| {
            if self.epochs.len() == EPOCHS {
                self.epochs.remove(0);
            }
            self.epochs.push((epoch, PerLane::default()));
            self.epochs.len() - 1
        });
        &mut self.epochs[index].1
    }

    fn known(&self, position: Position) -> Option<&Seen> {
        let lanes = self.epochs.iter().find(|(epoch, _)| *epoch == position.epoch);
        lanes.map(|(_, lanes)| &lanes[position.lane])
    }

    /// It is handed out.
    pub(crate) fn begin(&mut self, position: Position) {
        let seen = &mut self.of(position.epoch)[position.lane];
        seen.last = seen.last.max(position.sequence);
        self.begun.insert(key(position), ());
    }

    /// It was applied, and must never be handed out again.
    pub(crate) fn apply(&mut self, position: Position) {
        self.begun.remove(&key(position));
        let seen = &mut self.of(position.epoch)[position.lane];
        seen.last = seen.last.max(position.sequence);
        seen.applied.insert(position.sequence, position.sequence);
    }

    /// It was given back unapplied.
    pub(crate) fn give_back(&mut self, position: Position) {
        self.begun.remove(&key(position));
    }

    /// These have left the mailbox.
    pub(crate) fn skip(&mut self, GapSpan { epoch, lane, from, to }: GapSpan) {
        if let Some(lane) = lane {
            let seen = &mut self.of(epoch)[lane];
            seen.last = seen.last.max(to);
            // What is worked on may still be settled; it will not come again.
            seen.applied.insert(from, to);
        }
    }

    fn is_applied(&self, position: Position) -> bool {
        self.known(position).is_some_and(|seen| seen.applied.contains(position.sequence))
    }

    /// The highest of each lane in an epoch.
    pub(crate) fn last(&self, epoch: Epoch) -> Option<PerLane<u64>> {
        let lanes = self.epochs.iter().find(|(known, _)| *known == epoch);
        lanes.map(|(_, lanes)| PerLane::from_fn(|lane| lanes[lane].last))
    }

    /// The newest epoch, and what was seen of it.
    pub(crate) fn resume_point(&self) -> Option<ResumePoint> {
        let (epoch, lanes) = self.epochs.last()?;
        Some(ResumePoint { epoch: Some(*epoch), positions: PerLane::from_fn(|lane| lanes[lane].last) })
    }

    /// The gateway says that this epoch is the present one.
    pub(crate) fn enter(&mut self, epoch: Epoch) {
        self.of(epoch);
        if let Some(index) = self.epochs.iter().position(|(known, _)| *known == epoch) {
            let newest = self.epochs.remove(index);
            self.epochs.push(newest);
        }
    }

    /// Whether an event of the feed is new; then it is the last.
    pub(crate) fn passes(&mut self, FeedPosition { epoch, sequence }: FeedPosition) -> bool {
        let is_old = self.feed.is_some_and(|last| last.epoch == Some(epoch) && sequence <= last.sequence);
        if !is_old {
            self.feed = Some(FeedPoint { epoch: Some(epoch), sequence });
        }
        !is_old
    }
}

/// Messages of this process.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) memory: Memory,
    in_hand: HashMap<Position, (MessageId, Instant)>,
}

impl Inbox {
    pub(crate) fn new(memory: Memory) -> Inbox {
        Inbox { memory, in_hand: HashMap::new() }
    }

    /// How many are being worked on.
    pub(crate) fn in_hand(&self) -> usize {
        self.in_hand.len()
    }

    /// The one that has been in hand longest, and since when.
    pub(crate) fn oldest(&self) -> Option<&(MessageId, Instant)> {
        self.in_hand.values().min_by_key(|(_, since)| *since)
    }

    /// Judges a message, and keeps it in hand if it is new.
    pub(crate) fn arrive(&mut self, mail: &Mail, now: Instant) -> Arrival {
        if let Some((id, _)) = self.in_hand.get(&mail.position) {
            return if *id == mail.id { Arrival::InHand } else { Arrival::Contradiction };
        }
        if self.memory.is_applied(mail.position) {
            return Arrival::Applied;
        }
        let in_doubt = self.memory.begun.contains_key(&key(mail.position));
        self.memory.begin(mail.position);
        self.in_hand.insert(mail.position, (mail.id.clone(), now));
        Arrival::New { in_doubt }
    }

    /// It was applied.
    pub(crate) fn apply(&mut self, position: Position) {
        self.in_hand.remove(&position);
        self.memory.apply(position);
    }

    /// It comes again later, or never.
    pub(crate) fn give_back(&mut self, position: Position) {
        self.in_hand.remove(&position);
        self.memory.give_back(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, sequence: u64) -> Position {
        Position { epoch: Epoch::from_raw(epoch), lane: Lane::Normal, sequence }
    }

    fn mail(position: Position, id: &str) -> Mail {
        Mail {
            id: MessageId::naming(id).unwrap(),
            event_type: "message.received".parse().unwrap(),
            data: "{}".into(),
            channel: None,
            sender: None,
            trace: None,
            position,
            attempt: 1,
            redelivered: false,
        }
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    const NEW: Arrival = Arrival::New { in_doubt: false };

    #[test]
    fn each_message_is_handed_out_once() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.arrive(&mail(at(1, 1), "a"), now()), NEW);
        assert_eq!(inbox.arrive(&mail(at(1, 1), "a"), now()), Arrival::InHand);
        inbox.apply(at(1, 1));
        assert_eq!(inbox.arrive(&mail(at(1, 1), "a"), now()), Arrival::Applied);
        assert_eq!(inbox.arrive(&mail(at(2, 1), "b"), now()), NEW, "the sequence of another epoch is another message");
    }

    #[test]
    fn what_was_given_back_is_handed_out_again() {
        let mut inbox = Inbox::default();
        inbox.arrive(&mail(at(1, 1), "a"), now());
        inbox.give_back(at(1, 1));
        assert_eq!(inbox.arrive(&mail(at(1, 1), "a"), now()), NEW);
    }

    #[test]
    fn two_messages_at_one_position_are_a_contradiction() {
        let mut inbox = Inbox::default();
        inbox.arrive(&mail(at(1, 1), "a"), now());
        assert_eq!(inbox.arrive(&mail(at(1, 1), "b"), now()), Arrival::Contradiction);
    }

    #[test]
    fn what_an_ended_process_had_in_hand_is_in_doubt() {
        let mut inbox = Inbox::default();
        inbox.arrive(&mail(at(1, 1), "a"), now());
        inbox.arrive(&mail(at(1, 2), "b"), now());
        inbox.apply(at(1, 1));
        let mut next = Inbox::new(inbox.memory);
        assert_eq!(next.arrive(&mail(at(1, 1), "a"), now()), Arrival::Applied);
        assert_eq!(next.arrive(&mail(at(1, 2), "b"), now()), Arrival::New { in_doubt: true });
        assert_eq!(next.arrive(&mail(at(1, 3), "c"), now()), NEW);
    }

    #[test]
    fn a_client_shows_the_highest_it_has_seen_of_the_present_epoch() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.memory.resume_point(), None);
        inbox.memory.enter(Epoch::from_raw(1));
        inbox.arrive(&mail(at(1, 3), "a"), now());
        inbox.arrive(&mail(at(1, 2), "b"), now());
        let point = |inbox: &Inbox| {
            let point = inbox.memory.resume_point().unwrap();
            (point.epoch.unwrap().as_raw(), point.positions[Lane::Normal])
        };
        assert_eq!(point(&inbox), (1, 3));
        let lane = Some(Lane::Normal);
        inbox.memory.skip(GapSpan { epoch: Epoch::from_raw(1), lane, from: 4, to: 9 });
        assert_eq!(point(&inbox), (1, 9));
        inbox.memory.enter(Epoch::from_raw(2));
        assert_eq!(point(&inbox), (2, 0));
        inbox.arrive(&mail(at(1, 10), "late"), now());
        assert_eq!(point(&inbox), (2, 0), "an older message changes nothing");
    }

    #[test]
    fn events_of_the_feed_pass_once() {
        let mut memory = Memory::default();
        let event = |epoch, sequence| FeedPosition { epoch: Epoch::from_raw(epoch), sequence };
        assert!(memory.passes(event(1, 5)));
        assert!(!memory.passes(event(1, 5)) && !memory.passes(event(1, 4)));
        assert!(memory.passes(event(1, 6)) && memory.passes(event(2, 1)));
    }
}
