//! A session driven by hand: a clock, hints, answers and frames go in, commands come out.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one command among many")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use waystation_domain::{
    AckRange, Activation, Charge, Entry, Epoch, Gap, Heads, Lane, MessageId, PerLane, Position, ResumeVerdict,
    ScopeSet, Subscriptions, Window,
};

use super::*;
use crate::frame::{ClientFrame, EventFrame, FrameError, Heartbeat, Received};

struct World {
    session: Session,
    now: Instant,
    sent: Vec<ServerFrame>,
    asked: Vec<Command>,
}

const EPOCH: u64 = 0xabc;

fn normal(head: u64) -> PerLane<u64> {
    PerLane::from_fn(|lane| if lane == Lane::Normal { head } else { 0 })
}

fn heads(head: u64) -> Heads {
    Heads { lanes: normal(head), exits: 0, next_due: None }
}

fn activation(fence: u64, mark: u64, head: u64) -> Activation {
    Activation { fence, epoch: Epoch::from_raw(EPOCH), marks: normal(mark), heads: heads(head), gap_mark: 0 }
}

fn entry(sequence: u64) -> Entry {
    let position = Position { epoch: Epoch::from_raw(EPOCH), lane: Lane::Normal, sequence };
    Entry {
        position,
        id: MessageId::composed(position),
        event_type: "message.received".parse().unwrap(),
        channel: None,
        data: Bytes::from_static(b"{}"),
        attempt: 1,
        trace: None,
    }
}

fn opening(activation: Option<Activation>) -> Opening {
    Opening { activation, verdict: ResumeVerdict::Fresh, subscriptions: Subscriptions::default() }
}

impl World {
    fn new(activation: Option<Activation>, window: u32) -> World {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let profile = ClientProfile {
            session: "s1".parse().unwrap(),
            auth_frame: Some("f1".into()),
            window: Window { entries: window, bytes: 1 << 20 },
            resume: None,
            announces_client: true,
            knows_gaps: true,
        };
        let config = SessionConfig::default();
        let session = Session::new(config, profile, opening(activation), ScopeSet::default(), now);
        let mut world = World { session, now, sent: Vec::new(), asked: Vec::new() };
        world.run();
        assert!(matches!(world.sent.remove(0), ServerFrame::AuthSuccess { .. }));
        world
    }

    fn run(&mut self) {
        while let Some(command) = self.session.next_command() {
            match command {
                Command::Send(frame) => self.sent.push(frame),
                other => self.asked.push(other),
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.now);
        }
        self.run();
    }

    fn push(&mut self, fence: u64, hint: Hint) {
        self.session.handle_push(Push { fence, hint }, self.now);
        self.run();
    }

    fn push_entry(&mut self, sequence: u64) {
        self.push(1, Hint::Entry(entry(sequence)));
    }

    fn frame(&mut self, frame: ClientFrame) {
        assert!(self.session.wants_input());
        self.session.handle_frame(Ok(Received { id: Some("f2".into()), frame }), self.now);
        self.run();
    }

    fn ack(&mut self, sequences: impl IntoIterator<Item = u64>) {
        let ids = sequences.into_iter().map(|sequence| entry(sequence).id).collect();
        self.frame(ClientFrame::Ack { ids });
    }

    /// The read that was asked for.
    fn read(&mut self) -> Option<ReadRequest> {
        let index = self.asked.iter().position(|command| matches!(command, Command::Read(_)))?;
        match self.asked.remove(index) {
            Command::Read(read) => Some(read),
            _ => None,
        }
    }

    fn answer_read(&mut self, request: ReadRequest, entries: Vec<Entry>, gaps: Vec<Gap>, head: u64) {
        let last = entries.iter().map(|entry| entry.position.sequence).max();
        let exits_position = gaps.last().map_or(request.exits_position, |gap| gap.position);
        let result = ReadResult {
            read_id: request.read_id,
            gaps,
            exits_position,
            heads: Heads { exits: exits_position, ..heads(head) },
            positions: normal(last.unwrap_or(0).max(request.positions[Lane::Normal])),
            entries,
        };
        self.session.handle_read(Ok(result), self.now);
        self.run();
    }

