//! What tools ask by REST, in the shapes that those of the older platform know.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value, json};
use waystation_domain::{OrganizationId, Timestamp};
use waystation_proto::federation::v1 as wire;
use waystation_rpc::convert::{WireTimestamp, timestamp_from};
use waystation_wire::{SendRefused, TaskCall, read_task};

use super::payloads;
use super::{Caller, Failed, Tasks, told, word};

/// Elements of a page, at most.
const LARGEST_PAGE: u32 = 1_000;
/// Delegations that figures are made of, the oldest first; more say nothing new.
const COUNTED: usize = 10_000;
/// Requests are counted over so long.
const LATELY: Duration = Duration::from_secs(60);

/// Which orchestrators are wanted.
pub(crate) struct OrchestratorQuery {
    pub(crate) capabilities: Vec<String>,
    pub(crate) region: String,
    /// Empty: any.
    pub(crate) status: String,
    pub(crate) limit: u32,
    pub(crate) offset: u32,
}

/// What is wanted of a delegation.
pub(crate) struct StatusQuery {
    pub(crate) id: String,
    pub(crate) with_result: bool,
    pub(crate) with_logs: bool,
}

/// What is wanted of all.
pub(crate) struct ClusterQuery {
    pub(crate) organization: OrganizationId,
    pub(crate) up_for: Duration,
    pub(crate) now: Timestamp,
    pub(crate) with_nodes: bool,
    pub(crate) with_sessions: bool,
    pub(crate) with_metrics: bool,
}

impl Tasks {
    /// Those who take tasks.
    pub(crate) async fn list(&self, token: &SecretString, query: OrchestratorQuery) -> Result<Value, SendRefused> {
        self.caller(token).map_err(told)?.list(query).await.map_err(told)
    }

    /// Hands a task on, as a `delegate` frame would.
    pub(crate) async fn hand_on(&self, token: &SecretString, call: TaskCall) -> Result<Value, SendRefused> {
        self.caller(token).map_err(told)?.hand_on(call).await.map_err(told)
    }

    /// How a delegation does.
    pub(crate) async fn status(&self, token: &SecretString, query: StatusQuery) -> Result<Value, SendRefused> {
        self.caller(token).map_err(told)?.status(query).await.map_err(told)
    }

    /// How those who take tasks do, in all.
    pub(crate) async fn cluster(&self, token: &SecretString, query: ClusterQuery) -> Result<Value, SendRefused> {
        self.caller(token).map_err(told)?.cluster(query).await.map_err(told)
    }
}

fn iso(time: Option<&WireTimestamp>) -> Option<String> {
    time.map(|time| timestamp_from(Some(time)).to_string())
}

fn millis_between(from: Option<&WireTimestamp>, to: Option<&WireTimestamp>) -> Option<u64> {
    let (from, to) = (timestamp_from(Some(from?)), timestamp_from(Some(to?)));
    u64::try_from(to.since(from).as_millis()).ok()
}

fn standing_of(status: &wire::OrchestratorStatus) -> String {
    word(status.standing().as_str_name(), "STANDING_").to_lowercase()
}

/// Somebody who takes tasks.
fn node(status: &wire::OrchestratorStatus) -> Value {
    let standing = standing_of(status);
    let orchestrator = status.orchestrator.clone().unwrap_or_default();
    let (current, maximum) = (status.reserved, orchestrator.max_concurrent);
    let report = status.report.as_ref();
    let metrics = report.map(|report| {
        json!({"reportedLoad": report.load, "tokensUsed": report.tokens_used, "errorsPerThousand": report.errors})
    });
    let heard = report.and_then(|report| report.at.as_ref()).or(status.since.as_ref());
    json!({
        "id": orchestrator.orchestrator_id,
        "name": orchestrator.name,
        "region": orchestrator.region,
        // All are reached through Waystation.
        "endpoint": "",
        "status": standing,
        "capabilities": orchestrator.capabilities.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        "metrics": metrics.unwrap_or_else(|| json!({})),
        "load": {
            "current": current,
            "maximum": maximum,
            "percentage": u64::from(current) * 100 / u64::from(maximum.max(1)),
        },
        "version": "",
        "lastHeartbeat": iso(heard),
        "createdAt": iso(status.create_time.as_ref()),
        "updatedAt": iso(heard.or(status.create_time.as_ref())),
    })
}

