//! Does what the core says: owns socket, clocks, randomness and disk.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::task::TaskTracker;
use waystation_domain::Timestamp;
use waystation_wire::CloseCode;
use waystation_wire::client::Garbage;

use crate::client::{Client, Shared, State, TaskMail};
use crate::core::{Actions, Command, Core, Moment, Next, Verdict};
use crate::delivery::{DROPPED, Delivery, Dropped};
use crate::error::{Disconnect, Stopped};
use crate::event::Event;
use crate::journal::Journal;
use crate::options::{Listener, Overflow};
use crate::outbound::Outbound;
use crate::retry::{Breaker, Retry, RetryPolicy};
use crate::subscription::Reader;
use crate::token::{Occasion, Token, TokenError, TokenSource};
use crate::transport::{Endpoint, Socket};

/// Frames and commands that are taken before what they cause is done: what comes together is answered together.
const TOGETHER: usize = 256;
/// A connection that ended as the gateway wished, and sooner than this, counts as failed all the same.
const SHORT: Duration = Duration::from_secs(5);
/// How long the last frames of a connection may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// A token that ends within this is not worth a login.
const NEARLY_OVER: Duration = Duration::from_secs(5);
/// So many refused tokens in a row are enough.
const REFUSALS: u32 = 2;

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) core: Core,
    pub(crate) journal: Option<Journal>,
    pub(crate) endpoint: Endpoint,
    pub(crate) tokens: Arc<dyn TokenSource>,
    pub(crate) retry: RetryPolicy,
    pub(crate) listener: Option<Listener>,
    pub(crate) commands: (mpsc::Sender<Command>, mpsc::Receiver<Command>),
    pub(crate) readers: Vec<Reader>,
    pub(crate) deliveries: usize,
}

/// Runs until the client ends.
pub(crate) struct Driver {
    core: Core,
    journal: Option<Journal>,
    endpoint: Endpoint,
    tokens: Arc<dyn TokenSource>,
    token: Option<Token>,
    /// Tokens that were refused in a row.
    refusals: u32,
    retry: Retry,
    listener: Option<Listener>,
    commands: mpsc::Receiver<Command>,
    /// Given to deliveries; does not keep the client alive.
    sender: mpsc::WeakSender<Command>,
    dropped: Arc<Dropped>,
    deliveries: async_channel::Sender<Result<Delivery, Stopped>>,
    /// Mail about tasks, if somebody wants it.
    task_mail: async_channel::Sender<Delivery>,
    wants_task_mail: Arc<AtomicBool>,
    state: watch::Sender<State>,
}

