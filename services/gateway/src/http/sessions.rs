//! The live sessions of a daemon's orchestrator.

use axum::Json;
use axum::body::Body;
use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use waystation_domain::policy::RestCall;
use waystation_proto::router::v1::SessionInfo;

use super::Door;
use super::bearer::Caller;
use super::body::{Answer, iso, read_optional, refused};

fn described(session: &SessionInfo) -> Value {
    json!({
        "sessionId": session.session_id,
        "loginId": session.login_id,
        "daemonId": session.daemon_id,
        "orchestratorId": session.orchestrator_id,
        "active": session.active,
        "status": session.reported_status,
        "connectedAt": iso(session.open_time.as_ref()),
        "subscriptions": session.subscriptions,
    })
}

/// GET /api/daemon/sessions
pub(super) async fn list(door: Door, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::ListSessions)?;
    let sessions = door.parts.upstream.sessions(&caller.token).await;
    let sessions = sessions.map_err(|status| refused(&status, "UNAUTHORIZED"))?;
    let described: Vec<Value> = sessions.iter().map(described).collect();
    Ok(Json(json!({"total": described.len(), "sessions": described})).into_response())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Which {
    session_id: Option<String>,
}

/// DELETE /api/daemon/sessions: the one that the query or the body names, or all of the token's login.
pub(super) async fn end(door: Door, RawQuery(query): RawQuery, headers: HeaderMap, body: Body) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::EndSessions)?;
    let in_query = query.as_deref().and_then(|query| {
        // Ids need no escapes: whatever has one is no id of ours and is not found.
        query.split('&').find_map(|pair| pair.strip_prefix("sessionId=")).map(str::to_owned)
    });
    let named = match in_query {
        Some(named) => Some(named),
        None => read_optional::<Which>(&door, body).await?.unwrap_or_default().session_id,
    };
    let ended = door.parts.upstream.end_sessions(&caller.token, named.unwrap_or_default()).await;
    let ended = ended.map_err(|status| refused(&status, "UNAUTHORIZED"))?;
    Ok(Json(json!({"success": true, "terminated": ended})).into_response())
}
