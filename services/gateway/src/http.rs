//! The public listener: HTTP until a request becomes a WebSocket.

mod bearer;
mod body;
mod conductors;
mod events;
mod federation;
mod login;
mod messages;
mod origins;
mod peers;
mod profile;
mod registration;
mod report;
mod sessions;
mod upgrade;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, request};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;
use waystation_domain::policy::RestCall;

use crate::Parts;
use crate::admission::Unauthenticated;
use crate::metrics::Refused;
pub use origins::{OriginError, WebOrigin};

/// After a failure to accept, such as no more file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Unacknowledged bytes for so long mean that the other end is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes. A bearer has at most 4 KiB.
const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;

/// What every request of a connection knows of it.
#[derive(Clone)]
struct Origin {
    address: IpAddr,
    /// Its place among those that have not logged in, until a socket takes it over.
    place: Arc<Mutex<Option<Unauthenticated>>>,
}

impl Origin {
    fn new(address: IpAddr, admitted: Unauthenticated) -> Origin {
        Origin { address, place: Arc::new(Mutex::new(Some(admitted))) }
    }
}

/// Accepts connections until the process stops.
pub(crate) fn serve(listener: TcpListener, parts: Parts) {
    let lifecycle = parts.context.lifecycle.clone();
    lifecycle.clone().spawn_vital("gateway-public", async move {
        let routes = routes(&parts);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = lifecycle.stopping() => return Ok::<(), std::io::Error>(()),
            };
            match accepted {
                Ok((stream, peer)) => admit(&parts, &routes, stream, peer),
                Err(error) => {
                    tracing::warn!("cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    });
}

fn admit(parts: &Parts, routes: &Router, stream: TcpStream, peer: SocketAddr) {
    let Some(admitted) = parts.admission.admit(peer.ip()) else {
        return parts.metrics.refused(Refused::TooMany);
    };
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT)));
    if let Err(error) = tuned {
        tracing::debug!("cannot tune a socket: {error}");
    }
    let (of_connection, routes) = (parts.clone(), routes.clone());
    let lifecycle = parts.context.lifecycle.clone();
    parts.context.lifecycle.spawn(async move {
        tokio::select! {
            () = speak_http(of_connection, routes, stream, Origin::new(peer.ip(), admitted)) => {}
            () = lifecycle.stopping() => {}
        }
    });
}

async fn speak_http(parts: Parts, routes: Router, stream: TcpStream, origin: Origin) {
    let mut first = [0; 1];
    let spoke = tokio::time::timeout(parts.config.limits.first_byte, stream.peek(&mut first)).await;
    if !matches!(spoke, Ok(Ok(1))) {
        return parts.metrics.refused(Refused::Silent);
    }
    let head = parts.config.limits.head;
    match &parts.config.tls {
        None => serve_http(stream, routes, origin, head).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => serve_http(Box::new(stream), routes, origin, head).await,
            Err(error) => {
                tracing::debug!("no handshake: {error}");
                parts.metrics.refused(Refused::Handshake);
            }
        },
    }
}

async fn serve_http<S>(stream: S, routes: Router, origin: Origin, head: Duration)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(origin.clone());
        routes.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!("a connection ended: {error}");
    }
}

/// Made once: most connections ask for one thing and then are sockets.
fn routes(parts: &Parts) -> Router {
    let mut paths = vec![crate::PATH, "/api/daemon/ws", &parts.config.path];
    paths.sort_unstable();
    paths.dedup();
    let sockets = Router::new()
        .route(crate::CONDUCTOR_PATH, get(upgrade::conductor_socket))
        .route(crate::PEER_PATH, get(peers::socket));
    let sockets = paths.into_iter().fold(sockets, |all, path| all.route(path, get(upgrade::daemon_socket)));
    let calls = RestCall::ALL.iter().fold(sockets, |all, call| all.route(call.path(), handler(*call)));
    let calls = calls.method_not_allowed_fallback(body::wrong_method).fallback(body::not_found);
    let calls = calls.layer(origins::sharing(&parts.config.allowed_origins));
    calls.layer(from_fn_with_state(parts.clone(), origins::guard)).with_state(parts.clone())
}

/// Each call of the policy has its handler; who may use it the handler asks of the same row.
fn handler(call: RestCall) -> MethodRouter<Parts> {
    match call {
        RestCall::LogIn => post(login::log_in),
        RestCall::Refresh => post(login::refresh),
        RestCall::Heartbeat => post(report::heartbeat),
        RestCall::SetStatus => put(report::set_status),
        RestCall::SetPresence => put(report::set_presence),
        RestCall::GetConfig => get(profile::config),
        RestCall::Register => post(registration::register),
        RestCall::Unregister => post(registration::unregister),
        RestCall::ListSessions => get(sessions::list),
        RestCall::EndSessions => delete(sessions::end),
        RestCall::GetEvents => get(events::receive),
        RestCall::AckEvents => delete(events::acknowledge),
        RestCall::SendMessage => post(messages::send),
        RestCall::ListMessages => get(messages::list),
        RestCall::GetConductorStatus => get(conductors::status),
        RestCall::GetHealth => get(profile::health),
        RestCall::ListFederation => get(federation::orchestrators),
        RestCall::Delegate => post(federation::delegate),
        RestCall::GetDelegation => get(federation::status),
        RestCall::GetFederation => get(federation::cluster),
        RestCall::GetKeys => get(profile::keys),
    }
}

/// What a request finds.
struct Door {
    parts: Parts,
    origin: Origin,
}

impl FromRequestParts<Parts> for Door {
    type Rejection = body::Refusal;

    async fn from_request_parts(request: &mut request::Parts, parts: &Parts) -> Result<Door, body::Refusal> {
        let origin = request.extensions.get::<Origin>().cloned();
        let origin = origin.ok_or_else(|| body::invalid("the request came by no connection"))?;
        Ok(Door { parts: parts.clone(), origin })
    }
}

/// What proxies add on the way.
const FORWARDED_FOR: &str = "x-forwarded-for";

impl Door {
    /// Takes the connection's place; `None` if it was taken before.
    fn take_place(&self) -> Option<Unauthenticated> {
        self.origin.place.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Where the client is: where the connection comes from, unless that is a proxy that is trusted to say more.
    fn client_address(&self, headers: &HeaderMap) -> IpAddr {
        let is_proxy =
            |address: &IpAddr| self.parts.config.trusted_proxies.iter().any(|network| network.contains(*address));
        let forwarded = headers.get_all(FORWARDED_FOR).into_iter().filter_map(|value| value.to_str().ok());
        let mut told: Vec<&str> = forwarded.flat_map(|value| value.split(',')).collect();
        let mut address = self.origin.address;
        // From the nearest on; what stands before an address that is not trusted is only its word.
        while is_proxy(&address)
            && let Some(before) = told.pop().and_then(|text| text.trim().parse().ok())
        {
            address = before;
        }
        address
    }
}
