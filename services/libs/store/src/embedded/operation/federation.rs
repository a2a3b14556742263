//! Changes of registries and delegations.

use serde::Serialize;
use waystation_domain::federation::{Registration, Report, Told};
use waystation_domain::{DelegationId, OrchestratorId, OrganizationId, Timestamp};

use super::super::state::State;
use super::Operation;
use crate::federation::{Commit, Committed};

#[derive(Serialize, serde::Deserialize)]
pub(in super::super) struct RegisterOrchestrator {
    pub(in super::super) organization: OrganizationId,
    pub(in super::super) registration: Registration,
    pub(in super::super) told: Told,
}

impl Operation for RegisterOrchestrator {
    const TAG: u8 = 60;
    type Answer = ();

    fn apply(self, state: &mut State, _: Timestamp) {
        state.federation.register(self.organization, self.registration, self.told);
    }
}

#[derive(Serialize, serde::Deserialize)]
pub(in super::super) struct DeregisterOrchestrator {
    pub(in super::super) organization: OrganizationId,
    pub(in super::super) orchestrator: OrchestratorId,
}

impl Operation for DeregisterOrchestrator {
    const TAG: u8 = 61;
    type Answer = bool;

    fn apply(self, state: &mut State, _: Timestamp) -> bool {
        state.federation.deregister(&self.organization, &self.orchestrator)
    }

    fn changed_nothing(answer: &bool) -> bool {
        !answer
    }
}

impl Operation for Commit {
    const TAG: u8 = 62;
    type Answer = Committed;

    fn apply(self, state: &mut State, _: Timestamp) -> Committed {
        state.federation.commit(self)
    }

    fn changed_nothing(answer: &Committed) -> bool {
        !matches!(answer, Committed::Stored(_))
    }
}

#[derive(Serialize, serde::Deserialize)]
pub(in super::super) struct ForgetDelegation {
    pub(in super::super) organization: OrganizationId,
    pub(in super::super) id: DelegationId,
    pub(in super::super) version: u64,
}

impl Operation for ForgetDelegation {
    const TAG: u8 = 63;
    type Answer = bool;

    fn apply(self, state: &mut State, _: Timestamp) -> bool {
        state.federation.forget(&self.organization, &self.id, self.version)
    }

    fn changed_nothing(answer: &bool) -> bool {
        !answer
    }
}

#[derive(Serialize, serde::Deserialize)]
pub(in super::super) struct ReportOrchestrator {
    pub(in super::super) organization: OrganizationId,
    pub(in super::super) orchestrator: OrchestratorId,
    pub(in super::super) report: Report,
}

impl Operation for ReportOrchestrator {
    const TAG: u8 = 64;
    type Answer = bool;

    fn apply(self, state: &mut State, _: Timestamp) -> bool {
        state.federation.report(&self.organization, &self.orchestrator, self.report)
    }

    fn changed_nothing(answer: &bool) -> bool {
        !answer
    }
}

#[derive(Serialize, serde::Deserialize)]
pub(in super::super) struct NoteStanding {
    pub(in super::super) organization: OrganizationId,
    pub(in super::super) orchestrator: OrchestratorId,
    pub(in super::super) was: Told,
    pub(in super::super) is: Told,
}

impl Operation for NoteStanding {
    const TAG: u8 = 65;
    type Answer = bool;

    fn apply(self, state: &mut State, _: Timestamp) -> bool {
        state.federation.note_standing(&self.organization, &self.orchestrator, (self.was, self.is))
    }

    fn changed_nothing(answer: &bool) -> bool {
        !answer
    }
}
