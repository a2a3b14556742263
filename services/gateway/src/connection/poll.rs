//! A client that polls: its session lives on between the polls, and delivers nothing meanwhile.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use waystation_domain::{FeedPoint, Timestamp};
use waystation_runtime::Clock;
use waystation_wire::{CloseCode, Cursor, ServerFrame, json};

use super::outlet::{Incoming, Outlet};
use super::progress::Progress;

/// A client that does not poll for so long is gone.
const ABSENT: Duration = Duration::from_secs(60);
/// A poll is answered so long after it would be, whether everything has been read or not.
const LATE: Duration = Duration::from_secs(5);

/// What a client asks for.
pub(crate) struct Poll {
    /// Where it is; `None`: wherever its last poll has brought it.
    pub(crate) cursor: Option<Cursor>,
    /// Which events of the feed, as it named them.
    pub(crate) types: Option<String>,
    /// Only what is younger.
    pub(crate) since: Option<Timestamp>,
    /// Items at most.
    pub(crate) most: usize,
    /// How long to wait for the first of them.
    pub(crate) wait: Duration,
    pub(crate) answer: oneshot::Sender<Polled>,
}

/// What it gets.
pub(crate) enum Polled {
    Items {
        items: Vec<Bytes>,
        cursor: Cursor,
        /// There is more already.
        has_more: bool,
    },
    /// The session is elsewhere than the client: it must be opened anew.
    Elsewhere,
    /// The session has ended.
    Ended(CloseCode),
}

/// Polls go in here.
pub(crate) type Polls = mpsc::Sender<Poll>;

pub(super) struct Mailslot {
    polls: mpsc::Receiver<Poll>,
    /// The poll that waits, and since when.
    current: Option<(Poll, Instant)>,
    /// Not given yet.
    items: Vec<Bytes>,
    is_caught_up: bool,
    progress: Progress,
    /// What the last answer told, if there was one.
    told: Option<Cursor>,
    types: Option<String>,
    last: Instant,
    clock: Clock,
    sent: u64,
}

impl Mailslot {
    /// A slot for a client that remembers so much.
    pub(super) fn new(cursor: Cursor, types: Option<String>, clock: Clock) -> (Mailslot, Polls) {
        let (sender, polls) = mpsc::channel(1);
        let slot = Mailslot {
            polls,
            current: None,
            items: Vec::new(),
            is_caught_up: false,
            progress: Progress::new(cursor),
            told: None,
            types,
            last: clock.instant(),
            clock,
            sent: 0,
        };
        (slot, sender)
    }

    fn put(&mut self, item: impl Into<Bytes>, created: Timestamp) {
        let since = self.current.as_ref().and_then(|(poll, _)| poll.since);
        if since.is_none_or(|since| created > since) {
            self.items.push(item.into());
        }
    }

    /// When the poll that waits must be answered, if nothing comes.
    fn answer_at(&self) -> Option<Instant> {
        let (poll, since) = self.current.as_ref()?;
        let until = *since + poll.wait;
        let is_full = self.items.len() >= poll.most;
        let is_enough = self.is_caught_up && !self.items.is_empty();
        Some(match self.is_caught_up {
            _ if is_full || is_enough => *since,
            true => until,
            false => until + LATE,
        })
    }

    fn answer(&mut self) {
        let Some((poll, _)) = self.current.take() else { return };
        self.last = self.clock.instant();
        let (items, cursor) = (std::mem::take(&mut self.items), self.progress.cursor());
        match poll.answer.send(Polled::Items { items, cursor, has_more: !self.is_caught_up }) {
            Ok(()) => self.told = Some(cursor),
            // It has gone; whoever comes next without a cursor gets what it did not.
            Err(Polled::Items { items, .. }) => self.items = items,
            Err(Polled::Elsewhere | Polled::Ended(_)) => {}
        }
    }

    /// Takes a poll; answers whether this session can serve it.
    fn take(&mut self, poll: Poll) -> bool {
        let fits = poll.types == self.types && poll.cursor.is_none_or(|cursor| self.told.is_none_or(|at| at == cursor));
        self.last = self.clock.instant();
        if fits {
            self.current = Some((poll, self.last));
        } else {
            poll.answer.send(Polled::Elsewhere).ok();
        }
        fits
    }
}

impl Outlet for Mailslot {
    fn is_taken(&self) -> bool {
        self.current.as_ref().is_some_and(|(poll, _)| self.items.len() < poll.most)
    }

    fn has_room(&self, _: &ServerFrame) -> bool {
        self.is_taken()
    }

    fn queue(&mut self, frame: &ServerFrame) {
        self.sent += 1;
        self.progress.note(frame);
        let now = self.clock.now();
        #[expect(clippy::wildcard_enum_match_arm, reason = "nobody waits for any other")]
        match frame {
            ServerFrame::Event(event) => self.put(json::encode_entry_item(event), event.entry.accepted),
            ServerFrame::FeedEvent(event) => self.put(event.item().clone(), event.event.time),
            ServerFrame::Gap { gap, .. } => self.put(json::encode_gap_item(gap, now), now),
            ServerFrame::FeedGap { gap, .. } => self.put(json::encode_feed_gap_item(gap, now), now),
            _ => {}
        }
    }

    fn note_point(&mut self, point: FeedPoint) {
        self.progress.reach(point);
    }

    fn note_progress(&mut self, is_caught_up: impl FnOnce() -> bool) {
        self.is_caught_up = is_caught_up();
    }

    async fn next(&mut self, _: bool) -> Incoming {
        if let Some(at) = self.answer_at() {
            if at > self.clock.instant()
                && let Some((poll, _)) = &mut self.current
            {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = poll.answer.closed() => {}
                }
            }
            self.answer();
            return Incoming::Alive;
        }
        tokio::select! {
            poll = self.polls.recv() => match poll.is_some_and(|poll| self.take(poll)) {
                true => Incoming::Alive,
                false => Incoming::Broken(None),
            },
            () = tokio::time::sleep_until((self.last + ABSENT).into()) => Incoming::Broken(None),
        }
    }

    fn is_dirty(&self) -> bool {
        false
    }

    fn written(&self) -> u64 {
        self.sent
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    async fn close(&mut self, code: CloseCode) {
        if let Some((poll, _)) = self.current.take() {
            poll.answer.send(Polled::Ended(code)).ok();
        }
    }
}
