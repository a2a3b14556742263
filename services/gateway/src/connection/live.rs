//! A session that is open: one loop around one `select!`. Inside it is chosen what happened, outside it is done.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use secrecy::SecretString;
use waystation_domain::{FeedPoint, MessageId, ReportedStatus, Subscriptions};
use waystation_proto::common::v1::ActivityKind;
use waystation_rpc::About;
use waystation_runtime::Context;
use waystation_wire::{
    CallFailed, CallOutcome, ClientFrame, CloseCode, Command, CompareAnswer, Ending, FeedNews, FrameError, Note,
    Opening, ReadResult, Received, Renewed, SendOutcome, Session, SettleAnswer,
};

use super::outlet::{Incoming, Outlet};
use super::stall::Stall;
use super::traced::Traced;
use super::{Opened, renewal};
use crate::feeds::{Seat, Viewer};
use crate::registry::{Event, Handle, Report};
use crate::upstream::{OpenFailed, SessionKey};
use crate::{Parts, drain};

/// How long acks that a client sent last are brought to the store after it has gone.
const LAST_ACKS: Duration = Duration::from_secs(5);
/// Between attempts to tell the store that the session has ended.
const CLOSE_AGAIN: Duration = Duration::from_secs(1);
/// A write that waits for so long shows that the client does not read.
const STALLED: Duration = Duration::from_secs(1);

pub(super) struct Live {
    parts: Parts,
    session: Session,
    opened: Opened,
    opened_at: Instant,
    /// The token ends.
    expires: Instant,
    /// The client was told to come back elsewhere, and has had the time for it.
    leave: Option<Instant>,
    /// The session is to be opened again, by another incarnation.
    reopen: Option<Instant>,
    calls: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    stall: Stall,
    traced: Traced,
    /// Its place at the feed, once something is subscribed.
    seat: Option<Seat>,
}

/// What a call brought.
enum Answer {
    Read(Result<ReadResult, CallFailed>),
    Settled(Result<SettleAnswer, CallFailed>),
    Compared(Result<CompareAnswer, CallFailed>),
    Subscribed(Result<Option<FeedPoint>, CallFailed>),
    Sent(Option<String>, SendOutcome),
    Called(CallOutcome),
    /// And the term in which it was asked for.
    Reopened(Result<Opening, Option<Ending>>, u64),
}

/// What happened.
enum Happened {
    /// So many wait.
    Events(usize),
    Answered(Answer),
    Received(Incoming),
    Time,
}

/// How a loop ends.
enum End {
    /// By the client, or the line.
    Gone,
    /// By us, with this code.
    Close(CloseCode),
}

/// What became of the session's commands.
enum Performed {
    All,
    /// The socket takes no more for now.
    NoRoom,
    End(End),
}

impl Live {
    pub(super) fn new(parts: Parts, session: Session, opened: Opened, expires: Instant) -> Live {
        let opened_at = parts.context.clock.instant();
        Live {
            opened_at,
            parts,
            session,
            opened,
            expires,
            leave: None,
            reopen: None,
            calls: FuturesUnordered::new(),
            stall: Stall::default(),
            traced: Traced::default(),
            seat: None,
        }
    }

    pub(super) fn key(&self) -> &SessionKey {
        &self.opened.key
    }

    /// How others reach the session.
    pub(super) fn handle(&self) -> Arc<Handle> {
        self.opened.registration.handle.clone()
    }

    /// Serves until the end, and leaves. Answers the code it closed with, unless the client has gone, and whose session
    /// it was.
    pub(super) async fn run(mut self: Box<Self>, socket: &mut impl Outlet) -> (Option<CloseCode>, SessionKey) {
        let key = self.opened.key.clone();
        let code = match self.serve(socket).await {
            End::Gone => {
                Box::pin(self.leave_store()).await;
                None
            }
            End::Close(code) => {
                Box::pin(async { tokio::join!(socket.close(code), self.leave_store()) }).await;
                Some(code)
            }
        };
        (code, key)
    }

