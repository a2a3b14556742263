//! What a client does next: all of its rules, without I/O.
//!
//! The driver owns socket, clock, randomness and disk. It tells what happened ([`Core::opened`], [`Core::heard`],
//! [`Core::lost`], [`Core::command`], [`Core::tick`]) and then does what [`Core::take`] answers: first it writes the
//! records, then it hands out and sends.

mod calls;
mod feed;
mod link;
mod mail;
mod send;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use waystation_domain::{
    DaemonId, InstanceId, MessageId, OrchestratorId, Pattern, Position, ReportedStatus, SessionId, Timestamp, Window,
};
use waystation_wire::client::{Mail, Outbound, Refused, SendAck, Told, decode, encode, encode_call};

use crate::error::{CallError, Disconnect, SendError, Stopped};
use crate::event::Event;
use crate::health::{Health, Statistics, Watch};
use crate::inbox::Inbox;
use crate::journal::{Kept, Record, Restored};
use crate::outbox::Outbox;
use crate::outgoing::Outgoing;
use crate::subscription::Reader;
use crate::token::Token;
use feed::Feeds;
use link::Link;

pub(crate) use calls::Call;
pub(crate) use link::Next;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For timers.
    pub(crate) instant: Instant,
    /// For what people see.
    pub(crate) wall: Timestamp,
}

/// What does not change while a client lives.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) orchestrator: OrchestratorId,
    pub(crate) daemon: DaemonId,
    pub(crate) instance: InstanceId,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) window: Window,
    /// Replaces the daemon's subscriptions at the first login.
    pub(crate) subscriptions: Option<Vec<Pattern>>,
    pub(crate) login_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) patience: Duration,
    pub(crate) message_timeout: Duration,
    pub(crate) processing_limit: Duration,
    /// So many may wait; then the oldest are displaced. `None`: whoever sends has made sure.
    pub(crate) displace_beyond: Option<usize>,
}

/// What becomes of a message that was handed out.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Applied. Told once that survives the process, if a state file is kept.
    Ack(Option<oneshot::Sender<Result<(), Stopped>>>),
    /// Applied. Told once the gateway has said whether it left the mailbox by this.
    Confirm(oneshot::Sender<Result<bool, Stopped>>),
    /// Again later.
    Nack(Duration, String),
    /// Never.
    Reject(String),
    /// Still working.
    Extend,
}

/// What the program wants.
#[derive(Debug)]
pub(crate) enum Command {
    Settle(Position, MessageId, Verdict),
    Send(MessageId, Outgoing, Ticket),
    Call(Call),
    Subscribe(Reader),
    /// A reader has been dropped.
    Unsubscribe(u64),
    /// A reader that was too slow has read all that it had.
    Resync(u64),
    Report(Option<ReportedStatus>, Option<Box<RawValue>>),
    /// Hand out nothing more, and end once everything is settled.
    Drain,
    Close,
}

/// What the sender of a message waits on.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) answer: Option<oneshot::Sender<Result<SendAck, SendError>>>,
    /// Its place in the queue, given back when it is dropped.
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) permit: Option<tokio::sync::OwnedSemaphorePermit>,
    /// How often it was refused for now.
    pub(crate) refusals: u32,
}

impl Ticket {
    pub(crate) fn nobody() -> Ticket {
        Ticket { answer: None, permit: None, refusals: 0 }
    }

    fn answer(self, answer: Result<SendAck, SendError>) {
        if let Some(waiting) = self.answer {
            // Whoever no longer waits does not mind.
            waiting.send(answer).ok();
        }
    }
}

