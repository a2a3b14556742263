//! Who takes tasks: what is told of them, what they say, and what is said to all of them.

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;
use waystation_proto::auth::v1::{CreateOrchestratorRequest, OrganizationSettings, UpdateOrganizationSettingsRequest};
use waystation_proto::federation::v1::broadcast_request::To;
use waystation_proto::federation::v1::*;
use waystation_tests::{Backend, Cell, Daemon, eventually, frame};

use super::worker::{Worker, explain, task};

async fn status(calls: &Backend, id: &str) -> OrchestratorStatus {
    let request = GetOrchestratorRequest { orchestrator_id: id.into(), ..Default::default() };
    calls.federation.clone().get_orchestrator(request).await.unwrap().into_inner().orchestrator.unwrap()
}

async fn report(calls: &Backend, report: OrchestratorReport) -> Result<(), tonic::Status> {
    let request = ReportHeartbeatRequest { report: Some(report), ..Default::default() };
    calls.federation.clone().report_heartbeat(request).await.map(drop)
}

/// A daemon that hears of orchestrators.
async fn listener(cell: &Cell) -> Daemon {
    let token = cell.token("listener").await;
    let mut listener = Daemon::connect(&cell.dev.gateway_url, "listener", "d1", &token).await;
    listener.send(frame("subscribe", json!({"eventTypes": ["orchestrator.*"]}))).await;
    // What is sent after it is handled after it.
    listener.send(frame("heartbeat", json!({"status": "active"}))).await;
    listener.next_of("heartbeat_ack").await;
    listener
}

async fn next(listener: &mut Daemon) -> (String, Value) {
    let mut event = listener.events(1).await.remove(0);
    let kind = event["eventType"].as_str().unwrap().strip_prefix("orchestrator.").unwrap().to_owned();
    (kind, event["data"].take())
}

#[tokio::test]
async fn who_comes_changes_and_goes_is_told_once() {
    let cell = Cell::start().await;
    let mut listener = listener(&cell).await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 2).await;
    let (kind, data) = next(&mut listener).await;
    assert_eq!((kind.as_str(), &data["orchestratorId"]), ("registered", &json!("anna")));
    assert_eq!((&data["capabilities"], &data["maxConcurrent"]), (&json!(["research"]), &json!(2)));
    let changed = |from: &str, to: &str| json!({"orchestratorId": "anna", "status": to, "previousStatus": from});
    let told = |kind: &str, data: Value| (kind.to_owned(), data);
    assert_eq!(next(&mut listener).await, told("status_changed", changed("offline", "online")));
    report(&anna.calls, OrchestratorReport { errors: 101, ..Default::default() }).await.unwrap();
    assert_eq!(next(&mut listener).await, told("status_changed", changed("online", "degraded")));
    assert_eq!(next(&mut listener).await, told("unhealthy", changed("online", "degraded")));
    report(&anna.calls, OrchestratorReport { load: 7, ..Default::default() }).await.unwrap();
    assert_eq!(next(&mut listener).await, told("status_changed", changed("degraded", "online")));
    assert_eq!(status(&anna.calls, "anna").await.report.unwrap().load, 7);
    // One that comes back was never away.
    anna.daemon.vanish();
    anna.daemon = Daemon::connect(&cell.dev.gateway_url, "anna", "d1", &cell.token("anna").await).await;
    assert!(listener.is_silent(Duration::from_secs(5)).await);
    let request = DeregisterOrchestratorRequest::default();
    assert!(anna.calls.federation.deregister_orchestrator(request.clone()).await.unwrap().into_inner().was_registered);
    let gone = json!({"orchestratorId": "anna", "reason": "asked"});
    assert_eq!(next(&mut listener).await, told("deregistered", gone));
    assert!(!anna.calls.federation.deregister_orchestrator(request).await.unwrap().into_inner().was_registered);
    assert!(listener.is_silent(Duration::from_secs(1)).await, "nothing is told twice");
}

