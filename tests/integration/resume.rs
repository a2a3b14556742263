//! What was not acknowledged comes again, flagged; doubts are told (R2, R3, R11).

use std::time::Duration;

use serde_json::{Value, json};
use waystation_tests::{Cell, Daemon, eventually};
use waystation_wire::SessionConfig;

fn seen(events: &[Value]) -> Vec<(u64, bool)> {
    events.iter().map(|e| (e["data"]["n"].as_u64().unwrap(), e["redelivered"].as_bool().unwrap())).collect()
}

#[tokio::test]
async fn the_unacknowledged_come_first_and_flagged_then_what_was_queued_meanwhile() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    for number in 0..200 {
        backend.route("orla", number).await;
    }
    let events = daemon.events(200).await;
    daemon.ack(&events[..100]).await;
    eventually("the acks are in", async || (backend.depth("orla").await == 100).then_some(())).await;
    daemon.vanish();
    eventually("the session has ended", async || backend.sessions("orla").await.is_empty().then_some(())).await;
    for number in 200..220 {
        backend.route("orla", number).await;
    }
    let mut daemon = cell.daemon("orla", "d1").await;
    let expected: Vec<(u64, bool)> = (100..220).map(|n| (n, n < 200)).collect();
    assert_eq!(seen(&daemon.events(120).await), expected);
}

#[tokio::test]
async fn a_client_that_shows_its_position_is_told_how_it_was_judged() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let token = cell.token("orla").await;
    let connect = async |more: Value| Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more).await;
    backend.route("orla", 0).await;
    let mut daemon = connect(json!({"client": {"name": "t", "version": "1"}})).await;
    let epoch = daemon.welcome["payload"]["epoch"].as_str().unwrap().to_owned();
    assert_eq!(daemon.welcome["payload"]["resumed"], false);
    daemon.events(1).await;
    let complete = daemon.next_of("replay_complete").await;
    assert_eq!(complete["payload"]["heads"]["normal"], 1);
    let resume =
        |epoch: &str, normal: u64| json!({"resume": {"mailbox": {"epoch": epoch, "positions": {"normal": normal}}}});
    let welcome = connect(resume(&epoch, 1)).await.welcome;
    assert_eq!(welcome["payload"]["resumed"], true);
    assert!(welcome["payload"].get("reason").is_none());
    let welcome = connect(resume(&epoch, 2)).await.welcome;
    assert_eq!(
        (&welcome["payload"]["resumed"], &welcome["payload"]["gap"]["reason"]),
        (&json!(false), &json!("possibly_lost"))
    );
    let welcome = connect(resume("00000000000000aa", 0)).await.welcome;
    assert_eq!(welcome["payload"]["reason"], "store_restarted");
    let mut daemon = connect(resume(&epoch, 1)).await;
    assert_eq!(seen(&daemon.events(1).await), [(0, true)], "a position never skips what was not acknowledged");
}

#[tokio::test]
async fn the_clock_delivers_again_and_in_the_end_buries() {
    let session = SessionConfig { redelivery: Duration::from_millis(100), ..SessionConfig::default() };
    let cell = Cell::start_with(|options| options.session = session).await;
    let backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    backend.route("orla", 7).await;
    let mut attempts = Vec::new();
    for _ in 0..5 {
        let event = daemon.events(1).await.remove(0);
        attempts.push((event["attempt"].as_u64().unwrap(), event["redelivered"].as_bool().unwrap()));
    }
    assert_eq!(attempts, [(1, false), (2, true), (3, true), (4, true), (5, true)]);
    let gap = daemon.events(1).await.remove(0);
    assert_eq!((&gap["eventType"], &gap["data"]["reason"]), (&json!("system.gap"), &json!("dead")));
    daemon.ack(&[gap]).await;
    assert_eq!(backend.mailbox("orla").await.counters.unwrap().dead, 1);
}

#[tokio::test]
async fn acks_of_an_earlier_connection_count() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    backend.route("orla", 0).await;
    let named = waystation_proto::router::v1::RouteMessageRequest {
        message_id: "named".into(),
        ..waystation_tests::Backend::message("orla", 1)
    };
    backend.try_route(named).await.unwrap();
    let events = daemon.events(2).await;
    daemon.vanish();
    let mut daemon = cell.daemon("orla", "d1").await;
    daemon.ack(&events).await;
    eventually("they are acknowledged", async || (backend.depth("orla").await == 0).then_some(())).await;
}

#[tokio::test]
async fn a_restart_in_order_keeps_everything() {
    let mut cell = Cell::start().await;
    let backend = cell.backend();
    for number in 0..10 {
        backend.route("orla", number).await;
    }
    let epoch = backend.mailbox("orla").await.epoch;
    cell.stop().await;
    let again = cell.again().await;
    let mut daemon = again.daemon("orla", "d1").await;
    assert_eq!(daemon.welcome["payload"]["epoch"].as_str().unwrap(), epoch);
    assert_eq!(seen(&daemon.events(10).await), (0..10).map(|n| (n, false)).collect::<Vec<_>>());
}
