//! From a request to a WebSocket.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{OnUpgrade, Parts as Raw, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use waystation_domain::policy;
use waystation_runtime::Accepted;

use super::Door;
use super::bearer::Caller;
use super::body::{Refusal, flat_error, invalid};
use crate::connection::conductor::{self, Watcher};
use crate::connection::{self, Client, Format};

/// The subprotocol of binary frames.
const BINARY: &str = "waystation.v1.proto";

/// The subprotocol by which browsers bring a token, and the prefix of that.
const EVENTS: &str = "waystation.events.v1";
pub(super) const BEARER: &str = "bearer.";

/// GET of a WebSocket path of daemons.
pub(super) async fn daemon_socket(door: Door, mut request: Request) -> Response {
    let headers = request.headers();
    if !is_upgrade(headers) {
        return description("daemon WebSocket, version 1", "an auth frame", &[BINARY]);
    }
    let accept = match judge(headers) {
        Ok(accept) => accept,
        Err(refusal) => return refusal.into_response(),
    };
    let (format, protocol) =
        if offers(headers, BINARY) { (Format::Binary, Some(BINARY)) } else { (Format::Json, None) };
    let address = door.client_address(headers);
    let upgrading = hyper::upgrade::on(&mut request);
    let parts = door.parts.clone();
    let Some(admitted) = door.take_place() else { return upgraded_before() };
    door.parts.context.lifecycle.spawn(async move {
        if let Some((stream, read)) = stand(upgrading).await {
            connection::run(parts, stream, read, format, Client { address, admitted }).await;
        }
    });
    switching(&accept, protocol)
}

/// GET of the path of the conductor's dialect.
pub(super) async fn conductor_socket(door: Door, mut request: Request) -> Response {
    let headers = request.headers();
    if !is_upgrade(headers) {
        return description("event stream of the conductor kind", "a subscribe frame", &[EVENTS]);
    }
    match conduct(&door, headers) {
        Ok((accept, protocol, watcher)) => {
            let upgrading = hyper::upgrade::on(&mut request);
            let parts = door.parts.clone();
            let Some(admitted) = door.take_place() else { return upgraded_before() };
            door.parts.context.lifecycle.spawn(async move {
                if let Some((stream, read)) = stand(upgrading).await {
                    // It came with a token that holds.
                    drop(admitted);
                    conductor::run(parts, stream, read, watcher).await;
                }
            });
            switching(&accept, protocol)
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Judges who wants to watch.
fn conduct(door: &Door, headers: &HeaderMap) -> Result<(String, Option<&'static str>, Watcher), Refusal> {
    let accept = judge(headers)?;
    let offered = offered(headers).find_map(|word| word.strip_prefix(BEARER));
    let brings_none = offered.is_none() && !headers.contains_key(header::AUTHORIZATION);
    let caller = match &door.parts.config.anonymous_organization {
        Some(organization) if brings_none => Caller::anybody(door, organization)?,
        Some(_) | None => Caller::judge_socket(door, headers, offered, policy::CONDUCTOR)?,
    };
    let watcher = caller.watch(door)?;
    let protocol = offers(headers, EVENTS).then_some(EVENTS);
    Ok((accept, protocol, watcher))
}

/// Judges a handshake; answers what proves that it was understood.
pub(super) fn judge(headers: &HeaderMap) -> Result<String, Refusal> {
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24) else {
        return Err(invalid("Sec-WebSocket-Key is missing or malformed"));
    };
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let refused = flat_error(StatusCode::UPGRADE_REQUIRED, "VALIDATION_ERROR", "only WebSocket version 13");
        return Err(([(header::SEC_WEBSOCKET_VERSION, "13")], refused).into_response().into());
    }
    Ok(derive_accept_key(key.as_bytes()))
}

pub(super) fn upgraded_before() -> Response {
    invalid("this connection was upgraded before").into_response()
}

/// Waits until the connection is a WebSocket's.
pub(super) async fn stand(upgrading: OnUpgrade) -> Option<(Accepted, Vec<u8>)> {
    let stream = bare(upgrading.await.ok()?);
    if stream.is_none() {
        tracing::error!("an upgraded connection is no stream of ours");
    }
    stream
}

pub(super) fn switching(accept: &str, protocol: Option<&'static str>) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

/// The stream without hyper's buffers, since most connections are idle for hours, and what was read of it already.
fn bare(upgraded: Upgraded) -> Option<(Accepted, Vec<u8>)> {
    let (stream, read) = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(Raw { io, read_buf, .. }) => (Accepted::Left(io.into_inner()), read_buf),
        Err(upgraded) => {
            let Raw { io, read_buf, .. } = upgraded.downcast::<TokioIo<Box<TlsStream<TcpStream>>>>().ok()?;
            (Accepted::Right(io.into_inner()), read_buf)
        }
    };
    // A copy: the bytes, even none, are a slice of hyper's buffer, which would live as long.
    Some((stream, read.to_vec()))
}

/// The words of a header that holds a list.
fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value: &HeaderValue| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let lists = |name, wanted: &str| words(headers, name).any(|word| word.eq_ignore_ascii_case(wanted));
    lists(header::CONNECTION, "upgrade") && lists(header::UPGRADE, "websocket")
}

/// The subprotocols that a client speaks.
pub(super) fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    words(headers, header::SEC_WEBSOCKET_PROTOCOL)
}

fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    offered(headers).any(|word| word == protocol)
}

/// What a path is, for people who look.
pub(super) fn description(protocol: &str, first: &str, subprotocols: &[&str]) -> Response {
    Json(json!({
        "service": "waystation",
        "protocol": protocol,
        "connect": format!("send a WebSocket upgrade to this path, then {first}"),
        "subprotocols": subprotocols,
    }))
    .into_response()
}
