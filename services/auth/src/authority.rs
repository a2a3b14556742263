//! The rules of auth, without their transport.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use waystation_domain::{
    ApiKeyId, DaemonId, LoginId, OrchestratorId, OrganizationId, Revocation, Revoked, Scope, ScopeSet, Timestamp,
};
use waystation_proto::common::v1::ErrorReason;
use waystation_rpc::Fault;
use waystation_runtime::{Context, Readiness};
use waystation_store::credential::{
    ApiKey, Created, Login, Orchestrator, Organization, OrganizationSettings, Rotation, SigningKey as StoredKey,
};
use waystation_store::{CredentialStore, Store};
use waystation_token::{ApiKeySecret, Claims, KeySet, Pepper, RefreshToken, SigningKey, TokenClass, Verifier};

use crate::Config;
use crate::metrics::{Kind, Metrics};

/// Life of a daemon's access token.
const ACCESS_LIFE: Duration = Duration::from_secs(15 * 60);
/// Life of a service's token.
const SERVICE_LIFE: Duration = Duration::from_secs(60 * 60);
/// How often the store is asked for revocations that other replicas made.
const REVOCATIONS_EVERY: Duration = Duration::from_millis(500);
/// Looks that fail in a row before auth asks for no more traffic.
const PATIENT_ROUNDS: u32 = 6;

/// A service that may log in.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    /// Its name.
    pub name: String,
    /// Its secret.
    pub secret: SecretString,
    /// The organization it is bound to; `None`: it may act in any.
    pub organization: Option<OrganizationId>,
    /// What it may do; nothing but what the policy grants its name, if empty.
    pub scopes: ScopeSet,
    /// It gets an operator's tokens: it may do everything.
    pub operator: bool,
}

/// A token and when it ends.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// What it says.
    pub claims: Claims,
}

/// What a daemon logs in with. No Debug: it holds a secret.
pub(crate) struct DaemonLoginRequest {
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) orchestrator: String,
    pub(crate) daemon: String,
    /// `None`: all that the key has.
    pub(crate) scopes: Option<ScopeSet>,
}

/// A daemon's login.
pub(crate) struct DaemonLogin {
    pub(crate) access: Issued,
    pub(crate) refresh: String,
    pub(crate) organization: Organization,
    pub(crate) orchestrator: Orchestrator,
}

/// A key to make.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// Tenant.
    pub organization: OrganizationId,
    /// `None`: for every orchestrator.
    pub orchestrator: Option<OrchestratorId>,
    /// What its logins may have.
    pub scopes: ScopeSet,
    /// `None`: never.
    pub expires: Option<Timestamp>,
}

/// Issues and judges. Cheap to clone.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    store: Store,
    signing: SigningKey,
    verifier: Verifier,
    pepper: Pepper,
    services: Vec<ServiceAccount>,
    metrics: Metrics,
    context: Context,
}

/// One answer for every wrong credential: which part was wrong, an attacker need not know.
fn wrong_credentials() -> Fault {
    Fault::new(ErrorReason::Unauthenticated, "the credentials are not valid")
}

impl Authority {
    pub(crate) async fn open(config: Config, store: Store, metrics: Metrics, context: &Context) -> Result<Self, Fault> {
        let offered =
            StoredKey { id: context.entropy.id(), seed: context.entropy.secret(), created: context.clock.now() };
        let kept = loop {
            match store.credentials.signing_key(offered.clone(), None).await {
                Ok(kept) => break kept,
                Err(unavailable) => tracing::warn!("cannot read the signing key: {unavailable}"),
            }
            tokio::select! {
                () = tokio::time::sleep(REVOCATIONS_EVERY) => {}
                () = context.lifecycle.stopping() => return Err(Fault::unavailable("auth is stopping")),
            }
        };
        let signing =
            SigningKey::from_seed(&kept.id, &kept.seed).map_err(|error| Fault::field("signing key", error))?;
        let verifier = Verifier::default();
        let mut keys = KeySet::from_jwks(&KeySet::to_jwks(&[&signing])).map_err(|error| Fault::field("keys", error))?;
        if let Some(secret) = &config.hs256 {
            let secret = secret.expose_secret().as_bytes();
            keys = keys.with_hs256(secret).map_err(|error| Fault::field("DAEMON_JWT_SECRET", error))?;
        }
        verifier.set_keys(keys);
        let Config { pepper, services, .. } = config;
        Ok(Authority(Arc::new(Inner { store, signing, verifier, pepper, services, metrics, context: context.clone() })))
    }

