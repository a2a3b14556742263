//! What a service does, for operators who watch. While nobody does, it costs a look at a counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use waystation_proto::common::v1::{Activity, ActivityKind};
use waystation_runtime::Clock;

use crate::convert::timestamp_to;

/// Activities that wait for the slowest watcher; what comes beyond drops its oldest, and is counted.
const MOST: usize = 2_048;

/// Where activities are told. Cheap to clone.
#[derive(Clone)]
pub struct Activities {
    sender: broadcast::Sender<Arc<Activity>>,
    /// Dropped before they came here, since the start.
    dropped: Arc<AtomicU64>,
    clock: Clock,
}

/// Whom an activity is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// Tenant.
    pub organization: &'a str,
    /// Addressee.
    pub orchestrator: &'a str,
    /// The process.
    pub daemon: &'a str,
    /// The session.
    pub session: &'a str,
}

/// A watcher's place.
pub struct Watch {
    receiver: broadcast::Receiver<Arc<Activity>>,
    /// Since the last answer.
    dropped: u64,
    dropped_before: Arc<AtomicU64>,
    /// Of these, what has been told.
    told: u64,
}

impl Activities {
    /// Nobody watches yet.
    pub fn new(clock: Clock) -> Activities {
        Activities { sender: broadcast::Sender::new(MOST), dropped: Arc::default(), clock }
    }

    /// Whether anybody watches.
    pub fn are_watched(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Tells that something happened now; what more there is to say is asked for only if somebody watches.
    pub fn tell(&self, kind: ActivityKind, about: About<'_>, more: impl FnOnce(&mut Activity)) {
        if !self.are_watched() {
            return;
        }
        let mut activity = Activity {
            kind: kind.into(),
            time: Some(timestamp_to(self.clock.now())),
            organization_id: about.organization.to_owned(),
            orchestrator_id: about.orchestrator.to_owned(),
            daemon_id: about.daemon.to_owned(),
            session_id: about.session.to_owned(),
            message_id: String::new(),
            count: 1,
            detail: String::new(),
        };
        more(&mut activity);
        self.pass_on(activity);
    }

    /// Tells what another service has seen.
    pub fn pass_on(&self, activity: Activity) {
        // Nobody may be left to hear it.
        self.sender.send(Arc::new(activity)).ok();
    }

    /// Counts activities that another service dropped.
    pub fn note_dropped(&self, count: u64) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// Watches from now on.
    pub fn watch(&self) -> Watch {
        let told = self.dropped.load(Ordering::Relaxed);
        Watch { receiver: self.sender.subscribe(), dropped: 0, dropped_before: self.dropped.clone(), told }
    }
}

impl Watch {
    /// What waits, at least one and at most so many; none: the service has ended. Nothing is lost if it is dropped.
    pub async fn next(&mut self, most: usize) -> Vec<Arc<Activity>> {
        let mut found = Vec::new();
        while found.is_empty() {
            match self.receiver.recv().await {
                Ok(activity) => found.push(activity),
                Err(RecvError::Lagged(count)) => self.dropped += count,
                Err(RecvError::Closed) => return found,
            }
        }
        while found.len() < most {
            match self.receiver.try_recv() {
                Ok(activity) => found.push(activity),
                Err(TryRecvError::Lagged(count)) => self.dropped += count,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        found
    }

    /// Counts activities that were dropped elsewhere.
    pub fn add_dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    /// How many were dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        let before = self.dropped_before.load(Ordering::Relaxed);
        let elsewhere = before.saturating_sub(std::mem::replace(&mut self.told, before));
        std::mem::take(&mut self.dropped) + elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: u64) -> impl FnOnce(&mut Activity) {
        move |activity| activity.count = number
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_take_loses_the_oldest_and_is_told_how_many() {
        let activities = Activities::new(Clock::of_host());
        let kind = ActivityKind::MessageRouted;
        activities.tell(kind, About::default(), |_| panic!("nobody watches"));
        let mut watch = activities.watch();
        for number in 0..MOST as u64 + 7 {
            activities.tell(kind, About::default(), numbered(number));
        }
        let first = watch.next(10).await;
        assert_eq!((first.len(), first[0].count, watch.take_dropped()), (10, 7, 7));
        assert_eq!(watch.next(usize::MAX).await.len(), MOST - 10);
        assert_eq!(watch.take_dropped(), 0);
        activities.note_dropped(3);
        assert_eq!((watch.take_dropped(), watch.take_dropped()), (3, 0));
    }
}
