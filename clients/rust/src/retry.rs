//! When to connect again: full jitter, and a breaker. A rule without clock or randomness of its own.

use std::time::Duration;

/// How a client comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The first wait is drawn from zero to this; it doubles with each failure. Default: 1 s.
    pub first: Duration,
    /// It never grows beyond this. Default: 60 s.
    pub most: Duration,
    /// So many failures in a row open the breaker. Default: 10.
    pub attempts: u32,
    /// How long an open breaker rests before one attempt tries whether it may close. Default: 60 s.
    pub rest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
            attempts: 10,
            rest: Duration::from_secs(60),
        }
    }
}

/// The breaker between a client and a gateway that cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Breaker {
    /// Attempts follow the backoff.
    #[default]
    Closed,
    /// Too many attempts have failed: it rests.
    Open,
    /// One attempt is under way.
    HalfOpen,
}

/// Counts failures, and says how long to wait.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    policy: RetryPolicy,
    /// In a row.
    failures: u32,
    /// Before the connection that is open now.
    before: u32,
    breaker: Breaker,
}

impl Retry {
    pub(crate) fn new(policy: RetryPolicy) -> Retry {
        Retry { policy, failures: 0, before: 0, breaker: Breaker::Closed }
    }

    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn breaker(&self) -> Breaker {
        self.breaker
    }

    /// An attempt begins.
    pub(crate) fn trying(&mut self) {
        if self.breaker == Breaker::Open {
            self.breaker = Breaker::HalfOpen;
        }
    }

    /// The gateway has let the client in.
    pub(crate) fn connected(&mut self) {
        self.before = std::mem::take(&mut self.failures);
        self.breaker = Breaker::Closed;
    }

    /// The gateway that let the client in does not keep to the protocol: that was no success.
    pub(crate) fn violated(&mut self) {
        self.failures += std::mem::take(&mut self.before);
    }

    /// A connection has ended or could not be made. Answers how long to wait: at least `at_least`, as the gateway wishes.
    /// `random` is from 0 up to 1.
    pub(crate) fn failed(&mut self, at_least: Duration, random: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.policy.attempts || self.breaker == Breaker::HalfOpen {
            self.breaker = Breaker::Open;
            // Those who lost the same gateway do not all come back in the same moment.
            return self.policy.rest.max(at_least).mul_f64(1.0 + random / 4.0);
        }
        let doublings = (self.failures - 1).min(16);
        let most = self.policy.first.saturating_mul(1 << doublings).min(self.policy.most);
        at_least + most.mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { attempts: 5, ..RetryPolicy::default() }
    }

    #[test]
    fn waits_double_up_to_the_most_with_full_jitter() {
        let mut retry = Retry::new(RetryPolicy { attempts: 100, ..policy() });
        let waits: Vec<u64> = (0..8).map(|_| retry.failed(Duration::ZERO, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry.failed(Duration::ZERO, 0.0), Duration::ZERO, "full jitter begins at zero");
    }

    #[test]
    fn the_gateways_wish_comes_on_top() {
        let mut retry = Retry::new(policy());
        assert_eq!(retry.failed(Duration::from_secs(60), 0.5), Duration::from_millis(60_500));
    }

    #[test]
    fn a_breaker_opens_tries_once_and_closes() {
        let mut retry = Retry::new(policy());
        for _ in 0..4 {
            retry.failed(Duration::ZERO, 0.5);
        }
        assert_eq!(retry.breaker(), Breaker::Closed);
        assert_eq!(retry.failed(Duration::ZERO, 0.0), Duration::from_secs(60));
        assert_eq!(retry.breaker(), Breaker::Open);
        retry.trying();
        assert_eq!(retry.breaker(), Breaker::HalfOpen);
        assert_eq!(retry.failed(Duration::ZERO, 1.0), Duration::from_secs(75), "not all in the same moment");
        retry.trying();
        retry.connected();
        assert_eq!((retry.breaker(), retry.failures()), (Breaker::Closed, 0));
    }

    #[test]
    fn a_gateway_that_lets_in_and_then_sends_garbage_does_not_count_as_reached() {
        let mut retry = Retry::new(policy());
        for turn in 1..5 {
            retry.connected();
            retry.violated();
            retry.failed(Duration::ZERO, 0.5);
            assert_eq!(retry.failures(), turn);
        }
        retry.connected();
        retry.violated();
        retry.failed(Duration::ZERO, 0.5);
        assert_eq!(retry.breaker(), Breaker::Open);
    }
}