    pub(crate) fn verifier(&self) -> Verifier {
        self.0.verifier.clone()
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.context
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    fn credentials(&self) -> &dyn CredentialStore {
        &*self.0.store.credentials
    }

    pub(crate) fn key_set(&self) -> Vec<u8> {
        KeySet::to_jwks(&[&self.0.signing])
    }

    /// Takes in what any replica revokes.
    /// Takes in what other replicas revoke. Whether that works says whether the store answers.
    pub(crate) fn follow_revocations(&self, readiness: Readiness) {
        let this = self.clone();
        self.0.context.lifecycle.spawn(async move {
            let (mut cursor, mut failed) = (0, 0);
            loop {
                match this.revocations_after(cursor).await {
                    Ok((news, next)) => {
                        this.0.verifier.revoke(news);
                        (cursor, failed) = (next, 0);
                        readiness.set(true);
                    }
                    Err(fault) => {
                        tracing::warn!("cannot read revocations: {fault:?}");
                        failed += 1;
                        if failed >= PATIENT_ROUNDS {
                            readiness.set(false);
                        }
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(REVOCATIONS_EVERY) => {}
                    () = this.0.context.lifecycle.stopping() => return readiness.set(false),
                }
            }
        });
    }

    /// Revocations after a cursor, and the cursor to go on from.
    pub(crate) async fn revocations_after(&self, cursor: u64) -> Result<(Vec<Revocation>, u64), Fault> {
        let found = self.credentials().revocations(cursor).await.map_err(Fault::unavailable)?;
        let next = found.last().map_or(cursor, |(cursor, _)| *cursor);
        Ok((found.into_iter().map(|(_, revocation)| revocation).collect(), next))
    }

    /// Signs a token.
    fn issue(&self, claims: Claims) -> Issued {
        Issued { token: self.0.signing.sign(&claims), claims }
    }

    fn claims(&self, class: TokenClass, subject: &str, scopes: ScopeSet, life: Duration) -> Result<Claims, Fault> {
        let now = self.0.context.clock.now();
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
            issued: now,
            expires: now.after(life),
        })
    }

    /// A token for a backend of one organization.
    ///
    /// # Errors
    /// Never in practice: ids of tokens are well-formed.
    pub fn service_token(
        &self,
        service: &str,
        organization: Option<OrganizationId>,
        scopes: ScopeSet,
        life: Duration,
    ) -> Result<Issued, Fault> {
        let claims = self.claims(TokenClass::Service, service, scopes, life)?;
        Ok(self.issue(Claims { organization, ..claims }))
    }

    /// A token for an operator.
    ///
    /// # Errors
    /// Never in practice: ids of tokens are well-formed.
    pub fn operator_token(&self, operator: &str, life: Duration) -> Result<Issued, Fault> {
        let scopes = [Scope::AdminAll].into_iter().collect();
        Ok(self.issue(self.claims(TokenClass::Operator, operator, scopes, life)?))
    }

    pub(crate) fn log_in_service(
        &self,
        name: &str,
        secret: &str,
        organization: Option<OrganizationId>,
        requested: Option<ScopeSet>,
    ) -> Result<Issued, Fault> {
        let account = self.judge_service(name, secret);
        let account = self.0.metrics.login(Kind::Service, account)?;
        if account.operator {
            return self.operator_token(name, SERVICE_LIFE);
        }
        let organization = match (&account.organization, organization) {
            (Some(own), Some(named)) if *own != named => return Err(Fault::not_found("organization")),
            (Some(own), _) => Some(own.clone()),
            (None, named) => named,
        };
        let scopes = requested.map_or(account.scopes, |requested| account.scopes.intersection(requested));
        self.service_token(name, organization, scopes, SERVICE_LIFE)
    }

    fn judge_service(&self, name: &str, secret: &str) -> Result<&ServiceAccount, Fault> {
        let account = self.0.services.iter().find(|account| account.name == name).ok_or_else(wrong_credentials)?;
        let same = account.secret.expose_secret().as_bytes().ct_eq(secret.as_bytes());
        if bool::from(same) { Ok(account) } else { Err(wrong_credentials()) }
    }

    pub(crate) async fn log_in_daemon(&self, asked: DaemonLoginRequest) -> Result<DaemonLogin, Fault> {
        let outcome = self.judge_daemon(asked).await;
        self.0.metrics.login(Kind::Daemon, outcome)
    }

