//! Tasks: given away, followed, explained.

use std::process::ExitCode;

use serde_json::{Value, json};
use waystation_proto::federation::v1::{
    AttemptState, Capability, DelegateTaskRequest, Delegation, DelegationState, ExplainDelegationRequest, Task,
    WatchDelegationRequest,
};

use super::{Done, json_of};
use crate::arguments::Delegate;
use crate::place::Place;
use crate::show::{Show, data, time, word};

fn state_of(delegation: &Delegation) -> String {
    word(delegation.state().as_str_name(), "DELEGATION_STATE_")
}

fn attempt_state(state: AttemptState) -> String {
    word(state.as_str_name(), "ATTEMPT_STATE_")
}

fn is_over(state: DelegationState) -> bool {
    !matches!(state, DelegationState::Unspecified | DelegationState::Pending | DelegationState::Active)
}

/// A delegation for machines.
fn machine(delegation: &Delegation) -> Value {
    let attempts: Vec<Value> = delegation
        .attempts
        .iter()
        .map(|attempt| {
            json!({"number": attempt.number, "assignee": attempt.assignee_id, "state": attempt_state(attempt.state()),
                "progress": attempt.progress})
        })
        .collect();
    json!({
        "delegationId": delegation.delegation_id, "state": state_of(delegation), "attempts": attempts,
        "whyPending": delegation.why_pending, "error": delegation.error,
        "result": if delegation.result.is_empty() { Value::Null } else { data(&delegation.result) },
    })
}

/// The same in a line.
fn line(delegation: &Delegation) -> String {
    let mut line = state_of(delegation);
    if let Some(attempt) = delegation.attempts.last() {
        let state = attempt_state(attempt.state());
        line.push_str(&format!(
            ", attempt {} {state} by {}, {} %",
            attempt.number, attempt.assignee_id, attempt.progress
        ));
    }
    for more in [&delegation.why_pending, &delegation.error] {
        if !more.is_empty() {
            line.push_str(&format!(": {more}"));
        }
    }
    if !delegation.result.is_empty() {
        line.push_str(&format!("\n{}", data(&delegation.result)));
    }
    line
}

pub(super) async fn delegate(place: &Place, show: Show, wanted: Delegate) -> Done {
    let mut federation = place.call_federation().await?;
    let names = if wanted.capabilities.is_empty() { vec![wanted.kind.clone()] } else { wanted.capabilities };
    let required_capabilities = names.into_iter().map(|name| Capability { name, ..Capability::default() }).collect();
    let task = Task { r#type: wanted.kind, payload: json_of(&wanted.payload)?.into(), ..Task::default() };
    let request = DelegateTaskRequest {
        organization_id: place.organization.clone(),
        request_id: wanted.id.unwrap_or_else(|| format!("cli-{:016x}", rand::random::<u64>())),
        to_orchestrator_id: wanted.to.unwrap_or_default(),
        task: Some(task),
        required_capabilities,
        max_retries: wanted.retries,
        ..DelegateTaskRequest::default()
    };
    let made = federation.delegate_task(request).await?.into_inner();
    let delegation_id = made.delegation_id;
    show.say(&json!({"delegationId": delegation_id, "duplicate": made.duplicate}), || delegation_id.clone());
    if wanted.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let request =
        WatchDelegationRequest { organization_id: place.organization.clone(), delegation_id, ..Default::default() };
    let mut watch = federation.watch_delegation(request).await?.into_inner();
    let bar = show.bar(100, "working");
    let mut said = String::new();
    while let Some(answer) = watch.message().await? {
        let Some(delegation) = answer.delegation else { continue };
        bar.set_position(delegation.attempts.last().map_or(0, |attempt| attempt.progress.into()));
        let line = line(&delegation);
        if line != said {
            bar.suspend(|| show.say(&machine(&delegation), || line.clone()));
            said = line;
        }
        if is_over(delegation.state()) {
            bar.finish_and_clear();
            let done = delegation.state() == DelegationState::Completed;
            return Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::FAILURE)
}

pub(super) async fn explain(place: &Place, show: Show, delegation_id: String) -> Done {
    let organization_id = place.organization.clone();
    let request = ExplainDelegationRequest { organization_id, delegation_id };
    let explained = place.call_federation().await?.explain_delegation(request).await?.into_inner();
    let delegation = explained.delegation.unwrap_or_default();
    let mut whole = machine(&delegation);
    let decisions: Vec<Value> = explained
        .decisions
        .iter()
        .map(|decision| {
            let dismissed: Vec<Value> = decision
                .dismissed
                .iter()
                .map(|left| json!({"reason": left.reason, "count": left.count, "orchestrators": left.orchestrator_ids}))
                .collect();
            json!({"at": time(decision.at.as_ref()), "seen": decision.seen, "dismissed": dismissed, "chosen": decision.chosen_id,
                "summary": decision.summary})
        })
        .collect();
    whole["decisions"] = decisions.into();
    show.say(&whole, || {
        let mut text = line(&delegation);
        for decision in &explained.decisions {
            text.push_str(&format!("\n{} {}", time(decision.at.as_ref()), decision.summary));
            for left in &decision.dismissed {
                text.push_str(&format!(
                    "\n    {} left out, {}: {}",
                    left.count,
                    left.reason,
                    left.orchestrator_ids.join(", ")
                ));
            }
        }
        for attempt in &delegation.attempts {
            let state = attempt_state(attempt.state());
            text.push_str(&format!("\nattempt {} by {}: {state}", attempt.number, attempt.assignee_id));
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}
