//! Who a daemon is, how it should behave, and how it is.

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use waystation_domain::policy::RestCall;
use waystation_proto::router::v1::{GetHealthResponse, Presence};
use waystation_rpc::convert::WireTimestamp;

use super::Door;
use super::bearer::Caller;
use super::body::{Answer, iso, refused};
use super::login;

/// Longest pause of a client between two tries to connect, and how often it tries; as old clients were told.
const RECONNECT_DELAY_MS: u64 = 60_000;
const RECONNECT_ATTEMPTS: u32 = 10;
/// How long verifiers may keep the public keys: a new one is published longer before it signs.
const KEYS_KEPT: &str = "public, max-age=60";

/// GET /api/daemon/config
pub(super) async fn config(door: Door, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::GetConfig)?;
    let profile = door.parts.upstream.profile(&caller.token).await;
    let profile = profile.map_err(|status| refused(&status, "UNAUTHORIZED"))?;
    let who = profile.orchestrator.unwrap_or_default();
    let time = |time: Option<&WireTimestamp>| time.map(|time| iso(Some(time)));
    let mut orchestrator = login::orchestrator(&who);
    orchestrator["daemonEndpoint"] = Value::Null;
    orchestrator["createdAt"] = json!(time(who.create_time.as_ref()));
    orchestrator["updatedAt"] = json!(time(who.update_time.as_ref().or(who.create_time.as_ref())));
    let session = door.parts.config.session;
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(Json(json!({
        "orchestrator": orchestrator,
        "operationalConfig": {
            "heartbeatIntervalMs": millis(session.heartbeat),
            "reconnectDelayMs": RECONNECT_DELAY_MS,
            "maxReconnectAttempts": RECONNECT_ATTEMPTS,
            "messageRateLimitPerMinute": session.messages,
            "idleTimeoutMs": millis(session.heartbeat * session.missed),
        },
        "scopes": profile.scopes,
        "endpoints": {
            "websocket": door.parts.config.path,
            "auth": RestCall::LogIn.path(),
            "refresh": RestCall::Refresh.path(),
            "heartbeat": RestCall::Heartbeat.path(),
            "status": RestCall::SetStatus.path(),
            "presence": RestCall::SetPresence.path(),
            "sessions": RestCall::ListSessions.path(),
            "keys": RestCall::GetKeys.path(),
        },
    }))
    .into_response())
}

/// GET /api/daemon/health/{orchestratorId}
pub(super) async fn health(door: Door, Path(orchestrator): Path<String>, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::GetHealth)?;
    let health = door.parts.upstream.health(&caller.token, orchestrator.clone()).await;
    let health = health.map_err(|status| refused(&status, "UNAUTHORIZED"))?;
    Ok(Json(json!({"data": described(&orchestrator, &health)})).into_response())
}

fn described(orchestrator: &str, health: &GetHealthResponse) -> Value {
    let object = |json: &[u8]| {
        let text = String::from_utf8_lossy(json).into_owned();
        RawValue::from_string(text).map_or(Value::Null, |raw| json!(raw))
    };
    let metrics = health
        .metrics
        .iter()
        .map(|record| json!({"timestamp": iso(record.time.as_ref()), "metrics": object(&record.metrics)}));
    let presence = match health.presence() {
        Presence::Online => "online",
        Presence::Reconnecting => "reconnecting",
        Presence::Offline | Presence::Unspecified => "offline",
    };
    let status = if health.reported_status.is_empty() { presence } else { &health.reported_status };
    json!({
        "orchestratorId": orchestrator,
        "healthy": health.healthy,
        "status": status,
        "statusMessage": health.message,
        "presence": presence,
        "reportedPresence": health.reported_presence,
        "presenceText": health.presence_text,
        "lastHeartbeat": health.last_heartbeat_time.as_ref().map(|time| iso(Some(time))),
        "missedHeartbeats": health.missed_heartbeats,
        "sessions": health.sessions,
        "metrics": metrics.collect::<Vec<_>>(),
        "registration": health.registration.as_ref().map(|registration| json!({
            "instanceId": registration.instance_id,
            "daemonInfo": object(&registration.info),
            "registeredAt": iso(registration.register_time.as_ref()),
        })),
    })
}

/// GET /.well-known/jwks.json
pub(super) async fn keys(door: Door) -> Answer {
    let jwks = door.parts.upstream.keys().await.map_err(|status| refused(&status, "UNAUTHORIZED"))?;
    let headers = [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, KEYS_KEPT)];
    Ok((headers, jwks).into_response())
}
