//! Tokens: who made them, whether they are valid, and what they say.
//!
//! **Invariants:** a token is judged by exactly one algorithm for its key, found by `kid` among known
//! keys; nothing in a token can bring a key of its own. Secrets are never printed.

mod api_key;
mod claims;
mod issuer;
mod keys;
mod refresh;
mod revocations;
mod verifier;

pub use api_key::{ApiKeySecret, MalformedApiKey};
pub use claims::{AUDIENCE, Claims, DaemonClaims, ISSUER, Signer};
pub use issuer::{IssuedFor, LONGEST_LIFE, TrustedIssuer};
pub use keys::{KeySet, KeySetError, SigningKey};
pub use refresh::{MalformedRefreshToken, RefreshToken};
pub use revocations::Revocations;
pub use verifier::{TokenError, Verifier};
pub use waystation_domain::TokenClass;

use aws_lc_rs::{digest, hmac};
use secrecy::{ExposeSecret as _, SecretSlice};

/// A short name for parts, another for other parts: 128 bits of SHA-256 in hexadecimal digits.
pub fn digest_of(parts: &[&[u8]]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Mixed into every secret that is stored, so that the store alone gives none away.
#[derive(Clone)]
pub struct Pepper(SecretSlice<u8>);

impl Pepper {
    /// From at least 32 random bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Pepper {
        Pepper(SecretSlice::from(bytes.into()))
    }

    /// Vouches for parts of an audit event and for the one before it.
    pub fn audit_mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.mac("audit", parts)
    }

    /// A secret for what a caller has named, the same whenever it is asked for. Nobody can compute it without the pepper.
    pub fn derived_secret(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.mac(&format!("derived {purpose}"), parts)
    }

    /// HMAC-SHA256 over parts whose lengths are part of what is signed.
    fn mac(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret());
        let mut context = hmac::Context::with_key(&key);
        for part in [purpose.as_bytes()].iter().chain(parts) {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut mac = [0; 32];
        mac.copy_from_slice(context.sign().as_ref());
        mac
    }
}

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pepper")
    }
}
