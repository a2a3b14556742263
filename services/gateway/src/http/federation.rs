//! Tasks by REST, for tools: the same calls as by frames, in the shapes that tools of the older platform know.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, Uri};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use waystation_domain::policy::{FrameKind, RestCall};
use waystation_wire::TaskCall;

use super::Door;
use super::bearer::Caller;
use super::body::{Answer, Refusal, invalid, read};
use super::messages::refusal;
use crate::upstream::{ClusterQuery, OrchestratorQuery, StatusQuery};

/// Elements of a list: at most, and unless the query says otherwise.
const MOST: u32 = 1_000;
const USUAL: u32 = 100;
/// Whom a task is for, if anybody will do.
const ANYBODY: &str = "*";

#[derive(Deserialize)]
struct Listed {
    /// Names, between commas.
    capability: Option<String>,
    region: Option<String>,
    status: Option<String>,
    limit: Option<u32>,
    offset: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Included {
    #[serde(default = "yes")]
    include_result: bool,
    #[serde(default)]
    include_logs: bool,
    #[serde(default = "yes")]
    include_metrics: bool,
    #[serde(default = "yes")]
    include_nodes: bool,
    #[serde(default = "yes")]
    include_sessions: bool,
}

fn yes() -> bool {
    true
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    let Query(query) = Query::<T>::try_from_uri(uri).map_err(|error| invalid(&error.body_text()))?;
    Ok(query)
}

/// GET /api/federation/orchestrators
pub(super) async fn orchestrators(door: Door, uri: Uri, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::ListFederation)?;
    let Listed { capability, region, status, limit, offset } = query(&uri)?;
    let limit = limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(invalid(&format!("limit must be 1 to {MOST}")));
    }
    let names = capability.iter().flat_map(|names| names.split(',')).filter(|name| !name.is_empty());
    let query = OrchestratorQuery {
        capabilities: names.map(str::to_owned).collect(),
        region: region.unwrap_or_default(),
        status: status.unwrap_or_default(),
        limit,
        offset: offset.unwrap_or(0),
    };
    let answer = door.parts.tasks.list(&caller.token, query).await.map_err(|refused| refusal(&refused))?;
    Ok(Json(answer).into_response())
}

/// What the older members of a request mean in a `delegate` frame; the others are as there.
fn as_frame(mut body: Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    if let Some(target) = body.remove("targetOrchestratorId") {
        let target = if target == ANYBODY { json!("") } else { target };
        body.insert("toOrchestratorId".into(), target);
    }
    if let Some(Value::Object(context)) = body.get("context") {
        let entry = |(name, value): (&String, &Value)| json!({"name": name, "value": value});
        let entries: Vec<Value> = context.iter().map(entry).collect();
        body.insert("context".into(), entries.into());
    }
    let Some(Value::Object(task)) = body.get_mut("task") else { return Err(invalid("task: must be an object")) };
    if let Some(priority) = task.get("priority").and_then(Value::as_str) {
        let priority = match priority {
            "LOW" => "low",
            "NORMAL" => "medium",
            "HIGH" => "high",
            "URGENT" => "critical",
            other => other,
        };
        let priority = priority.to_owned();
        task.insert("priority".into(), priority.into());
    }
    if let Some(timeout) = task.remove("timeout") {
        let Some(timeout) = timeout.as_u64() else { return Err(invalid("task.timeout: must be milliseconds")) };
        body.entry("limits").or_insert_with(|| json!({"runMs": timeout, "overallMs": timeout}));
    }
    Ok(body)
}

/// POST /api/federation/delegate
pub(super) async fn delegate(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::Delegate)?;
    let payload = Value::Object(as_frame(read(&door, body).await?)?).to_string();
    let call = TaskCall { kind: FrameKind::Delegate, payload: payload.into() };
    let answer = door.parts.tasks.hand_on(&caller.token, call).await.map_err(|refused| refusal(&refused))?;
    Ok(Json(answer).into_response())
}

/// GET /api/federation/delegations/{delegationId}/status
pub(super) async fn status(door: Door, Path(id): Path<String>, uri: Uri, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::GetDelegation)?;
    let Included { include_result, include_logs, .. } = query(&uri)?;
    let query = StatusQuery { id, with_result: include_result, with_logs: include_logs };
    let answer = door.parts.tasks.status(&caller.token, query).await.map_err(|refused| refusal(&refused))?;
    Ok(Json(answer).into_response())
}

/// GET /api/federation/cluster/status
pub(super) async fn cluster(door: Door, uri: Uri, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::GetFederation)?;
    let included: Included = query(&uri)?;
    let now = door.parts.context.clock.now();
    let query = ClusterQuery {
        organization: caller.organization()?,
        up_for: now.since(door.parts.started),
        now,
        with_nodes: included.include_nodes,
        with_sessions: included.include_sessions,
        with_metrics: included.include_metrics,
    };
    let answer = door.parts.tasks.cluster(&caller.token, query).await.map_err(|refused| refusal(&refused))?;
    Ok(Json(answer).into_response())
}
