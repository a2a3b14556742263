//! What a delegation is made of.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::federation::{Capability, Strategy, Written};
use crate::{DelegationId, OrchestratorId, Timestamp};

/// How urgent a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// When there is nothing else.
    Low,
    /// As usual.
    #[default]
    Medium,
    /// Soon.
    High,
    /// Now.
    Critical,
}

/// What is to be done. Waystation looks at none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The delegator's own name for it; may be empty.
    pub id: String,
    /// code, research, analysis, custom, general or whatever the platform agrees on.
    pub task_type: String,
    /// For whoever does it.
    pub description: String,
    /// How urgent.
    pub priority: Priority,
    /// A JSON object; empty: there is none.
    pub payload: String,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Until an offer is answered.
    pub offer: Duration,
    /// From there to the first progress or result.
    pub start: Duration,
    /// From acceptance to the result.
    pub run: Duration,
    /// From the request to the end, all attempts included.
    pub overall: Duration,
    /// Between words of progress; `None`: none are asked for.
    pub heartbeat: Option<Duration>,
}

/// What somebody asked for. It does not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegationRequest {
    /// Who hands the task on; `None`: a backend, which watches.
    pub from: Option<OrchestratorId>,
    /// Nobody else will do.
    pub to: Option<OrchestratorId>,
    /// What is to be done.
    pub task: Task,
    /// What it takes.
    pub required: Vec<Capability>,
    /// Where; empty: anywhere.
    pub region: String,
    /// These come first, if they can.
    pub preferred: Vec<OrchestratorId>,
    /// These are not asked.
    pub excluded: Vec<OrchestratorId>,
    /// How to choose.
    pub strategy: Strategy,
    /// For [`Strategy::Sticky`].
    pub affinity: String,
    /// Tokens that the task may take.
    pub tokens: u64,
    /// How long things may take.
    pub limits: Limits,
    /// Further attempts after one that failed or was lost. 0: the task never runs twice.
    pub max_retries: u32,
    /// The delegation as part of which it is handed on.
    pub parent: Option<DelegationId>,
    /// Who has handed it on before: the delegators of its parents. Set by the service, never by a caller.
    pub hops: Vec<OrchestratorId>,
    /// What the delegator shares from the beginning.
    pub context: Vec<Written>,
}

/// Where a delegation is. Only the first two are not the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DelegationState {
    /// Nobody has accepted it yet.
    Pending,
    /// Somebody has.
    Active,
    /// There is a result.
    Completed,
    /// There will be none.
    Failed,
    /// It is not wanted any more.
    Cancelled,
    /// It took longer than it may in all.
    Expired,
    /// Everybody who could was asked, and refused.
    Rejected,
}

impl DelegationState {
    /// Every state.
    pub const ALL: [DelegationState; 7] = [
        DelegationState::Pending,
        DelegationState::Active,
        DelegationState::Completed,
        DelegationState::Failed,
        DelegationState::Cancelled,
        DelegationState::Expired,
        DelegationState::Rejected,
    ];

    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        !matches!(self, DelegationState::Pending | DelegationState::Active)
    }

    /// Whether `next` may follow.
    pub fn may_become(self, next: DelegationState) -> bool {
        match self {
            DelegationState::Pending => true,
            DelegationState::Active => next != DelegationState::Pending,
            DelegationState::Completed
            | DelegationState::Failed
            | DelegationState::Cancelled
            | DelegationState::Expired
            | DelegationState::Rejected => self == next,
        }
    }

    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            DelegationState::Pending => "PENDING",
            DelegationState::Active => "ACTIVE",
            DelegationState::Completed => "COMPLETED",
            DelegationState::Failed => "FAILED",
            DelegationState::Cancelled => "CANCELLED",
            DelegationState::Expired => "EXPIRED",
            DelegationState::Rejected => "REJECTED",
        }
    }
}

impl fmt::Display for DelegationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AttemptState {
    /// The assignee has been asked.
    Offered,
    /// It wants to do it.
    Accepted,
    /// It has said how it goes.
    Running,
    /// It has ended it, with a result or an error.
    Done,
    /// It did not want to.
    Rejected,
    /// Nothing was heard of it in time, or it was taken away.
    Lost,
}

impl AttemptState {
    /// Whether a slot of the assignee is taken.
    pub fn is_open(self) -> bool {
        matches!(self, AttemptState::Offered | AttemptState::Accepted | AttemptState::Running)
    }

    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            AttemptState::Offered => "OFFERED",
            AttemptState::Accepted => "ACCEPTED",
            AttemptState::Running => "RUNNING",
            AttemptState::Done => "DONE",
            AttemptState::Rejected => "REJECTED",
            AttemptState::Lost => "LOST",
        }
    }
}

/// One orchestrator that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// Who.
    pub assignee: OrchestratorId,
    /// Where it is.
    pub state: AttemptState,
    /// When it was asked.
    pub offered: Timestamp,
    /// When it said yes.
    pub accepted: Option<Timestamp>,
    /// When it was last heard of.
    pub heard: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Percent.
    pub progress: u32,
    /// When the assignee thinks that it will be done; its own words.
    pub estimate: String,
    /// Why it was rejected, failed or lost.
    pub reason: String,
    /// Why another cell is to give it back, if it is.
    pub withdrawn: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// JSON; empty: none.
    pub result: String,
    /// Why there is no result.
    pub error: String,
}

/// A report that came too late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// When.
    pub at: Timestamp,
    /// Of which attempt.
    pub attempt: u32,
    /// Whose.
    pub assignee: OrchestratorId,
    /// What it would have been.
    pub outcome: Outcome,
}
