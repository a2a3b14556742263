//! What daemons say and ask by REST.

use http::Request;
use serde_json::{Value, json};
use waystation_proto::auth::v1::CreateApiKeyRequest;
use waystation_tests::{Backend, Cell, eventually, http};

async fn call(cell: &Cell, method: &str, path: &str, bearer: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {bearer}"));
    let answer = http(&cell.dev.http_url, request.body(body).unwrap()).await;
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
}

async fn health(cell: &Cell, orchestrator: &str) -> Value {
    let path = format!("/api/daemon/health/{orchestrator}");
    let (status, answer) = call(cell, "GET", &path, &cell.dev.service_token, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    answer["data"].clone()
}

#[tokio::test]
async fn what_a_daemon_says_by_rest_or_socket_is_told_by_health() {
    let cell = Cell::start().await;
    let login = cell.log_in("orla").await;
    let token = login["accessToken"].as_str().unwrap();
    let unheard = health(&cell, "orla").await;
    assert_eq!((&unheard["healthy"], &unheard["lastHeartbeat"]), (&json!(false), &Value::Null));
    let (status, answer) = call(&cell, "POST", "/api/daemon/heartbeat", token, Value::Null).await;
    assert_eq!((status, &answer["success"], &answer["heartbeatIntervalMs"]), (200, &json!(true), &json!(30_000)));
    let beat = json!({
        "sessionId": login["sessionId"],
        "status": "busy",
        "metrics": {"memoryUsageMB": 256, "lastTaskCompletedAt": "2026-01-01T00:00:00Z"},
    });
    assert_eq!(call(&cell, "POST", "/api/daemon/heartbeat", token, beat).await.0, 200);
    let status = json!({"status": "paused", "message": "updating"});
    assert_eq!(call(&cell, "PUT", "/api/daemon/status", token, status).await, (200, json!({"success": true})));
    let presence = json!({"status": "away", "statusText": "lunch"});
    assert_eq!(call(&cell, "PUT", "/api/daemon/presence", token, presence).await.0, 200);
    let told = health(&cell, "orla").await;
    assert_eq!(
        (&told["healthy"], &told["status"], &told["presence"]),
        (&json!(true), &json!("paused"), &json!("offline"))
    );
    assert_eq!((&told["statusMessage"], &told["reportedPresence"]), (&json!("updating"), &json!("away")));
    assert_eq!((&told["missedHeartbeats"], &told["presenceText"]), (&json!(0), &json!("lunch")));
    assert_eq!(told["metrics"][0]["metrics"]["memoryUsageMB"], 256);
    // The same from a socket.
    let mut daemon = cell.daemon("orla", "d1").await;
    let metrics = json!({"status": "active", "metrics": {"queueDepth": 3}});
    daemon.send(waystation_tests::frame("heartbeat", metrics)).await;
    daemon.next_of("heartbeat_ack").await;
    let told = health(&cell, "orla").await;
    assert_eq!(
        (&told["status"], &told["presence"], &told["sessions"]),
        (&json!("active"), &json!("online"), &json!(1))
    );
    assert_eq!(told["metrics"][1]["metrics"]["queueDepth"], 3);
}

#[tokio::test]
async fn a_pause_by_rest_hands_the_mailbox_on() {
    let cell = Cell::start().await;
    let (first, second) = (cell.log_in("orla").await, cell.log_in("orla").await);
    let token = |login: &Value| login["accessToken"].as_str().unwrap().to_owned();
    let connect = async |login: &Value, daemon: &str| {
        waystation_tests::Daemon::connect(&cell.dev.gateway_url, "orla", daemon, &token(login)).await
    };
    let mut holder = connect(&first, "d1").await;
    let mut standby = connect(&second, "d2").await;
    let pause = json!({"status": "paused"});
    assert_eq!(call(&cell, "PUT", "/api/daemon/status", &token(&first), pause).await.0, 200);
    cell.backend().route("orla", 1).await;
    standby.events(1).await;
    assert!(holder.is_silent(std::time::Duration::from_millis(100)).await);
}

#[tokio::test]
async fn a_daemon_reads_who_it_is_and_which_sessions_live() {
    let cell = Cell::start().await;
    let token = cell.token("orla").await;
    let (status, config) = call(&cell, "GET", "/api/daemon/config", &token, Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&config["orchestrator"]["id"], &config["orchestrator"]["organization"]["id"]),
        (&json!("orla"), &json!("dev"))
    );
    assert_eq!(config["operationalConfig"]["messageRateLimitPerMinute"], 100);
    assert!(config["scopes"].as_array().unwrap().contains(&json!("messages:read")));
    let mut daemon = waystation_tests::Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &token).await;
    let (_, listed) = call(&cell, "GET", "/api/daemon/sessions", &token, Value::Null).await;
    assert_eq!((&listed["total"], &listed["sessions"][0]["daemonId"]), (&json!(1), &json!("d1")));
    let unknown = call(&cell, "DELETE", "/api/daemon/sessions?sessionId=other", &token, Value::Null).await;
    assert_eq!((unknown.0, &unknown.1["code"]), (404, &json!("NOT_FOUND")));
    let session = listed["sessions"][0]["sessionId"].as_str().unwrap();
    let path = format!("/api/daemon/sessions?sessionId={session}");
    assert_eq!(call(&cell, "DELETE", &path, &token, Value::Null).await.0, 200);
    assert_eq!(daemon.close_code().await, 4006);
    // Without a name: those of the same login.
    let mut again = waystation_tests::Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &token).await;
    let mut other = cell.daemon("orla", "d2").await;
    assert_eq!(call(&cell, "DELETE", "/api/daemon/sessions", &token, Value::Null).await.1["terminated"], 1);
    assert_eq!(again.close_code().await, 4006);
    other.heartbeat().await;
}

