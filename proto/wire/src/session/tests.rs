//! A session driven by hand: a clock, hints, answers and frames go in, commands come out.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one command among many")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use waystation_domain::{
    AckRange, Activation, Charge, Entry, Epoch, Gap, Heads, Lane, MessageId, MessageRef, Nack, PerLane, Position,
    Reject, ResumeVerdict, Scope, Subscriptions, Timestamp, Window,
};

use super::*;
use crate::frame::{
    Ack, AckStatus, Addressee, ClientFrame, ErrorCode, EventFrame, FrameError, Heartbeat, Outgoing, Received, Sent,
};

mod feed;
mod tasks;

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
        sender: None,
        accepted: Timestamp::default(),
    }
}

fn ack_of(ids: Vec<MessageId>) -> ClientFrame {
    ClientFrame::Ack(Ack { ids, ..Ack::default() })
}

fn opening(activation: Option<Activation>) -> Opening {
    let allowance = Allowance { window: Window::default(), messages: None, messages_announced: None };
    let (verdict, subscriptions) = (ResumeVerdict::Fresh, Subscriptions::default());
    Opening { activation, verdict, subscriptions, allowance, feed_head: None }
}

impl World {
    fn new(activation: Option<Activation>, window: u32) -> World {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let profile = ClientProfile {
            session: "s1".parse().unwrap(),
            auth_frame: Some("f1".into()),
            resume: None,
            resume_feed: None,
            announces_client: true,
            knows_gaps: true,
        };
        let config = SessionConfig::default();
        let mut opening = opening(activation);
        opening.allowance.window.entries = window;
        let scopes = [Scope::MessagesRead, Scope::MessagesWrite, Scope::FederationRead, Scope::FederationWrite];
        let scopes = scopes.into_iter().collect();
        let session = Session::new(config, profile, opening, scopes, now);
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
        self.frame(ack_of(ids));
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
        let answer = SettleAnswer { fenced: false, heads: Heads { next_due, ..heads(head) }, confirmed: Vec::new() };
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
    world.frame(ack_of(vec![MessageId::naming("order-1").unwrap(), MessageId::of_gap(9)]));
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
    world.frame(ack_of(vec![MessageId::of_gap(5)]));
    assert!(world.settle().is_none(), "the one before is missing");
    world.frame(ack_of(vec![MessageId::of_gap(3)]));
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
    world.session.handle_subscribed(Ok(None), world.now);
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

impl World {
    /// Delivers pushed entries 1 to `count`.
    fn with_pushed(count: u64) -> World {
        let mut world = World::new(Some(activation(1, 0, 0)), 10);
        (1..=count).for_each(|sequence| world.push_entry(sequence));
        world.events();
        world.sent.clear();
        world
    }

    fn confirmed(&mut self, confirmed: Vec<bool>) {
        let answer = SettleAnswer { fenced: false, heads: heads(0), confirmed };
        self.session.handle_settled(Ok(answer), self.now);
        self.run();
    }

    /// Fields of the errors sent since the last call.
    fn errors(&mut self) -> Vec<(ErrorCode, Option<String>)> {
        let errors = self.sent.extract_if(.., |frame| matches!(frame, ServerFrame::Error { .. }));
        let error = |frame| match frame {
            ServerFrame::Error { code, field, .. } => Some((code, field)),
            _ => None,
        };
        errors.filter_map(error).collect()
    }
}

fn up_to(sequence: u64, confirm: bool) -> ClientFrame {
    ClientFrame::Ack(Ack { ids: Vec::new(), up_to: normal(sequence), confirm })
}

fn field(name: &str) -> (ErrorCode, Option<String>) {
    (ErrorCode::InvalidMessage, Some(name.to_owned()))
}

#[test]
fn an_ack_up_to_a_sequence_takes_what_is_in_flight_and_no_more() {
    let mut world = World::with_pushed(4);
    world.ack([2]);
    world.settle().unwrap();
    world.frame(up_to(3, false));
    world.settled(4, None);
    let acks = world.settle().unwrap().acks;
    assert_eq!(acks, [acked(1, 1), acked(3, 3)]);
    world.frame(up_to(5, false));
    assert_eq!(world.errors(), [field("payload.upTo.normal")], "the future is not acknowledged");
    assert!(world.closed().is_none());
}

#[test]
fn what_became_of_acks_is_told_once_the_store_has_them() {
    let mut world = World::with_pushed(3);
    let foreign = MessageId::naming("of-before").unwrap();
    let ids = vec![entry(2).id, foreign.clone(), MessageId::of_gap(7)];
    world.frame(ClientFrame::Ack(Ack { ids: ids.clone(), up_to: normal(1), confirm: true }));
    let asked = world.settle().unwrap();
    let positions = [entry(2).position, entry(1).position].map(MessageRef::Position);
    assert_eq!(asked.confirm, [positions[0].clone(), MessageRef::Id(foreign), positions[1].clone()]);
    // A second one waits for its own settlement, also if that has nothing for the store.
    world.frame(ClientFrame::Ack(Ack { ids: vec![MessageId::of_gap(8)], confirm: true, ..Ack::default() }));
    assert!(world.sent.is_empty());
    world.confirmed(vec![true, false, true]);
    let results = |world: &mut World| match world.sent.remove(0) {
        ServerFrame::AckResult { reply_to, results } => (reply_to, results),
        other => panic!("{other:?}"),
    };
    let (acked, stale) = (AckStatus::Acked, AckStatus::Stale);
    let told = [(ids[0].clone(), acked), (ids[1].clone(), stale), (ids[2].clone(), stale), (entry(1).id, acked)];
    assert_eq!(results(&mut world), (Some("f2".into()), told.to_vec()));
    assert!(world.settle().unwrap().confirm.is_empty());
    world.confirmed(Vec::new());
    assert_eq!(results(&mut world).1, [(MessageId::of_gap(8), stale)]);
}

#[test]
fn an_unanswered_confirmation_is_asked_for_again() {
    let mut world = World::with_pushed(2);
    world.frame(up_to(1, true));
    world.settle().unwrap();
    world.frame(up_to(2, true));
    world.session.handle_settled(Err(CallFailed::Unavailable), world.now);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.settle().unwrap().confirm.len(), 2);
    world.confirmed(vec![true, true]);
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn a_long_backlog_is_read_in_pieces() {
    let mut world = World::new(Some(activation(1, 0, 300)), 1_000);
    for from in [1, 129, 257] {
        let read = world.read().unwrap();
        assert_eq!((read.positions, read.max_entries), (normal(from - 1), 128));
        world.answer_read(read, (from..(from + 128).min(301)).map(entry).collect(), Vec::new(), 300);
    }
    assert_eq!(world.events().len(), 300);
    assert!(world.read().is_none());
}

#[test]
fn a_nacked_entry_leaves_the_window_and_is_read_when_due() {
    let mut world = World::with_pushed(2);
    let delay = Duration::from_secs(5);
    world.frame(ClientFrame::Nack { id: entry(1).id, delay });
    let settlement = world.settle().unwrap();
    assert_eq!(settlement.nacks, [Nack { position: entry(1).position, attempt: 1, delay }]);
    world.settled(2, Some(delay));
    world.pass(Duration::from_secs(4));
    assert!(world.read().is_none());
    world.pass(Duration::from_secs(1));
    let read = world.read().unwrap();
    world.answer_read(read, vec![Entry { attempt: 2, ..entry(1) }], Vec::new(), 2);
    assert_eq!(world.events(), [(1, true)]);
}

#[test]
fn a_rejected_entry_goes_with_its_reason() {
    let mut world = World::with_pushed(1);
    world.frame(ClientFrame::Reject { id: entry(1).id, reason: "cannot parse".into() });
    let rejects = [Reject { position: entry(1).position, reason: "cannot parse".into() }];
    assert_eq!(world.settle().unwrap().rejects, rejects);
}

#[test]
fn only_what_is_in_flight_can_be_nacked_rejected_or_extended() {
    let mut world = World::with_pushed(2);
    world.ack([1]);
    let other_epoch = Position { epoch: Epoch::from_raw(1), ..entry(2).position };
    let ids = [entry(1).id, entry(9).id, MessageId::composed(other_epoch), MessageId::of_gap(1)];
    for id in ids {
        world.frame(ClientFrame::Nack { id: id.clone(), delay: Duration::ZERO });
        world.frame(ClientFrame::Reject { id: id.clone(), reason: "no".into() });
        world.frame(ClientFrame::Extend { id: id.clone() });
        assert_eq!(world.errors(), vec![field("payload.eventId"); 3], "{id}");
    }
    world.settle();
    world.settled(2, None);
    assert!(world.settle().is_none(), "nothing else was settled");
}

#[test]
fn a_nack_of_an_older_activation_is_not_brought_to_the_store() {
    let mut world = World::with_pushed(2);
    world.ack([1]);
    world.settle().unwrap();
    world.frame(ClientFrame::Nack { id: entry(2).id, delay: Duration::ZERO });
    world.push(2, Hint::Activated(activation(2, 2, 2)));
    world.settled(2, None);
    assert!(world.settle().is_none());
}

#[test]
fn who_extends_is_left_to_work() {
    let mut world = World::with_pushed(1);
    // Without it the clock would fire after 30 s of silence, and after 10 minutes in any case.
    for _ in 0..60 {
        world.pass(Duration::from_secs(20));
        world.frame(ClientFrame::Extend { id: entry(1).id });
        assert!(world.settle().is_none());
    }
    world.pass(Duration::from_secs(30));
    assert_eq!(world.settle().unwrap().charges.len(), 1);
}

#[test]
fn extending_another_entry_does_not_save_the_oldest() {
    let mut world = World::with_pushed(2);
    let mut charged = None;
    for seconds in (20..=600).step_by(20) {
        world.pass(Duration::from_secs(20));
        if world.session.wants_input() && charged.is_none() {
            world.frame(ClientFrame::Extend { id: entry(2).id });
        }
        charged = charged.or_else(|| world.settle().map(|settlement| (seconds, settlement.charges[0].position)));
    }
    assert_eq!(charged, Some((600, entry(1).position)));
}

fn outgoing() -> Box<Outgoing> {
    Box::new(Outgoing {
        to: Addressee::Orchestrator("otto".parse().unwrap()),
        event_type: None,
        data: Bytes::from_static(b"{}"),
        lane: Lane::Normal,
        id: None,
        time_to_live: None,
    })
}

#[test]
fn so_many_messages_are_under_way_and_no_more() {
    let mut world = World::new(None, 10);
    for _ in 0..64 {
        world.frame(ClientFrame::Send(outgoing()));
    }
    assert!(!world.session.wants_input());
    let sent = Sent { id: MessageId::naming("m1").unwrap(), status: "QUEUED", sequence: 3 };
    world.session.handle_sent(Some("f7".into()), Ok(sent.clone()), world.now);
    world.run();
    assert_eq!(world.sent, [ServerFrame::SendAck { reply_to: Some("f7".into()), sent }]);
    assert!(world.session.wants_input());
}

#[test]
fn large_messages_fill_the_way_sooner() {
    let mut world = World::new(None, 10);
    let large = || Box::new(Outgoing { data: vec![b' '; 190 << 10].into(), ..*outgoing() });
    for _ in 0..6 {
        world.frame(ClientFrame::Send(large()));
    }
    assert!(!world.session.wants_input());
    let refused =
        SendRefused { code: ErrorCode::RateLimited, message: String::new(), field: None, reason: None, limited: None };
    world.session.handle_sent(None, Err(refused), world.now);
    assert!(world.session.wants_input());
}

#[test]
fn a_client_of_an_organization_that_sends_too_much_is_told_when_to_go_on() {
    let mut world = World::new(None, 10);
    world.frame(ClientFrame::Send(outgoing()));
    let limited = Some((Duration::from_millis(50), 5));
    let refused =
        SendRefused { code: ErrorCode::RateLimited, message: String::new(), field: None, reason: None, limited };
    world.session.handle_sent(Some("f1".into()), Err(refused), world.now);
    world.run();
    let (retry_after, reply_to) = (Duration::from_millis(50), Some("f1".into()));
    assert_eq!(world.sent, [ServerFrame::RateLimit { reply_to, action: "send", retry_after, current: 5, most: 5 }]);
}

#[test]
fn a_plain_client_sends_a_hundred_messages_a_minute() {
    let mut world = World::new(None, 10);
    world.session.messages = RateLimit::new(100, Duration::from_secs(60));
    for _ in 0..101 {
        world.frame(ClientFrame::Send(outgoing()));
        let refused = SendRefused {
            code: ErrorCode::RateLimited,
            message: String::new(),
            field: None,
            reason: None,
            limited: None,
        };
        world.session.handle_sent(None, Err(refused), world.now);
    }
    world.run();
    assert!(matches!(world.sent[100], ServerFrame::RateLimit { action: "send", current: 101, most: 100, .. }));
}

#[test]
fn without_the_scope_nothing_is_sent() {
    let mut world = World::new(None, 10);
    let renewed = Renewed { scopes: [Scope::MessagesRead].into_iter().collect(), expires: Timestamp::default() };
    world.session.handle_refreshed(None, Ok(renewed));
    world.frame(ClientFrame::Send(outgoing()));
    assert_eq!(world.errors(), [(ErrorCode::InsufficientScope, None)]);
    assert!(!world.asked.iter().any(|command| matches!(command, Command::Route { .. })));
}

#[test]
fn a_token_that_is_refused_changes_nothing() {
    let mut world = World::with_pushed(1);
    world.frame(ClientFrame::AuthRefresh { access_token: "t".into() });
    assert!(world.asked.iter().any(|command| matches!(command, Command::Renew { .. })));
    world.session.handle_refreshed(Some("f2".into()), Err("the token has expired"));
    world.run();
    assert_eq!(world.errors(), [(ErrorCode::NotAuthenticated, Some("payload.accessToken".into()))]);
    assert!(world.closed().is_none());
    world.frame(ClientFrame::Send(outgoing()));
    assert!(world.errors().is_empty(), "the old scopes are in force");
}

#[test]
fn goodbye_closes_normally_after_what_was_said_before() {
    let mut world = World::with_pushed(1);
    world.ack([1]);
    world.frame(ClientFrame::Goodbye);
    assert_eq!(world.closed(), Some(CloseCode::Normal));
    assert!(world.session.has_said_goodbye() && world.session.is_settling());
}

#[test]
fn acks_that_the_store_does_not_take_stop_the_reading_of_more() {
    let mut world = World::with_pushed(1);
    world.ack([1]);
    let ids: Vec<MessageId> = (0..4_096).map(|n| MessageId::naming(&format!("m{n}")).unwrap()).collect();
    for _ in 0..4 {
        world.frame(ack_of(ids.clone()));
    }
    assert!(!world.session.wants_input());
    world.settled(1, None);
    assert!(world.session.wants_input());
}

#[test]
fn a_replay_is_noted_when_it_begins_and_ends() {
    let mut world = World::new(Some(activation(1, 0, 2)), 10);
    let read = world.read().unwrap();
    world.answer_read(read, vec![entry(1), entry(2)], Vec::new(), 2);
    let notes: Vec<_> = world.asked.iter().filter(|command| matches!(command, Command::Note(_))).collect();
    assert_eq!(notes, [&Command::Note(Note::ReplayStarted), &Command::Note(Note::ReplayCompleted)]);
    // Nothing waits: nothing begins.
    let world = World::new(Some(activation(1, 0, 0)), 10);
    assert!(!world.asked.iter().any(|command| matches!(command, Command::Note(_))));
}
