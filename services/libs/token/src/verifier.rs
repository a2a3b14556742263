//! Judges tokens.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use moka::sync::Cache;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};
use waystation_domain::{Revocation, Timestamp, TokenClass, check_document};

use crate::claims::{Claims, Signer, WireClaims, header_type};
use crate::issuer::LONGEST_LIFE;
use crate::keys::{HS256_KEY, KeySet, PublicKey};
use crate::revocations::Revocations;

/// Longest token, in bytes.
const MAX_TOKEN: usize = 4 * 1024;
/// Tokens whose signature need not be verified again.
const CACHED: u64 = 20_000;
/// How far clocks of hosts may differ.
const SKEW: Duration = Duration::from_secs(5);

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours, by form, header, key or signature. Which, an attacker need not know.
    #[error("the token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was revoked.
    #[error("the token has been revoked")]
    Revoked,
}

/// Verifies tokens with keys and revocations that are kept fresh by others. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    keys: Arc<ArcSwap<KeySet>>,
    revocations: Arc<ArcSwap<Revocations>>,
    /// By the digest of the token: the tokens themselves are ten times as large.
    verified: Cache<[u8; 32], Arc<Claims>>,
}

/// All that a header may hold: anything else could bring a key or a rule of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    /// Other issuers name the certificate of their key once more; it is never looked at.
    #[serde(rename = "x5t")]
    thumbprint: Option<IgnoredAny>,
}

/// What is read of a token before it is known whose key to try.
#[derive(Deserialize)]
struct Unverified {
    iss: String,
}

impl Default for Verifier {
    /// Knows no key yet, and so accepts nothing.
    fn default() -> Self {
        Verifier {
            keys: Arc::default(),
            revocations: Arc::default(),
            verified: Cache::builder().max_capacity(CACHED).build(),
        }
    }
}

fn digest_of(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref());
    key
}

/// A part of a token that nobody has vouched for yet.
fn part<T: DeserializeOwned>(token: &str, number: usize) -> Result<T, TokenError> {
    let part = token.split('.').nth(number).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    part.and_then(|part| serde_json::from_slice(&part).ok()).ok_or(TokenError::Invalid)
}

/// The claims of a token whose signature holds. Time, issuer and audience are judged by us, by our own clock and
/// without the defaults of a library.
fn signed<T: DeserializeOwned>(token: &str, header: &StrictHeader, key: &PublicKey) -> Result<T, TokenError> {
    let (algorithm, key) = key;
    if header.alg != format!("{algorithm:?}") {
        return Err(TokenError::Invalid);
    }
    let mut validation = Validation::new(*algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode(token, key, &validation).map(|token| token.claims).map_err(|_| TokenError::Invalid)
}

impl Verifier {
    /// Replaces the keys. What was verified by a key that is gone is judged anew.
    pub fn set_keys(&self, keys: KeySet) {
        self.keys.store(Arc::new(keys));
        self.verified.invalidate_all();
    }

    /// Adds revocations.
    pub fn revoke(&self, revocations: impl IntoIterator<Item = Revocation>) {
        let mut all = Revocations::clone(&self.revocations.load());
        revocations.into_iter().for_each(|revocation| all.add(revocation));
        all.forget();
        self.revocations.store(Arc::new(all));
    }

    /// Judges a token.
    ///
    /// # Errors
    /// If it is not valid now.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Claims>, TokenError> {
        let key = digest_of(token);
        let claims = match self.verified.get(&key) {
            Some(claims) => claims,
            None => {
                let claims = Arc::new(self.judge(token, now)?);
                self.verified.insert(key, claims.clone());
                claims
            }
        };
        self.check(&claims, now)?;
        Ok(claims)
    }

    /// Judges a token that is presented once, such as at a login: nothing of it is kept.
    ///
    /// # Errors
    /// If it is not valid now.
    pub fn verify_once(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let claims = self.judge(token, now)?;
        self.check(&claims, now)?;
        Ok(claims)
    }

    fn check(&self, claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
        if claims.expires <= now {
            return Err(TokenError::Expired);
        }
        self.check_revoked(claims)
    }

    /// Whether claims that were valid have been revoked since, or the key that signed them is gone.
    ///
    /// # Errors
    /// If so.
    pub fn check_revoked(&self, claims: &Claims) -> Result<(), TokenError> {
        if claims.signer.as_ref().is_some_and(|signer| !self.keys.load().knows(signer)) {
            return Err(TokenError::Revoked);
        }
        if self.revocations.load().cover(claims) { Err(TokenError::Revoked) } else { Ok(()) }
    }

    fn judge(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let header: StrictHeader = part(token, 0)?;
        let (keys, early) = (self.keys.load(), now.after(SKEW));
        let kid = header.kid.as_deref().unwrap_or(HS256_KEY);
        let (claims, issuer) = match keys.get(kid) {
            Some(key) => (judge_ours(token, &header, key, early)?, None),
            None => {
                let (claims, issuer) = judge_foreign(token, &header, &keys, early)?;
                (claims, Some(issuer.into()))
            }
        };
        Ok(Claims { signer: Some(Signer { issuer, kid: kid.into() }), ..claims })
    }
}

fn judge_ours(token: &str, header: &StrictHeader, key: &PublicKey, early: Timestamp) -> Result<Claims, TokenError> {
    let wire: WireClaims = signed(token, header, key)?;
    let not_before = wire.not_before();
    let ours = wire.is_ours() && header.thumbprint.is_none();
    let mut claims = wire.into_claims();
    let typed = if key.0 == Algorithm::HS256 {
        // The older platform made only daemons' tokens, of the plain type, and let them live for as long as it liked.
        claims.expires = claims.expires.min(claims.issued.after(LONGEST_LIFE));
        claims.class == TokenClass::Access && header.typ.as_deref().is_none_or(|t| t == "JWT")
    } else {
        header.typ.as_deref() == Some(header_type(claims.class))
    };
    if !ours || !typed || not_before > early || claims.issued > early {
        return Err(TokenError::Invalid);
    }
    if claims.class == TokenClass::Access && claims.as_daemon().is_none() {
        return Err(TokenError::Invalid);
    }
    Ok(claims)
}

/// The token says who issued it; only that issuer's keys are tried, and only what it is trusted with is believed.
fn judge_foreign(
    token: &str,
    header: &StrictHeader,
    keys: &KeySet,
    early: Timestamp,
) -> Result<(Claims, String), TokenError> {
    let Unverified { iss } = part(token, 1)?;
    let issuer = keys.issuer(&iss).ok_or(TokenError::Invalid)?;
    if !matches!(header.typ.as_deref(), None | Some("JWT" | "at+jwt")) {
        return Err(TokenError::Invalid);
    }
    let key = header.kid.as_deref().and_then(|kid| issuer.key(kid)).ok_or(TokenError::Invalid)?;
    let claims: Map<String, Value> = signed(token, header, key)?;
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    // What two readers could read differently, such as a name that is there twice, is nobody's claim.
    payload.filter(|payload| check_document(payload).is_ok()).ok_or(TokenError::Invalid)?;
    let claims = issuer.claims(&claims, token, early).ok_or(TokenError::Invalid)?;
    Ok((claims, iss))
}
