//! A token is judged at the login and as long as the socket lives (R5).

use std::time::Duration;

use serde_json::json;
use waystation_proto::auth::v1::revoke_token_request::Target;
use waystation_proto::auth::v1::*;
use waystation_tests::{Cell, Daemon, frame, log_in};

async fn rejected(cell: &Cell, orchestrator: &str, daemon: &str, token: &str) -> (String, u16) {
    let mut client = Daemon::connect(&cell.dev.gateway_url, orchestrator, daemon, token).await;
    assert_eq!(client.welcome["type"], "auth_error");
    let code = client.welcome["payload"]["code"].as_str().unwrap().to_owned();
    (code, client.close_code().await)
}

#[tokio::test]
async fn a_login_must_agree_with_its_token() {
    let cell = Cell::start().await;
    let token = cell.token("orla").await;
    let failed = ("AUTH_FAILED".to_owned(), 4001);
    assert_eq!(rejected(&cell, "other", "d1", &token).await, failed);
    assert_eq!(rejected(&cell, "orla", "d1", "forged").await, failed);
    assert_eq!(rejected(&cell, "orla", "d1", &cell.dev.service_token).await, failed);
    let mut backend = cell.backend();
    let issue = |daemon: &str, scopes: &[&str]| IssueTokenRequest {
        api_key: cell.dev.api_key.clone(),
        api_secret: cell.dev.api_secret.clone(),
        orchestrator_id: "orla".into(),
        daemon_id: daemon.into(),
        client_address: String::new(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
    };
    let bound = backend.auth.issue_token(issue("d7", &[])).await.unwrap().into_inner().access_token;
    assert_eq!(rejected(&cell, "orla", "d1", &bound).await, failed);
    assert_eq!(Daemon::connect(&cell.dev.gateway_url, "orla", "d7", &bound).await.welcome["type"], "auth_success");
    let mute = backend.auth.issue_token(issue("", &["files:read"])).await.unwrap().into_inner().access_token;
    assert_eq!(rejected(&cell, "orla", "d1", &mute).await, ("INSUFFICIENT_SCOPE".to_owned(), 4005));
}

#[tokio::test]
async fn a_daemon_without_messages_read_is_on_standby() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let issue = IssueTokenRequest {
        api_key: cell.dev.api_key.clone(),
        api_secret: cell.dev.api_secret.clone(),
        orchestrator_id: "orla".into(),
        daemon_id: String::new(),
        client_address: String::new(),
        scopes: vec!["events:read".into()],
    };
    let token = backend.auth.issue_token(issue).await.unwrap().into_inner().access_token;
    let mut deaf = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &token).await;
    assert_eq!(deaf.welcome["payload"]["scopes"], json!(["events:read"]));
    backend.route("orla", 1).await;
    assert!(deaf.is_silent(Duration::from_millis(200)).await);
    let mut reader = cell.daemon("orla", "d2").await;
    reader.events(1).await;
}

#[tokio::test]
async fn every_kind_of_revocation_closes_live_sockets_within_five_seconds() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let mut bystander = cell.daemon("other", "d1").await;
    let login = log_in(&cell.dev, "orla").await;
    let token = login["accessToken"].as_str().unwrap();
    let mut by_session = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", token).await;
    let session = by_session.welcome["payload"]["sessionId"].as_str().unwrap().to_owned();
    let mut revoke = async |target: Target, socket: &mut Daemon| {
        let request = RevokeTokenRequest { target: Some(target), reason: "test".into(), ..Default::default() };
        backend.auth.revoke_token(request).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(socket.close_code().await, 4006);
        assert!(begun.elapsed() < Duration::from_secs(5));
    };
    revoke(Target::SessionId(session), &mut by_session).await;
    assert_eq!(rejected(&cell, "orla", "d1", token).await.1, 4001, "its login is revoked");
    let refreshed = waystation_tests::http(
        &cell.dev.http_url,
        waystation_tests::post("/api/daemon/auth/refresh", &json!({"refreshToken": login["refreshToken"]})),
    );
    assert_eq!(refreshed.await.status(), 401);

    let login = log_in(&cell.dev, "orla").await;
    let mut socket = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", login["accessToken"].as_str().unwrap()).await;
    revoke(Target::Family(login["sessionId"].as_str().unwrap().into()), &mut socket).await;
    let token = cell.token("orla").await;
    let mut socket = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &token).await;
    revoke(Target::Token(token), &mut socket).await;
    let mut socket = cell.daemon("orla", "d1").await;
    revoke(Target::OrchestratorId("orla".into()), &mut socket).await;
    assert_eq!(bystander.heartbeat().await["type"], "heartbeat_ack", "others are not touched");
    revoke(Target::ApiKeyId(cell.dev.api_key.clone()), &mut bystander).await;
}

#[tokio::test]
async fn a_second_auth_frame_is_refused_and_harmless() {
    let cell = Cell::start().await;
    let token = cell.token("orla").await;
    let mut daemon = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &token).await;
    let again = json!({"accessToken": token, "daemonId": "d1", "orchestratorId": "orla"});
    daemon.send(frame("auth", again)).await;
    assert_eq!(daemon.next().await["payload"]["code"], "INVALID_MESSAGE");
    daemon.heartbeat().await;
}

#[tokio::test]
async fn tokens_of_the_older_platform_are_taken_if_its_secret_is_configured() {
    let secret = "a shared secret of at least 32 bytes";
    let cell = Cell::start_with(|options| options.hs256 = Some(secret.into())).await;
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = json!({"iss": "waystation", "aud": "waystation", "sub": "orla", "type": "access",
        "iat": now, "nbf": now, "exp": now + 600, "jti": "old-1", "organizationId": "dev",
        "orchestratorId": "orla", "sessionId": "old-login", "scopes": ["messages:read"]});
    let token = waystation_tests::hs256(&claims, secret);
    let daemon = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &token).await;
    assert_eq!(daemon.welcome["type"], "auth_success");
    let forged = waystation_tests::hs256(&claims, "another secret of at least 32 bytes");
    assert_eq!(rejected(&cell, "orla", "d1", &forged).await.1, 4001);
    let mut expired = claims.clone();
    expired["exp"] = json!(now - 1);
    let expired = waystation_tests::hs256(&expired, secret);
    assert_eq!(rejected(&cell, "orla", "d1", &expired).await, ("TOKEN_EXPIRED".to_owned(), 4003));
    let mut short = claims;
    short["exp"] = json!(now + 2);
    short["jti"] = json!("old-2");
    let mut silent =
        Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &waystation_tests::hs256(&short, secret)).await;
    assert_eq!(silent.close_code().await, 4003, "a token ends on a silent socket too");
}
