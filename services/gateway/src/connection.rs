//! One WebSocket from its upgrade to its end.

pub(crate) mod conductor;
mod line;
mod live;
mod outlet;
pub(crate) mod peer;
mod poll;
mod progress;
mod renewal;
mod rest;
mod socket;
mod stall;
mod stream;
mod traced;
mod viewer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use waystation_domain::{
    DaemonId, FeedPoint, InstanceId, OrchestratorId, ResumePoint, Scope, ScopeSet, SessionId, Subscriptions, Window,
    allows_address,
};
use waystation_proto::common::v1::ActivityKind;
use waystation_rpc::About;
use waystation_runtime::Accepted;
use waystation_token::{Claims, TokenError};
use waystation_wire::{
    AuthRejection, AuthRequest, ClientProfile, CloseCode, Handshake, HandshakeStep, Opening, ServerFrame, Session,
};

use crate::admission::Unauthenticated;
use crate::failures::TooManyFailures;
use crate::registry::Registration;
use crate::upstream::{OpenAnswer, OpenFailed, OpenRequest, SessionKey};
use crate::{Parts, metrics};
use live::Live;
use outlet::{Incoming, Outlet as _};
pub(crate) use poll::{Poll, Polled};
pub(crate) use rest::{Rest, RestSessions, open_poll, open_stream};
pub(crate) use socket::Format;
use socket::Socket;
pub(crate) use viewer::{Visitor, visit_once, visit_stream};

/// How long a close is waited for.
const CLOSING: Duration = Duration::from_secs(2);

/// A login that a client asks for.
struct Login {
    frame: Option<String>,
    auth: Box<AuthRequest>,
}

/// A login that was verified.
struct Verified {
    login: Login,
    claims: Arc<Claims>,
}

/// Who connects.
pub(crate) struct Client {
    /// Where it is.
    pub(crate) address: IpAddr,
    /// Its place among those that have not logged in.
    pub(crate) admitted: Unauthenticated,
}

/// Runs until the socket or the session ends.
pub(crate) async fn run(parts: Parts, stream: Accepted, read: Vec<u8>, format: Format, client: Client) {
    let Client { address, admitted } = client;
    parts.metrics.connections.inc();
    parts.activities.tell(ActivityKind::ConnectionNew, About::default(), |_| {});
    let mut socket = Box::pin(Socket::new(stream, read, format, &parts)).await;
    // What is needed only at the login is given back before the long, idle life of the connection.
    let code = match Box::pin(log_in(&parts, &mut socket, address)).await {
        Ok(live) => {
            drop(admitted);
            parts.metrics.sessions.inc();
            let (code, key) = live.run(&mut socket).await;
            parts.metrics.sessions.dec();
            tell_closed(&parts, key.about(), code);
            code
        }
        Err(code) => {
            if let Some(code) = code {
                Box::pin(socket.close(code)).await;
            }
            tell_closed(&parts, About::default(), code);
            code
        }
    };
    parts.metrics.closed(code);
    parts.metrics.connections.dec();
}

fn tell_closed(parts: &Parts, about: About<'_>, code: Option<CloseCode>) {
    let detail = metrics::name_of(code);
    parts.activities.tell(ActivityKind::ConnectionClosed, about, |closed| closed.detail = detail.into());
}

fn tell_failed(parts: &Parts, orchestrator: &OrchestratorId, daemon: &DaemonId, detail: &str) {
    let about = About { orchestrator: orchestrator.as_str(), daemon: daemon.as_str(), ..About::default() };
    parts.activities.tell(ActivityKind::AuthFailed, about, |failed| failed.detail = detail.into());
}

