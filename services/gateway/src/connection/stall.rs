//! A client that does not read: what was written for it does not go.

use std::time::{Duration, Instant};

/// Since when no byte has gone.
#[derive(Debug, Default)]
pub(super) struct Stall {
    /// Bytes written when a write began to wait, and since when.
    at: Option<(u64, Instant)>,
}

impl Stall {
    /// Looks whether writing goes on; answers since when it does not.
    pub(super) fn look(&mut self, is_dirty: bool, written: u64, now: Instant) -> Option<Instant> {
        self.at = match self.at {
            _ if !is_dirty => None,
            Some((before, since)) if before == written => Some((before, since)),
            _ => Some((written, now)),
        };
        self.at.map(|(_, since)| since)
    }

    /// Whether everything was written when it was last looked at.
    pub(super) fn is_over(&self) -> bool {
        self.at.is_none()
    }

    /// For how long, as it was last looked at.
    pub(super) fn lasts(&self, now: Instant) -> Duration {
        self.at.map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_that_does_not_go_on_counts() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::default();
        assert_eq!(stall.look(false, 5, at(0)), None);
        assert_eq!(stall.look(true, 5, at(1)), Some(at(1)));
        assert_eq!(stall.look(true, 5, at(4)), Some(at(1)));
        assert_eq!(stall.lasts(at(4)), Duration::from_secs(3));
        assert_eq!(stall.look(true, 6, at(5)), Some(at(5)), "some of it went");
        assert_eq!(stall.look(false, 9, at(6)), None);
        assert_eq!(stall.lasts(at(9)), Duration::ZERO);
    }
}
