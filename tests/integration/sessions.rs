//! Who holds a mailbox, and who is online (R4, R9).

use std::time::Duration;

use serde_json::json;
use waystation_proto::router::v1::Presence;
use waystation_tests::{Cell, Daemon, eventually, frame};

#[tokio::test]
async fn a_new_connection_of_a_daemon_displaces_its_old_one() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut old = cell.daemon("orla", "d1").await;
    backend.route("orla", 1).await;
    old.events(1).await;
    let mut new = cell.daemon("orla", "d1").await;
    assert_eq!(old.close_code().await, 4009);
    assert_eq!(new.events(1).await[0]["redelivered"], true);
    backend.route("orla", 2).await;
    assert_eq!(new.events(1).await[0]["redelivered"], false);
    let sessions = backend.sessions("orla").await;
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].session_id, new.welcome["payload"]["sessionId"].as_str().unwrap());
}

#[tokio::test]
async fn one_session_is_served_and_the_next_follows_it() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut first = cell.daemon("orla", "d1").await;
    let mut second = cell.daemon("orla", "d2").await;
    backend.route("orla", 1).await;
    first.events(1).await;
    assert!(second.is_silent(Duration::from_millis(200)).await, "it is on standby");
    first.vanish();
    let event = second.events(1).await.remove(0);
    assert_eq!((&event["data"]["n"], &event["redelivered"], &event["attempt"]), (&json!(1), &json!(true), &json!(2)));
    backend.route("orla", 2).await;
    assert_eq!(second.events(1).await[0]["data"]["n"], 2);
}

#[tokio::test]
async fn the_sixth_daemon_is_turned_away_until_one_has_gone() {
    let cell = Cell::start().await;
    let mut five = Vec::new();
    for n in 0..5 {
        five.push(cell.daemon("orla", &format!("d{n}")).await);
    }
    let mut sixth = cell.daemon("orla", "d6").await;
    assert_eq!(sixth.welcome["type"], "auth_error");
    assert_eq!(sixth.welcome["payload"]["code"], "MAX_CONNECTIONS");
    assert_eq!(sixth.close_code().await, 4004);
    five.pop().unwrap().vanish();
    let backend = cell.backend();
    eventually("one has gone", async || (backend.sessions("orla").await.len() == 4).then_some(())).await;
    assert_eq!(cell.daemon("orla", "d6").await.welcome["type"], "auth_success");
}

#[tokio::test]
async fn instances_that_keep_displacing_each_other_are_both_sent_away() {
    let cell = Cell::start().await;
    let token = cell.token("orla").await;
    let connect = async |n: usize| {
        let instance = if n.is_multiple_of(2) { "even" } else { "odd" };
        let more = json!({"client": {"name": "t", "version": "1", "instance": instance}});
        Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more).await
    };
    let mut last = connect(0).await;
    for n in 1..4 {
        let next = connect(n).await;
        assert_eq!(last.close_code().await, 4009);
        last = next;
    }
    let mut thrasher = Daemon::open(&cell.dev.gateway_url).await;
    let payload = json!({"accessToken": token, "daemonId": "d1", "orchestratorId": "orla",
        "client": {"name": "t", "version": "1", "instance": "even"}});
    thrasher.send(frame("auth", payload)).await;
    assert_eq!(thrasher.close_code().await, 4011);
    assert_eq!(last.close_code().await, 4011);
}

#[tokio::test]
async fn presence_follows_the_sessions() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    assert_eq!(backend.presence("orla").await, Presence::Offline);
    let daemon = cell.daemon("orla", "d1").await;
    assert_eq!(backend.presence("orla").await, Presence::Online);
    daemon.vanish();
    eventually("it is missed", async || (backend.presence("orla").await == Presence::Reconnecting).then_some(())).await;
}

#[tokio::test]
async fn subscriptions_are_stored_answered_and_restored() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let token = cell.token("orla").await;
    let more = json!({"client": {"name": "t", "version": "1"}});
    let mut daemon = Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more).await;
    daemon.send(frame("subscribe", json!({"eventTypes": ["message.*", "*"], "channelIds": ["c1"]}))).await;
    let answer = daemon.next_of("subscribed").await;
    assert_eq!(answer["payload"], json!({"eventTypes": ["message.*", "*"], "excluded": [], "channelIds": ["c1"]}));
    daemon.send(frame("unsubscribe", json!({"eventTypes": ["call.*", "message.*"]}))).await;
    let answer = daemon.next_of("subscribed").await;
    assert_eq!(answer["payload"]["excluded"], json!(["call.*", "message.*"]));
    assert_eq!(answer["replyTo"], "2f1b3c4d-0000-4000-8000-000000000001");
    daemon.vanish();
    let mut plain = cell.daemon("orla", "d1").await;
    assert_eq!(backend.sessions("orla").await[0].subscriptions, ["*"], "they belong to the daemon");
    plain.send(frame("subscribe", json!({"eventTypes": ["presence.updated"]}))).await;
    assert_eq!(plain.heartbeat().await["type"], "heartbeat_ack");
    assert_eq!(backend.sessions("orla").await[0].subscriptions, ["*", "presence.updated"]);
}

#[tokio::test]
async fn silence_ends_a_session() {
    let session = waystation_wire::SessionConfig {
        heartbeat: Duration::from_millis(100),
        ..waystation_wire::SessionConfig::default()
    };
    let cell = Cell::start_with(|options| options.session = session).await;
    let mut daemon = cell.daemon("orla", "d1").await;
    assert_eq!(daemon.welcome["payload"]["heartbeatIntervalMs"], 100);
    assert_eq!(daemon.close_code().await, 4010);
}

#[tokio::test]
async fn what_was_acknowledged_before_a_goodbye_counts() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let token = cell.token("orla").await;
    for round in 0..20 {
        backend.route("orla", 2 * round).await;
        backend.route("orla", 2 * round + 1).await;
        let mut daemon = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", &token).await;
        // The first settlement is under way when the second gathers.
        for event in daemon.events(2).await {
            daemon.ack(&[event]).await;
        }
        daemon.send(frame("goodbye", json!({}))).await;
        assert_eq!(daemon.close_code().await, 1000);
        eventually("both acks count", async || (backend.depth("orla").await == 0).then_some(())).await;
    }
}
