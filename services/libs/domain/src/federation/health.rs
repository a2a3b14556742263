//! How an orchestrator is, from what is seen of it and what it says.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Standing;
use crate::Timestamp;

/// Without a session for so long it is degraded; one that comes back sooner was never away.
const SILENCE: Duration = Duration::from_secs(45);
/// What was said so long ago says nothing of how it is now.
const STALE: Duration = Duration::from_secs(5 * 60);
/// More failures than this, of a thousand, are too many.
const MANY_ERRORS: u32 = 100;

/// What an orchestrator says of how it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How it is.
    pub standing: Standing,
    /// Tasks by its own count, never mixed with slots.
    pub load: u32,
    /// Tokens that it has used up.
    pub tokens_used: u64,
    /// Of a thousand things that it did lately, so many failed.
    pub errors: u32,
    /// When it was said.
    pub at: Timestamp,
}

/// How an orchestrator is as everybody has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// How it is.
    pub standing: Standing,
    /// Since when; what was told next is another moment.
    pub since: Timestamp,
    /// When it was registered first.
    pub registered: Timestamp,
}

impl Told {
    /// What is thought of one that nobody knows yet.
    pub fn of_new(now: Timestamp) -> Told {
        Told { standing: Standing::Offline, since: now, registered: now }
    }
}

/// What is seen of an orchestrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It has a session, by which it says that it is like this.
    Connected(Standing),
    /// It had one until then, by which it said that it was like this.
    Lost(Standing, Timestamp),
    /// It has none.
    Gone,
}

impl Seen {
    /// What follows: a session that is lost says what it said.
    #[must_use]
    pub fn then_lost(self, at: Timestamp) -> Seen {
        match self {
            Seen::Connected(said) => Seen::Lost(said, at),
            Seen::Lost(..) => self,
            Seen::Gone => Seen::Lost(Standing::Online, at),
        }
    }

    /// Whether a task would wait for a session.
    pub fn is_away(self) -> bool {
        !matches!(self, Seen::Connected(_))
    }
}

/// How it is. What it says makes it worse, never better.
pub fn standing(seen: Seen, report: Option<&Report>, now: Timestamp) -> Standing {
    let seen = match seen {
        Seen::Connected(said) => said,
        Seen::Lost(said, at) if now.since(at) < SILENCE => said,
        Seen::Lost(said, _) => said.max(Standing::Degraded),
        Seen::Gone => return Standing::Offline,
    };
    let report = report.filter(|report| now.since(report.at) < STALE);
    let errors = if report.is_some_and(|report| report.errors > MANY_ERRORS) { Standing::Degraded } else { seen };
    report.map_or(seen, |report| seen.max(report.standing)).max(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_session_that_comes_back_in_time_was_never_away() {
        let seen = Seen::Connected(Standing::Busy).then_lost(at(100));
        assert_eq!(standing(seen, None, at(144)), Standing::Busy);
        assert_eq!(standing(seen.then_lost(at(140)), None, at(145)), Standing::Degraded, "counted from the first loss");
        assert_eq!(standing(Seen::Gone, None, at(145)), Standing::Offline);
        assert_eq!(standing(Seen::Gone.then_lost(at(0)), None, at(1)), Standing::Online);
    }

    #[test]
    fn what_it_says_makes_it_worse_and_never_better() {
        let report = |standing, errors| Report { standing, load: 0, tokens_used: 0, errors, at: at(0) };
        let of = |seen, report: Report, now| standing(seen, Some(&report), at(now));
        let online = Seen::Connected(Standing::Online);
        assert_eq!(of(online, report(Standing::Draining, 0), 10), Standing::Draining);
        assert_eq!(of(online, report(Standing::Online, 100), 10), Standing::Online);
        assert_eq!(of(online, report(Standing::Online, 101), 10), Standing::Degraded);
        assert_eq!(of(online, report(Standing::Draining, 0), 300), Standing::Online, "said too long ago");
        assert_eq!(of(Seen::Connected(Standing::Draining), report(Standing::Online, 101), 10), Standing::Draining);
        assert_eq!(of(Seen::Gone, report(Standing::Online, 0), 10), Standing::Offline);
    }
}
