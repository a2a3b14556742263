//! The connection: login, signs of life, tokens, and what an end of it means.

use std::time::{Duration, Instant};

use waystation_domain::{FeedPoint, PerLane, Position, SessionId, Timestamp};
use waystation_wire::client::{Announced, AuthRefreshed, GapSpan, HeartbeatAck, Outbound, Remembered, Welcome};
use waystation_wire::{CloseCode, Verdict as CloseVerdict};

use super::mail::EXTEND;
use super::{Core, Moment, Pending, Settings};
use crate::error::{Disconnect, Stopped};
use crate::event::Event;
use crate::journal::Record;
use crate::token::Token;

/// After which a token is asked for again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// Gateways take one heartbeat in 10 s (docs/protocol.md, "Errors and limits").
const BEATS_APART: Duration = Duration::from_millis(10_500);
/// A token that ends at once is not renewed at once: whoever gives such tokens is not asked without pause.
const SOONEST: Duration = Duration::from_secs(1);
/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(60);

/// The connection, if there is one.
#[derive(Debug)]
pub(super) enum Link {
    Down,
    /// The login was sent.
    LoggingIn {
        until: Instant,
        expires: Option<Timestamp>,
    },
    Up(Box<Up>),
}

/// A connection that has been let in.
#[derive(Debug)]
pub(super) struct Up {
    epoch: Option<waystation_domain::Epoch>,
    heard: Instant,
    /// A ping was sent and nothing has come since.
    pinged: Option<Instant>,
    interval: Duration,
    beat: Instant,
    last_beat: Option<Instant>,
    extend: Instant,
    /// When a new token is to be had; `None` while one is, or if it does not end.
    renew: Option<Instant>,
    /// The gateway's clock and this host's at the same moment: the gateway's decides when a token ends.
    clocks: Option<(Timestamp, Timestamp)>,
    /// Up to here the mailbox has been received, once the backlog has.
    reached: Option<PerLane<u64>>,
    /// Where the heads stood at the heartbeat before.
    heads: Option<PerLane<u64>>,
}

impl Link {
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Link::Up(_))
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self, Link::Down)
    }

    fn up(&mut self) -> Option<&mut Up> {
        match self {
            Link::Up(up) => Some(up),
            Link::Down | Link::LoggingIn { .. } => None,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        if let Some(up) = self.up() {
            (up.heard, up.pinged) = (now, None);
        }
    }

    pub(super) fn beat_soon(&mut self, now: Instant) {
        if let Some(up) = self.up() {
            up.beat = up.beat.min(up.last_beat.map_or(now, |last| last + BEATS_APART));
        }
    }

    pub(super) fn renew_at(&mut self, at: Instant) {
        if let Some(up) = self.up() {
            up.renew = Some(at);
        }
    }

    pub(super) fn reached(&mut self, Position { epoch, lane, sequence }: Position) {
        if let Some(reached) = self.up().filter(|up| up.epoch == Some(epoch)).and_then(|up| up.reached.as_mut()) {
            reached[lane] = reached[lane].max(sequence);
        }
    }

    pub(super) fn reached_gap(&mut self, GapSpan { epoch, lane, to, .. }: GapSpan) {
        if let Some(lane) = lane {
            self.reached(Position { epoch, lane, sequence: to });
        }
    }

    pub(super) fn replayed(&mut self, heads: PerLane<u64>) {
        if let Some(up) = self.up() {
            up.reached = Some(heads);
        }
    }

    pub(super) fn due(&self, settings: &Settings) -> Option<Instant> {
        match self {
            Link::Down => None,
            Link::LoggingIn { until, .. } => Some(*until),
            Link::Up(up) => {
                let silence = match up.pinged {
                    Some(_) => up.heard + settings.ping_interval + settings.patience,
                    None => up.heard + settings.ping_interval,
                };
                [Some(silence), Some(up.beat), Some(up.extend), up.renew].into_iter().flatten().min()
            }
        }
    }
}

