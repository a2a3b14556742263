//! federation as a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use waystation_runtime::settings::{ProcessSettings, required_secret, secret};
use waystation_runtime::{Context, Service, StartError, TlsSettings, bind};
use waystation_store::RedisConfig;

use crate::{CellsConfig, Config, Listeners, PeerConfig};

/// What `deploy/config/federation.toml` may say.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FederationSettings {
    grpc: SocketAddr,
    admin: SocketAddr,
    auth: Vec<String>,
    routers: Vec<String>,
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    jwt_secret: Option<SecretString>,
    jwt_secret_file: Option<PathBuf>,
    deregister_after_seconds: u64,
    redis: RedisConfig,
    tls: TlsSettings,
    cells: CellsSettings,
    process: ProcessSettings,
}

/// Other cells.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CellsSettings {
    name: String,
    listen: SocketAddr,
    tls: TlsSettings,
    peers: Vec<PeerConfig>,
}

impl Default for CellsSettings {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8794));
        CellsSettings { name: String::new(), listen, tls: TlsSettings::default(), peers: Vec::new() }
    }
}

impl CellsSettings {
    /// `None`: this cell is alone.
    fn read(self) -> Result<Option<CellsConfig>, StartError> {
        let CellsSettings { name, listen, tls, peers } = self;
        match name.is_empty() {
            true if peers.is_empty() => Ok(None),
            true => Err(StartError::Configuration("cells.name must not be empty where there are peers".to_owned())),
            false => Ok(Some(CellsConfig { name, listen, tls, peers })),
        }
    }
}

impl Default for FederationSettings {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        FederationSettings {
            grpc: local(8784),
            admin: local(9784),
            auth: vec!["http://127.0.0.1:8783".to_owned()],
            routers: vec!["http://127.0.0.1:8782".to_owned()],
            secret: None,
            secret_file: None,
            jwt_secret: None,
            jwt_secret_file: None,
            deregister_after_seconds: crate::DEREGISTER_AFTER.as_secs(),
            redis: RedisConfig::default(),
            tls: TlsSettings::default(),
            cells: CellsSettings::default(),
            process: ProcessSettings::default(),
        }
    }
}

/// A running federation.
pub struct FederationProcess;

impl Service for FederationProcess {
    const NAME: &'static str = "federation";
    const OLDER: &'static [(&'static str, &'static str)] = &[("DAEMON_JWT_SECRET", "jwt_secret")];
    const LISTS: &'static [&'static str] = &["auth", "routers", "redis.urls"];
    type Settings = FederationSettings;

    fn process(settings: &FederationSettings) -> ProcessSettings {
        settings.process.clone()
    }

    async fn start(settings: FederationSettings, context: &Context) -> Result<Self, StartError> {
        let context = &context.with_tls(settings.tls.open("tls", &["h2"], context)?);
        let config = Config {
            auth: settings.auth,
            routers: settings.routers,
            secret: required_secret("secret", settings.secret, settings.secret_file.as_deref(), 16)?,
            hs256: secret("jwt_secret", settings.jwt_secret, settings.jwt_secret_file.as_deref())?,
            reflection: settings.process.reflection,
            deregister_after: Duration::from_secs(settings.deregister_after_seconds),
            cells: settings.cells.read()?,
        };
        let store = waystation_store::connect(&settings.redis, context.entropy.number()).await;
        let store = store.map_err(|error| StartError::Configuration(format!("redis: {error}")))?;
        let listeners =
            Listeners { grpc: bind("grpc", settings.grpc).await?, admin: bind("admin", settings.admin).await? };
        let started = crate::start(config, store, listeners, context).await;
        started.map_err(|fault| StartError::Configuration(fault.to_string()))?;
        Ok(FederationProcess)
    }

    async fn stop(self, context: &Context, grace: Duration) {
        context.lifecycle.finish(grace).await;
    }
}
