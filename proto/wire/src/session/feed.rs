//! The feed of a daemon's session.

use waystation_domain::{FeedPoint, Subscriptions};

use super::{Command, Session};
use crate::feed::SharedEvent;
use crate::follow::{FeedNews, LetGo, Shown};
use crate::frame::ServerFrame;

/// Commands that wait for the socket before the session lets go of the head: a client that does not read holds no more.
const BEHIND_AT: usize = 16;

impl Session {
    /// Begins where the client stopped or, if it does not say, at the head as the store told it.
    pub(super) fn begin_feed(&mut self, from: Option<FeedPoint>) {
        if !self.subscriptions.patterns.is_empty() {
            self.commands.push_back(Command::Filter(self.subscriptions.clone()));
            self.follower.begin(from);
        }
    }

    /// What is subscribed has changed; `head` is where the feed was then.
    pub(super) fn change_feed(&mut self, wanted: &Subscriptions, head: Option<FeedPoint>) {
        self.commands.push_back(Command::Filter(wanted.clone()));
        if wanted.patterns.is_empty() {
            let let_go = self.follower.stop();
            self.let_go(let_go);
        } else {
            self.follower.begin(head);
        }
    }

    fn let_go(&mut self, LetGo(let_go): LetGo) {
        if let_go {
            self.commands.push_back(Command::Unfollow);
        }
    }

    /// Asks for what follows. Called when nothing waits for the socket any more.
    pub(super) fn follow_next(&mut self) {
        if self.draining || !self.listening || self.closed {
            return;
        }
        self.commands.extend(self.follower.ask().map(Command::Follow));
    }

    /// Takes an event if the client can be shown it at once: it is at the head, and nothing waits before it. Answers whether
    /// it is to be written now; if not, [`Session::handle_feed`] takes it.
    pub fn show_at_once(&mut self, event: &SharedEvent) -> bool {
        let is_free = self.commands.is_empty() && self.listening && !self.draining && !self.closed;
        is_free && self.follower.show(event.event.position)
    }

    /// Something of the feed has come. Call it in the order in which it came.
    pub fn handle_feed(&mut self, news: FeedNews) {
        let is_answer = matches!(news, FeedNews::Followed(_));
        let has_room = (is_answer || self.commands.len() < BEHIND_AT) && !self.draining && self.listening;
        let as_event = !self.profile.knows_gaps;
        let (commands, closed) = (&mut self.commands, self.closed);
        let let_go = self.follower.take(news, has_room, |shown| {
            let frame = match shown {
                Shown::Event(event) => ServerFrame::FeedEvent(event),
                Shown::Gap(gap) => ServerFrame::FeedGap { gap, as_event },
            };
            if !closed {
                commands.push_back(Command::Send(frame));
            }
        });
        self.let_go(let_go);
    }

    /// Events may have been dropped on their way here: whatever follows is read.
    pub(super) fn doubt_feed(&mut self) {
        let let_go = self.follower.fall_behind();
        self.let_go(let_go);
    }

    /// Nothing is delivered until the session is told otherwise; what was decided and has not left stays in the log.
    pub(super) fn suspend_feed(&mut self) {
        let is_event = |command: &Command| matches!(command, Command::Send(ServerFrame::FeedEvent(_)));
        let first = self.commands.iter().find(|command| is_event(command));
        let first = match first {
            Some(Command::Send(ServerFrame::FeedEvent(event))) => Some(event.event.position),
            Some(_) | None => None,
        };
        let let_go = self.follower.suspend(first);
        self.commands.retain(|command| !is_event(command) && !matches!(command, Command::Follow(_)));
        self.let_go(let_go);
    }
}
