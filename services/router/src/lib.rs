//! router: accepts messages, knows who is connected where, and pushes hints to gateways.
//!
//! **Invariant:** nothing that a crash may lose: what is not in the store was not answered.

mod activity;
mod announcer;
mod appender;
mod batch;
mod bells;
mod bridge;
mod directory;
mod feeds;
mod gateways;
mod growth;
mod health;
mod metrics;
mod news;
mod operator;
mod pipeline;
mod presence;
pub mod process;
mod quotas;
mod redrive;
mod request;
mod routing;
mod sessions;
mod stats;
mod sweeper;
mod traces;
mod views;

use std::sync::Arc;

use secrecy::SecretString;
use tokio::net::TcpListener;
use waystation_domain::OrganizationId;
use waystation_proto::router::v1::router_service_server::RouterServiceServer;
use waystation_proto::router::v1::session_service_server::SessionServiceServer;
use waystation_rpc::{Activities, Balanced, Fault, Gate, GrpcServer, KeyKeeper, ServiceLogin, Services};
use waystation_runtime::Context;
use waystation_store::{Channels, Store};
use waystation_telemetry::metrics::Registry;
use waystation_token::Verifier;

/// What router runs with.
pub struct Config {
    /// Where auth is, as `http://127.0.0.1:8783`; a name stands for all replicas that it resolves to.
    pub auth: Vec<String>,
    /// Secret of the service `router`.
    pub secret: SecretString,
    /// The shared secret of the older platform (DAEMON_JWT_SECRET).
    pub hs256: Option<SecretString>,
    /// Whether callers may ask for the contract.
    pub reflection: bool,
    /// Daemons of an orchestrator that may be connected.
    pub sessions_per_orchestrator: usize,
    /// Messages that an organization may send in a second, unless it has another limit; `None`: without limit.
    pub messages_per_second: Option<u32>,
    /// Whose feed anybody may watch by the conductor's dialect, without a token; usually nobody's.
    pub anonymous_organization: Option<OrganizationId>,
    /// On whose feed is told how the router's own streams to gateways fare; usually nobody's.
    pub operations_organization: Option<OrganizationId>,
    /// Where publishers that speak only Redis are heard; usually nowhere.
    pub bridge: Option<Channels>,
}

/// Bound sockets.
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For the admin page.
    pub admin: TcpListener,
}

/// What every part of the router shares.
#[derive(Clone)]
struct Parts {
    store: Store,
    directory: directory::Directory,
    gateways: gateways::Gateways,
    appender: appender::Appender,
    announcer: announcer::Announcer,
    publisher: feeds::Publisher,
    feed_hub: feeds::FeedHub,
    verifier: Verifier,
    metrics: metrics::Metrics,
    sessions_per_orchestrator: usize,
    anonymous_organization: Option<OrganizationId>,
    /// Rung when messages have been acknowledged, for those who wait for that.
    acknowledged: Arc<bells::Bells>,
    activities: Activities,
    session_changes: presence::SessionChanges,
    stats: Arc<stats::Stats>,
    growth: growth::Growth,
    pace: Arc<redrive::Pace>,
    quotas: quotas::Quotas,
    held_back: news::HeldBack,
    bridge: bridge::Bridge,
    context: Context,
}

/// Starts router. Resolves when it serves; it is ready while the store answers.
///
/// # Errors
/// If the address of auth is not acceptable.
pub async fn start(config: Config, store: Store, listeners: Listeners, context: &Context) -> Result<(), Fault> {
    let mut registry = Registry::default();
    let metrics = metrics::Metrics::register(&mut registry);
    // First of all: a router that waits for auth or the store lives.
    context.serve_admin(listeners.admin, registry);
    let auth = Balanced::new(&config.auth, context).await?;
    let login = ServiceLogin { service: "router", secret: config.secret };
    let bearer = login.keep(auth.clone(), context).await;
    let verifier = Verifier::default();
    let keeper = KeyKeeper { auth, bearer: bearer.clone(), verifier: verifier.clone(), hs256: config.hs256 };
    keeper.keep(context, |_| {}).await;

    let activities = Activities::new(context.clock);
    let (links, link_news) = gateways::Links::open(&context.entropy);
    let links = if config.operations_organization.is_some() { links } else { gateways::Links::default() };
    let gateways =
        gateways::Gateways::new(store.mailboxes.clone(), bearer, metrics.clone(), &activities, links, context);
    let announcer = announcer::Announcer::start(store.mailboxes.clone(), gateways.clone(), context);
    let appender = appender::Appender::start(store.mailboxes.clone(), &gateways, &announcer, context);
    let feed_hub = feeds::FeedHub::default();
    feed_hub.start(store.feeds.clone(), context);
    let publisher = feeds::Publisher::start(store.feeds.clone(), &gateways, &feed_hub, context);
    let (bridge, heartbeats) = bridge::Bridge::open();
    let parts = Parts {
        bridge: if config.bridge.is_some() { bridge } else { bridge::Bridge::default() },
        publisher,
        feed_hub,
        directory: directory::Directory::new(store.credentials.clone()),
        acknowledged: Arc::default(),
        activities,
        session_changes: presence::SessionChanges::default(),
        stats: Arc::new(stats::Stats::new(context.clock.now())),
        growth: growth::Growth::new(context.clock),
        pace: Arc::default(),
        quotas: quotas::Quotas::new(store.quotas.clone(), config.messages_per_second, context.clock),
        held_back: news::HeldBack::default(),
        announcer,
        context: context.clone(),
        store,
        gateways,
        appender,
        verifier: verifier.clone(),
        metrics,
        sessions_per_orchestrator: config.sessions_per_orchestrator,
        anonymous_organization: config.anonymous_organization,
    };
    sweeper::start(parts.clone()).await;
    if let Some(organization) = config.operations_organization {
        news::tell_links(&parts, organization, link_news);
    }
    if let Some(channels) = config.bridge {
        bridge::start(&parts, channels, heartbeats);
    }
    let services = Services::default()
        .with(RouterServiceServer::new(routing::RouterApi(parts.clone())))
        .with(SessionServiceServer::new(sessions::SessionApi(parts)));
    let gate = Gate::new(verifier, context.clock);
    let server = GrpcServer { gate, reflection: config.reflection };
    server.serve("router-grpc", listeners.grpc, services, context).await;
    Ok(())
}
