//! Messages as the program gets them.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_channel::Receiver;
use futures_util::Stream;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc, oneshot};
use waystation_domain::{MessageId, Position};
use waystation_wire::client::Mail;

use crate::core::{Command, Verdict};
use crate::error::Stopped;

/// How long a message is left alone that the program has dropped: something is wrong with it, or with the program.
pub(crate) const DROPPED: Duration = Duration::from_secs(1);

/// Messages that were dropped unsettled. There are never more than the window holds.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    messages: Mutex<Vec<(Position, MessageId)>>,
    pub(crate) notify: Notify,
}

impl Dropped {
    pub(crate) fn take(&self) -> Vec<(Position, MessageId)> {
        std::mem::take(&mut self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A message of the mailbox, which stays there until it is settled: by [`ack`](Delivery::ack), [`nack`](Delivery::nack) or
/// [`reject`](Delivery::reject).
///
/// While the program works on it, the gateway is told so, up to the options' `processing_limit`. A delivery that is dropped
/// unsettled, as by a panic, is given back, and comes again after a second; after five attempts it is a dead letter.
#[derive(Debug)]
pub struct Delivery {
    mail: Mail,
    in_doubt: bool,
    /// Acks are written down.
    is_kept: bool,
    commands: mpsc::Sender<Command>,
    /// `None` once it is settled.
    dropped: Option<Arc<Dropped>>,
}

impl Deref for Delivery {
    type Target = Mail;

    fn deref(&self) -> &Mail {
        &self.mail
    }
}

impl Delivery {
    pub(crate) fn new(
        mail: Mail,
        in_doubt: bool,
        is_kept: bool,
        commands: mpsc::Sender<Command>,
        dropped: Arc<Dropped>,
    ) -> Delivery {
        Delivery { mail, in_doubt, is_kept, commands, dropped: Some(dropped) }
    }

    /// Whether an earlier process got it and ended before it was settled: it may have been applied. Only a client with a
    /// state file knows; others look at `redelivered`.
    pub fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Its data.
    ///
    /// # Errors
    /// If they are not what `T` wants.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.mail.data)
    }

    /// It was applied. It will never be handed out again by this client; with a state file, once this is answered, not by
    /// the next process either.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn ack(self) -> Result<(), Stopped> {
        if !self.is_kept {
            return self.settle(Verdict::Ack(None)).await;
        }
        let (done, answer) = oneshot::channel();
        self.settle(Verdict::Ack(Some(done))).await?;
        answer.await.unwrap_or(Err(Stopped::Failed))
    }

    /// As [`ack`](Delivery::ack), but answers once the gateway has said whether the message left the mailbox by an ack:
    /// `false` if it had expired or was purged before.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn ack_confirmed(self) -> Result<bool, Stopped> {
        let (done, answer) = oneshot::channel();
        self.settle(Verdict::Confirm(done)).await?;
        answer.await.unwrap_or(Err(Stopped::Failed))
    }

    /// It could not be applied now: it comes again after `delay`, at most an hour. That counts as one of five attempts.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn nack(self, delay: Duration, reason: &str) -> Result<(), Stopped> {
        let reason = reason.to_owned();
        self.settle(Verdict::Nack(delay, reason)).await
    }

    /// It can never be applied: it becomes a dead letter, with the reason, of which 256 bytes are kept.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn reject(self, reason: &str) -> Result<(), Stopped> {
        let reason = reason.to_owned();
        self.settle(Verdict::Reject(reason)).await
    }

    /// It is still worked on, beyond the options' `processing_limit`.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn extend(&self) -> Result<(), Stopped> {
        let command = Command::Settle(self.mail.position, self.mail.id.clone(), Verdict::Extend);
        self.commands.send(command).await.map_err(|_| Stopped::Closed)
    }

    async fn settle(mut self, verdict: Verdict) -> Result<(), Stopped> {
        let command = Command::Settle(self.mail.position, self.mail.id.clone(), verdict);
        let sent = self.commands.send(command).await;
        // Until here it can be cancelled, and then counts as dropped.
        self.dropped = None;
        sent.map_err(|_| Stopped::Closed)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped.take() {
            let message = (self.mail.position, self.mail.id.clone());
            dropped.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
            dropped.notify.notify_one();
        }
    }
}

/// A stream of the mailbox's messages, most urgent first, each lane in its order, over reconnects. Clones share the work:
/// each message goes to one of them.
///
/// It ends when the client is closed; when the client stops for another reason, the last item says why.
#[derive(Clone, Debug)]
pub struct Messages {
    pub(crate) receiver: Pin<Box<Receiver<Result<Delivery, Stopped>>>>,
}

impl Stream for Messages {
    type Item = Result<Delivery, Stopped>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.as_mut().poll_next(cx)
    }
}
