//! A daemon's session after its login.
//!
//! The session decides; its owner performs. It holds no payload: what is not delivered stays in the log.

mod clock;
mod deliver;
mod feed;
mod frames;
mod outgoing;
mod settle;
#[cfg(test)]
mod tests;
mod types;
mod window;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use waystation_domain::{
    Activation, Entry, Epoch, Heads, Lane, PerLane, Position, ReportedStatus, ResumeVerdict, ScopeSet, Subscriptions,
    Window,
};

use crate::close::CloseCode;
use crate::follow::Follower;
use crate::frame::{ServerFrame, TaskCall};
use crate::rate::RateLimit;
use clock::RedeliveryClock;
use outgoing::Sending;
use settle::Settling;
pub use types::{
    Allowance, CallFailed, CallOutcome, ClientProfile, Command, CompareAnswer, Ending, Health, Hint, Note, Opening,
    Push, ReadRequest, ReadResult, Renewed, SendOutcome, SendRefused, SessionConfig, SettleAnswer, SettleRequest,
};
use window::InFlight;

/// Early pushes that are kept, and for how long, until the ones before them come (delivery, rule 3).
const EARLY: usize = 64;
const EARLY_FOR: Duration = Duration::from_millis(5);
/// Commands that may wait for the socket before frames and reads wait too.
const COMMANDS: usize = 256;

