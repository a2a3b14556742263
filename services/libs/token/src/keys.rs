//! Keys: private ones that sign, public ones that verify.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use crate::claims::{Claims, WireClaims};

/// Least bytes of the shared secret of the older platform.
const LEAST_HS256: usize = 32;
/// `kid` under which tokens of the older platform are looked up; they carry none.
pub(crate) const HS256_KEY: &str = "";

/// A private Ed25519 key.
pub struct SigningKey {
    id: String,
    key: EncodingKey,
    public: Vec<u8>,
}

/// A key set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is no JWK Set, or a key in it is not acceptable.
    #[error("is not an acceptable key set: {0}")]
    Malformed(String),
    /// The shared secret is too short.
    #[error("the HS256 secret must have at least {LEAST_HS256} bytes")]
    WeakSecret,
    /// The private key cannot be used.
    #[error("is not an Ed25519 seed")]
    Seed,
}

impl SigningKey {
    /// From a seed of 256 random bits.
    ///
    /// # Errors
    /// If the seed cannot be a key.
    pub fn from_seed(id: &str, seed: &[u8; 32]) -> Result<SigningKey, KeySetError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeySetError::Seed)?;
        let private = pair.to_pkcs8().map_err(|_| KeySetError::Seed)?;
        Ok(SigningKey {
            id: id.to_owned(),
            key: EncodingKey::from_ed_der(private.as_ref()),
            public: pair.public_key().as_ref().to_vec(),
        })
    }

    /// Signs a token.
    ///
    /// # Panics
    /// Never: claims are always JSON, and the key is one of EdDSA.
    pub fn sign(&self, claims: &Claims) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(claims.class.header_type().to_owned());
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, &WireClaims::from(claims), &self.key)
            .unwrap_or_else(|error| unreachable!("signing: {error}"))
    }

    fn public(&self) -> Jwk {
        Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            alg: "EdDSA".into(),
            key_use: "sig".into(),
            kid: self.id.clone(),
            x: URL_SAFE_NO_PAD.encode(&self.public),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    alg: String,
    #[serde(rename = "use")]
    key_use: String,
    kid: String,
    x: String,
}

/// Public keys by `kid`, each with its one algorithm.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: HashMap<String, (Algorithm, DecodingKey)>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

impl KeySet {
    /// From a JWK Set (RFC 7517) of Ed25519 keys.
    ///
    /// # Errors
    /// If it is malformed or holds another kind of key.
    pub fn from_jwks(json: &[u8]) -> Result<KeySet, KeySetError> {
        let malformed = |problem: String| KeySetError::Malformed(problem);
        let set: JwkSet = serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
        let mut keys = HashMap::new();
        for jwk in set.keys {
            if (jwk.kty.as_str(), jwk.crv.as_str(), jwk.alg.as_str()) != ("OKP", "Ed25519", "EdDSA")
                || jwk.kid.is_empty()
            {
                return Err(malformed(format!("key {:?} is not an Ed25519 key", jwk.kid)));
            }
            let key = DecodingKey::from_ed_components(&jwk.x).map_err(|error| malformed(error.to_string()))?;
            keys.insert(jwk.kid, (Algorithm::EdDSA, key));
        }
        Ok(KeySet { keys })
    }

    /// Adds the shared secret of the older platform.
    ///
    /// # Errors
    /// If it is shorter than 32 bytes.
    pub fn with_hs256(mut self, secret: &[u8]) -> Result<KeySet, KeySetError> {
        if secret.len() < LEAST_HS256 {
            return Err(KeySetError::WeakSecret);
        }
        self.keys.insert(HS256_KEY.into(), (Algorithm::HS256, DecodingKey::from_secret(secret)));
        Ok(self)
    }

    /// The public halves of private keys, as a JWK Set.
    pub fn to_jwks(keys: &[&SigningKey]) -> Vec<u8> {
        let set = JwkSet { keys: keys.iter().map(|key| key.public()).collect() };
        serde_json::to_vec(&set).unwrap_or_else(|error| unreachable!("a JWK Set is JSON: {error}"))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&(Algorithm, DecodingKey)> {
        self.keys.get(id)
    }
}
