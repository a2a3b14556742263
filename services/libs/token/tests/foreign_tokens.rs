//! Tokens of other issuers: what is believed of them, and what is not.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use waystation_domain::{Revocation, Revoked, Scope, ScopeSet, SigningAlgorithm, Timestamp};
use waystation_token::{IssuedFor, KeySet, SigningKey, TokenClass, TokenError, TrustedIssuer, Verifier};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const ISSUER: &str = "https://login.example.com/";

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
}

fn jwk() -> Value {
    let x = URL_SAFE_NO_PAD.encode(pair().public_key().as_ref());
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "theirs", "x": x, "x5t": "abc"})
}

fn scopes(all: &[Scope]) -> ScopeSet {
    all.iter().copied().collect()
}

fn trusted() -> TrustedIssuer {
    let other = json!({"kty": "EC", "crv": "secp256k1", "kid": "odd", "x": "AA", "y": "AA"});
    let sealing = json!({"kty": "RSA", "use": "enc", "kid": "sealing", "n": "AA", "e": "AQAB"});
    TrustedIssuer {
        issuer: ISSUER.into(),
        audience: "waystation.example.com".into(),
        organization: IssuedFor::Claim("/app/tenant".into()),
        orchestrator_claim: "agent".into(),
        users: false,
        scopes_claim: Some("scope".into()),
        scopes: scopes(&[Scope::MessagesRead, Scope::MessagesWrite]),
        jwks: json!({"keys": [other, sealing, jwk()]}).to_string().into_bytes(),
    }
}

fn ours() -> SigningKey {
    SigningKey::from_seed("k1", SigningAlgorithm::EdDsa, &[7; 32]).unwrap()
}

fn verifier_of(trusted: TrustedIssuer) -> Verifier {
    let verifier = Verifier::default();
    verifier.set_keys(KeySet::from_jwks(&KeySet::to_jwks([&ours()])).unwrap().with_issuer(trusted).unwrap());
    verifier
}

fn header() -> Value {
    json!({"alg": "EdDSA", "kid": "theirs", "typ": "JWT", "x5t": "abc"})
}

fn claims() -> Value {
    let seconds = NOW.as_seconds();
    json!({
        "iss": ISSUER,
        "aud": ["other.example.com", "waystation.example.com"],
        "sub": "auth0|1234",
        "agent": "orla",
        "app": {"tenant": "acme", "plan": "gold"},
        "scope": "openid messages:read admin:* admin:write",
        "iat": seconds,
        "exp": seconds as f64 + 600.5,
        "jti": "anything at all: {}/",
    })
}

fn signed(header: &Value, claims: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(&header.to_string()), encode(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair().sign(signed.as_bytes())))
}

fn with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims[name] = value;
    signed(&header(), &claims.to_string())
}

#[test]
fn a_token_of_the_platform_is_a_daemons_token() {
    let found = verifier_of(trusted()).verify(&signed(&header(), &claims().to_string()), NOW).unwrap();
    assert_eq!((found.class, found.subject.as_str()), (TokenClass::Access, "auth0|1234"));
    let daemon = found.as_daemon().unwrap();
    assert_eq!((daemon.organization.as_str(), daemon.orchestrator.as_str()), ("acme", "orla"));
    assert_eq!(found.scopes, scopes(&[Scope::MessagesRead]), "no more than the issuer is trusted with");
    assert_eq!(found.expires, NOW.after(Duration::from_millis(600_500)));
    // The next token of the same subject is of the same login, so that it can replace this one on a connection.
    let next = verifier_of(trusted()).verify(&with("jti", json!("another")), NOW).unwrap();
    assert_eq!(next.login, found.login);
    assert_ne!(next.id, found.id);
    let of_another = verifier_of(trusted()).verify(&with("sub", json!("auth0|5678")), NOW).unwrap();
    assert_ne!(of_another.login, found.login);
}

#[test]
fn a_token_that_names_no_orchestrator_is_a_persons_if_the_issuer_knows_people() {
    let mut person = claims();
    person.as_object_mut().unwrap().remove("agent");
    person["scope"] = json!("events:read messages:read messages:write admin:write");
    let token = signed(&header(), &person.to_string());
    assert!(verifier_of(trusted()).verify(&token, NOW).is_err());
    let all = scopes(&[Scope::EventsRead, Scope::MessagesRead, Scope::MessagesWrite, Scope::AdminWrite]);
    let with_people = TrustedIssuer { users: true, scopes: all, ..trusted() };
    let found = verifier_of(with_people.clone()).verify(&token, NOW).unwrap();
    assert_eq!((found.class, found.subject.as_str()), (TokenClass::User, "auth0|1234"));
    assert!(found.is_user() && found.as_daemon().is_none());
    assert_eq!((found.organization.as_ref().unwrap().as_str(), found.orchestrator.clone()), ("acme", None));
    assert_eq!(found.scopes, scopes(&[Scope::EventsRead, Scope::MessagesWrite]), "the most that a person may");
    // One that names an orchestrator is a daemon's as before, and a name that is none is nobody's.
    let daemon = signed(&header(), &claims().to_string());
    assert!(verifier_of(with_people.clone()).verify(&daemon, NOW).unwrap().as_daemon().is_some());
    for odd in [json!(7), json!(""), json!("a/b"), Value::Null] {
        assert!(verifier_of(with_people.clone()).verify(&with("agent", odd), NOW).is_err());
    }
}

