//! Sessions of this gateway by their ids.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use waystation_domain::SessionId;
use waystation_token::{Claims, Verifier};
use waystation_wire::{Ending, Push};

/// Hints that wait for a connection; what comes beyond is dropped, and the session compares its heads.
const QUEUE: usize = 1_024;

/// Something for a session from outside its connection. Kept small: each queue has room for 32 at least.
#[derive(Debug)]
pub(crate) enum Event {
    /// A hint of a router.
    Push(Box<Push>),
    /// A hint may have been lost.
    PossibleLoss,
    /// The lease was renewed under another incarnation: open the session again after so many milliseconds.
    Reopen(u32),
    /// Come back elsewhere, after so many milliseconds.
    Drain(u32),
    /// It is over.
    End(Ending),
}

/// Sessions that are open here. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Mutex<HashMap<SessionId, Arc<Handle>>>>);

/// How others reach a session.
pub(crate) struct Handle {
    events: mpsc::Sender<Event>,
    /// A hint was dropped because the queue was full.
    lost: AtomicBool,
    claims: Arc<Claims>,
}

impl Handle {
    fn send(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.lost.store(true, Ordering::Release);
        }
    }

    /// Whether a hint was dropped since the last call.
    pub(crate) fn take_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire) && self.lost.swap(false, Ordering::AcqRel)
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
    pub(crate) fn register(&self, session: SessionId, claims: Arc<Claims>) -> (Registration, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(QUEUE);
        let handle = Arc::new(Handle { events, lost: AtomicBool::new(false), claims });
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session.clone(), handle.clone());
        (Registration { registry: self.clone(), session, handle }, receiver)
    }

    pub(crate) fn push(&self, session: &SessionId, push: Push) {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned();
        if let Some(handle) = handle {
            handle.send(Event::Push(Box::new(push)));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn handles(&self) -> Vec<Arc<Handle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Sends each session an event of its own.
    pub(crate) fn send_all(&self, mut event: impl FnMut() -> Event) {
        for handle in self.handles() {
            handle.send(event());
        }
    }

    /// Ends the sessions whose tokens have been revoked.
    pub(crate) fn end_revoked(&self, verifier: &Verifier) {
        for handle in self.handles() {
            if verifier.check_revoked(&handle.claims).is_err() {
                handle.send(Event::End(Ending::Revoked));
            }
        }
    }
}