/// Where a delegation is, in the older words.
fn state_of(delegation: &wire::Delegation) -> &'static str {
    let is_running = || delegation.attempts.last().is_some_and(|last| last.state() == wire::AttemptState::Running);
    match delegation.state() {
        wire::DelegationState::Unspecified | wire::DelegationState::Pending => "PENDING",
        wire::DelegationState::Active if is_running() => "IN_PROGRESS",
        wire::DelegationState::Active => "ACCEPTED",
        wire::DelegationState::Completed => "COMPLETED",
        wire::DelegationState::Rejected => "REJECTED",
        wire::DelegationState::Failed | wire::DelegationState::Cancelled | wire::DelegationState::Expired => "FAILED",
    }
}

fn status_of(delegation: &wire::Delegation) -> Map<String, Value> {
    let mut status = Map::new();
    status.insert("status".into(), state_of(delegation).into());
    let named = word(delegation.state().as_str_name(), "DELEGATION_STATE_");
    let message = match (named, delegation.error.as_str()) {
        (_, "") => delegation.why_pending.clone(),
        ("CANCELLED" | "EXPIRED", error) => format!("{named}: {error}"),
        (_, error) => error.to_owned(),
    };
    if !message.is_empty() {
        status.insert("message".into(), message.into());
    }
    let estimate = delegation.attempts.last().map(|last| last.estimate.as_str()).filter(|text| !text.is_empty());
    if let Some(estimate) = estimate {
        status.insert("estimatedCompletionTime".into(), estimate.into());
    }
    status
}

/// Who has it, or had it last.
fn assignee_of(delegation: &wire::Delegation) -> &str {
    delegation.attempts.last().map_or("", |last| last.assignee_id.as_str())
}

/// The delegator's name for it, or ours.
fn task_of(delegation: &wire::Delegation) -> &str {
    let named = delegation.task.as_ref().map(|task| task.id.as_str()).filter(|id| !id.is_empty());
    named.unwrap_or(&delegation.delegation_id)
}

