//! What callers see.

use waystation_domain::OrganizationId;
use waystation_domain::federation::{
    Attempt, AttemptState, Capability, Decision, Delegation, DelegationState, Late, PeerStanding, Priority,
    Registration, RemoteView, Reported, Score, Standing, Strategy, SummaryUpdate, Task, ToldSummary,
};
use waystation_proto::federation::v1 as wire;
use waystation_rpc::convert::timestamp_to;
use waystation_store::federation::{Kept, Listed};

pub(crate) fn state(state: DelegationState) -> wire::DelegationState {
    match state {
        DelegationState::Pending => wire::DelegationState::Pending,
        DelegationState::Active => wire::DelegationState::Active,
        DelegationState::Completed => wire::DelegationState::Completed,
        DelegationState::Failed => wire::DelegationState::Failed,
        DelegationState::Cancelled => wire::DelegationState::Cancelled,
        DelegationState::Expired => wire::DelegationState::Expired,
        DelegationState::Rejected => wire::DelegationState::Rejected,
    }
}

fn attempt_state(state: AttemptState) -> wire::AttemptState {
    match state {
        AttemptState::Offered => wire::AttemptState::Offered,
        AttemptState::Accepted => wire::AttemptState::Accepted,
        AttemptState::Running => wire::AttemptState::Running,
        AttemptState::Done => wire::AttemptState::Done,
        AttemptState::Rejected => wire::AttemptState::Rejected,
        AttemptState::Lost => wire::AttemptState::Lost,
    }
}

pub(crate) fn standing(standing: Standing) -> wire::Standing {
    match standing {
        Standing::Online => wire::Standing::Online,
        Standing::Busy => wire::Standing::Busy,
        Standing::Degraded => wire::Standing::Degraded,
        Standing::Draining => wire::Standing::Draining,
        Standing::Offline => wire::Standing::Offline,
    }
}

fn strategy(strategy: Strategy) -> wire::Strategy {
    match strategy {
        Strategy::RoundRobin => wire::Strategy::RoundRobin,
        Strategy::LeastLoaded => wire::Strategy::LeastLoaded,
        Strategy::Weighted => wire::Strategy::Weighted,
        Strategy::CapabilityAware => wire::Strategy::CapabilityAware,
        Strategy::PowerOfTwo => wire::Strategy::PowerOfTwo,
        Strategy::Sticky => wire::Strategy::Sticky,
    }
}

pub(crate) fn outcome(reported: Reported) -> wire::ReportOutcome {
    match reported {
        Reported::Taken => wire::ReportOutcome::Taken,
        Reported::Known => wire::ReportOutcome::Known,
        Reported::Late => wire::ReportOutcome::Late,
    }
}

pub(crate) fn capability(Capability { name, version, level }: Capability) -> wire::Capability {
    let version = version.map_or(String::new(), |version| version.to_string());
    wire::Capability { name: name.to_string(), version, level }
}

pub(crate) fn orchestrator(listed: Listed, seen: Standing) -> wire::OrchestratorStatus {
    let Listed { registration, reserved, report, told } = listed;
    let free = registration.max_concurrent.saturating_sub(reserved);
    let Registration { id, name, region, tier, capabilities, max_concurrent, weight, token_limit } = registration;
    let orchestrator = wire::Orchestrator {
        orchestrator_id: id.to_string(),
        name,
        region,
        tier,
        capabilities: capabilities.into_iter().map(capability).collect(),
        max_concurrent,
        weight,
        token_limit,
    };
    let report = report.map(|report| wire::OrchestratorReport {
        standing: standing(report.standing).into(),
        load: report.load,
        tokens_used: report.tokens_used,
        errors: report.errors,
        at: Some(timestamp_to(report.at)),
    });
    wire::OrchestratorStatus {
        orchestrator: Some(orchestrator),
        standing: standing(seen).into(),
        reserved,
        free,
        report,
        create_time: Some(timestamp_to(told.registered)),
        since: Some(timestamp_to(told.since)),
    }
}

