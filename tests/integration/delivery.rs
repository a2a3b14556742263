//! A message reaches its daemon, online or not (R1, R2).

use std::time::Duration;

use serde_json::{Value, json};
use waystation_proto::common::v1::{Durability, ErrorReason, Priority};
use waystation_proto::router::v1::route_message_result::Outcome;
use waystation_proto::router::v1::*;
use waystation_tests::{Backend, Cell, code_and_reason, eventually};

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_thousand_messages_arrive_in_order_and_are_counted() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    let routing = async {
        for number in 0..1_000 {
            let routed = backend.route("orla", number).await;
            assert_eq!(routed.status(), MessageStatus::Dispatched);
            assert_eq!(routed.durability(), Durability::PageCache);
            assert_eq!(routed.position.unwrap().sequence, number + 1);
        }
    };
    let receiving = async {
        let mut got = Vec::new();
        while got.len() < 1_000 {
            let event = daemon.events(1).await;
            daemon.ack(&event).await;
            got.extend(event);
        }
        got
    };
    let ((), got) = tokio::join!(routing, receiving);
    assert_eq!(numbers(&got), (0..1_000).collect::<Vec<_>>());
    assert!(got.iter().all(|event| event["redelivered"] == false && event["requiresAck"] == true));
    eventually("every ack is counted", async || (backend.depth("orla").await == 0).then_some(())).await;
    assert_eq!(backend.mailbox("orla").await.counters.unwrap().acknowledged, 1_000);
}

#[tokio::test]
async fn what_is_routed_to_the_absent_waits_for_them() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    for number in 0..50 {
        assert_eq!(backend.route("orla", number).await.status(), MessageStatus::Queued);
    }
    let mut daemon = cell.daemon("orla", "d1").await;
    assert_eq!(numbers(&daemon.events(50).await), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn urgent_messages_come_first() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    for (number, priority) in
        [Priority::Low, Priority::Normal, Priority::High, Priority::Critical].into_iter().enumerate()
    {
        let message = RouteMessageRequest { priority: priority.into(), ..Backend::message("orla", number as u64) };
        backend.try_route(message).await.unwrap();
    }
    let mut daemon = cell.daemon("orla", "d1").await;
    let events = daemon.events(4).await;
    assert_eq!(numbers(&events), [3, 2, 1, 0]);
    assert_eq!(events[0]["lane"], "critical");
}

