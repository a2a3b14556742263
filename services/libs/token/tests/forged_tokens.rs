//! Tokens that must not be accepted, and those that must.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use waystation_domain::{Revocation, Revoked, Scope, SigningAlgorithm, Timestamp};
use waystation_token::{Claims, KeySet, Signer, SigningKey, TokenClass, TokenError, Verifier};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const SECRET: &[u8] = b"a shared secret of at least 32 bytes";

fn key() -> SigningKey {
    SigningKey::from_seed("k1", SigningAlgorithm::EdDsa, &[7; 32]).unwrap()
}

fn verifier() -> Verifier {
    let verifier = Verifier::default();
    verifier.set_keys(KeySet::from_jwks(&KeySet::to_jwks([&key()])).unwrap().with_hs256(SECRET).unwrap());
    verifier
}

fn claims() -> Claims {
    Claims {
        id: "t1".parse().unwrap(),
        class: TokenClass::Access,
        subject: "orla".into(),
        organization: Some("acme".parse().unwrap()),
        orchestrator: Some("orla".parse().unwrap()),
        daemon: None,
        login: Some("l1".parse().unwrap()),
        key: Some("key1".parse().unwrap()),
        scopes: [Scope::MessagesRead].into_iter().collect(),
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        signer: None,
        issued: NOW,
        expires: NOW.after(Duration::from_secs(900)),
    }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// A token with another header, signed with our own key: only the header is wrong.
fn with_header(header: Value) -> String {
    let signed = format!("{}.{}", encoded(&header), encoded(&wire_claims()));
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())))
}

/// A token of the older platform over a header and claims.
fn hs256(header: Value, claims: &Value, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encoded(&header), encoded(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let mac = URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{mac}")
}

fn wire_claims() -> Value {
    decoded(key().sign(&claims()).split('.').nth(1).unwrap())
}

#[test]
fn our_own_tokens_are_accepted_and_say_what_was_signed() {
    let token = key().sign(&claims());
    let signer = |kid: &str| Some(Signer { issuer: None, kid: kid.into() });
    assert_eq!(*verifier().verify(&token, NOW).unwrap(), Claims { signer: signer("k1"), ..claims() });
    let wire = wire_claims();
    assert_eq!(
        (&wire["type"], &wire["sessionId"], &wire["scopes"][0]),
        (&json!("access"), &json!("l1"), &json!("messages:read"))
    );
    let old = hs256(json!({"alg":"HS256","typ":"JWT"}), &wire, SECRET);
    assert_eq!(verifier().verify(&old, NOW).unwrap().subject, "orla");
}

#[test]
fn forged_headers_are_refused() {
    let right = with_header(json!({"alg":"EdDSA","kid":"k1","typ":"at+jwt"}));
    assert!(verifier().verify(&right, NOW).is_ok(), "the way of forging is sound");
    let jwk = json!({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let headers = [
        json!({"alg":"none"}),
        json!({"alg":"none","kid":"k1","typ":"at+jwt"}),
        json!({"alg":"HS256","kid":"k1","typ":"at+jwt"}),
        json!({"alg":"RS256","kid":"k1","typ":"at+jwt"}),
        json!({"alg":"ES256","kid":"k1","typ":"at+jwt"}),
        json!({"alg":"EdDSA","typ":"at+jwt"}),
        json!({"alg":"EdDSA","kid":"","typ":"at+jwt"}),
        json!({"alg":"EdDSA","kid":"k2","typ":"at+jwt"}),
        json!({"alg":"EdDSA","kid":"../k1","typ":"at+jwt"}),
        json!({"alg":"EdDSA","kid":7,"typ":"at+jwt"}),
        json!({"alg":"EdDSA","kid":"k1","typ":"JWT"}),
        json!({"alg":"EdDSA","kid":"k1"}),
        json!({"alg":"EdDSA","kid":"k1","typ":"ws-service+jwt"}),
        json!({"alg":"EdDSA","kid":"k1","typ":"at+jwt","jwk":jwk}),
        json!({"alg":"EdDSA","kid":"k1","typ":"at+jwt","jku":"https://evil.example/keys"}),
        json!({"alg":"EdDSA","kid":"k1","typ":"at+jwt","x5u":"https://evil.example/cert"}),
        json!({"alg":"EdDSA","kid":"k1","typ":"at+jwt","x5c":["AAAA"]}),
        json!({"alg":"EdDSA","kid":"k1","typ":"at+jwt","crit":["exp"]}),
        json!({"alg":"EdDSA","kid":"k1","typ":"at+jwt","enc":"A256GCM"}),
        json!({"alg":["EdDSA"],"kid":"k1","typ":"at+jwt"}),
        json!([]),
        json!("EdDSA"),
    ];
    for header in headers {
        assert_eq!(verifier().verify(&with_header(header.clone()), NOW), Err(TokenError::Invalid), "{header}");
    }
    // The public key is no shared secret.
    let public =
        decoded(&URL_SAFE_NO_PAD.encode(KeySet::to_jwks([&key()])))["keys"][0]["x"].as_str().unwrap().to_owned();
    for header in [json!({"alg":"HS256","kid":"k1","typ":"at+jwt"}), json!({"alg":"HS256","typ":"JWT"})] {
        let forged = hs256(header, &wire_claims(), public.as_bytes());
        assert_eq!(verifier().verify(&forged, NOW), Err(TokenError::Invalid));
    }
}

#[test]
fn malformed_tokens_are_refused() {
    let token = key().sign(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let long = format!("{token}{}", "A".repeat(5_000));
    let bad = [
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}..{}", parts[0], parts[2]),
        format!("{token}."),
        format!("{token}.{}", parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], &parts[2][..80]),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(86)),
        format!(" {token}"),
        format!("{token}\0"),
        token.replace('.', "。"),
        format!("Bearer {token}"),
        long,
    ];
    for bad in bad {
        assert_eq!(verifier().verify(&bad, NOW), Err(TokenError::Invalid), "{bad}");
    }
    let other = SigningKey::from_seed("k1", SigningAlgorithm::EdDsa, &[8; 32]).unwrap().sign(&claims());
    assert_eq!(verifier().verify(&other, NOW), Err(TokenError::Invalid), "another key of the same name");
}

#[test]
fn claims_that_do_not_fit_are_refused() {
    let header = || json!({"alg":"HS256","typ":"JWT"});
    let with = |name: &str, value: Value| {
        let mut wire = wire_claims();
        wire[name] = value;
        hs256(header(), &wire, SECRET)
    };
    let seconds = NOW.as_seconds();
    let bad = [
        with("iss", json!("evil")),
        with("aud", json!("other")),
        with("aud", json!(["waystation"])),
        with("type", json!("service")),
        with("type", json!("operator")),
        with("type", json!("refresh")),
        with("nbf", json!(seconds + 60)),
        with("iat", json!(seconds + 60)),
        with("exp", json!("never")),
        with("exp", json!(-1)),
        with("organizationId", json!("acme/other")),
        with("organizationId", Value::Null),
        with("orchestratorId", Value::Null),
        with("sessionId", Value::Null),
        with("scopes", json!("messages:read")),
        with("jti", json!("")),
    ];
    for (index, bad) in bad.iter().enumerate() {
        assert_eq!(verifier().verify(bad, NOW), Err(TokenError::Invalid), "{index}");
    }
    for name in ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "type", "scopes"] {
        let mut wire = wire_claims();
        wire.as_object_mut().unwrap().remove(name);
        assert_eq!(verifier().verify(&hs256(header(), &wire, SECRET), NOW), Err(TokenError::Invalid), "without {name}");
    }
    let weak = KeySet::default().with_hs256(b"short");
    assert!(weak.is_err());
}

