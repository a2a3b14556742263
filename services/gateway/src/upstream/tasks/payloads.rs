//! Payloads of calls about tasks, as frames carry them, and what they ask federation for.

use serde::Deserialize;
use serde_json::value::RawValue;
use waystation_proto::federation::v1 as wire;
use waystation_proto::federation::v1::broadcast_request::To;
use waystation_proto::federation::v1::complete_delegation_request::Verdict;

use super::Failed;

/// A capability by its name alone, or with what is needed of it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Capability {
    Name(String),
    Full {
        name: String,
        #[serde(default)]
        version: String,
        level: Option<u32>,
    },
}

impl From<Capability> for wire::Capability {
    fn from(capability: Capability) -> wire::Capability {
        match capability {
            Capability::Name(name) => wire::Capability { name, ..Default::default() },
            Capability::Full { name, version, level } => wire::Capability { name, version, level },
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Register {
    pub(super) capabilities: Vec<Capability>,
    #[serde(default)]
    pub(super) max_concurrent: u32,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) region: String,
    #[serde(default)]
    pub(super) tier: String,
    #[serde(default)]
    pub(super) weight: u32,
    pub(super) token_limit: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Query {
    #[serde(default)]
    pub(super) capabilities: Vec<Capability>,
    #[serde(default)]
    pub(super) region: String,
    #[serde(default)]
    pub(super) limit: u32,
    #[serde(default)]
    pub(super) after: String,
}

#[derive(Deserialize)]
pub(super) struct Task {
    #[serde(default)]
    pub(super) id: String,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) priority: Option<String>,
    pub(super) payload: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    pub(super) offer_ms: Option<u64>,
    pub(super) start_ms: Option<u64>,
    pub(super) run_ms: Option<u64>,
    pub(super) overall_ms: Option<u64>,
    pub(super) heartbeat_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delegate {
    #[serde(default)]
    pub(super) request_id: String,
    #[serde(default)]
    pub(super) to_orchestrator_id: String,
    pub(super) task: Task,
    #[serde(default)]
    pub(super) required_capabilities: Vec<Capability>,
    #[serde(default)]
    pub(super) preferred_orchestrator_ids: Vec<String>,
    #[serde(default)]
    pub(super) excluded_orchestrator_ids: Vec<String>,
    #[serde(default)]
    pub(super) region: String,
    pub(super) strategy: Option<String>,
    #[serde(default)]
    pub(super) affinity: String,
    #[serde(default)]
    pub(super) tokens: u64,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) max_retries: Option<u32>,
    #[serde(default)]
    pub(super) parent_delegation_id: String,
    #[serde(default)]
    pub(super) context: Vec<Entry>,
}

/// Something that is shared.
#[derive(Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: Box<RawValue>,
}

impl From<Entry> for wire::ContextEntry {
    fn from(entry: Entry) -> wire::ContextEntry {
        wire::ContextEntry { name: entry.name, value: bytes(Some(entry.value)), version: 0 }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContextGet {
    pub(super) delegation_id: String,
    #[serde(default)]
    pub(super) names: Vec<String>,
    #[serde(default)]
    pub(super) after: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContextPut {
    pub(super) delegation_id: String,
    pub(super) name: String,
    pub(super) value: Box<RawValue>,
    pub(super) version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Broadcast {
    #[serde(default)]
    pub(super) broadcast_id: String,
    pub(super) to: Audience,
    pub(super) message_type: Option<String>,
    pub(super) payload: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) durable: bool,
}

/// Whom a broadcast is for: one of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Audience {
    All(bool),
    Capability(Capability),
    Region(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Respond {
    pub(super) delegation_id: String,
    pub(super) attempt: u32,
    pub(super) accepted: bool,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) estimated_completion: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    pub(super) delegation_id: String,
    pub(super) attempt: u32,
    pub(super) progress: u32,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    pub(super) delegation_id: String,
    pub(super) attempt: u32,
    pub(super) status: String,
    pub(super) result: Option<Box<RawValue>>,
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cancel {
    pub(super) delegation_id: String,
    #[serde(default)]
    pub(super) reason: String,
}

fn refused<T>(field: &str, problem: &str) -> Result<T, Failed> {
    Err(Failed::Payload(problem.to_owned(), Some(format!("payload.{field}"))))
}

pub(super) fn all<T, U: From<T>>(values: Vec<T>) -> Vec<U> {
    values.into_iter().map(U::from).collect()
}

fn bytes(json: Option<Box<RawValue>>) -> bytes::Bytes {
    json.map_or_else(bytes::Bytes::new, |json| String::from(Box::<str>::from(json)).into())
}

fn duration(millis: Option<u64>) -> Option<prost_types::Duration> {
    let millis = millis?;
    let nanos = i32::try_from(millis % 1_000).unwrap_or(0) * 1_000_000;
    Some(prost_types::Duration { seconds: i64::try_from(millis / 1_000).unwrap_or(i64::MAX), nanos })
}

/// A word as the contract spells it: `round-robin` is STRATEGY_ROUND_ROBIN.
fn named<T: Default>(
    field: &str,
    prefix: &str,
    word: Option<String>,
    known: fn(&str) -> Option<T>,
) -> Result<T, Failed> {
    let Some(word) = word else { return Ok(T::default()) };
    let name = format!("{prefix}{}", word.to_uppercase().replace('-', "_"));
    known(&name).map_or_else(|| refused(field, "is not known"), Ok)
}

pub(super) fn delegate(payload: Delegate) -> Result<wire::DelegateTaskRequest, Failed> {
    let Task { id, kind, description, priority, payload: data } = payload.task;
    let priority = named("task.priority", "TASK_PRIORITY_", priority, wire::TaskPriority::from_str_name)?;
    let strategy = named("strategy", "STRATEGY_", payload.strategy, wire::Strategy::from_str_name)?;
    let task = wire::Task { id, r#type: kind, description, priority: priority.into(), payload: bytes(data) };
    let Limits { offer_ms, start_ms, run_ms, overall_ms, heartbeat_ms } = payload.limits;
    Ok(wire::DelegateTaskRequest {
        organization_id: String::new(),
        request_id: payload.request_id,
        from_orchestrator_id: String::new(),
        to_orchestrator_id: payload.to_orchestrator_id,
        task: Some(task),
        required_capabilities: all(payload.required_capabilities),
        preferred_orchestrator_ids: payload.preferred_orchestrator_ids,
        excluded_orchestrator_ids: payload.excluded_orchestrator_ids,
        region: payload.region,
        strategy: strategy.into(),
        affinity: payload.affinity,
        tokens: payload.tokens,
        limits: Some(wire::DelegationLimits {
            offer: duration(offer_ms),
            start: duration(start_ms),
            run: duration(run_ms),
            overall: duration(overall_ms),
            heartbeat: duration(heartbeat_ms),
        }),
        max_retries: payload.max_retries,
        parent_delegation_id: payload.parent_delegation_id,
        context: all(payload.context),
    })
}

pub(super) fn broadcast(payload: Broadcast) -> Result<wire::BroadcastRequest, Failed> {
    let message_type =
        named("messageType", "BROADCAST_TYPE_", payload.message_type, wire::BroadcastType::from_str_name)?;
    Ok(wire::BroadcastRequest {
        organization_id: String::new(),
        broadcast_id: payload.broadcast_id,
        from_orchestrator_id: String::new(),
        to: Some(match payload.to {
            Audience::All(all) => To::All(all),
            Audience::Capability(capability) => To::Capability(capability.into()),
            Audience::Region(region) => To::Region(region),
        }),
        r#type: message_type.into(),
        payload: bytes(payload.payload),
        durable: payload.durable,
    })
}

pub(super) fn verdict(outcome: Outcome) -> Result<wire::CompleteDelegationRequest, Failed> {
    let verdict = match (outcome.status.as_str(), outcome.error) {
        ("completed", _) => Verdict::Result(bytes(outcome.result)),
        ("failed", Some(error)) => Verdict::Error(error),
        ("failed", None) => return refused("error", "must be present"),
        _ => return refused("status", "must be completed or failed"),
    };
    Ok(wire::CompleteDelegationRequest {
        delegation_id: outcome.delegation_id,
        attempt: outcome.attempt,
        verdict: Some(verdict),
        ..Default::default()
    })
}
