//! gateway: ends the connections of daemons. The only service that faces the internet.
//!
//! **Invariants:** holds nothing that a crash may lose; delivers only while its lease holds; all rules of
//! a session are in `waystation-wire`, the gateway performs what they decide.

mod admission;
mod api;
mod connection;
mod deliver;
mod drain;
mod failures;
mod feeds;
mod http;
mod lease;
mod metrics;
pub mod process;
mod registry;
mod upstream;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use waystation_domain::{Network, OrganizationId, Timestamp};
use waystation_proto::gateway::v1::gateway_service_server::GatewayServiceServer;
use waystation_rpc::{Activities, Balanced, Fault, Gate, GrpcServer, KeyKeeper, ServiceLogin, Services};
use waystation_runtime::{Context, Tls};
use waystation_telemetry::metrics::Registry as MetricsRegistry;
use waystation_token::Verifier;
use waystation_wire::SessionConfig;

pub use http::{OriginError, WebOrigin};

/// Where daemons connect.
pub const PATH: &str = "/daemon/ws";

/// Where clients of the conductor's dialect connect.
pub const CONDUCTOR_PATH: &str = "/ws";

/// Where peers of the older federation connect.
pub const PEER_PATH: &str = "/federation";

/// What gateway runs with.
#[derive(Clone)]
pub struct Config {
    /// Where auth is, as `http://127.0.0.1:8783`; a name stands for all replicas that it resolves to.
    pub auth: Vec<String>,
    /// Where routers are, likewise.
    pub routers: Vec<String>,
    /// Where federation is, likewise; empty: the cell has none.
    pub federation: Vec<String>,
    /// URI under which routers dial this gateway's gRPC listener.
    pub advertised: String,
    /// Secret of the service `gateway`.
    pub secret: SecretString,
    /// The shared secret of the older platform (DAEMON_JWT_SECRET).
    pub hs256: Option<SecretString>,
    /// Whether callers may ask for the contract.
    pub reflection: bool,
    /// Where daemons connect, beside [`PATH`] and `/api/daemon/ws`.
    pub path: String,
    /// Web pages that may connect; without an Origin it is a daemon.
    pub allowed_origins: Vec<WebOrigin>,
    /// Whose feed anybody may watch by the conductor's dialect, without a token; usually nobody's. Routers must name the
    /// same.
    pub anonymous_organization: Option<OrganizationId>,
    /// Towards daemons; `None`: in the clear, behind something that ends TLS.
    pub tls: Option<Tls>,
    /// Proxies before this gateway: what they say of where a client is, in `X-Forwarded-For`, is believed.
    pub trusted_proxies: Vec<Network>,
    /// Without a word from auth for so long nothing is delivered: what was revoked in the meantime is not known.
    /// `None`: it is delivered all the same.
    pub revocation_silence: Option<Duration>,
    /// Numbers of sessions.
    pub session: SessionConfig,
    /// Numbers of connections.
    pub limits: Limits,
}

/// See [`Config::revocation_silence`]; unless configured otherwise.
pub const REVOCATION_SILENCE: Duration = Duration::from_secs(30);

/// Numbers of connections (security, rows 7 to 9).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until the first byte.
    pub first_byte: Duration,
    /// Until the head of a request is complete.
    pub head: Duration,
    /// Until a body is complete.
    pub body: Duration,
    /// Largest body, in bytes.
    pub body_bytes: usize,
    /// Until the login on a socket.
    pub auth: Duration,
    /// Largest frame of a client, in bytes.
    pub frame_bytes: usize,
    /// A write that makes no progress for so long ends the connection.
    pub write_stall: Duration,
    /// Connections that have not logged in: of all, and of one address (/64 for IPv6).
    pub unauthenticated: usize,
    /// See above.
    pub unauthenticated_per_address: usize,
    /// Logins that may fail in a minute: in all, and from one address (/64 for IPv6).
    pub failed_logins: u32,
    /// See above.
    pub failed_logins_per_address: u32,
    /// Pings, pongs and empty frames of a client in ten seconds.
    pub control_frames: u32,
    /// Clients of the conductor's dialect.
    pub conductor_clients: usize,
    /// When stopping, clients are sent elsewhere one after the other within this time. With 20 s a twentieth of all
    /// clients moves in a second at most, however many gateways stop at a time.
    pub drain_spread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            first_byte: Duration::from_secs(5),
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            body_bytes: 64 * 1024,
            auth: Duration::from_secs(10),
            frame_bytes: 256 * 1024,
            write_stall: Duration::from_secs(10),
            unauthenticated: 8_192,
            unauthenticated_per_address: 2_048,
            failed_logins: 10_000,
            failed_logins_per_address: 100,
            control_frames: 100,
            conductor_clients: 1_000,
            drain_spread: Duration::from_secs(20),
        }
    }
}

