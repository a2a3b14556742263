//! router: accepts messages, knows who is connected where, and pushes hints to gateways.
//!
//! **Invariant:** nothing that a crash may lose: what is not in the store was not answered.

mod appender;
mod directory;
mod gateways;
mod metrics;
mod request;
mod routing;
mod sessions;
mod sweeper;
mod views;

use std::sync::Arc;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use waystation_proto::router::v1::router_service_server::RouterServiceServer;
use waystation_proto::router::v1::session_service_server::SessionServiceServer;
use waystation_rpc::{Fault, Gate, GrpcServer, KeyKeeper, ServiceLogin, Services, channel};
use waystation_runtime::{Admin, Context, Readiness};
use waystation_store::Store;
use waystation_telemetry::metrics::Registry;
use waystation_token::Verifier;

/// What router runs with.
pub struct Config {
    /// Where auth is, as `http://127.0.0.1:8783`.
    pub auth: String,
    /// Secret of the service `router`.
    pub secret: SecretString,
    /// The shared secret of the older platform (DAEMON_JWT_SECRET).
    pub hs256: Option<SecretString>,
    /// Whether callers may ask for the contract.
    pub reflection: bool,
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
    verifier: Verifier,
    metrics: metrics::Metrics,
    /// Rung when messages have been acknowledged, for those who wait for that.
    acknowledged: Arc<Notify>,
    context: Context,
}

/// Starts router. Resolves when it serves.
///
/// # Errors
/// If the address of auth is not acceptable, or the store does not answer.
pub async fn start(config: Config, store: Store, listeners: Listeners, context: &Context) -> Result<(), Fault> {
    let mut registry = Registry::default();
    let metrics = metrics::Metrics::register(&mut registry);
    let auth = channel(&config.auth)?;
    let login = ServiceLogin { service: "router", secret: config.secret };
    let bearer = login.keep(auth.clone(), context).await;
    let verifier = Verifier::default();
    let keeper = KeyKeeper { auth, bearer: bearer.clone(), verifier: verifier.clone(), hs256: config.hs256 };
    keeper.keep(context, |_| {}).await;

    let gateways = gateways::Gateways::new(store.mailboxes.clone(), bearer, metrics.clone(), context);
    gateways.refresh().await?;
    let appender = appender::Appender::start(store.mailboxes.clone(), gateways.clone(), context);
    let parts = Parts {
        directory: directory::Directory::new(store.credentials.clone()),
        acknowledged: Arc::new(Notify::new()),
        context: context.clone(),
        store,
        gateways,
        appender,
        verifier: verifier.clone(),
        metrics,
    };
    sweeper::start(parts.clone());
    let services = Services::default()
        .with(RouterServiceServer::new(routing::RouterApi(parts.clone())))
        .with(SessionServiceServer::new(sessions::SessionApi(parts)));
    let gate = Gate::new(verifier, context.clock);
    let server = GrpcServer { gate, reflection: config.reflection };
    server.serve("router-grpc", listeners.grpc, services, &context.lifecycle).await;
    let readiness = Readiness::default();
    readiness.set(true);
    Admin { readiness, registry: Arc::new(registry) }.serve(listeners.admin, &context.lifecycle);
    Ok(())
}
