//! All services in one process, over the embedded store or a Redis: the same crates and the same gRPC between them.

mod banner;
mod dev;
mod listeners;
mod secrets;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use waystation_auth::{Authority, IssuerConfig, ServiceAccount};
use waystation_domain::{Network, OrganizationId, SigningAlgorithm};
use waystation_gateway::{Gateway, Limits, WebOrigin};
use waystation_rpc::Fault;
use waystation_runtime::{Clock, Context, Lifecycle, shutdown_signal};
use waystation_store::{Channels, OpenError, RedisConfig, Store, limits};
use waystation_telemetry::traces::{TraceSettings, TraceSettingsError, Tracer};
use waystation_token::{KeySet, Pepper};
use waystation_wire::SessionConfig;

pub use banner::banner;
pub use dev::{AdminPages, BACKEND, DevFile};
use listeners::Bound;
use secrets::Secrets;

/// How standalone runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the journal, the secrets and dev.json.
    pub state_dir: PathBuf,
    /// Where accepted messages are kept.
    pub store: StoreOptions,
    /// Loopback address to bind.
    pub bind: IpAddr,
    /// Any free ports in place of the documented ones; dev.json tells them.
    pub any_ports: bool,
    /// The shared secret of the older platform (DAEMON_JWT_SECRET).
    pub hs256: Option<SecretString>,
    /// Proxies before the gateway.
    pub trusted_proxies: Vec<Network>,
    /// Others whose tokens are accepted from daemons.
    pub issuers: Vec<IssuerConfig>,
    /// Logins with one key in a minute: all daemons of `dev` share one.
    pub logins_per_key: u32,
    /// Numbers of sessions.
    pub session: SessionConfig,
    /// Numbers of connections.
    pub limits: Limits,
    /// Daemons of an orchestrator that may be connected.
    pub sessions_per_orchestrator: usize,
    /// Where daemons connect, beside the documented paths.
    pub path: String,
    /// Web pages that may call.
    pub allowed_origins: Vec<WebOrigin>,
    /// Whose events anybody may watch.
    pub anonymous_organization: Option<OrganizationId>,
    /// Whether publishers that speak only Redis are heard, if that is the store.
    pub redis_bridge: bool,
    /// Whoever takes tasks and has had no session for so long takes none any more.
    pub deregister_after: Duration,
    /// Which messages are traced, and where to.
    pub traces: TraceSettings,
    /// How the cell works with others.
    pub cells: Option<waystation_federation::CellsConfig>,
}

/// Where accepted messages are kept.
#[derive(Clone, Debug)]
pub enum StoreOptions {
    /// In this process: a stop forgets everything.
    Memory,
    /// In this process, with a journal in the state directory.
    Journal {
        /// Whether each answer waits for the disk. Without, it survives the death of the process, not a power cut.
        fsync: bool,
    },
    /// In a Redis.
    Redis(RedisConfig),
}

impl Options {
    /// The documented defaults.
    pub fn new(state_dir: PathBuf) -> Options {
        Options {
            state_dir,
            store: StoreOptions::Journal { fsync: false },
            bind: IpAddr::from([127, 0, 0, 1]),
            any_ports: false,
            hs256: None,
            trusted_proxies: Vec::new(),
            issuers: Vec::new(),
            logins_per_key: 1_000_000,
            session: SessionConfig::default(),
            limits: Limits { drain_spread: Duration::from_secs(2), ..Limits::default() },
            sessions_per_orchestrator: limits::SESSIONS,
            path: waystation_gateway::PATH.to_owned(),
            allowed_origins: Vec::new(),
            anonymous_organization: None,
            redis_bridge: false,
            deregister_after: waystation_federation::DEREGISTER_AFTER,
            traces: TraceSettings::default(),
            cells: None,
        }
    }
}

/// Standalone cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options do not make sense.
    #[error("{0}")]
    Options(String),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A file or socket cannot be had.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A service did not start.
    #[error("a service did not start: {0:?}")]
    Service(Fault),
}

impl From<Fault> for StartError {
    fn from(fault: Fault) -> StartError {
        StartError::Service(fault)
    }
}

impl From<TraceSettingsError> for StartError {
    fn from(error: TraceSettingsError) -> StartError {
        StartError::Options(format!("traces: {error}"))
    }
}

fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let action = action.into();
    move |source| StartError::Io { action, source }
}

/// A running standalone.
pub struct Standalone {
    /// What dev.json says.
    pub dev: DevFile,
    /// The store, for those who embed standalone.
    pub store: Store,
    gateway: Gateway,
    /// Stopped in this order: whoever calls others stops first.
    contexts: [Context; 4],
}

