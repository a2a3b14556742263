//! Sessions without a WebSocket: as a stream of events, or kept between polls.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use secrecy::SecretString;
use tokio::sync::mpsc;
use waystation_domain::{DaemonId, MessageId, OrchestratorId, OrganizationId, Subscriptions, Window};
use waystation_proto::common::v1::ActivityKind;
use waystation_token::{Claims, DaemonClaims};
use waystation_wire::Cursor;

use super::live::Live;
use super::outlet::Outlet;
use super::poll::{Mailslot, Polls};
use super::stream::EventStream;
use super::{Newcomer, tell_closed};
use crate::Parts;
use crate::registry::{Event, Handle};
use crate::upstream::OpenFailed;

/// A daemon that comes by REST.
pub(crate) struct Rest {
    pub(crate) claims: Arc<Claims>,
    pub(crate) token: SecretString,
    pub(crate) daemon: DaemonClaims,
    /// What it remembers.
    pub(crate) cursor: Cursor,
    /// Takes the place of its subscriptions.
    pub(crate) only_here: Option<Subscriptions>,
    pub(crate) address: IpAddr,
}

impl Rest {
    fn mailbox(&self) -> Mailbox {
        (self.daemon.organization.clone(), self.daemon.orchestrator.clone())
    }

    async fn open(self, parts: &Parts) -> Result<Box<Live>, OpenFailed> {
        let daemon = daemon_of(&self.daemon);
        let newcomer = Newcomer {
            claims: self.claims,
            token: self.token,
            orchestrator: self.daemon.orchestrator,
            daemon,
            instance: None,
            window: Window::default(),
            resume: self.cursor.mailbox,
            resume_feed: self.cursor.feed,
            subscriptions: None,
            only_here: self.only_here,
            auth_frame: None,
            announces_client: true,
            knows_gaps: true,
            address: self.address,
        };
        newcomer.open(parts).await
    }
}

/// Which daemon it is: whom the token is bound to, or else its login stands for it.
pub(super) fn daemon_of(claims: &DaemonClaims) -> DaemonId {
    let login = || DaemonId::try_from(Arc::from(claims.login.as_str()));
    let bound = claims.daemon.clone().map_or_else(login, Ok);
    bound.unwrap_or_else(|error| unreachable!("every id may be an id: {error}"))
}

/// Opens a session whose frames are read from a response.
pub(crate) async fn open_stream(parts: &Parts, rest: Rest) -> Result<mpsc::Receiver<Bytes>, OpenFailed> {
    let (mailbox, daemon) = (rest.mailbox(), daemon_of(&rest.daemon));
    let (outlet, body) = EventStream::new(rest.cursor, parts.context.clock);
    let live = rest.open(parts).await?;
    run(parts, mailbox, Kept { daemon, polls: None, handle: live.handle() }, live, outlet);
    Ok(body)
}

/// Opens a session that is asked by polls, and keeps it for the next ones.
pub(crate) async fn open_poll(parts: &Parts, rest: Rest, types: Option<String>) -> Result<Polls, OpenFailed> {
    let (mailbox, daemon) = (rest.mailbox(), daemon_of(&rest.daemon));
    let (outlet, polls) = Mailslot::new(rest.cursor, types, parts.context.clock);
    let live = rest.open(parts).await?;
    run(parts, mailbox, Kept { daemon, polls: Some(polls.clone()), handle: live.handle() }, live, outlet);
    Ok(polls)
}

fn run(parts: &Parts, mailbox: Mailbox, kept: Kept, live: Box<Live>, mut outlet: impl Outlet + 'static) {
    let parts = parts.clone();
    let lifecycle = parts.context.lifecycle.clone();
    let handle = kept.handle.clone();
    parts.rest_sessions.keep(mailbox.clone(), kept);
    lifecycle.spawn(async move {
        parts.metrics.sessions.inc();
        parts.activities.tell(ActivityKind::ConnectionAuthenticated, live.key().about(), |_| {});
        let (code, session) = live.run(&mut outlet).await;
        parts.rest_sessions.forget(&mailbox, &handle);
        parts.metrics.sessions.dec();
        parts.metrics.closed(code);
        tell_closed(&parts, session.about(), code);
    });
}

/// Whose mailbox.
type Mailbox = (OrganizationId, OrchestratorId);

struct Kept {
    daemon: DaemonId,
    /// If it is asked by polls.
    polls: Option<Polls>,
    handle: Arc<Handle>,
}

/// Sessions without a WebSocket. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct RestSessions(Arc<Mutex<HashMap<Mailbox, Vec<Kept>>>>);

impl RestSessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Mailbox, Vec<Kept>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, mailbox: Mailbox, kept: Kept) {
        let mut sessions = self.lock();
        let of_mailbox = sessions.entry(mailbox).or_default();
        of_mailbox.retain(|known| known.daemon != kept.daemon);
        of_mailbox.push(kept);
    }

    fn forget(&self, mailbox: &Mailbox, handle: &Arc<Handle>) {
        let mut sessions = self.lock();
        let Some(of_mailbox) = sessions.get_mut(mailbox) else { return };
        of_mailbox.retain(|kept| !Arc::ptr_eq(&kept.handle, handle));
        if of_mailbox.is_empty() {
            sessions.remove(mailbox);
        }
    }

    /// Where a daemon's polls go that has polled here before.
    pub(crate) fn polls(&self, rest: &Rest) -> Option<Polls> {
        let daemon = daemon_of(&rest.daemon);
        let sessions = self.lock();
        sessions.get(&rest.mailbox())?.iter().find(|kept| kept.daemon == daemon)?.polls.clone()
    }

    /// Messages of an orchestrator have been acknowledged: they are not in flight any more.
    pub(crate) fn release(&self, daemon: &DaemonClaims, ids: Vec<MessageId>) {
        let ids: Arc<[MessageId]> = ids.into();
        let mailbox = (daemon.organization.clone(), daemon.orchestrator.clone());
        for kept in self.lock().get(&mailbox).into_iter().flatten() {
            kept.handle.events.push(Event::Acknowledged(ids.clone()));
        }
    }
}
