//! A client that only watches, and has said at once all that it wants: a person's browser. It has no mailbox.

use std::collections::VecDeque;

use waystation_domain::{FeedPoint, Subscriptions};

use crate::follow::{FeedNews, FollowRequest, Follower, LetGo, Shown};
use crate::frame::ServerFrame;

/// Frames that wait for the client before it lets go of the head.
const BEHIND_AT: usize = 16;

/// What the owner of a client does for it.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchCommand {
    /// Write a frame: an event or a gap.
    Send(ServerFrame),
    /// Whoever matches events must know what is wanted.
    Filter(Subscriptions),
    /// Follow the feed, then [`Watching::handle_feed`].
    Follow(FollowRequest),
    /// Nothing comes by itself any more.
    Unfollow,
}

/// One client.
#[derive(Debug)]
pub struct Watching {
    follower: Follower,
    commands: VecDeque<WatchCommand>,
}

impl Watching {
    /// Begins after a point or, if there is none, at the head.
    pub fn new(wanted: Subscriptions, from: Option<FeedPoint>) -> Watching {
        let mut follower = Follower::default();
        if !wanted.patterns.is_empty() {
            follower.begin(from);
        }
        Watching { follower, commands: [WatchCommand::Filter(wanted)].into() }
    }

    /// What to do next.
    pub fn next_command(&mut self) -> Option<WatchCommand> {
        if self.commands.is_empty() {
            self.commands.extend(self.follower.ask().map(WatchCommand::Follow));
        }
        self.commands.pop_front()
    }

    /// Takes a command back that cannot be performed now; it comes first again.
    pub fn put_back(&mut self, command: WatchCommand) {
        self.commands.push_front(command);
    }

    /// All up to here was shown, or is not wanted, once nothing is left to do.
    pub fn reached(&self) -> Option<FeedPoint> {
        self.follower.point().filter(|_| self.commands.is_empty())
    }

    /// Whether everything that there is has been shown.
    pub fn is_caught_up(&self) -> bool {
        self.commands.is_empty() && self.follower.is_settled()
    }

    /// Something of the feed has come. Call it in the order in which it came.
    pub fn handle_feed(&mut self, news: FeedNews) {
        let has_room = matches!(news, FeedNews::Followed(_)) || self.commands.len() < BEHIND_AT;
        let commands = &mut self.commands;
        let let_go = self.follower.take(news, has_room, |shown| {
            commands.push_back(WatchCommand::Send(match shown {
                Shown::Event(event) => ServerFrame::FeedEvent(event),
                Shown::Gap(gap) => ServerFrame::FeedGap { gap, as_event: false },
            }));
        });
        self.let_go(let_go);
    }

    /// Events may have been dropped on their way here.
    pub fn handle_overflow(&mut self) {
        let let_go = self.follower.fall_behind();
        self.let_go(let_go);
    }

    /// Nothing may be shown now.
    pub fn suspend(&mut self) {
        let first = self.commands.iter().find_map(|command| match command {
            WatchCommand::Send(ServerFrame::FeedEvent(event)) => Some(event.event.position),
            WatchCommand::Send(_) | WatchCommand::Filter(_) | WatchCommand::Follow(_) | WatchCommand::Unfollow => None,
        });
        let let_go = self.follower.suspend(first);
        let is_held = |command: &WatchCommand| {
            matches!(command, WatchCommand::Send(ServerFrame::FeedEvent(_)) | WatchCommand::Follow(_))
        };
        self.commands.retain(|command| !is_held(command));
        self.let_go(let_go);
    }

    /// Showing goes on.
    pub fn resume(&mut self) {
        self.follower.resume();
    }

    fn let_go(&mut self, LetGo(let_go): LetGo) {
        if let_go {
            self.commands.push_back(WatchCommand::Unfollow);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waystation_domain::{Audience, Epoch, FeedEvent, FeedPosition, MessageId, Timestamp};

    use super::*;
    use crate::feed::SharedEvent;
    use crate::follow::Followed;

    fn position(sequence: u64) -> FeedPosition {
        FeedPosition { epoch: Epoch::from_raw(1), sequence }
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
            time: Timestamp::from_millis(42),
            data: "{}".into(),
        })
    }

    /// Everything to do: sequences of events that are shown, and after what it asks.
    fn all(watching: &mut Watching) -> (Vec<u64>, Option<FollowRequest>) {
        let (mut shown, mut asked) = (Vec::new(), None);
        while let Some(command) = watching.next_command() {
            match command {
                WatchCommand::Send(ServerFrame::FeedEvent(event)) => shown.push(event.event.position.sequence),
                WatchCommand::Follow(request) => asked = Some(request),
                WatchCommand::Send(_) | WatchCommand::Filter(_) | WatchCommand::Unfollow => {}
            }
        }
        (shown, asked)
    }

    fn followed(number: u64, events: Vec<Arc<SharedEvent>>, at: FeedPoint) -> FeedNews {
        FeedNews::Followed(Box::new(Followed { number, gaps: vec![], events, at, is_live: true }))
    }

    fn wanted() -> Subscriptions {
        Subscriptions::default().subscribe(&["*".parse().unwrap()], &Default::default()).unwrap()
    }

    #[test]
    fn it_catches_up_follows_and_goes_on_after_a_pause_where_it_was() {
        let mut watching = Watching::new(wanted(), Some(position(3).into()));
        let (_, asked) = all(&mut watching);
        let FollowRequest { number, from } = asked.unwrap();
        assert_eq!(from, Some(position(3).into()));
        assert!(!watching.is_caught_up());
        let at = position(5).into();
        watching.handle_feed(followed(number, vec![event(4), event(5)], at));
        assert_eq!((all(&mut watching).0, watching.reached()), (vec![4, 5], Some(at)));
        assert!(watching.is_caught_up());
        watching.handle_feed(FeedNews::Event(event(6)));
        watching.suspend();
        assert_eq!(all(&mut watching), (vec![], None), "what was not shown waits");
        watching.resume();
        assert_eq!(all(&mut watching).1.unwrap().from, Some(position(5).into()));
    }

    #[test]
    fn one_that_does_not_read_lets_go_and_holds_little() {
        let mut watching = Watching::new(wanted(), None);
        let number = all(&mut watching).1.unwrap().number;
        let at = position(5).into();
        watching.handle_feed(followed(number, vec![], at));
        for sequence in 6..100 {
            watching.handle_feed(FeedNews::Event(event(sequence)));
        }
        assert!(watching.commands.len() <= BEHIND_AT + 1);
        let (shown, asked) = all(&mut watching);
        let last = *shown.last().unwrap();
        assert_eq!((shown[0], asked.unwrap().from), (6, Some(position(last).into())), "it reads on where it let go");
    }

    #[test]
    fn one_that_wants_nothing_gets_nothing() {
        let mut watching = Watching::new(Subscriptions::default(), None);
        assert_eq!(all(&mut watching), (vec![], None));
        assert!(watching.is_caught_up() && watching.reached().is_none());
    }
}