    async fn serve(&mut self, socket: &mut impl Outlet) -> End {
        // One timer for all rounds: most of them change nothing about when to look again.
        let timer = tokio::time::sleep_until(self.expires.into());
        tokio::pin!(timer);
        let mut now = self.parts.context.clock.instant();
        self.check_lease(now);
        let mut keeps_time = false;
        loop {
            self.session.listen(socket.is_taken(), now);
            match self.perform(socket) {
                Performed::All => socket.flush().await,
                // Once it is written there is another round.
                Performed::NoRoom => {}
                Performed::End(end) => return end,
            }
            if !socket.is_dirty() {
                self.traced.written();
            }
            socket.note_progress(|| self.session.is_caught_up());
            if !keeps_time || socket.is_dirty() {
                let timeout = self.timeout(socket, now).into();
                if timer.deadline() != timeout {
                    timer.as_mut().reset(timeout);
                }
            }
            let read = self.session.wants_input();
            let happened = tokio::select! {
                count = self.opened.registration.handle.events.filled() => Happened::Events(count),
                Some(answer) = self.calls.next(), if !self.calls.is_empty() => Happened::Answered(answer),
                incoming = socket.next(read) => Happened::Received(incoming),
                () = &mut timer => Happened::Time,
            };
            now = self.parts.context.clock.instant();
            // The process may have been stopped while it waited.
            self.check_lease(now);
            keeps_time = false;
            match happened {
                Happened::Events(count) => keeps_time = self.take_events(count, socket, now),
                Happened::Answered(answer) => self.take_answer(answer, now),
                Happened::Received(Incoming::Frame(received)) => {
                    self.note_heartbeat(&received);
                    self.session.handle_frame(received, now);
                    self.note_acknowledged();
                }
                Happened::Received(Incoming::Alive) => self.session.handle_liveness(now),
                Happened::Received(Incoming::Flushed) => {}
                Happened::Received(Incoming::Broken(None)) => return End::Gone,
                Happened::Received(Incoming::Broken(Some(code))) => return End::Close(code),
                Happened::Time => {
                    if let Some(end) = self.take_time(now) {
                        return end;
                    }
                }
            }
            if self.opened.registration.handle.events.take_lost() {
                self.session.handle_overflow(now);
            }
        }
    }

    /// A process that was stopped and continued finds here that others may serve its mailboxes.
    fn check_lease(&mut self, now: Instant) {
        if !self.parts.lease.covers(self.opened.term, now) {
            self.session.suspend();
        }
    }

    fn note_heartbeat(&self, received: &Result<Received, FrameError>) {
        if let Ok(Received { frame: ClientFrame::Heartbeat(heartbeat), .. }) = received {
            if let Some(seat) = &self.seat {
                // What is told of the feed in answer to this heartbeat or the next one.
                seat.mark();
            }
            self.tell(ActivityKind::HeartbeatReceived, heartbeat.status.map_or("", ReportedStatus::name));
        }
    }

    fn note_acknowledged(&mut self) {
        for (position, took) in self.session.take_times() {
            let trace = self.traced.acknowledged(&self.parts.context.tracer, position, took);
            self.parts.metrics.acknowledged.observe(took, trace.as_ref());
        }
    }

    fn tell(&self, kind: ActivityKind, detail: &str) {
        let about = About { daemon: self.opened.request.daemon.as_str(), ..self.opened.key.about() };
        self.parts.activities.tell(kind, about, |activity| activity.detail = detail.to_owned());
    }

    fn report(&self, socket: &impl Outlet, now: Instant) -> Report {
        Report {
            key: self.opened.key.clone(),
            daemon: self.opened.request.daemon.clone(),
            open_for: now - self.opened_at,
            health: self.session.health(now),
            sent: socket.sent(),
            is_stalled: self.stall.lasts(now) > STALLED,
        }
    }

    /// Takes so many events; answers whether none of them changes when to look again.
    fn take_events(&mut self, count: usize, socket: &mut impl Outlet, now: Instant) -> bool {
        let mut keeps_time = self.stall.is_over();
        for _ in 0..count {
            let Some(event) = self.opened.registration.handle.events.pop() else { break };
            // Most events are of the feed, for clients that keep up.
            if let Event::Feed(FeedNews::Event(event)) = &event
                && socket.takes_events()
                && self.session.show_at_once(event)
            {
                socket.queue_event(event);
                continue;
            }
            keeps_time &= matches!(event, Event::Feed(_));
            self.take_event(event, socket, now);
        }
        keeps_time
    }

