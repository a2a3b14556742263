//! The feed as one session follows it (rule 17): attached to its head, or behind and reading at its own pace.

use std::sync::Arc;
use std::time::Instant;

use waystation_domain::{FeedPoint, FeedPosition, Subscriptions};

use super::{Command, Session};
use crate::feed::SharedEvent;
use crate::frame::ServerFrame;
use crate::session::types::{FeedNews, FollowRequest, Followed};

/// Commands that wait for the socket before the session lets go of the head: a client that does not read holds no more.
const BEHIND_AT: usize = 16;

/// Where a session is in the feed.
#[derive(Debug, Default)]
pub(super) struct Following {
    state: State,
    /// All up to here has been sent, or is not wanted.
    at: Option<FeedPoint>,
    /// Counts requests, so that late answers are known as such.
    asked: u64,
    /// Nothing may be delivered now.
    suspended: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing is subscribed.
    #[default]
    Off,
    /// It has to ask for what follows.
    Behind,
    /// It has asked.
    Asking,
    /// Whatever is published comes by itself.
    Live,
}

impl Following {
    /// Where the client is.
    pub(super) fn at(&self) -> Option<FeedPoint> {
        self.at
    }
}

impl Session {
    /// Begins where the client stopped or, if it does not say, at the head as the store told it.
    pub(super) fn begin_feed(&mut self, from: Option<FeedPoint>) {
        self.following.at = from;
        if !self.subscriptions.patterns.is_empty() && self.following.state == State::Off {
            self.commands.push_back(Command::Filter(self.subscriptions.clone()));
            self.following.state = State::Behind;
        }
    }

    /// What is subscribed has changed; `head` is where the feed was then.
    pub(super) fn change_feed(&mut self, wanted: &Subscriptions, head: Option<FeedPoint>) {
        self.commands.push_back(Command::Filter(wanted.clone()));
        if wanted.patterns.is_empty() {
            self.let_go();
            self.following.state = State::Off;
        } else if self.following.state == State::Off {
            self.following.at = head;
            self.following.state = State::Behind;
        }
    }

    /// Asks for what follows. Called when nothing waits for the socket any more.
    pub(super) fn follow_next(&mut self) {
        let Following { state, suspended, .. } = self.following;
        if state != State::Behind || suspended || self.draining || !self.listening || self.closed {
            return;
        }
        self.following.asked += 1;
        self.following.state = State::Asking;
        let request = FollowRequest { number: self.following.asked, from: self.following.at };
        self.commands.push_back(Command::Follow(request));
    }

    /// Something of the feed has come. Call it in the order in which it came.
    pub fn handle_feed(&mut self, news: FeedNews, now: Instant) {
        match news {
            FeedNews::Event(event) => self.take_feed_event(event),
            FeedNews::Followed(followed) => self.take_followed(followed),
            FeedNews::Gap(gap) if self.following.state == State::Live => {
                self.send(ServerFrame::FeedGap { gap, as_event: !self.profile.knows_gaps });
            }
            FeedNews::Reached(position) if self.following.state == State::Live => {
                self.following.at = Some(position.into());
            }
            FeedNews::Gap(_) | FeedNews::Reached(_) => {}
        }
        self.step(now);
    }

    fn take_feed_event(&mut self, event: Arc<SharedEvent>) {
        if self.following.state != State::Live {
            return;
        }
        let position = event.event.position;
        if self.commands.len() >= BEHIND_AT || self.draining || !self.listening {
            // All before it has been delivered.
            self.following.at = Some(FeedPosition { sequence: position.sequence - 1, ..position }.into());
            return self.let_go();
        }
        self.following.at = Some(position.into());
        self.send(ServerFrame::FeedEvent(event));
    }

    fn take_followed(&mut self, followed: Followed) {
        let Followed { number, gaps, events, at, is_live } = followed;
        let is_expected = self.following.state == State::Asking && self.following.asked == number;
        if !is_expected || self.following.suspended || self.draining {
            if is_expected {
                self.following.state = State::Behind;
            }
            if is_live {
                self.commands.push_back(Command::Unfollow);
            }
            return;
        }
        for gap in gaps {
            self.send(ServerFrame::FeedGap { gap, as_event: !self.profile.knows_gaps });
        }
        for event in events {
            self.send(ServerFrame::FeedEvent(event));
        }
        self.following.at = Some(at);
        self.following.state = if is_live { State::Live } else { State::Behind };
    }

    /// Events may have been dropped on their way here: whatever follows is read.
    pub(super) fn doubt_feed(&mut self) {
        self.let_go();
    }

    /// From now on the session reads at its own pace.
    fn let_go(&mut self) {
        match self.following.state {
            State::Live => {
                self.following.state = State::Behind;
                self.commands.push_back(Command::Unfollow);
            }
            // Its answer will not be expected.
            State::Asking => self.following.state = State::Behind,
            State::Off | State::Behind => {}
        }
    }

    /// Nothing is delivered until the session is told otherwise; what was decided and has not left stays in the log.
    pub(super) fn suspend_feed(&mut self) {
        if self.following.suspended {
            return;
        }
        self.following.suspended = true;
        self.let_go();
        let is_event = |command: &Command| matches!(command, Command::Send(ServerFrame::FeedEvent(_)));
        let first = self.commands.iter().find(|command| is_event(command));
        if let Some(Command::Send(ServerFrame::FeedEvent(event))) = first {
            let position = event.event.position;
            self.following.at = Some(FeedPosition { sequence: position.sequence - 1, ..position }.into());
        }
        self.commands.retain(|command| !is_event(command) && !matches!(command, Command::Follow(_)));
    }

    /// Delivery goes on.
    pub(super) fn continue_feed(&mut self) {
        self.following.suspended = false;
    }

    /// Whether nothing of the feed is waited for.
    pub(super) fn follows_head(&self) -> bool {
        matches!(self.following.state, State::Off | State::Live)
    }

    /// Where the feed is, as the client is told.
    pub(super) fn feed_point(&self) -> Option<FeedPoint> {
        self.following.at().filter(|_| !self.subscriptions.patterns.is_empty())
    }
}