/// What a client does after a connection has ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// Comes back, not earlier than after this time.
    Retry {
        at_least: Duration,
        /// The connection ended as the gateway wished: that is no failure.
        as_wished: bool,
    },
    /// Gets another token first.
    NewToken,
    Stop(Stopped),
}

fn by_close(code: u16, reason: &str) -> Next {
    let retry = |at_least| Next::Retry { at_least, as_wished: false };
    match CloseCode::of_number(code).map(|known| (known, known.verdict())) {
        Some((CloseCode::AuthFailed, _)) | Some((_, CloseVerdict::RenewToken)) => Next::NewToken,
        Some((_, CloseVerdict::RetryAfter(after))) => retry(after),
        Some((_, CloseVerdict::Stop)) => Next::Stop(Stopped::Gateway { code, reason: reason.to_owned() }),
        // No close at all, a proxy's, or one that this version does not know.
        None => retry(Duration::ZERO),
    }
}

/// What the end of a connection means.
pub(crate) fn judge(why: &Disconnect, delay: Duration) -> Next {
    let retry = |as_wished| Next::Retry { at_least: Duration::ZERO, as_wished };
    match why {
        Disconnect::Closed { code, reason } => by_close(*code, reason),
        Disconnect::Refused { code, message } => match code.as_str() {
            "AUTH_FAILED" | "TOKEN_EXPIRED" => Next::NewToken,
            "MAX_CONNECTIONS" => by_close(CloseCode::RateLimited.number(), message),
            "INSUFFICIENT_SCOPE" => by_close(CloseCode::InsufficientScope.number(), message),
            _ => retry(false),
        },
        Disconnect::Leaving(_) => Next::Retry { at_least: delay, as_wished: true },
        Disconnect::Resync => retry(true),
        Disconnect::Unreachable(_)
        | Disconnect::Silent(_)
        | Disconnect::Garbage(_)
        | Disconnect::Contradiction(_)
        | Disconnect::Token(_) => retry(false),
    }
}

impl Core {
    /// The socket is open: logs in.
    pub(crate) fn opened(&mut self, token: &Token, now: Moment) {
        let until = now.instant + self.settings.login_timeout;
        self.link = Link::LoggingIn { until, expires: token.expires };
        let settings = self.settings.clone();
        let patterns = self.settings.subscriptions.take();
        let frame = Outbound::Auth {
            access_token: &token.access_token,
            daemon_id: &settings.daemon,
            orchestrator_id: &settings.orchestrator,
            client: Announced { name: &settings.name, version: &settings.version, instance: &settings.instance },
            max_in_flight: settings.window.entries,
            max_in_flight_bytes: settings.window.bytes,
            subscriptions: patterns.as_ref().map(|all| all.iter().map(|pattern| pattern.as_str()).collect()),
            resume: Remembered { mailbox: self.inbox.memory.resume_point(), feed: self.inbox.memory.feed },
        };
        self.say(&frame, now, Pending::Other("auth"));
        // Only a gateway that has let the client in has heard it.
        self.settings.subscriptions = patterns;
    }

    pub(super) fn welcomed(&mut self, welcome: Welcome, now: Moment) {
        let Link::LoggingIn { expires, .. } = self.link else { return };
        let interval = Duration::from_millis(welcome.heartbeat_interval.max(1_000));
        let clocks = welcome.server_time.map(|gateway| (gateway, now.wall));
        self.link = Link::Up(Box::new(Up {
            epoch: welcome.epoch,
            heard: now.instant,
            pinged: None,
            interval,
            beat: now.instant + interval,
            last_beat: None,
            extend: now.instant + EXTEND,
            renew: expires.map(|expires| now.instant + renewal(left(expires, clocks, now))),
            clocks,
            reached: None,
            heads: None,
        }));
        self.settings.subscriptions = None;
        if let Some(epoch) = welcome.epoch {
            self.inbox.memory.enter(epoch);
            self.record(|| Record::Entered(epoch));
        }
        self.begin_feed(welcome.feed);
        self.look_at_clocks(welcome.server_time, now);
        if welcome.possibly_lost {
            self.actions.events.push(Event::PossiblyLost);
        }
        if std::mem::replace(&mut self.met, true) {
            self.watch.statistics.reconnect_count += 1;
        }
        self.watch.let_in();
        let standby = welcome.epoch.is_none();
        let Welcome { session, resumed, .. } = welcome;
        self.session = Some(session.clone());
        self.actions.events.push(Event::Connected { session, resumed, standby });
        self.ask_again(now);
        self.subscribe_all(now);
    }

