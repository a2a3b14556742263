//! Mail about a task: to its delegator, and to those who work on it.

use serde::{Deserialize, Serialize};

use crate::{EntryName, OrchestratorId};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoteKind {
    /// To an assignee: here is a task.
    Offered,
    /// To the delegator: somebody works on it.
    Accepted,
    /// To the delegator: somebody does not want it.
    Rejected,
    /// To the delegator: it goes on.
    Progress,
    /// To the delegator: here is the result.
    Completed,
    /// To the delegator: there will be none.
    Failed,
    /// To both: it is not wanted any more.
    Cancelled,
    /// To another cell: it is to give the task back.
    Withdrawn,
    /// To those who share its context: an entry has changed.
    Context,
    /// To the delegator: somebody else is looked for. To an assignee: it is not yours any more.
    Reassigned,
}

impl NoteKind {
    /// The type of the event.
    pub fn event_type(self) -> &'static str {
        match self {
            NoteKind::Offered => "delegation.offered",
            NoteKind::Accepted => "delegation.accepted",
            NoteKind::Rejected => "delegation.rejected",
            NoteKind::Progress => "delegation.progress",
            NoteKind::Completed => "delegation.completed",
            NoteKind::Failed => "delegation.failed",
            NoteKind::Cancelled => "delegation.cancelled",
            NoteKind::Withdrawn => "delegation.withdrawn",
            NoteKind::Context => "delegation.context",
            NoteKind::Reassigned => "delegation.reassigned",
        }
    }

    /// Whether it must not wait behind other mail.
    pub fn is_urgent(self) -> bool {
        matches!(self, NoteKind::Offered | NoteKind::Cancelled | NoteKind::Withdrawn | NoteKind::Reassigned)
    }
}

/// A message that is to be sent, until it is known that it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Counts the notes of a delegation from 1: with it the message has an id of its own, so that sending it twice is sending
    /// it once.
    pub number: u32,
    /// To whom.
    pub to: OrchestratorId,
    /// What happened.
    pub kind: NoteKind,
    /// Of which attempt; 0: of none.
    pub attempt: u32,
    /// A JSON object.
    pub data: String,
    /// Of which entry of the context, if of one.
    pub entry: Option<EntryName>,
}
