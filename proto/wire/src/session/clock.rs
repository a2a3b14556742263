//! The redelivery clock: one for each connection (rule 7).

use std::time::{Duration, Instant};

use waystation_domain::Position;

use super::Session;
use super::window::OldestSince;

#[derive(Debug, Default)]
pub(super) struct RedeliveryClock {
    /// Since the last ack, while something is unacknowledged.
    since: Option<Instant>,
    oldest: OldestSince,
    fires_at: Option<Instant>,
}

impl RedeliveryClock {
    pub(super) fn fires_at(&self) -> Option<Instant> {
        self.fires_at
    }
}

impl Session {
    /// Something was sent: the clock runs.
    pub(super) fn clock_after_send(&mut self, now: Instant) {
        self.clock.since.get_or_insert(now);
        self.set_clock(now);
    }

    /// The client has answered: the clock starts again.
    pub(super) fn clock_after_answer(&mut self, now: Instant) {
        self.clock.since = Some(now);
        self.set_clock(now);
    }

    /// The client is still working on an entry: if that is the oldest of its lane, it counts as the oldest from now on.
    pub(super) fn extend_clock(&mut self, position: Position, now: Instant) {
        if let Some((oldest, since)) = &mut self.clock.oldest[position.lane]
            && *oldest == position
        {
            *since = now;
        }
        self.clock_after_answer(now);
    }

    fn set_clock(&mut self, now: Instant) {
        let oldest = self.in_flight.oldest();
        let clock = &mut self.clock;
        let mut longest_held: Option<Instant> = None;
        for (lane, known) in clock.oldest.iter_mut() {
            *known = match (oldest[lane], *known) {
                (Some(position), Some((same, since))) if position == same => Some((same, since)),
                (Some(position), _) => Some((position, now)),
                (None, _) => None,
            };
            if let Some((_, since)) = known {
                longest_held = Some(longest_held.map_or(*since, |other| other.min(*since)));
            }
        }
        let Some(longest_held) = longest_held else {
            clock.since = None;
            clock.fires_at = None;
            return;
        };
        let silent = clock.since.unwrap_or(now) + self.config.redelivery;
        clock.fires_at = Some(silent.min(longest_held + self.config.redelivery_oldest));
    }

    /// The clock fired: the oldest of each lane is charged, and read again.
    pub(super) fn charge_oldest(&mut self, now: Instant) {
        for (lane, oldest) in self.in_flight.oldest().iter() {
            let held = oldest.and_then(|position| self.in_flight.release(lane, position.sequence));
            if let Some(held) = held {
                self.settling.charge(held.position, held.attempt);
            }
        }
        self.blocked = false;
        self.clock_after_answer(now);
    }

    /// How long the client has said nothing.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_frame)
    }
}
