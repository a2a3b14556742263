//! The rules of auth, without their transport.

mod logins;
mod records;
mod signing;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::sync::Cache;
use secrecy::{ExposeSecret as _, SecretString};
use waystation_domain::{
    ApiKeyId, LoginId, OrganizationId, Revocation, Revoked, ScopeSet, SigningAlgorithm, Timestamp,
};
use waystation_rpc::Fault;
use waystation_runtime::Context;
use waystation_store::audit::{AuditLog, Chain};
use waystation_store::credential::{ApiKey, Login, NewSigningKey};
use waystation_store::{CredentialStore, Store};
use waystation_token::{Claims, KeySet, Pepper, TrustedIssuer, Verifier};

use crate::Config;
use crate::audit::{Actor, Auditor, Event};
use crate::metrics::Metrics;
pub(crate) use logins::{DaemonLoginRequest, Profile};
pub use records::NewApiKey;
pub(crate) use records::{Rotation, SigningRotation};
use signing::Ring;

/// How often the store is asked for what other replicas did.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// Looks that fail in a row before auth asks for no more traffic.
const PATIENT_ROUNDS: u32 = 6;
/// Keys whose logins are counted.
const COUNTED_KEYS: u64 = 100_000;
/// The time over which they are counted.
pub(crate) const COUNTED_FOR: Duration = Duration::from_secs(60);

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

/// Issues and judges. Cheap to clone.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    store: Store,
    ring: Ring,
    /// What verifiers are told, and its version.
    published: ArcSwap<Published>,
    issuers: ArcSwap<Vec<TrustedIssuer>>,
    verifier: Verifier,
    auditor: Auditor,
    pepper: Pepper,
    services: Vec<ServiceAccount>,
    hs256: Option<SecretString>,
    algorithm: SigningAlgorithm,
    longest_life: Duration,
    logins_per_key: u32,
    logins: Cache<ApiKeyId, Arc<std::sync::atomic::AtomicU32>>,
    metrics: Metrics,
    context: Context,
}

/// What every verifier must know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) jwks: Vec<u8>,
    pub(crate) issuers: Vec<TrustedIssuer>,
    pub(crate) version: String,
}

impl Authority {
    pub(crate) async fn open(config: Config, store: Store, metrics: Metrics, context: &Context) -> Result<Self, Fault> {
        let offered = NewSigningKey {
            id: context.entropy.id(),
            algorithm: config.signing_algorithm,
            seed: context.entropy.secret(),
            lead: Duration::ZERO,
            retiring: Duration::ZERO,
        };
        let kept = loop {
            match store.credentials.first_signing_key(offered.clone(), None).await {
                Ok(kept) => break kept,
                Err(unavailable) => tracing::warn!("cannot read the signing keys: {unavailable}"),
            }
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
                () = context.lifecycle.stopping() => return Err(Fault::unavailable("auth is stopping")),
            }
        };
        let Config { pepper, services, hs256, signing_algorithm, longest_life, logins_per_key, .. } = config;
        let authority = Authority(Arc::new(Inner {
            auditor: Auditor::start(store.clone(), pepper.clone(), context),
            store,
            ring: Ring::new(kept, pepper.clone())?,
            published: ArcSwap::default(),
            issuers: ArcSwap::default(),
            verifier: Verifier::default(),
            pepper,
            services,
            hs256,
            algorithm: signing_algorithm,
            longest_life,
            logins_per_key,
            logins: Cache::builder().max_capacity(COUNTED_KEYS).time_to_live(COUNTED_FOR).build(),
            metrics,
            context: context.clone(),
        }));
        authority.publish()?;
        Ok(authority)
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

    pub(crate) fn pepper(&self) -> &Pepper {
        &self.0.pepper
    }

    fn credentials(&self) -> &dyn CredentialStore {
        &*self.0.store.credentials
    }

    fn now(&self) -> Timestamp {
        self.0.context.clock.now()
    }

    pub(crate) fn published(&self) -> Arc<Published> {
        self.0.published.load_full()
    }

    /// Trusts these issuers from now on.
    ///
    /// # Errors
    /// If the keys of one cannot be used; then nothing changes.
    pub(crate) fn trust(&self, issuers: Vec<TrustedIssuer>) -> Result<(), Fault> {
        let before = self.0.issuers.swap(Arc::new(issuers));
        self.publish().inspect_err(|_| self.0.issuers.store(before))
    }