/// What one connection does next.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    profile: ClientProfile,
    scopes: ScopeSet,
    window: Window,
    /// 0: standby, another session holds the mailbox.
    fence: u64,
    epoch: Option<Epoch>,
    lanes: PerLane<LaneState>,
    /// Last sequences that were sent on this connection, by epoch; usually there is one.
    shown: Vec<(Epoch, PerLane<u64>)>,
    exits: ExitsState,
    /// Pushed before the ones in front of them.
    early: BTreeMap<(Lane, u64), Entry>,
    early_until: Option<Instant>,
    in_flight: InFlight,
    clock: RedeliveryClock,
    settling: Settling,
    /// The read that is under way.
    reading: Option<ReadRequest>,
    next_read_id: u64,
    /// A read whose outcome is unknown: it is repeated as it was.
    repeat: Option<ReadRequest>,
    /// The last read found nothing that fits; another one waits for an ack or a hint.
    blocked: bool,
    /// When a nacked entry falls due.
    due_at: Option<Instant>,
    /// One has fallen due and has not been read.
    due: bool,
    /// When to try again to open the session anew.
    reopen_at: Option<Instant>,
    /// Nothing is asked of the store before.
    retry_at: Option<Instant>,
    /// Heads of the activation, until all up to there has been sent.
    replay: Option<PerLane<u64>>,
    /// Something of that has been sent.
    replaying: bool,
    /// A frame of the client that waits for its answer from the store; later ones wait behind it.
    busy: Option<Busy>,
    comparing: bool,
    compare_at: Instant,
    last_frame: Instant,
    last_heartbeat: Option<Instant>,
    /// A frame of either side, heartbeats aside.
    last_traffic: Option<Instant>,
    /// See [`Health`].
    latency: Option<Duration>,
    /// From sending to acknowledgement, since it was last asked.
    took: Vec<(Position, Duration)>,
    received: u64,
    refused: u64,
    reported: (Option<ReportedStatus>, Option<Bytes>),
    sending: Sending,
    /// Calls about tasks, in their order; the first is under way.
    calls: VecDeque<(Option<String>, Box<TaskCall>)>,
    said_goodbye: bool,
    subscriptions: Subscriptions,
    follower: Follower,
    strikes: u8,
    messages: RateLimit,
    refusals: RateLimit,
    draining: bool,
    /// Somebody takes what is sent.
    listening: bool,
    closed: bool,
    commands: VecDeque<Command>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LaneState {
    /// Last sequence sent, or that is known to have left.
    sent: u64,
    /// Sequences at or below may have been delivered before this activation.
    mark: u64,
    /// Last sequence that the log is known to have.
    head: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct ExitsState {
    told: u64,
    head: u64,
}

#[derive(Debug)]
enum Busy {
    Heartbeat { reply_to: Option<String> },
    Subscribe { reply_to: Option<String>, wanted: Subscriptions },
}

impl Session {
    /// A session that the store has opened. The first command is `auth_success`.
    pub fn new(
        config: SessionConfig,
        profile: ClientProfile,
        opening: Opening,
        scopes: ScopeSet,
        now: Instant,
    ) -> Self {
        let Allowance { window, messages, messages_announced } = opening.allowance;
        let most = match profile.announces_client {
            true => messages_announced.unwrap_or(config.messages_announced),
            false => messages.unwrap_or(config.messages),
        };
        let mut session = Session {
            fence: 0,
            epoch: None,
            shown: Vec::new(),
            lanes: PerLane::default(),
            exits: ExitsState::default(),
            early: BTreeMap::new(),
            early_until: None,
            in_flight: InFlight::new(window),
            clock: RedeliveryClock::default(),
            settling: Settling::default(),
            reading: None,
            next_read_id: 0,
            repeat: None,
            blocked: false,
            due_at: None,
            due: false,
            reopen_at: None,
            retry_at: None,
            replay: None,
            replaying: false,
            busy: None,
            comparing: false,
            compare_at: now + config.compare_every,
            last_frame: now,
            last_heartbeat: None,
            last_traffic: None,
            latency: None,
            took: Vec::new(),
            received: 0,
            refused: 0,
            reported: (None, None),
            sending: Sending::default(),
            calls: VecDeque::new(),
            said_goodbye: false,
            subscriptions: opening.subscriptions.clone(),
            follower: Follower::default(),
            strikes: 0,
            messages: RateLimit::new(most, config.messages_period),
            refusals: RateLimit::new(config.refusals, config.messages_period),
            draining: false,
            listening: true,
            closed: false,
            commands: VecDeque::new(),
            config,
            profile,
            scopes,
            window,
        };
        session.begin_feed(session.profile.resume_feed.or(opening.feed_head));
        session.welcome(&opening);
        session.reopened(opening, now);
        session
    }

    /// The store has opened the session again on the same socket, or not. Without an ending it was the store
    /// that was away, not the client: the socket stays, and it is tried again.
    pub fn handle_reopened(&mut self, opened: Result<Opening, Option<Ending>>, now: Instant) {
        match opened {
            Ok(opening) => self.reopened(opening, now),
            Err(Some(ending)) => self.end(ending),
            Err(None) => self.reopen_at = Some(now + self.config.retry),
        }
    }

    fn reopened(&mut self, opening: Opening, now: Instant) {
        self.follower.resume();
        self.subscriptions = opening.subscriptions;
        self.window = opening.allowance.window;
        match opening.activation {
            Some(activation) => self.activate(&activation, now),
            None => self.stand_by(),
        }
        self.step(now);
    }

    fn welcome(&mut self, opening: &Opening) {
        let lost = (opening.verdict == ResumeVerdict::PossiblyLost).then_some(self.profile.resume);
        let reply_to = self.profile.auth_frame.take();
        self.send(ServerFrame::AuthSuccess {
            reply_to,
            session: self.profile.session.clone(),
            scopes: self.scopes.to_strings(),
            heartbeat_interval: self.config.heartbeat,
            epoch: opening.activation.as_ref().map(|activation| activation.epoch),
            verdict: opening.verdict,
            window: self.window,
            lost: lost.flatten().map(|seen| crate::LossNotice { seen: seen.positions, epoch: seen.epoch }),
            feed: self.follower.point(),
        });
    }

    /// Begins to serve the mailbox: everything resident is read from the beginning.
    fn activate(&mut self, activation: &Activation, now: Instant) {
        self.stand_by();
        self.fence = activation.fence;
        self.epoch = Some(activation.epoch);
        self.lanes = PerLane::from_fn(|lane| LaneState { sent: 0, mark: activation.marks[lane], head: 0 });
        self.exits = ExitsState { told: activation.gap_mark, head: 0 };
        self.replay = Some(activation.heads.lanes);
        self.note_heads(&activation.heads, now);
        self.tell_replay();
    }

    /// Serves nothing until the store activates this session.
    fn stand_by(&mut self) {
        self.fence = 0;
        self.early.clear();
        self.early_until = None;
        self.in_flight = InFlight::new(self.window);
        self.clock = RedeliveryClock::default();
        self.settling.forget_fenced();
        self.reading = None;
        self.repeat = None;
        self.blocked = false;
        self.due_at = None;
        self.due = false;
        self.replay = None;
        self.replaying = false;
    }

    fn note_heads(&mut self, heads: &Heads, now: Instant) {
        for (lane, state) in self.lanes.iter_mut() {
            state.head = state.head.max(heads.lanes[lane]);
        }
        self.exits.head = self.exits.head.max(heads.exits);
        self.due_at = heads.next_due.map(|wait| now + wait);
    }

    /// Takes a hint from a router.
    pub fn handle_push(&mut self, push: Push, now: Instant) {
        match push.hint {
            Hint::Terminated(ending) => self.end(ending),
            Hint::Activated(activation) if activation.fence > self.fence => self.activate(&activation, now),
            Hint::Activated(_) => {}
            // The activation itself was lost: ask the store.
            Hint::Entry(_) | Hint::Heads(_) if push.fence > self.fence => self.compare_at = now,
            Hint::Entry(_) | Hint::Heads(_) if push.fence < self.fence || self.fence == 0 => {}
            Hint::Entry(entry) => self.take_pushed(entry, now),
            Hint::Heads(heads) => {
                self.blocked = false;
                self.note_heads(&heads, now);
            }
        }
        self.step(now);
    }

    /// A hint may have been lost: asks the store.
    pub fn handle_possible_loss(&mut self, now: Instant) {
        self.compare_at = now;
        self.follower.resume();
        self.step(now);
    }

    /// What waited for the session was too much: hints and events were dropped.
    pub fn handle_overflow(&mut self, now: Instant) {
        self.doubt_feed();
        self.handle_possible_loss(now);
    }

    /// Nothing may be delivered: another gateway may serve the mailbox by now.
    pub fn suspend(&mut self) {
        if self.fence > 0 {
            self.stand_by();
        }
        // What was decided before and has not left yet stays in the log.
        let is_mail = |frame: &ServerFrame| matches!(frame, ServerFrame::Event(_) | ServerFrame::Gap { .. });
        self.commands.retain(|command| !matches!(command, Command::Send(frame) if is_mail(frame)));
        self.suspend_feed();
    }

    /// The socket was told to come back elsewhere after `delay`: nothing new is delivered.
    pub fn drain(&mut self, delay: Duration) {
        if !self.draining && !self.closed {
            self.draining = true;
            self.send(ServerFrame::Reconnect { reason: "gateway is restarting", delay });
        }
    }

    /// Whether anybody takes what is sent: a client that polls is away most of the time. What comes meanwhile stays in
    /// the log.
    pub fn listen(&mut self, listening: bool, now: Instant) {
        if std::mem::replace(&mut self.listening, listening) != listening && listening {
            self.step(now);
        }
    }

    /// Whether everything there is has been sent, as far as is known.
    pub fn is_caught_up(&self) -> bool {
        let is_behind = self.fence > 0 && (self.is_behind() || self.replay.is_some());
        !is_behind && self.reading.is_none() && self.commands.is_empty() && self.follower.is_settled()
    }

    /// How long each message that was acknowledged since the last call had been with the client, and where it stood.
    /// Sessions keep no room for them: most are idle.
    pub fn take_times(&mut self) -> Vec<(Position, Duration)> {
        std::mem::take(&mut self.took)
    }

    /// Whether the client was told to come back elsewhere.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Ends the session.
    pub fn end(&mut self, ending: Ending) {
        self.close(ending.close_code());
    }

    /// Whether a frame of the client can be taken now. While not, the socket is not read.
    pub fn wants_input(&self) -> bool {
        self.busy.is_none() && self.commands.len() < COMMANDS && self.sending.has_room() && self.settling.has_room()
    }

    /// Whether the client has said that it leaves for good.
    pub fn has_said_goodbye(&self) -> bool {
        self.said_goodbye
    }

    /// How the connection does.
    pub fn health(&self, now: Instant) -> Health {
        let since = |at: Instant| now.saturating_duration_since(at);
        let silent = since(self.last_frame);
        Health {
            silent,
            since_heartbeat: self.last_heartbeat.map(since),
            is_overdue: silent > self.config.heartbeat + self.config.heartbeat / 2,
            latency: self.latency,
            since_traffic: self.last_traffic.map(since),
            received: self.received,
            refused: self.refused,
            in_flight: self.in_flight.len(),
            status: self.reported.0,
            metrics: self.reported.1.clone(),
            is_leaving: self.draining || self.closed,
        }
    }

    /// What to do next.
    pub fn next_command(&mut self) -> Option<Command> {
        if self.commands.is_empty() {
            self.follow_next();
        }
        let next = self.commands.pop_front();
        if next.is_none() && self.in_flight.is_empty() {
            // Most sessions are idle: they hold no queue.
            self.commands = VecDeque::new();
        }
        next
    }

    /// Takes a command back that cannot be performed now; it comes first again.
    pub fn put_back(&mut self, command: Command) {
        self.commands.push_front(command);
    }

    /// When [`Session::handle_timeout`] must be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence = self.last_frame + self.config.heartbeat * self.config.missed;
        // While a retry is awaited nothing else is asked of the store.
        let ask = self.retry_at.or_else(|| (!self.comparing).then_some(self.compare_at));
        let times = [Some(silence), ask, self.reopen_at, self.due_at, self.early_until, self.clock.fires_at()];
        times.into_iter().flatten().min()
    }

    /// Does what time demands.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.last_frame + self.config.heartbeat * self.config.missed {
            return self.close(CloseCode::HeartbeatTimeout);
        }
        self.retry_at.take_if(|at| *at <= now);
        if self.reopen_at.take_if(|at| *at <= now).is_some() {
            self.commands.push_back(Command::Reopen);
        }
        self.due |= self.due_at.take_if(|at| *at <= now).is_some();
        if self.early_until.is_some_and(|until| until <= now) {
            self.give_up_early();
        }
        if self.clock.fires_at().is_some_and(|at| at <= now) {
            self.charge_oldest(now);
        }
        self.step(now);
    }

    /// Asks the store for whatever can be asked now.
    fn step(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        if self.closed {
            // What was acknowledged before the end counts.
            return self.settle_next();
        }
        if !self.comparing && self.compare_at <= now {
            self.compare(None, None, now);
        }
        self.settle_next();
        self.read_next();
    }

    fn send(&mut self, frame: ServerFrame) {
        if !self.closed {
            self.commands.push_back(Command::Send(frame));
        }
    }

    fn close(&mut self, code: CloseCode) {
        if !self.closed {
            self.closed = true;
            self.commands.push_back(Command::Close(code));
            if self.retry_at.is_none() {
                self.settle_next();
            }
        }
    }
}