/// Bound sockets.
pub struct Listeners {
    /// For daemons.
    pub public: TcpListener,
    /// For gRPC.
    pub grpc: TcpListener,
    /// For the admin page.
    pub admin: TcpListener,
}

/// What every connection shares. Cheap to clone.
#[derive(Clone)]
struct Parts(Arc<Shared>);

impl Deref for Parts {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

struct Shared {
    config: Config,
    registry: registry::Registry,
    upstream: upstream::Upstream,
    tasks: upstream::Tasks,
    feeds: feeds::Feeds,
    rest_sessions: connection::RestSessions,
    conductors: connection::conductor::Conductors,
    lease: lease::Lease,
    verifier: Verifier,
    admission: admission::Admission,
    failures: failures::Failures,
    metrics: metrics::Metrics,
    activities: Activities,
    started: Timestamp,
    context: Context,
}

/// A running gateway.
pub struct Gateway {
    parts: Parts,
}

/// Starts gateway. Resolves when it serves and its lease holds.
///
/// # Errors
/// If an address is not acceptable.
pub async fn start(config: Config, listeners: Listeners, context: &Context) -> Result<Gateway, Fault> {
    let mut metrics_registry = MetricsRegistry::default();
    let metrics = metrics::Metrics::register(&mut metrics_registry);
    // First of all: a gateway that waits for auth or routers lives.
    context.serve_admin(listeners.admin, metrics_registry);
    let auth = Balanced::new(&config.auth, context).await?;
    let login = ServiceLogin { service: "gateway", secret: config.secret.clone() };
    let bearer = login.keep(auth.clone(), context).await;
    let verifier = Verifier::default();
    let registry = registry::Registry::default();
    let keeper = KeyKeeper {
        auth: auth.clone(),
        bearer: bearer.clone(),
        verifier: verifier.clone(),
        hs256: config.hs256.clone(),
    };
    let (of_revocations, judge) = (registry.clone(), verifier.clone());
    let heard = keeper.keep(context, move |_| of_revocations.end_revoked(&judge)).await;

    let routers = Balanced::new(&config.routers, context).await?;
    let upstream = upstream::Upstream::new(routers, auth, bearer, context);
    let federation = match &config.federation[..] {
        [] => None,
        addresses => Some(Balanced::new(addresses, context).await?),
    };

    let lease = lease::Lease::new(context, heard, config.revocation_silence);
    let feeds = feeds::Feeds::start(upstream.feeds(&lease, context), context);
    let gate = Gate::new(verifier.clone(), context.clock);
    let parts = Parts(Arc::new(Shared {
        admission: admission::Admission::new(config.limits, config.trusted_proxies.clone()),
        failures: failures::Failures::new(config.limits),
        config,
        registry,
        upstream,
        tasks: upstream::Tasks::new(federation),
        feeds,
        rest_sessions: connection::RestSessions::default(),
        conductors: connection::conductor::Conductors::default(),
        lease,
        verifier,
        metrics,
        activities: Activities::new(context.clock),
        started: context.clock.now(),
        context: context.clone(),
    }));
    let services = Services::default().with(GatewayServiceServer::new(api::GatewayApi(parts.clone())));
    let server = GrpcServer { gate, reflection: parts.config.reflection };
    server.serve("gateway-grpc", listeners.grpc, services, context).await;
    lease::keep(&parts).await;
    http::serve(listeners.public, parts.clone());
    Ok(Gateway { parts })
}

impl Gateway {
    /// Tells daemons when to come back, waits for them to go, and stops, each at most for `grace`.
    /// Answers whether everything has finished.
    pub async fn stop(self, grace: Duration) -> bool {
        drain::drain(&self.parts, grace).await;
        let lifecycle = self.parts.context.lifecycle.clone();
        // Calls are joined for as long as anybody could make one.
        drop(self.parts);
        lifecycle.finish(grace).await
    }
}