#[test]
fn an_issuer_of_one_tenant_cannot_name_another() {
    let bound = TrustedIssuer {
        organization: IssuedFor::Organization("acme".parse().unwrap()),
        scopes_claim: None,
        ..trusted()
    };
    let found = verifier_of(bound).verify(&with("app", json!({"tenant": "victim"})), NOW).unwrap();
    assert_eq!(found.organization.as_ref().unwrap().as_str(), "acme");
    assert_eq!(found.scopes, trusted().scopes);
}

#[test]
fn foreign_tokens_that_do_not_fit_are_refused() {
    let seconds = NOW.as_seconds();
    let twice = claims().to_string().replacen("\"agent\"", "\"agent\":\"victim\",\"agent\"", 1);
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        signed(&header(), &claims.to_string())
    };
    let headed = |header: Value| signed(&header, &claims().to_string());
    let bad = [
        with("iss", json!("https://evil.example.com/")),
        with("iss", json!("waystation")),
        with("iss", json!([ISSUER])),
        with("aud", json!("other.example.com")),
        with("aud", json!([])),
        with("aud", json!({"waystation.example.com": true})),
        with("aud", Value::Null),
        with("sub", json!(7)),
        with("agent", json!("or/la")),
        with("agent", json!("")),
        with("agent", json!(["orla"])),
        with("app", json!("acme")),
        with("app", json!({"tenant": "acme/other"})),
        with("app", json!({"tenant": null})),
        with("scope", json!(5)),
        with("scope", json!({"messages:read": true})),
        with("iat", json!(seconds + 60)),
        with("iat", json!("now")),
        with("iat", json!(-5)),
        with("exp", json!(1e300)),
        with("exp", json!(null)),
        with("nbf", json!(seconds + 60)),
        with("nbf", json!("later")),
        without("iss"),
        without("aud"),
        without("sub"),
        without("agent"),
        without("app"),
        without("scope"),
        without("iat"),
        without("exp"),
        signed(&header(), &twice),
        headed(json!({"alg": "EdDSA", "kid": "theirs", "typ": "ws-operator+jwt"})),
        headed(json!({"alg": "EdDSA", "kid": "theirs", "typ": "ws-service+jwt"})),
        headed(json!({"alg": "EdDSA", "kid": "k1", "typ": "JWT"})),
        headed(json!({"alg": "EdDSA", "kid": "odd", "typ": "JWT"})),
        headed(json!({"alg": "EdDSA", "typ": "JWT"})),
        headed(json!({"alg": "RS256", "kid": "theirs", "typ": "JWT"})),
        headed(json!({"alg": "none", "kid": "theirs", "typ": "JWT"})),
        headed(json!({"alg": "EdDSA", "kid": "theirs", "jwk": jwk()})),
        headed(json!({"alg": "EdDSA", "kid": "theirs", "crit": ["x"]})),
        format!("{}x", signed(&header(), &claims().to_string())),
    ];
    for (index, bad) in bad.iter().enumerate() {
        assert_eq!(verifier_of(trusted()).verify(bad, NOW), Err(TokenError::Invalid), "{index}: {bad}");
    }
    // A token that claims to be ours and is signed by them.
    let mut wire: Value = {
        let access = waystation_token::Claims {
            id: "t1".parse().unwrap(),
            class: TokenClass::Operator,
            subject: "mallory".into(),
            organization: None,
            orchestrator: None,
            daemon: None,
            login: None,
            key: None,
            scopes: scopes(&[Scope::AdminAll]),
            networks: Vec::new(),
            signer: None,
            issued: NOW,
            expires: NOW.after(Duration::from_secs(600)),
        };
        let token = ours().sign(&access);
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
    };
    for issuer in ["waystation", ISSUER] {
        wire["iss"] = json!(issuer);
        let forged = signed(&json!({"alg": "EdDSA", "kid": "theirs", "typ": "ws-operator+jwt"}), &wire.to_string());
        assert_eq!(verifier_of(trusted()).verify(&forged, NOW), Err(TokenError::Invalid));
    }
}

#[test]
fn a_foreign_login_that_is_revoked_begins_again_with_a_new_token() {
    let verifier = verifier_of(trusted());
    let token = signed(&header(), &claims().to_string());
    let found = verifier.verify(&token, NOW).unwrap();
    let revoked = Revoked::Login(found.login.clone().unwrap());
    verifier.revoke([Revocation { organization: "acme".parse().unwrap(), revoked, at: NOW }]);
    assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Revoked));
    let later = NOW.after(Duration::from_secs(5));
    assert!(verifier.verify(&with("iat", json!(later.as_seconds())), later).is_ok());
}

#[test]
fn issuers_that_cannot_be_used_are_refused() {
    let weak = json!({"kty": "RSA", "kid": "weak", "n": URL_SAFE_NO_PAD.encode([255; 128]), "e": "AQAB"});
    let keys = |keys: Value| TrustedIssuer { jwks: json!({"keys": keys}).to_string().into_bytes(), ..trusted() };
    for bad in [keys(json!([])), keys(json!([weak])), TrustedIssuer { jwks: b"{".to_vec(), ..trusted() }] {
        assert!(KeySet::default().with_issuer(bad).is_err());
    }
    assert!(KeySet::default().with_issuer(TrustedIssuer { issuer: "waystation".into(), ..trusted() }).is_err());
    assert!(KeySet::default().with_issuer(trusted()).unwrap().with_issuer(trusted()).is_err());
}