    fn settle(&mut self) -> Option<SettleRequest> {
        let index = self.asked.iter().position(|command| matches!(command, Command::Settle(_)))?;
        match self.asked.remove(index) {
            Command::Settle(settle) => Some(settle),
            _ => None,
        }
    }

    fn settled(&mut self, head: u64, next_due: Option<Duration>) {
        let answer = SettleAnswer { fenced: false, heads: Heads { next_due, ..heads(head) } };
        self.session.handle_settled(Ok(answer), self.now);
        self.run();
    }

    /// Sequences of the events sent since the last call, with their `redelivered`.
    fn events(&mut self) -> Vec<(u64, bool)> {
        let events = self.sent.extract_if(.., |frame| matches!(frame, ServerFrame::Event(_)));
        let event = |frame| match frame {
            ServerFrame::Event(EventFrame { entry, redelivered }) => Some((entry.position.sequence, redelivered)),
            _ => None,
        };
        events.filter_map(event).collect()
    }

    fn closed(&self) -> Option<CloseCode> {
        self.asked.iter().find_map(|command| match command {
            Command::Close(code) => Some(*code),
            _ => None,
        })
    }
}

fn acked(from: u64, to: u64) -> AckRange {
    AckRange { epoch: Epoch::from_raw(EPOCH), lane: Lane::Normal, from, to }
}

#[test]
fn an_activation_reads_the_log_and_flags_what_may_have_been_delivered() {
    let mut world = World::new(Some(activation(1, 2, 3)), 10);
    let read = world.read().unwrap();
    assert_eq!((read.fence, read.positions, read.max_entries, read.window_empty), (1, normal(0), 10, true));
    world.answer_read(read, (1..=3).map(entry).collect(), Vec::new(), 3);
    assert_eq!(world.events(), [(1, true), (2, true), (3, false)]);
    assert!(matches!(world.sent[..], [ServerFrame::ReplayComplete { .. }]));
    assert!(world.read().is_none());
}

#[test]
fn the_next_push_is_sent_at_once_and_others_are_not() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    world.push_entry(1);
    world.push_entry(1);
    world.push(0, Hint::Entry(entry(2)));
    assert_eq!(world.events(), [(1, false)]);
    assert!(world.read().is_none());
}

#[test]
fn an_early_push_waits_a_moment_for_the_one_before_it() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    world.push_entry(3);
    world.push_entry(2);
    assert!(world.events().is_empty() && world.read().is_none());
    world.push_entry(1);
    assert_eq!(world.events(), [(1, false), (2, false), (3, false)]);
    world.push_entry(5);
    world.pass(EARLY_FOR);
    let read = world.read().unwrap();
    assert_eq!(read.positions, normal(3), "the log is read where the pushes stop");
    world.answer_read(read, vec![entry(4), entry(5)], Vec::new(), 5);
    assert_eq!(world.events(), [(4, false), (5, false)]);
}

#[test]
fn pushes_during_a_read_are_sent_once() {
    let mut world = World::new(Some(activation(1, 0, 1)), 10);
    let read = world.read().unwrap();
    world.push_entry(1);
    world.ack([1]);
    world.answer_read(read, vec![entry(1), entry(2)], Vec::new(), 2);
    assert_eq!(world.events(), [(1, false), (2, false)]);
}

#[test]
fn beyond_the_window_the_log_waits() {
    let mut world = World::new(Some(activation(1, 0, 0)), 2);
    for sequence in 1..=4 {
        world.push_entry(sequence);
    }
    assert_eq!(world.events(), [(1, false), (2, false)]);
    world.pass(EARLY_FOR);
    assert!(world.read().is_none(), "there is no room");
    world.ack([1]);
    let read = world.read().unwrap();
    assert_eq!((read.positions, read.max_entries), (normal(2), 1));
    assert_eq!(world.settle().unwrap().acks, [acked(1, 1)]);
}

