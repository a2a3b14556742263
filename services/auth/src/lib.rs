//! auth: who is who. Issues tokens, keeps credentials, tells revocations.
//!
//! **Invariant:** the only service that holds private keys.

mod authority;
mod credentials;
mod metrics;
pub mod process;
mod service;
mod settings;

use std::sync::Arc;

use secrecy::SecretString;
use tokio::net::TcpListener;
use waystation_proto::auth::v1::auth_service_server::AuthServiceServer;
use waystation_proto::auth::v1::credential_service_server::CredentialServiceServer;
use waystation_rpc::{Fault, Gate, GrpcServer, Services};
use waystation_runtime::{Admin, Context, Readiness};
use waystation_store::Store;
use waystation_telemetry::metrics::Registry;
use waystation_token::Pepper;

pub use authority::{Authority, Issued, NewApiKey, ServiceAccount};

/// What auth runs with.
pub struct Config {
    /// Mixed into stored secrets.
    pub pepper: Pepper,
    /// Services that may log in.
    pub services: Vec<ServiceAccount>,
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

/// Starts auth. Resolves when it serves; the answer is the authority itself, for whoever seeds credentials.
///
/// # Errors
/// If a secret is not acceptable.
pub async fn start(config: Config, store: Store, listeners: Listeners, context: &Context) -> Result<Authority, Fault> {
    let reflection = config.reflection;
    let mut registry = Registry::default();
    let metrics = metrics::Metrics::register(&mut registry);
    let readiness = Readiness::default();
    // First of all: an auth that waits for the store lives.
    Admin { readiness: readiness.clone(), registry: Arc::new(registry) }.serve(listeners.admin, &context.lifecycle);
    let authority = Authority::open(config, store, metrics, context).await?;
    authority.follow_revocations(readiness);
    let gate = Gate::new(authority.verifier(), context.clock);
    let services = Services::default()
        .with(AuthServiceServer::new(service::AuthApi(authority.clone())))
        .with(CredentialServiceServer::new(credentials::CredentialApi(authority.clone())));
    GrpcServer { gate, reflection }.serve("auth-grpc", listeners.grpc, services, context).await;
    Ok(authority)
}
