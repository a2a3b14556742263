//! Sessions of this gateway by their ids.

mod queue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use waystation_domain::SessionId;
use waystation_token::{Claims, Verifier};
use waystation_wire::{Ending, Push};

use queue::Queue;

/// Something for a session from outside its connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// A hint of a router.
    Push(Push),
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

impl Event {
    /// Whether it must arrive however full the queue is. There are few of these.
    fn is_vital(&self) -> bool {
        match self {
            Event::Push(_) | Event::PossibleLoss => false,
            Event::Reopen(_) | Event::Drain(_) | Event::End(_) => true,
        }
    }
}

/// How others reach a session.
pub(crate) struct Handle {
    pub(crate) events: Queue,
    claims: Arc<Claims>,
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
    pub(crate) fn register(&self, session: SessionId, claims: Arc<Claims>) -> Registration {
        let handle = Arc::new(Handle { events: Queue::default(), claims });
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session.clone(), handle.clone());
        Registration { registry: self.clone(), session, handle }
    }

    pub(crate) fn push(&self, session: &SessionId, push: Push) {
        let handle = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned();
        if let Some(handle) = handle {
            handle.events.push(Event::Push(push));
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
            handle.events.push(event());
        }
    }

    /// Ends the sessions whose tokens have been revoked.
    pub(crate) fn end_revoked(&self, verifier: &Verifier) {
        for handle in self.handles() {
            if verifier.check_revoked(&handle.claims).is_err() {
                handle.events.push(Event::End(Ending::Revoked));
            }
        }
    }
}
