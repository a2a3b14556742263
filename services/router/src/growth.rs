//! When a mailbox will be full, if it goes on as it does.

use std::time::{Duration, Instant};

use moka::sync::Cache;
use waystation_domain::Timestamp;
use waystation_runtime::Clock;
use waystation_store::mailbox::{MailboxKey, MailboxLimits, MailboxView};

/// A growth is measured over at least this time …
const LEAST: Duration = Duration::from_secs(1);
/// … and, if somebody looks often, over about this.
const USUAL: Duration = Duration::from_secs(10);
/// What was seen longer ago says nothing about now.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Mailboxes that are remembered.
const CAPACITY: u64 = 10_000;
/// Longer than any message lives: it will not be full.
const NEVER: f64 = 366.0 * 24.0 * 3600.0;

/// Remembers how full mailboxes were.
#[derive(Clone)]
pub(crate) struct Growth {
    seen: Cache<MailboxKey, Seen>,
    clock: Clock,
}

/// How full a mailbox was.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    fill: Fill,
}

/// Entries and bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fill {
    entries: f64,
    bytes: f64,
}

impl Growth {
    pub(crate) fn new(clock: Clock) -> Growth {
        Growth { seen: Cache::builder().max_capacity(CAPACITY).time_to_live(FORGOTTEN).build(), clock }
    }

    /// Looks at a mailbox; answers when it will be full, if that can be said.
    pub(crate) fn look(&self, key: &MailboxKey, view: &MailboxView, caps: &MailboxLimits) -> Option<Duration> {
        let (now, time) = (self.clock.instant(), self.clock.now());
        let fill = Fill::of(view);
        let before = self.seen.get(key);
        let age = before.map(|seen| now.saturating_duration_since(seen.at));
        if age.is_none_or(|age| age >= USUAL) {
            self.seen.insert(key.clone(), Seen { at: now, fill });
        }
        let grown = match (before, age) {
            (Some(seen), Some(age)) if age >= LEAST => Some((seen.fill, age)),
            _ => since_oldest(view, time),
        };
        let (from, over) = grown?;
        full_in(from, fill, over, caps)
    }
}

impl Fill {
    fn of(view: &MailboxView) -> Fill {
        let entries: u64 = view.lanes.iter().map(|(_, lane)| lane.depth).sum();
        Fill { entries: entries as f64, bytes: view.bytes as f64 }
    }
}

/// While nobody takes anything out, the mailbox was empty before its oldest message.
fn since_oldest(view: &MailboxView, now: Timestamp) -> Option<(Fill, Duration)> {
    let oldest = view.oldest.filter(|_| view.holder.is_none())?;
    let age = now.since(oldest);
    (age >= LEAST).then_some((Fill { entries: 0.0, bytes: 0.0 }, age))
}

/// When the first cap is reached at the speed between two looks.
fn full_in(from: Fill, to: Fill, over: Duration, caps: &MailboxLimits) -> Option<Duration> {
    let reaches = |from: f64, to: f64, cap: f64| {
        let seconds = (cap - to).max(0.0) * over.as_secs_f64() / (to - from);
        (to > from && seconds < NEVER).then_some(seconds)
    };
    let entries = reaches(from.entries, to.entries, caps.entries as f64);
    let bytes = reaches(from.bytes, to.bytes, caps.bytes as f64);
    let first = entries.into_iter().chain(bytes).min_by(f64::total_cmp)?;
    // Whole seconds: it is no more exact than that.
    Some(Duration::from_secs_f64(first.ceil()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(entries: f64, bytes: f64) -> Fill {
        Fill { entries, bytes }
    }

    #[test]
    fn the_cap_that_is_reached_first_counts() {
        let caps = MailboxLimits { entries: 1_000, bytes: 10_000, ..MailboxLimits::default() };
        let over = Duration::from_secs(10);
        let full = |from, to| full_in(from, to, over, &caps).map(|time| time.as_secs());
        assert_eq!(full(at(0.0, 0.0), at(100.0, 100.0)), Some(90), "10 entries a second, 900 left");
        assert_eq!(full(at(0.0, 0.0), at(100.0, 5_000.0)), Some(10), "500 bytes a second, 5,000 left");
        assert_eq!(full(at(100.0, 100.0), at(100.0, 100.0)), None, "it does not grow");
        assert_eq!(full(at(100.0, 100.0), at(50.0, 100.0)), None, "it shrinks");
        assert_eq!(full(at(0.0, 0.0), at(1_000.0, 10_000.0)), Some(0), "it is full");
        let slow = full_in(at(0.0, 0.0), at(1.0, 1.0), Duration::from_secs(40 * 24 * 3600), &caps);
        assert_eq!(slow, None, "messages do not live that long");
    }
}
