//! What is counted, not timed (performance, P8): what a routed message costs the store.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use tokio::task::JoinSet;
use waystation_proto::auth::v1::{OrganizationSettings, UpdateOrganizationSettingsRequest};
use waystation_standalone::StoreOptions;
use waystation_store::RedisConfig;
use waystation_test_redis::RedisServer;
use waystation_tests::{Backend, Cell, eventually};

/// Calls of a caller in flight.
const TOGETHER: usize = 64;

fn calls(cell: &Cell) -> BTreeMap<&'static str, u64> {
    let calls = cell.standalone.as_ref().unwrap().store.mailboxes.calls();
    calls.into_iter().map(|calls| (calls.operation, calls.count)).collect()
}

/// Routes messages one by one, by turns to so many mailboxes; answers appends, all calls but acks, and acks, each for
/// one message.
async fn cost(cell: &Cell, mailboxes: u64, messages: u64) -> [f64; 3] {
    let backend = cell.backend();
    // What is asked once is asked beforehand.
    backend.route("first", 0).await;
    let before = calls(cell);
    let route = |number: u64| {
        let (backend, orchestrator) = (backend.clone(), format!("orla-{}", number % mailboxes));
        async move { while backend.try_route(Backend::message(&orchestrator, number)).await.is_err() {} }
    };
    futures_util::stream::iter((0..messages).map(route)).buffer_unordered(TOGETHER).collect::<Vec<()>>().await;
    let after = calls(cell);
    let grown = |name: &str| (after[name] - before[name]) as f64 / messages as f64;
    let all: f64 = after.keys().map(|name| grown(name)).sum();
    let acks = grown("settle");
    [grown("append"), all - acks, acks]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routed_message_is_at_most_one_round_trip_to_redis() {
    let redis = StoreOptions::Redis(RedisConfig::of(&RedisServer::shared()));
    let cell = Cell::start_with(|options| options.store = redis).await;
    let mut daemon = cell.daemon("orla-0", "d1").await;
    let mut receiving = JoinSet::new();
    receiving.spawn(async move {
        for _ in 0..4_000 {
            let events = daemon.events(1).await;
            daemon.ack(&events).await;
        }
    });
    let [appends, sent, acks] = cost(&cell, 1, 4_000).await;
    receiving.join_next().await.unwrap().unwrap();
    println!("one mailbox: {appends:.3} appends, {sent:.3} calls, {acks:.3} calls for acks a message");
    assert!(appends <= 1.0 && sent <= 1.1 && acks <= 0.1, "{appends} {sent} {acks}");
    eventually("it is drained", async || (cell.backend().depth("orla-0").await == 0).then_some(())).await;

    let [appends, sent, _] = cost(&cell, 10_000, 10_000).await;
    println!("10,000 mailboxes: {appends:.3} appends, {sent:.3} calls a message");
    assert!(appends <= 1.0 && sent <= 1.1, "{appends} {sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_limit_costs_no_round_trip_for_a_message() {
    let redis = StoreOptions::Redis(RedisConfig::of(&RedisServer::shared()));
    let cell = Cell::start_with(|options| options.store = redis).await;
    let settings = OrganizationSettings { messages_per_second: 2_000, ..OrganizationSettings::default() };
    let update = UpdateOrganizationSettingsRequest { organization_id: "dev".into(), settings: Some(settings) };
    Backend::operator(&cell.dev).credentials.update_organization_settings(update).await.unwrap();
    let backend = cell.backend();
    let before = calls(&cell);
    for number in 0..1_000 {
        backend.route(&format!("orla-{}", number % 10), number).await;
    }
    let slices = calls(&cell)["slice"] - before["slice"];
    assert!((1..=100).contains(&slices), "{slices} slices for 1,000 messages");
}
