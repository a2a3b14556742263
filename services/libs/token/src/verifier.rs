//! Judges tokens.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use moka::sync::Cache;
use serde::Deserialize;
use waystation_domain::{Revocation, Timestamp};

use crate::claims::{Claims, TokenClass, WireClaims};
use crate::keys::{HS256_KEY, KeySet};
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
        if claims.expires <= now {
            return Err(TokenError::Expired);
        }
        self.check_revoked(&claims)?;
        Ok(claims)
    }

    /// Judges a token that is presented once, such as at a login: nothing of it is kept.
    ///
    /// # Errors
    /// If it is not valid now.
    pub fn verify_once(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let claims = self.judge(token, now)?;
        if claims.expires <= now {
            return Err(TokenError::Expired);
        }
        self.check_revoked(&claims)?;
        Ok(claims)
    }

    /// Whether claims that were valid have been revoked since.
    ///
    /// # Errors
    /// If so.
    pub fn check_revoked(&self, claims: &Claims) -> Result<(), TokenError> {
        if self.revocations.load().cover(claims) { Err(TokenError::Revoked) } else { Ok(()) }
    }

    fn judge(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let header = token.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
        let header: StrictHeader =
            header.and_then(|header| serde_json::from_slice(&header).ok()).ok_or(TokenError::Invalid)?;
        let keys = self.keys.load();
        let (algorithm, key) = keys.get(header.kid.as_deref().unwrap_or(HS256_KEY)).ok_or(TokenError::Invalid)?;
        if header.alg != format!("{algorithm:?}") {
            return Err(TokenError::Invalid);
        }
        // Time, issuer and audience are judged below, by our own clock and without defaults.
        let mut validation = Validation::new(*algorithm);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let wire = jsonwebtoken::decode::<WireClaims>(token, key, &validation).map_err(|_| TokenError::Invalid)?.claims;
        let not_before = wire.not_before();
        let ours = wire.is_ours();
        let claims = wire.into_claims();
        let typed = if *algorithm == Algorithm::HS256 {
            // The older platform made only daemons' tokens, of the plain type.
            claims.class == TokenClass::Access && header.typ.as_deref().is_none_or(|t| t == "JWT")
        } else {
            header.typ.as_deref() == Some(claims.class.header_type())
        };
        let early = now.after(SKEW);
        if !ours || !typed || not_before > early || claims.issued > early {
            return Err(TokenError::Invalid);
        }
        if claims.class == TokenClass::Access && claims.as_daemon().is_none() {
            return Err(TokenError::Invalid);
        }
        Ok(claims)
    }
}
