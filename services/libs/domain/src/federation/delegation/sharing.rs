//! Who shares what about a task.

use serde_json::json;

use super::{AttemptState, Delegation};
use crate::OrchestratorId;
use crate::federation::{NotShared, NoteKind, Written};

impl Delegation {
    /// Whether an orchestrator may see what is shared: the delegator, whoever is asked or works on it, whoever has ended it.
    pub fn may_read(&self, who: &OrchestratorId) -> bool {
        let has_it = |state: AttemptState| state.is_open() || state == AttemptState::Done;
        self.request.from.as_ref() == Some(who)
            || self.attempts.iter().any(|attempt| attempt.assignee == *who && has_it(attempt.state))
    }

    /// Takes an entry, and tells the others who share it. Answers its version; see [`super::Catalogue`] for `expected`.
    ///
    /// # Errors
    /// Whoever writes is neither the delegator nor works on the task, the task is over, or the entry cannot be taken.
    pub fn put(
        &mut self,
        by: Option<&OrchestratorId>,
        entry: Written,
        expected: Option<u64>,
    ) -> Result<u64, NotShared> {
        let worker = self.current().filter(|attempt| attempt.accepted.is_some());
        let worker = worker.map(|attempt| (attempt.assignee.clone(), attempt.number));
        let delegator = self.request.from.clone();
        let is_theirs = |by| delegator.as_ref() == Some(by) || worker.as_ref().is_some_and(|(worker, _)| worker == by);
        if by.is_some_and(|by| !is_theirs(by)) {
            return Err(NotShared::NotYours);
        }
        if self.state.is_terminal() {
            return Err(NotShared::Ended(self.state));
        }
        let name = entry.name.clone();
        let (version, is_new) = self.context.put(by, entry, expected)?;
        if !is_new {
            return Ok(version);
        }
        let number = worker.as_ref().map_or(0, |(_, number)| *number);
        let others = [delegator, worker.map(|(worker, _)| worker)].into_iter().flatten();
        for to in others.filter(|to| Some(to) != by) {
            // Whoever has not been told of an earlier change need not be: the newest says it all.
            self.outbox.retain(|note| note.to != to || note.entry.as_ref() != Some(&name));
            self.write(to, NoteKind::Context, number, json!({"name": name, "version": version, "by": by}));
            if let Some(note) = self.outbox.last_mut() {
                note.entry = Some(name.clone());
            }
        }
        Ok(version)
    }
}