#[test]
fn acks_gather_while_one_settlement_is_under_way() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    (1..=4).for_each(|sequence| world.push_entry(sequence));
    world.ack([1]);
    world.ack([2]);
    world.ack([3, 4]);
    assert_eq!(world.settle().unwrap().acks, [acked(1, 1)]);
    assert!(world.settle().is_none());
    world.settled(4, None);
    assert_eq!(world.settle().unwrap().acks, [acked(2, 4)]);
    world.settled(4, None);
    assert!(world.settle().is_none() && !world.session.is_settling());
}

#[test]
fn a_settlement_without_an_answer_is_repeated() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    world.push_entry(1);
    world.push_entry(2);
    world.ack([1]);
    assert!(world.settle().is_some());
    world.ack([2]);
    world.session.handle_settled(Err(CallFailed::Unavailable), world.now);
    world.run();
    assert!(world.settle().is_none(), "not at once");
    world.pass(Duration::from_secs(1));
    assert_eq!(world.settle().unwrap().acks, [acked(1, 1), acked(2, 2)]);
}

#[test]
fn acks_of_an_earlier_connection_go_by_id() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    world.frame(ClientFrame::Ack { ids: vec![MessageId::naming("order-1").unwrap(), MessageId::of_gap(9)] });
    let settle = world.settle().unwrap();
    assert_eq!((settle.ack_ids.len(), settle.gap_mark), (1, 0));
}

#[test]
fn the_clock_charges_the_oldest_and_reads_it_again() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    world.push_entry(1);
    world.push_entry(2);
    world.events();
    world.pass(Duration::from_secs(29));
    assert!(world.settle().is_none());
    world.pass(Duration::from_secs(1));
    let settle = world.settle().unwrap();
    assert_eq!(settle.charges, [Charge { position: entry(1).position, attempt: 1 }]);
    world.settled(2, Some(Duration::ZERO));
    world.pass(Duration::from_millis(1));
    let read = world.read().unwrap();
    assert_eq!(read.positions, normal(2));
    world.answer_read(read, vec![Entry { attempt: 2, ..entry(1) }], Vec::new(), 2);
    assert_eq!(world.events(), [(1, true)]);
    world.ack([1, 2]);
    world.pass(Duration::from_secs(31));
    assert_eq!(world.settle().unwrap().charges, [], "nothing is in flight");
}

#[test]
fn a_due_entry_waits_for_room_without_spinning() {
    let mut world = World::new(Some(activation(1, 0, 0)), 1);
    world.push_entry(1);
    world.push(1, Hint::Heads(Heads { next_due: Some(Duration::from_secs(1)), ..heads(1) }));
    world.pass(Duration::from_secs(1));
    let read = world.read().unwrap();
    let result = ReadResult {
        read_id: read.read_id,
        gaps: Vec::new(),
        exits_position: 0,
        entries: Vec::new(),
        heads: Heads { next_due: Some(Duration::ZERO), ..heads(1) },
        positions: normal(1),
    };
    world.session.handle_read(Ok(result), world.now);
    world.pass(Duration::from_millis(1));
    assert!(world.read().is_none(), "what was due did not fit");
    assert!(world.session.poll_timeout().unwrap() > world.now);
    world.ack([1]);
    assert!(world.read().is_some());
}

#[test]
fn gaps_are_told_before_entries_and_acknowledged_without_a_hole() {
    let mut world = World::new(Some(activation(1, 0, 1)), 10);
    let read = world.read().unwrap();
    let gap = |position| Gap { position, left: None, count: 1 };
    world.answer_read(read, vec![entry(1)], vec![gap(3), gap(5)], 1);
    assert!(matches!(world.sent[..2], [ServerFrame::Gap { .. }, ServerFrame::Gap { .. }]));
    world.frame(ClientFrame::Ack { ids: vec![MessageId::of_gap(5)] });
    assert!(world.settle().is_none(), "the one before is missing");
    world.frame(ClientFrame::Ack { ids: vec![MessageId::of_gap(3)] });
    assert_eq!(world.settle().unwrap().gap_mark, 5);
}

