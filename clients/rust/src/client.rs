//! The handle that programs hold.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_channel::Receiver;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::to_raw_value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;
use waystation_domain::{MessageId, ReportedStatus, SessionId};
use waystation_wire::client::SendAck;

use crate::core::{Call, Command, Ticket};
use crate::delivery::{Delivery, Messages};
use crate::error::{CallError, ConnectError, SendError, Stopped};
use crate::health::{Health, Statistics};
use crate::options::selection;
use crate::outbound::Outbound;
use crate::outgoing::Outgoing;
use crate::subscription::Subscription;
use crate::tasks::{Delegation, Desk, Notice, Offer, Request, Task, TaskFailed, WorkOptions, Worker};

/// How long a call may take, its wait for a connection included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How things are.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) session: Option<SessionId>,
    pub(crate) health: Health,
    pub(crate) statistics: Statistics,
    pub(crate) stopped: Option<Stopped>,
}

/// Where mail about tasks comes from, and where it goes that concerns nobody.
#[derive(Debug)]
pub(crate) struct TaskMail {
    pub(crate) mail: Receiver<Delivery>,
    pub(crate) others: async_channel::Sender<Result<Delivery, Stopped>>,
    /// Set once there is a desk.
    pub(crate) wanted: Arc<AtomicBool>,
    pub(crate) desk: OnceLock<mpsc::Sender<Notice>>,
}

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    outbound: Outbound,
    feed_queue: usize,
    readers: AtomicU64,
    state: watch::Receiver<State>,
    deliveries: Receiver<Result<Delivery, Stopped>>,
    tasks: TaskTracker,
    /// Mail about tasks, once somebody wants it.
    task_mail: TaskMail,
    /// Ids of messages: random for each client, counted within it.
    prefix: u64,
    count: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        outbound: Outbound,
        feed_queue: usize,
        first_reader: u64,
        state: watch::Receiver<State>,
        deliveries: Receiver<Result<Delivery, Stopped>>,
        tasks: TaskTracker,
        task_mail: TaskMail,
    ) -> Shared {
        let readers = AtomicU64::new(first_reader);
        let (prefix, count) = (rand::random(), AtomicU64::new(0));
        Shared { outbound, feed_queue, readers, state, deliveries, tasks, task_mail, prefix, count }
    }
}

