//! How many frames a client may send.

use std::time::{Duration, Instant};

/// Counts in fixed periods, each beginning with its first frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    most: u32,
    period: Duration,
    began: Option<Instant>,
    count: u32,
}

/// A frame too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) retry_after: Duration,
    pub(crate) current: u32,
    pub(crate) most: u32,
}

impl RateLimit {
    pub(crate) fn new(most: u32, period: Duration) -> RateLimit {
        RateLimit { most, period, began: None, count: 0 }
    }

    pub(crate) fn take(&mut self, now: Instant) -> Result<(), TooMany> {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        if age >= self.period {
            (self.began, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(1);
        if self.count <= self.most {
            return Ok(());
        }
        let retry_after = self.period.saturating_sub(age);
        Err(TooMany { retry_after, current: self.count, most: self.most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_holds_so_many_frames_and_no_more() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut limit = RateLimit::new(2, Duration::from_secs(60));
        assert!(limit.take(start).is_ok());
        assert!(limit.take(start + Duration::from_secs(30)).is_ok());
        let refused = limit.take(start + Duration::from_secs(45)).unwrap_err();
        assert_eq!((refused.retry_after, refused.current), (Duration::from_secs(15), 3));
        assert!(limit.take(start + Duration::from_secs(60)).is_ok());
    }
}
