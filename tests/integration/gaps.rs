//! What leaves otherwise than by an ack is told (R1, rule 13).

use std::time::Duration;

use serde_json::json;
use waystation_proto::router::v1::{GetMessageRequest, MessageStatus, RouteMessageRequest};
use waystation_tests::{Backend, Cell, Daemon, eventually};

fn short_lived(number: u64) -> RouteMessageRequest {
    let time_to_live = Some(prost_types::Duration { seconds: 0, nanos: 50_000_000 });
    RouteMessageRequest { time_to_live, ..Backend::message("orla", number) }
}

#[tokio::test]
async fn expired_messages_are_told_in_one_gap_until_it_is_acknowledged() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let expired = backend.try_route(short_lived(0)).await.unwrap();
    backend.try_route(short_lived(1)).await.unwrap();
    backend.route("orla", 2).await;
    eventually("two have expired", async || (backend.depth("orla").await == 1).then_some(())).await;
    let request =
        GetMessageRequest { orchestrator_id: "orla".into(), message_id: expired.message_id, ..Default::default() };
    let found = backend.router.clone().get_message(request).await.unwrap().into_inner();
    assert_eq!(found.status(), MessageStatus::Expired);

    let token = cell.token("orla").await;
    let more = json!({"maxInFlight": 100});
    let mut daemon = Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more.clone()).await;
    let gap = daemon.next().await;
    assert_eq!(gap["type"], "gap");
    let payload = &gap["payload"];
    assert_eq!((&payload["from"], &payload["to"], &payload["count"]), (&json!(1), &json!(2), &json!(2)));
    assert_eq!((&payload["lane"], &payload["reason"]), (&json!("normal"), &json!("expired")));
    assert_eq!(daemon.events(1).await[0]["data"]["n"], 2);
    daemon.vanish();

    // Not acknowledged: it is told again; a plain client gets it as an event.
    let mut plain = cell.daemon("orla", "d1").await;
    let events = plain.events(2).await;
    assert_eq!((&events[0]["eventType"], &events[0]["eventId"]), (&json!("system.gap"), &json!("gap.2")));
    plain.ack(&events).await;
    eventually("all is acknowledged", async || (backend.depth("orla").await == 0).then_some(())).await;
    plain.vanish();
    let mut last = Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more).await;
    assert_eq!(last.next().await["type"], "replay_complete");
    assert!(last.is_silent(Duration::from_millis(100)).await);
}
