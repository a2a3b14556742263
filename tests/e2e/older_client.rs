//! Clients that were written for the older platform, as they were published.

use std::path::Path;

use serde_json::{Value, json};
use waystation_proto::auth::v1::{CreateApiKeyRequest, CreateOrchestratorRequest, OrchestratorDisplay};
use waystation_tests::Process;
use waystation_tests::node::Node;

pub const PACKAGE: &str = "@wundr.io/orchestrator-daemon@1.0.39";
pub const SUM: &str = "a8cb90571753377fdf4b6058ab606e18b24f71470337d0827190e1365151b888";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_http_client_of_the_older_platform_works_unmodified() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path()).await;
    let mut backend = process.backend();
    let display = OrchestratorDisplay { user_name: "Orla".into(), role: "planner".into(), ..Default::default() };
    let create =
        CreateOrchestratorRequest { orchestrator_id: "orla".into(), display: Some(display), ..Default::default() };
    backend.credentials.create_orchestrator(create).await.unwrap();
    let key = CreateApiKeyRequest {
        orchestrator_id: "orla".into(),
        scopes: vec!["messages:read".into(), "messages:write".into(), "events:read".into()],
        // It never stores the refresh token that it gets for the one before.
        stable_refresh_token: true,
        ..Default::default()
    };
    let key = backend.credentials.create_api_key(key).await.unwrap().into_inner();
    let url = process.dev.http_url.clone();
    let ran = tokio::task::spawn_blocking(move || {
        let node = Node::find();
        let package = node.package(PACKAGE, SUM);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/older_client.cjs");
        node.run(&script, &[package.to_str().unwrap(), &url, &key.api_key, &key.api_secret])
    });
    let said: Value = serde_json::from_str(&ran.await.unwrap()).unwrap();
    assert_eq!(said["login"]["orchestrator"]["user"]["name"], "Orla");
    assert_eq!(said["login"]["orchestrator"]["organization"]["slug"], "dev");
    assert_eq!(said["login"]["scopes"], json!(["messages:read", "messages:write"]));
    assert_eq!(said["refreshes"], json!([true, true, true]));
    assert_eq!(
        (&said["heartbeat"]["success"], &said["heartbeat"]["heartbeatIntervalMs"]),
        (&json!(true), &json!(30_000))
    );
    assert_eq!(said["status"], json!({"success": true}));
    assert_eq!(said["config"]["orchestrator"]["role"], "planner");
    assert_eq!(said["config"]["operationalConfig"]["heartbeatIntervalMs"], 30_000);
    assert!(said["config"]["orchestrator"]["createdAt"].as_str().unwrap().starts_with("20"));
    assert_eq!(said["refused"], "API request failed: the credentials are not valid (INVALID_CREDENTIALS)");
}
