//! Logins: by key, by the secret of a service, and on by refresh tokens.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;
use waystation_domain::{DaemonId, Network, OrchestratorId, OrganizationId, Scope, ScopeSet, allows_address};
use waystation_proto::common::v1::ErrorReason;
use waystation_rpc::Fault;
use waystation_store::audit::{AuditLog, Chain};
use waystation_store::credential::{
    ApiKey, KeySecret, Login, Orchestrator, OrchestratorState, OrchestratorStatus, Organization, Rotation, Subject,
};
use waystation_token::{ApiKeySecret, Claims, RefreshToken, TokenClass};

use super::{Authority, COUNTED_FOR, Issued, ServiceAccount};
use crate::audit::Event;
use crate::metrics::Kind;

/// Life of a daemon's access token.
const ACCESS_LIFE: Duration = Duration::from_secs(15 * 60);
/// Life of a service's token.
const SERVICE_LIFE: Duration = Duration::from_secs(60 * 60);

/// What a daemon logs in with. No Debug: it holds a secret.
pub(crate) struct DaemonLoginRequest {
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) orchestrator: String,
    pub(crate) daemon: String,
    /// `None`: all that the key has.
    pub(crate) scopes: Option<ScopeSet>,
    /// Where the daemon is, if that is known.
    pub(crate) address: Option<IpAddr>,
    /// What the caller called its request.
    pub(crate) request: String,
}

/// A daemon's login.
pub(crate) struct DaemonLogin {
    pub(crate) access: Issued,
    pub(crate) refresh: String,
    pub(crate) profile: Profile,
}

/// Who an orchestrator is.
pub(crate) struct Profile {
    pub(crate) organization: Organization,
    pub(crate) orchestrator: Orchestrator,
    pub(crate) state: OrchestratorState,
}

/// One answer for every wrong credential: which part was wrong, an attacker need not know.
fn wrong_credentials() -> Fault {
    Fault::new(ErrorReason::Unauthenticated, "the credentials are not valid")
}

/// An address that is not known is in no network.
fn check_address(networks: &[Network], address: Option<IpAddr>) -> Result<(), Fault> {
    let allowed = address.map_or(networks.is_empty(), |address| allows_address(networks, address));
    let refused = || Fault::new(ErrorReason::AddressNotAllowed, "these credentials may not be used from this address");
    allowed.then_some(()).ok_or_else(refused)
}

impl Authority {
    /// Signs a token.
    fn issue(&self, claims: Claims) -> Result<Issued, Fault> {
        Ok(Issued { token: self.0.ring.sign(&claims, self.now())?, claims })
    }

    fn claims(&self, class: TokenClass, subject: &str, scopes: ScopeSet, life: Duration) -> Result<Claims, Fault> {
        let now = self.now();
        let id = self.0.context.entropy.id();
        Ok(Claims {
            id: id.parse().map_err(|error| Fault::field("jti", error))?,
            class,
            subject: subject.to_owned(),
            organization: None,
            orchestrator: None,
            daemon: None,
            login: None,
            key: None,
            scopes,
            networks: Vec::new(),
            signer: None,
            issued: now,
            expires: now.after(life.min(self.0.longest_life)),
        })
    }

    /// A token for a backend of one organization. It lives no longer than auth is configured to let any token live.
    ///
    /// # Errors
    /// UNAVAILABLE if there is no key to sign with.
    pub fn service_token(
        &self,
        service: &str,
        organization: Option<OrganizationId>,
        scopes: ScopeSet,
        life: Duration,
    ) -> Result<Issued, Fault> {
        let claims = self.claims(TokenClass::Service, service, scopes, life)?;
        self.issue(Claims { organization, ..claims })
    }

    /// A token for an operator, likewise.
    ///
    /// # Errors
    /// UNAVAILABLE if there is no key to sign with.
    pub fn operator_token(&self, operator: &str, life: Duration) -> Result<Issued, Fault> {
        let scopes = [Scope::AdminAll].into_iter().collect();
        self.issue(self.claims(TokenClass::Operator, operator, scopes, life)?)
    }

    pub(crate) async fn log_in_service(
        &self,
        name: &str,
        secret: &str,
        organization: Option<OrganizationId>,
        requested: Option<ScopeSet>,
        request: String,
    ) -> Result<Issued, Fault> {
        let outcome = self.judge_service(name, secret, organization, requested);
        // A name that nobody has is not repeated: it may be a secret in the wrong place.
        let known = self.0.services.iter().any(|account| account.name == name);
        let actor = if known { format!("service:{name}") } else { "unknown".to_owned() };
        self.note_login(None, "service.login", (actor.clone(), actor, request), outcome.as_ref().map(drop), None).await;
        self.0.metrics.login(Kind::Service, outcome)
    }

