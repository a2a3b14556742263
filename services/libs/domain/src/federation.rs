//! Tasks that orchestrators hand to each other: what they can do, who is chosen and why, and what becomes of a task.

mod capability;
mod cell;
mod choice;
mod context;
mod delegation;
mod health;
mod link;
mod note;
mod orchestrator;
mod report;
mod summary;

pub use capability::{Capability, CapabilityError, CapabilityName, Version};
pub use cell::{abroad, cell_id, cell_of};
pub use choice::{Candidate, Decision, Dismissal, Dismissed, Score, ScorePart, Strategy, Wanted, choose};
pub use context::{Catalogue, Fact, MAX_CONTEXT, MAX_ENTRY, NotShared, Written};
pub use delegation::{
    Attempt, AttemptState, Delegation, DelegationRequest, DelegationState, Late, Limits, MAX_DEPTH, Outcome, Priority,
    RemoteView, Task,
};
pub use health::{Report, Seen, Told, standing};
pub use link::{PeerLink, PeerStanding};
pub use note::{Note, NoteKind};
pub use orchestrator::{Registration, RegistrationError, Standing};
pub use report::{Refused, Reported, Verdict};
pub use summary::{Summary, SummaryUpdate, ToldSummary};
