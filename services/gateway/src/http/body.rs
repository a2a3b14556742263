//! Bodies of requests, and errors as old clients read them.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::json;
use tonic::Code;
use waystation_proto::common::v1::ErrorReason;
use waystation_rpc::convert::timestamp_from;
use waystation_rpc::{reason_of, retry_after_of};

use super::Door;

/// A response that says no. Handlers leave with it.
pub(super) struct Refusal(Box<Response>);

impl From<Response> for Refusal {
    fn from(response: Response) -> Refusal {
        Refusal(Box::new(response))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        *self.0
    }
}

impl Refusal {
    /// Its HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// Says when to try again.
    pub(super) fn later(self, after: Duration) -> Refusal {
        Refusal::from(([("retry-after", after.as_secs().max(1).to_string())], self).into_response())
    }
}

/// What a handler answers.
pub(super) type Answer = Result<Response, Refusal>;

/// An error as old clients read it.
pub(super) fn flat_error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"error": message, "code": code}))).into_response()
}

/// An object with one list, and `more` members behind it. Items are JSON already.
pub(super) fn list_of<'a>(name: &str, items: impl IntoIterator<Item = &'a Bytes>, more: &str) -> Response {
    let mut body = format!(r#"{{"{name}":["#).into_bytes();
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    body.extend_from_slice(format!("]{more}}}").as_bytes());
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Every other path.
pub(super) async fn not_found() -> Response {
    flat_error(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path")
}

/// A path that is there, by another method.
pub(super) async fn wrong_method() -> Response {
    flat_error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this path has no such method")
}

/// Reads a body within its limits of size and time; `None`: there is none.
pub(super) async fn read_optional<T: DeserializeOwned>(door: &Door, body: Body) -> Result<Option<T>, Refusal> {
    let limits = door.parts.config.limits;
    let bytes = tokio::time::timeout(limits.body, to_bytes(body, limits.body_bytes)).await;
    let bytes = bytes
        .map_err(|_| {
            Refusal::from(flat_error(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", "the body did not come in time"))
        })?
        .map_err(|_| {
            let message = format!("the body must have at most {} bytes", limits.body_bytes);
            Refusal::from(flat_error(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", &message))
        })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let checked = waystation_domain::check_document(&bytes).map_err(|error| error.to_string());
    let parsed = checked.and_then(|()| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    parsed.map(Some).map_err(|error| invalid(&error))
}

/// Reads a body that must be there.
pub(super) async fn read<T: DeserializeOwned>(door: &Door, body: Body) -> Result<T, Refusal> {
    read_optional(door, body).await?.ok_or_else(|| invalid("the body must not be empty"))
}

/// A request that cannot be taken; the message names the field.
pub(super) fn invalid(message: &str) -> Refusal {
    flat_error(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message).into()
}

/// A time as ISO 8601.
pub(super) fn iso(time: Option<&waystation_rpc::convert::WireTimestamp>) -> String {
    timestamp_from(time).to_string()
}

/// A refusal of another service in the words of old clients; `unknown` stands for credentials that are not valid.
pub(super) fn judged(status: &tonic::Status, unknown: &'static str) -> (StatusCode, &'static str) {
    match (reason_of(status), status.code()) {
        (Some(ErrorReason::TokenExpired), _) => (StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED"),
        (Some(ErrorReason::TokenRevoked), _) => (StatusCode::UNAUTHORIZED, "TOKEN_REVOKED"),
        (Some(ErrorReason::OrchestratorDisabled), _) => (StatusCode::FORBIDDEN, "DAEMON_DISABLED"),
        (Some(ErrorReason::DaemonAlreadyRegistered), _) => (StatusCode::CONFLICT, "DAEMON_ALREADY_REGISTERED"),
        (_, Code::Unauthenticated) => (StatusCode::UNAUTHORIZED, unknown),
        (_, Code::InvalidArgument) => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
        (_, Code::NotFound) => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        (_, Code::PermissionDenied) => (StatusCode::FORBIDDEN, "FORBIDDEN"),
        (_, Code::ResourceExhausted) => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    }
}

/// The same as a response.
pub(super) fn refused(status: &tonic::Status, unknown: &'static str) -> Refusal {
    let (http, code) = judged(status, unknown);
    let refusal = Refusal::from(flat_error(http, code, status.message()));
    match retry_after_of(status) {
        Some(after) => refusal.later(after),
        None => refusal,
    }
}