/// What the driver does next, in this order.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    /// To be written before anything else.
    pub(crate) records: Vec<Record>,
    /// Told once the records are written.
    pub(crate) written: Vec<oneshot::Sender<Result<(), Stopped>>>,
    /// To be handed out; in doubt or not.
    pub(crate) handed: Vec<(Mail, bool)>,
    /// To be sent.
    pub(crate) frames: Vec<String>,
    /// A WebSocket ping is to be sent.
    pub(crate) ping: bool,
    /// To be told.
    pub(crate) events: Vec<Event>,
    /// A token is to be had.
    pub(crate) renew: bool,
    /// The connection is to be given up.
    pub(crate) hang_up: Option<Disconnect>,
    /// The program's own end has come.
    pub(crate) finished: bool,
}

/// What an answer is for.
#[derive(Debug)]
enum Pending {
    Beat(Instant),
    Refresh(Token),
    Send(MessageId),
    Confirm(MessageId, oneshot::Sender<Result<bool, Stopped>>),
    Call(Call),
    Subscribe(u64),
    /// Nobody waits: an error is told as an event.
    Other(&'static str),
}

/// All that a client knows.
#[derive(Debug)]
pub(crate) struct Core {
    settings: Settings,
    link: Link,
    inbox: Inbox,
    outbox: Outbox<Ticket>,
    /// Nothing is sent before.
    paused: Option<Instant>,
    feeds: Feeds,
    /// To be acknowledged with the next frame.
    acks: Vec<MessageId>,
    pending: HashMap<u64, Pending>,
    calls: VecDeque<Call>,
    frames: u64,
    reported: (Option<ReportedStatus>, Option<Box<RawValue>>),
    /// The session, while there is one.
    session: Option<SessionId>,
    /// It has been let in before.
    met: bool,
    /// As long as the gateway wishes it to stay away.
    delay: Duration,
    draining: bool,
    keeps_state: bool,
    watch: Watch,
    actions: Actions,
}

impl Core {
    pub(crate) fn new(settings: Settings, restored: Option<Restored>) -> Core {
        let keeps_state = restored.is_some();
        let Restored { memory, queued } = restored.unwrap_or_default();
        let mut outbox = Outbox::default();
        for (id, outgoing) in queued.into_iter().filter_map(Kept::into_outgoing) {
            // An id is kept once.
            outbox.push(id, outgoing, Ticket::nobody()).ok();
        }
        Core {
            settings,
            link: Link::Down,
            feeds: Feeds::default(),
            inbox: Inbox::new(memory),
            outbox,
            paused: None,
            acks: Vec::new(),
            pending: HashMap::new(),
            calls: VecDeque::new(),
            frames: 0,
            reported: (None, None),
            session: None,
            met: false,
            delay: Duration::ZERO,
            draining: false,
            keeps_state,
            watch: Watch::default(),
            actions: Actions::default(),
        }
    }

    /// What the program wants.
    pub(crate) fn command(&mut self, command: Command, now: Moment) {
        match command {
            Command::Settle(position, id, verdict) => self.settle(position, id, verdict, now),
            Command::Send(id, outgoing, ticket) => self.enqueue(id, outgoing, ticket),
            Command::Call(call) => self.calls.push_back(call),
            Command::Subscribe(reader) => self.subscribe(reader, now),
            Command::Unsubscribe(reader) => self.unsubscribe(reader, now),
            Command::Resync(reader) => self.resync(reader),
            Command::Report(status, metrics) => {
                self.reported = (status.or(self.reported.0), metrics.or(self.reported.1.take()));
                self.link.beat_soon(now.instant);
            }
            Command::Drain => self.draining = true,
            Command::Close => self.actions.finished = true,
        }
    }

    /// A frame of the gateway, or garbage.
    pub(crate) fn heard(&mut self, frame: &Bytes, now: Moment) {
        self.link.heard(now.instant);
        match decode(frame) {
            Ok(inbound) => {
                let asked =
                    inbound.reply_to.and_then(|id| id.parse().ok()).and_then(|id: u64| self.pending.remove(&id));
                self.told(inbound.told, asked, now);
            }
            Err(garbage) => self.hang_up(Disconnect::Garbage(garbage)),
        }
    }

