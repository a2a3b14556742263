//! auth: who is who. Issues tokens, keeps credentials, tells revocations.
//!
//! **Invariant:** the only service that holds private keys.

mod audit;
mod authority;
mod credentials;
mod issuers;
mod metrics;
pub mod process;
mod service;
mod settings;

use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use waystation_domain::SigningAlgorithm;
use waystation_proto::auth::v1::auth_service_server::AuthServiceServer;
use waystation_proto::auth::v1::credential_service_server::CredentialServiceServer;
use waystation_rpc::{Fault, Gate, GrpcServer, Services};
use waystation_runtime::Context;
use waystation_store::Store;
use waystation_telemetry::metrics::Registry;
use waystation_token::Pepper;

pub use authority::{Authority, Issued, NewApiKey, ServiceAccount};
pub use issuers::{IssuerConfig, Keys};

/// What auth runs with.
pub struct Config {
    /// Mixed into stored secrets.
    pub pepper: Pepper,
    /// Services that may log in.
    pub services: Vec<ServiceAccount>,
    /// The shared secret of the older platform (DAEMON_JWT_SECRET).
    pub hs256: Option<SecretString>,
    /// How new keys sign.
    pub signing_algorithm: SigningAlgorithm,
    /// No token lives longer; keys that sign no more are valid for so long.
    pub longest_life: Duration,
    /// Others whose tokens are accepted from daemons.
    pub issuers: Vec<IssuerConfig>,
    /// Logins with one key in a minute.
    pub logins_per_key: u32,
    /// Whether callers may ask for the contract.
    pub reflection: bool,
}

/// Longest life of a token unless configured otherwise: that of a service's, which is the longest there is.
pub const LONGEST_LIFE: Duration = Duration::from_secs(60 * 60);
/// Logins with one key in a minute unless configured otherwise: a fleet that shares a key comes back within minutes.
pub const LOGINS_PER_KEY: u32 = 6_000;

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
    let (reflection, issuers) = (config.reflection, config.issuers.clone());
    let mut registry = Registry::default();
    let metrics = metrics::Metrics::register(&mut registry);
    // First of all: an auth that waits for the store lives.
    context.serve_admin(listeners.admin, registry);
    let authority = Authority::open(config, store, metrics, context).await?;
    issuers::keep(&authority, issuers).await?;
    authority.follow();
    let gate = Gate::new(authority.verifier(), context.clock);
    let services = Services::default()
        .with(AuthServiceServer::new(service::AuthApi(authority.clone())))
        .with(CredentialServiceServer::new(credentials::CredentialApi(authority.clone())));
    GrpcServer { gate, reflection }.serve("auth-grpc", listeners.grpc, services, context).await;
    Ok(authority)
}
