//! auth as a process of its own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use waystation_domain::{OrganizationId, Scope, ScopeSet};
use waystation_runtime::settings::{ProcessSettings, SettingsError, required_secret, secret};
use waystation_runtime::{Context, Service, StartError, bind};
use waystation_store::RedisConfig;
use waystation_token::Pepper;

use crate::{Config, Listeners, ServiceAccount};

/// Shortest secret of a service, in bytes.
const SECRET: usize = 16;
/// Shortest pepper, in bytes.
const PEPPER: usize = 32;
/// The name under which the bootstrap token logs in.
const OPERATOR: &str = "operator";

/// What `deploy/config/auth.toml` may say.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    grpc: SocketAddr,
    admin: SocketAddr,
    pepper: Option<SecretString>,
    pepper_file: Option<PathBuf>,
    gateway_secret: Option<SecretString>,
    gateway_secret_file: Option<PathBuf>,
    router_secret: Option<SecretString>,
    router_secret_file: Option<PathBuf>,
    bootstrap_token_file: Option<PathBuf>,
    jwt_secret: Option<SecretString>,
    jwt_secret_file: Option<PathBuf>,
    services: Vec<ServiceSettings>,
    redis: RedisConfig,
    process: ProcessSettings,
}

/// A backend that may log in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    name: String,
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    organization: Option<String>,
    scopes: Vec<String>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        AuthSettings {
            grpc: local(8783),
            admin: local(9783),
            pepper: None,
            pepper_file: None,
            gateway_secret: None,
            gateway_secret_file: None,
            router_secret: None,
            router_secret_file: None,
            bootstrap_token_file: None,
            jwt_secret: None,
            jwt_secret_file: None,
            services: Vec::new(),
            redis: RedisConfig::default(),
            process: ProcessSettings::default(),
        }
    }
}

impl AuthSettings {
    fn accounts(&self) -> Result<Vec<ServiceAccount>, SettingsError> {
        let internal = |name: &str, key: &str, text: &Option<SecretString>, file: &Option<PathBuf>| {
            let secret = required_secret(key, text.clone(), file.as_deref(), SECRET)?;
            Ok::<_, SettingsError>(account(name, secret))
        };
        let mut accounts = vec![
            internal("gateway", "gateway_secret", &self.gateway_secret, &self.gateway_secret_file)?,
            internal("router", "router_secret", &self.router_secret, &self.router_secret_file)?,
        ];
        if let Some(file) = &self.bootstrap_token_file {
            let secret = required_secret("bootstrap_token", None, Some(file), SECRET)?;
            accounts.push(ServiceAccount { operator: true, ..account(OPERATOR, secret) });
        }
        for (index, service) in self.services.iter().enumerate() {
            accounts.push(service.account(&format!("services[{index}]"))?);
        }
        let names: BTreeSet<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        if names.len() < accounts.len() {
            return Err(SettingsError::of("services", "a name is used twice; gateway, router and operator are taken"));
        }
        Ok(accounts)
    }
}

fn account(name: &str, secret: SecretString) -> ServiceAccount {
    ServiceAccount { name: name.to_owned(), secret, organization: None, scopes: ScopeSet::default(), operator: false }
}

impl ServiceSettings {
    fn account(&self, key: &str) -> Result<ServiceAccount, SettingsError> {
        let of = |name: &str| format!("{key}.{name}");
        let organization = self.organization.as_deref().map(str::parse::<OrganizationId>).transpose();
        let scopes = self.scopes.iter().map(|scope| scope.parse::<Scope>());
        let scopes: ScopeSet =
            scopes.collect::<Result<_, _>>().map_err(|error| SettingsError::of(&of("scopes"), error))?;
        if scopes.is_empty() {
            return Err(SettingsError::of(&of("scopes"), "at least one is needed"));
        }
        let secret = required_secret(&of("secret"), self.secret.clone(), self.secret_file.as_deref(), SECRET)?;
        Ok(ServiceAccount {
            organization: organization.map_err(|error| SettingsError::of(&of("organization"), error))?,
            scopes,
            ..account(&self.name, secret)
        })
    }
}

/// A running auth.
pub struct AuthProcess;

impl Service for AuthProcess {
    const NAME: &'static str = "auth";
    const OLDER: &'static [(&'static str, &'static str)] = &[("DAEMON_JWT_SECRET", "jwt_secret")];
    const LISTS: &'static [&'static str] = &["redis.urls"];
    type Settings = AuthSettings;

    fn process(settings: &AuthSettings) -> ProcessSettings {
        settings.process.clone()
    }

    async fn start(settings: AuthSettings, context: &Context) -> Result<Self, StartError> {
        let services = settings.accounts()?;
        let pepper = required_secret("pepper", settings.pepper, settings.pepper_file.as_deref(), PEPPER)?;
        let config = Config {
            pepper: Pepper::new(pepper.expose_secret().as_bytes().to_vec()),
            services,
            hs256: secret("jwt_secret", settings.jwt_secret, settings.jwt_secret_file.as_deref())?,
            reflection: settings.process.reflection,
        };
        let store = waystation_store::connect(&settings.redis, context.entropy.number()).await;
        let store = store.map_err(|error| StartError::Configuration(format!("redis: {error}")))?;
        let listeners =
            Listeners { grpc: bind("grpc", settings.grpc).await?, admin: bind("admin", settings.admin).await? };
        let started = crate::start(config, store, listeners, context).await;
        started.map_err(|fault| StartError::Configuration(fault.to_string()))?;
        Ok(AuthProcess)
    }

    async fn stop(self, context: &Context, grace: Duration) {
        context.lifecycle.finish(grace).await;
    }
}