    async fn judge_daemon(&self, asked: DaemonLoginRequest) -> Result<DaemonLogin, Fault> {
        let DaemonLoginRequest { key, secret, orchestrator, daemon, scopes: requested } = asked;
        let key = self.judge_key(&key, &secret).await?;
        let orchestrator = match (&key.orchestrator, orchestrator.as_str()) {
            (None, "") => return Err(Fault::field("orchestrator_id", "must not be empty: the key is bound to none")),
            (Some(bound), "") => bound.clone(),
            (_, named) => waystation_rpc::convert::parse("orchestrator_id", named)?,
        };
        if key.orchestrator.as_ref().is_some_and(|bound| *bound != orchestrator) {
            return Err(Fault::not_found("orchestrator"));
        }
        let daemon: Option<DaemonId> = waystation_rpc::convert::parse_optional("daemon_id", &daemon)?;
        let organization = self.credentials().organization(&key.organization).await.map_err(Fault::unavailable)?;
        let organization = organization.ok_or_else(wrong_credentials)?;
        let orchestrator = self.orchestrator(&organization, &orchestrator).await?;
        let scopes = requested.map_or(key.scopes, |requested| key.scopes.intersection(requested));
        let login = Login {
            id: self.0.context.entropy.id().parse().map_err(|error| Fault::field("login", error))?,
            organization: organization.id.clone(),
            orchestrator: orchestrator.id.clone(),
            daemon,
            key: key.id,
            scopes,
            counter: 1,
            rotated: self.0.context.clock.now(),
            revoked: false,
        };
        self.credentials().create_login(login.clone(), None).await.map_err(Fault::unavailable)?;
        let (access, refresh) = self.tokens_of(&login)?;
        Ok(DaemonLogin { access, refresh, organization, orchestrator })
    }

    async fn judge_key(&self, id: &str, secret: &str) -> Result<ApiKey, Fault> {
        let presented = ApiKeySecret::parse(secret).map_err(|_| wrong_credentials())?;
        if presented.id().as_str() != id {
            return Err(wrong_credentials());
        }
        let key = self.credentials().api_key(presented.id()).await.map_err(Fault::unavailable)?;
        let key = key.ok_or_else(wrong_credentials)?;
        let now = self.0.context.clock.now();
        let valid = presented.matches(&self.0.pepper, &key.mac)
            && !key.revoked
            && key.expires.is_none_or(|expires| expires > now);
        if valid { Ok(key) } else { Err(wrong_credentials()) }
    }

    /// The record of an orchestrator; one that need not be made beforehand is as good as made.
    async fn orchestrator(&self, of: &Organization, id: &OrchestratorId) -> Result<Orchestrator, Fault> {
        let found = self.credentials().orchestrator(&of.id, id).await.map_err(Fault::unavailable)?;
        if let Some(orchestrator) = found {
            return Ok(orchestrator);
        }
        let settings = self.credentials().settings(&of.id).await.map_err(Fault::unavailable)?;
        if !settings.auto_create_orchestrators.unwrap_or(of.auto_create_orchestrators) {
            return Err(Fault::not_found("orchestrator"));
        }
        Ok(Orchestrator { organization: of.id.clone(), id: id.clone(), display: Default::default() })
    }

