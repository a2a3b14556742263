//! Daemons that say which orchestrator they serve. Their errors are nested, as old clients read them.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use waystation_proto::auth::v1::IssueTokenRequest;
use waystation_proto::router::v1::{RegisterDaemonRequest, UnregisterDaemonRequest};
use waystation_rpc::retry_after_of;
use waystation_token::ApiKeySecret;

use super::Door;
use super::body::{Answer, Refusal, judged, read};
use super::login::note_failure;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    orchestrator_id: String,
    organization_id: String,
    /// The whole `wsk_…`: an id alone would prove nothing.
    api_key: String,
    daemon_info: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DaemonInfo {
    instance_id: String,
}

/// A request whose key is good.
struct Proven {
    token: String,
    instance: String,
    info: Bytes,
    orchestrator: String,
    organization: String,
}

fn nested(status: StatusCode, code: &str, message: &str) -> Refusal {
    (status, Json(json!({"error": {"message": message, "code": code}}))).into_response().into()
}

fn refused(status: &tonic::Status) -> Refusal {
    let (http, code) = judged(status, "INVALID_API_KEY");
    let refusal = nested(http, code, status.message());
    match retry_after_of(status) {
        Some(after) => refusal.later(after),
        None => refusal,
    }
}

/// POST /api/daemon/register
pub(super) async fn register(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let Proven { token, instance, info, orchestrator, organization } = prove(&door, &headers, body).await?;
    let request = RegisterDaemonRequest { access_token: token, instance_id: instance.clone(), info };
    door.parts.upstream.register(request).await.map_err(|status| refused(&status))?;
    let data = json!({
        "orchestratorId": orchestrator,
        "organizationId": organization,
        "instanceId": instance,
        "registeredAt": door.parts.context.clock.now().to_string(),
    });
    Ok((StatusCode::CREATED, Json(json!({"success": true, "data": data}))).into_response())
}

/// POST /api/daemon/unregister
pub(super) async fn unregister(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let proven = prove(&door, &headers, body).await?;
    let request = UnregisterDaemonRequest { access_token: proven.token, instance_id: proven.instance.clone() };
    door.parts.upstream.unregister(request).await.map_err(|status| refused(&status))?;
    let data = json!({"orchestratorId": proven.orchestrator, "instanceId": proven.instance});
    Ok(Json(json!({"success": true, "data": data})).into_response())
}

/// Logs in with the key of the request: only then is anything of it believed.
async fn prove(door: &Door, headers: &HeaderMap, body: Body) -> Result<Proven, Refusal> {
    let address = door.client_address(headers);
    if let Err(too_many) = door.parts.failures.check(address) {
        let message = "too many logins from this address have failed";
        return Err(nested(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).later(too_many.retry_after));
    }
    let request: Request = read(door, body).await.map_err(|refused| {
        let status = refused.status();
        nested(status, "VALIDATION_ERROR", "the body must be orchestratorId, organizationId, apiKey, daemonInfo")
    })?;
    let info: DaemonInfo = serde_json::from_str(request.daemon_info.get())
        .map_err(|error| nested(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &format!("daemonInfo: {error}")))?;
    let key = ApiKeySecret::parse(&request.api_key);
    let login = IssueTokenRequest {
        api_key: key.map(|key| key.id().to_string()).unwrap_or_default(),
        api_secret: request.api_key,
        orchestrator_id: request.orchestrator_id,
        daemon_id: String::new(),
        scopes: Vec::new(),
        client_address: address.to_string(),
    };
    let login = door.parts.upstream.log_in(login).await.map_err(|status| {
        note_failure(door, address, &status);
        refused(&status)
    })?;
    let profile = login.orchestrator.unwrap_or_default();
    if profile.organization_id != request.organization_id {
        // The same as if it were not there.
        return Err(nested(StatusCode::NOT_FOUND, "NOT_FOUND", "orchestrator not found"));
    }
    Ok(Proven {
        token: login.access_token,
        instance: info.instance_id,
        info: Bytes::from(request.daemon_info.get().to_owned()),
        orchestrator: profile.orchestrator_id,
        organization: profile.organization_id,
    })
}
