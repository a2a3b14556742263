//! Clients of the conductor's dialect: they watch, and have no session in the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use waystation_domain::{OrganizationId, SessionId, Timestamp};
use waystation_proto::common::v1::ActivityKind;
use waystation_rpc::About;
use waystation_runtime::Accepted;
use waystation_token::Claims;
use waystation_wire::{CloseCode, Conductor, ConductorCommand};

use super::outlet::Outlet as _;
use super::socket::{Format, Raw, Socket};
use super::stall::Stall;
use super::tell_closed;
use crate::feeds::{Seat, Viewer};
use crate::registry::{Event, Registration, Registry};
use crate::{Parts, drain};

/// A client is pinged so often …
const PING: Duration = Duration::from_secs(30);
/// … and is stale after this silence.
const STALE: Duration = Duration::from_secs(60);

/// Whoever watches.
pub(crate) struct Watcher {
    pub(crate) organization: OrganizationId,
    pub(crate) claims: Arc<Claims>,
    pub(crate) token: SecretString,
    /// Its place among the clients.
    pub(crate) place: Place,
}

impl Watcher {
    /// Takes its place among those whom events reach.
    pub(super) fn register(&self, registry: &Registry) -> Registration {
        registry.register(self.place.client.clone(), self.claims.clone(), self.token.clone())
    }
}

/// The clients of this gateway that only watch. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Conductors(Arc<Mutex<HashMap<SessionId, Listed>>>);

/// A client as its organization may see it.
#[derive(Clone)]
pub(crate) struct Listed {
    organization: OrganizationId,
    pub(crate) connected: Timestamp,
    pub(crate) categories: BTreeSet<&'static str>,
}

/// A place among the clients, left when dropped.
pub(crate) struct Place {
    conductors: Conductors,
    client: SessionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.conductors.lock().remove(&self.client);
    }
}

impl Conductors {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Listed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a client in; `None`: there are too many.
    pub(crate) fn admit(
        &self,
        client: SessionId,
        organization: OrganizationId,
        now: Timestamp,
        most: usize,
    ) -> Option<Place> {
        let mut clients = self.lock();
        if clients.len() >= most {
            return None;
        }
        clients.insert(client.clone(), Listed { organization, connected: now, categories: BTreeSet::new() });
        Some(Place { conductors: self.clone(), client })
    }

    fn note(&self, client: &SessionId, categories: &BTreeSet<&'static str>) {
        if let Some(listed) = self.lock().get_mut(client) {
            listed.categories.clone_from(categories);
        }
    }

    /// The clients of an organization.
    pub(crate) fn of(&self, organization: &OrganizationId) -> BTreeMap<SessionId, Listed> {
        let clients = self.lock();
        let own = clients.iter().filter(|(_, listed)| listed.organization == *organization);
        own.map(|(client, listed)| (client.clone(), listed.clone())).collect()
    }
}

/// Serves a client until it goes.
pub(crate) async fn run(parts: Parts, stream: Accepted, read: Vec<u8>, watcher: Watcher) {
    parts.metrics.connections.inc();
    let mut socket = Socket::new(stream, read, Format::Json, &parts).await;
    let about = About { organization: watcher.organization.as_str(), ..About::default() };
    parts.activities.tell(ActivityKind::ConnectionNew, about, |_| {});
    let organization = watcher.organization.clone();
    let code = Serving::new(&parts, watcher).serve(&mut socket).await;
    if let Some(code) = code {
        socket.close(code).await;
    }
    tell_closed(&parts, About { organization: organization.as_str(), ..About::default() }, code);
    parts.metrics.closed(code);
    parts.metrics.connections.dec();
}

struct Serving<'a> {
    parts: &'a Parts,
    conductor: Conductor,
    watcher: Watcher,
    registration: Registration,
    seat: Option<Seat>,
    expires: Instant,
    /// When the client was heard of last.
    heard: Instant,
    ping_at: Instant,
    /// The client was told to come back elsewhere, and has had the time for it.
    leave: Option<Instant>,
    stall: Stall,
}

/// What happened.
enum Happened {
    /// So many wait.
    Events(usize),
    Received(Raw),
    Time,
}

