//! What waits for a connection. Unlike a channel it holds no memory while it is empty, which most are.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::Event;

/// Hints that wait; what comes beyond is dropped, and the session compares its heads.
const MOST: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: Mutex<VecDeque<Event>>,
    filled: Notify,
    /// Something was dropped since it was last asked.
    lost: AtomicBool,
}

impl Queue {
    pub(crate) fn push(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() < MOST || event.is_vital() {
            events.push_back(event);
        } else {
            self.lost.store(true, Ordering::Release);
        }
        drop(events);
        self.filled.notify_one();
    }

    /// All that waits, at least one. Nothing is lost if it is dropped.
    pub(crate) async fn take(&self) -> VecDeque<Event> {
        loop {
            let events = std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
            if !events.is_empty() {
                return events;
            }
            self.filled.notified().await;
        }
    }

    /// Whether something was dropped since the last call.
    pub(crate) fn take_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire) && self.lost.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use waystation_wire::Ending;

    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_told_and_an_ending_always_fits() {
        let queue = Queue::default();
        for _ in 0..MOST + 5 {
            queue.push(Event::PossibleLoss);
        }
        queue.push(Event::End(Ending::Revoked));
        let taken = queue.take().await;
        assert_eq!(taken.len(), MOST + 1);
        assert!(matches!(taken.back(), Some(Event::End(Ending::Revoked))));
        assert!(queue.take_lost());
        assert!(!queue.take_lost());
    }
}
