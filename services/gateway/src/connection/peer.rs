//! A peer of the older federation: a session of its orchestrator over a WebSocket that speaks another dialect.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use secrecy::SecretString;
use waystation_domain::{Pattern, Subscriptions, Window};
use waystation_proto::common::v1::ActivityKind;
use waystation_rpc::About;
use waystation_runtime::{Accepted, Clock};
use waystation_token::{Claims, DaemonClaims};
use waystation_wire::{ClientFrame, CloseCode, FrameError, Peer, PeerSaid, PeerTask, Received, ServerFrame, TaskCall};

use super::outlet::{Incoming, Outlet};
use super::rest::daemon_of;
use super::socket::{Format, Raw, Socket};
use super::{Newcomer, tell_closed};
use crate::Parts;

/// What a peer hears of the feed.
const BROADCASTS: &str = "broadcast.*";

/// A peer that has shown who it is.
pub(crate) struct PeerCaller {
    pub(crate) claims: Arc<Claims>,
    pub(crate) token: SecretString,
    pub(crate) daemon: DaemonClaims,
    pub(crate) address: IpAddr,
    /// What it works on from an earlier connection.
    pub(crate) tasks: Vec<PeerTask>,
    /// What it can do, if that is to be said.
    pub(crate) registration: Option<TaskCall>,
}

/// Runs until the socket or the session ends.
pub(crate) async fn run(parts: Parts, stream: Accepted, read: Vec<u8>, caller: PeerCaller) {
    parts.metrics.connections.inc();
    parts.activities.tell(ActivityKind::ConnectionNew, About::default(), |_| {});
    let socket = Socket::new(stream, read, Format::Json, &parts).await;
    let peer = Peer::new(caller.daemon.orchestrator.clone(), caller.tasks);
    let registration = caller.registration.map(|call| Received { id: None, frame: ClientFrame::Task(Box::new(call)) });
    let mut outlet =
        PeerSocket { socket, peer, read: registration.into_iter().map(Ok).collect(), clock: parts.context.clock };
    let newcomer = Newcomer {
        claims: caller.claims,
        token: caller.token,
        daemon: daemon_of(&caller.daemon),
        orchestrator: caller.daemon.orchestrator,
        instance: None,
        window: Window::default(),
        resume: None,
        resume_feed: None,
        subscriptions: None,
        only_here: Some(broadcasts()),
        auth_frame: None,
        announces_client: true,
        knows_gaps: true,
        address: caller.address,
    };
    let code = match newcomer.open(&parts).await {
        Ok(live) => {
            parts.metrics.sessions.inc();
            parts.activities.tell(ActivityKind::ConnectionAuthenticated, live.key().about(), |_| {});
            let (code, key) = live.run(&mut outlet).await;
            parts.metrics.sessions.dec();
            tell_closed(&parts, key.about(), code);
            code
        }
        Err(failed) => {
            let code = failed.close_code();
            outlet.close(code).await;
            tell_closed(&parts, About::default(), Some(code));
            Some(code)
        }
    };
    parts.metrics.closed(code);
    parts.metrics.connections.dec();
}

fn broadcasts() -> Subscriptions {
    let pattern = BROADCASTS.parse::<Pattern>().ok();
    let wanted = Subscriptions::default().subscribe(pattern.as_slice(), &Default::default());
    wanted.unwrap_or_default()
}

struct PeerSocket {
    socket: Socket,
    peer: Peer,
    /// Read, and not asked for yet.
    read: VecDeque<Result<Received, FrameError>>,
    clock: Clock,
}

impl PeerSocket {
    fn take(&mut self, raw: Raw) -> Incoming {
        match raw {
            Raw::Text(text) => match self.peer.handle_text(&text) {
                Ok(PeerSaid::Frames(frames)) => {
                    self.read.extend(frames.into_iter().map(Ok));
                    self.read.pop_front().map_or(Incoming::Alive, Incoming::Frame)
                }
                Ok(PeerSaid::Alive) => Incoming::Alive,
                Err(error) => Incoming::Frame(Err(error)),
            },
            Raw::Binary(_) => {
                let message = "peers speak JSON text frames".to_owned();
                Incoming::Frame(Err(FrameError { reply_to: None, message, field: None }))
            }
            Raw::Alive => Incoming::Alive,
            Raw::Pong => {
                self.peer.handle_pong();
                self.ping();
                Incoming::Alive
            }
            Raw::Flushed => Incoming::Flushed,
            Raw::Broken(code) => Incoming::Broken(code),
        }
    }

    fn ping(&mut self) {
        if self.peer.wants_ping() {
            self.socket.queue_ping();
        }
    }
}

impl Outlet for PeerSocket {
    fn has_room(&self, frame: &ServerFrame) -> bool {
        self.socket.has_room(frame)
    }

    fn queue(&mut self, frame: &ServerFrame) {
        if let Some(text) = self.peer.tell(frame, self.clock.now()) {
            self.socket.queue_text(|out| out.extend_from_slice(text.as_bytes()));
        }
        self.ping();
    }

    async fn flush(&mut self) {
        self.socket.flush().await;
    }

    async fn next(&mut self, read: bool) -> Incoming {
        if read {
            let follows = self.peer.next_frame().map(Ok);
            if let Some(frame) = self.read.pop_front().or(follows) {
                return Incoming::Frame(frame);
            }
        }
        let raw = self.socket.next_raw(read).await;
        self.take(raw)
    }

    fn is_dirty(&self) -> bool {
        self.socket.is_dirty()
    }

    fn written(&self) -> u64 {
        self.socket.written()
    }

    fn sent(&self) -> u64 {
        self.socket.sent()
    }

    async fn close(&mut self, code: CloseCode) {
        self.socket.close(code).await;
    }
}
