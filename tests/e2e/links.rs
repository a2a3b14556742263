//! What operators hear of the streams from routers to gateways.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use waystation_tests::{Daemon, Fleet};

/// What was told of streams so far.
#[derive(Default)]
struct Heard {
    /// Each change, `previousState newState`, with the streams that it was told of.
    changes: BTreeMap<String, BTreeSet<String>>,
    /// Whether attempts ended well, by their id.
    ended: BTreeMap<String, bool>,
    attempts: u64,
}

impl Heard {
    fn take(&mut self, mut event: Value) {
        let data = event["data"].take();
        let text = |member: &str| data[member].as_str().unwrap().to_owned();
        match event["eventType"].as_str().unwrap() {
            "error-recovery.circuit-breaker-state-changed" => {
                let change = format!("{} {}", text("previousState"), text("newState"));
                self.changes.entry(change).or_default().insert(text("circuitBreakerId"));
            }
            "error-recovery.retry-started" => self.attempts += 1,
            "error-recovery.retry-completed" => {
                assert!(data["attemptCount"].as_u64().unwrap() > 0, "{data}");
                self.ended.insert(text("retryId"), data["success"].as_bool().unwrap());
            }
            other => panic!("{other}"),
        }
    }

    fn count(&self, change: &str) -> usize {
        self.changes.get(change).map_or(0, BTreeSet::len)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_stands_again_or_is_given_up_is_told_to_operators() {
    let mut fleet = Fleet::start().await;
    for router in &mut fleet.routers {
        router.reconfigure("operations_organization", "acme").await;
    }
    let token = fleet.token("operator").await;
    let more = json!({"client": {"name": "t", "version": "1"}, "subscriptions": ["error-recovery.*"]});
    let mut operator = Daemon::connect_with(&fleet.url(0), "operator", "d1", &token, more).await;
    operator.hears_own = true;
    let mut heard = Heard::default();

    fleet.gateways[1].signal("-STOP");
    while heard.count("closed open") < 2 {
        heard.take(operator.events(1).await.remove(0));
    }
    // It has not been silent for so long that it is taken for gone.
    fleet.gateways[1].signal("-CONT");
    while heard.ended.len() < 2 {
        heard.take(operator.events(1).await.remove(0));
    }
    assert_eq!(heard.count("half-open closed"), 2, "{:?}", heard.changes);
    assert!(heard.ended.values().all(|success| *success), "{:?}", heard.ended);

    fleet.gateways[1].kill().await;
    while heard.ended.len() < 4 {
        heard.take(operator.events(1).await.remove(0));
    }
    assert_eq!(heard.ended.values().filter(|success| !**success).count(), 2, "{:?}", heard.ended);
    assert!(heard.attempts > 4, "each attempt is told: {}", heard.attempts);
}
