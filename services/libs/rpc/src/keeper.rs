//! Keeps a verifier's keys and revocations fresh.

use std::time::Duration;

use waystation_domain::Revocation;
use waystation_proto::auth::v1::auth_service_client::AuthServiceClient;
use waystation_proto::auth::v1::{GetKeySetRequest, WatchRevocationsRequest};
use waystation_runtime::Context;
use waystation_token::{KeySet, Verifier};

use crate::balance::Balanced;
use crate::client::{Bearer, run_until_stop};
use crate::convert::revocation_from;
use crate::fault::Fault;

/// How often keys are fetched; keys are published long before they are used.
const KEYS_EVERY: Duration = Duration::from_secs(60);
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

impl KeyKeeper {
    /// Runs until the process stops. Resolves when the first keys are there. `on_revoked` is told of
    /// each batch after the verifier knows it.
    pub async fn keep(self, context: &Context, on_revoked: impl Fn(&[Revocation]) + Send + Sync + 'static) {
        while let Err(fault) = self.fetch_keys().await {
            tracing::warn!("cannot fetch keys: {fault:?}");
            if run_until_stop(context, tokio::time::sleep(AGAIN)).await.is_none() {
                return;
            }
        }
        let (keys, of_keys) = (self.clone(), context.clone());
        context.lifecycle.spawn(async move {
            while run_until_stop(&of_keys, tokio::time::sleep(KEYS_EVERY)).await.is_some() {
                if let Err(fault) = keys.fetch_keys().await {
                    tracing::warn!("cannot fetch keys: {fault:?}");
                }
            }
        });
        let of_watch = context.clone();
        context.lifecycle.spawn(async move {
            let mut cursor = 0;
            while let Some(ended) = run_until_stop(&of_watch, self.watch(&mut cursor, &on_revoked)).await {
                if let Err(fault) = ended {
                    tracing::warn!("cannot watch revocations: {fault:?}");
                }
                if run_until_stop(&of_watch, tokio::time::sleep(AGAIN)).await.is_none() {
                    return;
                }
            }
        });
    }

    async fn fetch_keys(&self) -> Result<(), Fault> {
        use secrecy::ExposeSecret as _;
        let answer = AuthServiceClient::new(self.auth.clone()).get_key_set(GetKeySetRequest {}).await;
        let jwks = answer.map_err(|status| Fault::unavailable(status.message()))?.into_inner().jwks;
        let mut keys = KeySet::from_jwks(&jwks).map_err(Fault::unavailable)?;
        if let Some(secret) = &self.hs256 {
            keys = keys.with_hs256(secret.expose_secret().as_bytes()).map_err(Fault::unavailable)?;
        }
        self.verifier.set_keys(keys);
        Ok(())
    }

    /// Follows the revocations from the cursor on, which moves with what was taken in.
    async fn watch(&self, cursor: &mut u64, on_revoked: &impl Fn(&[Revocation])) -> Result<(), Fault> {
        let lost = |status: tonic::Status| Fault::unavailable(status.message());
        let mut client = AuthServiceClient::with_interceptor(self.auth.clone(), self.bearer.clone());
        let request = WatchRevocationsRequest { cursor: *cursor };
        let mut stream = client.watch_revocations(request).await.map_err(lost)?.into_inner();
        loop {
            let next = tokio::time::timeout(SILENCE, stream.message()).await;
            let Some(news) = next.map_err(|_| Fault::unavailable("no heartbeat"))?.map_err(lost)? else {
                return Ok(());
            };
            let revocations: Vec<Revocation> =
                news.revocations.into_iter().map(revocation_from).collect::<Result<_, _>>()?;
            if !revocations.is_empty() {
                self.verifier.revoke(revocations.iter().cloned());
                on_revoked(&revocations);
            }
            *cursor = news.cursor;
        }
    }
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