    /// Acks whose outcome is not known yet are asked for again: they count on any connection, and once.
    fn ask_again(&mut self, now: Moment) {
        let is_confirm = |pending: &Pending| matches!(pending, Pending::Confirm(..));
        let ids: Vec<u64> = self.pending.iter().filter(|(_, pending)| is_confirm(pending)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(Pending::Confirm(id, done)) = self.pending.remove(&id) {
                self.confirm(id, done, now);
            }
        }
    }

    fn look_at_clocks(&mut self, gateway: Option<Timestamp>, now: Moment) {
        let Some(gateway) = gateway else { return };
        let here = now.wall;
        if here.since(gateway).max(gateway.since(here)) > SKEW {
            self.actions.events.push(Event::ClockSkew { gateway, here });
        }
    }

    /// The session that is open now.
    pub(crate) fn session(&self) -> Option<&SessionId> {
        self.session.as_ref().filter(|_| self.link.is_up())
    }

    /// A pong has come.
    pub(crate) fn ponged(&mut self, now: Moment) {
        if let Some(pinged) = self.link.up().and_then(|up| up.pinged) {
            self.watch.answered(now.instant.saturating_duration_since(pinged));
        }
        self.link.heard(now.instant);
    }

    pub(super) fn beaten(&mut self, ack: HeartbeatAck, asked: Option<Pending>, now: Moment) {
        if let Some(Pending::Beat(sent)) = asked {
            self.watch.answered(now.instant.saturating_duration_since(sent));
        }
        if let Some(point) = ack.feed {
            self.feed_is_at(point);
        }
        if let Some((up, gateway)) = self.link.up().zip(ack.server_time) {
            up.clocks = Some((gateway, now.wall));
        }
        let in_hand = self.inbox.in_hand();
        let room = (self.settings.window.entries / 2) as usize;
        let Some((up, heads)) = self.link.up().zip(ack.heads) else { return };
        let Some(epoch) = up.epoch else { return };
        let before = up.heads.replace(heads);
        let seen = self.inbox.memory.last(epoch).unwrap_or_default();
        // What was there at the heartbeat before must have come by now, if the client has room for it.
        let missing = |reached: PerLane<u64>, before: PerLane<u64>| {
            heads.iter().map(|(lane, _)| lane).find(|lane| in_hand < room && reached[*lane] < before[*lane])
        };
        let behind = up.reached.zip(before).and_then(|(reached, before)| missing(reached, before));
        let short = heads.iter().map(|(lane, _)| lane).find(|lane| heads[*lane] < seen[*lane]);
        if let Some(lane) = behind {
            let what = format!("messages of the lane {} have not come", lane.name());
            self.hang_up(Disconnect::Contradiction(what));
        } else if let Some(lane) = short {
            let what = format!("the lane {} ends at {}, but {} was seen", lane.name(), heads[lane], seen[lane]);
            self.hang_up(Disconnect::Contradiction(what));
        }
    }

    /// A new token was asked for, and is here or not.
    pub(crate) fn renewed(&mut self, token: Result<Token, String>, now: Moment) {
        match token {
            Ok(token) if self.link.is_up() => {
                let access_token = token.access_token.clone();
                let frame = Outbound::AuthRefresh { access_token: &access_token };
                self.say(&frame, now, Pending::Refresh(token));
            }
            Ok(_) => {}
            Err(problem) => {
                self.actions.events.push(Event::TokenNotRenewed(problem));
                self.link.renew_at(now.instant + AGAIN);
            }
        }
    }

