//! How another cell is reached: a state machine without clock and I/O.

use std::time::Duration;

use super::Standing;
use crate::Timestamp;

/// A cell that says nothing for so long is degraded: it says each 5 s that it lives.
const SILENCE: Duration = Duration::from_secs(15);
/// And for so long is down.
const GONE: Duration = Duration::from_secs(60);
/// Pauses between attempts to connect: up to the first, doubled with each failure, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How a cell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerStanding {
    /// Not heard yet.
    Connecting,
    /// Heard not long ago.
    Up,
    /// The link broke, or it is silent.
    Degraded,
    /// Not heard for a minute: nothing is handed to it.
    Down,
}

impl PeerStanding {
    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            PeerStanding::Connecting => "connecting",
            PeerStanding::Up => "up",
            PeerStanding::Degraded => "degraded",
            PeerStanding::Down => "down",
        }
    }

    /// As those who take tasks are.
    pub fn as_orchestrator(self) -> Standing {
        match self {
            PeerStanding::Up => Standing::Online,
            PeerStanding::Degraded => Standing::Degraded,
            PeerStanding::Connecting | PeerStanding::Down => Standing::Offline,
        }
    }
}

/// The link to one cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLink {
    standing: PeerStanding,
    since: Timestamp,
    heard: Option<Timestamp>,
    failures: u32,
    error: String,
}

impl PeerLink {
    /// A cell that nothing is known of.
    pub fn new(now: Timestamp) -> PeerLink {
        PeerLink { standing: PeerStanding::Connecting, since: now, heard: None, failures: 0, error: String::new() }
    }

    /// It has said something.
    pub fn hear(&mut self, now: Timestamp) {
        self.heard = Some(now);
        self.failures = 0;
        self.enter(PeerStanding::Up, now);
    }

    /// The link broke, or did not come about. Answers how long to wait before the next attempt; `random` spreads those of
    /// many over the whole pause.
    pub fn fail(&mut self, error: String, random: u64, now: Timestamp) -> Duration {
        self.error = error;
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        if self.standing == PeerStanding::Up {
            self.enter(PeerStanding::Degraded, now);
        }
        self.tick(now);
        let most = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(random % (most + 1))
    }

    /// Does what time has made due.
    pub fn tick(&mut self, now: Timestamp) {
        let silent_for = now.since(self.heard.unwrap_or(self.since));
        match self.standing {
            PeerStanding::Up | PeerStanding::Degraded | PeerStanding::Connecting if silent_for >= GONE => {
                self.enter(PeerStanding::Down, now);
            }
            PeerStanding::Up if silent_for >= SILENCE => self.enter(PeerStanding::Degraded, now),
            PeerStanding::Connecting | PeerStanding::Up | PeerStanding::Degraded | PeerStanding::Down => {}
        }
    }

    /// How it is.
    pub fn standing(&self) -> PeerStanding {
        self.standing
    }

    /// Since when.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// When it said something last.
    pub fn heard(&self) -> Option<Timestamp> {
        self.heard
    }

    /// Why the link broke last; empty: it never did.
    pub fn error(&self) -> &str {
        &self.error
    }

    fn enter(&mut self, standing: PeerStanding, now: Timestamp) {
        if self.standing != standing {
            self.standing = standing;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_cell_is_up_while_it_is_heard() {
        let mut link = PeerLink::new(at(0));
        assert_eq!(link.standing(), PeerStanding::Connecting);
        link.hear(at(1));
        link.tick(at(15));
        assert_eq!((link.standing(), link.since()), (PeerStanding::Up, at(1)));
        link.tick(at(16));
        assert_eq!((link.standing(), link.since()), (PeerStanding::Degraded, at(16)));
        link.hear(at(20));
        assert_eq!(link.standing(), PeerStanding::Up);
        link.fail("cut".into(), 0, at(30));
        assert_eq!((link.standing(), link.error()), (PeerStanding::Degraded, "cut"));
        link.fail("cut".into(), 0, at(79));
        assert_eq!(link.standing(), PeerStanding::Degraded);
        link.fail("cut".into(), 0, at(80));
        assert_eq!(link.standing(), PeerStanding::Down);
        link.hear(at(90));
        assert_eq!((link.standing(), link.heard()), (PeerStanding::Up, Some(at(90))));
        let mut never = PeerLink::new(at(0));
        never.tick(at(59));
        assert_eq!(never.standing(), PeerStanding::Connecting);
        never.tick(at(60));
        assert_eq!(never.standing(), PeerStanding::Down);
    }

    #[test]
    fn pauses_grow_and_are_spread() {
        let mut link = PeerLink::new(at(0));
        let longest: Vec<u64> = (0..8)
            .map(|_| {
                let mut same = link.clone();
                assert_eq!(same.fail(String::new(), 0, at(0)), Duration::ZERO);
                // What is left by the division is the greatest there is.
                let longest = (1..=60).map(|seconds| seconds * 1_000);
                let of = |random| link.clone().fail(String::new(), random, at(0)).as_secs();
                let found = longest.map(of).max().unwrap_or(0);
                link.fail(String::new(), 0, at(0));
                found
            })
            .collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
        link.hear(at(1));
        assert!(link.fail(String::new(), u64::MAX, at(2)) <= FIRST_PAUSE, "it was there again");
    }
}
