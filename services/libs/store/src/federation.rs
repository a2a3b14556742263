//! Orchestrators that take tasks, and the tasks. What becomes of a task is computed elsewhere
//! ([`waystation_domain::federation`]); here it is kept, and slots are given and taken in the same step.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use waystation_domain::federation::{Delegation, Registration, Report, Told};
use waystation_domain::{DelegationId, EntryName, OrchestratorId, OrganizationId, Timestamp};

use crate::Unavailable;
use crate::mailbox::Now;

/// An orchestrator that takes tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What it says of itself.
    pub registration: Registration,
    /// Slots that are taken: delegations whose open attempt is its.
    pub reserved: u32,
    /// What it said last of how it does.
    pub report: Option<Report>,
    /// How it is as everybody has been told.
    pub told: Told,
}

/// What has changed in a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryPiece {
    /// Counts changes; ask for what follows with it. Less than what was asked with: everything is told anew.
    pub version: u64,
    /// In the order of the ids; `None`: it is not registered any more.
    pub changed: Vec<(OrchestratorId, Option<Listed>)>,
}

/// A delegation as it is to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Whose.
    pub organization: OrganizationId,
    /// The version it was made from; 0: there was none.
    pub expected: u64,
    /// What it has become.
    pub delegation: Delegation,
    /// When somebody must look at it.
    pub due: Timestamp,
    /// What somebody has written into its context, in place of what was there.
    pub entries: Vec<Entry>,
}

/// Something that is shared about a delegation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which.
    pub name: EntryName,
    /// As the delegation counts it.
    pub version: u64,
    /// JSON.
    pub value: String,
}

/// Whether it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Committed {
    /// Under this version.
    Stored(u64),
    /// Somebody was faster: nothing was changed.
    Conflict,
    /// Its new assignee has no free slot, or is not registered: nothing was changed.
    NoSlot,
    /// The store takes nothing new: nothing was changed.
    Full,
}

/// A delegation as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// From 1, one more with each change.
    pub version: u64,
    /// What it is.
    pub delegation: Delegation,
}

/// Registries and delegations.
#[async_trait]
pub trait FederationStore: Send + Sync {
    /// Says what an orchestrator can do, in place of what it said before; `told` is what everybody thinks of it if it is
    /// new. Slots that are taken stay so.
    async fn register_orchestrator(
        &self,
        organization: &OrganizationId,
        registration: Registration,
        told: Told,
        now: Now,
    ) -> Result<(), Unavailable>;
    /// It takes no tasks any more; answers whether it did. What it works on stays its.
    async fn deregister_orchestrator(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        now: Now,
    ) -> Result<bool, Unavailable>;
    /// Takes what an orchestrator says of how it does, in place of what it said before; answers whether it is registered.
    async fn report_orchestrator(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        report: Report,
        now: Now,
    ) -> Result<bool, Unavailable>;
    /// Notes what everybody has been told of how an orchestrator is; answers whether it was what it is thought to be.
    async fn note_standing(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        (was, is): (Told, Told),
        now: Now,
    ) -> Result<bool, Unavailable>;
    /// Organizations in which somebody is registered, in their order.
    async fn registries(&self, now: Now) -> Result<Vec<OrganizationId>, Unavailable>;
    /// What has changed after a version; 0: all who are registered.
    async fn registry(&self, organization: &OrganizationId, after: u64, now: Now)
    -> Result<RegistryPiece, Unavailable>;
    /// Keeps what a delegation has become with what was written into its context, and gives and takes slots by whose open
    /// attempt it has, in one step.
    async fn commit(&self, commit: Commit, now: Now) -> Result<Committed, Unavailable>;
    /// One delegation.
    async fn delegation(
        &self,
        organization: &OrganizationId,
        id: &DelegationId,
        now: Now,
    ) -> Result<Option<Kept>, Unavailable>;
    /// Those of these entries of a delegation's context that there are, in the order of the names.
    async fn entries(
        &self,
        organization: &OrganizationId,
        id: &DelegationId,
        names: &[EntryName],
        now: Now,
    ) -> Result<Vec<Entry>, Unavailable>;
    /// Delegations in the order in which they were made, after one with its moment.
    async fn delegations(
        &self,
        organization: &OrganizationId,
        after: Option<(Timestamp, DelegationId)>,
        most: usize,
        now: Now,
    ) -> Result<Vec<Kept>, Unavailable>;
    /// Delegations that take slots of an orchestrator.
    async fn held_delegations(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        now: Now,
    ) -> Result<Vec<DelegationId>, Unavailable>;
    /// Delegations that somebody must look at, at most so many, those first that are due longest.
    async fn due_delegations(&self, most: usize, now: Now) -> Result<Vec<(OrganizationId, DelegationId)>, Unavailable>;
    /// Lets a delegation go that is of this version, with its context; answers whether it was.
    async fn forget_delegation(
        &self,
        organization: &OrganizationId,
        id: &DelegationId,
        version: u64,
        now: Now,
    ) -> Result<bool, Unavailable>;
}