    fn judge_service(
        &self,
        name: &str,
        secret: &str,
        organization: Option<OrganizationId>,
        requested: Option<ScopeSet>,
    ) -> Result<Issued, Fault> {
        let account = self.account_of(name, secret)?;
        if account.operator {
            return self.operator_token(name, SERVICE_LIFE);
        }
        let organization = match (&account.organization, organization) {
            (Some(own), Some(named)) if *own != named => return Err(Fault::not_found("organization")),
            (Some(own), _) => Some(own.clone()),
            (None, named) => named,
        };
        let scopes = requested.map_or(account.scopes, |requested| account.scopes.intersection(requested));
        if scopes.is_empty() && !account.scopes.is_empty() {
            // A token without scopes is an internal service's.
            return Err(Fault::field("scopes", "names none that this service has"));
        }
        self.service_token(name, organization, scopes, SERVICE_LIFE)
    }

    fn account_of(&self, name: &str, secret: &str) -> Result<&ServiceAccount, Fault> {
        let account = self.0.services.iter().find(|account| account.name == name).ok_or_else(wrong_credentials)?;
        let same = account.secret.expose_secret().as_bytes().ct_eq(secret.as_bytes());
        if bool::from(same) { Ok(account) } else { Err(wrong_credentials()) }
    }

    pub(crate) async fn log_in_daemon(&self, asked: DaemonLoginRequest) -> Result<DaemonLogin, Fault> {
        let (request, address) = (asked.request.clone(), asked.address);
        let key = self.judge_key(&asked).await;
        let (tenant, actor) = match &key {
            Ok(key) => (Some(key.organization.clone()), format!("api_key:{}", key.id)),
            Err((known, _)) => (known.as_ref().map(|key| key.organization.clone()), "unknown".to_owned()),
        };
        let outcome = match key {
            Ok(key) => self.judge_daemon(key, asked).await,
            Err((_, fault)) => Err(fault),
        };
        let target = match &outcome {
            Ok(login) => format!("orchestrator:{}", login.profile.orchestrator.id),
            Err(_) => String::new(),
        };
        let noted = outcome.as_ref().map(drop);
        self.note_login(tenant, "daemon.login", (actor, target, request), noted, address).await;
        self.0.metrics.login(Kind::Daemon, outcome)
    }

    async fn note_login(
        &self,
        organization: Option<OrganizationId>,
        action: &'static str,
        (actor, target, request): (String, String, String),
        outcome: Result<(), &Fault>,
        address: Option<IpAddr>,
    ) {
        let detail = address.map(|address| format!("from {address}")).unwrap_or_default();
        let chain = Chain { organization, log: AuditLog::Logins };
        let result = outcome.err().map_or("ok", Fault::name);
        self.0.auditor.note(Event { chain, action, actor, target, request, result, detail }).await;
    }

    async fn judge_daemon(&self, key: ApiKey, asked: DaemonLoginRequest) -> Result<DaemonLogin, Fault> {
        let orchestrator = match (&key.orchestrator, asked.orchestrator.as_str()) {
            (None, "") => return Err(Fault::field("orchestrator_id", "must not be empty: the key is bound to none")),
            (Some(bound), "") => bound.clone(),
            (_, named) => waystation_rpc::convert::parse("orchestrator_id", named)?,
        };
        if key.orchestrator.as_ref().is_some_and(|bound| *bound != orchestrator) {
            return Err(Fault::not_found("orchestrator"));
        }
        check_address(&key.networks, asked.address)?;
        let daemon: Option<DaemonId> = waystation_rpc::convert::parse_optional("daemon_id", &asked.daemon)?;
        let profile = self.profile(&key.organization, &orchestrator, Some(asked.address)).await?;
        let login = Login {
            id: self.0.context.entropy.id().parse().map_err(|error| Fault::field("login", error))?,
            organization: key.organization,
            orchestrator,
            daemon,
            key: key.id,
            scopes: asked.scopes.map_or(key.scopes, |requested| key.scopes.intersection(requested)),
            counter: 1,
            rotated: self.now(),
            stable: key.stable_refresh,
            networks: key.networks,
            revoked: false,
        };
        self.credentials().create_login(login.clone(), None).await.map_err(Fault::unavailable)?;
        let (access, refresh) = self.tokens_of(&login)?;
        Ok(DaemonLogin { access, refresh, profile })
    }