#[tokio::test]
async fn a_name_that_is_nobodys_hides_nobody() {
    let cell = Cell::start().await;
    let mut operator = Backend::operator(&cell.dev);
    let update = UpdateOrganizationSettingsRequest {
        organization_id: "dev".into(),
        settings: Some(OrganizationSettings { auto_create_orchestrators: Some(false), ..Default::default() }),
    };
    operator.credentials.update_organization_settings(update).await.unwrap();
    let mut backend = cell.backend();
    let create = CreateOrchestratorRequest { orchestrator_id: "anna".into(), ..Default::default() };
    backend.credentials.create_orchestrator(create).await.unwrap();
    let typo = Orchestrator { orchestrator_id: "ana".into(), max_concurrent: 1, ..Default::default() };
    let register = RegisterOrchestratorRequest { orchestrator: Some(typo), ..Default::default() };
    backend.federation.register_orchestrator(register).await.unwrap();
    // It is waited for until she is seen.
    let _anna = Worker::start(&cell, "anna", &["research"], 1).await;
    assert_eq!(status(&backend, "ana").await.standing(), Standing::Offline);
}

#[tokio::test]
async fn who_is_gone_for_long_takes_no_tasks_any_more() {
    let cell = Cell::start_with(|options| options.deregister_after = Duration::from_secs(1)).await;
    let mut listener = listener(&cell).await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 2).await;
    for expected in ["registered", "status_changed"] {
        assert_eq!(next(&mut listener).await.0, expected);
    }
    anna.daemon.send(frame("goodbye", json!({}))).await;
    for expected in ["status_changed", "unhealthy"] {
        let (kind, data) = next(&mut listener).await;
        assert_eq!((kind.as_str(), &data["status"]), (expected, &json!("offline")));
    }
    let gone = json!({"orchestratorId": "anna", "reason": "offline"});
    assert_eq!(next(&mut listener).await, ("deregistered".to_owned(), gone));
    let all = cell.backend().federation.list_orchestrators(ListOrchestratorsRequest::default()).await.unwrap();
    assert_eq!(all.into_inner().orchestrators, []);
    // It comes back, and says again what it can do.
    let _anna = Worker::start(&cell, "anna", &["research"], 2).await;
    assert_eq!(next(&mut listener).await.0, "registered");
    assert_eq!(next(&mut listener).await.1["status"], "online");
}

