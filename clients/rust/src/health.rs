//! How a connection is, from what was seen of it.

use std::time::Duration;

/// A connection slower than this is degraded; a routed message takes some milliseconds.
const SLOW: Duration = Duration::from_secs(1);
/// More waiting messages than this are too many.
const LONG_QUEUE: usize = 50;
/// So many failures in a row make a connection unhealthy.
const FAILURES: u32 = 3;

/// How the connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// All is well.
    Healthy,
    /// It works, but slowly, or with failures, or more than 50 messages wait.
    Degraded,
    /// It is there, but three or more times in a row nothing was answered.
    Unhealthy,
    /// There is none.
    #[default]
    Disconnected,
}

/// How the connection is, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// In a word.
    pub status: Status,
    /// The last one measured: of a heartbeat, a ping or a message.
    pub latency: Option<Duration>,
    /// Failures since something last succeeded.
    pub consecutive_failures: u32,
    /// Messages that the gateway has not accepted yet.
    pub queue_size: usize,
}

/// Counters since the client was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Messages that the gateway has accepted.
    pub messages_sent: u64,
    /// Messages of the mailbox that came, repeats included.
    pub messages_received: u64,
    /// Events of the feed that were handed out.
    pub events_received: u64,
    /// Messages that the program has acknowledged.
    pub acknowledged: u64,
    /// Repeats that were not handed out.
    pub duplicates_filtered: u64,
    /// Gaps that were told.
    pub gaps: u64,
    /// Connections after the first.
    pub reconnect_count: u64,
    /// Messages and probes that failed.
    pub failures: u64,
    /// Messages that the gateway has not accepted yet.
    pub queued: usize,
    /// Messages that the program works on.
    pub in_hand: usize,
    /// Mean over the last ones, weighted to the newest.
    pub average_latency: Option<Duration>,
}

/// Looks at what happens.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) statistics: Statistics,
    latency: Option<Duration>,
    failures: u32,
    late: bool,
}

impl Watch {
    /// Something was answered.
    pub(crate) fn answered(&mut self, latency: Duration) {
        self.latency = Some(latency);
        let average = &mut self.statistics.average_latency;
        // An exponential mean over about ten.
        *average = Some(average.map_or(latency, |average| (average * 9 + latency) / 10));
        self.failures = 0;
    }

    /// A message was accepted.
    pub(crate) fn accepted(&mut self, latency: Option<Duration>) {
        self.statistics.messages_sent += 1;
        if let Some(latency) = latency {
            self.answered(latency);
        }
    }

    /// A new connection begins with a clean sheet.
    pub(crate) fn let_in(&mut self) {
        (self.failures, self.late) = (0, false);
    }

    /// Something was not answered, or refused.
    pub(crate) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.statistics.failures += 1;
    }

    /// Whether a message waits too long for its answer.
    pub(crate) fn late(&mut self, late: bool) {
        if late && !self.late {
            self.failed();
        }
        self.late = late;
    }

    pub(crate) fn is_late(&self) -> bool {
        self.late
    }

    pub(crate) fn health(&self, is_up: bool, queue_size: usize) -> Health {
        let is_slow = self.latency.is_some_and(|latency| latency > SLOW);
        let status = match self.failures {
            _ if !is_up => Status::Disconnected,
            FAILURES.. => Status::Unhealthy,
            0 if !is_slow && queue_size <= LONG_QUEUE => Status::Healthy,
            _ => Status::Degraded,
        };
        Health { status, latency: self.latency, consecutive_failures: self.failures, queue_size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_says_what_was_seen() {
        let mut watch = Watch::default();
        let status = |watch: &Watch, up, queue| watch.health(up, queue).status;
        assert_eq!(status(&watch, false, 0), Status::Disconnected);
        assert_eq!(status(&watch, true, 50), Status::Healthy);
        assert_eq!(status(&watch, true, 51), Status::Degraded);
        watch.answered(Duration::from_millis(1_001));
        assert_eq!(status(&watch, true, 0), Status::Degraded);
        watch.answered(Duration::from_millis(5));
        assert_eq!(status(&watch, true, 0), Status::Healthy);
        watch.late(true);
        watch.late(true);
        assert_eq!((status(&watch, true, 0), watch.statistics.failures), (Status::Degraded, 1));
        watch.failed();
        watch.failed();
        assert_eq!(status(&watch, true, 0), Status::Unhealthy);
        watch.accepted(Some(Duration::from_millis(5)));
        assert_eq!(status(&watch, true, 0), Status::Healthy);
    }

    #[test]
    fn the_average_follows_what_is_measured() {
        let mut watch = Watch::default();
        watch.answered(Duration::from_millis(10));
        watch.answered(Duration::from_millis(110));
        assert_eq!(watch.statistics.average_latency, Some(Duration::from_millis(20)));
    }
}
