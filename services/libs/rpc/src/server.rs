//! A gRPC server: health, reflection, the gate, and limits.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tower::Service;
use tower::layer::util::{Identity, Stack};
use waystation_proto::FILE_DESCRIPTOR_SET;
use waystation_runtime::Context;

use crate::identity::Gate;
use crate::incoming;

/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 1_024;
/// Largest header block, in bytes; a bearer token has at most 4 KiB.
const MAX_HEADERS: u32 = 16 * 1024;
/// Streams that a peer may reset before they were accepted.
const MAX_PENDING_RESETS: usize = 20;
/// Flow-control windows: one stream carries what many daemons send.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// The name under which the health service tells whether traffic is wanted, for the probes of Kubernetes.
pub const READINESS: &str = "readiness";

/// Services of a server, collected before it starts.
pub struct Services {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
}

impl Default for Services {
    fn default() -> Self {
        Services { routes: Routes::builder(), names: Vec::new() }
    }
}

impl Services {
    /// Adds one.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Services
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes.add_service(service);
        self
    }
}

/// A gRPC server of Waystation.
pub struct GrpcServer {
    /// Judges every call.
    pub gate: Gate,
    /// Whether callers may ask for the contract; it holds no secret, but need not be shown everywhere.
    pub reflection: bool,
}

impl GrpcServer {
    /// Serves until the process stops; calls that have begun are finished.
    pub async fn serve(self, name: &'static str, listener: TcpListener, services: Services, context: &Context) {
        let Services { mut routes, names } = services;
        routes.add_service(health(name, names, context).await);
        if self.reflection {
            add_reflection(&mut routes);
        }
        let routes = routes.routes();
        let stopping = || {
            let lifecycle = context.lifecycle.clone();
            async move { lifecycle.stopping().await }
        };
        if let Ok(address) = listener.local_addr() {
            let pipes = ReceiverStream::new(context.reach.neighbours.listen(address)).map(Ok::<_, std::io::Error>);
            let server = self.server().add_routes(routes.clone()).serve_with_incoming_shutdown(pipes, stopping());
            context.lifecycle.spawn_vital(name, server);
        }
        let incoming = incoming::accept(listener, context);
        let server = self.server();
        let mut server = match context.reach.connection_age {
            Some(age) => server.max_connection_age(age),
            None => server,
        };
        let server = server.add_routes(routes).serve_with_incoming_shutdown(incoming, stopping());
        context.lifecycle.spawn_vital(name, server);
    }

    fn server(&self) -> Server<Stack<Gate, Identity>> {
        Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADERS)
            .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .layer(self.gate.clone())
    }
}

/// Each service of the server serves as long as the process lives; [`READINESS`] tells whether it wants traffic.
async fn health(
    name: &'static str,
    services: Vec<&'static str>,
    context: &Context,
) -> HealthServer<impl tonic_health::pb::health_server::Health> {
    let (reporter, server) = tonic_health::server::health_reporter();
    for service in ["", "grpc.health.v1.Health"].into_iter().chain(services) {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    let mut readiness = context.readiness.watch();
    let lifecycle = context.lifecycle.clone();
    context.lifecycle.spawn(async move {
        loop {
            let ready = *readiness.borrow_and_update();
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(READINESS, status).await;
            tracing::debug!(server = name, ready, "readiness");
            tokio::select! {
                Ok(()) = readiness.changed() => {}
                () = lifecycle.stopping() => return,
            }
        }
    });
    server
}

fn add_reflection(routes: &mut RoutesBuilder) {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // The descriptors are compiled in, and a test asks for them.
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            routes.add_service(v1);
            routes.add_service(v1alpha);
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!("no reflection: {error}"),
    }
}