#[expect(clippy::disallowed_methods, reason = "the one place where a client reads time")]
fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall = Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    Moment { instant: Instant::now(), wall }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    /// Starts the client's task.
    pub(crate) fn start(parts: Parts, queue: usize, overflow: Overflow, feed_queue: usize) -> Client {
        let Parts { core, journal, endpoint, tokens, retry, listener, commands, readers, deliveries } = parts;
        let (delivering, delivered) = async_channel::bounded(deliveries);
        let (task_mail, mail) = async_channel::bounded(deliveries);
        let wanted = Arc::new(AtomicBool::new(false));
        let (state, seen) = watch::channel(State::default());
        let first_reader = readers.len() as u64;
        let mut driver = Driver {
            core,
            journal,
            endpoint,
            tokens,
            token: None,
            refusals: 0,
            retry: Retry::new(retry),
            listener,
            commands: commands.1,
            sender: commands.0.downgrade(),
            dropped: Arc::new(Dropped::default()),
            deliveries: delivering.clone(),
            task_mail,
            wants_task_mail: wanted.clone(),
            state,
        };
        for reader in readers {
            driver.core.command(Command::Subscribe(reader), now());
        }
        let tasks = TaskTracker::new();
        tasks.spawn(driver.run());
        tasks.close();
        let permits = (overflow != Overflow::DisplaceOldest).then(|| Arc::new(Semaphore::new(queue)));
        let outbound = Outbound { permits, waits: overflow == Overflow::Wait, most: queue };
        let task_mail = TaskMail { mail, others: delivering, wanted, desk: OnceLock::new() };
        Client::new(Shared::new(outbound, feed_queue, first_reader, seen, delivered, tasks, task_mail), commands.0)
    }

    async fn run(mut self) {
        let Err(why) = self.live().await;
        self.core.stop(&why);
        self.emit(&Event::Stopped(why.clone()));
        if why != Stopped::Closed {
            // A full queue ends all the same; the client's own end says why.
            self.deliveries.try_send(Err(why.clone())).ok();
        }
        self.deliveries.close();
        self.task_mail.close();
        self.state.send_modify(|state| {
            state.session = None;
            state.health = self.core.health();
            state.stopped = Some(why.clone());
        });
    }

    /// One connection after the other.
    async fn live(&mut self) -> Result<Infallible, Stopped> {
        loop {
            self.retry.trying();
            let began = now().instant;
            let why = self.connect().await?;
            let next = self.core.lost(&why);
            let lived = now().instant.saturating_duration_since(began);
            let wait = self.wait_after(&why, next, lived)?;
            let failures = self.retry.failures();
            self.emit(&Event::Disconnected { reason: why, after: wait, failures });
            if self.retry.breaker() == Breaker::Open {
                self.emit(&Event::Breaker(Breaker::Open));
            }
            self.show();
            self.meanwhile(tokio::time::sleep(wait)).await?;
        }
    }

    /// How long to wait after a connection has ended so.
    fn wait_after(&mut self, why: &Disconnect, next: Next, lived: Duration) -> Result<Duration, Stopped> {
        let random = rand::random();
        match next {
            Next::Stop(stopped) => Err(stopped),
            Next::NewToken => {
                self.token = None;
                self.refusals += 1;
                if self.refusals > REFUSALS {
                    return Err(Stopped::Token(why.to_string()));
                }
                Ok(if self.refusals == 1 { Duration::ZERO } else { self.retry.failed(Duration::ZERO, random) })
            }
            Next::Retry { at_least, as_wished: true } if lived >= SHORT => Ok(at_least),
            Next::Retry { at_least, .. } => {
                if matches!(why, Disconnect::Garbage(_) | Disconnect::Contradiction(_)) {
                    self.retry.violated();
                }
                Ok(self.retry.failed(at_least, random))
            }
        }
    }

    /// Connects, logs in, and serves the connection until it ends.
    async fn connect(&mut self) -> Result<Disconnect, Stopped> {
        let token = match self.good_token().await? {
            Ok(token) => token,
            Err(problem) => return Ok(Disconnect::Token(problem)),
        };
        let endpoint = self.endpoint.clone();
        let opening = async move { endpoint.connect().await };
        match self.meanwhile(opening).await? {
            Ok(socket) => {
                self.core.opened(&token, now());
                self.serve(socket).await
            }
            Err(problem) => Ok(Disconnect::Unreachable(problem)),
        }
    }

    /// The token there is, or a new one. The inner error is for now.
    async fn good_token(&mut self) -> Result<Result<Token, String>, Stopped> {
        let lasts = |token: &Token| token.expires.is_none_or(|expires| expires.since(now().wall) > NEARLY_OVER);
        if let Some(token) = self.token.clone().filter(lasts) {
            return Ok(Ok(token));
        }
        let has_ended = |token: &Token| token.expires.is_some_and(|expires| expires <= now().wall);
        let occasion = match &self.token {
            _ if self.refusals > 0 => Occasion::Refused,
            Some(token) if has_ended(token) => Occasion::Refused,
            Some(_) => Occasion::Renewal,
            None => Occasion::First,
        };
        let tokens = self.tokens.clone();
        match self.meanwhile(async move { tokens.token(occasion).await }).await? {
            Ok(token) => {
                self.token = Some(token.clone());
                Ok(Ok(token))
            }
            Err(TokenError::ForNow(problem)) => Ok(Err(problem)),
            Err(TokenError::ForGood(problem)) => Err(Stopped::Token(problem)),
        }
    }

    /// Waits for something while there is no connection.
    async fn meanwhile<F: Future>(&mut self, something: F) -> Result<F::Output, Stopped> {
        let mut something = std::pin::pin!(something);
        loop {
            let due = self.core.due();
            tokio::select! {
                found = &mut something => return Ok(found),
                command = self.commands.recv() => self.take_commands(command),
                () = self.dropped.notify.notified() => self.take_dropped(),
                () = until(due) => self.core.tick(now()),
            }
            let actions = self.act()?;
            if actions.finished {
                return Err(Stopped::Closed);
            }
        }
    }

    fn take_commands(&mut self, first: Option<Command>) {
        // The last handle is gone: the program has no more use for it.
        let mut command = Some(first.unwrap_or(Command::Close));
        let now = now();
        for _ in 0..TOGETHER {
            let Some(next) = command.take() else { break };
            self.core.command(next, now);
            command = self.commands.try_recv().ok();
        }
        if let Some(command) = command {
            self.core.command(command, now);
        }
    }

    fn take_dropped(&mut self) {
        for (position, id) in self.dropped.take() {
            let verdict = Verdict::Nack(DROPPED, "dropped unsettled".into());
            self.core.command(Command::Settle(position, id, verdict), now());
        }
    }

    /// Does all that needs no socket, records first.
    fn act(&mut self) -> Result<Actions, Stopped> {
        let mut actions = self.core.take(now());
        if let Some(journal) = self.journal.as_mut() {
            let written = match actions.records.as_slice() {
                [] => Ok(()),
                records => journal.append(records),
            };
            let written = written.and_then(|()| {
                if !journal.is_long() {
                    return Ok(());
                }
                let (memory, queued) = self.core.state();
                journal.rewrite(memory, queued)
            });
            if let Err(error) = written {
                let why = Stopped::State(error.to_string());
                for done in actions.written {
                    done.send(Err(why.clone())).ok();
                }
                return Err(why);
            }
        }
        for done in actions.written.drain(..) {
            done.send(Ok(())).ok();
        }
        for (mail, in_doubt) in actions.handed.drain(..) {
            // Without a handle nobody will settle it.
            let Some(commands) = self.sender.upgrade() else { continue };
            let is_kept = self.journal.is_some();
            let delivery = Delivery::new(mail, in_doubt, is_kept, commands, self.dropped.clone());
            let is_of_task = delivery.event_type.as_str().starts_with("delegation.");
            // One that does not fit is dropped here, and so given back.
            if is_of_task && self.wants_task_mail.load(Ordering::Acquire) {
                self.task_mail.try_send(delivery).ok();
            } else {
                self.deliveries.try_send(Ok(delivery)).ok();
            }
        }
        for event in &actions.events {
            if let Event::Connected { .. } = event {
                self.refusals = 0;
                if self.retry.breaker() != Breaker::Closed {
                    self.emit(&Event::Breaker(Breaker::Closed));
                }
                self.retry.connected();
            }
            self.emit(event);
        }
        self.show();
        Ok(actions)
    }

    fn emit(&self, event: &Event) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    /// Shows how things are.
    fn show(&self) {
        let (health, statistics, session) = (self.core.health(), self.core.statistics(), self.core.session());
        self.state.send_if_modified(|state| {
            (state.health, state.statistics) = (health, statistics);
            let changed = state.session.as_ref() != session;
            if changed {
                state.session = session.cloned();
            }
            changed
        });
    }

    /// Serves a connection until it ends.
    async fn serve(&mut self, socket: Socket) -> Result<Disconnect, Stopped> {
        let (mut sink, mut stream) = socket.split();
        let mut queue: std::collections::VecDeque<Message> = std::collections::VecDeque::new();
        let mut unflushed = false;
        let mut renewal: OptionFuture<_> = None.into();
        loop {
            let actions = match self.act() {
                Ok(actions) => actions,
                Err(stopped) => {
                    farewell(&mut sink, queue, CloseCode::Normal).await;
                    return Err(stopped);
                }
            };
            queue.extend(actions.frames.into_iter().map(Message::text));
            if actions.ping {
                queue.push_back(Message::Ping(Bytes::new()));
            }
            if actions.renew {
                let tokens = self.tokens.clone();
                renewal = Some(async move { tokens.token(Occasion::Renewal).await }.boxed()).into();
            }
            if let Some(why) = actions.hang_up {
                let broken = matches!(why, Disconnect::Garbage(_) | Disconnect::Contradiction(_));
                // Whoever is silent does not listen either.
                if !matches!(why, Disconnect::Silent(_)) {
                    let code = if broken { CloseCode::ProtocolError } else { CloseCode::Normal };
                    farewell(&mut sink, queue, code).await;
                }
                return Ok(why);
            }
            if actions.finished {
                farewell(&mut sink, queue, CloseCode::Normal).await;
                return Err(Stopped::Closed);
            }
            let due = self.core.due();
            let writes = unflushed || !queue.is_empty();
            // Everything here can be dropped half done: what has left the queue is in the socket's buffer.
            tokio::select! {
                frame = stream.next() => {
                    let mut frame = Some(frame);
                    for _ in 0..TOGETHER {
                        match frame.take().map(|frame| self.take_frame(frame)) {
                            Some(Some(ended)) => return Ok(ended),
                            Some(None) => frame = stream.next().now_or_never(),
                            None => break,
                        }
                    }
                    if let Some(Some(ended)) = frame.map(|frame| self.take_frame(frame)) {
                        return Ok(ended);
                    }
                }
                written = write(&mut sink, &mut queue, &mut unflushed), if writes => {
                    if let Err(error) = written {
                        return Ok(broken(&error));
                    }
                }
                command = self.commands.recv() => self.take_commands(command),
                () = self.dropped.notify.notified() => self.take_dropped(),
                Some(token) = &mut renewal => {
                    renewal = None.into();
                    self.take_renewal(token);
                }
                () = until(due) => self.core.tick(now()),
            }
        }
    }

    fn take_renewal(&mut self, token: Result<Token, TokenError>) {
        if let Ok(token) = &token {
            self.token = Some(token.clone());
        }
        self.core.renewed(token.map_err(|error| error.to_string()), now());
    }

    /// Answers why the connection has ended, if it has.
    fn take_frame(&mut self, frame: Option<Result<Message, tungstenite::Error>>) -> Option<Disconnect> {
        match frame {
            Some(Ok(Message::Text(text))) => self.core.heard(&Bytes::from(text), now()),
            Some(Ok(Message::Pong(_))) => self.core.ponged(now()),
            // The socket answers pings itself.
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Binary(_))) => {
                let garbage = Garbage { field: None, message: "a binary frame".into() };
                return Some(Disconnect::Garbage(garbage));
            }
            Some(Ok(Message::Close(close))) => {
                let (code, reason) =
                    close.map_or((1005, String::new()), |close| (close.code.into(), close.reason.to_string()));
                return Some(Disconnect::Closed { code, reason });
            }
            Some(Err(error)) => return Some(broken(&error)),
            None => return Some(Disconnect::Closed { code: 1006, reason: String::new() }),
        }
        None
    }
}