/// From the first frame to an open session. An error is the code to close with, if it is not closed yet.
async fn log_in(parts: &Parts, socket: &mut Socket, address: IpAddr) -> Result<Box<Live>, Option<CloseCode>> {
    let login = await_auth(parts, socket).await?;
    let reply_to = login.frame.clone();
    if let Err(TooManyFailures { retry_after, current, most }) = parts.failures.check(address) {
        socket.send(&ServerFrame::RateLimit { reply_to, action: "auth", retry_after, current, most }).await;
        return Err(Some(CloseCode::RateLimited));
    }
    let rejected = |rejection: AuthRejection, message: &str| ServerFrame::AuthError {
        reply_to: reply_to.clone(),
        rejection,
        message: message.to_owned(),
    };
    let verified = match verify(parts, &login, address) {
        Ok(claims) => Verified { login, claims },
        Err((rejection, message)) => {
            if rejection == AuthRejection::AuthFailed {
                parts.failures.note(address);
            }
            tell_failed(parts, &login.auth.orchestrator, &login.auth.daemon, rejection.name());
            socket.send(&rejected(rejection, message)).await;
            return Err(Some(rejection.close_code()));
        }
    };
    let (orchestrator, daemon) = (verified.login.auth.orchestrator.clone(), verified.login.auth.daemon.clone());
    match open(parts, verified, address).await {
        Ok(live) => {
            let about = live.key().about();
            parts.activities.tell(ActivityKind::AuthSucceeded, about, |_| {});
            parts.activities.tell(ActivityKind::ConnectionAuthenticated, about, |_| {});
            Ok(live)
        }
        Err(OpenFailed::Rejected(rejection)) => {
            let message = match rejection {
                AuthRejection::MaxConnections => "five daemons of this orchestrator are connected",
                AuthRejection::TokenExpired => "the token has expired",
                AuthRejection::AuthFailed | AuthRejection::InsufficientScope => "the login is not valid",
            };
            tell_failed(parts, &orchestrator, &daemon, rejection.name());
            socket.send(&rejected(rejection, message)).await;
            Err(Some(rejection.close_code()))
        }
        Err(
            failed @ (OpenFailed::DuplicateIdentity
            | OpenFailed::Superseded
            | OpenFailed::Unavailable
            | OpenFailed::Draining),
        ) => Err(Some(failed.close_code())),
    }
}

async fn await_auth(parts: &Parts, socket: &mut Socket) -> Result<Login, Option<CloseCode>> {
    let deadline = parts.context.clock.instant() + parts.config.limits.auth;
    let mut handshake = Handshake::new(deadline);
    loop {
        let incoming = tokio::select! {
            incoming = socket.next(true) => incoming,
            () = tokio::time::sleep_until(deadline.into()) => return Err(Some(CloseCode::AuthTimeout)),
            () = parts.context.lifecycle.stopping() => return Err(Some(CloseCode::Restarting)),
        };
        let received = match incoming {
            Incoming::Frame(received) => received,
            Incoming::Alive | Incoming::Flushed => continue,
            Incoming::Broken(code) => return Err(code),
        };
        match handshake.handle_frame(received) {
            HandshakeStep::Reply(frame) => socket.send(&frame).await,
            HandshakeStep::Close(frame, code) => {
                if let Some(frame) = frame {
                    socket.send(&frame).await;
                }
                return Err(Some(code));
            }
            HandshakeStep::Login(frame, auth) => return Ok(Login { frame, auth }),
        }
    }
}

/// The token must be valid, a daemon's, and say what the frame says.
fn verify(parts: &Parts, login: &Login, address: IpAddr) -> Result<Arc<Claims>, (AuthRejection, &'static str)> {
    let verified = parts.verifier.verify(&login.auth.access_token, parts.context.clock.now());
    let claims = verified.map_err(|error| match error {
        TokenError::Expired => (AuthRejection::TokenExpired, "the token has expired"),
        TokenError::Revoked => (AuthRejection::AuthFailed, "the token has been revoked"),
        TokenError::Invalid => (AuthRejection::AuthFailed, "the token is not valid"),
    })?;
    let daemon = claims.as_daemon().ok_or((AuthRejection::AuthFailed, "the token is not a daemon's"))?;
    if daemon.orchestrator != login.auth.orchestrator {
        return Err((AuthRejection::AuthFailed, "the token is another orchestrator's"));
    }
    if daemon.daemon.as_ref().is_some_and(|bound| *bound != login.auth.daemon) {
        return Err((AuthRejection::AuthFailed, "the token is another daemon's"));
    }
    if !allows_address(&claims.networks, address) {
        return Err((AuthRejection::AuthFailed, "the token may not be used from this address"));
    }
    let receives = [Scope::MessagesRead, Scope::EventsRead, Scope::ChannelsRead, Scope::PresenceRead];
    if !receives.into_iter().any(|scope| claims.scopes.allows(scope)) {
        return Err((AuthRejection::InsufficientScope, "the token allows to receive nothing"));
    }
    Ok(claims)
}

