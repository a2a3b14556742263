//! How one client follows the feed of its organization (rule 17): at the head, where events come by themselves, or
//! behind, reading at its own pace. Whatever dialect it speaks.

use std::sync::Arc;

use waystation_domain::{FeedGap, FeedPoint, FeedPosition};

use crate::feed::SharedEvent;

/// Asks for what follows in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowRequest {
    /// Comes back with the answer.
    pub number: u64,
    /// After this point; `None`: from the head on.
    pub from: Option<FeedPoint>,
}

/// What follows in the feed.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Of the request.
    pub number: u64,
    /// To be told first.
    pub gaps: Vec<FeedGap>,
    /// What is wanted of it.
    pub events: Vec<Arc<SharedEvent>>,
    /// All up to here is told by this answer.
    pub at: FeedPoint,
    /// That is the head: from now on events come by themselves.
    pub is_live: bool,
}

/// Something of the feed. For one client it comes in order.
#[derive(Clone, Debug)]
pub enum FeedNews {
    /// The answer to a request. Boxed, so that the many others are small.
    Followed(Box<Followed>),
    /// An event that is wanted.
    Event(Arc<SharedEvent>),
    /// What is not there any more.
    Gap(FeedGap),
    /// All up to here has come.
    Reached(FeedPosition),
}

/// What a client is to be shown.
pub(crate) enum Shown {
    Event(Arc<SharedEvent>),
    Gap(FeedGap),
}

/// Whether the place at the head is to be given up.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LetGo(pub(crate) bool);

/// Where a client is in the feed.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    state: State,
    /// All up to here has been shown, or is not wanted.
    at: Option<FeedPoint>,
    /// Counts requests, so that late answers are known as such.
    asked: u64,
    /// Nothing may be shown now.
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

/// What is not shown stays in the log: the place before an event.
fn before(position: FeedPosition) -> FeedPoint {
    FeedPosition { sequence: position.sequence - 1, ..position }.into()
}

impl Follower {
    /// Where the client is; `None` while nothing is subscribed.
    pub(crate) fn point(&self) -> Option<FeedPoint> {
        self.at.filter(|_| self.state != State::Off)
    }

    /// Whether nothing is waited for.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.state, State::Off | State::Live)
    }

    /// Begins after a point, unless it has begun; `None`: at the head.
    pub(crate) fn begin(&mut self, at: Option<FeedPoint>) {
        if self.state == State::Off {
            self.at = at;
            self.state = State::Behind;
        }
    }

    /// Nothing is subscribed any more.
    pub(crate) fn stop(&mut self) -> LetGo {
        let was_live = self.state == State::Live;
        self.state = State::Off;
        LetGo(was_live)
    }

    /// What to ask for, if anything.
    pub(crate) fn ask(&mut self) -> Option<FollowRequest> {
        if self.state != State::Behind || self.suspended {
            return None;
        }
        self.asked += 1;
        self.state = State::Asking;
        Some(FollowRequest { number: self.asked, from: self.at })
    }

    /// Takes an event that is shown at once; answers whether the client is at the head, where it may be.
    pub(crate) fn show(&mut self, position: FeedPosition) -> bool {
        let is_live = self.state == State::Live;
        if is_live {
            self.at = Some(position.into());
        }
        is_live
    }

    /// Takes what has come. Without room the place at the head is given up, and what came is read later.
    pub(crate) fn take(&mut self, news: FeedNews, has_room: bool, mut show: impl FnMut(Shown)) -> LetGo {
        match news {
            FeedNews::Followed(followed) => return self.take_followed(*followed, has_room, show),
            FeedNews::Event(event) if self.state == State::Live => {
                let position = event.event.position;
                if !has_room {
                    // All before it has been shown.
                    self.at = Some(before(position));
                    return self.fall_behind();
                }
                self.at = Some(position.into());
                show(Shown::Event(event));
            }
            FeedNews::Gap(gap) if self.state == State::Live => show(Shown::Gap(gap)),
            FeedNews::Reached(position) if self.state == State::Live => self.at = Some(position.into()),
            FeedNews::Event(_) | FeedNews::Gap(_) | FeedNews::Reached(_) => {}
        }
        LetGo(false)
    }

    fn take_followed(&mut self, followed: Followed, may_show: bool, mut show: impl FnMut(Shown)) -> LetGo {
        let Followed { number, gaps, events, at, is_live } = followed;
        let is_expected = self.state == State::Asking && self.asked == number;
        if !is_expected || self.suspended || !may_show {
            if is_expected {
                self.state = State::Behind;
            }
            return LetGo(is_live);
        }
        gaps.into_iter().map(Shown::Gap).chain(events.into_iter().map(Shown::Event)).for_each(&mut show);
        self.at = Some(at);
        self.state = if is_live { State::Live } else { State::Behind };
        LetGo(false)
    }

    /// From now on the client reads at its own pace: something may have been dropped on its way, or it does not keep up.
    pub(crate) fn fall_behind(&mut self) -> LetGo {
        let was_live = self.state == State::Live;
        if matches!(self.state, State::Live | State::Asking) {
            // An answer that is under way will not be expected.
            self.state = State::Behind;
        }
        LetGo(was_live)
    }

    /// Nothing is shown until the client is told otherwise; `first` is the first event that has not left yet.
    pub(crate) fn suspend(&mut self, first: Option<FeedPosition>) -> LetGo {
        if std::mem::replace(&mut self.suspended, true) {
            return LetGo(false);
        }
        let let_go = self.fall_behind();
        if let Some(first) = first {
            self.at = Some(before(first));
        }
        let_go
    }

    /// Showing goes on.
    pub(crate) fn resume(&mut self) {
        self.suspended = false;
    }
}
