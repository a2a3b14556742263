//! federation: who can do what, and tasks that orchestrators hand to each other.
//!
//! **Invariants:** what becomes of a task is decided by [`waystation_domain::federation`] alone, and only what the store has
//! kept is told to anybody. Any number of replicas may do the same work: a change is kept once.

mod api;
mod broadcast;
mod cells;
mod context;
mod desk;
mod herald;
mod metrics;
mod post;
mod presence;
pub mod process;
mod registry;
mod request;
mod sweeper;
mod views;
mod watch;

use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use waystation_proto::federation::v1::federation_service_server::FederationServiceServer;
use waystation_proto::router::v1::router_service_client::RouterServiceClient;
use waystation_rpc::{Authorized, Balanced, Fault, Gate, GrpcServer, KeyKeeper, ServiceLogin, Services};
use waystation_runtime::Context;
use waystation_store::Store;
use waystation_telemetry::metrics::Registry;
use waystation_token::Verifier;

pub use cells::{CellsConfig, PeerConfig, Serve, Use};

/// What federation runs with.
pub struct Config {
    /// Where auth is, as `http://127.0.0.1:8783`; a name stands for all replicas that it resolves to.
    pub auth: Vec<String>,
    /// Where routers are.
    pub routers: Vec<String>,
    /// Secret of the service `federation`.
    pub secret: SecretString,
    /// The shared secret of the older platform (DAEMON_JWT_SECRET).
    pub hs256: Option<SecretString>,
    /// Whether callers may ask for the contract.
    pub reflection: bool,
    /// Whoever has had no session for so long takes no tasks any more, until it registers again.
    pub deregister_after: Duration,
    /// How this cell works with others; `None`: it is alone.
    pub cells: Option<CellsConfig>,
}

/// Usually it is so long.
pub const DEREGISTER_AFTER: Duration = Duration::from_secs(5 * 60);

/// Bound sockets.
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For the admin page.
    pub admin: TcpListener,
}

/// What every part shares.
#[derive(Clone)]
struct Parts {
    store: Store,
    router: Router,
    registries: registry::Registries,
    changes: watch::Changes,
    cells: cells::Cells,
    metrics: metrics::Metrics,
    context: Context,
}

/// Calls to routers.
type Router = RouterServiceClient<Authorized>;

/// Starts federation. Resolves when it serves; it is ready while the store answers.
///
/// # Errors
/// If the address of another service is not acceptable.
pub async fn start(config: Config, store: Store, listeners: Listeners, context: &Context) -> Result<(), Fault> {
    let mut registry = Registry::default();
    let metrics = metrics::Metrics::register(&mut registry);
    // First of all: a process that waits for others lives.
    context.serve_admin(listeners.admin, registry);
    let auth = Balanced::new(&config.auth, context).await?;
    let routers = Balanced::new(&config.routers, context).await?;
    let login = ServiceLogin { service: "federation", secret: config.secret };
    let bearer = login.keep(auth.clone(), context).await;
    let verifier = Verifier::default();
    let keeper = KeyKeeper { auth, bearer: bearer.clone(), verifier: verifier.clone(), hs256: config.hs256 };
    keeper.keep(context, |_| {}).await;
    let (cells, door) = match config.cells {
        Some(cells) => cells::Cells::new(cells, context).await.map(|(cells, door)| (cells, Some(door)))?,
        None => (cells::Cells::default(), None),
    };
    let parts = Parts {
        cells,
        registries: registry::Registries::new(store.federation.clone(), context),
        router: RouterServiceClient::with_interceptor(routers, bearer),
        changes: watch::Changes::default(),
        metrics,
        context: context.clone(),
        store,
    };
    sweeper::start(parts.clone()).await;
    herald::start(parts.clone(), config.deregister_after);
    if let Some(door) = door {
        cells::Cells::start(&parts, door).await;
    }
    let services = Services::default().with(FederationServiceServer::new(api::FederationApi(parts)));
    let server = GrpcServer { gate: Gate::new(verifier, context.clock), reflection: config.reflection };
    server.serve("federation-grpc", listeners.grpc, services, context).await;
    Ok(())
}