/// What happened, in order.
fn logs(delegation: &wire::Delegation, decisions: &[wire::Decision]) -> Vec<Value> {
    let mut lines: Vec<(Option<String>, String)> = Vec::new();
    lines.extend(decisions.iter().map(|decision| (iso(decision.at.as_ref()), decision.summary.clone())));
    for attempt in &delegation.attempts {
        let who = &attempt.assignee_id;
        lines.push((iso(attempt.offered.as_ref()), format!("offered to {who}")));
        if attempt.accepted.is_some() {
            lines.push((iso(attempt.accepted.as_ref()), format!("accepted by {who}")));
        }
        if attempt.ended.is_some() {
            let state = word(attempt.state().as_str_name(), "ATTEMPT_STATE_").to_lowercase();
            let why = if attempt.reason.is_empty() { String::new() } else { format!(": {}", attempt.reason) };
            lines.push((iso(attempt.ended.as_ref()), format!("{state} by {who}{why}")));
        }
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines.into_iter().map(|(at, message)| json!({"timestamp": at, "message": message})).collect()
}

impl Caller {
    async fn list(mut self, query: OrchestratorQuery) -> Result<Value, Failed> {
        let standing = match query.status.as_str() {
            "" => wire::Standing::Unspecified,
            status => {
                let named = wire::Standing::from_str_name(&format!("STANDING_{}", status.to_uppercase()));
                let unknown = || Failed::Payload("is not known".into(), Some("payload.status".into()));
                named.ok_or_else(unknown)?
            }
        };
        let request = wire::ListOrchestratorsRequest {
            capabilities: query
                .capabilities
                .into_iter()
                .map(|name| wire::Capability { name, ..Default::default() })
                .collect(),
            region: query.region,
            standing: standing.into(),
            page_size: query.limit,
            offset: query.offset,
            ..Default::default()
        };
        let page = self.federation.list_orchestrators(self.request(request)).await?.into_inner();
        Ok(json!({
            "orchestrators": page.orchestrators.iter().map(node).collect::<Vec<_>>(),
            "total": page.total,
            "limit": query.limit,
            "offset": query.offset,
            "hasMore": !page.next_page_token.is_empty(),
        }))
    }

    async fn hand_on(mut self, call: TaskCall) -> Result<Value, Failed> {
        let request = payloads::delegate(read_task(&call)?)?;
        let wanted = request.to_orchestrator_id.clone();
        let answer = self.federation.delegate_task(self.request(request)).await?.into_inner();
        let found = self.find(&answer.delegation_id).await?;
        let accepted = found.attempts.last().and_then(|last| iso(last.accepted.as_ref()));
        let target = if wanted.is_empty() { assignee_of(&found).to_owned() } else { wanted };
        let mut shown = json!({
            "delegationId": found.delegation_id,
            "targetOrchestratorId": target,
            "taskId": task_of(&found),
            "status": status_of(&found),
            "createdAt": iso(found.created.as_ref()),
            "metadata": {},
            "duplicate": answer.duplicate,
        });
        if let Some(accepted) = accepted {
            shown["acceptedAt"] = accepted.into();
        }
        Ok(shown)
    }

    async fn find(&mut self, id: &str) -> Result<wire::Delegation, Failed> {
        let request = wire::GetDelegationRequest { delegation_id: id.to_owned(), ..Default::default() };
        let found = self.federation.get_delegation(self.request(request)).await?.into_inner().delegation;
        found.ok_or_else(|| tonic::Status::internal("federation gave no delegation").into())
    }

    async fn status(mut self, query: StatusQuery) -> Result<Value, Failed> {
        let request = wire::ExplainDelegationRequest { delegation_id: query.id, ..Default::default() };
        let explained = self.federation.explain_delegation(self.request(request)).await?.into_inner();
        let none = || tonic::Status::internal("federation gave no delegation");
        let found = explained.delegation.ok_or_else(none)?;
        let last = found.attempts.last();
        let mut status = status_of(&found);
        if let Some(last) = last {
            let progress = json!({"current": last.progress, "total": 100, "percentage": last.progress});
            status.insert("progress".into(), progress);
        }
        let mut timing = Map::new();
        timing.insert("createdAt".into(), iso(found.created.as_ref()).into());
        let accepted = last.and_then(|last| last.accepted.as_ref());
        for (name, time) in [("acceptedAt", accepted), ("startedAt", accepted), ("completedAt", found.ended.as_ref())] {
            if let Some(time) = iso(time) {
                timing.insert(name.into(), time.into());
            }
        }
        if let Some(duration) = millis_between(accepted, found.ended.as_ref()) {
            timing.insert("duration".into(), duration.into());
        }
        let mut shown = json!({
            "delegationId": found.delegation_id,
            "taskId": task_of(&found),
            "targetOrchestratorId": assignee_of(&found),
            "status": status,
            "timing": timing,
            "retries": found.retries,
        });
        if query.with_result && !found.result.is_empty() {
            shown["result"] = serde_json::from_slice(&found.result).unwrap_or_default();
        }
        if !found.error.is_empty() {
            shown["error"] = found.error.clone().into();
        }
        if query.with_logs {
            shown["logs"] = logs(&found, &explained.decisions).into();
        }
        Ok(shown)
    }

    async fn cluster(mut self, query: ClusterQuery) -> Result<Value, Failed> {
        let nodes = self.all_nodes().await?;
        let delegations = self.all_delegations().await?;
        let mut by_standing = BTreeMap::<String, usize>::new();
        for node in &nodes {
            *by_standing.entry(standing_of(node)).or_default() += 1;
        }
        let of = |standing: &str| by_standing.get(standing).copied().unwrap_or(0);
        let there = of("online") + of("busy");
        let health = match nodes.len() {
            all if there == all => "HEALTHY",
            _ if there == 0 => "CRITICAL",
            all if there * 2 < all => "UNHEALTHY",
            _ => "DEGRADED",
        };
        let slots: u64 =
            nodes.iter().filter_map(|node| node.orchestrator.as_ref()).map(|one| u64::from(one.max_concurrent)).sum();
        let free: u64 = nodes.iter().map(|node| u64::from(node.free)).sum();
        let is_open = |delegation: &&wire::Delegation| delegation.ended.is_none();
        let count = |state: &str| delegations.iter().filter(|delegation| state_of(delegation) == state).count();
        let mut shown = json!({
            "cluster": {
                "id": query.organization.as_str(),
                "name": query.organization.as_str(),
                "status": health,
                "version": env!("CARGO_PKG_VERSION"),
                "uptime": query.up_for.as_secs(),
            },
            "nodes": [],
            "sessions": [],
            "metrics": {},
            "summary": {
                "totalNodes": nodes.len(), "online": of("online"), "busy": of("busy"), "degraded": of("degraded"),
                "draining": of("draining"), "offline": of("offline"), "slots": slots, "freeSlots": free,
                "openDelegations": delegations.iter().filter(is_open).count(),
            },
            "timestamp": query.now.to_string(),
        });
        if query.with_nodes {
            shown["nodes"] = nodes.iter().map(node).collect::<Vec<_>>().into();
        }
        if query.with_sessions {
            let session = |delegation: &wire::Delegation| {
                json!({
                    "id": delegation.delegation_id,
                    "orchestratorId": assignee_of(delegation),
                    "status": state_of(delegation),
                    "createdAt": iso(delegation.created.as_ref()),
                })
            };
            shown["sessions"] = delegations.iter().filter(is_open).map(session).collect::<Vec<_>>().into();
        }
        if query.with_metrics {
            let latencies: Vec<u64> = delegations
                .iter()
                .filter(|delegation| delegation.state() == wire::DelegationState::Completed)
                .filter_map(|delegation| millis_between(delegation.created.as_ref(), delegation.ended.as_ref()))
                .collect();
            let lately =
                |delegation: &&wire::Delegation| query.now.since(timestamp_from(delegation.created.as_ref())) <= LATELY;
            let mean = latencies.iter().sum::<u64>() / u64::try_from(latencies.len().max(1)).unwrap_or(1);
            let lately = u32::try_from(delegations.iter().filter(lately).count()).unwrap_or(u32::MAX);
            shown["metrics"] = json!({
                "requestsPerSecond": f64::from(lately) / LATELY.as_secs_f64(),
                "averageLatency": mean,
                "totalDelegations": delegations.len(),
                "pendingDelegations": count("PENDING"),
                "activeDelegations": count("ACCEPTED") + count("IN_PROGRESS"),
                "completedDelegations": count("COMPLETED"),
                "failedDelegations": count("FAILED") + count("REJECTED"),
            });
        }
        Ok(shown)
    }

    /// Page by page.
    async fn all_nodes(&mut self) -> Result<Vec<wire::OrchestratorStatus>, Failed> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = wire::ListOrchestratorsRequest { page_size: LARGEST_PAGE, page_token, ..Default::default() };
            let page = self.federation.list_orchestrators(self.request(request)).await?.into_inner();
            all.extend(page.orchestrators);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    async fn all_delegations(&mut self) -> Result<Vec<wire::Delegation>, Failed> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = wire::ListDelegationsRequest { page_size: LARGEST_PAGE, page_token, ..Default::default() };
            let page = self.federation.list_delegations(self.request(request)).await?.into_inner();
            all.extend(page.delegations);
            page_token = page.next_page_token;
            if page_token.is_empty() || all.len() >= COUNTED {
                return Ok(all);
            }
        }
    }
}