    fn told(&mut self, told: Told, asked: Option<Pending>, now: Moment) {
        match told {
            Told::Mail(mail) => self.mail(mail, now),
            Told::Event(item) => self.feed_event(item),
            Told::Gap(notice) => self.gap(notice),
            Told::Welcome(welcome) => self.welcomed(welcome, now),
            Told::AuthRefused(refused) => {
                self.hang_up(Disconnect::Refused { code: refused.code, message: refused.message });
            }
            Told::HeartbeatAck(ack) => self.beaten(ack, asked, now),
            Told::ReplayComplete { heads } => self.replayed(heads),
            Told::Subscribed(_) => {}
            Told::Error(refused) => self.refused(refused, asked, now),
            Told::RateLimit { action, retry_after } => {
                self.limited(action, Duration::from_secs(retry_after), asked, now);
            }
            Told::AckResult(result) => self.ack_judged(&result, asked),
            Told::SendAck(ack) => self.accepted(ack, now),
            Told::AuthRefreshed(refreshed) => self.refreshed(refreshed, asked, now),
            Told::Reconnect { reason, delay } => self.leave(reason, Duration::from_millis(delay), now),
            Told::Other { kind, payload } => self.answered(kind, payload, asked),
        }
    }

    /// A frame had no effect. An ack whose outcome is wanted is asked for with the next heartbeat.
    fn refused(&mut self, refused: Refused, asked: Option<Pending>, now: Moment) {
        match asked {
            Some(Pending::Send(id)) => self.send_refused(&id, refused, now),
            Some(Pending::Call(call)) => call.answer(Err(CallError::Refused(refused))),
            Some(Pending::Refresh(_)) => self.link.renew_at(now.instant + link::AGAIN),
            Some(confirm @ Pending::Confirm(..)) => {
                self.expect(confirm);
            }
            Some(Pending::Subscribe(reader)) => self.subscription_refused(reader, refused),
            // A message that is not in flight here any more comes again by itself.
            Some(Pending::Other("nack" | "extend" | "reject")) => {}
            Some(Pending::Other(_) | Pending::Beat(_)) | None => self.actions.events.push(Event::Refused(refused)),
        }
    }

    /// There were too many frames.
    fn limited(&mut self, action: String, after: Duration, asked: Option<Pending>, now: Moment) {
        match asked {
            Some(Pending::Send(id)) => {
                self.outbox.again(&id);
                self.pause(now.instant + after);
            }
            Some(Pending::Call(call)) => call.answer(Err(CallError::RateLimited(after))),
            Some(Pending::Refresh(_)) => self.link.renew_at(now.instant + after),
            Some(confirm @ Pending::Confirm(..)) => {
                self.expect(confirm);
            }
            Some(Pending::Subscribe(reader)) => self.subscribe_again(reader, now.instant + after),
            Some(Pending::Beat(_) | Pending::Other(_)) | None => {}
        }
        self.actions.events.push(Event::RateLimited { action, after });
    }

    /// When [`Core::tick`] is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let sends = self.outbox.oldest_sent().map(|sent| sent + self.settings.message_timeout);
        let calls = self.calls.iter().map(|call| call.until).min();
        let asked = self.pending.values().filter_map(|pending| match pending {
            Pending::Call(call) => Some(call.until),
            Pending::Beat(_)
            | Pending::Refresh(_)
            | Pending::Send(_)
            | Pending::Confirm(..)
            | Pending::Subscribe(_)
            | Pending::Other(_) => None,
        });
        let late = sends.filter(|_| !self.watch.is_late());
        [self.link.due(&self.settings), late, self.paused, calls, asked.min(), self.feeds.due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Moment) {
        self.paused = self.paused.filter(|until| *until > now.instant);
        self.expire_calls(now.instant);
        self.look_at_sends(now.instant);
        self.retry_subscriptions(now);
        self.look_at_link(now);
    }

