//! router as a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use waystation_runtime::settings::{ProcessSettings, SettingsError, optional, required_secret, secret};
use waystation_runtime::{Context, Service, StartError, TlsSettings, bind};
use waystation_store::{Channels, RedisConfig, limits};

use crate::{Config, Listeners};

/// What `deploy/config/router.toml` may say.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterSettings {
    grpc: SocketAddr,
    admin: SocketAddr,
    auth: Vec<String>,
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    jwt_secret: Option<SecretString>,
    jwt_secret_file: Option<PathBuf>,
    sessions_per_orchestrator: usize,
    messages_per_second: u32,
    conductor_anonymous_organization: String,
    operations_organization: String,
    redis_bridge: bool,
    redis: RedisConfig,
    tls: TlsSettings,
    process: ProcessSettings,
}

impl Default for RouterSettings {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        RouterSettings {
            grpc: local(8782),
            admin: local(9782),
            auth: vec!["http://127.0.0.1:8783".to_owned()],
            secret: None,
            secret_file: None,
            jwt_secret: None,
            jwt_secret_file: None,
            sessions_per_orchestrator: limits::SESSIONS,
            messages_per_second: 0,
            conductor_anonymous_organization: String::new(),
            operations_organization: String::new(),
            redis_bridge: false,
            redis: RedisConfig::default(),
            tls: TlsSettings::default(),
            process: ProcessSettings::default(),
        }
    }
}

/// A running router.
pub struct RouterProcess;

impl Service for RouterProcess {
    const NAME: &'static str = "router";
    const OLDER: &'static [(&'static str, &'static str)] =
        &[("DAEMON_JWT_SECRET", "jwt_secret"), ("WS_MAX_CONNECTIONS_PER_VP", "sessions_per_orchestrator")];
    const LISTS: &'static [&'static str] = &["auth", "redis.urls"];
    type Settings = RouterSettings;

    fn process(settings: &RouterSettings) -> ProcessSettings {
        settings.process.clone()
    }

    async fn start(settings: RouterSettings, context: &Context) -> Result<Self, StartError> {
        let context = &context.with_tls(settings.tls.open("tls", &["h2"], context)?);
        if !(1..=100).contains(&settings.sessions_per_orchestrator) {
            return Err(SettingsError::of("sessions_per_orchestrator", "must be 1 to 100").into());
        }
        let unfit = |error| StartError::Configuration(format!("redis: {error}"));
        let config = Config {
            bridge: settings.redis_bridge.then(|| Channels::of(&settings.redis)).transpose().map_err(unfit)?,
            auth: settings.auth,
            secret: required_secret("secret", settings.secret, settings.secret_file.as_deref(), 16)?,
            hs256: secret("jwt_secret", settings.jwt_secret, settings.jwt_secret_file.as_deref())?,
            reflection: settings.process.reflection,
            sessions_per_orchestrator: settings.sessions_per_orchestrator,
            anonymous_organization: optional(
                "conductor_anonymous_organization",
                &settings.conductor_anonymous_organization,
            )?,
            operations_organization: optional("operations_organization", &settings.operations_organization)?,
            messages_per_second: (settings.messages_per_second > 0).then_some(settings.messages_per_second),
        };
        let store = waystation_store::connect(&settings.redis, context.entropy.number()).await;
        let store = store.map_err(unfit)?;
        let listeners =
            Listeners { grpc: bind("grpc", settings.grpc).await?, admin: bind("admin", settings.admin).await? };
        let started = crate::start(config, store, listeners, context).await;
        started.map_err(|fault| StartError::Configuration(fault.to_string()))?;
        Ok(RouterProcess)
    }

    async fn stop(self, context: &Context, grace: Duration) {
        context.lifecycle.finish(grace).await;
    }
}
