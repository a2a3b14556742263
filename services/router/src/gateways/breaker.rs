//! What the stream to a gateway goes through, told so that an operator's feed can show it: it breaks, is dialled again, stands.

use waystation_domain::Timestamp;

/// Whether a stream carries hints, as circuit breakers say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// It stands.
    Closed,
    /// It broke, and rests until the next attempt.
    Open,
    /// It is being dialled again.
    HalfOpen,
}

impl BreakerState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        }
    }
}

/// Something to tell of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkNews {
    /// Which stream: this router's to this gateway.
    pub(crate) link: String,
    pub(crate) change: LinkChange,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkChange {
    State { from: BreakerState, to: BreakerState, reason: String, at: Timestamp },
    RetryStarted { retry: String, attempt: u32, error: String, next: Timestamp },
    RetryCompleted { retry: String, attempts: u32, error: Option<String> },
}

/// Attempts since a stream broke.
#[derive(Debug)]
struct Retry {
    id: String,
    attempts: u32,
}

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Breaker {
    link: String,
    state: BreakerState,
    retry: Option<Retry>,
}

impl Breaker {
    pub(super) fn new(link: String) -> Breaker {
        Breaker { link, state: BreakerState::Closed, retry: None }
    }

    /// The stream broke, or could not be dialled; it is dialled again at `next`.
    pub(super) fn break_off(&mut self, error: &str, now: Timestamp, next: Timestamp) -> Vec<LinkNews> {
        let began = || Retry { id: format!("{}.{}", self.link, now.as_millis()), attempts: 0 };
        let mut retry = self.retry.take().unwrap_or_else(began);
        retry.attempts += 1;
        let started = LinkChange::RetryStarted {
            retry: retry.id.clone(),
            attempt: retry.attempts,
            error: error.to_owned(),
            next,
        };
        self.retry = Some(retry);
        let opened = self.turn(BreakerState::Open, error, now);
        opened.into_iter().chain([self.news(started)]).collect()
    }

    /// It is dialled, perhaps again.
    pub(super) fn dial(&mut self, now: Timestamp) -> Vec<LinkNews> {
        if self.retry.is_none() {
            return Vec::new();
        }
        self.turn(BreakerState::HalfOpen, "it is dialled again", now).into_iter().collect()
    }

    /// The gateway answered.
    pub(super) fn stand(&mut self, now: Timestamp) -> Vec<LinkNews> {
        let closed = self.turn(BreakerState::Closed, "the gateway answered", now);
        closed.into_iter().chain(self.complete(None)).collect()
    }

    /// Nobody dials any more.
    pub(super) fn give_up(&mut self, error: &str) -> Vec<LinkNews> {
        self.complete(Some(error.to_owned())).into_iter().collect()
    }

    fn turn(&mut self, to: BreakerState, reason: &str, at: Timestamp) -> Option<LinkNews> {
        let from = std::mem::replace(&mut self.state, to);
        (from != to).then(|| self.news(LinkChange::State { from, to, reason: reason.to_owned(), at }))
    }

    fn complete(&mut self, error: Option<String>) -> Option<LinkNews> {
        let Retry { id, attempts } = self.retry.take()?;
        Some(self.news(LinkChange::RetryCompleted { retry: id, attempts, error }))
    }

    fn news(&self, change: LinkChange) -> LinkNews {
        LinkNews { link: self.link.clone(), change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn told(news: Vec<LinkNews>) -> Vec<String> {
        let tell = |LinkNews { link, change }| {
            assert_eq!(link, "r.g");
            match change {
                LinkChange::State { from, to, reason, .. } => format!("{} to {}: {reason}", from.name(), to.name()),
                LinkChange::RetryStarted { retry, attempt, error, next } => {
                    format!("{retry} attempt {attempt} at {}: {error}", next.as_millis())
                }
                LinkChange::RetryCompleted { retry, attempts, error } => format!("{retry} after {attempts}: {error:?}"),
            }
        };
        news.into_iter().map(tell).collect()
    }

    #[test]
    fn a_stream_that_stands_says_nothing() {
        let mut breaker = Breaker::new("r.g".into());
        assert_eq!(breaker.dial(at(1)), []);
        assert_eq!(breaker.stand(at(2)), []);
        assert_eq!(breaker.give_up("gone"), []);
    }

    #[test]
    fn one_that_breaks_is_told_with_each_attempt_until_it_stands() {
        let mut breaker = Breaker::new("r.g".into());
        assert_eq!(
            told(breaker.break_off("no answer", at(10), at(11))),
            ["closed to open: no answer", "r.g.10 attempt 1 at 11: no answer"]
        );
        assert_eq!(told(breaker.dial(at(11))), ["open to half-open: it is dialled again"]);
        assert_eq!(
            told(breaker.break_off("refused", at(12), at(14))),
            ["half-open to open: refused", "r.g.10 attempt 2 at 14: refused"]
        );
        breaker.dial(at(14));
        assert_eq!(told(breaker.stand(at(15))), ["half-open to closed: the gateway answered", "r.g.10 after 2: None"]);
        assert_eq!(
            told(breaker.break_off("reset", at(20), at(21))),
            ["closed to open: reset", "r.g.20 attempt 1 at 21: reset"]
        );
        assert_eq!(told(breaker.give_up("the gateway is gone")), [r#"r.g.20 after 1: Some("the gateway is gone")"#]);
    }
}