impl<'a> Serving<'a> {
    fn new(parts: &'a Parts, watcher: Watcher) -> Serving<'a> {
        let (now, time) = (parts.context.clock.instant(), parts.context.clock.now());
        Serving {
            parts,
            conductor: Conductor::new(watcher.place.client.to_string(), time),
            expires: now + watcher.claims.expires.since(time),
            registration: watcher.register(&parts.registry),
            watcher,
            seat: None,
            heard: now,
            ping_at: now + PING,
            leave: None,
            stall: Stall::default(),
        }
    }

    /// Answers what to close with; `None`: the client has gone.
    async fn serve(mut self, socket: &mut Socket) -> Option<CloseCode> {
        loop {
            let now = self.now();
            if !self.parts.lease.is_valid(now) {
                self.conductor.suspend();
            }
            if let Some(code) = self.perform(socket) {
                return Some(code);
            }
            let timeout = self.timeout(socket, now);
            let read = self.conductor.wants_input();
            let happened = tokio::select! {
                count = self.registration.handle.events.filled() => Happened::Events(count),
                received = socket.next_raw(read) => Happened::Received(received),
                () = tokio::time::sleep_until(timeout.into()) => Happened::Time,
            };
            match happened {
                Happened::Events(count) => {
                    for _ in 0..count {
                        let Some(event) = self.registration.handle.events.pop() else { break };
                        self.take_event(event);
                    }
                }
                Happened::Received(Raw::Text(text)) => {
                    self.heard = self.now();
                    self.conductor.handle_frame(&text, self.parts.context.clock.now());
                    self.watcher.place.conductors.note(&self.watcher.place.client, self.conductor.categories());
                }
                Happened::Received(Raw::Binary(_)) => return Some(CloseCode::ProtocolError),
                Happened::Received(Raw::Alive | Raw::Pong) => self.heard = self.now(),
                Happened::Received(Raw::Flushed) => {}
                Happened::Received(Raw::Broken(code)) => return code,
                Happened::Time => {
                    if let Some(code) = self.take_time(socket) {
                        return Some(code);
                    }
                }
            }
            if self.registration.handle.events.take_lost() {
                self.conductor.handle_overflow();
            }
        }
    }

    fn now(&self) -> Instant {
        self.parts.context.clock.instant()
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Feed(news) => self.conductor.handle_feed(news, self.parts.context.clock.now()),
            // What was doubtful about the lease has been settled.
            Event::PossibleLoss | Event::Reopen(_) => self.conductor.resume(),
            Event::Drain(after) => {
                let after = Duration::from_millis(after.into());
                self.leave = Some(self.now() + after + drain::PATIENCE);
            }
            Event::End(ending) => self.conductor.close(ending.close_code()),
            // It has no mailbox, and is no session that could be told of.
            Event::Push(_) | Event::Acknowledged(_) | Event::Report(_) => {}
        }
    }

    fn take_time(&mut self, socket: &mut Socket) -> Option<CloseCode> {
        let now = self.now();
        if self.expires <= now {
            return Some(CloseCode::TokenExpired);
        }
        if self.leave.is_some_and(|at| at <= now) {
            return Some(CloseCode::Restarting);
        }
        if now.saturating_duration_since(self.heard) >= STALE {
            return Some(CloseCode::HeartbeatTimeout);
        }
        if self.stall.lasts(now) >= self.parts.config.limits.write_stall {
            return Some(CloseCode::SlowConsumer);
        }
        if self.ping_at <= now {
            self.ping_at = now + PING;
            socket.queue_ping();
        }
        None
    }

    /// When to look again if nothing happens.
    fn timeout(&mut self, socket: &Socket, now: Instant) -> Instant {
        let stall = self.stall.look(socket.is_dirty(), socket.written(), now);
        let stall = stall.map(|since| since + self.parts.config.limits.write_stall);
        let times = [Some(self.expires), Some(self.heard + STALE), Some(self.ping_at), self.leave, stall];
        times.into_iter().flatten().min().unwrap_or(self.expires)
    }

    fn perform(&mut self, socket: &mut Socket) -> Option<CloseCode> {
        while let Some(command) = self.conductor.next_command() {
            match command {
                ConductorCommand::Send(frame) => {
                    if !socket.has_room_for_events() {
                        self.conductor.put_back(ConductorCommand::Send(frame));
                        return None;
                    }
                    let client = self.conductor.client();
                    socket.queue_text(|out| frame.encode(client, out));
                }
                ConductorCommand::Filter(subscriptions) => match &self.seat {
                    Some(seat) => seat.filter(subscriptions),
                    None => {
                        let viewer = Viewer::of(&self.watcher.claims, subscriptions);
                        let handle = self.registration.handle.clone();
                        self.seat = Some(self.parts.feeds.sit(&self.watcher.organization, handle, viewer));
                    }
                },
                ConductorCommand::Follow(request) => {
                    if let Some(seat) = &self.seat {
                        seat.follow(request);
                    }
                }
                ConductorCommand::Unfollow => {
                    if let Some(seat) = &self.seat {
                        seat.unfollow();
                    }
                }
                ConductorCommand::Close(code) => return Some(code),
            }
        }
        None
    }
}