/// A connection that stays. Cheap to clone; the last handle that goes closes it, unless a [`Delivery`] is still out.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Client {
    pub(crate) fn new(shared: Shared, commands: mpsc::Sender<Command>) -> Client {
        Client { shared: Arc::new(shared), commands }
    }

    /// The messages of the mailbox.
    pub fn messages(&self) -> Messages {
        Messages { receiver: Box::pin(self.shared.deliveries.clone()) }
    }

    /// Subscribes to events of the organization's feed, from now on; patterns are exact names, `prefix.*` or `*`. No
    /// channels: events of all channels and of none.
    ///
    /// # Errors
    /// If a pattern or channel is none, or the client has ended.
    pub async fn subscribe(&self, patterns: &[&str], channels: &[&str]) -> Result<Subscription, ConnectError> {
        let (patterns, channels) = selection(patterns, channels)?;
        let number = self.shared.readers.fetch_add(1, Ordering::Relaxed);
        let commands = self.commands.downgrade();
        let (reader, subscription) = Subscription::new(number, patterns, channels, self.shared.feed_queue, commands);
        self.command(Command::Subscribe(reader)).await?;
        Ok(subscription)
    }

    /// Sends a message, online or not, and answers once the gateway has accepted it. Whatever happens to the line, it is
    /// accepted once.
    ///
    /// # Errors
    /// If the queue is full, the message refused, or the client has ended.
    pub async fn send(&self, outgoing: Outgoing) -> Result<SendAck, SendError> {
        let sending = self.enqueue(outgoing).await?;
        sending.accepted().await
    }

    /// Puts a message into the queue, and answers at once.
    ///
    /// # Errors
    /// If the queue is full, or the client has ended.
    pub async fn enqueue(&self, mut outgoing: Outgoing) -> Result<Sending, SendError> {
        let permit = self.shared.outbound.place().await?;
        let id = outgoing.id.take().unwrap_or_else(|| self.mint());
        let (answer, waiting) = oneshot::channel();
        let ticket = Ticket { answer: Some(answer), permit, refusals: 0 };
        self.command(Command::Send(id.clone(), outgoing, ticket)).await?;
        Ok(Sending { id, waiting })
    }

    fn mint(&self) -> MessageId {
        let Shared { prefix, count, .. } = &*self.shared;
        let text = format!("{prefix:016x}-{:x}", count.fetch_add(1, Ordering::Relaxed));
        MessageId::from_caller(&text).unwrap_or_else(|error| unreachable!("hexadecimal digits are an id: {error}"))
    }

    /// Makes a call of the daemon protocol, such as `query_capabilities`, and answers its payload. It is repeated when the
    /// line breaks: all calls can be.
    ///
    /// # Errors
    /// If it is refused or not answered within 30 s, or the client has ended.
    pub async fn call<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        payload: &impl Serialize,
    ) -> Result<T, CallError> {
        let malformed = |error: serde_json::Error| CallError::Malformed(error.to_string());
        let payload = to_raw_value(payload).map_err(malformed)?;
        let (answer, waiting) = oneshot::channel();
        let until = deadline(CALL_TIMEOUT);
        self.command(Command::Call(Call { kind, payload, until, answer })).await?;
        let answer = waiting.await.unwrap_or(Err(CallError::Stopped(Stopped::Failed)))?;
        serde_json::from_slice(&answer).map_err(malformed)
    }

    /// Says what the daemon does, with its next heartbeat. A paused one gets no messages while another can.
    ///
    /// # Errors
    /// If the client has ended.
    pub async fn report(&self, status: ReportedStatus) -> Result<(), Stopped> {
        self.command(Command::Report(Some(status), None)).await
    }

    /// Measurements for the next heartbeat: a JSON object of at most 8 KiB.
    ///
    /// # Errors
    /// If they are none, or the client has ended.
    pub async fn report_metrics(&self, metrics: &impl Serialize) -> Result<(), CallError> {
        let raw = to_raw_value(metrics).map_err(|error| CallError::Malformed(error.to_string()))?;
        if !raw.get().starts_with('{') || raw.get().len() > 8 * 1024 {
            return Err(CallError::Malformed("metrics must be a JSON object of at most 8 KiB".into()));
        }
        Ok(self.command(Command::Report(None, Some(raw))).await?)
    }

    /// Takes tasks with these options. `judge` says of each offer whether it is taken, or why not; `handler` does it.
    ///
    /// # Errors
    /// If the registration fails.
    pub async fn work<J, H, F>(&self, options: WorkOptions, judge: J, handler: H) -> Result<Worker, CallError>
    where
        J: Fn(&Offer) -> Result<(), String> + Send + Sync + 'static,
        H: Fn(Task) -> F + Send + Sync + 'static,
        F: Future<Output = Result<serde_json::Value, TaskFailed>> + Send + 'static,
    {
        Worker::start(self, options, Arc::new(judge), Arc::new(move |task| Box::pin(handler(task)))).await
    }

    /// Gives a task away; answers once it is known that somebody will be found, or why not.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn delegate(&self, request: &Request) -> Result<Delegation, CallError> {
        Delegation::make(self, request).await
    }

    /// Whoever sorts the mail about tasks. Before somebody asks for it, such mail is like any other.
    pub(crate) fn desk(&self) -> mpsc::Sender<Notice> {
        let TaskMail { mail, others, wanted, desk } = &self.shared.task_mail;
        let make = || {
            let (sender, notices) = mpsc::channel(64);
            self.shared.tasks.spawn(Desk::new(mail.clone(), notices, others.clone()).run());
            wanted.store(true, Ordering::Release);
            sender
        };
        desk.get_or_init(make).clone()
    }

    /// Tells of each session that begins or ends.
    pub(crate) fn sessions(&self) -> watch::Receiver<State> {
        self.shared.state.clone()
    }

    /// Waits until the client is logged in.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn connected(&self) -> Result<SessionId, Stopped> {
        let mut state = self.shared.state.clone();
        let found = state.wait_for(|state| state.session.is_some() || state.stopped.is_some()).await;
        let state = found.map_err(|_| Stopped::Failed)?;
        match (&state.session, &state.stopped) {
            (_, Some(stopped)) => Err(stopped.clone()),
            (Some(session), None) => Ok(session.clone()),
            (None, None) => Err(Stopped::Failed),
        }
    }

    /// The session that is open now.
    pub fn session(&self) -> Option<SessionId> {
        self.shared.state.borrow().session.clone()
    }

    /// How the connection is.
    pub fn health(&self) -> Health {
        self.shared.state.borrow().health
    }

    /// Counters since the client was made.
    pub fn statistics(&self) -> Statistics {
        self.shared.state.borrow().statistics
    }

    /// Waits until the client has ended, and says why.
    pub async fn closed(&self) -> Stopped {
        let mut state = self.shared.state.clone();
        match state.wait_for(|state| state.stopped.is_some()).await {
            Ok(state) => state.stopped.clone().unwrap_or(Stopped::Failed),
            Err(_) => Stopped::Failed,
        }
    }

    /// Takes no more messages, waits until all that are in hand are settled and all that wait are sent, and leaves: the
    /// orchestrator is offline at once. Somebody must go on settling what is in hand. Answers why the client ended.
    pub async fn drain(&self) -> Stopped {
        // One that has ended already has nothing left to do.
        self.command(Command::Drain).await.ok();
        self.ended().await
    }

    /// Leaves at once. What is in hand comes again, here or elsewhere; what waits to be sent is in the state file, or lost.
    pub async fn close(&self) -> Stopped {
        self.command(Command::Close).await.ok();
        self.ended().await
    }

    async fn ended(&self) -> Stopped {
        let why = self.closed().await;
        self.shared.tasks.wait().await;
        why
    }

    async fn command(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| {
            let stopped = self.shared.state.borrow().stopped.clone();
            stopped.unwrap_or(Stopped::Failed)
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a deadline begins where the caller stands")]
fn deadline(after: Duration) -> Instant {
    Instant::now() + after
}

/// A message on its way.
#[derive(Debug)]
pub struct Sending {
    id: MessageId,
    waiting: oneshot::Receiver<Result<SendAck, SendError>>,
}

impl Sending {
    /// Its id.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// Waits until the gateway has accepted it.
    ///
    /// # Errors
    /// If it is refused or displaced, or the client has ended.
    pub async fn accepted(self) -> Result<SendAck, SendError> {
        self.waiting.await.unwrap_or(Err(SendError::Stopped(Stopped::Failed)))
    }
}