#[tokio::test]
async fn one_instance_is_registered_at_a_time() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let key = CreateApiKeyRequest {
        orchestrator_id: "orla".into(),
        scopes: vec!["messages:read".into()],
        ..Default::default()
    };
    let key = backend.credentials.create_api_key(key).await.unwrap().into_inner();
    let body = |instance: &str, organization: &str, secret: &str| {
        json!({
            "orchestratorId": "orla",
            "organizationId": organization,
            "apiKey": secret,
            "daemonInfo": {"instanceId": instance, "version": "1.0.0", "host": "h", "port": 1, "protocol": "ws",
                           "startedAt": "2026-01-01T00:00:00Z"},
        })
    };
    let register = async |body: Value| call(&cell, "POST", "/api/daemon/register", "unused", body).await;
    let (status, answer) = register(body("i1", "dev", &key.api_secret)).await;
    assert_eq!((status, &answer["success"], &answer["data"]["instanceId"]), (201, &json!(true), &json!("i1")));
    assert_eq!(register(body("i1", "dev", &key.api_secret)).await.0, 201, "a repeat is harmless");
    let (status, answer) = register(body("i2", "dev", &key.api_secret)).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("DAEMON_ALREADY_REGISTERED")));
    assert_eq!(health(&cell, "orla").await["registration"]["daemonInfo"]["host"], "h");
    for (bad, expected) in [
        (body("i1", "other", &key.api_secret), (404, "NOT_FOUND")),
        (body("i1", "dev", "wsk_x"), (401, "INVALID_API_KEY")),
        (body("a/b", "dev", &key.api_secret), (400, "VALIDATION_ERROR")),
        (json!({"orchestratorId": "orla"}), (400, "VALIDATION_ERROR")),
        (
            json!({"orchestratorId": "orla", "organizationId": "dev", "apiKey": "x", "daemonInfo": {}}),
            (400, "VALIDATION_ERROR"),
        ),
    ] {
        let (status, answer) = register(bad).await;
        assert_eq!((status, answer["error"]["code"].as_str().unwrap()), expected);
    }
    let unregister = async |instance: &str| {
        call(&cell, "POST", "/api/daemon/unregister", "unused", body(instance, "dev", &key.api_secret)).await.0
    };
    assert_eq!(unregister("i2").await, 404);
    assert_eq!(unregister("i1").await, 200);
    assert_eq!(register(body("i2", "dev", &key.api_secret)).await.0, 201);
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let cell = Cell::start().await;
    let token = cell.token("orla").await;
    let bad = [
        ("POST", "/api/daemon/heartbeat", json!({"status": "paused"}), "status"),
        ("POST", "/api/daemon/heartbeat", json!({"sessionId": "another"}), "sessionId"),
        ("POST", "/api/daemon/heartbeat", json!({"metrics": [1]}), "metrics"),
        ("POST", "/api/daemon/heartbeat", json!({"metrics": {"pad": "x".repeat(9_000)}}), "metrics"),
        ("PUT", "/api/daemon/status", json!({"status": "idle"}), "status"),
        ("PUT", "/api/daemon/status", json!({}), "status"),
        ("PUT", "/api/daemon/status", Value::Null, "body"),
        ("PUT", "/api/daemon/status", json!({"status": "error", "message": "x".repeat(300)}), "message"),
        ("PUT", "/api/daemon/presence", json!({"status": "asleep"}), "status"),
        ("PUT", "/api/daemon/presence", json!({"status": "away", "statusText": "a\u{7}"}), "statusText"),
    ];
    for (method, path, body, field) in bad {
        let (status, answer) = call(&cell, method, path, &token, body.clone()).await;
        assert_eq!((status, &answer["code"]), (400, &json!("VALIDATION_ERROR")), "{path} {body} {answer}");
        assert!(answer["error"].as_str().unwrap().contains(field), "{path} {body} {answer}");
    }
    assert_eq!(call(&cell, "DELETE", "/api/daemon/heartbeat", &token, Value::Null).await.0, 405);
}