#[test]
fn a_higher_fence_is_the_activation() {
    let mut world = World::new(None, 10);
    assert!(world.read().is_none());
    world.push(7, Hint::Activated(activation(7, 1, 1)));
    let read = world.read().unwrap();
    assert_eq!(read.fence, 7);
    // If the activation is lost, the next hint makes the session ask.
    let mut world = World::new(None, 10);
    world.push(7, Hint::Heads(heads(1)));
    assert!(matches!(world.asked[..], [Command::Compare { .. }]));
    let answer = CompareAnswer { heads: heads(1), activation: Some(activation(7, 1, 1)) };
    world.session.handle_compared(Ok(answer), world.now);
    world.run();
    assert_eq!(world.read().unwrap().fence, 7);
}

#[test]
fn a_session_that_lost_the_role_serves_nothing_more() {
    let mut world = World::new(Some(activation(1, 0, 1)), 10);
    assert!(world.read().is_some());
    world.session.handle_read(Err(CallFailed::NotHolder), world.now);
    world.run();
    world.push_entry(1);
    assert!(world.events().is_empty() && world.read().is_none());
}

#[test]
fn an_ack_during_a_read_that_finds_no_room_makes_the_session_read_again() {
    let mut world = World::new(Some(activation(1, 0, 3)), 2);
    let read = world.read().unwrap();
    world.answer_read(read, vec![entry(1)], Vec::new(), 3);
    let read = world.read().unwrap();
    // The entry that waits is too large beside the first one, which is acknowledged before the answer comes.
    world.ack([1]);
    world.answer_read(read, Vec::new(), Vec::new(), 3);
    assert!(world.read().is_some(), "there is room now");
}

#[test]
fn what_was_sent_on_this_connection_is_flagged_after_the_same_activation_is_told_again() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    world.push_entry(1);
    assert_eq!(world.events(), [(1, false)]);
    // The role is doubted and confirmed; its marks are those of its beginning.
    world.session.handle_compared(Ok(CompareAnswer { heads: heads(1), activation: None }), world.now);
    world.run();
    let answer = CompareAnswer { heads: heads(2), activation: Some(activation(1, 0, 2)) };
    world.session.handle_compared(Ok(answer), world.now);
    world.run();
    let read = world.read().unwrap();
    world.answer_read(read, vec![entry(1), entry(2)], Vec::new(), 2);
    assert_eq!(world.events(), [(1, true), (2, false)]);
}

#[test]
fn what_was_decided_before_a_suspension_does_not_leave_after_it() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    let hint = Hint::Entry(entry(1));
    world.session.handle_push(Push { fence: 1, hint }, world.now);
    world.session.suspend();
    world.run();
    assert_eq!(world.events(), []);
    world.push_entry(2);
    assert_eq!(world.events(), [], "hints of the old activation are not taken any more");
}

#[test]
fn an_unknown_session_is_opened_again() {
    let mut world = World::new(Some(activation(1, 0, 1)), 10);
    world.session.handle_read(Err(CallFailed::SessionUnknown), world.now);
    world.run();
    assert!(world.asked.contains(&Command::Reopen));
    world.asked.clear();
    world.session.handle_reopened(Err(None), world.now);
    world.run();
    assert_eq!((world.closed(), world.asked.len()), (None, 0), "the socket stays");
    world.pass(Duration::from_secs(1));
    assert!(world.asked.contains(&Command::Reopen), "it is tried again");
    world.session.handle_reopened(Ok(opening(Some(activation(2, 1, 1)))), world.now);
    world.run();
    assert_eq!(world.read().unwrap().fence, 2);
    world.session.handle_reopened(Err(Some(Ending::TokenExpired)), world.now);
    world.run();
    assert_eq!(world.closed(), Some(CloseCode::TokenExpired));
}

#[test]
fn a_read_of_unknown_outcome_is_repeated_as_it_was() {
    let mut world = World::new(Some(activation(1, 0, 1)), 10);
    let first = world.read().unwrap();
    world.session.handle_read(Err(CallFailed::Unavailable), world.now);
    world.run();
    world.push_entry(1);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.read().unwrap(), first);
}

