//! Keeps a verifier's keys and revocations fresh.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use waystation_domain::{Revocation, ScopeSet};
use waystation_proto::auth::v1::auth_service_client::AuthServiceClient;
use waystation_proto::auth::v1::{GetKeySetRequest, GetKeySetResponse, TrustedIssuer, WatchRevocationsRequest};
use waystation_runtime::Context;
use waystation_token::{IssuedFor, KeySet, TrustedIssuer as Trusted, Verifier};

use crate::balance::Balanced;
use crate::client::{Bearer, run_until_stop};
use crate::convert::{parse, revocation_from};
use crate::fault::Fault;

/// After a failure.
const AGAIN: Duration = Duration::from_millis(500);
/// A stream of revocations without a heartbeat for so long is opened again.
const SILENCE: Duration = Duration::from_secs(6);

/// Asks auth for what a verifier must know.
#[derive(Clone)]
pub struct KeyKeeper {
    /// Where auth is.
    pub auth: Balanced,
    /// For WatchRevocations.
    pub bearer: Bearer,
    /// What is kept fresh.
    pub verifier: Verifier,
    /// The shared secret of the older platform, if configured.
    pub hs256: Option<secrecy::SecretString>,
}

/// Until when the verifier can be trusted to know what is revoked. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    last: Arc<ArcSwapOption<Instant>>,
    first: Arc<Notify>,
}

impl Heard {
    /// Whether auth was heard within a time.
    pub fn within(&self, time: Duration, now: Instant) -> bool {
        self.silence(now).is_some_and(|silence| silence <= time)
    }

    /// How long auth has been silent; `None`: it was never heard.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        self.last.load().as_ref().map(|last| now.saturating_duration_since(**last))
    }

    fn note(&self, now: Instant) {
        self.last.store(Some(Arc::new(now)));
        self.first.notify_one();
    }
}

impl KeyKeeper {
    /// Runs until the process stops. Resolves when the first keys and revocations are there. `on_revoked` is told of each batch after
    /// the verifier knows it, and of an empty one when the keys have changed: one may be gone. The answer says when auth was last heard.
    pub async fn keep(self, context: &Context, on_revoked: impl Fn(&[Revocation]) + Send + Sync + 'static) -> Heard {
        let heard = Heard::default();
        let mut version = String::new();
        while let Err(fault) = self.fetch_keys(&mut version).await {
            tracing::warn!("cannot fetch keys: {fault:?}");
            if run_until_stop(context, tokio::time::sleep(AGAIN)).await.is_none() {
                return heard;
            }
        }
        let (of_watch, of_caller) = (context.clone(), heard.clone());
        context.lifecycle.spawn(async move {
            let mut known = Known { cursor: 0, version };
            while let Some(ended) =
                run_until_stop(&of_watch, self.watch(&mut known, &on_revoked, &heard, &of_watch)).await
            {
                if let Err(fault) = ended {
                    tracing::warn!("cannot watch revocations: {fault:?}");
                }
                // The keys may have changed while nothing was heard, and with them what our own bearer is worth.
                match self.fetch_keys(&mut known.version).await {
                    Ok(()) => on_revoked(&[]),
                    Err(fault) => tracing::warn!("cannot fetch keys: {fault:?}"),
                }
                if run_until_stop(&of_watch, tokio::time::sleep(AGAIN)).await.is_none() {
                    return;
                }
            }
        });
        // Whoever must know what is revoked knows it from its beginning.
        run_until_stop(context, of_caller.first.notified()).await;
        of_caller
    }

    /// Fetches the keys; what is known already stays as it is, so that tokens need not be verified again.
    async fn fetch_keys(&self, known: &mut String) -> Result<(), Fault> {
        use secrecy::ExposeSecret as _;
        let answer = AuthServiceClient::new(self.auth.clone()).get_key_set(GetKeySetRequest {}).await;
        let GetKeySetResponse { jwks, issuers, version } =
            answer.map_err(|status| Fault::unavailable(status.message()))?.into_inner();
        if *known == version {
            return Ok(());
        }
        let mut keys = KeySet::from_jwks(&jwks).map_err(Fault::unavailable)?;
        if let Some(secret) = &self.hs256 {
            keys = keys.with_hs256(secret.expose_secret().as_bytes()).map_err(Fault::unavailable)?;
        }
        for issuer in issuers {
            keys = keys.with_issuer(issuer_from(issuer)?).map_err(Fault::unavailable)?;
        }
        self.verifier.set_keys(keys);
        if !known.is_empty() {
            // The key of our own token may be among those that are gone.
            self.bearer.renew();
        }
        *known = version;
        Ok(())
    }

    /// Follows the revocations from the cursor on, which moves with what was taken in.
    async fn watch(
        &self,
        known: &mut Known,
        on_revoked: &impl Fn(&[Revocation]),
        heard: &Heard,
        context: &Context,
    ) -> Result<(), Fault> {
        let lost = |status: tonic::Status| {
            if status.code() == tonic::Code::Unauthenticated {
                self.bearer.renew();
            }
            Fault::unavailable(status.message())
        };
        let mut client = AuthServiceClient::with_interceptor(self.auth.clone(), self.bearer.clone());
        let request = WatchRevocationsRequest { cursor: known.cursor };
        let mut stream = client.watch_revocations(request).await.map_err(lost)?.into_inner();
        loop {
            let next = tokio::time::timeout(SILENCE, stream.message()).await;
            let Some(news) = next.map_err(|_| Fault::unavailable("no heartbeat"))?.map_err(lost)? else {
                return Ok(());
            };
            if news.key_set_version != known.version {
                self.fetch_keys(&mut known.version).await?;
                on_revoked(&[]);
            }
            let revocations: Vec<Revocation> =
                news.revocations.into_iter().map(revocation_from).collect::<Result<_, _>>()?;
            if !revocations.is_empty() {
                self.verifier.revoke(revocations.iter().cloned());
                on_revoked(&revocations);
            }
            known.cursor = news.cursor;
            heard.note(context.clock.instant());
        }
    }
}

/// What was taken in.
struct Known {
    cursor: u64,
    version: String,
}

fn issuer_from(issuer: TrustedIssuer) -> Result<Trusted, Fault> {
    let organization = match issuer.organization_id.as_str() {
        "" => IssuedFor::Claim(issuer.organization_claim),
        id => IssuedFor::Organization(parse("organization_id", id)?),
    };
    Ok(Trusted {
        issuer: issuer.issuer,
        audience: issuer.audience,
        organization,
        orchestrator_claim: issuer.orchestrator_claim,
        users: issuer.users,
        scopes_claim: Some(issuer.scopes_claim).filter(|claim| !claim.is_empty()),
        scopes: ScopeSet::from_known(issuer.scopes.iter().map(String::as_str)),
        jwks: issuer.jwks.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::revocation_to;
    use waystation_domain::{Revoked, Timestamp};

    #[test]
    fn revocations_travel_unchanged() {
        let revoked = [
            Revoked::Token("t".parse().unwrap()),
            Revoked::Login("l".parse().unwrap()),
            Revoked::ApiKey("k".parse().unwrap()),
            Revoked::Orchestrator("o".parse().unwrap()),
            Revoked::Organization,
        ];
        for revoked in revoked {
            let at = Timestamp::from_millis(1_234_567);
            let revocation = Revocation { organization: "acme".parse().unwrap(), revoked, at };
            assert_eq!(revocation_from(revocation_to(&revocation)), Ok(revocation));
        }
    }
}