#[test]
fn time_and_revocation_are_judged_each_time() {
    let verifier = verifier();
    let token = key().sign(&claims());
    verifier.verify(&token, NOW).unwrap();
    assert_eq!(verifier.verify(&token, NOW.after(Duration::from_secs(900))), Err(TokenError::Expired));
    let revoked = [
        Revoked::Token("t1".parse().unwrap()),
        Revoked::Login("l1".parse().unwrap()),
        Revoked::ApiKey("key1".parse().unwrap()),
        Revoked::Orchestrator("orla".parse().unwrap()),
        Revoked::Organization,
    ];
    for revoked in revoked {
        let verifier = self::verifier();
        verifier.verify(&token, NOW).unwrap();
        let other = Revocation { organization: "other".parse().unwrap(), revoked: Revoked::Organization, at: NOW };
        verifier.revoke([other]);
        verifier.verify(&token, NOW).unwrap();
        verifier.revoke([Revocation { organization: "acme".parse().unwrap(), revoked, at: NOW }]);
        assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Revoked));
    }
    let verifier = self::verifier();
    verifier.verify(&token, NOW).unwrap();
    let known = verifier.verify(&token, NOW).unwrap();
    verifier.set_keys(KeySet::default());
    assert_eq!(verifier.verify(&token, NOW), Err(TokenError::Invalid), "the key is gone");
    assert_eq!(verifier.check_revoked(&known), Err(TokenError::Revoked), "and with it who came in by it");
}

#[test]
fn tokens_signed_on_p_256_are_ours_too() {
    let signing = SigningKey::from_seed("p1", SigningAlgorithm::Es256, &[9; 32]).unwrap();
    let verifier = Verifier::default();
    verifier.set_keys(KeySet::from_jwks(&KeySet::to_jwks([&signing, &key()])).unwrap());
    let signer = Some(Signer { issuer: None, kid: "p1".into() });
    assert_eq!(*verifier.verify(&signing.sign(&claims()), NOW).unwrap(), Claims { signer, ..claims() });
    verifier.verify(&key().sign(&claims()), NOW).unwrap();
    // Each key has its one algorithm.
    let token = signing.sign(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    for alg in ["EdDSA", "HS256", "RS256", "ES384", "none"] {
        let header = encoded(&json!({"alg": alg, "kid": "p1", "typ": "at+jwt"}));
        let forged = format!("{header}.{}.{}", parts[1], parts[2]);
        assert_eq!(verifier.verify(&forged, NOW), Err(TokenError::Invalid), "{alg}");
    }
}

#[test]
fn what_is_revoked_is_forgotten_when_no_token_can_have_outlived_it() {
    let verifier = verifier();
    let revoke = |login: &str, at| {
        let revoked = Revoked::Login(login.parse().unwrap());
        verifier.revoke([Revocation { organization: "acme".parse().unwrap(), revoked, at }]);
    };
    revoke("l1", NOW);
    revoke("l2", NOW.after(waystation_token::LONGEST_LIFE));
    assert_eq!(verifier.check_revoked(&claims()), Err(TokenError::Revoked));
    revoke("l3", NOW.after(waystation_token::LONGEST_LIFE + Duration::from_millis(1)));
    assert_eq!(verifier.check_revoked(&claims()), Ok(()));
    let forever = {
        let mut wire = wire_claims();
        wire["exp"] = json!(NOW.as_seconds() + 3_600 * 24 * 365);
        hs256(json!({"alg":"HS256"}), &wire, SECRET)
    };
    assert!(self::verifier().verify(&forever, NOW).is_ok());
    let later = NOW.after(waystation_token::LONGEST_LIFE);
    assert_eq!(self::verifier().verify(&forever, later), Err(TokenError::Expired), "nothing lives longer");
}
