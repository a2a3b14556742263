//! From a request to a peer of the older federation.

use axum::extract::{Query, Request};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;
use waystation_domain::policy::{self, FrameKind};
use waystation_wire::{SendRefused, TaskCall};

use super::Door;
use super::bearer::Caller;
use super::body::{Refusal, flat_error, invalid};
use super::upgrade::{self, BEARER};
use crate::connection::peer::{self, PeerCaller};

/// Tasks at a time of a peer that does not say how many.
const USUAL_SLOTS: u32 = 10;

/// What a peer says of itself in its address: the dialect has no words for it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Says {
    /// Names, separated by commas.
    capabilities: Option<String>,
    max_concurrent: Option<String>,
    region: Option<String>,
}

/// GET of the path of peers.
pub(super) async fn socket(door: Door, mut request: Request) -> Response {
    if !upgrade::is_upgrade(request.headers()) {
        return upgrade::description("federation of the older kind", "heartbeats, delegations and callbacks", &[]);
    }
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    match judge(&door, &headers, &uri).await {
        Ok((accept, caller)) => {
            let upgrading = hyper::upgrade::on(&mut request);
            let parts = door.parts.clone();
            let Some(admitted) = door.take_place() else { return upgrade::upgraded_before() };
            door.parts.context.lifecycle.spawn(async move {
                if let Some((stream, read)) = upgrade::stand(upgrading).await {
                    // It came with a token that holds.
                    drop(admitted);
                    peer::run(parts, stream, read, caller).await;
                }
            });
            upgrade::switching(&accept, None)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Judges who wants to be a peer, and learns what it works on.
async fn judge(door: &Door, headers: &HeaderMap, uri: &Uri) -> Result<(String, PeerCaller), Refusal> {
    let accept = upgrade::judge(headers)?;
    let offered = upgrade::offered(headers).find_map(|word| word.strip_prefix(BEARER));
    let caller = Caller::judge_socket(door, headers, offered, policy::PEER)?;
    let daemon = caller.daemon()?;
    let said = says(uri)?;
    let known = door.parts.tasks.works_on(&caller.token, &daemon.orchestrator).await;
    let (is_registered, tasks) = known.map_err(|refused| unavailable(&refused))?;
    let address = door.client_address(headers);
    let registration = said.or_else(|| (!is_registered).then(|| registration(Vec::new(), USUAL_SLOTS, "")));
    Ok((accept, PeerCaller { claims: caller.claims, token: caller.token, daemon, address, tasks, registration }))
}

/// The registration that the address asks for, if it does.
fn says(uri: &Uri) -> Result<Option<TaskCall>, Refusal> {
    let Query(said) = Query::<Says>::try_from_uri(uri).map_err(|error| invalid(&error.to_string()))?;
    let slots =
        said.max_concurrent.as_deref().map(|text| text.parse().map_err(|_| invalid("maxConcurrent must be a number")));
    let (slots, region) = (slots.transpose()?, said.region.unwrap_or_default());
    let says_something = said.capabilities.is_some() || slots.is_some() || !region.is_empty();
    let names = said.capabilities.as_deref().unwrap_or_default().split(',').map(str::trim);
    let capabilities = names.filter(|name| !name.is_empty()).collect();
    Ok(says_something.then(|| registration(capabilities, slots.unwrap_or(USUAL_SLOTS), &region)))
}

fn registration(capabilities: Vec<&str>, max_concurrent: u32, region: &str) -> TaskCall {
    let payload = json!({"capabilities": capabilities, "maxConcurrent": max_concurrent, "region": region});
    TaskCall { kind: FrameKind::Register, payload: payload.to_string().into() }
}

fn unavailable(refused: &SendRefused) -> Refusal {
    flat_error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &refused.message).into()
}
