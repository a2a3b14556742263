//! What assignees say of a task, and whether it counts.

use super::DelegationState;

/// How an attempt ended, as its assignee says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With a result: JSON, may be empty.
    Completed(String),
    /// With an error.
    Failed(String),
}

/// What a report did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It counts.
    Taken,
    /// It was known: nothing changed.
    Known,
    /// It is kept as late, and changes nothing else.
    Late,
}

/// Why a report or a call changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is somebody else's.
    #[error("the delegation is not yours")]
    NotYours,
    /// There is no such attempt, or another one has begun.
    #[error("the attempt is not the current one")]
    OtherAttempt,
    /// The offer has not been accepted.
    #[error("the offer has not been accepted")]
    NotAccepted,
    /// It is over.
    #[error("the delegation has ended: {0}")]
    Ended(DelegationState),
}
