//! REST logins.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tonic::Code;
use waystation_domain::Timestamp;
use waystation_proto::auth::v1::{IssueTokenRequest, IssueTokenResponse, OrchestratorProfile};
use waystation_proto::common::v1::{ActivityKind, ErrorReason};
use waystation_rpc::About;
use waystation_rpc::convert::timestamp_from;
use waystation_rpc::{reason_of, retry_after_of};

use super::Door;

/// An error as old clients read it.
pub(super) fn flat_error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": message, "code": code}))).into_response()
}

/// Every other path.
pub(super) async fn not_found() -> Response {
    flat_error(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path")
}

/// Reads a body within its limits of size and time.
async fn read<T: DeserializeOwned>(door: &Door, body: Body) -> Result<T, Response> {
    let limits = door.parts.config.limits;
    let bytes = tokio::time::timeout(limits.body, to_bytes(body, limits.body_bytes)).await;
    let bytes = bytes
        .map_err(|_| flat_error(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", "the body did not come in time"))?
        .map_err(|_| {
            let message = format!("the body must have at most {} bytes", limits.body_bytes);
            flat_error(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", &message)
        })?;
    let checked = waystation_domain::check_document(&bytes).map_err(|error| error.to_string());
    let parsed = checked.and_then(|()| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    parsed.map_err(|error| flat_error(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &error))
}

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
pub(super) async fn log_in(State(door): State<Door>, body: Body) -> Response {
    let request: LogIn = match read(&door, body).await {
        Ok(request) => request,
        Err(refused) => return refused,
    };
    let request = IssueTokenRequest {
        api_key: request.api_key,
        api_secret: request.api_secret,
        orchestrator_id: request.orchestrator_id.unwrap_or_default(),
        daemon_id: request.daemon_id.unwrap_or_default(),
        scopes: request.scopes.unwrap_or_default(),
    };
    let orchestrator = request.orchestrator_id.clone();
    match door.parts.upstream.log_in(request).await {
        Ok(answer) => {
            tell_login(&door, &answer);
            logged_in(answer)
        }
        Err(status) => {
            let (http, code) = judged(&status, "INVALID_CREDENTIALS");
            // What is no id was never anybody's.
            let orchestrator = if status.code() == Code::InvalidArgument { "" } else { &orchestrator };
            let about = About { orchestrator, ..About::default() };
            door.parts.activities.tell(ActivityKind::AuthFailed, about, |failed| failed.detail = code.into());
            refused(&status, http, code)
        }
    }
}

fn tell_login(door: &Door, answer: &IssueTokenResponse) {
    if let Some(OrchestratorProfile { organization_id, orchestrator_id, .. }) = &answer.orchestrator {
        let about = About { organization: organization_id, orchestrator: orchestrator_id, ..About::default() };
        door.parts.activities.tell(ActivityKind::AuthSucceeded, about, |_| {});
    }
}

fn iso(time: Option<&waystation_rpc::convert::WireTimestamp>) -> String {
    let time: Timestamp = timestamp_from(time);
    time.to_string()
}

fn logged_in(answer: IssueTokenResponse) -> Response {
    let OrchestratorProfile { orchestrator_id, organization_id, organization_name, organization_slug, display } =
        answer.orchestrator.unwrap_or_default();
    let display = display.unwrap_or_default();
    Json(json!({
        "accessToken": answer.access_token,
        "refreshToken": answer.refresh_token,
        "expiresAt": iso(answer.expire_time.as_ref()),
        "sessionId": answer.session_id,
        "scopes": answer.scopes,
        "orchestrator": {
            "id": orchestrator_id,
            "discipline": display.discipline,
            "role": display.role,
            "status": "active",
            "user": {"id": orchestrator_id, "name": display.user_name, "email": display.user_email, "status": "active"},
            "organization": {"id": organization_id, "name": organization_name, "slug": organization_slug},
        },
    }))
    .into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    refresh_token: String,
}

/// POST /api/daemon/auth/refresh
pub(super) async fn refresh(State(door): State<Door>, body: Body) -> Response {
    let request: Refresh = match read(&door, body).await {
        Ok(request) => request,
        Err(refused) => return refused,
    };
    match door.parts.upstream.refresh(request.refresh_token).await {
        Ok(answer) => Json(json!({
            "accessToken": answer.access_token,
            "refreshToken": answer.refresh_token,
            "expiresAt": iso(answer.expire_time.as_ref()),
        }))
        .into_response(),
        Err(status) => {
            let (http, code) = judged(&status, "INVALID_TOKEN");
            refused(&status, http, code)
        }
    }
}

/// auth's refusal in the words of old clients; `unknown` stands for credentials that are not valid.
fn judged(status: &tonic::Status, unknown: &'static str) -> (StatusCode, &'static str) {
    match (reason_of(status), status.code()) {
        (Some(ErrorReason::TokenExpired), _) => (StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED"),
        (Some(ErrorReason::TokenRevoked), _) => (StatusCode::UNAUTHORIZED, "TOKEN_REVOKED"),
        (_, Code::Unauthenticated) => (StatusCode::UNAUTHORIZED, unknown),
        (_, Code::InvalidArgument) => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
        (_, Code::NotFound) => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        (_, Code::PermissionDenied) => (StatusCode::FORBIDDEN, "DAEMON_DISABLED"),
        (_, Code::ResourceExhausted) => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    }
}

fn refused(status: &tonic::Status, http: StatusCode, code: &str) -> Response {
    let response = flat_error(http, code, status.message());
    match retry_after_of(status) {
        Some(after) => ([("retry-after", after.as_secs().max(1).to_string())], response).into_response(),
        None => response,
    }
}