    /// The key, or, beside the refusal, the key that was meant, if there is one.
    async fn judge_key(&self, asked: &DaemonLoginRequest) -> Result<ApiKey, (Option<ApiKey>, Fault)> {
        let presented = ApiKeySecret::parse(&asked.secret).map_err(|_| (None, wrong_credentials()))?;
        if presented.id().as_str() != asked.key {
            return Err((None, wrong_credentials()));
        }
        let found =
            self.credentials().api_key(presented.id()).await.map_err(|error| (None, Fault::unavailable(error)))?;
        let key = found.ok_or_else(|| (None, wrong_credentials()))?;
        let now = self.now();
        let is_valid = |secret: &KeySecret| {
            let matches = presented.matches(&self.0.pepper, &secret.mac);
            matches && secret.until.is_none_or(|until| until > now)
        };
        let valid = key.secrets.iter().any(is_valid) && !key.revoked && key.expires.is_none_or(|expires| expires > now);
        if !valid {
            return Err((Some(key), wrong_credentials()));
        }
        // Only logins with the right secret count: nobody can lock out the owner of a key by knowing its id.
        let count = self.0.logins.get_with(key.id.clone(), || Arc::new(AtomicU32::new(0)));
        if count.fetch_add(1, Ordering::Relaxed) >= self.0.logins_per_key {
            let fault = Fault::new(ErrorReason::RateLimited, "too many logins with this key").retry(COUNTED_FOR);
            return Err((Some(key), fault));
        }
        Ok(key)
    }

    /// Who an orchestrator is, if it may be used; `address`: from where, if that is asked.
    pub(crate) async fn profile(
        &self,
        organization: &OrganizationId,
        id: &OrchestratorId,
        address: Option<Option<IpAddr>>,
    ) -> Result<Profile, Fault> {
        let subject = self.credentials().subject(organization, id).await.map_err(Fault::unavailable)?;
        let Subject { organization, settings, orchestrator, state } = subject;
        let organization = organization.ok_or_else(wrong_credentials)?;
        if let Some(address) = address {
            check_address(&settings.networks, address)?;
        }
        // One that need not be made beforehand is as good as made.
        let is_open = settings.auto_create_orchestrators.unwrap_or(organization.auto_create_orchestrators);
        let made =
            || Orchestrator { organization: organization.id.clone(), id: id.clone(), display: Default::default() };
        let orchestrator =
            orchestrator.or_else(|| is_open.then(made)).ok_or_else(|| Fault::not_found("orchestrator"))?;
        if state.status == OrchestratorStatus::Disabled {
            return Err(Fault::new(ErrorReason::OrchestratorDisabled, "the orchestrator is disabled"));
        }
        Ok(Profile { organization, orchestrator, state })
    }

    fn tokens_of(&self, login: &Login) -> Result<(Issued, String), Fault> {
        let claims = self.claims(TokenClass::Access, login.orchestrator.as_str(), login.scopes, ACCESS_LIFE)?;
        let access = self.issue(Claims {
            organization: Some(login.organization.clone()),
            orchestrator: Some(login.orchestrator.clone()),
            daemon: login.daemon.clone(),
            login: Some(login.id.clone()),
            key: Some(login.key.clone()),
            networks: login.networks.clone(),
            ..claims
        })?;
        let refresh = RefreshToken { login: login.id.clone(), number: login.counter }.expose(&self.0.pepper);
        Ok((access, refresh))
    }

    pub(crate) async fn refresh(&self, token: &str, address: Option<IpAddr>) -> Result<(Issued, String), Fault> {
        let outcome = self.judge_refresh(token, address).await;
        self.0.metrics.login(Kind::Refresh, outcome)
    }

    async fn judge_refresh(&self, token: &str, address: Option<IpAddr>) -> Result<(Issued, String), Fault> {
        let presented = RefreshToken::parse(token, &self.0.pepper)
            .map_err(|_| Fault::new(ErrorReason::Unauthenticated, "the refresh token is not valid"))?;
        let rotation = self.credentials().rotate(&presented.login, presented.number, None).await;
        match rotation.map_err(Fault::unavailable)? {
            Rotation::Valid(login) => {
                check_address(&login.networks, address)?;
                self.tokens_of(&login)
            }
            Rotation::Reused => {
                tracing::warn!(login = %presented.login, "a refresh token was used twice: the login is revoked");
                self.note_reuse(&presented, address).await;
                Err(Fault::new(ErrorReason::TokenRevoked, "the refresh token was used before: log in again"))
            }
            Rotation::Revoked => Err(Fault::new(ErrorReason::TokenRevoked, "the login has been revoked")),
            Rotation::Unknown => Err(Fault::new(ErrorReason::TokenExpired, "the login has ended")),
        }
    }

    async fn note_reuse(&self, presented: &RefreshToken, address: Option<IpAddr>) {
        let Ok(Some(login)) = self.credentials().login(&presented.login).await else { return };
        let actor = format!("api_key:{}", login.key);
        let refused = Fault::new(ErrorReason::TokenRevoked, "");
        let named = (actor, format!("login:{}", login.id), String::new());
        self.note_login(Some(login.organization), "refresh_token.reused", named, Err(&refused), address).await;
    }
}
