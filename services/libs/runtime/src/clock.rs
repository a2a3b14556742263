//! The one place where services read time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use waystation_domain::Timestamp;

/// Reads the host's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock(());

#[expect(clippy::disallowed_methods, reason = "the one place where services read time")]
impl Clock {
    /// The clocks of this host.
    pub fn of_host() -> Clock {
        Clock(())
    }

    /// The time of day, for what people and tokens see.
    pub fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The time of day as finely as the host knows it, for traces.
    pub fn wall() -> SystemTime {
        SystemTime::now()
    }

    /// Monotonic time, for leases and timers.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }
}
