//! What time does to a delegation.

use std::time::Duration;

use super::{Attempt, AttemptState, Delegation, DelegationState};
use crate::Timestamp;

/// A delegation is remembered for so long after its end.
pub(super) const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

impl Delegation {
    /// When it must have ended.
    pub fn deadline(&self) -> Timestamp {
        self.created.after(self.request.limits.overall)
    }

    /// When it can be forgotten.
    pub fn forgotten(&self) -> Option<Timestamp> {
        self.ended.map(|ended| ended.after(KEPT))
    }

    /// When it must be looked at again; `send_at` is when somebody else sends what has not been sent by then.
    pub fn due(&self, send_at: Timestamp) -> Timestamp {
        let send = (!self.outbox.is_empty()).then_some(send_at);
        let next = match (self.forgotten(), self.current()) {
            (Some(forgotten), _) => forgotten,
            (None, None) => self.look_at.min(self.deadline()),
            (None, Some(attempt)) => self.limit_of(attempt).0.min(self.deadline()),
        };
        send.map_or(next, |send| send.min(next))
    }

    /// The first limit that an attempt will meet, and what is said then.
    fn limit_of(&self, attempt: &Attempt) -> (Timestamp, &'static str) {
        let limits = &self.request.limits;
        if attempt.withdrawn.is_some() {
            return (self.lease_end(attempt), "it was not given back in time");
        }
        if attempt.state == AttemptState::Offered {
            return (attempt.offered.after(limits.offer), "no answer to the offer");
        }
        let accepted = attempt.accepted.unwrap_or(attempt.offered);
        let run = (accepted.after(limits.run), "it ran for too long");
        let start = (attempt.state == AttemptState::Accepted)
            .then(|| (accepted.after(limits.start), "it was not begun in time"));
        let heartbeat = limits.heartbeat.map(|every| (attempt.heard.after(every), "nothing was heard of its progress"));
        [Some(run), start, heartbeat].into_iter().flatten().min_by_key(|(at, _)| *at).unwrap_or(run)
    }

    /// Does what time has made due, but for choosing and sending. Answers whether anything changed.
    pub fn tick(&mut self, now: Timestamp) -> bool {
        if self.state.is_terminal() {
            return false;
        }
        if self.deadline() <= now {
            let why = self.why_pending();
            let reason =
                if why.is_empty() { "not done in time".to_owned() } else { format!("not done in time: {why}") };
            self.end(DelegationState::Expired, reason, now);
            return true;
        }
        let Some((at, reason)) = self.current().map(|attempt| self.limit_of(attempt)) else { return false };
        if at > now {
            return false;
        }
        self.take_away(reason, now);
        true
    }
}
