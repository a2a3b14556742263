//! Sessions of this gateway by their ids.

mod queue;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::oneshot;
use waystation_domain::{DaemonId, MessageId, SessionId};
use waystation_token::{Claims, Verifier};
use waystation_wire::{Ending, FeedNews, Health, Push};

use crate::upstream::{SessionKey, Witness};

use queue::Queue;

/// Something for a session from outside its connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// A hint of a router.
    Push(Box<Push>),
    /// Something of the feed.
    Feed(FeedNews),
    /// A hint may have been lost.
    PossibleLoss,
    /// These have been acknowledged on another way.
    Acknowledged(Arc<[MessageId]>),
    /// The lease was renewed under another incarnation: open the session again after so many milliseconds.
    Reopen(u32),
    /// Come back elsewhere, after so many milliseconds.
    Drain(u32),
    /// It is over.
    End(Ending),
    /// Tell how you do.
    Report(oneshot::Sender<Report>),
}

/// How a connection does.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) key: SessionKey,
    pub(crate) daemon: DaemonId,
    /// For how long it has been open.
    pub(crate) open_for: Duration,
    pub(crate) health: Health,
    /// Frames sent.
    pub(crate) sent: u64,
    /// The client does not read.
    pub(crate) is_stalled: bool,
}

/// Sessions that are open here. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<HashMap<SessionId, Arc<Handle>>>>);

/// Many of them wait for slow connections, and each is written for every subscriber of an event.
const _: () = assert!(size_of::<Event>() <= 64);

impl Event {
    /// Whether it must arrive however full the queue is. There are few of these.
    fn is_vital(&self) -> bool {
        match self {
            Event::Push(_) | Event::PossibleLoss => false,
            Event::Feed(news) => matches!(news, FeedNews::Followed(_)),
            Event::Acknowledged(_) | Event::Reopen(_) | Event::Drain(_) | Event::End(_) | Event::Report(_) => true,
        }
    }
}

/// How others reach a session.
pub(crate) struct Handle {
    pub(crate) events: Queue,
    is_sent_away: AtomicBool,
    login: Mutex<(Arc<Claims>, SecretString)>,
}

impl Handle {
    /// What the connection's token says now.
    pub(crate) fn claims(&self) -> Arc<Claims> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Why its feed may come here.
    pub(crate) fn witness(&self) -> Witness {
        let login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        match &login.0.organization {
            Some(organization) if login.1.expose_secret().is_empty() => Witness::Anybody(organization.clone()),
            Some(_) | None => Witness::Token(login.1.clone()),
        }
    }

    /// Asks the connection how it does.
    pub(crate) fn report(&self) -> oneshot::Receiver<Report> {
        let (answer, report) = oneshot::channel();
        self.events.push(Event::Report(answer));
        report
    }

    /// Tells the client to come back elsewhere, after so many milliseconds.
    pub(crate) fn send_away(&self, after: u32) {
        self.is_sent_away.store(true, Ordering::Relaxed);
        self.events.push(Event::Drain(after));
    }

    /// The connection has a new token.
    pub(crate) fn renew(&self, claims: Arc<Claims>, token: SecretString) {
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = (claims, token);
    }
}

/// A session's place in the registry, left when dropped.
pub(crate) struct Registration {
    registry: Registry,
    session: SessionId,
    pub(crate) handle: Arc<Handle>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut sessions = self.registry.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&self.session);
    }
}

impl Registry {
    /// Takes a session in. Its id is new, so nobody is displaced here.
    pub(crate) fn register(&self, session: SessionId, claims: Arc<Claims>, token: SecretString) -> Registration {
        let login = Mutex::new((claims, token));
        let handle = Arc::new(Handle { events: Queue::default(), is_sent_away: AtomicBool::new(false), login });
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session.clone(), handle.clone());
        Registration { registry: self.clone(), session, handle }
    }

    pub(crate) fn push(&self, session: &str, push: Push) {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned();
        if let Some(handle) = handle {
            handle.events.push(Event::Push(Box::new(push)));
        }
    }

    /// Ends a session; answers whether it is open here.
    pub(crate) fn end(&self, session: &SessionId, ending: Ending) -> bool {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned();
        handle.is_some_and(|handle| {
            handle.events.push(Event::End(ending));
            true
        })
    }

    /// Sessions after an id, in the order of their ids, that a claim of theirs allows.
    pub(crate) fn after(
        &self,
        session: Option<&SessionId>,
        wanted: impl Fn(&Claims) -> bool,
    ) -> Vec<(SessionId, Arc<Handle>)> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let later = sessions.iter().filter(|(id, _)| session.is_none_or(|after| *id > after));
        let mut found: Vec<_> = later.filter(|(_, handle)| wanted(&handle.claims())).collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        found.into_iter().map(|(id, handle)| (id.clone(), handle.clone())).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn handles(&self) -> Vec<Arc<Handle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Sessions whose clients were not told to come back elsewhere.
    pub(crate) fn not_yet_sent_away(&self) -> Vec<Arc<Handle>> {
        let mut handles = self.handles();
        handles.retain(|handle| !handle.is_sent_away.load(Ordering::Relaxed));
        handles
    }

    /// Sends each session an event of its own.
    pub(crate) fn send_all(&self, mut event: impl FnMut() -> Event) {
        for handle in self.handles() {
            handle.events.push(event());
        }
    }

    /// Ends the sessions whose tokens have been revoked.
    pub(crate) fn end_revoked(&self, verifier: &Verifier) {
        for handle in self.handles() {
            if verifier.check_revoked(&handle.claims()).is_err() {
                handle.events.push(Event::End(Ending::Revoked));
            }
        }
    }
}
