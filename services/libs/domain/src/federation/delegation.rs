//! One task that somebody handed on, from the request to its one end. A state machine without clock and I/O: who calls it
//! stores what it has become, or nothing.

mod clock;
mod ending;
mod remote;
mod sharing;
mod types;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Catalogue, Decision, Note, NoteKind, Refused, Reported, Verdict, Wanted};
use crate::{DelegationId, OrchestratorId, Timestamp};
pub use remote::RemoteView;
pub use types::{Attempt, AttemptState, DelegationRequest, DelegationState, Late, Limits, Outcome, Priority, Task};

/// How often a task may be handed on.
pub const MAX_DEPTH: usize = 8;
/// Decisions that are kept, the newest.
const DECISIONS: usize = 32;
/// Reports that came too late and are kept, the newest.
const LATE: usize = 8;
/// Attempts of one delegation, refused and unanswered offers included.
const ATTEMPTS: usize = 64;
/// Nobody could be chosen: it is looked again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The first pause before another attempt; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A task that somebody handed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Which.
    pub id: DelegationId,
    /// What was asked for.
    pub request: DelegationRequest,
    /// Where it is.
    pub state: DelegationState,
    /// When it was asked for.
    pub created: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Who was asked, in order.
    pub attempts: Vec<Attempt>,
    /// Attempts that were made again, of [`DelegationRequest::max_retries`].
    pub retries: u32,
    /// If nobody works on it: when it is looked for somebody.
    pub look_at: Timestamp,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// What came too late, the newest last.
    pub late: Vec<Late>,
    /// Every choice that was made, the newest last.
    pub decisions: Vec<Decision>,
    /// What is shared about it; the values are kept beside it.
    pub context: Catalogue,
    /// Messages that are to be sent.
    pub outbox: Vec<Note>,
    /// Messages there have been.
    pub notes: u32,
}

impl Delegation {
    /// Somebody hands a task on.
    pub fn new(id: DelegationId, request: DelegationRequest, now: Timestamp) -> Delegation {
        let context = Catalogue::first(&request.context, request.from.as_ref());
        Delegation {
            id,
            request,
            state: DelegationState::Pending,
            created: now,
            ended: None,
            attempts: Vec::new(),
            retries: 0,
            look_at: now,
            outcome: None,
            late: Vec::new(),
            decisions: Vec::new(),
            context,
            outbox: Vec::new(),
            notes: 0,
        }
    }

