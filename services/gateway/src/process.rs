//! gateway as a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use waystation_domain::Network;
use waystation_domain::policy::RestCall;
use waystation_runtime::settings::{ProcessSettings, SettingsError, optional, required_secret, secret};
use waystation_runtime::{Context, Service, StartError, TlsSettings, bind};
use waystation_wire::SessionConfig;

use crate::{Config, Gateway, Limits, Listeners, WebOrigin};

/// What `deploy/config/gateway.toml` may say.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    public: SocketAddr,
    grpc: SocketAddr,
    admin: SocketAddr,
    advertised: Option<String>,
    auth: Vec<String>,
    routers: Vec<String>,
    federation: Vec<String>,
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    jwt_secret: Option<SecretString>,
    jwt_secret_file: Option<PathBuf>,
    path: String,
    allowed_origins: Vec<String>,
    conductor_anonymous_organization: String,
    trusted_proxies: Vec<String>,
    revocation_silence_seconds: u64,
    auth_timeout_ms: u64,
    heartbeat_interval_ms: u64,
    heartbeats_missed: u32,
    messages_per_minute: u32,
    messages_per_minute_announced: u32,
    redelivery_seconds: u64,
    limits: LimitSettings,
    tls: TlsSettings,
    public_tls: TlsSettings,
    process: ProcessSettings,
}

/// Numbers of connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    frame_bytes: usize,
    write_stall_seconds: u64,
    unauthenticated: usize,
    unauthenticated_per_address: usize,
    failed_logins: u32,
    failed_logins_per_address: u32,
    conductor_clients: usize,
    drain_spread_seconds: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        let limits = Limits::default();
        LimitSettings {
            frame_bytes: limits.frame_bytes,
            write_stall_seconds: limits.write_stall.as_secs(),
            unauthenticated: limits.unauthenticated,
            unauthenticated_per_address: limits.unauthenticated_per_address,
            failed_logins: limits.failed_logins,
            failed_logins_per_address: limits.failed_logins_per_address,
            conductor_clients: limits.conductor_clients,
            drain_spread_seconds: limits.drain_spread.as_secs(),
        }
    }
}

impl Default for GatewaySettings {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let session = SessionConfig::default();
        GatewaySettings {
            public: local(8780),
            grpc: local(8781),
            admin: local(9780),
            advertised: None,
            auth: vec!["http://127.0.0.1:8783".to_owned()],
            routers: vec!["http://127.0.0.1:8782".to_owned()],
            federation: Vec::new(),
            secret: None,
            secret_file: None,
            jwt_secret: None,
            jwt_secret_file: None,
            path: crate::PATH.to_owned(),
            allowed_origins: Vec::new(),
            conductor_anonymous_organization: String::new(),
            trusted_proxies: Vec::new(),
            revocation_silence_seconds: crate::REVOCATION_SILENCE.as_secs(),
            auth_timeout_ms: millis(Limits::default().auth),
            heartbeat_interval_ms: millis(session.heartbeat),
            heartbeats_missed: session.missed,
            messages_per_minute: session.messages,
            messages_per_minute_announced: session.messages_announced,
            redelivery_seconds: session.redelivery.as_secs(),
            limits: LimitSettings::default(),
            tls: TlsSettings::default(),
            public_tls: TlsSettings::default(),
            process: ProcessSettings::default(),
        }
    }
}

