//! What daemons say of themselves.

use axum::Json;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use waystation_domain::policy::RestCall;
use waystation_proto::router::v1::ReportDaemonRequest;

use super::Door;
use super::bearer::Caller;
use super::body::{Answer, Refusal, invalid, read, read_optional, refused};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Heartbeat {
    session_id: Option<String>,
    status: Option<String>,
    metrics: Option<Box<RawValue>>,
}

/// POST /api/daemon/heartbeat
pub(super) async fn heartbeat(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::Heartbeat)?;
    let said: Heartbeat = read_optional(&door, body).await?.unwrap_or_default();
    let daemon = caller.daemon()?;
    if said.session_id.is_some_and(|session| session != daemon.login.as_str()) {
        return Err(invalid("sessionId is not that of the token"));
    }
    let status = one_of("status", said.status, &["active", "idle", "busy"])?;
    let report = ReportDaemonRequest {
        heartbeat: true,
        status,
        metrics: said.metrics.map(|metrics| Bytes::from(metrics.get().to_owned())).unwrap_or_default(),
        ..of(&caller)
    };
    door.parts.upstream.report(report).await.map_err(|status| refused(&status, "UNAUTHORIZED"))?;
    let (now, every) = (door.parts.context.clock.now(), door.parts.config.session.heartbeat);
    Ok(Json(json!({
        "success": true,
        "serverTime": now.to_string(),
        "nextHeartbeat": now.after(every).to_string(),
        "heartbeatIntervalMs": u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
    }))
    .into_response())
}

#[derive(Deserialize)]
struct Status {
    status: String,
    message: Option<String>,
}

/// PUT /api/daemon/status
pub(super) async fn set_status(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::SetStatus)?;
    let said: Status = read(&door, body).await?;
    let status = one_of("status", Some(said.status), &["active", "paused", "error"])?;
    say(&door, ReportDaemonRequest { status, message: said.message.unwrap_or_default(), ..of(&caller) }).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Presence {
    status: String,
    status_text: Option<String>,
}

/// PUT /api/daemon/presence
pub(super) async fn set_presence(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::SetPresence)?;
    let said: Presence = read(&door, body).await?;
    let presence = one_of("status", Some(said.status), &["online", "away", "busy", "offline"])?;
    let presence_text = said.status_text.unwrap_or_default();
    say(&door, ReportDaemonRequest { presence, presence_text, ..of(&caller) }).await
}

fn of(caller: &Caller) -> ReportDaemonRequest {
    ReportDaemonRequest { access_token: caller.token.expose_secret().to_owned(), ..ReportDaemonRequest::default() }
}

fn one_of(field: &str, word: Option<String>, known: &[&str]) -> Result<String, Refusal> {
    match word {
        Some(word) if !known.contains(&word.as_str()) => {
            Err(invalid(&format!("{field} must be one of {}", known.join(", "))))
        }
        word => Ok(word.unwrap_or_default()),
    }
}

async fn say(door: &Door, report: ReportDaemonRequest) -> Answer {
    door.parts.upstream.report(report).await.map_err(|status| refused(&status, "UNAUTHORIZED"))?;
    Ok(Json(json!({"success": true})).into_response())
}