pub(crate) fn task(Task { id, task_type, description, priority, payload }: Task) -> wire::Task {
    let priority = match priority {
        Priority::Low => wire::TaskPriority::Low,
        Priority::Medium => wire::TaskPriority::Medium,
        Priority::High => wire::TaskPriority::High,
        Priority::Critical => wire::TaskPriority::Critical,
    };
    wire::Task { id, r#type: task_type, description, priority: priority.into(), payload: payload.into() }
}

fn attempt(attempt: Attempt) -> wire::Attempt {
    wire::Attempt {
        number: attempt.number,
        assignee_id: attempt.assignee.to_string(),
        state: attempt_state(attempt.state).into(),
        offered: Some(timestamp_to(attempt.offered)),
        accepted: attempt.accepted.map(timestamp_to),
        heard: Some(timestamp_to(attempt.heard)),
        ended: attempt.ended.map(timestamp_to),
        progress: attempt.progress,
        estimate: attempt.estimate,
        reason: attempt.reason,
    }
}

fn late(Late { at, attempt, assignee, outcome }: Late) -> wire::LateReport {
    wire::LateReport {
        at: Some(timestamp_to(at)),
        attempt,
        assignee_id: assignee.to_string(),
        result: outcome.result.into(),
        error: outcome.error,
    }
}

pub(crate) fn delegation(kept: Kept) -> wire::Delegation {
    let Kept { version, delegation } = kept;
    let (why_pending, deadline) = (delegation.why_pending(), delegation.deadline());
    let Delegation { id, request, state: now, created, ended, attempts, retries, outcome, late: too_late, .. } =
        delegation;
    let (result, error) = outcome.map_or_else(Default::default, |outcome| (outcome.result, outcome.error));
    wire::Delegation {
        delegation_id: id.to_string(),
        from_orchestrator_id: request.from.map_or(String::new(), |from| from.to_string()),
        task: Some(task(request.task)),
        state: state(now).into(),
        created: Some(timestamp_to(created)),
        deadline: Some(timestamp_to(deadline)),
        ended: ended.map(timestamp_to),
        attempts: attempts.into_iter().map(attempt).collect(),
        retries,
        result: result.into(),
        error,
        why_pending,
        late: too_late.into_iter().map(late).collect(),
        parent_delegation_id: request.parent.map_or(String::new(), |parent| parent.to_string()),
        hops: request.hops.iter().map(ToString::to_string).collect(),
        version,
    }
}

fn score(Score { orchestrator, total, parts }: Score) -> wire::Score {
    let parts = parts.into_iter().map(|part| wire::ScorePart { name: part.name, value: part.value });
    wire::Score { orchestrator_id: orchestrator.to_string(), total, parts: parts.collect() }
}

pub(crate) fn decision(decision: Decision) -> wire::Decision {
    let summary = decision.to_string();
    let dismissed = decision.dismissed.into_iter().map(|dismissed| wire::Dismissed {
        reason: dismissed.why.name().to_owned(),
        count: dismissed.count,
        orchestrator_ids: dismissed.some.iter().map(ToString::to_string).collect(),
    });
    wire::Decision {
        at: Some(timestamp_to(decision.at)),
        strategy: strategy(decision.strategy).into(),
        seen: decision.seen,
        dismissed: dismissed.collect(),
        behind: decision.behind,
        scores: decision.scores.into_iter().map(score).collect(),
        chosen_id: decision.chosen.map_or(String::new(), |chosen| chosen.to_string()),
        summary,
    }
}

/// A task as the cell of its delegator needs to know it.
pub(crate) fn task_view(delegation: &Delegation) -> wire::TaskView {
    let last = delegation.attempts.last();
    let outcome = delegation.outcome.as_ref();
    wire::TaskView {
        state: state(delegation.state).into(),
        progress: last.map_or(0, |attempt| attempt.progress),
        estimate: last.map_or(String::new(), |attempt| attempt.estimate.clone()),
        result: outcome.map_or(String::new(), |outcome| outcome.result.clone()).into(),
        error: outcome.map_or(String::new(), |outcome| outcome.error.clone()),
    }
}

/// What another cell says of a task of ours.
pub(crate) fn remote(view: wire::TaskView) -> RemoteView {
    let state = match view.state() {
        wire::DelegationState::Unspecified | wire::DelegationState::Pending => DelegationState::Pending,
        wire::DelegationState::Active => DelegationState::Active,
        wire::DelegationState::Completed => DelegationState::Completed,
        wire::DelegationState::Failed => DelegationState::Failed,
        wire::DelegationState::Cancelled => DelegationState::Cancelled,
        wire::DelegationState::Expired => DelegationState::Expired,
        wire::DelegationState::Rejected => DelegationState::Rejected,
    };
    RemoteView {
        state,
        progress: view.progress.min(100),
        estimate: view.estimate,
        result: String::from_utf8_lossy(&view.result).into_owned(),
        error: view.error,
    }
}

pub(crate) fn update(organization: &OrganizationId, update: SummaryUpdate) -> wire::CapabilitySummary {
    wire::CapabilitySummary {
        organization_id: organization.to_string(),
        epoch: update.epoch,
        sequence: update.sequence,
        full: update.is_full,
        changed: update.changed.into_iter().map(capability).collect(),
        removed: update.removed.iter().map(ToString::to_string).collect(),
        free: update.free,
    }
}

/// All that is known of what a cell can do.
pub(crate) fn summary(organization: &OrganizationId, told: &ToldSummary) -> wire::CapabilitySummary {
    wire::CapabilitySummary {
        organization_id: organization.to_string(),
        epoch: told.epoch,
        sequence: told.sequence,
        full: true,
        changed: told.summary.capabilities.values().cloned().map(capability).collect(),
        removed: Vec::new(),
        free: told.summary.free,
    }
}

pub(crate) fn peer_standing(standing: PeerStanding) -> wire::PeerStanding {
    match standing {
        PeerStanding::Connecting => wire::PeerStanding::Connecting,
        PeerStanding::Up => wire::PeerStanding::Up,
        PeerStanding::Degraded => wire::PeerStanding::Degraded,
        PeerStanding::Down => wire::PeerStanding::Down,
    }
}
