//! How attempts and delegations end.

use serde_json::{Value, json};

use super::{Attempt, AttemptState, Delegation, DelegationState, FIRST_PAUSE, LONGEST_PAUSE, Outcome};
use crate::federation::{NoteKind, Refused, cell_of};
use crate::{OrchestratorId, Timestamp};

impl Delegation {
    /// It is not wanted any more.
    ///
    /// # Errors
    /// It has ended otherwise.
    pub fn cancel(&mut self, reason: &str, now: Timestamp) -> Result<(), Refused> {
        match self.state {
            DelegationState::Pending | DelegationState::Active => {
                self.end(DelegationState::Cancelled, reason.to_owned(), now);
                Ok(())
            }
            DelegationState::Cancelled => Ok(()),
            ended @ (DelegationState::Completed
            | DelegationState::Failed
            | DelegationState::Expired
            | DelegationState::Rejected) => Err(Refused::Ended(ended)),
        }
    }

    /// Its assignee has had no session for so long that the task is somebody else's.
    pub fn lose(&mut self, assignee: &OrchestratorId, reason: &str, now: Timestamp) {
        if self.holder() != Some(assignee) {
            return;
        }
        self.take_away(reason, now);
    }

    /// Takes the task from whoever has it; another cell must give it back first.
    pub(super) fn take_away(&mut self, reason: &str, now: Timestamp) {
        if !self.withdraw(reason, now) {
            self.give_up(reason, now);
        }
    }

    /// Nobody works on it any more. An offer that nobody answered costs no retry: nothing can have run.
    pub(super) fn give_up(&mut self, reason: &str, now: Timestamp) {
        let Some(attempt) = self.attempts.last_mut().filter(|attempt| attempt.state.is_open()) else { return };
        let counts = attempt.state != AttemptState::Offered;
        let (number, assignee) = (attempt.number, attempt.assignee.clone());
        lose(attempt, reason, now);
        // A cell has been told to give it back.
        if cell_of(&assignee).is_none() {
            self.write(assignee, NoteKind::Reassigned, number, json!({"reason": reason}));
        }
        self.retry(number, reason.to_owned(), counts, now);
    }

    /// Looks for somebody else, unless that has been done often enough.
    pub(super) fn retry(&mut self, number: u32, reason: String, counts: bool, now: Timestamp) {
        if !counts {
            self.look_at = now;
            return;
        }
        if self.retries >= self.request.max_retries {
            return self.end(DelegationState::Failed, reason, now);
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.retries.min(16)).min(LONGEST_PAUSE);
        self.retries += 1;
        self.look_at = now.after(pause);
        let more = json!({"reason": reason, "retry": self.retries, "at": self.look_at.to_string()});
        self.tell(NoteKind::Reassigned, number, more);
    }

    /// Ends it for good: whoever works on it is told, and the delegator.
    pub(super) fn end(&mut self, state: DelegationState, reason: String, now: Timestamp) {
        if self.state.is_terminal() {
            return;
        }
        if let Some(attempt) = self.attempts.last_mut().filter(|attempt| attempt.state.is_open()) {
            let (number, assignee) = (attempt.number, attempt.assignee.clone());
            lose(attempt, &reason, now);
            let data = json!({"state": state.name(), "reason": reason});
            self.write(assignee, NoteKind::Cancelled, number, data);
        }
        self.state = state;
        self.ended = Some(now);
        let number = self.attempts.last().map_or(0, |attempt| attempt.number);
        let assignee = self.attempts.last().map(|attempt| attempt.assignee.clone());
        if state == DelegationState::Completed {
            let result = self.outcome.as_ref().map(|outcome| parse(&outcome.result));
            self.tell(NoteKind::Completed, number, json!({"assignee": assignee, "result": result}));
            return;
        }
        self.outcome = Some(Outcome { result: String::new(), error: reason.clone() });
        let kind = if state == DelegationState::Cancelled { NoteKind::Cancelled } else { NoteKind::Failed };
        self.tell(kind, number, json!({"state": state.name(), "error": reason}));
    }
}

fn lose(attempt: &mut Attempt, reason: &str, now: Timestamp) {
    attempt.state = AttemptState::Lost;
    attempt.ended = Some(now);
    reason.clone_into(&mut attempt.reason);
}

fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or(Value::Null)
}