    fn take_event(&mut self, event: Event, socket: &impl Outlet, now: Instant) {
        match event {
            Event::Report(to) => drop(to.send(self.report(socket, now))),
            Event::Push(push) => self.session.handle_push(*push, now),
            Event::Feed(news) => self.session.handle_feed(news),
            Event::Acknowledged(ids) => {
                self.session.handle_acknowledged(&ids, now);
                self.note_acknowledged();
            }
            Event::PossibleLoss => self.session.handle_possible_loss(now),
            Event::Reopen(after) => {
                let after = Duration::from_millis(after.into());
                self.session.suspend();
                self.reopen = Some(now + after);
            }
            Event::Drain(after) => {
                let after = Duration::from_millis(after.into());
                self.session.drain(after);
                self.leave = Some(now + after + drain::PATIENCE);
            }
            Event::End(ending) => self.session.end(ending),
        }
    }

    fn take_answer(&mut self, answer: Answer, now: Instant) {
        match answer {
            Answer::Read(read) => self.session.handle_read(read, now),
            Answer::Settled(settled) => self.session.handle_settled(settled, now),
            Answer::Compared(compared) => self.session.handle_compared(compared, now),
            Answer::Subscribed(subscribed) => self.session.handle_subscribed(subscribed, now),
            Answer::Sent(reply_to, outcome) => self.session.handle_sent(reply_to, outcome, now),
            Answer::Called(outcome) => self.session.handle_called(outcome, now),
            Answer::Reopened(reopened, term) => {
                self.opened.term = term;
                self.session.handle_reopened(reopened, now);
            }
        }
    }

    fn take_time(&mut self, now: Instant) -> Option<End> {
        self.opened.registration.handle.events.rest();
        if self.expires <= now {
            self.session.end(Ending::TokenExpired);
        }
        if self.leave.is_some_and(|at| at <= now) {
            self.session.end(Ending::Restarting);
        }
        if self.reopen.take_if(|at| *at <= now).is_some() {
            self.reopen_now();
        }
        if self.stall.lasts(now) >= self.parts.config.limits.write_stall {
            // Nobody reads: a close frame would wait behind the rest.
            return Some(End::Close(CloseCode::SlowConsumer));
        }
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        None
    }

    /// When to look again if nothing happens.
    fn timeout(&mut self, socket: &impl Outlet, now: Instant) -> Instant {
        let stall = self.stall.look(socket.is_dirty(), socket.written(), now);
        let stall = stall.map(|since| since + self.parts.config.limits.write_stall);
        let times = [Some(self.expires), self.leave, self.reopen, stall, self.session.poll_timeout()];
        times.into_iter().flatten().min().unwrap_or(self.expires)
    }

    /// Does what the session wants, as far as the socket has room.
    fn perform(&mut self, socket: &mut impl Outlet) -> Performed {
        while let Some(command) = self.session.next_command() {
            match command {
                Command::Send(frame) => {
                    if !socket.has_room(&frame) {
                        self.session.put_back(Command::Send(frame));
                        return Performed::NoRoom;
                    }
                    let Context { tracer, clock, .. } = &self.parts.context;
                    self.traced.queued(tracer, &frame, clock);
                    self.parts.metrics.told(&frame);
                    socket.queue(&frame);
                }
                Command::Filter(wanted) => self.filter(wanted),
                Command::Follow(request) => {
                    if let Some(seat) = &self.seat {
                        seat.follow(request);
                    }
                }
                Command::Unfollow => {
                    if let Some(seat) = &self.seat {
                        seat.unfollow();
                    }
                }
                Command::Close(code) => return Performed::End(End::Close(code)),
                Command::Reopen => self.reopen_now(),
                Command::Renew { reply_to, access_token } => self.renew(reply_to, &access_token),
                Command::Note(Note::ReplayStarted) => self.tell(ActivityKind::QueueProcessingStarted, ""),
                Command::Note(Note::ReplayCompleted) => self.tell(ActivityKind::QueueProcessingCompleted, ""),
                Command::Read(_)
                | Command::Settle(_)
                | Command::Compare { .. }
                | Command::Subscribe(_)
                | Command::Call { .. }
                | Command::Route { .. } => self.call(command),
            }
        }
        Performed::All
    }

    /// Other events are wanted.
    fn filter(&mut self, wanted: Subscriptions) {
        match &self.seat {
            _ if wanted.patterns.is_empty() => self.seat = None,
            Some(seat) => seat.filter(wanted),
            None => {
                let handle = self.opened.registration.handle.clone();
                let viewer = Viewer {
                    orchestrator: Some(self.opened.key.orchestrator.clone()),
                    daemon: Some(self.opened.request.daemon.clone()),
                    scopes: handle.claims().scopes,
                    subscriptions: wanted,
                };
                self.seat = Some(self.parts.feeds.sit(&self.opened.key.organization, handle, viewer));
            }
        }
    }