    /// Tells verifiers, this one first, which keys there are now.
    fn publish(&self) -> Result<(), Fault> {
        let (jwks, issuers) = (self.0.ring.jwks(self.now()), self.0.issuers.load_full());
        let known = self.0.published.load();
        if known.jwks == jwks && known.issuers == *issuers {
            return Ok(());
        }
        let bad = |error: waystation_token::KeySetError| Fault::field("keys", error);
        let mut keys = KeySet::from_jwks(&jwks).map_err(bad)?;
        if let Some(secret) = &self.0.hs256 {
            keys = keys.with_hs256(secret.expose_secret().as_bytes()).map_err(bad)?;
        }
        for issuer in issuers.iter() {
            keys = keys.with_issuer(issuer.clone()).map_err(bad)?;
        }
        self.0.verifier.set_keys(keys);
        let version = waystation_token::digest_of(&[&jwks, format!("{issuers:?}").as_bytes()]);
        self.0.published.store(Arc::new(Published { jwks, issuers: issuers.to_vec(), version }));
        Ok(())
    }

    /// Takes in what other replicas revoke and rotate. Whether that works says whether the store answers.
    pub(crate) fn follow(&self) {
        let this = self.clone();
        let readiness = self.0.context.readiness.clone();
        self.0.context.lifecycle.spawn(async move {
            let (mut cursor, mut failed) = (0, 0);
            loop {
                match this.follow_once(&mut cursor).await {
                    Ok(()) => {
                        failed = 0;
                        readiness.set(true);
                    }
                    Err(fault) => {
                        tracing::warn!("cannot follow the store: {fault:?}");
                        failed += 1;
                        if failed >= PATIENT_ROUNDS {
                            readiness.set(false);
                        }
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(FOLLOW_EVERY) => {}
                    () = this.0.context.lifecycle.stopping() => return readiness.set(false),
                }
            }
        });
    }

    async fn follow_once(&self, cursor: &mut u64) -> Result<(), Fault> {
        let (news, next) = self.revocations_after(*cursor).await?;
        if !news.is_empty() {
            self.0.verifier.revoke(news);
        }
        *cursor = next;
        let mut stored = self.credentials().signing_keys().await.map_err(Fault::unavailable)?;
        if let Some(present) = self.0.ring.present(self.now()).filter(|_| stored.0.is_empty()) {
            // The store has lost them with the rest. Nobody's token shall end for that: it gets back the one that signs.
            tracing::warn!("the store has lost its signing keys");
            stored = self.credentials().first_signing_key(present, None).await.map_err(Fault::unavailable)?;
        }
        self.0.ring.take(stored)?;
        self.publish()
    }

    /// Revocations after a cursor, and the cursor to go on from.
    pub(crate) async fn revocations_after(&self, cursor: u64) -> Result<(Vec<Revocation>, u64), Fault> {
        let found = self.credentials().revocations(cursor).await.map_err(Fault::unavailable)?;
        let next = found.last().map_or(cursor, |(cursor, _)| *cursor);
        Ok((found.into_iter().map(|(_, revocation)| revocation).collect(), next))
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

    /// Writes down what became of a change, and passes it on; `None`: of the cell itself.
    ///
    /// # Errors
    /// Those of the change, or UNAVAILABLE if it cannot be written down.
    pub(crate) async fn account<T>(
        &self,
        organization: Option<&OrganizationId>,
        action: &'static str,
        actor: &Actor,
        (target, detail): (String, String),
        outcome: Result<T, Fault>,
    ) -> Result<T, Fault> {
        let event = Event {
            chain: Chain { organization: organization.cloned(), log: AuditLog::Changes },
            action,
            actor: actor.name.clone(),
            target,
            request: actor.request.clone(),
            result: outcome.as_ref().err().map_or("ok", Fault::name),
            detail,
        };
        match outcome {
            Ok(value) => self.0.auditor.record(event).await.map(|()| value),
            Err(fault) => {
                self.0.auditor.note(event).await;
                Err(fault)
            }
        }
    }
}
