//! Caps hold and are told (R7, R8).

use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use waystation_gateway::Limits;
use waystation_proto::common::v1::ErrorReason;
use waystation_tests::{Backend, Cell, code_and_reason, eventually, frame};

#[tokio::test]
async fn a_full_mailbox_refuses_with_a_delay_and_keeps_the_rest() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    for number in 0..1_000 {
        backend.route("orla", number).await;
    }
    let status = backend.try_route(Backend::message("orla", 1_000)).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (tonic::Code::ResourceExhausted, Some(ErrorReason::MailboxFull)));
    assert!(waystation_rpc::retry_after_of(&status).is_some());
    assert_eq!(backend.depth("orla").await, 1_000);
    backend.route("other", 0).await;
    let mut daemon = cell.daemon("orla", "d1").await;
    let first = daemon.events(1).await;
    daemon.ack(&first).await;
    eventually("there is room again", async || {
        backend.try_route(Backend::message("orla", 1_000)).await.ok().map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_never_reads_is_closed_and_its_mail_kept() {
    let limits = Limits { write_stall: Duration::from_millis(500), ..Limits::default() };
    let cell = Cell::start_with(|options| options.limits = limits).await;
    let backend = cell.backend();
    let token = cell.token("orla").await;
    let more = json!({"maxInFlight": 1_000, "maxInFlightBytes": 16 << 20});
    let frozen = waystation_tests::Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more).await;
    let data = format!(r#"{{"pad":"{}"}}"#, "x".repeat(190 * 1024));
    for _ in 0..40 {
        let message = waystation_proto::router::v1::RouteMessageRequest {
            data: data.clone().into(),
            ..Backend::message("orla", 0)
        };
        backend.try_route(message).await.unwrap();
    }
    let mut healthy = cell.daemon("other", "d1").await;
    backend.route("other", 1).await;
    healthy.events(1).await;
    eventually("the frozen one is gone", async || backend.sessions("orla").await.is_empty().then_some(())).await;
    assert_eq!(backend.depth("orla").await, 40);
    drop(frozen);
}

#[tokio::test]
async fn too_many_messages_of_a_plain_client_are_refused_with_a_delay() {
    let cell = Cell::start().await;
    let mut daemon = cell.daemon("orla", "d1").await;
    for _ in 0..100 {
        daemon.send(frame("subscribe", json!({"eventTypes": ["message.received"]}))).await;
    }
    daemon.send(frame("subscribe", json!({"eventTypes": ["message.received"]}))).await;
    let limited = daemon.next_of("rate_limit").await;
    assert_eq!((&limited["payload"]["action"], &limited["payload"]["maxRate"]), (&json!("subscribe"), &json!(100)));
    assert!(limited["payload"]["retryAfter"].as_f64().unwrap() <= 60.0);
    daemon.heartbeat().await;
    daemon.send(frame("heartbeat", json!({}))).await;
    assert_eq!(daemon.next_of("rate_limit").await["payload"]["action"], "heartbeat");
}

#[tokio::test]
async fn a_flood_of_pings_is_closed() {
    let cell = Cell::start().await;
    let mut daemon = cell.daemon("orla", "d1").await;
    for _ in 0..200 {
        if !daemon.try_send_raw(Message::Ping("x".into())).await {
            break;
        }
    }
    assert_eq!(daemon.close_code().await, 4004);
}

#[tokio::test]
async fn connections_that_do_not_log_in_are_limited_and_closed() {
    let limits = Limits {
        auth: Duration::from_millis(300),
        first_byte: Duration::from_millis(200),
        unauthenticated_per_address: 3,
        ..Limits::default()
    };
    let cell = Cell::start_with(|options| options.limits = limits).await;
    let address = cell.dev.http_url.strip_prefix("http://").unwrap().to_owned();
    let mut waiting = waystation_tests::Daemon::open(&cell.dev.gateway_url).await;
    assert_eq!(waiting.close_code().await, 4002);
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    for stream in &mut silent {
        let mut byte = [0];
        let ended = tokio::io::AsyncReadExt::read(stream, &mut byte).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "closed without a word");
    }
    eventually("others are let in again", async || {
        Some(cell.daemon("orla", "d1").await).filter(|daemon| daemon.welcome["type"] == "auth_success").map(drop)
    })
    .await;
}