#[tokio::test]
async fn data_arrives_byte_for_byte_with_its_type_and_channel() {
    let cell = Cell::start().await;
    let mut daemon = cell.daemon("orla", "d1").await;
    let message = RouteMessageRequest {
        orchestrator_id: "orla".into(),
        message_id: "order-7".into(),
        event_type: "order.placed".into(),
        channel_id: "c1".into(),
        data: r#"{"amount": 1.10, "big": 12345678901234567890, "text": "\u00e4"}"#.into(),
        ..Default::default()
    };
    cell.backend().try_route(message).await.unwrap();
    let event = daemon.events(1).await.remove(0);
    assert_eq!(event["eventId"], "order-7");
    assert_eq!(event["eventType"], "order.placed");
    assert_eq!(event["channelId"], "c1");
    assert_eq!(event["data"]["text"], "ä");
    daemon.ack(&[event]).await;
    let backend = cell.backend();
    eventually("it is acknowledged", async || {
        let request =
            GetMessageRequest { orchestrator_id: "orla".into(), message_id: "order-7".into(), ..Default::default() };
        let found = backend.router.clone().get_message(request).await.unwrap().into_inner();
        (found.status() == MessageStatus::Acknowledged).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_repeated_call_makes_one_message() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let message = || RouteMessageRequest { message_id: "m1".into(), ..Backend::message("orla", 1) };
    let first = backend.try_route(message()).await.unwrap();
    let second = backend.try_route(message()).await.unwrap();
    assert_eq!((first.duplicate, second.duplicate), (false, true));
    assert_eq!(first.position, second.position);
    let other = RouteMessageRequest { message_id: "m1".into(), ..Backend::message("orla", 2) };
    let status = backend.try_route(other).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (tonic::Code::AlreadyExists, Some(ErrorReason::MessageIdReused)));
    assert_eq!(backend.depth("orla").await, 1);
}

#[tokio::test]
async fn a_stream_of_batches_is_answered_in_order_element_by_element() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let batch = |from: u64| RouteMessagesRequest {
        messages: vec![
            Backend::message("orla", from),
            RouteMessageRequest { data: "[]".into(), ..Backend::message("orla", 0) },
            Backend::message("orla", from + 1),
        ],
    };
    let requests = tokio_stream::iter((0..100).map(move |n| batch(n * 2)));
    let mut answers = backend.router.route_messages(requests).await.unwrap().into_inner();
    let mut sequence = 0;
    for _ in 0..100 {
        let results = answers.message().await.unwrap().unwrap().results;
        for (index, result) in results.into_iter().enumerate() {
            match result.outcome.unwrap() {
                Outcome::Routed(routed) => {
                    sequence += 1;
                    assert_eq!(routed.position.unwrap().sequence, sequence);
                }
                Outcome::Error(error) => assert_eq!((index, error.code), (1, tonic::Code::InvalidArgument as i32)),
            }
        }
    }
    assert!(answers.message().await.unwrap().is_none());
    let mut daemon = cell.daemon("orla", "d1").await;
    assert_eq!(numbers(&daemon.events(200).await), (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_caller_can_wait_for_the_ack() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    let waiting = RouteMessageRequest { wait_for: WaitFor::Acknowledged.into(), ..Backend::message("orla", 1) };
    let (routed, ()) = tokio::join!(backend.try_route(waiting.clone()), async {
        let event = daemon.events(1).await;
        daemon.ack(&event).await;
    });
    assert_eq!(routed.unwrap().status(), MessageStatus::Acknowledged);
    // Nobody acknowledges: the state as it is, shortly before the deadline.
    let mut request = tonic::Request::new(waiting);
    request.set_timeout(Duration::from_millis(600));
    let routed = backend.router.clone().route_message(request).await.unwrap().into_inner();
    assert_eq!(routed.status(), MessageStatus::Dispatched);
}

#[tokio::test]
async fn a_caller_can_refuse_to_queue() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let message = RouteMessageRequest { if_offline: IfOffline::Fail.into(), ..Backend::message("orla", 1) };
    let status = backend.try_route(message.clone()).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (tonic::Code::FailedPrecondition, Some(ErrorReason::OrchestratorOffline)));
    assert_eq!(backend.depth("orla").await, 0);
    let _daemon = cell.daemon("orla", "d1").await;
    assert_eq!(backend.try_route(message).await.unwrap().status(), MessageStatus::Dispatched);
    let durable = RouteMessageRequest { minimum_durability: Durability::Fsync.into(), ..Backend::message("orla", 1) };
    let status = backend.try_route(durable).await.unwrap_err();
    assert_eq!(code_and_reason(&status).1, Some(ErrorReason::DurabilityUnavailable));
}

#[tokio::test]
async fn a_small_window_is_kept_and_moves_with_the_acks() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let token = cell.token("orla").await;
    let more = json!({"maxInFlight": 3});
    let mut daemon = waystation_tests::Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more).await;
    for number in 0..10 {
        backend.route("orla", number).await;
    }
    let first = daemon.events(3).await;
    assert!(daemon.is_silent(Duration::from_millis(200)).await, "the window is full");
    daemon.ack(&first[..2]).await;
    assert_eq!(numbers(&daemon.events(2).await), [3, 4]);
}

#[tokio::test]
async fn the_trace_of_the_caller_reaches_the_daemon_pushed_or_read() {
    const CALL: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const FIELD: &str = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00";
    let cell = Cell::start().await;
    let backend = cell.backend();
    let route = async |metadata: &'static str, field: &str| {
        let traced = RouteMessageRequest { traceparent: field.to_owned(), ..Backend::message("orla", 1) };
        let mut request = tonic::Request::new(traced);
        request.metadata_mut().insert("traceparent", metadata.parse().unwrap());
        backend.router.clone().route_message(request).await.unwrap();
    };
    route(CALL, "").await;
    route(CALL, FIELD).await;
    route("malformed", "").await;
    let mut daemon = cell.daemon("orla", "d1").await;
    let mut seen = daemon.events(3).await;
    route(CALL, "").await;
    seen.extend(daemon.events(1).await);
    let traces: Vec<Option<&str>> = seen.iter().map(|event| event["traceparent"].as_str()).collect();
    assert_eq!(traces, [Some(CALL), Some(FIELD), None, Some(CALL)]);
}

#[tokio::test]
async fn large_messages_move_the_window_too() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    let data = format!(r#"{{"fill":"{}"}}"#, "x".repeat(180_000));
    for _ in 0..20 {
        let large = RouteMessageRequest { data: data.clone().into(), ..Backend::message("orla", 0) };
        backend.try_route(large).await.unwrap();
    }
    for sequence in 1..=20 {
        let events = daemon.events(1).await;
        assert_eq!(events[0]["sequence"], sequence);
        daemon.ack(&events).await;
    }
}
