//! A platform that says by its own tokens who somebody is.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use waystation_auth::{IssuerConfig, Keys};
use waystation_domain::Scope;
use waystation_token::{IssuedFor, TrustedIssuer};

const ISSUER: &str = "https://login.example.com/";

/// With the key that a number makes.
pub struct Platform(pub u8);

impl Platform {
    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[self.0; 32]).unwrap()
    }

    /// Its public key.
    pub fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair().public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": format!("k{}", self.0), "x": x}]}).to_string()
    }

    /// Its public key in a file; kept as long as the file is.
    pub fn keys(&self) -> (tempfile::NamedTempFile, Keys) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.jwks()).unwrap();
        let keys = Keys::File(file.path().to_owned());
        (file, keys)
    }

    /// A token of an organization, with more claims.
    pub fn token(&self, organization: &str, more: &Value) -> String {
        let now = waystation_runtime::Clock::of_host().now().as_seconds();
        let mut claims =
            json!({"iss": ISSUER, "aud": "waystation", "tenant": organization, "iat": now, "exp": now + 300});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "EdDSA", "kid": format!("k{}", self.0), "typ": "JWT"});
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.pair().sign(signed.as_bytes())))
    }
}

/// The platform as auth trusts it; without `orchestrator_claim` its tokens are people's.
pub fn issuer(keys: Keys, orchestrator_claim: Option<&str>, scopes: &[Scope]) -> IssuerConfig {
    let trusted = TrustedIssuer {
        issuer: ISSUER.into(),
        audience: "waystation".into(),
        organization: IssuedFor::Claim("tenant".into()),
        orchestrator_claim: orchestrator_claim.unwrap_or_default().into(),
        users: orchestrator_claim.is_none(),
        scopes_claim: Some("scope".into()),
        scopes: scopes.iter().copied().collect(),
        jwks: Vec::new(),
    };
    IssuerConfig { trusted, keys }
}
