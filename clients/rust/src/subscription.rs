//! Events of the organization's feed.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_channel::{Receiver, Sender, TrySendError};
use futures_util::{Stream, ready};
use tokio::sync::mpsc;
use waystation_domain::{ChannelId, FeedPoint, Pattern};
use waystation_wire::client::{FeedItem, GapNotice};

use crate::core::Command;
use crate::error::Stopped;

/// What a subscription brings.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedNews {
    /// An event.
    Event(FeedItem),
    /// Events that were there and are not any more.
    Gap(GapNotice),
}

/// What reader and client share.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The reader was too slow: what it has not got is read again.
    pub(crate) behind: AtomicBool,
    /// The last that the program has done with.
    pub(crate) done: Mutex<Option<FeedPoint>>,
}

/// What became of news for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Taken,
    /// There is no room: the reader is behind from here on.
    Behind,
    /// Nobody reads any more.
    Abandoned,
}

/// The client's end of a subscription.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) number: u64,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) channels: Vec<ChannelId>,
    pub(crate) sender: Sender<Result<FeedNews, Stopped>>,
    pub(crate) progress: Arc<Progress>,
    /// The last that was handed out, or passed by.
    pub(crate) last: Option<FeedPoint>,
}

impl Reader {
    pub(crate) fn wants(&self, item: &FeedItem) -> bool {
        let of_channel = |channel: &ChannelId| self.channels.is_empty() || self.channels.contains(channel);
        self.patterns.iter().any(|pattern| pattern.matches(&item.event_type))
            && item.channel.as_ref().is_none_or(of_channel)
    }

    /// Hands out what there is room for.
    pub(crate) fn offer(&self, news: FeedNews) -> Offer {
        let behind = &self.progress.behind;
        match self.sender.try_send(Ok(news)) {
            Ok(()) => Offer::Taken,
            Err(TrySendError::Closed(_)) => Offer::Abandoned,
            Err(TrySendError::Full(news)) => {
                behind.store(true, Ordering::SeqCst);
                // A reader that has read all in this moment would wait for ever.
                if self.sender.try_send(news).is_err() {
                    return Offer::Behind;
                }
                behind.store(false, Ordering::SeqCst);
                Offer::Taken
            }
        }
    }

    /// The last that the program has done with.
    pub(crate) fn done(&self) -> Option<FeedPoint> {
        *self.progress.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program has done with all that it got.
    pub(crate) fn is_idle(&self) -> bool {
        self.done() == self.last
    }

    /// Nothing up to here is for this reader.
    pub(crate) fn pass(&mut self, point: Option<FeedPoint>) {
        self.last = point;
        *self.progress.done.lock().unwrap_or_else(PoisonError::into_inner) = point;
    }
}

/// A stream of events, in the order of the feed, each once, over reconnects. It ends when the client is closed; when the
/// client stops for another reason, the last item says why.
///
/// A reader may be slow: what does not fit into its queue is read again later, and nothing is lost as long as the feed
/// keeps it.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) number: u64,
    pub(crate) receiver: Pin<Box<Receiver<Result<FeedNews, Stopped>>>>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) commands: mpsc::WeakSender<Command>,
    /// Handed to the program, and done with when it asks for the next.
    pub(crate) out: Option<FeedPoint>,
}

impl Subscription {
    /// Makes both ends.
    pub(crate) fn new(
        number: u64,
        patterns: Vec<Pattern>,
        channels: Vec<ChannelId>,
        capacity: usize,
        commands: mpsc::WeakSender<Command>,
    ) -> (Reader, Subscription) {
        let (sender, receiver) = async_channel::bounded(capacity);
        let progress = Arc::new(Progress::default());
        let reader = Reader { number, patterns, channels, sender, progress: progress.clone(), last: None };
        (reader, Subscription { number, receiver: Box::pin(receiver), progress, commands, out: None })
    }

    /// Tells the client what the program has done with, and that there is room again.
    fn note(&mut self) {
        if let Some(done) = self.out.take() {
            *self.progress.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        }
        if self.receiver.is_empty()
            && self.progress.behind.load(Ordering::SeqCst)
            && let Some(commands) = self.commands.upgrade()
        {
            // If the client is busy, the next turn tells it.
            commands.try_send(Command::Resync(self.number)).ok();
        }
    }
}

impl Stream for Subscription {
    type Item = Result<FeedNews, Stopped>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.note();
        let next = ready!(self.receiver.as_mut().poll_next(cx));
        if let Some(Ok(FeedNews::Event(item))) = &next {
            self.out = Some(FeedPoint { epoch: Some(item.position.epoch), sequence: item.position.sequence });
        }
        Poll::Ready(next)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(commands) = self.commands.upgrade() {
            // A client that is too busy notices at the next event that nobody reads.
            commands.try_send(Command::Unsubscribe(self.number)).ok();
        }
    }
}
