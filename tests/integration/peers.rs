//! Peers of the older federation: the same tasks in other words.

use std::time::Duration;

use serde_json::{Value, json};
use waystation_proto::federation::v1::*;
use waystation_tests::{Cell, Peer, eventually};

use super::worker::{Worker, ends, look, reserved, task};

/// Long enough for what would come.
const PAUSE: Duration = Duration::from_millis(300);

async fn connect(cell: &Cell, name: &str, query: &str) -> Peer {
    Peer::connect(&cell.dev.http_url, name, query, &cell.token(name).await).await
}

async fn is_seen(cell: &Cell, name: &str) {
    let seen = async || {
        let request = GetOrchestratorRequest { orchestrator_id: name.into(), ..Default::default() };
        let found = cell.backend().federation.get_orchestrator(request).await.ok()?.into_inner().orchestrator?;
        (found.standing() == Standing::Online).then_some(())
    };
    eventually("it is seen", seen).await;
}

#[tokio::test]
async fn a_peer_does_what_it_is_offered_over_a_broken_line_too() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let mut olga = connect(&cell, "olga", "?capabilities=research,testing&maxConcurrent=2&region=eu").await;
    is_seen(&cell, "olga").await;
    let id = boss.delegate(task("research")).await;
    let offered = olga.next_of("delegation").await;
    assert_eq!((&offered["task"]["id"], &offered["fromOrchestratorId"]), (&json!("t-1"), &json!("boss")));
    olga.say("callback", json!({"taskId": "t-1", "accepted": true})).await;
    assert_eq!(boss.mail_of("delegation.accepted").await["assignee"], "olga");
    // The line breaks, and another one knows what it works on.
    olga.vanish();
    let mut olga = connect(&cell, "olga", "").await;
    olga.say("callback", json!({"taskId": "t-1", "status": "progress", "progress": 0.3})).await;
    assert_eq!(boss.mail_of("delegation.progress").await["progress"], 30);
    olga.say("callback", json!({"taskId": "t-1", "status": "failed", "error": "no way"})).await;
    let again = boss.mail_of("delegation.reassigned").await;
    assert_eq!((&again["reason"], &again["retry"]), (&json!("no way"), &json!(1)));
    cell.backend()
        .federation
        .cancel_delegation(CancelDelegationRequest { delegation_id: id.clone(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(ends(&cell, &id).await.state(), DelegationState::Cancelled);
    assert_eq!(reserved(&cell).await, 0);
    // Its registration is what it said when it said something.
    let request = GetOrchestratorRequest { orchestrator_id: "olga".into(), ..Default::default() };
    let found = cell.backend().federation.get_orchestrator(request).await.unwrap().into_inner();
    let found = found.orchestrator.unwrap().orchestrator.unwrap();
    assert_eq!((found.capabilities.len(), found.max_concurrent, found.region.as_str()), (2, 2, "eu"));
}

#[tokio::test]
async fn what_a_peer_has_not_received_comes_again() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let olga = connect(&cell, "olga", "?capabilities=research").await;
    is_seen(&cell, "olga").await;
    // It reads nothing, so it answers no ping.
    let id = boss.delegate(task("research")).await;
    let offered = async || (!look(&cell, &id).await.attempts.is_empty()).then_some(());
    eventually("it is offered", offered).await;
    olga.vanish();
    let mut olga = connect(&cell, "olga", "").await;
    assert_eq!(olga.next_of("delegation").await["callbackId"], id.as_str(), "it was not acknowledged");
    olga.say("callback", json!({"taskId": "t-1", "status": "completed", "result": {}})).await;
    assert_eq!(ends(&cell, &id).await.state(), DelegationState::Completed);
    assert!(olga.is_silent(PAUSE).await);
    let empty = async || (cell.backend().depth("olga").await == 0).then_some(());
    eventually("what it has received is acknowledged", empty).await;
}

#[tokio::test]
async fn a_peer_delegates_and_hears_how_it_goes() {
    let cell = Cell::start().await;
    let mut olga = connect(&cell, "olga", "").await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 1).await;
    let delegation = |to: &str, id: &str| {
        let task = json!({"id": id, "type": "research", "description": "", "priority": "low"});
        json!({"toOrchestratorId": to, "task": task, "priority": "high", "requiredCapabilities": ["research"]})
    };
    olga.say("delegation", delegation("*", "t-7")).await;
    let offer = anna.offer().await;
    anna.answer(&offer, true).await;
    anna.progress(&offer, 10).await;
    anna.complete(&offer, r#"{"n":1}"#).await;
    assert_eq!(olga.next_of("callback").await, json!({"taskId": "t-7", "accepted": true}));
    assert_eq!(olga.next_of("callback").await["progress"], 10);
    let done = olga.next().await;
    assert_eq!((&done["from"], &done["correlationId"]), (&json!("anna"), &json!("t-7")));
    assert_eq!((&done["said"]["status"], &done["said"]["result"]), (&json!("completed"), &json!({"n": 1})));
    // Whoever is named refuses: that is the answer.
    olga.say("delegation", delegation("anna", "t-8")).await;
    let offer = anna.offer().await;
    anna.answer(&offer, false).await;
    let refused = olga.next_of("callback").await;
    assert_eq!((&refused["taskId"], &refused["accepted"]), (&json!("t-8"), &json!(false)));
    // And what cannot be taken is refused with the field.
    let mut odd = delegation("*", "t-9");
    odd["requiredCapabilities"] = json!(["Not A Name"]);
    olga.say("delegation", odd).await;
    let refused = olga.next_of("callback").await;
    assert!(refused["reason"].as_str().unwrap().contains("requiredCapabilities[0].name"), "{refused}");
}

#[tokio::test]
async fn a_peer_speaks_for_itself_alone_and_in_its_own_kind() {
    let cell = Cell::start().await;
    let base = &cell.dev.http_url;
    let refused = async |query: &str, token: &str| Peer::try_connect(base, "olga", query, token).await.err();
    assert_eq!(refused("", "").await, Some(401));
    assert_eq!(refused("", "nonsense").await, Some(401));
    let reader = cell.token_with("olga", &["messages:read", "federation:read"]).await;
    assert_eq!(refused("", &reader).await, Some(403));
    assert_eq!(refused("", &cell.dev.service_token).await, Some(403), "a backend is no peer");
    assert_eq!(refused("?maxConcurrent=x", &cell.token("olga").await).await, Some(400));
    let mut olga = connect(&cell, "olga", "").await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 1).await;
    let forged = json!({"type": "delegation", "payload": {"task": {"id": "t"}}, "from": "anna", "to": "*"});
    olga.send(forged).await;
    assert_eq!(olga.next_of("error").await["field"], "from");
    olga.send(json!({"type": "heartbeat", "payload": {"status": "healthy"}, "from": "olga", "to": "w"})).await;
    let beat = olga.next().await;
    assert_eq!((&beat["type"], beat["payload"].is_object()), (&json!("heartbeat"), true));
    // A task of others is nobody's to report on.
    let id = anna.delegate(task("testing")).await;
    olga.say("callback", json!({"taskId": "t-1", "status": "completed"})).await;
    assert_eq!(olga.next_of("error").await["field"], "payload.taskId");
    assert_eq!(look(&cell, &id).await.state(), DelegationState::Pending);
    olga.say("broadcast", json!({"topic": "news", "data": [1]})).await;
    anna.daemon.send(waystation_tests::frame("subscribe", json!({"eventTypes": ["broadcast.*"]}))).await;
    anna.daemon.heartbeat().await;
    olga.say("broadcast", json!({"topic": "news", "data": [2]})).await;
    let heard = anna.daemon.events(1).await.remove(0);
    assert_eq!(heard["data"]["payload"], json!({"topic": "news", "data": [2]}));
    let said = BroadcastRequest {
        to: Some(broadcast_request::To::All(true)),
        r#type: BroadcastType::ShutdownNotice.into(),
        durable: true,
        ..Default::default()
    };
    cell.backend().federation.broadcast(said).await.unwrap();
    assert_eq!(olga.next_of("broadcast").await, json!({"topic": "shutdown_notice", "data": Value::Null}));
    // What it has no words for waits for a daemon of its orchestrator.
    cell.backend().route("olga", 1).await;
    assert!(olga.is_silent(PAUSE).await);
    let kept = async || (cell.backend().depth("olga").await == 1).then_some(());
    eventually("the message waits", kept).await;
}