async fn open(parts: &Parts, verified: Verified, address: IpAddr) -> Result<Box<Live>, OpenFailed> {
    let Verified { login: Login { frame, auth }, claims } = verified;
    let subscriptions = match &auth.subscriptions {
        None => None,
        Some(patterns) => {
            let all = Subscriptions::default().subscribe(patterns, &Default::default());
            Some(all.map_err(|_| OpenFailed::Rejected(AuthRejection::AuthFailed))?)
        }
    };
    let newcomer = Newcomer {
        claims,
        token: SecretString::from(auth.access_token.as_str()),
        orchestrator: auth.orchestrator,
        daemon: auth.daemon,
        instance: auth.instance,
        window: auth.window,
        resume: auth.resume,
        resume_feed: auth.resume_feed,
        subscriptions,
        only_here: None,
        auth_frame: frame,
        announces_client: auth.announces_client,
        knows_gaps: auth.knows_gaps,
        address,
    };
    newcomer.open(parts).await
}

/// Whoever wants a session, its token verified.
struct Newcomer {
    claims: Arc<Claims>,
    token: SecretString,
    orchestrator: OrchestratorId,
    daemon: DaemonId,
    instance: Option<InstanceId>,
    window: Window,
    resume: Option<ResumePoint>,
    resume_feed: Option<FeedPoint>,
    /// Replaces the daemon's.
    subscriptions: Option<Subscriptions>,
    /// Takes the place of the daemon's for this session.
    only_here: Option<Subscriptions>,
    auth_frame: Option<String>,
    announces_client: bool,
    knows_gaps: bool,
    address: IpAddr,
}

impl Newcomer {
    async fn open(self, parts: &Parts) -> Result<Box<Live>, OpenFailed> {
        // New connections are not admitted then, but one that stood before may ask for a session now.
        if parts.lease.is_draining() {
            return Err(OpenFailed::Draining);
        }
        let session: SessionId = parts.context.entropy.id().parse().map_err(|_| OpenFailed::Unavailable)?;
        // Registered first: a push may come before the answer.
        let registration = parts.registry.register(session.clone(), self.claims.clone(), self.token.clone());
        let request = OpenRequest {
            session: session.clone(),
            token: self.token,
            daemon: self.daemon,
            instance: self.instance,
            window: self.window,
            resume: self.resume,
            subscriptions: self.subscriptions,
            address: self.address,
            born: 0,
        };
        let term = parts.lease.term();
        let answer = parts.upstream.open(parts.lease.incarnation(), request.clone()).await?;
        let OpenAnswer { organization, born, mut opening } = answer;
        if let Some(only_here) = self.only_here {
            opening.subscriptions = only_here;
        }
        let request = OpenRequest { born, ..request };
        let profile = ClientProfile {
            session: session.clone(),
            auth_frame: self.auth_frame,
            resume: self.resume,
            resume_feed: self.resume_feed,
            announces_client: self.announces_client,
            knows_gaps: self.knows_gaps,
        };
        let key = SessionKey { organization, orchestrator: self.orchestrator, session };
        Ok(live(parts, profile, opening, self.claims, Opened { key, request, registration, term }))
    }
}

/// What an open session holds.
struct Opened {
    key: SessionKey,
    request: OpenRequest,
    registration: Registration,
    /// The gateway's term in which it was opened.
    term: u64,
}

fn live(parts: &Parts, profile: ClientProfile, opening: Opening, claims: Arc<Claims>, opened: Opened) -> Box<Live> {
    let scopes: ScopeSet = claims.scopes;
    let now = parts.context.clock.instant();
    let session = Session::new(parts.config.session, profile, opening, scopes, now);
    let left = claims.expires.since(parts.context.clock.now());
    Box::new(Live::new(parts.clone(), session, opened, now + left))
}
