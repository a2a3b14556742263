use std::time::Duration;

use serde_json::{Value, json};
use waystation_domain::policy::FrameKind;
use waystation_domain::{Entry, Epoch, Lane, Position, ReportedStatus, Timestamp};

use super::*;
use crate::frame::{ErrorCode, EventFrame, FrameError, Heartbeat, ServerFrame};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn peer() -> Peer {
    Peer::new("older".parse().unwrap(), Vec::new())
}

fn frame(kind: &str, payload: Value) -> String {
    json!({"type": kind, "payload": payload.to_string(), "from": "older", "to": "*", "timestamp": "t"}).to_string()
}

/// What it says, as types and payloads of calls.
fn calls(peer: &mut Peer, text: &str) -> Vec<(FrameKind, Value)> {
    let PeerSaid::Frames(frames) = peer.handle_text(text).unwrap() else { panic!("alive") };
    let call = |received: Received| {
        let ClientFrame::Task(call) = received.frame else { panic!("{received:?}") };
        (call.kind, serde_json::from_slice(&call.payload).unwrap())
    };
    frames.into_iter().map(call).collect()
}

fn refused(peer: &mut Peer, text: &str) -> (String, Option<String>) {
    let FrameError { message, field, .. } = peer.handle_text(text).unwrap_err();
    (message, field)
}

fn mail(id: &str, event_type: &str, data: &Value) -> ServerFrame {
    let position = Position { epoch: Epoch::from_raw(1), lane: Lane::Normal, sequence: 1 };
    let entry = Entry {
        position,
        id: MessageId::from_caller(id).unwrap(),
        event_type: event_type.parse().unwrap(),
        channel: None,
        data: data.to_string().into(),
        attempt: 1,
        trace: None,
        sender: None,
        accepted: NOW,
    };
    ServerFrame::Event(EventFrame { entry, redelivered: false })
}

/// What it is told: the frame, and its payload.
fn told(peer: &mut Peer, frame: &ServerFrame) -> Option<(Value, Value)> {
    let text = peer.tell(frame, NOW)?;
    let frame: Value = serde_json::from_str(&text).unwrap();
    let payload = frame["payload"].clone();
    let payload = payload.as_str().map_or(payload.clone(), |text| serde_json::from_str(text).unwrap());
    Some((frame, payload))
}

fn offer(peer: &mut Peer, delegation: &str, task: &str) -> Value {
    let data = json!({
        "delegationId": delegation, "attempt": 1, "taskId": task, "fromOrchestratorId": "boss",
        "task": {"id": task, "type": "code", "description": "d", "priority": "high", "payload": {"a": 1}},
        "requiredCapabilities": ["code-generation"], "timeoutMs": 7_000,
    });
    told(peer, &mail("m-1", "delegation.offered", &data)).unwrap().1
}

#[test]
fn a_delegation_is_handed_on_with_all_that_it_says() {
    let mut peer = peer();
    let payload = json!({
        "fromOrchestratorId": "older", "toOrchestratorId": "*",
        "task": {"id": "t-1", "type": "code", "description": "do it", "priority": "low", "metadata": {"k": 1}},
        "priority": "critical", "requiredCapabilities": ["code-generation"],
        "context": {"scratchpad": {"x": 1}}, "timeout": 5_000, "callbackId": "c-1",
    });
    let expected = json!({
        "requestId": "c-1", "toOrchestratorId": "",
        "task": {"id": "t-1", "type": "code", "description": "do it", "priority": "critical", "payload": {"k": 1}},
        "requiredCapabilities": ["code-generation"],
        "context": [{"name": "scratchpad", "value": {"x": 1}}], "limits": {"runMs": 5_000, "overallMs": 5_000},
    });
    assert_eq!(calls(&mut peer, &frame("delegation", payload.clone())), [(FrameKind::Delegate, expected)]);
    let mut to_one = payload;
    to_one["toOrchestratorId"] = "anna".into();
    to_one["requiredCapabilities"] = json!({"supportedTaskTypes": ["code"], "specializations": ["rust"]});
    let (_, asked) = calls(&mut peer, &frame("delegation", to_one)).remove(0);
    assert_eq!((&asked["toOrchestratorId"], &asked["maxRetries"]), (&json!("anna"), &json!(0)));
    assert_eq!(asked["requiredCapabilities"], json!(["code", "rust"]));
}

