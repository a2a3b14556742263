//! Keys: private ones that sign, public ones that verify.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use waystation_domain::SigningAlgorithm;

use crate::claims::{Claims, Signer, WireClaims, header_type};
use crate::issuer::{Issuer, TrustedIssuer};

/// Least bytes of the shared secret of the older platform.
const LEAST_HS256: usize = 32;
/// `kid` under which tokens of the older platform are looked up; they carry none.
pub(crate) const HS256_KEY: &str = "";
/// Bytes of an RSA modulus: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// A private key.
pub struct SigningKey {
    id: String,
    algorithm: SigningAlgorithm,
    key: EncodingKey,
    /// Coordinates: of Ed25519 x, of P-256 x and y.
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
    #[error("is not the seed of a key")]
    Seed,
}

impl SigningKey {
    /// From a seed of 256 random bits.
    ///
    /// # Errors
    /// If the seed cannot be a key. Of P-256 that is one in four billion.
    pub fn from_seed(id: &str, algorithm: SigningAlgorithm, seed: &[u8; 32]) -> Result<SigningKey, KeySetError> {
        let (key, public) = match algorithm {
            SigningAlgorithm::EdDsa => ed25519(seed),
            SigningAlgorithm::Es256 => p256(seed),
        }
        .map_err(|_| KeySetError::Seed)?;
        Ok(SigningKey { id: id.to_owned(), algorithm, key, public })
    }

    /// Signs a token.
    ///
    /// # Panics
    /// Never: claims are always JSON, and the key is one of the algorithm.
    pub fn sign(&self, claims: &Claims) -> String {
        let mut header = Header::new(match self.algorithm {
            SigningAlgorithm::EdDsa => Algorithm::EdDSA,
            SigningAlgorithm::Es256 => Algorithm::ES256,
        });
        header.typ = Some(header_type(claims.class).to_owned());
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, &WireClaims::from(claims), &self.key)
            .unwrap_or_else(|error| unreachable!("signing: {error}"))
    }

    fn public(&self) -> Jwk {
        let (x, y) = match self.algorithm {
            SigningAlgorithm::EdDsa => (&self.public[..], None),
            SigningAlgorithm::Es256 => (&self.public[..32], Some(&self.public[32..])),
        };
        let (kty, crv) = match self.algorithm {
            SigningAlgorithm::EdDsa => ("OKP", "Ed25519"),
            SigningAlgorithm::Es256 => ("EC", "P-256"),
        };
        Jwk {
            kty: kty.into(),
            crv: Some(crv.into()),
            alg: Some(self.algorithm.name().into()),
            key_use: Some("sig".into()),
            kid: Some(self.id.clone()),
            x: Some(URL_SAFE_NO_PAD.encode(x)),
            y: y.map(|y| URL_SAFE_NO_PAD.encode(y)),
            ..Jwk::default()
        }
    }
}

type Made = Result<(EncodingKey, Vec<u8>), aws_lc_rs::error::Unspecified>;

fn ed25519(seed: &[u8; 32]) -> Made {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| aws_lc_rs::error::Unspecified)?;
    let private = pair.to_pkcs8().map_err(|_| aws_lc_rs::error::Unspecified)?;
    Ok((EncodingKey::from_ed_der(private.as_ref()), pair.public_key().as_ref().to_vec()))
}

fn p256(seed: &[u8; 32]) -> Made {
    let private = PrivateKey::from_private_key(&ECDH_P256, seed).map_err(|_| aws_lc_rs::error::Unspecified)?;
    let public = private.compute_public_key()?;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, seed, public.as_ref())
        .map_err(|_| aws_lc_rs::error::Unspecified)?;
    // An uncompressed point: a tag, x and y.
    let coordinates = public.as_ref().get(1..65).ok_or(aws_lc_rs::error::Unspecified)?.to_vec();
    Ok((EncodingKey::from_ec_der(pair.to_pkcs8v1()?.as_ref()), coordinates))
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// A JWK Set (RFC 7517). Keys are read one by one, so that one that is not for us does not spoil the others.
#[derive(Debug, Serialize, Deserialize)]
struct JwkSet<K> {
    keys: Vec<K>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    key_use: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
}

/// A public key with its one algorithm.
pub(crate) type PublicKey = (Algorithm, DecodingKey);