impl Standalone {
    /// Starts all services. Resolves when they serve.
    ///
    /// # Errors
    /// If the options do not make sense, or a file, socket or the store cannot be had.
    pub async fn start(options: Options) -> Result<Standalone, StartError> {
        if !options.bind.is_loopback() {
            let message = format!("{}: while the dev credentials exist only loopback is bound", options.bind);
            return Err(StartError::Options(message));
        }
        if let Some(secret) = &options.hs256 {
            let judged = KeySet::default().with_hs256(secret.expose_secret().as_bytes());
            judged.map_err(|error| StartError::Options(format!("DAEMON_JWT_SECRET: {error}")))?;
        }
        let first = Context::of_host();
        let with_traces = |service: &'static str, context: Context| {
            let tracer = Tracer::open(service, &options.traces, Clock::wall);
            tracer.map(|tracer| Context { tracer, ..context })
        };
        let contexts = [
            with_traces("gateway", first.neighbour())?,
            with_traces("federation", first.neighbour())?,
            with_traces("router", first.neighbour())?,
            with_traces("auth", first)?,
        ];
        let [for_gateway, for_federation, for_router, for_auth] = &contexts;
        let entropy = for_auth.entropy;
        let store = open_store(&options, entropy.number()).await?;
        let mut secrets = Secrets::load_or_make(&options.state_dir, &entropy)?;
        let bound = Bound::bind(options.bind, options.any_ports).await?;
        let endpoints = bound.endpoints()?;
        let internal = |name: &str| ServiceAccount {
            name: name.to_owned(),
            secret: SecretString::from(entropy.id()),
            organization: None,
            scopes: Default::default(),
            operator: false,
        };
        let (gateway_account, router_account, federation_account) =
            (internal("gateway"), internal("router"), internal("federation"));
        let internals = [gateway_account.clone(), router_account.clone(), federation_account.clone()];
        let auth = waystation_auth::Config {
            pepper: Pepper::new(secrets.pepper()),
            services: internals.into_iter().chain([dev::backend_account(&secrets)]).collect(),
            hs256: options.hs256.clone(),
            signing_algorithm: SigningAlgorithm::default(),
            longest_life: dev::TOKEN_LIFE,
            issuers: options.issuers.clone(),
            logins_per_key: options.logins_per_key,
            reflection: true,
        };
        let authority: Authority = waystation_auth::start(auth, store.clone(), bound.auth, for_auth).await?;
        let dev = dev::seed(&authority, &mut secrets, &options.state_dir, &endpoints, &entropy).await?;

        let channels = match &options.store {
            StoreOptions::Redis(redis) if options.redis_bridge => Some(Channels::of(redis)?),
            StoreOptions::Redis(_) | StoreOptions::Memory | StoreOptions::Journal { .. } => None,
        };
        let router = waystation_router::Config {
            bridge: channels,
            auth: vec![endpoints.auth.clone()],
            secret: router_account.secret,
            hs256: options.hs256.clone(),
            reflection: true,
            sessions_per_orchestrator: options.sessions_per_orchestrator,
            messages_per_second: None,
            anonymous_organization: options.anonymous_organization.clone(),
            operations_organization: None,
        };
        waystation_router::start(router, store.clone(), bound.router, for_router).await?;
        let federation = waystation_federation::Config {
            auth: vec![endpoints.auth.clone()],
            routers: vec![endpoints.router.clone()],
            secret: federation_account.secret,
            hs256: options.hs256.clone(),
            reflection: true,
            deregister_after: options.deregister_after,
            cells: options.cells.clone(),
        };
        waystation_federation::start(federation, store.clone(), bound.federation, for_federation).await?;
        let gateway = waystation_gateway::Config {
            auth: vec![endpoints.auth.clone()],
            routers: vec![endpoints.router.clone()],
            federation: vec![endpoints.federation.clone()],
            advertised: endpoints.gateway_grpc.clone(),
            secret: gateway_account.secret,
            hs256: options.hs256,
            reflection: true,
            allowed_origins: options.allowed_origins,
            anonymous_organization: options.anonymous_organization,
            tls: None,
            trusted_proxies: options.trusted_proxies,
            revocation_silence: Some(waystation_gateway::REVOCATION_SILENCE),
            path: options.path,
            session: options.session,
            limits: options.limits,
        };
        let gateway = waystation_gateway::start(gateway, bound.gateway, for_gateway).await?;
        dev.write(&options.state_dir)?;
        Ok(Standalone { dev, store, gateway, contexts })
    }

    /// Runs until SIGTERM, SIGINT or a failure, then stops; a second signal ends at once.
    /// Answers whether it stopped because it was asked to.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub async fn run(self, grace: Duration) -> std::io::Result<bool> {
        let lifecycles = self.contexts.each_ref().map(|context| context.lifecycle.clone());
        let [gateway, federation, router, auth] = &lifecycles;
        tokio::select! {
            signal = shutdown_signal() => signal?,
            () = gateway.stopping() => {}
            () = federation.stopping() => {}
            () = router.stopping() => {}
            () = auth.stopping() => {}
        }
        tokio::select! {
            _ = self.stop(grace) => {}
            signal = shutdown_signal() => signal?,
        }
        Ok(!lifecycles.iter().any(Lifecycle::has_failed))
    }

    /// Stops in order: daemons are told when to come back, then each service finishes.
    /// Answers whether everything has finished within `grace`.
    pub async fn stop(self, grace: Duration) -> bool {
        let [_, federation, router, auth] = &self.contexts;
        let gateway_finished = self.gateway.stop(grace).await;
        let federation_finished = federation.lifecycle.finish(grace).await;
        let router_finished = router.lifecycle.finish(grace).await;
        let all = auth.lifecycle.finish(grace).await && router_finished && federation_finished && gateway_finished;
        for context in &self.contexts {
            context.close_traces().await;
        }
        all
    }
}

async fn open_store(options: &Options, generation: u64) -> Result<Store, StartError> {
    let config = match &options.store {
        StoreOptions::Redis(redis) => return Ok(waystation_store::connect(redis, generation).await?),
        StoreOptions::Memory => waystation_store::Config::Memory,
        StoreOptions::Journal { fsync } => waystation_store::Config::Journal {
            dir: options.state_dir.join("journal"),
            fsync: *fsync,
            file_bytes: limits::JOURNAL_FILE_BYTES,
        },
    };
    Ok(waystation_store::open(&config, generation)?)
}
