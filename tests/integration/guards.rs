//! Who is kept out, and for how long: foreign issuers, networks, failed logins, keys that end.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use waystation_auth::Keys;
use waystation_domain::Scope;
use waystation_gateway::Limits;
use waystation_proto::auth::v1::*;
use waystation_tests::{Backend, Cell, Daemon, Platform, eventually, frame, http, issuer, post};

fn jwks(seed: u8) -> String {
    Platform(seed).jwks()
}

fn platform_token(seed: u8, orchestrator: &str) -> String {
    Platform(seed).token("dev", &json!({"sub": orchestrator, "scope": "messages:read openid"}))
}

async fn cell_trusting(keys: Keys) -> Cell {
    Cell::start_with(|options| options.issuers = vec![issuer(keys, Some("sub"), &[Scope::MessagesRead])]).await
}

#[tokio::test]
async fn a_platform_brings_its_own_tokens() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), jwks(3)).unwrap();
    let cell = cell_trusting(Keys::File(file.path().to_owned())).await;
    let mut daemon = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &platform_token(3, "orla")).await;
    assert_eq!(daemon.welcome["payload"]["scopes"], json!(["messages:read"]));
    cell.backend().route("orla", 1).await;
    let events = daemon.events(1).await;
    daemon.ack(&events).await;
    // The next token of the same subject renews the connection; another subject's does not.
    let refreshed = daemon.ask("auth_refresh", json!({"accessToken": platform_token(3, "orla")})).await;
    assert_eq!(refreshed["type"], "auth_refreshed", "{refreshed}");
    let refused = daemon.ask("auth_refresh", json!({"accessToken": platform_token(3, "other")})).await;
    assert_eq!(refused["type"], "error");
    let mut stranger = Daemon::open(&cell.dev.gateway_url).await;
    let auth = json!({"accessToken": platform_token(4, "orla"), "orchestratorId": "orla", "daemonId": "d2"});
    stranger.send(frame("auth", auth)).await;
    assert_eq!(stranger.next_of("auth_error").await["payload"]["code"], "AUTH_FAILED");
    // Revoked like any other.
    let mut backend = cell.backend();
    let target = revoke_token_request::Target::OrchestratorId("orla".into());
    backend.auth.revoke_token(RevokeTokenRequest { target: Some(target), ..Default::default() }).await.unwrap();
    assert_eq!(daemon.close_code().await, 4006);
}

#[tokio::test]
async fn the_keys_of_a_platform_are_fetched_when_it_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let (serve, served) = tokio::sync::watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Part of the request is enough to answer it.
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            let body = if *served.borrow() { jwks(5) } else { "{}".to_owned() };
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    let cell = cell_trusting(Keys::Url(url.parse().unwrap())).await;
    let token = platform_token(5, "orla");
    let mut backend = cell.backend();
    let validate = ValidateTokenRequest { token: token.clone() };
    assert!(backend.auth.validate_token(validate.clone()).await.is_err(), "its keys are not known yet");
    serve.send(true).unwrap();
    eventually("the keys are known", async || backend.auth.validate_token(validate.clone()).await.ok().map(drop)).await;
    eventually("the gateway knows them too", async || {
        Daemon::try_connect(&cell.dev.gateway_url, "orla", "d1", &token).await
    })
    .await;
}

