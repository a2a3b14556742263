//! What must be refused is refused by name, and hurts nobody else.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use waystation_proto::router::v1::*;
use waystation_tests::{Backend, Cell, Daemon, frame};

/// Sends a frame to a session and answers the `error` it gets, after which the connection must still serve.
async fn refused(daemon: &mut Daemon, text: &str) -> Value {
    daemon.send_raw(Message::text(text)).await;
    let answer = daemon.next_of("error").await;
    assert_eq!(answer["payload"]["code"], "INVALID_MESSAGE");
    daemon.ack(&[]).await;
    answer["payload"].clone()
}

#[tokio::test]
async fn frames_are_refused_by_the_name_of_the_field() {
    let cell = Cell::start().await;
    let mut daemon = cell.daemon("orla", "d1").await;
    let field = |payload: &Value| payload["details"]["field"].as_str().unwrap_or("").to_owned();
    assert_eq!(field(&refused(&mut daemon, r#"{"type":"made_up","id":"1"}"#).await), "type");
    assert_eq!(field(&refused(&mut daemon, r#"{"type":"ack","payload":{"eventIds":"x"}}"#).await), "payload.eventIds");
    assert_eq!(
        field(&refused(&mut daemon, r#"{"type":"subscribe","payload":{"eventTypes":["A"]}}"#).await),
        "payload.eventTypes[0]"
    );
    let many: Vec<String> = (0..51).map(|n| format!("t{n}")).collect();
    let many = json!({"type": "subscribe", "payload": {"eventTypes": many}}).to_string();
    assert_eq!(field(&refused(&mut daemon, &many).await), "payload.eventTypes");
    let deep = format!(r#"{{"type":"ack","payload":{}1{}}}"#, r#"{"a":"#.repeat(40), "}".repeat(40));
    refused(&mut daemon, &deep).await;
    for bad in [r#"{"type":"ack","type":"ack"}"#, r#"{"type":"\ud800"}"#, r#"{"a":NaN}"#, "{", "null"] {
        refused(&mut daemon, bad).await;
    }
    daemon
        .send(frame(
            "ack",
            json!({"eventIds": ["gap.7", "never-sent", "00000000000000ff.n.9"], "unknown": {"field": 1}}),
        ))
        .await;
    daemon.heartbeat().await;
    cell.backend().route("orla", 1).await;
    daemon.events(1).await;
}

#[tokio::test]
async fn three_malformed_frames_in_a_row_end_a_connection() {
    let cell = Cell::start().await;
    let mut daemon = cell.daemon("orla", "d1").await;
    for _ in 0..3 {
        daemon.send_raw(Message::text("{")).await;
    }
    assert_eq!(daemon.close_code().await, 1002);
    let mut unknown = Daemon::open(&cell.dev.gateway_url).await;
    unknown.send(frame("heartbeat", json!({}))).await;
    assert_eq!(unknown.next().await["payload"]["code"], "NOT_AUTHENTICATED");
    for _ in 0..3 {
        unknown.send_raw(Message::binary(vec![1, 2, 3])).await;
    }
    assert_eq!(unknown.close_code().await, 1002);
}

/// An upgraded connection whose bytes the test writes itself.
async fn raw_socket(cell: &Cell) -> TcpStream {
    let address = cell.dev.http_url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /daemon/ws HTTP/1.1\r\nHost: {address}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"));
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the example of RFC 6455");
    stream
}

/// The code of the close frame that answers these bytes.
async fn close_after(cell: &Cell, bytes: &[u8]) -> u16 {
    let mut stream = raw_socket(cell).await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = [0; 4];
    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer[0], 0x88, "a close frame");
    u16::from_be_bytes([answer[2], answer[3]])
}

#[tokio::test]
async fn violations_of_websocket_get_their_codes_before_anything_is_buffered() {
    let cell = Cell::start().await;
    assert_eq!(close_after(&cell, &[0x81, 0x01, b'x']).await, 1002, "a frame without a mask");
    assert_eq!(close_after(&cell, &[0xf1, 0x80, 0, 0, 0, 0]).await, 1002, "reserved bits");
    assert_eq!(close_after(&cell, &[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xff]).await, 1007, "no UTF-8");
    let mut promises = vec![0x81, 0xff];
    promises.extend_from_slice(&(1_u64 << 62).to_be_bytes());
    promises.extend_from_slice(&[0; 4]);
    assert_eq!(close_after(&cell, &promises).await, 1009, "a header that promises 2^62 bytes");
    let mut large = vec![0x81, 0xff];
    large.extend_from_slice(&(256 * 1024 + 1_u64).to_be_bytes());
    large.extend_from_slice(&[0; 4]);
    assert_eq!(close_after(&cell, &large).await, 1009, "one byte over the limit");
    let mut fragments = Vec::new();
    for n in 0..5 {
        fragments.extend_from_slice(&[u8::from(n == 0), 0xff]);
        fragments.extend_from_slice(&(64 * 1024_u64).to_be_bytes());
        fragments.extend_from_slice(&[0; 4]);
        fragments.extend(vec![b'x'; 64 * 1024]);
    }
    assert_eq!(close_after(&cell, &fragments).await, 1009, "endless fragments");
    cell.daemon("orla", "d1").await.heartbeat().await;
}

#[tokio::test]
async fn upgrades_that_are_none_are_refused() {
    let cell = Cell::start().await;
    let upgrade = || http::Request::get("/daemon/ws").header("connection", "Upgrade").header("upgrade", "websocket");
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let status = async |request: http::request::Builder| {
        waystation_tests::http(&cell.dev.http_url, request.body(String::new()).unwrap()).await.status().as_u16()
    };
    assert_eq!(status(upgrade().header("sec-websocket-version", "13")).await, 400);
    assert_eq!(status(upgrade().header("sec-websocket-key", key).header("sec-websocket-version", "8")).await, 426);
    let page = upgrade()
        .header("sec-websocket-key", key)
        .header("sec-websocket-version", "13")
        .header("origin", "https://evil.example");
    assert_eq!(status(page).await, 403);
    let odd = http::Request::get("/daemon/ws").header("x-odd", http::HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    assert_eq!(status(odd).await, 200, "a header that is no ASCII is only a header");
}

#[tokio::test]
async fn half_a_head_is_not_waited_for() {
    let limits = waystation_gateway::Limits { head: Duration::from_millis(300), ..Default::default() };
    let cell = Cell::start_with(|options| options.limits = limits).await;
    let address = cell.dev.http_url.strip_prefix("http://").unwrap().to_owned();
    let mut slow = TcpStream::connect(&address).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let mut huge = TcpStream::connect(&address).await.unwrap();
    huge.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let line = format!("x: {}\r\n", "y".repeat(1_000));
    for _ in 0..100 {
        if huge.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    huge.read_to_end(&mut answer).await.ok();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn requests_of_backends_are_refused_by_the_name_of_the_field() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let good = || Backend::message("orla", 1);
    let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let long = prost_types::Duration { seconds: 7 * 24 * 3_600 + 1, nanos: 0 };
    let bad = [
        ("orchestrator_id", RouteMessageRequest { orchestrator_id: String::new(), ..good() }),
        ("orchestrator_id", RouteMessageRequest { orchestrator_id: "a{b}".into(), ..good() }),
        ("orchestrator_id", RouteMessageRequest { orchestrator_id: "a/b".into(), ..good() }),
        ("orchestrator_id", RouteMessageRequest { orchestrator_id: "a:b".into(), ..good() }),
        ("organization_id", RouteMessageRequest { organization_id: "a\0b".into(), ..good() }),
        ("message_id", RouteMessageRequest { message_id: "x".repeat(59), ..good() }),
        ("message_id", RouteMessageRequest { message_id: "gap.1".into(), ..good() }),
        ("message_id", RouteMessageRequest { message_id: "order.r1".into(), ..good() }),
        ("message_id", RouteMessageRequest { message_id: "00000000000000ab.n.1".into(), ..good() }),
        ("event_type", RouteMessageRequest { event_type: "Not.Lower".into(), ..good() }),
        ("channel_id", RouteMessageRequest { channel_id: "a b".into(), ..good() }),
        ("priority", RouteMessageRequest { priority: 9, ..good() }),
        ("wait_for", RouteMessageRequest { wait_for: 9, ..good() }),
        ("if_offline", RouteMessageRequest { if_offline: 9, ..good() }),
        ("minimum_durability", RouteMessageRequest { minimum_durability: 9, ..good() }),
        ("time_to_live", RouteMessageRequest { time_to_live: Some(negative), ..good() }),
        ("time_to_live", RouteMessageRequest { time_to_live: Some(long), ..good() }),
        ("time_to_live", RouteMessageRequest { time_to_live: Some(prost_types::Duration::default()), ..good() }),
        ("traceparent", RouteMessageRequest { traceparent: "00-x".into(), ..good() }),
        ("data", RouteMessageRequest { data: "[1]".into(), ..good() }),
        ("data", RouteMessageRequest { data: "{".into(), ..good() }),
        ("data", RouteMessageRequest { data: r#"{"a":1,"a":2}"#.into(), ..good() }),
        ("data", RouteMessageRequest { data: deep.into(), ..good() }),
        ("data", RouteMessageRequest { data: vec![b' '; 192 * 1024 + 1].into(), ..good() }),
        ("data", RouteMessageRequest { data: b"{\"a\":\"\xff\"}".to_vec().into(), ..good() }),
    ];
    for (field, request) in bad {
        let status = backend.try_route(request).await.unwrap_err();
        let details = tonic_types::StatusExt::get_details_bad_request(&status);
        let named = details.map(|details| details.field_violations[0].field.clone());
        assert_eq!((status.code(), named.as_deref()), (tonic::Code::InvalidArgument, Some(field)), "{status:?}");
    }
    assert_eq!(backend.depth("orla").await, 0);
    let huge = RouteMessageRequest { data: vec![b' '; 5 << 20].into(), ..good() };
    let status = backend.try_route(huge).await.unwrap_err();
    assert!(matches!(status.code(), tonic::Code::OutOfRange | tonic::Code::ResourceExhausted), "{status:?}");
    backend.route("orla", 1).await;
}

#[tokio::test]
async fn bearers_that_are_none_are_refused() {
    let cell = Cell::start().await;
    let channel = waystation_rpc::channel(&cell.dev.router, &Default::default()).unwrap();
    let mut router = router_service_client::RouterServiceClient::new(channel);
    let token = &cell.dev.service_token;
    for bearer in [
        None,
        Some("Basic x".to_owned()),
        Some("Bearer".into()),
        Some("Bearer x".into()),
        Some(format!("bearer {token}")),
        Some(format!("Bearer  {token}")),
    ] {
        let mut request = tonic::Request::new(Backend::message("orla", 1));
        if let Some(bearer) = bearer {
            request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        }
        let status = router.route_message(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
    let mut twice = tonic::Request::new(Backend::message("orla", 1));
    twice.metadata_mut().append("authorization", format!("Bearer {token}").parse().unwrap());
    twice.metadata_mut().append("authorization", "Bearer other".parse().unwrap());
    assert_eq!(router.route_message(twice).await.unwrap_err().code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = waystation_gateway::Limits { body: Duration::from_millis(300), ..Default::default() };
    let cell = Cell::start_with(|options| options.limits = limits).await;
    let address = cell.dev.http_url.strip_prefix("http://").unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    let request = format!("POST /api/daemon/auth HTTP/1.1\r\nHost: {address}\r\nContent-Length: 100\r\n\r\n{{");
    slow.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(Duration::from_secs(5), slow.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}
