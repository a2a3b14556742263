//! Attempts of other cells. What a cell does is not seen as it happens, and the link to it may be cut: an attempt of a cell
//! ends when the cell says so, or when its lease has ended, which the cell has been told and keeps. Else a task could run
//! twice.

use std::time::Duration;

use serde_json::json;

use super::{Attempt, AttemptState, Delegation, DelegationState};
use crate::federation::{NoteKind, Refused, Reported, Verdict, cell_of};
use crate::{OrchestratorId, Timestamp};

/// Clocks of two cells may differ by so much.
const CLOCKS: Duration = Duration::from_secs(5);

/// What a cell says of a task that was handed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteView {
    /// Where it is there.
    pub state: DelegationState,
    /// Percent.
    pub progress: u32,
    /// When whoever works on it thinks that it will be done.
    pub estimate: String,
    /// JSON, if it is completed.
    pub result: String,
    /// Why there is no result.
    pub error: String,
}

impl Delegation {
    /// Until when another cell may work on an attempt.
    pub fn lease(&self, attempt: &Attempt) -> Timestamp {
        let limits = &self.request.limits;
        attempt.offered.after(limits.offer).after(limits.run).min(self.deadline())
    }

    /// When nobody works any more on an attempt of another cell, whatever it says.
    pub(super) fn lease_end(&self, attempt: &Attempt) -> Timestamp {
        self.lease(attempt).after(CLOCKS)
    }

    /// Has a cell give the open attempt back; answers whether it is one's, and may still be worked on.
    pub(super) fn withdraw(&mut self, reason: &str, now: Timestamp) -> bool {
        let Some(attempt) = self.current().filter(|attempt| cell_of(&attempt.assignee).is_some()) else { return false };
        if now >= self.lease_end(attempt) {
            return false;
        }
        let (number, assignee, is_first) = (attempt.number, attempt.assignee.clone(), attempt.withdrawn.is_none());
        if is_first {
            if let Ok(attempt) = self.change(number) {
                attempt.withdrawn = Some(reason.to_owned());
            }
            self.write(assignee, NoteKind::Withdrawn, number, json!({"reason": reason}));
        }
        true
    }

    /// Takes what a cell says of its attempt.
    ///
    /// # Errors
    /// It is not its attempt.
    pub fn adopt(
        &mut self,
        by: &OrchestratorId,
        number: u32,
        view: RemoteView,
        now: Timestamp,
    ) -> Result<Reported, Refused> {
        let attempt = self.attempt_of(by, number)?;
        let (state, progress, withdrawn) = (attempt.state, attempt.progress, attempt.withdrawn.clone());
        let RemoteView { state: there, progress: percent, estimate, result, error } = view;
        if !state.is_open() && there != DelegationState::Completed {
            // It is over here, and what came too late is nothing.
            return Ok(Reported::Known);
        }
        // Whoever is done there has accepted, though nobody heard it.
        let was_accepted = matches!(there, DelegationState::Active | DelegationState::Completed);
        if was_accepted && state == AttemptState::Offered {
            self.respond(by, number, Ok(estimate), now)?;
            // It had said so before it was asked to give it back.
            self.change(number)?.withdrawn = None;
        }
        match there {
            DelegationState::Pending => Ok(Reported::Known),
            DelegationState::Active if percent != progress => self.progress(by, number, (percent, ""), now),
            DelegationState::Active => Ok(Reported::Known),
            DelegationState::Completed => self.complete(by, number, Verdict::Completed(result), now),
            // It gave back what was to be given back.
            DelegationState::Cancelled | DelegationState::Expired if withdrawn.is_some() => {
                self.give_up(withdrawn.as_deref().unwrap_or_default(), now);
                Ok(Reported::Taken)
            }
            DelegationState::Rejected
            | DelegationState::Failed
            | DelegationState::Expired
            | DelegationState::Cancelled
                if state == AttemptState::Offered =>
            {
                self.respond(by, number, Err(error), now)
            }
            DelegationState::Rejected
            | DelegationState::Failed
            | DelegationState::Expired
            | DelegationState::Cancelled => self.complete(by, number, Verdict::Failed(error), now),
        }
    }
}