#[test]
fn a_refused_delegation_is_answered_as_one() {
    let mut peer = peer();
    calls(&mut peer, &frame("delegation", json!({"task": {"id": "t-1"}})));
    let error = ServerFrame::Error {
        reply_to: Some("p1".into()),
        code: ErrorCode::InvalidMessage,
        message: "must be known".into(),
        field: Some("payload.strategy".into()),
        reason: None,
    };
    let (frame, answer) = told(&mut peer, &error).unwrap();
    assert_eq!((&frame["type"], &frame["correlationId"]), (&json!("callback"), &json!("t-1")));
    assert_eq!(answer, json!({"taskId": "t-1", "accepted": false, "reason": "payload.strategy: must be known"}));
    let (frame, error) = told(&mut peer, &error).unwrap();
    assert_eq!((&frame["type"], &error["code"]), (&json!("error"), &json!("INVALID_MESSAGE")), "nothing waits for it");
}

#[test]
fn an_offer_is_answered_and_reported_on_by_the_name_of_the_task() {
    let mut peer = peer();
    let request = offer(&mut peer, "d-1", "t-1");
    assert_eq!(
        request["task"],
        json!({"id": "t-1", "type": "code", "description": "d", "priority": "high", "metadata": {"a": 1}})
    );
    assert_eq!((&request["fromOrchestratorId"], &request["timeout"]), (&json!("boss"), &json!(7_000)));
    let of = |more: Value| {
        let mut payload = json!({"delegationId": "d-1", "attempt": 1});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        payload
    };
    let yes = json!({"taskId": "t-1", "accepted": true, "estimatedCompletion": "2026-01-01T00:00:00Z"});
    let expected = of(json!({"accepted": true, "reason": "", "estimatedCompletion": "2026-01-01T00:00:00Z"}));
    assert_eq!(calls(&mut peer, &frame("callback", yes)), [(FrameKind::DelegationResponse, expected)]);
    for (said, percent) in [(json!(0.4), 40), (json!(40), 40), (json!(1), 1), (json!(700), 100), (Value::Null, 0)] {
        let progress = json!({"taskId": "t-1", "status": "progress", "progress": said});
        let expected = of(json!({"progress": percent, "message": ""}));
        assert_eq!(calls(&mut peer, &frame("callback", progress)), [(FrameKind::DelegationProgress, expected)]);
    }
    let done = frame("callback", json!({"taskId": "t-1", "status": "completed", "result": [1]}));
    let expected = of(json!({"status": "completed", "result": [1]}));
    assert_eq!(calls(&mut peer, &done), [(FrameKind::DelegationResult, expected.clone())]);
    // Nobody has heard it: it says so once more.
    let lost = ServerFrame::Error {
        reply_to: Some(format!("p{}", peer.frames)),
        code: ErrorCode::InternalError,
        message: "away".into(),
        field: None,
        reason: None,
    };
    assert_eq!(told(&mut peer, &lost).unwrap().0["correlationId"], "t-1");
    assert_eq!(calls(&mut peer, &done), [(FrameKind::DelegationResult, expected)]);
    let reply_to = Some(format!("p{}", peer.frames));
    assert_eq!(
        told(&mut peer, &ServerFrame::TaskAnswer { reply_to, kind: "delegation_ack", payload: json!({}) }),
        None
    );
    assert_eq!(refused(&mut peer, &done).1.as_deref(), Some("payload.taskId"));
}

#[test]
fn who_reports_without_a_word_before_has_accepted() {
    let mut peer = peer();
    offer(&mut peer, "d-1", "t-1");
    let done = frame("callback", json!({"taskId": "t-1", "status": "failed"}));
    let kinds: Vec<_> = calls(&mut peer, &done).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [FrameKind::DelegationResponse, FrameKind::DelegationResult]);
    // Two delegators named two tasks alike.
    assert_eq!(offer(&mut peer, "d-2", "t-1")["task"]["id"], "d-2");
    assert_eq!(offer(&mut peer, "d-3", "")["task"]["id"], "d-3");
    let known = PeerTask { task: "t-9".into(), delegation: "d-9".into(), attempt: 2, accepted: true };
    let mut again = Peer::new("older".parse().unwrap(), vec![known]);
    let (_, report) = calls(&mut again, &frame("callback", json!({"taskId": "t-9", "status": "completed"}))).remove(0);
    assert_eq!((&report["delegationId"], &report["attempt"]), (&json!("d-9"), &json!(2)), "from another connection");
}

