//! auth as a process of its own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use waystation_domain::{OrganizationId, Scope, ScopeSet, SigningAlgorithm};
use waystation_runtime::settings::{ProcessSettings, SettingsError, required_secret, secret};
use waystation_runtime::{Context, Service, StartError, TlsSettings, bind};
use waystation_store::RedisConfig;
use waystation_token::{IssuedFor, Pepper, TrustedIssuer};

use crate::{Config, IssuerConfig, Keys, Listeners, ServiceAccount};

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
    federation_secret: Option<SecretString>,
    federation_secret_file: Option<PathBuf>,
    bootstrap_token_file: Option<PathBuf>,
    jwt_secret: Option<SecretString>,
    jwt_secret_file: Option<PathBuf>,
    signing_algorithm: String,
    logins_per_key_per_minute: u32,
    services: Vec<ServiceSettings>,
    issuers: Vec<IssuerSettings>,
    redis: RedisConfig,
    tls: TlsSettings,
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

/// Somebody else whose tokens are accepted from daemons, or from people's browsers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    issuer: String,
    audience: String,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    organization: Option<String>,
    organization_claim: Option<String>,
    orchestrator_claim: Option<String>,
    #[serde(default)]
    users: bool,
    scopes_claim: Option<String>,
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
            federation_secret: None,
            federation_secret_file: None,
            bootstrap_token_file: None,
            jwt_secret: None,
            jwt_secret_file: None,
            signing_algorithm: SigningAlgorithm::default().to_string(),
            logins_per_key_per_minute: crate::LOGINS_PER_KEY,
            services: Vec::new(),
            issuers: Vec::new(),
            redis: RedisConfig::default(),
            tls: TlsSettings::default(),
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
        // A cell need not have it.
        if self.federation_secret.is_some() || self.federation_secret_file.is_some() {
            let (text, file) = (&self.federation_secret, &self.federation_secret_file);
            accounts.push(internal("federation", "federation_secret", text, file)?);
        }
        if let Some(file) = &self.bootstrap_token_file {
            let secret = required_secret("bootstrap_token", None, Some(file), SECRET)?;
            accounts.push(ServiceAccount { operator: true, ..account(OPERATOR, secret) });
        }
        for (index, service) in self.services.iter().enumerate() {
            accounts.push(service.account(&format!("services[{index}]"))?);
        }
        let names: BTreeSet<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        if names.len() < accounts.len() {
            let problem = "a name is used twice; gateway, router, federation and operator are taken";
            return Err(SettingsError::of("services", problem));
        }
        Ok(accounts)
    }
}

fn account(name: &str, secret: SecretString) -> ServiceAccount {
    ServiceAccount { name: name.to_owned(), secret, organization: None, scopes: ScopeSet::default(), operator: false }
}

/// Known scopes, at least one.
fn scopes(key: &str, texts: &[String]) -> Result<ScopeSet, SettingsError> {
    let scopes = texts.iter().map(|scope| scope.parse::<Scope>());
    let scopes: ScopeSet = scopes.collect::<Result<_, _>>().map_err(|error| SettingsError::of(key, error))?;
    if scopes.is_empty() { Err(SettingsError::of(key, "at least one is needed")) } else { Ok(scopes) }
}

impl IssuerSettings {
    fn config(&self, key: &str) -> Result<IssuerConfig, SettingsError> {
        let of = |name: &str| format!("{key}.{name}");
        let keys = match (&self.jwks_file, &self.jwks_url) {
            (Some(file), None) => Keys::File(file.clone()),
            (None, Some(url)) => {
                let uri: http::Uri = url.parse().map_err(|error| SettingsError::of(&of("jwks_url"), error))?;
                if !matches!(uri.scheme_str(), Some("https" | "http")) {
                    return Err(SettingsError::of(&of("jwks_url"), "must begin with https:// or http://"));
                }
                Keys::Url(uri)
            }
            _ => return Err(SettingsError::of(&of("jwks_file"), "exactly one of it and jwks_url is needed")),
        };
        let organization = match (&self.organization, &self.organization_claim) {
            (Some(id), None) => {
                let id = id.parse::<OrganizationId>();
                IssuedFor::Organization(id.map_err(|error| SettingsError::of(&of("organization"), error))?)
            }
            (None, Some(claim)) => IssuedFor::Claim(claim.clone()),
            _ => {
                let problem = "exactly one of it and organization_claim is needed";
                return Err(SettingsError::of(&of("organization"), problem));
            }
        };
        let scopes = scopes(&of("scopes"), &self.scopes)?;
        if scopes.contains(Scope::AdminAll) {
            return Err(SettingsError::of(&of("scopes"), "admin:* is for operators only"));
        }
        let orchestrator_claim = match (self.orchestrator_claim.as_deref(), self.users) {
            (Some("sub"), true) => {
                let problem = "must be another claim than sub if there are users: every token has that one";
                return Err(SettingsError::of(&of("orchestrator_claim"), problem));
            }
            (Some(claim), _) => claim,
            (None, false) => "sub",
            // No token names an orchestrator.
            (None, true) => "",
        };
        let trusted = TrustedIssuer {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            organization,
            orchestrator_claim: orchestrator_claim.to_owned(),
            users: self.users,
            scopes_claim: self.scopes_claim.clone(),
            scopes,
            jwks: Vec::new(),
        };
        Ok(IssuerConfig { trusted, keys })
    }
}

impl ServiceSettings {
    fn account(&self, key: &str) -> Result<ServiceAccount, SettingsError> {
        let of = |name: &str| format!("{key}.{name}");
        let organization = self.organization.as_deref().map(str::parse::<OrganizationId>).transpose();
        let scopes = scopes(&of("scopes"), &self.scopes)?;
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
        let context = &context.with_tls(settings.tls.open("tls", &["h2"], context)?);
        let services = settings.accounts()?;
        let pepper = required_secret("pepper", settings.pepper, settings.pepper_file.as_deref(), PEPPER)?;
        let algorithm = settings.signing_algorithm.parse::<SigningAlgorithm>();
        let issuers = settings.issuers.iter().enumerate().map(|(n, issuer)| issuer.config(&format!("issuers[{n}]")));
        let config = Config {
            pepper: Pepper::new(pepper.expose_secret().as_bytes().to_vec()),
            services,
            hs256: secret("jwt_secret", settings.jwt_secret, settings.jwt_secret_file.as_deref())?,
            signing_algorithm: algorithm.map_err(|error| SettingsError::of("signing_algorithm", error))?,
            longest_life: crate::LONGEST_LIFE,
            issuers: issuers.collect::<Result<_, _>>()?,
            logins_per_key: settings.logins_per_key_per_minute,
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
