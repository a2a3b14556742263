//! The public listener: HTTP until a request becomes a WebSocket.

mod login;
mod upgrade;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::Parts;
use crate::admission::Unauthenticated;
use crate::metrics::Refused;

/// After a failure to accept, such as no more file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Unacknowledged bytes for so long mean that the other end is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes. A bearer has at most 4 KiB.
const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
const HEADERS: usize = 64;

/// A connection's place among those that have not logged in, until a socket takes it over.
#[derive(Clone)]
pub(crate) struct Peer(Arc<Mutex<Option<Unauthenticated>>>);

impl Peer {
    /// Takes the place; `None` if it was taken before.
    fn take(&self) -> Option<Unauthenticated> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Accepts connections until the process stops.
pub(crate) fn serve(listener: TcpListener, parts: Parts) {
    let lifecycle = parts.context.lifecycle.clone();
    lifecycle.clone().spawn_vital("gateway-public", async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = lifecycle.stopping() => return Ok::<(), std::io::Error>(()),
            };
            match accepted {
                Ok((stream, peer)) => admit(&parts, stream, peer),
                Err(error) => {
                    tracing::warn!("cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    });
}

fn admit(parts: &Parts, stream: TcpStream, peer: SocketAddr) {
    let Some(admitted) = parts.admission.admit(peer.ip()) else {
        return parts.metrics.refused(Refused::TooMany);
    };
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT)));
    if let Err(error) = tuned {
        tracing::debug!("cannot tune a socket: {error}");
    }
    let of_connection = parts.clone();
    let lifecycle = parts.context.lifecycle.clone();
    parts.context.lifecycle.spawn(async move {
        tokio::select! {
            () = speak_http(of_connection, stream, admitted) => {}
            () = lifecycle.stopping() => {}
        }
    });
}

async fn speak_http(parts: Parts, stream: TcpStream, admitted: Unauthenticated) {
    let mut first = [0; 1];
    let spoke = tokio::time::timeout(parts.config.limits.first_byte, stream.peek(&mut first)).await;
    if !matches!(spoke, Ok(Ok(1))) {
        return parts.metrics.refused(Refused::Silent);
    }
    let peer = Peer(Arc::new(Mutex::new(Some(admitted))));
    let head = parts.config.limits.head;
    let service = TowerToHyperService::new(routes(parts, peer));
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

fn routes(parts: Parts, peer: Peer) -> Router {
    let mut paths = vec![crate::PATH, "/api/daemon/ws", &parts.config.path];
    paths.sort_unstable();
    paths.dedup();
    let sockets = paths.into_iter().fold(Router::new(), |all, path| all.route(path, get(upgrade::daemon_socket)));
    sockets
        .route("/api/daemon/auth", post(login::log_in))
        .route("/api/daemon/auth/refresh", post(login::refresh))
        .fallback(login::not_found)
        .with_state(Door { parts, peer })
}

/// What a request finds.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) parts: Parts,
    pub(crate) peer: Peer,
}