    fn tokens_of(&self, login: &Login) -> Result<(Issued, String), Fault> {
        let claims = self.claims(TokenClass::Access, login.orchestrator.as_str(), login.scopes, ACCESS_LIFE)?;
        let access = self.issue(Claims {
            organization: Some(login.organization.clone()),
            orchestrator: Some(login.orchestrator.clone()),
            daemon: login.daemon.clone(),
            login: Some(login.id.clone()),
            key: Some(login.key.clone()),
            ..claims
        });
        let refresh = RefreshToken { login: login.id.clone(), number: login.counter }.expose(&self.0.pepper);
        Ok((access, refresh))
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<(Issued, String), Fault> {
        let outcome = self.judge_refresh(token).await;
        self.0.metrics.login(Kind::Refresh, outcome)
    }

    async fn judge_refresh(&self, token: &str) -> Result<(Issued, String), Fault> {
        let presented = RefreshToken::parse(token, &self.0.pepper)
            .map_err(|_| Fault::new(ErrorReason::Unauthenticated, "the refresh token is not valid"))?;
        let rotation = self.credentials().rotate(&presented.login, presented.number, None).await;
        match rotation.map_err(Fault::unavailable)? {
            Rotation::Valid(login) => self.tokens_of(&login),
            Rotation::Reused => {
                tracing::warn!(login = %presented.login, "a refresh token was used twice: the login is revoked");
                Err(Fault::new(ErrorReason::TokenRevoked, "the refresh token was used before: log in again"))
            }
            Rotation::Revoked => Err(Fault::new(ErrorReason::TokenRevoked, "the login has been revoked")),
            Rotation::Unknown => Err(Fault::new(ErrorReason::TokenExpired, "the login has ended")),
        }
    }

    pub(crate) async fn revoke(&self, organization: &OrganizationId, revoked: Revoked) -> Result<(), Fault> {
        tracing::info!(%organization, ?revoked, "revoked");
        self.credentials().revoke(organization, revoked, None).await.map_err(Fault::unavailable)
    }

    pub(crate) async fn login(&self, id: &LoginId) -> Result<Option<Login>, Fault> {
        self.credentials().login(id).await.map_err(Fault::unavailable)
    }

    pub(crate) async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, Fault> {
        self.credentials().api_key(id).await.map_err(Fault::unavailable)
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// If one of that id is there with other content.
    pub async fn create_organization(&self, organization: Organization) -> Result<(), Fault> {
        let created = self.credentials().create_organization(organization, None).await.map_err(Fault::unavailable)?;
        judge_created(created, "organization")
    }

    /// Makes an addressee.
    ///
    /// # Errors
    /// If one of that id is there with other content, or its organization is not.
    pub async fn create_orchestrator(&self, orchestrator: Orchestrator) -> Result<(), Fault> {
        let created = self.credentials().create_orchestrator(orchestrator, None).await.map_err(Fault::unavailable)?;
        judge_created(created, "orchestrator")
    }

    /// What an organization has chosen.
    ///
    /// # Errors
    /// NOT_FOUND if there is no such organization.
    pub async fn settings(&self, id: &OrganizationId) -> Result<OrganizationSettings, Fault> {
        let found = self.credentials().organization(id).await.map_err(Fault::unavailable)?;
        let organization = found.ok_or_else(|| Fault::not_found("organization"))?;
        let settings = self.credentials().settings(id).await.map_err(Fault::unavailable)?;
        let open = settings.auto_create_orchestrators.or(Some(organization.auto_create_orchestrators));
        Ok(OrganizationSettings { auto_create_orchestrators: open, ..settings })
    }

    /// Replaces what an organization has chosen.
    ///
    /// # Errors
    /// NOT_FOUND if there is no such organization.
    pub async fn set_settings(&self, id: &OrganizationId, settings: OrganizationSettings) -> Result<(), Fault> {
        let known = self.credentials().set_settings(id, settings, None).await.map_err(Fault::unavailable)?;
        known.then_some(()).ok_or_else(|| Fault::not_found("organization"))
    }

    /// Makes a key with a new id and secret, which is shown here and never again.
    ///
    /// # Errors
    /// If the organization is not there.
    pub async fn create_api_key(&self, new: NewApiKey) -> Result<ApiKeySecret, Fault> {
        let id = self.0.context.entropy.id()[..20].parse().map_err(|error| Fault::field("key", error))?;
        let secret = ApiKeySecret::new(id, self.0.context.entropy.secret());
        self.keep_api_key(new, &secret).await?;
        Ok(secret)
    }

    /// Keeps a key whose secret is known already.
    ///
    /// # Errors
    /// If one of that id is there with other content, or its organization is not.
    pub async fn keep_api_key(&self, new: NewApiKey, secret: &ApiKeySecret) -> Result<(), Fault> {
        let key = ApiKey {
            id: secret.id().clone(),
            organization: new.organization,
            orchestrator: new.orchestrator,
            scopes: new.scopes,
            mac: secret.mac(&self.0.pepper),
            expires: new.expires,
            revoked: false,
        };
        let created = self.credentials().create_api_key(key, None).await.map_err(Fault::unavailable)?;
        judge_created(created, "API key")
    }
}

fn judge_created(created: Created, what: &str) -> Result<(), Fault> {
    match created {
        Created::Yes => Ok(()),
        Created::Conflict => {
            Err(Fault::new(ErrorReason::AlreadyExists, format!("this {what} exists with other content")))
        }
        Created::NoParent => Err(Fault::not_found("organization")),
    }
}