#[tokio::test]
async fn what_an_orchestrator_says_of_itself_counts_against_it() {
    let cell = Cell::start().await;
    let anna = Worker::start(&cell, "anna", &["research"], 2).await;
    let stranger = report(&cell.backend(), OrchestratorReport::default()).await.unwrap_err();
    assert_eq!(stranger.message(), "orchestrator_id must not be empty");
    let bad = report(&anna.calls, OrchestratorReport { errors: 1_001, ..Default::default() }).await.unwrap_err();
    assert_eq!(bad.message(), "report.errors must be 0 to 1,000");
    let bad = OrchestratorReport { standing: Standing::Offline.into(), ..Default::default() };
    assert_eq!(report(&anna.calls, bad).await.unwrap_err().code(), Code::InvalidArgument);
    let nobody = Worker::start(&cell, "nobody", &[], 0).await;
    let unknown = report(&nobody.calls, OrchestratorReport::default()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let limited = Orchestrator {
        capabilities: vec![Capability { name: "research".into(), ..Default::default() }],
        max_concurrent: 2,
        token_limit: Some(1_000),
        ..Default::default()
    };
    let request = RegisterOrchestratorRequest { orchestrator: Some(limited), ..Default::default() };
    anna.calls.federation.clone().register_orchestrator(request).await.unwrap();
    report(&anna.calls, OrchestratorReport { tokens_used: 900, ..Default::default() }).await.unwrap();
    let backend = cell.backend();
    let dear = DelegateTaskRequest { tokens: 101, ..task("research") };
    let id = backend.federation.clone().delegate_task(dear).await.unwrap().into_inner().delegation_id;
    let explained = explain(&cell, &id).await;
    assert_eq!(explained.decisions[0].dismissed[0].reason, "too_few_tokens");
    let listed = async |free_tokens| {
        let request = ListOrchestratorsRequest { free_tokens, ..Default::default() };
        backend.federation.clone().list_orchestrators(request).await.unwrap().into_inner().orchestrators.len()
    };
    assert_eq!((listed(100).await, listed(101).await), (1, 0));
    report(&anna.calls, OrchestratorReport { standing: Standing::Draining.into(), ..Default::default() })
        .await
        .unwrap();
    let draining = async || {
        let found = status(&backend, "anna").await.standing();
        (found == Standing::Draining).then_some(())
    };
    eventually("it takes nothing new", draining).await;
}

async fn broadcast(calls: &Backend, request: BroadcastRequest) -> Result<BroadcastResponse, tonic::Status> {
    calls.federation.clone().broadcast(request).await.map(tonic::Response::into_inner)
}

fn said(to: To) -> BroadcastRequest {
    BroadcastRequest {
        to: Some(to),
        r#type: BroadcastType::LoadAlert.into(),
        payload: r#"{"load":0.9}"#.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_broadcast_reaches_those_who_are_meant() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &["planning"], 1).await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 1).await;
    let mut bert = Worker::start(&cell, "bert", &["testing"], 1).await;
    let durable = |to: To| BroadcastRequest { durable: true, broadcast_id: "b-1".into(), ..said(to) };
    let answer = broadcast(&boss.calls, durable(To::All(true))).await.unwrap();
    assert_eq!((answer.reached, answer.refused, answer.broadcast_id.as_str()), (2, 0, "b-1"));
    let expected = json!({"broadcastId": "b-1", "from": "boss", "messageType": "load_alert", "payload": {"load": 0.9}});
    for worker in [&mut anna, &mut bert] {
        assert_eq!(worker.mail_of("broadcast.load_alert").await, expected);
    }
    assert_eq!(broadcast(&boss.calls, durable(To::All(true))).await.unwrap().reached, 2, "said twice, heard once");
    let research = || To::Capability(Capability { name: "research".into(), ..Default::default() });
    let again = BroadcastRequest { broadcast_id: String::new(), ..durable(research()) };
    let answer = broadcast(&cell.backend(), again).await.unwrap();
    assert_eq!(answer.reached, 1);
    let heard = anna.mail_of("broadcast.load_alert").await;
    assert_eq!((&heard["broadcastId"], &heard["from"]), (&json!(answer.broadcast_id), &Value::Null));
    assert!(bert.daemon.is_silent(Duration::from_millis(300)).await);

    // To those who listen now.
    for worker in [&mut anna, &mut bert, &mut boss] {
        worker.daemon.send(frame("subscribe", json!({"eventTypes": ["broadcast.*"]}))).await;
        worker.daemon.heartbeat().await;
    }
    let answer = broadcast(&boss.calls, said(research())).await.unwrap();
    assert_eq!(answer.reached, 1);
    let event = anna.daemon.events(1).await.remove(0);
    assert_eq!((&event["log"], &event["data"]["messageType"]), (&json!("feed"), &json!("load_alert")));
    assert_eq!(broadcast(&boss.calls, said(To::Region("mars".into()))).await.unwrap().reached, 0);
    assert!(bert.daemon.is_silent(Duration::from_millis(300)).await, "not meant");
    assert!(boss.daemon.is_silent(Duration::from_millis(1)).await, "it said it");
}

#[tokio::test]
async fn a_broadcast_names_what_is_wrong_with_it_and_whom_it_did_not_reach() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let refused =
        async |request: BroadcastRequest| broadcast(&backend, request).await.unwrap_err().message().to_owned();
    assert_eq!(refused(BroadcastRequest { to: None, ..said(To::All(true)) }).await, "to must be present");
    assert_eq!(refused(said(To::All(false))).await, "to.all must be true");
    let untyped = BroadcastRequest { r#type: 0, ..said(To::All(true)) };
    assert_eq!(refused(untyped).await, "type must be one of those there are");
    let long = BroadcastRequest { broadcast_id: "b".repeat(65), ..said(To::All(true)) };
    assert!(refused(long).await.starts_with("broadcast_id"));
    let list = BroadcastRequest { payload: "[]".into(), ..said(To::All(true)) };
    assert!(refused(list).await.starts_with("payload"));
    let large =
        BroadcastRequest { payload: format!(r#"{{"x":"{}"}}"#, "x".repeat(65_536)).into(), ..said(To::All(true)) };
    assert_eq!(refused(large).await, "payload must have at most 65536 bytes");

    let anna = Worker::start(&cell, "anna", &["research"], 1).await;
    anna.daemon.vanish();
    backend.fill("anna", 1_000).await;
    let _bert = Worker::start(&cell, "bert", &["research"], 1).await;
    let durable = BroadcastRequest { durable: true, ..said(To::All(true)) };
    let answer = broadcast(&backend, durable).await.unwrap();
    assert_eq!((answer.reached, answer.refused), (1, 1), "one mailbox is full");
}
