//! Tasks that orchestrators hand to each other: what they can do, who is chosen and why, and what becomes of a task.

mod capability;
mod choice;
mod context;
mod delegation;
mod health;
mod note;
mod orchestrator;
mod report;

pub use capability::{Capability, CapabilityError, CapabilityName, Version};
pub use choice::{Candidate, Decision, Dismissal, Dismissed, Score, ScorePart, Strategy, Wanted, choose};
pub use context::{Catalogue, Fact, MAX_CONTEXT, MAX_ENTRY, NotShared, Written};
pub use delegation::{
    Attempt, AttemptState, Delegation, DelegationRequest, DelegationState, Late, Limits, MAX_DEPTH, Outcome, Priority,
    Task,
};
pub use health::{Report, Seen, Told, standing};
pub use note::{Note, NoteKind};
pub use orchestrator::{Registration, RegistrationError, Standing};
pub use report::{Refused, Reported, Verdict};
