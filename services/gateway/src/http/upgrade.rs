//! From a request to a WebSocket.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::{Parts as Raw, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use waystation_runtime::Accepted;

use super::Door;
use super::body::flat_error;
use crate::connection::{self, Client, Format};
use crate::metrics::Refused;

/// The subprotocol of binary frames.
const BINARY: &str = "waystation.v1.proto";

/// GET of a WebSocket path.
pub(super) async fn daemon_socket(door: Door, mut request: Request) -> Response {
    let headers = request.headers();
    if !is_upgrade(headers) {
        return description();
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24) else {
        return flat_error(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "Sec-WebSocket-Key is missing or malformed");
    };
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let refused = flat_error(StatusCode::UPGRADE_REQUIRED, "VALIDATION_ERROR", "only WebSocket version 13");
        return ([(header::SEC_WEBSOCKET_VERSION, "13")], refused).into_response();
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && !door.parts.config.allowed_origins.iter().any(|allowed| origin == allowed.as_str())
    {
        door.parts.metrics.refused(Refused::Origin);
        return flat_error(StatusCode::FORBIDDEN, "FORBIDDEN", "this web page may not connect");
    }
    let format = if offers(headers, BINARY) { Format::Binary } else { Format::Json };
    let accept = derive_accept_key(key.as_bytes());
    let address = door.client_address(headers);
    let upgrading = hyper::upgrade::on(&mut request);
    let parts = door.parts.clone();
    let Some(admitted) = door.take_place() else {
        return flat_error(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", "this connection was upgraded before");
    };
    door.parts.context.lifecycle.spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        match bare(upgraded) {
            Some((stream, read)) => connection::run(parts, stream, read, format, Client { address, admitted }).await,
            None => tracing::error!("an upgraded connection is no stream of ours"),
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if format == Format::Binary {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BINARY));
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

fn is_upgrade(headers: &HeaderMap) -> bool {
    let lists = |name, wanted: &str| words(headers, name).any(|word| word.eq_ignore_ascii_case(wanted));
    lists(header::CONNECTION, "upgrade") && lists(header::UPGRADE, "websocket")
}

fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    words(headers, header::SEC_WEBSOCKET_PROTOCOL).any(|word| word == protocol)
}

/// What this path is, for people who look.
fn description() -> Response {
    Json(json!({
        "service": "waystation",
        "protocol": "daemon WebSocket, version 1",
        "connect": "send a WebSocket upgrade to this path, then an auth frame",
        "subprotocols": [BINARY],
    }))
    .into_response()
}
