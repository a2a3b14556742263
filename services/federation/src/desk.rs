//! Where delegations are changed: read, changed by the rules, kept if nobody was faster, then told.

use std::time::Duration;

use waystation_domain::federation::{Delegation, DelegationState};
use waystation_domain::{DelegationId, OrganizationId, Timestamp};
use waystation_proto::common::v1::ErrorReason;
use waystation_rpc::Fault;
use waystation_store::federation::{Commit, Committed, Entry, Kept};

use crate::{Parts, post};

/// Others may be faster so often.
const TRIES: usize = 32;
/// Mail that whoever wrote it has not sent by then is sent by a sweeper.
const SEND_AFTER: Duration = Duration::from_secs(2);
/// Mail that could not be sent: a mailbox that is full stays so for a while.
const SEND_AGAIN: Duration = Duration::from_secs(10);

/// A delegation that is there.
pub(crate) async fn find(parts: &Parts, organization: &OrganizationId, id: &DelegationId) -> Result<Kept, Fault> {
    let found = parts.store.federation.delegation(organization, id, None).await.map_err(Fault::unavailable)?;
    found.ok_or_else(|| Fault::not_found("delegation"))
}

/// Changes a delegation by a rule, which may be asked more than once. Answers what the rule answered.
pub(crate) async fn change<T>(
    parts: &Parts,
    organization: &OrganizationId,
    id: &DelegationId,
    rule: impl Fn(&mut Delegation, Timestamp) -> Result<T, Fault>,
) -> Result<T, Fault> {
    change_with(parts, organization, id, |delegation, now| Ok((rule(delegation, now)?, Vec::new()))).await
}

/// The same by a rule that also writes into its context; what it writes is kept only if it changed the delegation.
pub(crate) async fn change_with<T>(
    parts: &Parts,
    organization: &OrganizationId,
    id: &DelegationId,
    rule: impl Fn(&mut Delegation, Timestamp) -> Result<(T, Vec<Entry>), Fault>,
) -> Result<T, Fault> {
    for _ in 0..TRIES {
        let Kept { version, delegation: before } = find(parts, organization, id).await?;
        let mut delegation = before.clone();
        let (answer, entries) = rule(&mut delegation, parts.context.clock.now())?;
        if keep(parts, organization, version, &before, (delegation, entries)).await?.is_some() {
            return Ok(answer);
        }
        parts.metrics.conflicted();
    }
    Err(Fault::unavailable("too many others change this delegation"))
}

/// Begins a delegation, or finds the one that was begun with the same id. Answers whether it was known.
pub(crate) async fn begin(
    parts: &Parts,
    organization: &OrganizationId,
    delegation: Delegation,
    context: Vec<Entry>,
) -> Result<(Kept, bool), Fault> {
    for _ in 0..TRIES {
        if let Some(kept) = keep(parts, organization, 0, &delegation, (delegation.clone(), context.clone())).await? {
            parts.metrics.began();
            return Ok((kept, false));
        }
        let known = parts.store.federation.delegation(organization, &delegation.id, None).await;
        if let Some(kept) = known.map_err(Fault::unavailable)? {
            // What is left of a parent's time is less with each attempt to ask.
            let mut asked = delegation.request.clone();
            asked.limits.overall = kept.delegation.request.limits.overall;
            if kept.delegation.request != asked {
                let message = "request_id was used with another request";
                return Err(Fault::new(ErrorReason::AlreadyExists, message));
            }
            return Ok((kept, true));
        }
    }
    Err(Fault::unavailable("too many others take the same slots"))
}

/// Keeps what a delegation has become, after somebody was looked for if that is to be; `None`: somebody was faster, or the
/// slot is gone.
async fn keep(
    parts: &Parts,
    organization: &OrganizationId,
    expected: u64,
    before: &Delegation,
    (mut delegation, entries): (Delegation, Vec<Entry>),
) -> Result<Option<Kept>, Fault> {
    let now = parts.context.clock.now();
    if delegation.wants_choice(now) {
        let decision = parts.registries.choose(organization, &delegation, before.holder(), now).await?;
        delegation.decide(decision, now);
    }
    if expected > 0 && delegation == *before {
        return Ok(Some(Kept { version: expected, delegation }));
    }
    let due = delegation.due(now.after(SEND_AFTER));
    let commit = Commit { organization: organization.clone(), expected, delegation: delegation.clone(), due, entries };
    match parts.store.federation.commit(commit, None).await.map_err(Fault::unavailable)? {
        Committed::Stored(version) => {
            if delegation.state.is_terminal() && before.state != delegation.state {
                parts.metrics.ended(delegation.state);
            }
            parts.changes.tell(&delegation.id, now);
            parts.cells.watch(organization, &delegation);
            // With what was there before and is perhaps on its way already: whoever sends all in order, sends in order.
            post::send(parts, organization, &delegation);
            Ok(Some(Kept { version, delegation }))
        }
        Committed::Conflict | Committed::NoSlot => Ok(None),
        Committed::Full => Err(Fault::new(ErrorReason::StoreFull, "the store takes nothing new")),
    }
}

/// Has it looked at no sooner than its mail may go, or its next limit is met. If somebody was faster it is due anyway.
pub(crate) async fn postpone(parts: &Parts, organization: &OrganizationId, kept: Kept) -> Result<(), Fault> {
    let Kept { version, delegation } = kept;
    let due = delegation.due(parts.context.clock.now().after(SEND_AGAIN));
    let commit = Commit { organization: organization.clone(), expected: version, delegation, due, entries: Vec::new() };
    parts.store.federation.commit(commit, None).await.map(drop).map_err(Fault::unavailable)
}

/// The word of the contract for a state that refuses.
pub(crate) fn ended(state: DelegationState) -> Fault {
    Fault::new(ErrorReason::DelegationState, format!("the delegation has ended: {state}"))
}