impl Jwk {
    /// The key, if it is one that signs by an algorithm that is acceptable.
    fn key(&self) -> Option<PublicKey> {
        if self.key_use.as_deref().is_some_and(|key_use| key_use != "sig") {
            return None;
        }
        let says = |name: &str| self.alg.as_deref().is_none_or(|alg| alg == name);
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) if says("EdDSA") => {
                let key = DecodingKey::from_ed_components(self.x.as_deref()?).ok()?;
                Some((Algorithm::EdDSA, key))
            }
            ("EC", Some("P-256")) if says("ES256") => {
                let key = DecodingKey::from_ec_components(self.x.as_deref()?, self.y.as_deref()?).ok()?;
                Some((Algorithm::ES256, key))
            }
            ("RSA", None) if says("RS256") => {
                let (n, e) = (self.n.as_deref()?, self.e.as_deref()?);
                let modulus = URL_SAFE_NO_PAD.decode(n).ok()?;
                RSA_BYTES.contains(&modulus.len()).then_some(())?;
                Some((Algorithm::RS256, DecodingKey::from_rsa_components(n, e).ok()?))
            }
            _ => None,
        }
    }
}

/// The keys of a JWK Set by `kid`, and those that are not acceptable.
pub(crate) fn read_jwks(json: &[u8]) -> Result<(HashMap<String, PublicKey>, Vec<String>), KeySetError> {
    let malformed = |error: serde_json::Error| KeySetError::Malformed(error.to_string());
    let set: JwkSet<serde_json::Value> = serde_json::from_slice(json).map_err(malformed)?;
    let (mut keys, mut refused) = (HashMap::new(), Vec::new());
    for (index, value) in set.keys.into_iter().enumerate() {
        let jwk: Jwk = serde_json::from_value(value).unwrap_or_default();
        let kid = jwk.kid.clone().unwrap_or_default();
        match jwk.key().filter(|_| !kid.is_empty() && !keys.contains_key(&kid)) {
            Some(key) => drop(keys.insert(kid, key)),
            None => refused.push(format!("keys[{index}] ({kid:?})")),
        }
    }
    Ok((keys, refused))
}

/// Who may have signed a token: our own public keys by `kid`, and other issuers by name.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: HashMap<String, PublicKey>,
    issuers: HashMap<String, Arc<Issuer>>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.keys()).entries(self.issuers.keys()).finish()
    }
}

impl KeySet {
    /// From the JWK Set (RFC 7517) of our own keys: Ed25519 and P-256.
    ///
    /// # Errors
    /// If it is malformed or holds another kind of key.
    pub fn from_jwks(json: &[u8]) -> Result<KeySet, KeySetError> {
        let (keys, mut refused) = read_jwks(json)?;
        refused.extend(keys.iter().filter(|(_, (alg, _))| *alg == Algorithm::RS256).map(|(kid, _)| kid.clone()));
        if !refused.is_empty() {
            return Err(KeySetError::Malformed(format!("{} cannot be used", refused.join(", "))));
        }
        Ok(KeySet { keys, issuers: HashMap::new() })
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

    /// Trusts another issuer for the tokens of daemons.
    ///
    /// # Errors
    /// If none of its keys can be used, or its name is taken.
    pub fn with_issuer(mut self, trusted: TrustedIssuer) -> Result<KeySet, KeySetError> {
        let name = trusted.issuer.clone();
        if name == crate::ISSUER || self.issuers.contains_key(&name) {
            return Err(KeySetError::Malformed(format!("issuer {name:?} is there twice")));
        }
        self.issuers.insert(name, Arc::new(Issuer::new(trusted)?));
        Ok(self)
    }

    /// The public halves of private keys, as a JWK Set.
    pub fn to_jwks<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> Vec<u8> {
        let set = JwkSet { keys: keys.into_iter().map(SigningKey::public).collect::<Vec<_>>() };
        serde_json::to_vec(&set).unwrap_or_else(|error| unreachable!("a JWK Set is JSON: {error}"))
    }

    /// Whether a key is still among them.
    pub(crate) fn knows(&self, signer: &Signer) -> bool {
        match &signer.issuer {
            None => self.keys.contains_key(&*signer.kid),
            Some(issuer) => self.issuer(issuer).is_some_and(|issuer| issuer.key(&signer.kid).is_some()),
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&PublicKey> {
        self.keys.get(id)
    }

    pub(crate) fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.get(name).map(|issuer| &**issuer)
    }
}
