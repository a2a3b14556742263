//! Logins by REST and gRPC.

use http::Request;
use serde_json::{Value, json};
use tonic::Code;
use waystation_proto::auth::v1::*;
use waystation_tests::{Cell, http, log_in, post};

async fn answer(cell: &Cell, path: &str, body: Value) -> (u16, Value) {
    let response = http(&cell.dev.http_url, post(path, &body)).await;
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
}

#[tokio::test]
async fn a_login_answers_what_old_clients_read() {
    let cell = Cell::start().await;
    let login = log_in(&cell.dev, "orla").await;
    for field in ["accessToken", "refreshToken", "expiresAt", "sessionId"] {
        assert!(login[field].is_string(), "{field}");
    }
    assert_eq!(login["orchestrator"]["id"], "orla");
    assert_eq!(login["orchestrator"]["organization"]["slug"], "dev");
    assert!(login["expiresAt"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn wrong_credentials_are_401_before_anything_else() {
    let cell = Cell::start().await;
    let (key, secret) = (&cell.dev.api_key, &cell.dev.api_secret);
    let mut other = secret.clone();
    let last = other.pop().unwrap();
    other.push(if last == 'A' { 'B' } else { 'A' });
    let bad = [
        json!({"apiKey": key, "apiSecret": "wsk_x"}),
        json!({"apiKey": key, "apiSecret": other}),
        json!({"apiKey": "another", "apiSecret": secret, "orchestratorId": "o"}),
        json!({"apiKey": "", "apiSecret": "", "orchestratorId": "a/b"}),
        json!({"apiKey": "ключ", "apiSecret": "ключ"}),
    ];
    for body in bad {
        let (status, answer) = answer(&cell, "/api/daemon/auth", body).await;
        assert_eq!((status, &answer["code"]), (401, &json!("INVALID_CREDENTIALS")));
        assert!(answer["error"].is_string());
    }
    let (status, found) = answer(&cell, "/api/daemon/auth", json!({"apiKey": key, "apiSecret": secret})).await;
    assert_eq!((status, &found["code"]), (400, &json!("VALIDATION_ERROR")), "the key is bound to no orchestrator");
    let slash = json!({"apiKey": key, "apiSecret": secret, "orchestratorId": "a/b"});
    assert_eq!(answer(&cell, "/api/daemon/auth", slash).await.0, 400);
}

#[tokio::test]
async fn bodies_are_judged_before_they_are_read_into_anything() {
    let cell = Cell::start().await;
    let raw = async |body: String| {
        let request = Request::post("/api/daemon/auth").body(body).unwrap();
        http(&cell.dev.http_url, request).await.status().as_u16()
    };
    for bad in ["", "{", "[]", "{\"apiKey\":1}", "{\"apiKey\":\"a\",\"apiKey\":\"b\"}"] {
        assert_eq!(raw(bad.into()).await, 400, "{bad}");
    }
    assert_eq!(raw("[".repeat(40) + &"]".repeat(40)).await, 400);
    assert_eq!(raw(format!("\"{}\"", "x".repeat(70_000))).await, 413);
    let lost = http(&cell.dev.http_url, Request::get("/api/daemon/nothing").body(String::new()).unwrap()).await;
    assert_eq!(lost.status(), 404);
    let described = http(&cell.dev.http_url, Request::get("/daemon/ws").body(String::new()).unwrap()).await;
    assert_eq!(described.status(), 200);
}

#[tokio::test]
async fn a_refresh_token_rotates_and_its_reuse_ends_the_login() {
    let cell = Cell::start().await;
    let login = log_in(&cell.dev, "orla").await;
    let first = login["refreshToken"].clone();
    let (status, next) = answer(&cell, "/api/daemon/auth/refresh", json!({"refreshToken": first})).await;
    assert_eq!(status, 200);
    assert_ne!(next["refreshToken"], first);
    // Within the grace a lost answer is given again.
    let (status, same) = answer(&cell, "/api/daemon/auth/refresh", json!({"refreshToken": first})).await;
    assert_eq!((status, &same["refreshToken"]), (200, &next["refreshToken"]));
    let (_, third) = answer(&cell, "/api/daemon/auth/refresh", json!({"refreshToken": next["refreshToken"]})).await;
    // Two generations old: somebody else has it.
    let (status, reused) = answer(&cell, "/api/daemon/auth/refresh", json!({"refreshToken": first})).await;
    assert_eq!((status, &reused["code"]), (401, &json!("TOKEN_REVOKED")));
    let (status, _) = answer(&cell, "/api/daemon/auth/refresh", json!({"refreshToken": third["refreshToken"]})).await;
    assert_eq!(status, 401);
    let (status, forged) = answer(&cell, "/api/daemon/auth/refresh", json!({"refreshToken": "wsr_1.x.y"})).await;
    assert_eq!((status, &forged["code"]), (401, &json!("INVALID_TOKEN")));
}

#[tokio::test]
async fn tokens_can_be_looked_at_and_keys_are_public() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let token = cell.token("orla").await;
    let claims = backend.auth.validate_token(ValidateTokenRequest { token }).await.unwrap().into_inner();
    assert_eq!(
        (claims.r#type.as_str(), claims.subject.as_str(), claims.organization_id.as_str()),
        ("access", "orla", "dev")
    );
    let bad = backend.auth.validate_token(ValidateTokenRequest { token: "x".into() }).await.unwrap_err();
    assert_eq!(bad.code(), Code::Unauthenticated);
    let keys = backend.auth.get_key_set(GetKeySetRequest {}).await.unwrap().into_inner();
    let keys: Value = serde_json::from_slice(&keys.jwks).unwrap();
    assert_eq!(keys["keys"][0]["crv"], "Ed25519");
    let wrong = IssueServiceTokenRequest { service: "router".into(), secret: "guess".into(), ..Default::default() };
    assert_eq!(backend.auth.issue_service_token(wrong).await.unwrap_err().code(), Code::Unauthenticated);
}
