//! Browsers: which pages may call, what people may do, and what anybody may watch.

use http::{Request, Response};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use waystation_domain::Scope;
use waystation_proto::router::v1::PublishEventRequest;
use waystation_tests::{Backend, Cell, Conductor, Daemon, Platform, Sse, frame, http, issuer};

const EVENTS: &str = "/api/daemon/events";
const PAGE: &str = "https://app.example.com";

/// A cell whose platform says who people are.
async fn cell(platform: &Platform) -> (Cell, NamedTempFile) {
    let (file, keys) = platform.keys();
    let scopes = [Scope::EventsRead, Scope::MessagesRead, Scope::MessagesWrite, Scope::AdminAll];
    let cell = Cell::start_with(|options| {
        options.issuers = vec![issuer(keys, None, &scopes)];
        options.allowed_origins = vec![PAGE.parse().unwrap()];
    });
    (cell.await, file)
}

fn person(platform: &Platform, organization: &str) -> String {
    platform.token(organization, &json!({"sub": "mail|ann@example.com", "scope": "events:read messages:write"}))
}

async fn call(cell: &Cell, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = http(&cell.dev.http_url, request.body(body).unwrap()).await;
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
}

fn numbers(answer: &Value) -> Vec<u64> {
    answer["events"].as_array().unwrap().iter().map(|item| item["payload"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn pages_of_the_list_may_call_and_others_may_not() {
    let (cell, _keys) = cell(&Platform(3)).await;
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| -> Response<Vec<u8>> {
        let request = headers.iter().fold(Request::builder().method(method).uri(path), |r, (n, v)| r.header(*n, *v));
        http(&cell.dev.http_url, request.body(String::new()).unwrap()).await
    };
    let header = |answer: &Response<Vec<u8>>, name: &str| -> String {
        answer.headers().get(name).map(|value| value.to_str().unwrap().to_ascii_lowercase()).unwrap_or_default()
    };
    let preflight = [
        ("origin", PAGE),
        ("access-control-request-method", "DELETE"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let answer = ask("OPTIONS", EVENTS, &preflight).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin").as_str()), (200, PAGE));
    for (name, words) in [
        ("access-control-allow-methods", ["get", "post", "put", "delete"].as_slice()),
        ("access-control-allow-headers", &["authorization", "content-type", "last-event-id"]),
    ] {
        let told = header(&answer, name);
        assert!(words.iter().all(|word| told.contains(word)), "{name}: {told}");
    }
    assert_eq!(header(&answer, "access-control-allow-credentials"), "", "no cookies");
    // What is refused must be readable too.
    let answer = ask("GET", EVENTS, &[("origin", PAGE)]).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin").as_str()), (401, PAGE));
    assert_eq!(header(&answer, "access-control-expose-headers"), "retry-after");
    for origin in
        ["https://evil.example.com", "https://app.example.com.evil.example.com", "null", "http://app.example.com"]
    {
        for (method, path) in
            [("OPTIONS", EVENTS), ("GET", "/.well-known/jwks.json"), ("POST", "/api/daemon/auth"), ("GET", "/ws")]
        {
            let answer = ask(method, path, &[("origin", origin)]).await;
            assert_eq!(answer.status().as_u16(), 403, "{method} {path} by {origin}");
            assert_eq!(header(&answer, "access-control-allow-origin"), "");
        }
    }
    assert_eq!(ask("GET", "/.well-known/jwks.json", &[]).await.status().as_u16(), 200, "it is no page");
}

#[tokio::test]
async fn a_person_watches_and_writes_and_has_no_mailbox() {
    let platform = Platform(4);
    let (cell, _keys) = cell(&platform).await;
    let (backend, token) = (cell.backend(), person(&platform, "dev"));
    let mut orla = cell.daemon("orla", "d1").await;
    orla.send(frame("subscribe", json!({"eventTypes": ["message.*"]}))).await;
    orla.heartbeat().await;

    let mut stream = Sse::open(&cell.dev.http_url, &format!("{EVENTS}?types=invoice.*,message.*"), &token, None).await;
    assert_eq!(stream.next().await.event, "ready");
    backend.publish("invoice.paid", 1).await;
    backend.publish("other.event", 2).await;
    let event = stream.items(1).await.remove(0);
    assert_eq!((&event.data["type"], &event.data["payload"]), (&json!("invoice.paid"), &json!({"n": 1})));

    // To a channel, which it sees itself, and to an orchestrator.
    let written = json!({"channelId": "c1", "content": "hello"});
    let (status, answer) = call(&cell, "POST", "/api/daemon/messages", &token, written).await;
    assert_eq!((status, &answer["status"]), (200, &json!("PUBLISHED")), "{answer}");
    assert_eq!(stream.items(1).await[0].data["payload"]["authorId"], "mail|ann@example.com");
    assert_eq!(orla.events(1).await[0]["data"]["content"], "hello");
    let written = json!({"orchestratorId": "orla", "content": "for you"});
    assert_eq!(call(&cell, "POST", "/api/daemon/messages", &token, written).await.0, 200);
    let event = orla.events(1).await.remove(0);
    assert_eq!((&event["log"], &event["data"]["authorId"]), (&json!("mailbox"), &json!("mail|ann@example.com")));

    // It is no daemon.
    for (method, path, body) in [
        ("POST", "/api/daemon/heartbeat", json!({})),
        ("PUT", "/api/daemon/status", json!({"status": "active"})),
        ("GET", "/api/daemon/config", Value::Null),
        ("GET", "/api/daemon/sessions", Value::Null),
        ("DELETE", EVENTS, json!({"eventIds": ["x"]})),
        ("GET", "/api/daemon/health/orla", Value::Null),
    ] {
        let (status, answer) = call(&cell, method, path, &token, body).await;
        assert_eq!((status, &answer["code"]), (403, &json!("INSUFFICIENT_SCOPE")), "{method} {path}");
    }
    let (status, answer) = call(&cell, "GET", EVENTS, &token, Value::Null).await;
    assert_eq!((status, answer["error"].as_str().unwrap().contains("types")), (400, true), "{answer}");
    let mut daemon = Daemon::open(&cell.dev.gateway_url).await;
    daemon.send(frame("auth", json!({"accessToken": token, "orchestratorId": "orla", "daemonId": "d9"}))).await;
    assert_eq!(daemon.next_of("auth_error").await["payload"]["code"], "AUTH_FAILED");
    let mut as_backend = Backend::with_token(&cell.dev, &token);
    let refused = as_backend.try_publish(Backend::event("invoice.paid", 3)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let presence =
        waystation_proto::router::v1::GetPresenceRequest { orchestrator_id: "orla".into(), ..Default::default() };
    assert!(as_backend.router.get_presence(presence).await.is_err());
}

#[tokio::test]
async fn a_person_reads_on_where_it_was_by_polls_and_streams() {
    let platform = Platform(5);
    let (cell, _keys) = cell(&platform).await;
    let (backend, token) = (cell.backend(), person(&platform, "dev"));
    let poll = async |query: &str| {
        let (status, answer) =
            call(&cell, "GET", &format!("{EVENTS}?types=invoice.*{query}"), &token, Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        let cursor = answer["cursor"].as_str().unwrap().to_owned();
        (numbers(&answer), cursor, answer["hasMore"] == json!(true))
    };
    let (none, mut cursor, _) = poll("").await;
    assert_eq!(none, [0u64; 0], "it begins now");
    backend.publish_many("invoice.paid", 0..500).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (some, next, has_more) = poll(&format!("&limit=100&cursor={cursor}")).await;
        assert!(has_more && some.len() >= 100, "{}", some.len());
        seen.extend(some);
        cursor = next;
    }
    let path = format!("{EVENTS}?types=invoice.*&cursor={cursor}");
    let mut stream = Sse::open(&cell.dev.http_url, &path, &token, None).await;
    let events = stream.items(100).await;
    seen.extend(events.iter().map(|event| event.data["payload"]["n"].as_u64().unwrap()));
    cursor.clone_from(&events.last().unwrap().id);
    drop(stream);
    while seen.len() < 500 {
        let (some, next, _) = poll(&format!("&limit=256&cursor={cursor}")).await;
        seen.extend(some);
        cursor = next;
    }
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
    let query = format!("&wait=20&cursor={cursor}");
    let (waited, ()) = tokio::join!(poll(&query), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        backend.publish("other.event", 0).await;
        backend.publish("invoice.paid", 500).await;
    });
    assert_eq!(waited.0, [500]);
    // What is of another organization is another's.
    let stranger = person(&platform, "none");
    let (_, answer) =
        call(&cell, "GET", &format!("{EVENTS}?types=*&since=2020-01-01T00:00:00Z"), &stranger, Value::Null).await;
    assert_eq!(answer["events"], json!([]));
}

#[tokio::test]
async fn anybody_may_watch_what_an_organization_shows_to_all() {
    let cell = Cell::start_with(|options| options.anonymous_organization = Some("dev".parse().unwrap())).await;
    let mut client = Conductor::try_connect(&cell.dev.http_url, "waystation.events.v1").await.unwrap().unwrap();
    assert_eq!(client.subscribe(&["dlq"], None).await["type"], "subscription-ack");
    let data = json!({"entryId": "e", "resolution": "done", "resolvedAt": "2026-01-01T00:00:00Z"});
    let event = PublishEventRequest { data: data.to_string().into(), ..Backend::event("dlq.entry-resolved", 0) };
    cell.backend().try_publish(event).await.unwrap();
    assert_eq!(client.events(1).await[0]["data"], data);
    // A token that is wrong is not none, and nothing else is open.
    let wrong = Conductor::try_connect(&cell.dev.http_url, "waystation.events.v1, bearer.x").await.unwrap();
    assert_eq!(wrong.err(), Some(401));
    for path in [format!("{EVENTS}?types=*"), "/api/websocket/status".to_owned()] {
        let request = Request::get(path).body(String::new()).unwrap();
        assert_eq!(http(&cell.dev.http_url, request).await.status(), 401);
    }
    let closed = Cell::start().await;
    let refused = Conductor::try_connect(&closed.dev.http_url, "waystation.events.v1").await.unwrap();
    assert_eq!(refused.err(), Some(401));
}
