//! People's browsers without a WebSocket: they watch the feed, by a stream of events or one poll after the other. They have
//! no session in the store, and what they saw last they say themselves.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use waystation_domain::{FeedPoint, Subscriptions, Timestamp};
use waystation_wire::{CloseCode, Cursor, WatchCommand, Watching};

use super::conductor::Watcher;
use super::outlet::{Incoming, Outlet};
use super::poll::{Mailslot, Poll, Polled};
use super::stall::Stall;
use super::stream::EventStream;
use crate::feeds::{Seat, Viewer};
use crate::registry::{Event, Registration};
use crate::{Parts, drain};

/// Who watches, and what.
pub(crate) struct Visitor {
    pub(crate) watcher: Watcher,
    /// After this; `None`: from now on.
    pub(crate) from: Option<FeedPoint>,
    pub(crate) wanted: Subscriptions,
}

impl Visitor {
    fn cursor(&self) -> Cursor {
        Cursor { mailbox: None, feed: self.from }
    }
}

/// Serves a stream until its reader goes.
pub(crate) fn visit_stream(parts: &Parts, visitor: Visitor) -> mpsc::Receiver<Bytes> {
    let (outlet, body) = EventStream::new(visitor.cursor(), parts.context.clock);
    spawn(parts, visitor, outlet);
    body
}

/// Answers one poll. What it asks besides is in the visitor.
pub(crate) async fn visit_once(
    parts: &Parts,
    visitor: Visitor,
    since: Option<Timestamp>,
    most: usize,
    wait: Duration,
) -> Option<Polled> {
    let (outlet, polls) = Mailslot::new(visitor.cursor(), None, parts.context.clock);
    spawn(parts, visitor, outlet);
    let (answer, polled) = oneshot::channel();
    polls.send(Poll { cursor: None, types: None, since, most, wait, answer }).await.ok()?;
    // Nobody polls it again: it ends when this is dropped.
    polled.await.ok()
}

fn spawn(parts: &Parts, visitor: Visitor, mut outlet: impl Outlet + 'static) {
    let (parts, lifecycle) = (parts.clone(), parts.context.lifecycle.clone());
    lifecycle.spawn(async move {
        let code = Visiting::new(&parts, visitor).serve(&mut outlet).await;
        if let Some(code) = code {
            outlet.close(code).await;
        }
        parts.metrics.closed(code);
    });
}

struct Visiting<'a> {
    parts: &'a Parts,
    watching: Watching,
    watcher: Watcher,
    registration: Registration,
    seat: Option<Seat>,
    expires: Instant,
    /// The client was told to come back elsewhere, and has had the time for it.
    leave: Option<Instant>,
    stall: Stall,
}

enum Happened {
    /// So many wait.
    Events(usize),
    Received(Incoming),
    Time,
}

impl<'a> Visiting<'a> {
    fn new(parts: &'a Parts, Visitor { watcher, from, wanted }: Visitor) -> Visiting<'a> {
        let (now, time) = (parts.context.clock.instant(), parts.context.clock.now());
        Visiting {
            parts,
            watching: Watching::new(wanted, from),
            expires: now + watcher.claims.expires.since(time),
            registration: watcher.register(&parts.registry),
            watcher,
            seat: None,
            leave: None,
            stall: Stall::default(),
        }
    }

    /// Answers what to close with; `None`: the client has gone.
    async fn serve(mut self, outlet: &mut impl Outlet) -> Option<CloseCode> {
        loop {
            let now = self.parts.context.clock.instant();
            if !self.parts.lease.is_valid(now) {
                self.watching.suspend();
            }
            self.perform(outlet);
            if let Some(point) = self.watching.reached() {
                outlet.note_point(point);
            }
            outlet.note_progress(|| self.watching.is_caught_up());
            let stall = self.stall.look(outlet.is_dirty(), outlet.written(), now);
            let stall = stall.map(|since| since + self.parts.config.limits.write_stall);
            let timeout = [Some(self.expires), self.leave, stall].into_iter().flatten().min().unwrap_or(self.expires);
            let happened = tokio::select! {
                count = self.registration.handle.events.filled() => Happened::Events(count),
                incoming = outlet.next(false) => Happened::Received(incoming),
                () = tokio::time::sleep_until(timeout.into()) => Happened::Time,
            };
            match happened {
                Happened::Events(count) => {
                    for _ in 0..count {
                        let Some(event) = self.registration.handle.events.pop() else { break };
                        if let Some(code) = self.take_event(event) {
                            return Some(code);
                        }
                    }
                }
                Happened::Received(Incoming::Broken(code)) => return code,
                Happened::Received(Incoming::Frame(_) | Incoming::Alive | Incoming::Flushed) => {}
                Happened::Time => {
                    if let Some(code) = self.take_time() {
                        return Some(code);
                    }
                }
            }
            if self.registration.handle.events.take_lost() {
                self.watching.handle_overflow();
            }
        }
    }

    fn take_event(&mut self, event: Event) -> Option<CloseCode> {
        match event {
            Event::Feed(news) => self.watching.handle_feed(news),
            Event::PossibleLoss | Event::Reopen(_) => self.watching.resume(),
            Event::Drain(after) => {
                let after = Duration::from_millis(after.into());
                self.leave = Some(self.parts.context.clock.instant() + after + drain::PATIENCE);
            }
            Event::End(ending) => return Some(ending.close_code()),
            // It has no mailbox, and is no session that could be told of.
            Event::Push(_) | Event::Acknowledged(_) | Event::Report(_) => {}
        }
        None
    }

    fn take_time(&self) -> Option<CloseCode> {
        let now = self.parts.context.clock.instant();
        if self.expires <= now {
            return Some(CloseCode::TokenExpired);
        }
        if self.leave.is_some_and(|at| at <= now) {
            return Some(CloseCode::Restarting);
        }
        (self.stall.lasts(now) >= self.parts.config.limits.write_stall).then_some(CloseCode::SlowConsumer)
    }

    fn perform(&mut self, outlet: &mut impl Outlet) {
        while let Some(command) = self.watching.next_command() {
            match command {
                WatchCommand::Send(frame) => {
                    if !outlet.has_room(&frame) {
                        return self.watching.put_back(WatchCommand::Send(frame));
                    }
                    self.parts.metrics.told(&frame);
                    outlet.queue(&frame);
                }
                WatchCommand::Filter(subscriptions) => {
                    let viewer = Viewer::of(&self.watcher.claims, subscriptions);
                    let handle = self.registration.handle.clone();
                    self.seat = Some(self.parts.feeds.sit(&self.watcher.organization, handle, viewer));
                }
                WatchCommand::Follow(request) => {
                    if let Some(seat) = &self.seat {
                        seat.follow(request);
                    }
                }
                WatchCommand::Unfollow => {
                    if let Some(seat) = &self.seat {
                        seat.unfollow();
                    }
                }
            }
        }
    }
}
