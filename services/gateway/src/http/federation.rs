//! Tasks by REST, for tools: the same calls as by frames.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, Uri};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use waystation_domain::check_object;
use waystation_domain::policy::{FrameKind, RestCall};
use waystation_wire::TaskCall;

use super::Door;
use super::bearer::Caller;
use super::body::{Answer, Refusal, invalid, read};
use super::messages::refusal;

/// What is asked of a list, as the query says it.
#[derive(Deserialize)]
struct Listed {
    /// Names, between commas.
    capabilities: Option<String>,
    region: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

async fn call(door: &Door, caller: &Caller, kind: FrameKind, payload: Bytes) -> Result<Value, Refusal> {
    check_object(&payload).map_err(|error| invalid(&error.to_string()))?;
    let (_, answer) =
        door.parts.tasks.call(&caller.token, TaskCall { kind, payload }).await.map_err(|refused| refusal(&refused))?;
    Ok(answer)
}

/// GET /api/federation/orchestrators
pub(super) async fn orchestrators(door: Door, uri: Uri, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::ListFederation)?;
    let Query(Listed { capabilities, region, limit, after }) =
        Query::<Listed>::try_from_uri(&uri).map_err(|error| invalid(&error.to_string()))?;
    let names: Vec<&str> =
        capabilities.iter().flat_map(|names| names.split(',')).filter(|name| !name.is_empty()).collect();
    let query = json!({
        "capabilities": names,
        "region": region.unwrap_or_default(),
        "limit": limit.unwrap_or(0),
        "after": after.unwrap_or_default(),
    });
    let answer = call(&door, &caller, FrameKind::QueryCapabilities, query.to_string().into()).await?;
    Ok(Json(answer).into_response())
}

/// POST /api/federation/delegate
pub(super) async fn delegate(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::Delegate)?;
    let body: Box<RawValue> = read(&door, body).await?;
    let answer = call(&door, &caller, FrameKind::Delegate, String::from(Box::<str>::from(body)).into()).await?;
    Ok(Json(answer).into_response())
}

/// GET /api/federation/delegations/{delegationId}/status
pub(super) async fn status(door: Door, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::GetDelegation)?;
    let answer = door.parts.tasks.status(&caller.token, id).await.map_err(|refused| refusal(&refused))?;
    Ok(Json(answer).into_response())
}

/// GET /api/federation/cluster/status
pub(super) async fn cluster(door: Door, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::GetFederation)?;
    let answer = door.parts.tasks.overview(&caller.token).await.map_err(|refused| refusal(&refused))?;
    Ok(Json(answer).into_response())
}
