//! The keys that sign, as they follow each other.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use waystation_domain::Timestamp;
use waystation_rpc::Fault;
use waystation_store::credential::{KeyPhase, NewSigningKey, SigningKeys};
use waystation_token::{Claims, KeySet, Pepper, SigningKey};

/// The keys of the store, ready to sign.
pub(super) struct Ring {
    kept: ArcSwap<Kept>,
    pepper: Pepper,
}

#[derive(Default)]
struct Kept {
    stored: SigningKeys,
    /// In the order of the stored ones.
    keys: Vec<SigningKey>,
}

/// The store keeps only half of a key; the pepper is the other.
fn read(stored: SigningKeys, pepper: &Pepper) -> Result<Kept, Fault> {
    let keys = stored.0.iter().map(|key| {
        let seed = pepper.derived_secret("signing key", &[key.id.as_bytes(), &key.seed]);
        SigningKey::from_seed(&key.id, key.algorithm, &seed)
    });
    let keys = keys.collect::<Result<_, _>>().map_err(|error| Fault::field("signing key", error))?;
    Ok(Kept { stored, keys })
}

impl Ring {
    pub(super) fn new(stored: SigningKeys, pepper: Pepper) -> Result<Ring, Fault> {
        Ok(Ring { kept: ArcSwap::from_pointee(read(stored, &pepper)?), pepper })
    }

    /// Takes the keys in as they now are.
    pub(super) fn take(&self, stored: SigningKeys) -> Result<(), Fault> {
        if self.kept.load().stored != stored {
            self.kept.store(Arc::new(read(stored, &self.pepper)?));
        }
        Ok(())
    }

    /// The key that signs now, as it is kept.
    pub(super) fn present(&self, now: Timestamp) -> Option<NewSigningKey> {
        let kept = self.kept.load();
        let (key, _) = kept.stored.phases(now).find(|(_, phase)| *phase == KeyPhase::Active)?;
        Some(NewSigningKey {
            id: key.id.clone(),
            algorithm: key.algorithm,
            seed: key.seed,
            lead: Duration::ZERO,
            retiring: Duration::ZERO,
        })
    }

    pub(super) fn stored(&self) -> SigningKeys {
        self.kept.load().stored.clone()
    }

    /// Signs with the key whose turn it is.
    pub(super) fn sign(&self, claims: &Claims, now: Timestamp) -> Result<String, Fault> {
        let kept = self.kept.load();
        let turn = kept.stored.phases(now).find(|(_, phase)| *phase == KeyPhase::Active).map(|(key, _)| &key.id);
        let at = kept.stored.0.iter().position(|key| Some(&key.id) == turn);
        let key = at.and_then(|at| kept.keys.get(at)).ok_or_else(|| Fault::unavailable("there is no signing key"))?;
        Ok(key.sign(claims))
    }

    /// The public halves of those whose tokens are valid, or will be.
    pub(super) fn jwks(&self, now: Timestamp) -> Vec<u8> {
        let kept = self.kept.load();
        let published: Vec<&str> = kept.stored.phases(now).map(|(key, _)| key.id.as_str()).collect();
        let public = kept.stored.0.iter().zip(&kept.keys).filter(|(key, _)| published.contains(&key.id.as_str()));
        KeySet::to_jwks(public.map(|(_, key)| key))
    }
}
