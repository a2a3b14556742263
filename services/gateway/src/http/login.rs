//! REST logins.

use std::net::IpAddr;

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tonic::Code;
use waystation_proto::auth::v1::{
    IssueTokenRequest, IssueTokenResponse, OrchestratorProfile, OrchestratorStatus, RefreshTokenRequest,
};
use waystation_proto::common::v1::ActivityKind;
use waystation_rpc::About;

use super::Door;
use super::body::{Answer, Refusal, flat_error, iso, judged, read, refused};
use crate::failures::TooManyFailures;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogIn {
    api_key: String,
    api_secret: String,
    scopes: Option<Vec<String>>,
    orchestrator_id: Option<String>,
    daemon_id: Option<String>,
}

/// POST /api/daemon/auth
pub(super) async fn log_in(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let address = door.client_address(&headers);
    door.parts.failures.check(address).map_err(too_many_failures)?;
    let request: LogIn = read(&door, body).await?;
    let request = IssueTokenRequest {
        api_key: request.api_key,
        api_secret: request.api_secret,
        orchestrator_id: request.orchestrator_id.unwrap_or_default(),
        daemon_id: request.daemon_id.unwrap_or_default(),
        scopes: request.scopes.unwrap_or_default(),
        client_address: address.to_string(),
    };
    let orchestrator = request.orchestrator_id.clone();
    match door.parts.upstream.log_in(request).await {
        Ok(answer) => {
            tell_login(&door, &answer);
            Ok(logged_in(answer))
        }
        Err(status) => {
            note_failure(&door, address, &status);
            let (_, code) = judged(&status, "INVALID_CREDENTIALS");
            // What is no id was never anybody's.
            let orchestrator = if status.code() == Code::InvalidArgument { "" } else { &orchestrator };
            let about = About { orchestrator, ..About::default() };
            door.parts.activities.tell(ActivityKind::AuthFailed, about, |failed| failed.detail = code.into());
            Err(refused(&status, "INVALID_CREDENTIALS"))
        }
    }
}

/// Those who guess are counted; those who are known and may not, or come too early, are not.
pub(super) fn note_failure(door: &Door, address: IpAddr, status: &tonic::Status) {
    if status.code() == Code::Unauthenticated {
        door.parts.failures.note(address);
    }
}

fn too_many_failures(too_many: TooManyFailures) -> Refusal {
    let message = "too many logins from this address have failed";
    Refusal::from(flat_error(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message)).later(too_many.retry_after)
}

fn tell_login(door: &Door, answer: &IssueTokenResponse) {
    if let Some(OrchestratorProfile { organization_id, orchestrator_id, .. }) = &answer.orchestrator {
        let about = About { organization: organization_id, orchestrator: orchestrator_id, ..About::default() };
        door.parts.activities.tell(ActivityKind::AuthSucceeded, about, |_| {});
    }
}

fn logged_in(answer: IssueTokenResponse) -> Response {
    let profile = answer.orchestrator.unwrap_or_default();
    Json(json!({
        "accessToken": answer.access_token,
        "refreshToken": answer.refresh_token,
        "expiresAt": iso(answer.expire_time.as_ref()),
        "sessionId": answer.session_id,
        "scopes": answer.scopes,
        "orchestrator": orchestrator(&profile),
    }))
    .into_response()
}

/// An orchestrator as old clients read it.
pub(super) fn orchestrator(profile: &OrchestratorProfile) -> Value {
    let status = match profile.status() {
        OrchestratorStatus::Unspecified | OrchestratorStatus::Active => "active",
        OrchestratorStatus::Offline => "offline",
        OrchestratorStatus::Disabled => "disabled",
    };
    let display = profile.display.clone().unwrap_or_default();
    let id = &profile.orchestrator_id;
    json!({
        "id": id,
        "discipline": display.discipline,
        "role": display.role,
        "status": status,
        "user": {"id": id, "name": display.user_name, "email": display.user_email, "status": status},
        "organization": {
            "id": profile.organization_id,
            "name": profile.organization_name,
            "slug": profile.organization_slug,
        },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    refresh_token: String,
}

/// POST /api/daemon/auth/refresh
pub(super) async fn refresh(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let address = door.client_address(&headers);
    door.parts.failures.check(address).map_err(too_many_failures)?;
    let request: Refresh = read(&door, body).await?;
    let request = RefreshTokenRequest { refresh_token: request.refresh_token, client_address: address.to_string() };
    match door.parts.upstream.refresh(request).await {
        Ok(answer) => Ok(Json(json!({
            "accessToken": answer.access_token,
            "refreshToken": answer.refresh_token,
            "expiresAt": iso(answer.expire_time.as_ref()),
        }))
        .into_response()),
        Err(status) => {
            note_failure(&door, address, &status);
            Err(refused(&status, "INVALID_TOKEN"))
        }
    }
}
