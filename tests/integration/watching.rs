//! Presence and activity, watched as they happen; and watchers that never look.

use std::time::Duration;

use serde_json::json;
use tonic::{Code, Streaming};
use waystation_proto::common::v1::{Activity, ActivityKind};
use waystation_proto::router::v1::*;
use waystation_tests::{Backend, Cell, Daemon, PATIENCE, frame, http, post};

async fn next<T>(stream: &mut Streaming<T>) -> T {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("an answer in time").unwrap().expect("no end")
}

async fn watch_presence(backend: &mut Backend, ids: &[&str]) -> Streaming<WatchPresenceResponse> {
    let orchestrator_ids = ids.iter().map(ToString::to_string).collect();
    let request = WatchPresenceRequest { orchestrator_ids, ..Default::default() };
    backend.router.watch_presence(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn presence_is_told_as_it_is_and_then_as_it_changes() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let mut watched = watch_presence(&mut backend, &["orla", "otto"]).await;
    let first = next(&mut watched).await.changes;
    let told: Vec<_> =
        first.iter().map(|one| (one.orchestrator_id.as_str(), one.presence.as_ref().unwrap().presence())).collect();
    assert_eq!(told, [("orla", Presence::Offline), ("otto", Presence::Offline)]);

    async fn change(watched: &mut Streaming<WatchPresenceResponse>, wanted: Presence) {
        loop {
            for change in next(watched).await.changes {
                assert_eq!(change.orchestrator_id, "orla", "nothing happened to the other");
                if change.presence.unwrap().presence() == wanted {
                    return;
                }
            }
        }
    }
    let daemon = cell.daemon("orla", "d1").await;
    change(&mut watched, Presence::Online).await;
    daemon.vanish();
    change(&mut watched, Presence::Reconnecting).await;
    let mut daemon = cell.daemon("orla", "d1").await;
    change(&mut watched, Presence::Online).await;
    daemon.send(frame("goodbye", json!({}))).await;
    change(&mut watched, Presence::Offline).await;

    for ids in [vec![], vec!["a/b".to_owned()], vec!["x".to_owned(); 1_001]] {
        let request = WatchPresenceRequest { orchestrator_ids: ids, ..Default::default() };
        assert_eq!(backend.router.watch_presence(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

struct Watched {
    stream: Streaming<WatchActivityResponse>,
    seen: Vec<Activity>,
}

impl Watched {
    async fn begin(backend: &mut Backend, request: WatchActivityRequest) -> Watched {
        let stream = backend.router.watch_activity(request).await.unwrap().into_inner();
        Watched { stream, seen: Vec::new() }
    }

    /// Takes in activities until one of a kind is among those not asked for yet.
    async fn until(&mut self, kind: ActivityKind) -> Activity {
        loop {
            if let Some(index) = self.seen.iter().position(|activity| activity.kind() == kind) {
                return self.seen.remove(index);
            }
            self.seen.extend(next(&mut self.stream).await.activities);
        }
    }
}

#[tokio::test]
async fn whatever_happens_can_be_watched() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut operator = Backend::operator(&cell.dev);
    let mut all = Watched::begin(&mut operator, WatchActivityRequest::default()).await;
    // The gateway learns of the watcher with the router's next frame.
    loop {
        let probe = Daemon::open(&cell.dev.gateway_url).await;
        probe.vanish();
        let found = tokio::time::timeout(Duration::from_millis(200), all.stream.message()).await;
        if found.is_ok_and(|answer| !answer.unwrap().unwrap().activities.is_empty()) {
            break;
        }
    }
    backend.route("orla", 1).await;
    assert_eq!(all.until(ActivityKind::MessageQueued).await.orchestrator_id, "orla");
    let wrong = json!({"apiKey": "nobody", "apiSecret": "wsk_nobody_wrong", "orchestratorId": "orla"});
    http(&cell.dev.http_url, post("/api/daemon/auth", &wrong)).await;
    assert_eq!(all.until(ActivityKind::AuthFailed).await.detail, "INVALID_CREDENTIALS");

    let mut daemon = cell.daemon("orla", "d1").await;
    let session = daemon.welcome["payload"]["sessionId"].as_str().unwrap().to_owned();
    all.until(ActivityKind::ConnectionNew).await;
    let registered = all.until(ActivityKind::SessionRegistered).await;
    assert_eq!((registered.session_id.as_str(), registered.daemon_id.as_str()), (session.as_str(), "d1"));
    // Once by REST, once by WebSocket.
    all.until(ActivityKind::AuthSucceeded).await;
    all.until(ActivityKind::AuthSucceeded).await;
    assert_eq!(all.until(ActivityKind::ConnectionAuthenticated).await.session_id, session);
    all.until(ActivityKind::QueueProcessingStarted).await;
    all.until(ActivityKind::QueueProcessingCompleted).await;

    let routed = backend.route("orla", 2).await;
    assert_eq!(all.until(ActivityKind::MessageRouted).await.message_id, routed.message_id);
    let events = daemon.events(2).await;
    daemon.ack(&events[..1]).await;
    assert_eq!(all.until(ActivityKind::MessageAcknowledged).await.count, 1);
    daemon.send(frame("reject", json!({"eventId": events[1]["eventId"], "reason": "no"}))).await;
    assert_eq!(all.until(ActivityKind::MessageDeadLettered).await.count, 1);
    daemon.heartbeat().await;
    assert_eq!(all.until(ActivityKind::HeartbeatReceived).await.detail, "active");
    daemon.send(frame("goodbye", json!({}))).await;
    assert_eq!(all.until(ActivityKind::SessionUnregistered).await.session_id, session);
    let closed = all.until(ActivityKind::ConnectionClosed).await;
    assert!(["NORMAL", "BY_CLIENT"].contains(&closed.detail.as_str()), "{closed:?}");
}

#[tokio::test]
async fn a_watcher_sees_what_it_asked_for_and_nothing_of_others() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let request = WatchActivityRequest {
        kinds: vec![ActivityKind::MessageQueued.into()],
        orchestrator_ids: vec!["otto".into()],
        ..Default::default()
    };
    let mut watched = Watched::begin(&mut backend, request).await;
    let daemon = cell.daemon("otto", "d1").await;
    backend.route("orla", 1).await;
    backend.route("otto", 2).await;
    let mut gone = daemon;
    gone.send(frame("goodbye", json!({}))).await;
    gone.close_code().await;
    waystation_tests::eventually("offline", async || {
        (backend.presence("otto").await == Presence::Offline).then_some(())
    })
    .await;
    backend.route("otto", 3).await;
    let first = next(&mut watched.stream).await.activities;
    let seen: Vec<_> = first.iter().map(|one| (one.kind(), one.orchestrator_id.as_str())).collect();
    assert_eq!(seen, [(ActivityKind::MessageQueued, "otto")]);

    let other = WatchActivityRequest { organization_id: "other".into(), ..Default::default() };
    assert_eq!(backend.router.watch_activity(other).await.unwrap_err().code(), Code::NotFound);
    let unknown = WatchActivityRequest { kinds: vec![99], ..Default::default() };
    assert_eq!(backend.router.watch_activity(unknown).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_watcher_that_never_reads_harms_nobody_and_is_told_what_it_missed() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let mut frozen = Watched::begin(&mut backend, WatchActivityRequest::default()).await;
    let _presence = watch_presence(&mut backend, &["orla"]).await;
    // More than every buffer between the router and this test holds.
    let token = cell.token("orla").await;
    let more = json!({"maxInFlight": 1_000});
    let mut daemon = Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more).await;
    for _ in 0..60 {
        backend.fill("orla", 500).await;
        let events = daemon.events(500).await;
        daemon.ack(&events).await;
        waystation_tests::eventually("acknowledged", async || (backend.depth("orla").await == 0).then_some(())).await;
    }
    let (mut seen, mut dropped) = (0, 0);
    while dropped == 0 {
        let answer = next(&mut frozen.stream).await;
        seen += answer.activities.len();
        dropped += answer.dropped;
    }
    assert!(seen > 0 && dropped > 1_000, "{seen} seen, {dropped} dropped");
}
