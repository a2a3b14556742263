//! Peers of the older federation, as they were published.

use std::path::Path;

use serde_json::{Value, json};
use waystation_tests::node::Node;
use waystation_tests::{Daemon, Process, log_in};

use super::older_client::{PACKAGE, SUM};

const SOCKET: &str = "ws@8.18.3";
const SOCKET_SUM: &str = "424be604c8e7926fc29a1f067bf2dac256af3bcea62fe30395018bbaf8a9be2a";

async fn next(nina: &mut Daemon, event_type: &str) -> Value {
    let mut event = nina.events(1).await.remove(0);
    nina.ack(std::slice::from_ref(&event)).await;
    assert_eq!(event["eventType"], event_type, "{event}");
    event["data"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_of_the_older_platform_delegates_to_a_daemon_and_accepts_from_it_unmodified() {
    // Before anything waits for it: what is not there yet is fetched.
    let fetching = tokio::task::spawn_blocking(|| {
        let node = Node::find();
        let (package, socket) = (node.package(PACKAGE, SUM), node.package(SOCKET, SOCKET_SUM));
        (node, package, socket)
    });
    let (node, package, socket) = fetching.await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path()).await;
    let token = async |name: &str| log_in(&process.dev, name).await["accessToken"].as_str().unwrap().to_owned();
    let nina = token("nina").await;
    let mut nina = Daemon::connect(&process.dev.gateway_url, "nina", "d1", &nina).await;
    nina.ask("register", json!({"capabilities": ["analysis"], "maxConcurrent": 2})).await;
    let url = format!("{}/federation?capabilities=research", process.dev.http_url.replacen("http", "ws", 1));
    let olga = token("olga").await;
    let peer = tokio::task::spawn_blocking(move || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/older_peer.cjs");
        node.run_with(&[("ws", &socket)], &script, &[package.to_str().unwrap(), &url, &olga, "olga", "nina"])
    });

    let task = json!({"id": "t-1", "type": "research", "description": "find it", "payload": {"depth": 3}});
    nina.ask("delegate", json!({"task": task, "requiredCapabilities": ["research"]})).await;
    assert_eq!(next(&mut nina, "delegation.accepted").await["assignee"], "olga");
    assert_eq!(next(&mut nina, "delegation.progress").await["progress"], 50);
    // An offer is urgent: it may overtake the result.
    let mut both = nina.events(2).await;
    nina.ack(&both).await;
    both.sort_by_key(|event| event["eventType"].to_string());
    assert_eq!(
        (&both[0]["eventType"], &both[1]["eventType"]),
        (&json!("delegation.completed"), &json!("delegation.offered"))
    );
    let (done, offered) = (&both[0]["data"], &both[1]["data"]);
    assert_eq!((&done["taskId"], &done["result"]), (&json!("t-1"), &json!({"answer": 42})));
    assert_eq!((&offered["fromOrchestratorId"], &offered["taskId"]), (&json!("olga"), &json!("older-1")));
    let of = json!({"delegationId": offered["delegationId"], "attempt": offered["attempt"]});
    let shared = nina.ask("context_get", json!({"delegationId": offered["delegationId"]})).await;
    assert_eq!(shared["payload"]["entries"][0]["value"], json!({"seen": [1, 2]}));
    for (kind, more) in [
        ("delegation_response", json!({"accepted": true})),
        ("delegation_result", json!({"status": "completed", "result": "done"})),
    ] {
        let mut payload = of.clone();
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(nina.ask(kind, payload).await["payload"]["outcome"], "TAKEN");
    }

    let said: Value = serde_json::from_str(&peer.await.unwrap()).unwrap();
    assert_eq!(said["statuses"], json!(["connected"]));
    assert_eq!(said["heartbeat"], "active", "it has sent something");
    assert_eq!(said["health"], true);
    let task = json!({"id": "t-1", "type": "research", "description": "find it", "priority": "medium", "metadata": {"depth": 3}});
    assert_eq!((&said["request"]["task"], &said["request"]["fromOrchestratorId"]), (&task, &json!("nina")));
    assert_eq!(said["response"], json!({"taskId": "t-1", "accepted": true}));
    let metadata = json!({"delegationId": offered["delegationId"]});
    let callbacks = json!([
        {"taskId": "older-1", "accepted": true},
        {"taskId": "older-1", "status": "completed", "result": "done", "metadata": metadata},
    ]);
    assert_eq!(said["callbacks"], callbacks);
}
