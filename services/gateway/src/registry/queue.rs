//! What waits for a connection. Unlike a channel it holds no memory while the connection rests, which most do.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use futures_util::task::AtomicWaker;

use super::Event;

/// Hints that wait; what comes beyond is dropped, and the session compares its heads.
const MOST: usize = 1_024;

/// Many write, one connection reads.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: Mutex<VecDeque<Event>>,
    /// How many there are, so that nobody need lock to see that there are none.
    length: AtomicUsize,
    filled: AtomicWaker,
    /// Something was dropped since it was last asked.
    lost: AtomicBool,
}

impl Queue {
    pub(crate) fn push(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() < MOST || event.is_vital() {
            events.push_back(event);
            self.length.store(events.len(), Ordering::Release);
        } else {
            self.lost.store(true, Ordering::Release);
        }
        drop(events);
        self.filled.wake();
    }

    /// Resolves when something waits; answers how much.
    pub(crate) async fn filled(&self) -> usize {
        let look = || Some(self.length.load(Ordering::Acquire)).filter(|length| *length > 0);
        poll_fn(|cx| {
            if let Some(length) = look() {
                return Poll::Ready(length);
            }
            self.filled.register(cx.waker());
            // It may have come in between.
            look().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// What has waited longest.
    pub(crate) fn pop(&self) -> Option<Event> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let event = events.pop_front();
        self.length.store(events.len(), Ordering::Release);
        event
    }

    /// Gives back memory if nothing waits.
    pub(crate) fn rest(&self) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.is_empty() {
            *events = VecDeque::new();
        }
    }

    /// Whether something was dropped since the last call.
    pub(crate) fn take_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire) && self.lost.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use waystation_wire::Ending;

    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_told_and_an_ending_always_fits() {
        let queue = Queue::default();
        for _ in 0..MOST + 5 {
            queue.push(Event::PossibleLoss);
        }
        queue.push(Event::End(Ending::Revoked));
        assert_eq!(queue.filled().await, MOST + 1);
        let taken: Vec<Event> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(taken.len(), MOST + 1);
        assert!(matches!(taken.last(), Some(Event::End(Ending::Revoked))));
        assert!(queue.take_lost());
        assert!(!queue.take_lost());
        queue.rest();
        assert_eq!(queue.events.lock().unwrap().capacity(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_waits_is_woken_by_each() {
        let queue = Arc::new(Queue::default());
        let writer = queue.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            for number in 0..10_000u32 {
                writer.push(Event::Reopen(number));
                if number.is_multiple_of(100) {
                    tokio::task::yield_now().await;
                }
                // No more than there is room for.
                while writer.length.load(Ordering::Acquire) > 500 {
                    tokio::task::yield_now().await;
                }
            }
        });
        let reading = async {
            let mut next = 0;
            while next < 10_000 {
                queue.filled().await;
                while let Some(event) = queue.pop() {
                    assert!(matches!(event, Event::Reopen(number) if number == next), "{event:?}");
                    next += 1;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap();
        tasks.join_next().await.unwrap().unwrap();
    }
}