#[test]
fn silence_ends_a_session() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    world.pass(Duration::from_secs(60));
    world.session.handle_liveness(world.now);
    world.pass(Duration::from_secs(89));
    assert_eq!(world.closed(), None);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.closed(), Some(CloseCode::HeartbeatTimeout));
}

#[test]
fn heartbeats_are_answered_with_the_heads_and_limited() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    world.frame(ClientFrame::Heartbeat(Heartbeat::default()));
    assert!(!world.session.wants_input(), "later frames wait for the answer");
    let answer = CompareAnswer { heads: heads(0), activation: Some(activation(1, 0, 0)) };
    world.session.handle_compared(Ok(answer), world.now);
    world.run();
    assert!(matches!(&world.sent[..], [.., ServerFrame::HeartbeatAck { heads: Some(_), .. }]));
    world.pass(Duration::from_secs(9));
    world.frame(ClientFrame::Heartbeat(Heartbeat::default()));
    assert!(matches!(&world.sent[..], [.., ServerFrame::RateLimit { action: "heartbeat", .. }]));
    world.pass(Duration::from_secs(1));
    world.frame(ClientFrame::Heartbeat(Heartbeat::default()));
    world.session.handle_compared(Err(CallFailed::Unavailable), world.now);
    world.run();
    assert!(matches!(&world.sent[..], [.., ServerFrame::HeartbeatAck { heads: None, .. }]));
}

#[test]
fn subscriptions_are_answered_once_they_are_stored() {
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    let patterns = vec!["message.*".parse().unwrap()];
    world.frame(ClientFrame::Subscribe { patterns, channels: Default::default() });
    assert!(matches!(&world.asked[..], [Command::Subscribe(wanted)] if wanted.patterns.len() == 1));
    assert!(!world.session.wants_input());
    world.session.handle_subscribed(Ok(()), world.now);
    world.run();
    assert!(matches!(&world.sent[..], [.., ServerFrame::Subscribed { patterns, .. }] if patterns.len() == 1));
    let many = (0..51).map(|n| format!("t{n}").parse().unwrap()).collect();
    world.frame(ClientFrame::Subscribe { patterns: many, channels: Default::default() });
    assert!(
        matches!(&world.sent[..], [.., ServerFrame::Error { field: Some(field), .. }] if field.ends_with("eventTypes"))
    );
}

#[test]
fn malformed_and_refused_frames_have_an_end() {
    let bad = || FrameError { reply_to: None, message: "bad".into(), field: None };
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    for _ in 0..2 {
        world.session.handle_frame(Err(bad()), world.now);
    }
    world.ack([]);
    world.session.handle_frame(Err(bad()), world.now);
    world.run();
    assert_eq!(world.closed(), None, "not in a row");
    for _ in 0..2 {
        world.session.handle_frame(Err(bad()), world.now);
    }
    world.run();
    assert_eq!(world.closed(), Some(CloseCode::ProtocolError));
    let mut world = World::new(Some(activation(1, 0, 0)), 10);
    world.frame(ClientFrame::Heartbeat(Heartbeat::default()));
    world.session.handle_compared(Err(CallFailed::Unavailable), world.now);
    for _ in 0..=SessionConfig::default().refusals {
        world
            .session
            .handle_frame(Ok(Received { id: None, frame: ClientFrame::Heartbeat(Heartbeat::default()) }), world.now);
        world.run();
    }
    assert_eq!(world.closed(), Some(CloseCode::RateLimited));
}

#[test]
fn a_draining_session_is_sent_nothing_new() {
    let mut world = World::new(Some(activation(1, 0, 1)), 10);
    let read = world.read().unwrap();
    world.session.drain(Duration::from_secs(3));
    world.answer_read(read, vec![entry(1)], Vec::new(), 1);
    world.push_entry(1);
    world.push_entry(2);
    assert!(world.events().is_empty());
    assert!(matches!(world.sent[..], [ServerFrame::Reconnect { .. }]));
}