    /// What is to be done now.
    pub(crate) fn take(&mut self, now: Moment) -> Actions {
        if self.link.is_up() && self.actions.hang_up.is_none() {
            self.flush_acks(now);
            self.flush_calls(now);
            self.flush_sends(now);
        }
        self.note_progress();
        if self.draining && !self.actions.finished && self.is_idle() {
            self.say(&Outbound::Goodbye { reason: "" }, now, Pending::Other("goodbye"));
            self.actions.finished = true;
        }
        std::mem::take(&mut self.actions)
    }

    /// Nothing is left to do; while the connection is down there is, if anything waits.
    fn is_idle(&self) -> bool {
        let awaits = self.pending.values().any(|pending| match pending {
            Pending::Confirm(..) | Pending::Call(_) => true,
            Pending::Beat(_) | Pending::Refresh(_) | Pending::Send(_) | Pending::Subscribe(_) | Pending::Other(_) => {
                false
            }
        });
        self.inbox.in_hand() == 0 && self.outbox.len() == 0 && self.acks.is_empty() && self.calls.is_empty() && !awaits
    }

    /// The client ends: whoever waits is told why.
    pub(crate) fn stop(&mut self, why: &Stopped) {
        for waiting in self.outbox.take_all() {
            waiting.ticket.answer(Err(SendError::Stopped(why.clone())));
        }
        let calls = self.calls.drain(..).map(|call| call.answer(Err(CallError::Stopped(why.clone()))));
        calls.for_each(drop);
        for (_, pending) in self.pending.drain() {
            match pending {
                Pending::Call(call) => call.answer(Err(CallError::Stopped(why.clone()))),
                Pending::Confirm(_, done) => {
                    done.send(Err(why.clone())).ok();
                }
                Pending::Beat(_)
                | Pending::Refresh(_)
                | Pending::Send(_)
                | Pending::Subscribe(_)
                | Pending::Other(_) => {}
            }
        }
        for done in self.actions.written.drain(..) {
            done.send(Err(why.clone())).ok();
        }
        self.feeds.stop(why);
    }

    /// What should be kept, all of it.
    pub(crate) fn state(&self) -> (&crate::inbox::Memory, Vec<Kept>) {
        let queued = self.outbox.iter().map(|waiting| Kept::new(&waiting.id, &waiting.outgoing));
        (&self.inbox.memory, queued.collect())
    }

    /// The counters.
    pub(crate) fn statistics(&self) -> Statistics {
        let mut statistics = self.watch.statistics;
        statistics.queued = self.outbox.len();
        statistics.in_hand = self.inbox.in_hand();
        statistics
    }

    /// How the connection is.
    pub(crate) fn health(&self) -> Health {
        self.watch.health(self.link.is_up(), self.outbox.len())
    }

    fn record(&mut self, record: impl FnOnce() -> Record) {
        if self.keeps_state {
            self.actions.records.push(record());
        }
    }

    fn hang_up(&mut self, why: Disconnect) {
        // The first reason is the reason.
        self.actions.hang_up.get_or_insert(why);
    }

    /// Sends a frame, and remembers what its answer is for.
    fn say(&mut self, frame: &Outbound<'_>, now: Moment, pending: Pending) {
        let id = self.expect(pending);
        self.actions.frames.push(encode(frame, &id.to_string(), now.wall));
    }

    fn say_call(&mut self, call: Call, now: Moment) {
        let id = (self.frames + 1).to_string();
        self.actions.frames.push(encode_call(call.kind, &call.payload, &id, now.wall));
        self.expect(Pending::Call(call));
    }

    fn expect(&mut self, pending: Pending) -> u64 {
        self.frames += 1;
        // Only errors answer these: they are not waited for for ever.
        if let Pending::Other(_) = pending {
            self.pending.retain(|id, pending| !matches!(pending, Pending::Other(_)) || id + 256 > self.frames);
        }
        self.pending.insert(self.frames, pending);
        self.frames
    }
}
