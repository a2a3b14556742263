//! Publishers and readers that speak only Redis (daemon protocol, section 5).

use std::time::Duration;

use serde_json::{Value, json};
use waystation_standalone::StoreOptions;
use waystation_store::{Channels, RedisConfig};
use waystation_test_redis::{RedisOptions, RedisServer};
use waystation_tests::{Cell, Daemon, eventually, frame};

async fn bridged() -> (RedisServer, Cell) {
    let redis = RedisServer::start(RedisOptions::default());
    let cell = Cell::start_with(|options| {
        options.store = StoreOptions::Redis(RedisConfig::of(&redis.url()));
        options.redis_bridge = true;
    });
    let cell = cell.await;
    heard(&redis).await;
    (redis, cell)
}

/// Waits until a router listens.
async fn heard(redis: &RedisServer) {
    eventually("a router listens", async || {
        (redis.command(&["PUBSUB", "NUMPAT"]) == redis::Value::Int(2)).then_some(())
    })
    .await;
}

fn event(id: &str, more: &Value) -> String {
    let mut event = json!({
        "id": id, "type": "invoice.paid", "orchestratorId": "", "payload": {"id": id},
        "timestamp": "2026-01-01T00:00:00Z",
    });
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event.to_string()
}

async fn subscriber(cell: &Cell, orchestrator: &str) -> Daemon {
    let mut daemon = cell.daemon(orchestrator, "d1").await;
    daemon.send(frame("subscribe", json!({"eventTypes": ["*"]}))).await;
    daemon.heartbeat().await;
    daemon
}

#[tokio::test]
async fn what_is_said_on_channels_of_redis_is_published_once() {
    let (redis, cell) = bridged().await;
    let (mut orla, mut otto) = (subscriber(&cell, "orla").await, subscriber(&cell, "otto").await);
    let say = |channel: &str, text: &str| redis.command(&["PUBLISH", channel, text]);
    say("daemon:events:dev", &event("e-1", &json!({"channelId": "c1"})));
    say("daemon:events:dev", &event("e-1", &json!({"channelId": "c1"})));
    // What is none, or is of no organization that is there, hurts nobody.
    for (channel, text) in [
        ("daemon:events:dev", "no json".to_owned()),
        ("daemon:events:dev", event("a/b", &json!({}))),
        ("daemon:events:dev", event("e-x", &json!({"type": "No Type"}))),
        ("daemon:events:dev", event("e-x", &json!({"payload": [1]}))),
        ("daemon:events:nobody", event("e-x", &json!({}))),
        ("daemon:events", event("e-x", &json!({}))),
    ] {
        say(channel, &text);
    }
    say("daemon:events", &event("e-2", &json!({"workspaceId": "dev", "orchestratorId": "orla"})));
    say(
        "daemon:events:dev",
        &event("e-3", &json!({"orchestratorId": "orla", "requiresAck": true, "priority": "high"})),
    );
    say("daemon:events:dev", &event("e-4", &json!({})));
    let ids = |events: &[Value]| -> Vec<String> {
        let mut ids: Vec<String> = events.iter().map(|event| event["eventId"].as_str().unwrap().to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&otto.events(2).await), ["e-1", "e-4"]);
    let events = orla.events(4).await;
    assert_eq!(ids(&events), ["e-1", "e-2", "e-3", "e-4"]);
    let acked = events.iter().find(|event| event["eventId"] == "e-3").unwrap();
    assert_eq!(
        (&acked["log"], &acked["requiresAck"], &acked["lane"]),
        (&json!("mailbox"), &json!(true), &json!("high"))
    );
    assert_eq!(acked["data"], json!({"id": "e-3"}));
    assert!(otto.is_silent(Duration::from_millis(200)).await);

    // A broken line is mended.
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    heard(&redis).await;
    say("daemon:events:dev", &event("e-5", &json!({})));
    assert_eq!(ids(&otto.events(1).await), ["e-5"]);
}

#[tokio::test]
async fn heartbeats_are_told_on_a_channel() {
    let (redis, cell) = bridged().await;
    let channels = Channels::of(&RedisConfig::of(&redis.url())).unwrap();
    let mut listener = channels.listen(&["daemon:heartbeats:*"]).await.unwrap();
    let mut daemon = cell.daemon("orla", "d1").await;
    daemon.send(frame("heartbeat", json!({"status": "busy", "metrics": {"queueDepth": 3}}))).await;
    let said = tokio::time::timeout(Duration::from_secs(20), listener.next()).await.unwrap().unwrap();
    let payload: Value = serde_json::from_slice(&said.payload).unwrap();
    assert_eq!(said.channel, "daemon:heartbeats:dev");
    assert_eq!((&payload["orchestratorId"], &payload["status"]), (&json!("orla"), &json!("busy")));
    assert_eq!(payload["metrics"]["queueDepth"], 3);
}

#[tokio::test]
async fn nothing_is_heard_unless_it_is_configured() {
    let redis = RedisServer::start(RedisOptions::default());
    let cell = Cell::start_with(|options| options.store = StoreOptions::Redis(RedisConfig::of(&redis.url()))).await;
    cell.daemon("orla", "d1").await;
    assert_eq!(redis.command(&["PUBSUB", "NUMPAT"]), redis::Value::Int(0));
}
