//! The feed as a session follows it.

use std::sync::Arc;

use waystation_domain::{Audience, FeedEvent, FeedGap, FeedLoss, FeedPoint, FeedPosition};

use super::*;
use crate::{FeedNews, FollowRequest, Followed, SharedEvent};

fn position(sequence: u64) -> FeedPosition {
    FeedPosition { epoch: Epoch::from_raw(EPOCH), sequence }
}

fn point(sequence: u64) -> FeedPoint {
    position(sequence).into()
}

fn event(sequence: u64) -> Arc<SharedEvent> {
    SharedEvent::new(FeedEvent {
        position: position(sequence),
        id: MessageId::of_feed(position(sequence)),
        event_type: "invoice.paid".parse().unwrap(),
        channel: None,
        trace: None,
        sender: None,
        audience: Audience::default(),
        time: Timestamp::default(),
        data: Bytes::from_static(b"{}"),
    })
}

/// A session that has subscribed when the feed was at 5, and holds no mailbox.
fn subscribed() -> World {
    let mut world = World::new(None, 10);
    world.frame(ClientFrame::Subscribe { patterns: vec!["*".parse().unwrap()], channels: Default::default() });
    world.session.handle_subscribed(Ok(Some(point(5))), world.now);
    world.run();
    world
}

impl World {
    fn news(&mut self, news: FeedNews) {
        self.session.handle_feed(news);
        self.run();
    }

    fn followed(&mut self, number: u64, events: &[u64], at: u64, is_live: bool) {
        let events = events.iter().map(|sequence| event(*sequence)).collect();
        let gaps = Vec::new();
        self.news(FeedNews::Followed(Box::new(Followed { number, gaps, events, at: point(at), is_live })));
    }

    /// Sequences of the events that were sent.
    fn shown(&self) -> Vec<u64> {
        let events = self.sent.iter().filter_map(|frame| match frame {
            ServerFrame::FeedEvent(event) => Some(event.event.position.sequence),
            _ => None,
        });
        events.collect()
    }

    fn last_asked(&self) -> Option<&Command> {
        self.asked.last()
    }
}

fn follow(number: u64, from: u64) -> Command {
    Command::Follow(FollowRequest { number, from: Some(point(from)) })
}

#[test]
fn a_session_reads_until_it_is_at_the_head_and_then_gets_what_comes() {
    let mut world = subscribed();
    assert_eq!(world.last_asked(), Some(&follow(1, 5)));
    world.news(FeedNews::Event(event(9)));
    world.followed(1, &[6, 7], 8, false);
    assert_eq!(world.last_asked(), Some(&follow(2, 8)), "what came meanwhile is read");
    world.followed(2, &[9], 10, true);
    world.news(FeedNews::Event(event(12)));
    assert_eq!(world.shown(), [6, 7, 9, 12]);
    world.news(FeedNews::Reached(position(20)));
    assert_eq!(world.session.follower.point(), Some(point(20)));
}

#[test]
fn a_client_that_does_not_read_lets_go_of_the_head_and_holds_little() {
    let mut world = subscribed();
    world.followed(1, &[], 5, true);
    let asked = world.asked.len();
    for sequence in 6..100 {
        world.session.handle_feed(FeedNews::Event(event(sequence)));
    }
    assert!(world.session.commands.len() <= 18, "{}", world.session.commands.len());
    world.run();
    let first_unsent = world.shown().last().unwrap() + 1;
    assert_eq!(world.asked.pop(), Some(follow(2, first_unsent - 1)), "it goes on where it stopped");
    assert_eq!(world.asked[asked..], [Command::Unfollow]);
}

#[test]
fn an_event_is_shown_at_once_only_if_nothing_is_before_it() {
    let mut world = subscribed();
    assert!(!world.session.show_at_once(&event(6)), "it is not at the head");
    world.followed(1, &[], 5, true);
    assert!(world.session.show_at_once(&event(6)));
    world.session.handle_feed(FeedNews::Event(event(7)));
    assert!(!world.session.show_at_once(&event(8)), "one waits");
    world.session.handle_feed(FeedNews::Event(event(8)));
    world.run();
    assert_eq!(world.shown(), [7, 8]);
    assert!(world.session.show_at_once(&event(9)));
    world.session.suspend();
    assert!(!world.session.show_at_once(&event(10)));
    world.session.handle_possible_loss(world.now);
    world.run();
    let Some(Command::Follow(request)) = world.last_asked() else { panic!("{:?}", world.last_asked()) };
    assert_eq!(request.from.map(|point| point.sequence), Some(9), "it goes on where it was");
}

#[test]
fn a_suspended_session_delivers_nothing_and_forgets_nothing() {
    let mut world = subscribed();
    world.followed(1, &[], 5, true);
    world.session.handle_feed(FeedNews::Event(event(6)));
    world.session.suspend();
    world.session.handle_feed(FeedNews::Event(event(7)));
    world.run();
    assert_eq!((world.shown(), world.last_asked()), (vec![], Some(&Command::Unfollow)));
    world.session.handle_possible_loss(world.now);
    world.run();
    assert!(world.asked.contains(&follow(2, 5)));
}

#[test]
fn late_answers_are_known_as_such() {
    let mut world = subscribed();
    world.session.handle_overflow(world.now);
    world.run();
    assert_eq!(world.asked.iter().rfind(|asked| matches!(asked, Command::Follow(_))), Some(&follow(2, 5)));
    world.followed(1, &[6], 6, true);
    assert_eq!((world.shown(), world.last_asked()), (vec![], Some(&Command::Unfollow)));
    world.followed(2, &[6], 6, true);
    assert_eq!(world.shown(), [6]);
}

#[test]
fn what_is_not_subscribed_any_more_does_not_come() {
    let mut world = subscribed();
    world.followed(1, &[], 5, true);
    world.frame(ClientFrame::Unsubscribe { patterns: vec!["*".parse().unwrap()] });
    world.session.handle_subscribed(Ok(Some(point(7))), world.now);
    world.news(FeedNews::Event(event(8)));
    assert_eq!((world.shown(), world.session.follower.point()), (vec![], None));
    world.frame(ClientFrame::Subscribe { patterns: vec!["*".parse().unwrap()], channels: Default::default() });
    world.session.handle_subscribed(Ok(Some(point(9))), world.now);
    world.run();
    assert_eq!(world.last_asked(), Some(&follow(2, 9)), "from now on");
}

#[test]
fn gaps_are_told() {
    let mut world = subscribed();
    let gap = FeedGap { loss: FeedLoss::Trimmed, epoch: Some(Epoch::from_raw(EPOCH)), from: 6, to: 9 };
    let (events, at) = (vec![event(10)], point(10));
    world.news(FeedNews::Followed(Box::new(Followed { number: 1, gaps: vec![gap], events, at, is_live: true })));
    let told: Vec<_> = world.sent.iter().rev().take(2).collect();
    assert!(matches!(told[..], [ServerFrame::FeedEvent(_), ServerFrame::FeedGap { as_event: false, .. }]), "{told:?}");
}