    /// A new token takes the place of the present one, or is refused.
    fn renew(&mut self, reply_to: Option<String>, token: &str) {
        let handle = &self.opened.registration.handle;
        let judged = renewal::judge(&self.parts, &handle.claims(), token);
        let renewed = judged.map(|claims| {
            let renewed = Renewed { scopes: claims.scopes, expires: claims.expires };
            let left = claims.expires.since(self.parts.context.clock.now());
            self.expires = self.parts.context.clock.instant() + left;
            self.opened.request.token = SecretString::from(token);
            if let Some(seat) = &self.seat {
                seat.allow(claims.scopes);
            }
            handle.renew(claims, SecretString::from(token));
            renewed
        });
        self.session.handle_refreshed(reply_to, renewed);
    }

    fn reopen_now(&mut self) {
        let (upstream, lease, request) =
            (self.parts.upstream.clone(), self.parts.lease.clone(), self.opened.request.clone());
        self.calls.push(Box::pin(async move {
            let term = lease.term();
            let opened = upstream.open(lease.incarnation(), request).await;
            Answer::Reopened(opened.map(|answer| answer.opening).map_err(OpenFailed::ending), term)
        }));
    }

    fn call(&mut self, command: Command) {
        let (upstream, key) = (self.parts.upstream.clone(), self.opened.key.clone());
        self.calls.push(match command {
            Command::Read(read) => Box::pin(async move { Answer::Read(upstream.read(&key, read).await) }),
            Command::Settle(settle) => {
                let spans = self.traced.settling(&self.parts.context.tracer);
                Box::pin(async move { Answer::Settled(upstream.settle(&key, settle, spans).await) })
            }
            Command::Compare { status, metrics, idle } => {
                Box::pin(async move { Answer::Compared(upstream.compare(&key, status, metrics, idle).await) })
            }
            Command::Subscribe(wanted) => {
                let wanted: Subscriptions = wanted;
                Box::pin(async move { Answer::Subscribed(upstream.subscribe(&key, &wanted).await) })
            }
            Command::Route { reply_to, message } => {
                let token = self.opened.request.token.clone();
                let id =
                    message.id.clone().unwrap_or_else(|| MessageId::minted(self.parts.context.entropy.large_number()));
                Box::pin(async move { Answer::Sent(reply_to, upstream.send(&token, id, *message).await) })
            }
            Command::Call { call, .. } => {
                let (tasks, token) = (self.parts.tasks.clone(), self.opened.request.token.clone());
                Box::pin(async move { Answer::Called(tasks.call(&token, *call).await) })
            }
            Command::Send(_)
            | Command::Close(_)
            | Command::Reopen
            | Command::Renew { .. }
            | Command::Filter(_)
            | Command::Follow(_)
            | Command::Unfollow
            | Command::Note(_) => return,
        });
    }

    /// Brings the last acks home, then tells the store that the session has ended.
    async fn leave_store(mut self: Box<Self>) {
        let settling = async {
            while self.session.is_settling() {
                while let Some(command) = self.session.next_command() {
                    if matches!(command, Command::Settle(_)) {
                        self.call(command);
                    }
                }
                let Some(answer) = self.calls.next().await else { break };
                let now = self.parts.context.clock.instant();
                if let Answer::Settled(settled) = answer {
                    self.session.handle_settled(settled, now);
                }
            }
        };
        if tokio::time::timeout(LAST_ACKS, settling).await.is_err() {
            tracing::debug!("the last acks of a session did not reach the store");
        }
        let (drained, goodbye) = (self.session.is_draining(), self.session.has_said_goodbye());
        let Live { parts, opened, seat, .. } = *self;
        drop(seat);
        let Opened { key, registration, .. } = opened;
        drop(registration);
        let (lifecycle, upstream) = (parts.context.lifecycle.clone(), parts.upstream.clone());
        // While the store is away the session stays in it; it must not outlive its socket there.
        parts.context.lifecycle.spawn(async move {
            while upstream.close(&key, goodbye, drained).await.is_err() {
                tokio::select! {
                    () = tokio::time::sleep(CLOSE_AGAIN) => {}
                    () = lifecycle.stopping() => return,
                }
            }
        });
    }
}