    pub(super) fn refreshed(&mut self, refreshed: AuthRefreshed, asked: Option<Pending>, now: Moment) {
        let said = match asked {
            Some(Pending::Refresh(token)) => token.expires,
            _ => None,
        };
        if let Some((up, expires)) = self.link.up().zip(refreshed.expires.or(said)) {
            up.renew = Some(now.instant + renewal(left(expires, up.clocks, now)));
        }
        self.actions.events.push(Event::TokenRenewed);
    }

    /// The gateway wants this client to go elsewhere.
    pub(super) fn leave(&mut self, reason: String, after: Duration, now: Moment) {
        self.flush_acks(now);
        self.delay = after;
        self.actions.events.push(Event::LameDuck { reason: reason.clone(), after });
        self.hang_up(Disconnect::Leaving(reason));
    }

    /// The connection has ended. Answers what is to be done.
    pub(crate) fn lost(&mut self, why: &Disconnect) -> Next {
        self.link = Link::Down;
        self.actions.hang_up = None;
        self.actions.frames.clear();
        self.outbox.all_again();
        let mut calls = Vec::new();
        for id in self.pending.keys().copied().collect::<Vec<_>>() {
            match self.pending.remove(&id) {
                Some(Pending::Call(call)) => calls.push((id, call)),
                Some(confirm @ Pending::Confirm(..)) => {
                    self.pending.insert(id, confirm);
                }
                Some(
                    Pending::Beat(_)
                    | Pending::Refresh(_)
                    | Pending::Send(_)
                    | Pending::Subscribe(_)
                    | Pending::Other(_),
                )
                | None => {}
            }
        }
        calls.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        calls.into_iter().for_each(|(_, call)| self.calls.push_front(call));
        judge(why, std::mem::take(&mut self.delay))
    }

    pub(super) fn look_at_link(&mut self, now: Moment) {
        let (ping_interval, patience) = (self.settings.ping_interval, self.settings.patience);
        let up = match &mut self.link {
            Link::Down => return,
            Link::LoggingIn { until, .. } => {
                if *until <= now.instant {
                    self.hang_up(Disconnect::Silent(self.settings.login_timeout));
                }
                return;
            }
            Link::Up(up) => up,
        };
        let silent = now.instant.saturating_duration_since(up.heard);
        let (beats, extends) = (up.beat <= now.instant, up.extend <= now.instant);
        if silent >= ping_interval + patience {
            self.watch.failed();
            return self.hang_up(Disconnect::Silent(silent));
        }
        if silent >= ping_interval && up.pinged.is_none() {
            up.pinged = Some(now.instant);
            self.actions.ping = true;
        }
        if up.renew.is_some_and(|renew| renew <= now.instant) {
            up.renew = None;
            self.actions.renew = true;
        }
        if beats {
            (up.beat, up.last_beat) = (now.instant + up.interval, Some(now.instant));
        }
        if extends {
            up.extend = now.instant + EXTEND;
        }
        if beats {
            let reported = (self.reported.0, self.reported.1.take());
            let frame = Outbound::Heartbeat { status: reported.0, metrics: reported.1.as_deref() };
            self.say(&frame, now, Pending::Beat(now.instant));
            self.reported = reported;
            self.ask_again(now);
        }
        if extends {
            self.extend_oldest(now);
        }
    }

    fn begin_feed(&mut self, at: Option<FeedPoint>) {
        let memory = &mut self.inbox.memory;
        memory.feed = memory.feed.or(at);
    }
}

/// How long a token is still good, by the gateway's clock as far as it is known.
fn left(expires: Timestamp, clocks: Option<(Timestamp, Timestamp)>, now: Moment) -> Duration {
    let gateway =
        clocks.map_or(now.wall, |(gateway, here)| gateway.after(now.wall.since(here)).before(here.since(now.wall)));
    expires.since(gateway)
}

/// When a token that is good for so long is renewed: with a fifth of it left.
fn renewal(left: Duration) -> Duration {
    (left * 4 / 5).max(SOONEST)
}