    /// The attempt that is under way.
    pub fn current(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.state.is_open())
    }

    /// Whose slot is taken.
    pub fn holder(&self) -> Option<&OrchestratorId> {
        self.current().map(|attempt| &attempt.assignee)
    }

    /// Whether somebody is to be chosen now.
    pub fn wants_choice(&self, now: Timestamp) -> bool {
        !self.state.is_terminal() && self.current().is_none() && self.look_at <= now
    }

    /// Why nobody works on it, in words; empty if somebody does or it has ended.
    pub fn why_pending(&self) -> String {
        if self.state.is_terminal() || self.current().is_some() {
            return String::new();
        }
        self.decisions.last().map_or_else(|| "nobody was looked for yet".to_owned(), ToString::to_string)
    }

    /// What the next choice looks for; the lists come from [`Delegation::asked`].
    pub fn wanted<'a>(&'a self, asked: &'a Asked) -> Wanted<'a> {
        let request = &self.request;
        Wanted {
            to: request.to.as_ref(),
            capabilities: &request.required,
            region: &request.region,
            tokens: request.tokens,
            preferred: &request.preferred,
            excluded: &request.excluded,
            refused: &asked.refused,
            hops: &asked.hops,
            tried: &asked.tried,
            strategy: request.strategy,
            affinity: &request.affinity,
        }
    }

    /// Who was asked before, and who must not be.
    pub fn asked(&self) -> Asked {
        let of = |wanted: fn(AttemptState) -> bool| {
            let attempts = self.attempts.iter().filter(|attempt| wanted(attempt.state));
            attempts.map(|attempt| attempt.assignee.clone()).collect()
        };
        Asked {
            refused: of(|state| state == AttemptState::Rejected),
            tried: of(|state| matches!(state, AttemptState::Done | AttemptState::Lost)),
            hops: self.request.hops.iter().chain(&self.request.from).cloned().collect(),
        }
    }

    /// Takes a choice: asks who was chosen, or looks again later.
    pub fn decide(&mut self, decision: Decision, now: Timestamp) {
        if !self.wants_choice(now) {
            return;
        }
        let (chosen, is_exhausted) = (decision.chosen.clone(), decision.is_exhausted());
        if self.decisions.len() == DECISIONS {
            self.decisions.remove(0);
        }
        self.decisions.push(decision);
        match chosen {
            _ if self.attempts.len() == ATTEMPTS => {
                self.end(DelegationState::Failed, format!("{ATTEMPTS} were asked in vain"), now);
            }
            Some(assignee) => self.offer(assignee, now),
            None if is_exhausted => {
                self.end(DelegationState::Rejected, "everybody who could was asked, and refused".to_owned(), now);
            }
            None => self.look_at = now.after(LOOK_AGAIN),
        }
    }

    fn offer(&mut self, assignee: OrchestratorId, now: Timestamp) {
        let number = u32::try_from(self.attempts.len() + 1).unwrap_or(u32::MAX);
        self.attempts.push(Attempt {
            number,
            assignee: assignee.clone(),
            state: AttemptState::Offered,
            offered: now,
            accepted: None,
            heard: now,
            ended: None,
            progress: 0,
            estimate: String::new(),
            reason: String::new(),
            withdrawn: None,
        });
        let data = json!({
            "task": self.task_json(),
            "fromOrchestratorId": self.request.from,
            "requiredCapabilities": self.request.required.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            "answerWithinMs": millis(self.request.limits.offer),
            "timeoutMs": millis(self.request.limits.run),
            "heartbeatMs": self.request.limits.heartbeat.map(millis),
            "deadline": self.deadline().to_string(),
            "depth": self.request.hops.len() + 1,
            "context": self.context.names().map(|name| name.as_str()).collect::<Vec<_>>(),
        });
        self.write(assignee, NoteKind::Offered, number, data);
    }

    /// The assignee says whether it wants to.
    ///
    /// # Errors
    /// It was not asked, or not in this attempt.
    pub fn respond(
        &mut self,
        by: &OrchestratorId,
        number: u32,
        answer: Result<String, String>,
        now: Timestamp,
    ) -> Result<Reported, Refused> {
        let attempt = self.attempt_of(by, number)?;
        let known = match (&answer, attempt.state) {
            (Ok(_), AttemptState::Offered) | (Err(_), AttemptState::Offered) => None,
            (Ok(_), AttemptState::Accepted | AttemptState::Running | AttemptState::Done) => Some(Reported::Known),
            (Err(_), AttemptState::Rejected) => Some(Reported::Known),
            _ => Some(Reported::Late),
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let attempt = self.change(number)?;
        attempt.heard = now;
        match answer {
            Ok(estimate) => {
                attempt.state = AttemptState::Accepted;
                attempt.accepted = Some(now);
                attempt.estimate.clone_from(&estimate);
                self.state = DelegationState::Active;
                self.tell(NoteKind::Accepted, number, json!({"assignee": by, "estimatedCompletion": estimate}));
            }
            Err(reason) => {
                attempt.state = AttemptState::Rejected;
                attempt.ended = Some(now);
                attempt.reason.clone_from(&reason);
                self.look_at = now;
                self.tell(NoteKind::Rejected, number, json!({"assignee": by, "reason": reason}));
            }
        }
        Ok(Reported::Taken)
    }

    /// The assignee says how it goes, in percent and words.
    ///
    /// # Errors
    /// It is not its attempt, or it has not accepted.
    pub fn progress(
        &mut self,
        by: &OrchestratorId,
        number: u32,
        (percent, message): (u32, &str),
        now: Timestamp,
    ) -> Result<Reported, Refused> {
        match self.attempt_of(by, number)?.state {
            AttemptState::Offered => return Err(Refused::NotAccepted),
            AttemptState::Accepted | AttemptState::Running => {}
            AttemptState::Done | AttemptState::Rejected | AttemptState::Lost => return Ok(Reported::Late),
        }
        let attempt = self.change(number)?;
        attempt.state = AttemptState::Running;
        attempt.heard = now;
        attempt.progress = percent.min(100);
        self.tell(NoteKind::Progress, number, json!({"assignee": by, "progress": percent, "message": message}));
        Ok(Reported::Taken)
    }

    /// The assignee has done it, or has failed.
    ///
    /// # Errors
    /// It is not its attempt, or it has not accepted.
    pub fn complete(
        &mut self,
        by: &OrchestratorId,
        number: u32,
        verdict: Verdict,
        now: Timestamp,
    ) -> Result<Reported, Refused> {
        let outcome = match &verdict {
            Verdict::Completed(result) => Outcome { result: result.clone(), error: String::new() },
            Verdict::Failed(error) => Outcome { result: String::new(), error: error.clone() },
        };
        let attempt = self.attempt_of(by, number)?;
        match attempt.state {
            AttemptState::Offered => return Err(Refused::NotAccepted),
            AttemptState::Accepted | AttemptState::Running => {}
            AttemptState::Done if self.is_known(attempt, &outcome) => return Ok(Reported::Known),
            AttemptState::Done | AttemptState::Rejected | AttemptState::Lost => {
                self.keep_late(Late { at: now, attempt: number, assignee: by.clone(), outcome });
                return Ok(Reported::Late);
            }
        }
        let attempt = self.change(number)?;
        attempt.state = AttemptState::Done;
        attempt.heard = now;
        attempt.ended = Some(now);
        match verdict {
            Verdict::Completed(_) => {
                attempt.progress = 100;
                self.outcome = Some(outcome);
                self.end(DelegationState::Completed, String::new(), now);
            }
            Verdict::Failed(error) => {
                attempt.reason.clone_from(&error);
                self.retry(number, error, true, now);
            }
        }
        Ok(Reported::Taken)
    }

    /// Whether the end of an attempt is told once more.
    fn is_known(&self, attempt: &Attempt, outcome: &Outcome) -> bool {
        if outcome.error.is_empty() {
            attempt.reason.is_empty() && self.outcome.as_ref() == Some(outcome)
        } else {
            attempt.reason == outcome.error
        }
    }

    fn keep_late(&mut self, late: Late) {
        if self.late.len() == LATE {
            self.late.remove(0);
        }
        self.late.push(late);
    }

    /// The messages of these numbers have been sent.
    pub fn note_sent(&mut self, numbers: &[u32]) {
        self.outbox.retain(|note| !numbers.contains(&note.number));
    }

    /// The attempt, if it is this orchestrator's.
    fn attempt_of(&self, by: &OrchestratorId, number: u32) -> Result<&Attempt, Refused> {
        if !self.attempts.iter().any(|attempt| attempt.assignee == *by) {
            return Err(Refused::NotYours);
        }
        let found = self.attempts.iter().find(|attempt| attempt.number == number && attempt.assignee == *by);
        found.ok_or(Refused::OtherAttempt)
    }

    fn change(&mut self, number: u32) -> Result<&mut Attempt, Refused> {
        self.attempts.iter_mut().find(|attempt| attempt.number == number).ok_or(Refused::OtherAttempt)
    }

    /// Writes to the delegator, if it is an orchestrator.
    fn tell(&mut self, kind: NoteKind, attempt: u32, data: Value) {
        if let Some(from) = self.request.from.clone() {
            self.write(from, kind, attempt, data);
        }
    }

    fn write(&mut self, to: OrchestratorId, kind: NoteKind, attempt: u32, mut data: Value) {
        data["delegationId"] = self.id.as_str().into();
        data["attempt"] = attempt.into();
        data["taskId"] = self.request.task.id.as_str().into();
        self.notes += 1;
        self.outbox.push(Note { number: self.notes, to, kind, attempt, data: data.to_string(), entry: None });
    }

    fn task_json(&self) -> Value {
        let Task { id, task_type, description, priority, payload } = &self.request.task;
        let payload: Value = serde_json::from_str(payload).unwrap_or(Value::Null);
        json!({"id": id, "type": task_type, "description": description, "priority": priority, "payload": payload})
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Who was asked before, and who must not be.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    refused: Vec<OrchestratorId>,
    tried: Vec<OrchestratorId>,
    hops: Vec<OrchestratorId>,
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