#[tokio::test]
async fn headers_of_every_kind_are_survived() {
    let cell = Cell::start().await;
    let address = cell.dev.http_url.strip_prefix("http://").unwrap().to_owned();
    let token = cell.token("orla").await;
    let ask = async |headers: Vec<u8>| {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let mut request = b"GET /api/daemon/config HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".to_vec();
        request.extend(headers);
        request.extend(b"\r\n");
        stream.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).split(' ').nth(1).map(|status| status.parse::<u16>().unwrap_or(0))
    };
    let bearer = |value: &[u8]| [b"Authorization: ", value, b"\r\n"].concat();
    let good = format!("Bearer {token}");
    assert_eq!(ask(bearer(good.as_bytes())).await, Some(200));
    let twice = [bearer(good.as_bytes()), bearer(good.as_bytes())].concat();
    let refused = [
        twice,
        bearer("Bearer ключ".as_bytes()),
        bearer(&[b"Bearer ".as_slice(), &[0xff; 8]].concat()),
        bearer(b"Basic dXNlcjpwYXNz"),
        bearer(b"bearer"),
        bearer(&[b"Bearer ".as_slice(), &b"x".repeat(5_000)].concat()),
    ];
    for headers in refused {
        assert_eq!(ask(headers).await, Some(401));
    }
    let huge = [b"X-Pad: ".as_slice(), &b"x".repeat(40_000), b"\r\n"].concat();
    let many = b"X-Many: 1\r\n".repeat(100);
    for headers in [huge, many] {
        assert_eq!(ask(headers).await, Some(431));
    }
    // And the gateway serves others as before.
    eventually("others are served", async || (ask(bearer(good.as_bytes())).await == Some(200)).then_some(())).await;
    Backend::new(&cell.dev).route("orla", 1).await;
}