#[tokio::test]
async fn keys_and_organizations_are_used_only_from_their_networks() {
    let cell = Cell::start_with(|options| options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let (mut backend, mut operator) = (cell.backend(), Backend::operator(&cell.dev));
    let create = CreateApiKeyRequest {
        orchestrator_id: "orla".into(),
        scopes: vec!["messages:read".into()],
        networks: vec!["192.0.2.0/24".into(), "2001:db8::/32".into()],
        ..Default::default()
    };
    let key = backend.credentials.create_api_key(create).await.unwrap().into_inner();
    let log_in = async |from: &str, key: &str, secret: &str| {
        let mut request =
            post("/api/daemon/auth", &json!({"apiKey": key, "apiSecret": secret, "orchestratorId": "orla"}));
        request.headers_mut().insert("x-forwarded-for", from.parse().unwrap());
        let answer = http(&cell.dev.http_url, request).await;
        (answer.status().as_u16(), serde_json::from_slice::<Value>(answer.body()).unwrap())
    };
    let of_key = async |from: &str| log_in(from, &key.api_key, &key.api_secret).await;
    for from in ["192.0.2.9", "2001:db8::1", "203.0.113.5, 192.0.2.9, 127.0.0.9"] {
        assert_eq!(of_key(from).await.0, 200, "{from}");
    }
    // What a client claims before the first address that is not trusted is only its word.
    for from in ["203.0.113.5", "192.0.2.9, 203.0.113.5", "nonsense", "127.0.0.1"] {
        let (status, refused) = of_key(from).await;
        assert_eq!((status, &refused["code"]), (403, &json!("FORBIDDEN")), "{from}");
    }
    let token = of_key("192.0.2.9").await.1["accessToken"].as_str().unwrap().to_owned();
    let mut elsewhere = Daemon::open(&cell.dev.gateway_url).await;
    let auth = |token: &str| frame("auth", json!({"accessToken": token, "orchestratorId": "orla", "daemonId": "d1"}));
    elsewhere.send(auth(&token)).await;
    assert_eq!(
        elsewhere.next_of("auth_error").await["payload"]["code"],
        "AUTH_FAILED",
        "a stolen token is worth nothing"
    );

    let settings = OrganizationSettings { networks: vec!["192.0.2.0/24".into()], ..Default::default() };
    let token = cell.token("orla").await;
    let update = UpdateOrganizationSettingsRequest { organization_id: "dev".into(), settings: Some(settings) };
    operator.credentials.update_organization_settings(update).await.unwrap();
    assert_eq!(log_in("203.0.113.5", &cell.dev.api_key, &cell.dev.api_secret).await.0, 403);
    assert_eq!(log_in("192.0.2.9", &cell.dev.api_key, &cell.dev.api_secret).await.0, 200);
    let mut daemon = Daemon::open(&cell.dev.gateway_url).await;
    daemon.send(auth(&token)).await;
    assert_eq!(daemon.next_of("auth_error").await["payload"]["code"], "AUTH_FAILED");
}

#[tokio::test]
async fn an_address_that_guesses_has_to_wait_and_others_have_not() {
    let limits = Limits { failed_logins_per_address: 3, ..Limits::default() };
    let cell = Cell::start_with(|options| {
        options.limits = limits;
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let token = cell.token("orla").await;
    let log_in = async |from: &str, secret: &str| {
        let body = json!({"apiKey": cell.dev.api_key, "apiSecret": secret, "orchestratorId": "orla"});
        let mut request = post("/api/daemon/auth", &body);
        request.headers_mut().insert("x-forwarded-for", from.parse().unwrap());
        http(&cell.dev.http_url, request).await
    };
    for n in 0..3 {
        // A whole network of IPv6 is one guesser.
        assert_eq!(log_in(&format!("2001:db8::{n}"), "wsk_guess").await.status(), 401);
    }
    let refused = log_in("2001:db8::9", &cell.dev.api_secret).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() <= 60);
    assert_eq!(log_in("2001:db8:1::9", &cell.dev.api_secret).await.status(), 200);
    // By socket likewise.
    let auth = |token: &str| frame("auth", json!({"accessToken": token, "orchestratorId": "orla", "daemonId": "d1"}));
    for _ in 0..3 {
        let mut guesser = Daemon::open(&cell.dev.gateway_url).await;
        guesser.send(auth("guess")).await;
        assert_eq!(guesser.close_code().await, 4001);
    }
    let mut late = Daemon::open(&cell.dev.gateway_url).await;
    late.send(auth(&token)).await;
    assert_eq!(late.next_of("rate_limit").await["payload"]["action"], "auth");
    assert_eq!(late.close_code().await, 4004);
}

#[tokio::test]
async fn a_key_logs_in_only_so_often() {
    let cell = Cell::start_with(|options| options.logins_per_key = 2).await;
    for expected in [200, 200, 429] {
        let login = json!({"apiKey": cell.dev.api_key, "apiSecret": cell.dev.api_secret, "orchestratorId": "orla"});
        let answer = http(&cell.dev.http_url, post("/api/daemon/auth", &login)).await;
        assert_eq!(answer.status().as_u16(), expected);
    }
}

#[tokio::test]
async fn no_valid_token_is_refused_while_signing_keys_are_rotated() {
    let cell = Cell::start().await;
    let mut operator = Backend::operator(&cell.dev);
    let old = cell.token("old").await;
    let rotate = |algorithm: &str, request_id: &str| RotateSigningKeyRequest {
        algorithm: algorithm.into(),
        lead: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        request_id: request_id.into(),
        ..Default::default()
    };
    let keys = operator.credentials.rotate_signing_key(rotate("ES256", "r1")).await.unwrap().into_inner().keys;
    let phases: Vec<_> = keys.iter().map(|key| (key.algorithm.as_str(), key.phase())).collect();
    assert_eq!(phases, [("EdDSA", SigningKeyPhase::Active), ("ES256", SigningKeyPhase::Next)]);
    let again = operator.credentials.rotate_signing_key(rotate("ES256", "r1")).await.unwrap().into_inner().keys;
    assert_eq!(again.len(), 2, "a repeat makes no third key");
    let pending = operator.credentials.rotate_signing_key(rotate("", "r2")).await.unwrap_err();
    assert_eq!(pending.code(), tonic::Code::FailedPrecondition);
    // Logins and connections go on all the while, until tokens are signed by the new key.
    let mut tried = 0;
    let alg = |token: &str| -> Value {
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["alg"].clone()
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(18);
    let mut after = 0;
    while after < 20 {
        assert!(tokio::time::Instant::now() < deadline, "the new key signs in time");
        let token = cell.token("orla").await;
        let daemon = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &token).await;
        assert_eq!(daemon.welcome["type"], "auth_success");
        daemon.close().await;
        tried += 1;
        after += usize::from(alg(&token) == "ES256");
    }
    assert!(tried > after);
    let daemon = Daemon::connect(&cell.dev.gateway_url, "old", "d1", &old).await;
    assert_eq!(daemon.welcome["type"], "auth_success", "what the old key signed is still good");
}

#[tokio::test]
async fn a_key_in_wrong_hands_ends_with_everything_it_signed() {
    let cell = Cell::start().await;
    let mut operator = Backend::operator(&cell.dev);
    let token = cell.token("orla").await;
    let mut daemon = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &token).await;
    let rotate = RotateSigningKeyRequest { compromised: true, ..Default::default() };
    let keys = operator.credentials.rotate_signing_key(rotate).await.unwrap().into_inner().keys;
    assert_eq!(keys.len(), 1);
    let started = tokio::time::Instant::now();
    assert_eq!(daemon.close_code().await, 4006);
    assert!(started.elapsed() < Duration::from_secs(5), "R5");
    let refused = operator.credentials.list_api_keys(ListApiKeysRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "operators log in again too");
    // The services find their way back by themselves.
    eventually("logins work again", async || {
        let login = json!({"apiKey": cell.dev.api_key, "apiSecret": cell.dev.api_secret, "orchestratorId": "orla"});
        let answer = http(&cell.dev.http_url, post("/api/daemon/auth", &login)).await;
        let answer: Value = serde_json::from_slice(answer.body()).unwrap();
        let token = answer["accessToken"].as_str()?;
        Daemon::try_connect(&cell.dev.gateway_url, "orla", "d1", token).await
    })
    .await;
}

#[tokio::test]
async fn public_keys_are_published_for_everybody() {
    let cell = Cell::start().await;
    let request = http::Request::get("/.well-known/jwks.json").body(String::new()).unwrap();
    let answer = http(&cell.dev.http_url, request).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "public, max-age=60");
    let keys: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!((&keys["keys"][0]["kty"], &keys["keys"][0]["alg"]), (&json!("OKP"), &json!("EdDSA")));
    assert!(keys["keys"][0].get("d").is_none(), "no private part");
}

#[tokio::test]
async fn what_the_store_keeps_of_a_signing_key_signs_nothing() {
    let cell = Cell::start().await;
    let store = &cell.standalone.as_ref().unwrap().store.credentials;
    let kept = store.signing_keys().await.unwrap().0.remove(0);
    let stolen = waystation_token::SigningKey::from_seed(&kept.id, kept.algorithm, &kept.seed).unwrap();
    let now = waystation_runtime::Clock::of_host().now();
    let operator = waystation_token::Claims {
        class: waystation_domain::TokenClass::Operator,
        scopes: [Scope::AdminAll].into_iter().collect(),
        ..waystation_token::Claims::of_certificate("mallory", now)
    };
    let mut forger = Backend::with_token(&cell.dev, &stolen.sign(&operator));
    let refused = forger.credentials.list_api_keys(ListApiKeysRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
}