fn broken(error: &tungstenite::Error) -> Disconnect {
    use tungstenite::Error::{Capacity, Protocol, Utf8};
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;

    let text = error.to_string();
    let is_garbage = matches!(error, Utf8(_) | Capacity(_) | Protocol(_));
    if is_garbage && !matches!(error, Protocol(ResetWithoutClosingHandshake)) {
        return Disconnect::Garbage(Garbage { field: None, message: text });
    }
    Disconnect::Closed { code: 1006, reason: text }
}

type Sink = futures_util::stream::SplitSink<Socket, Message>;

/// Writes what waits. May be dropped at any await.
async fn write(
    sink: &mut Sink,
    queue: &mut std::collections::VecDeque<Message>,
    unflushed: &mut bool,
) -> Result<(), tungstenite::Error> {
    while !queue.is_empty() {
        std::future::poll_fn(|cx| sink.poll_ready_unpin(cx)).await?;
        if let Some(message) = queue.pop_front() {
            *unflushed = true;
            sink.start_send_unpin(message)?;
        }
    }
    sink.flush().await?;
    *unflushed = false;
    Ok(())
}

/// The last frames of a connection, and a close. Whoever does not take them in time is left.
async fn farewell(sink: &mut Sink, mut queue: std::collections::VecDeque<Message>, code: CloseCode) {
    let close = CloseFrame { code: WireCode::from(code.number()), reason: "".into() };
    queue.push_back(Message::Close(Some(close)));
    let written = tokio::time::timeout(FAREWELL, write(sink, &mut queue, &mut false)).await;
    // The connection is over either way.
    drop(written);
}