#[test]
fn what_becomes_of_a_task_is_told_in_the_older_words() {
    let mut peer = peer();
    let mut callback = |what: &str, data: Value| {
        let mut all = json!({"delegationId": "d-1", "taskId": "t-1", "attempt": 1, "assignee": "anna"});
        all.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        let (frame, payload) = told(&mut peer, &mail("m-2", &format!("delegation.{what}"), &all))?;
        assert_eq!((&frame["type"], &frame["correlationId"]), (&json!("callback"), &json!("t-1")));
        Some(payload)
    };
    assert_eq!(callback("accepted", json!({})), Some(json!({"taskId": "t-1", "accepted": true})));
    let metadata = json!({"message": "so", "delegationId": "d-1"});
    let progress = json!({"taskId": "t-1", "status": "progress", "progress": 40, "metadata": metadata});
    assert_eq!(callback("progress", json!({"progress": 40, "message": "so"})), Some(progress));
    let done = json!({"taskId": "t-1", "status": "completed", "result": 7, "metadata": {"delegationId": "d-1"}});
    assert_eq!(callback("completed", json!({"result": 7})), Some(done));
    let refused = json!({"taskId": "t-1", "accepted": false, "reason": "nobody"});
    assert_eq!(callback("failed", json!({"state": "REJECTED", "error": "nobody"})), Some(refused));
    let failed = json!({"taskId": "t-1", "status": "failed", "error": "EXPIRED: late"});
    assert_eq!(callback("failed", json!({"state": "EXPIRED", "error": "late"})), Some(failed));
    assert_eq!(callback("rejected", json!({"reason": "no"})), None, "others are still asked");
    offer(&mut peer, "d-5", "t-5");
    let taken = json!({"delegationId": "d-5", "taskId": "t-5", "attempt": 1, "reason": "gone"});
    let (_, payload) = told(&mut peer, &mail("m-3", "delegation.reassigned", &taken)).unwrap();
    assert_eq!(payload["error"], "it is not yours any more: gone");
    assert_eq!(
        told(&mut peer, &mail("m-4", "delegation.reassigned", &taken)),
        None,
        "to the delegator it is no answer"
    );
}

#[test]
fn a_message_is_acknowledged_once_the_peer_has_it() {
    let mut peer = peer();
    assert!(!peer.wants_ping());
    offer(&mut peer, "d-1", "t-1");
    assert!(peer.wants_ping());
    told(&mut peer, &mail("m-9", "delegation.rejected", &json!({"delegationId": "d-7", "taskId": "t-7"})));
    assert!(!peer.wants_ping(), "one at a time");
    peer.handle_pong();
    let ids = |id: &str| vec![MessageId::from_caller(id).unwrap()];
    let ack = |ids| ClientFrame::Ack(Ack { ids, ..Ack::default() });
    assert_eq!(
        peer.next_frame().map(|received| received.frame),
        Some(ack(ids("m-1"))),
        "what came after it has not arrived"
    );
    peer.handle_pong();
    assert_eq!(peer.next_frame(), None, "nobody asked");
    assert!(peer.wants_ping());
    peer.handle_pong();
    assert_eq!(peer.next_frame().map(|received| received.frame), Some(ack(ids("m-9"))));
    // What it cannot understand waits for others.
    assert_eq!(told(&mut peer, &mail("m-5", "message.received", &json!({}))), None);
    assert!(matches!(peer.next_frame().map(|received| received.frame), Some(ClientFrame::Nack { .. })));
}