impl GatewaySettings {
    fn config(&self, context: &Context) -> Result<Config, SettingsError> {
        let positive = |key: &str, value: u64| match value {
            0 => Err(SettingsError::of(key, "must be positive")),
            value => Ok(value),
        };
        if !self.path.starts_with('/') || self.path.contains(['{', '}', '*']) {
            return Err(SettingsError::of("path", "must be a plain path that begins with /"));
        }
        let is_call = RestCall::ALL.iter().any(|call| call.path() == self.path);
        if is_call || [crate::CONDUCTOR_PATH, crate::PEER_PATH].contains(&self.path.as_str()) {
            return Err(SettingsError::of("path", "is taken by another call"));
        }
        let session = SessionConfig {
            heartbeat: Duration::from_millis(positive("heartbeat_interval_ms", self.heartbeat_interval_ms)?),
            missed: self.heartbeats_missed,
            messages: self.messages_per_minute,
            messages_announced: self.messages_per_minute_announced,
            redelivery: Duration::from_secs(positive("redelivery_seconds", self.redelivery_seconds)?),
            ..SessionConfig::default()
        };
        let limits = Limits {
            auth: Duration::from_millis(positive("auth_timeout_ms", self.auth_timeout_ms)?),
            frame_bytes: self.limits.frame_bytes,
            write_stall: Duration::from_secs(self.limits.write_stall_seconds),
            unauthenticated: self.limits.unauthenticated,
            unauthenticated_per_address: self.limits.unauthenticated_per_address,
            failed_logins: self.limits.failed_logins,
            failed_logins_per_address: self.limits.failed_logins_per_address,
            conductor_clients: self.limits.conductor_clients,
            drain_spread: Duration::from_secs(self.limits.drain_spread_seconds),
            ..Limits::default()
        };
        Ok(Config {
            auth: self.auth.clone(),
            routers: self.routers.clone(),
            federation: self.federation.clone(),
            advertised: self.advertised()?,
            secret: required_secret("secret", self.secret.clone(), self.secret_file.as_deref(), 16)?,
            hs256: secret("jwt_secret", self.jwt_secret.clone(), self.jwt_secret_file.as_deref())?,
            reflection: self.process.reflection,
            path: self.path.clone(),
            allowed_origins: self.origins()?,
            anonymous_organization: optional(
                "conductor_anonymous_organization",
                &self.conductor_anonymous_organization,
            )?,
            tls: self.public_tls.open("public_tls", &["http/1.1"], context)?,
            trusted_proxies: self.trusted_proxies()?,
            revocation_silence: match self.revocation_silence_seconds {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            session,
            limits,
        })
    }

    fn origins(&self) -> Result<Vec<WebOrigin>, SettingsError> {
        let each = self.allowed_origins.iter().enumerate();
        let each = each.map(|(index, text)| {
            text.parse().map_err(|error| SettingsError::of(&format!("allowed_origins[{index}]"), error))
        });
        each.collect()
    }

    fn trusted_proxies(&self) -> Result<Vec<Network>, SettingsError> {
        let each = self.trusted_proxies.iter().enumerate().map(|(index, text)| {
            text.parse().map_err(|error| SettingsError::of(&format!("trusted_proxies[{index}]"), error))
        });
        each.collect()
    }

    /// Where routers reach this gateway: where it listens, unless that is every address.
    fn advertised(&self) -> Result<String, SettingsError> {
        match &self.advertised {
            Some(advertised) if advertised.contains(char::is_whitespace) => {
                Err(SettingsError::of("advertised", "must be a URI"))
            }
            Some(advertised) => Ok(advertised.clone()),
            None if self.grpc.ip().is_unspecified() => {
                Err(SettingsError::of("advertised", "is needed when grpc listens on every address"))
            }
            None if self.tls == TlsSettings::default() => Ok(format!("http://{}", self.grpc)),
            None => Ok(format!("https://{}", self.grpc)),
        }
    }
}

/// A running gateway.
pub struct GatewayProcess(Gateway);

impl Service for GatewayProcess {
    const NAME: &'static str = "gateway";
    const OLDER: &'static [(&'static str, &'static str)] = &[
        ("DAEMON_JWT_SECRET", "jwt_secret"),
        ("WS_HEARTBEAT_INTERVAL", "heartbeat_interval_ms"),
        ("WS_AUTH_TIMEOUT", "auth_timeout_ms"),
        ("WS_PATH", "path"),
    ];
    const LISTS: &'static [&'static str] = &["auth", "routers", "federation", "allowed_origins", "trusted_proxies"];
    type Settings = GatewaySettings;

    fn process(settings: &GatewaySettings) -> ProcessSettings {
        settings.process.clone()
    }

    async fn start(settings: GatewaySettings, context: &Context) -> Result<Self, StartError> {
        let context = &context.with_tls(settings.tls.open("tls", &["h2"], context)?);
        let config = settings.config(context)?;
        let listeners = Listeners {
            public: bind("public", settings.public).await?,
            grpc: bind("grpc", settings.grpc).await?,
            admin: bind("admin", settings.admin).await?,
        };
        let gateway = crate::start(config, listeners, context).await;
        gateway.map(GatewayProcess).map_err(|fault| StartError::Configuration(fault.to_string()))
    }

    async fn stop(self, _: &Context, grace: Duration) {
        self.0.stop(grace).await;
    }
}