#[test]
fn it_is_answered_in_the_kind_in_which_it_spoke() {
    let mut peer = peer();
    let ack = ServerFrame::HeartbeatAck { reply_to: None, next: Duration::from_secs(30), heads: None, feed: None };
    assert!(told(&mut peer, &ack).unwrap().0["payload"].is_string(), "as older peers expect it");
    let beat = json!({"type": "heartbeat", "payload": {"status": "overloaded"}, "from": "older"}).to_string();
    let heartbeat = Heartbeat { status: Some(ReportedStatus::Busy), metrics: None };
    let frames = vec![Received { id: Some("p1".into()), frame: ClientFrame::Heartbeat(heartbeat) }];
    assert_eq!(peer.handle_text(&beat), Ok(PeerSaid::Frames(frames)));
    assert!(told(&mut peer, &ack).unwrap().0["payload"].is_object());
    assert_eq!(peer.handle_text(&frame("status", json!({"status": "idle"}))), Ok(PeerSaid::Alive));
    assert!(told(&mut peer, &ack).unwrap().0["payload"].is_string());
}

#[test]
fn a_broadcast_comes_as_it_was_said() {
    let mut peer = peer();
    let (kind, payload) = calls(&mut peer, &frame("broadcast", json!({"topic": "news", "data": [1]}))).remove(0);
    let said = json!({"topic": "news", "data": [1]});
    assert_eq!((kind, &payload["payload"]), (FrameKind::Broadcast, &said));
    let data = json!({"from": "anna", "messageType": "custom", "payload": said});
    let (frame, payload) = told(&mut peer, &mail("m-1", "broadcast.custom", &data)).unwrap();
    assert_eq!((&frame["type"], &frame["from"], payload), (&json!("broadcast"), &json!("anna"), said));
    let data = json!({"from": null, "messageType": "load_alert", "payload": {"load": 1}});
    let (frame, payload) = told(&mut peer, &mail("m-2", "broadcast.load_alert", &data)).unwrap();
    assert_eq!((&frame["from"], payload), (&json!("waystation"), json!({"topic": "load_alert", "data": {"load": 1}})));
}

#[test]
fn what_cannot_be_taken_names_the_field() {
    let mut peer = peer();
    let field = |peer: &mut Peer, text: &str| refused(peer, text).1;
    assert_eq!(field(&mut peer, "{"), None);
    let other = frame("status", json!({})).replace("older", "mallory");
    assert_eq!(field(&mut peer, &other).as_deref(), Some("from"));
    let forged = frame("delegation", json!({"fromOrchestratorId": "boss", "task": {"id": "t"}}));
    assert_eq!(field(&mut peer, &forged).as_deref(), Some("payload.fromOrchestratorId"));
    assert_eq!(field(&mut peer, &frame("election", json!({}))).as_deref(), Some("type"));
    assert_eq!(field(&mut peer, &frame("delegation", json!({}))).as_deref(), Some("payload.task"));
    assert_eq!(field(&mut peer, &frame("delegation", json!({"task": {"id": ""}}))).as_deref(), Some("payload.task.id"));
    assert_eq!(field(&mut peer, &frame("callback", json!({"taskId": "t"}))).as_deref(), Some("payload.taskId"));
    let text = json!({"type": "status", "payload": "{\"a\":", "from": "older"}).to_string();
    assert_eq!(field(&mut peer, &text).as_deref(), Some("payload"));
    assert_eq!(field(&mut peer, &frame("heartbeat", json!({"status": "dead"}))).as_deref(), Some("payload.status"));
    offer(&mut peer, "d-1", "t-1");
    let strange = frame("callback", json!({"taskId": "t-1", "status": "paused"}));
    assert_eq!(field(&mut peer, &strange).as_deref(), Some("payload.status"));
}

#[test]
fn what_looks_like_mail_about_tasks_and_is_none_harms_nobody() {
    let odd =
        [json!(null), json!([]), json!("x"), json!({"task": "x", "attempt": 1}), json!({"task": [], "attempt": -1})];
    for data in odd {
        for what in ["offered", "accepted", "progress", "completed", "failed", "cancelled", "reassigned", "other"] {
            let mut peer = peer();
            let said = told(&mut peer, &mail("m-1", &format!("delegation.{what}"), &data));
            assert!(said.is_none() || what != "offered", "{what} {data}");
        }
        let mut peer = peer();
        told(&mut peer, &mail("m-1", "broadcast.custom", &data));
    }
}
