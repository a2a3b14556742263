//! `make demo`: what Waystation does, in half a minute, with plain clients against the real services.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::time::Duration;

use serde_json::{Value, json};
use waystation_proto::federation::v1::{
    ExplainDelegationRequest, GetDelegationRequest, ListOrchestratorsRequest, Standing,
};
use waystation_tests::{Backend, Cell, Daemon, eventually};

fn tell(text: &str) {
    println!("{text}");
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect()
}

async fn acknowledged(backend: &Backend, orchestrator: &str) {
    eventually("all is acknowledged", async || (backend.depth(orchestrator).await == 0).then_some(())).await;
}

async fn gone(backend: &Backend, orchestrator: &str) {
    eventually("the session has ended", async || backend.sessions(orchestrator).await.is_empty().then_some(())).await;
}

/// What a daemon is told of a task.
async fn news(who: &str, daemon: &mut Daemon) -> Value {
    let mut event = daemon.events(1).await.remove(0);
    daemon.ack(std::slice::from_ref(&event)).await;
    tell(&format!("   {who} hears {}", event["eventType"].as_str().unwrap()));
    event["data"].take()
}

/// One daemon hands a task to another, and anybody may ask why.
async fn hand_on(cell: &Cell, alma: &mut Daemon, bert: &mut Daemon) {
    tell("\n5. A task: alma needs research done, and does not say by whom.");
    bert.ask("register", json!({"capabilities": ["research"], "maxConcurrent": 2})).await;
    let mut federation = cell.backend().federation;
    eventually("bert is seen", async || {
        let listed = federation.list_orchestrators(ListOrchestratorsRequest::default()).await.unwrap().into_inner();
        (listed.orchestrators.first()?.standing() == Standing::Online).then_some(())
    })
    .await;
    let task = json!({"task": {"id": "t-1", "type": "research"}, "requiredCapabilities": ["research"]});
    let id = alma.ask("delegate", task).await["payload"]["delegationId"].as_str().unwrap().to_owned();
    let offer = news("bert", bert).await;
    let report = json!({"delegationId": id, "attempt": offer["attempt"]});
    let with = |more: Value| {
        let mut report = report.clone();
        report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        report
    };
    bert.ask("delegation_response", with(json!({"accepted": true}))).await;
    news("alma", alma).await;
    bert.ask("delegation_result", with(json!({"status": "completed", "result": {"answer": 42}}))).await;
    let result = news("alma", alma).await;
    assert_eq!(result["result"], json!({"answer": 42}));
    let explain = ExplainDelegationRequest { delegation_id: id, ..Default::default() };
    let explained = federation.explain_delegation(explain).await.unwrap().into_inner();
    for decision in explained.decisions {
        let scores = decision.scores.iter().map(|score| format!("{} {}", score.orchestrator_id, score.total));
        tell(&format!(
            "   why: {}, of {} registered; scores: {:?}",
            decision.summary,
            decision.seen,
            scores.collect::<Vec<_>>()
        ));
    }
    let task = json!({"task": {}, "requiredCapabilities": ["ml-training"], "limits": {"overallMs": 1000}});
    let id = alma.ask("delegate", task).await["payload"]["delegationId"].as_str().unwrap().to_owned();
    let get = GetDelegationRequest { delegation_id: id, ..Default::default() };
    let waiting = federation.get_delegation(get).await.unwrap().into_inner().delegation.unwrap();
    tell(&format!("   another one waits: {}", waiting.why_pending));
    assert_eq!(news("alma", alma).await["state"], "EXPIRED");
}

#[tokio::main]
async fn main() {
    let mut cell = Cell::start().await;
    let backend = cell.backend();
    tell("Waystation runs in this process, over a journal of its own. Two daemons connect.\n");
    let mut alma = cell.daemon("alma", "alma-laptop").await;
    let bert = cell.daemon("bert", "bert-server").await;

    tell("1. Live delivery: a backend routes five messages to alma.");
    for number in 1..=5 {
        let routed = backend.route("alma", number).await;
        tell(&format!("   routed {}   {:?}, durability {:?}", routed.message_id, routed.status(), routed.durability()));
    }
    let events = alma.events(5).await;
    alma.ack(&events).await;
    acknowledged(&backend, "alma").await;
    tell(&format!("   alma received {:?} and acknowledged them\n", numbers(&events)));

    tell("2. Offline: bert goes away; a thousand messages wait for him; the next one is refused.");
    bert.close().await;
    gone(&backend, "bert").await;
    for number in 1..=1_000 {
        backend.route("bert", number).await;
    }
    let refused = backend.try_route(Backend::message("bert", 1_001)).await.unwrap_err();
    tell(&format!("   1,000 QUEUED, then {:?}: {}", refused.code(), refused.message()));
    let mut bert = cell.daemon("bert", "bert-server").await;
    let mut replayed = Vec::new();
    while replayed.len() < 1_000 {
        let events = bert.events(100).await;
        bert.ack(&events).await;
        replayed.extend(numbers(&events));
    }
    acknowledged(&backend, "bert").await;
    assert_eq!(replayed, (1..=1_000).collect::<Vec<_>>());
    tell("   bert is back: 1 … 1000 replayed in order and acknowledged\n");

    tell("3. A broken line: alma receives ten, acknowledges six, and her line breaks.");
    for number in 6..=15 {
        backend.route("alma", number).await;
    }
    let events = alma.events(10).await;
    alma.ack(&events[..6]).await;
    eventually("six are acknowledged", async || (backend.depth("alma").await == 4).then_some(())).await;
    alma.vanish();
    gone(&backend, "alma").await;
    backend.route("alma", 16).await;
    let mut alma = cell.daemon("alma", "alma-laptop").await;
    let events = alma.events(5).await;
    for event in &events {
        tell(&format!("   received {}   redelivered: {}", event["data"]["n"], event["redelivered"]));
    }
    assert_eq!(numbers(&events), [12, 13, 14, 15, 16]);
    assert_eq!(events.iter().filter(|event| event["redelivered"] == true).count(), 4);
    alma.ack(&events).await;
    acknowledged(&backend, "alma").await;

    tell("\n4. The books: accepted = acknowledged + expired + dead + overflowed + purged + resident.");
    for orchestrator in ["alma", "bert"] {
        let mailbox = backend.mailbox(orchestrator).await;
        let counters = mailbox.counters.unwrap();
        assert_eq!(mailbox.conservation_delta, 0);
        let (accepted, acknowledged) = (counters.accepted, counters.acknowledged);
        tell(&format!("   {orchestrator}: accepted {accepted}, acknowledged {acknowledged}, unaccounted for 0"));
    }

    hand_on(&cell, &mut alma, &mut bert).await;

    tell("\n6. The gateway stops: it tells its daemons when to come back.");
    let (told, ()) = tokio::join!(alma.next_of("reconnect"), cell.stop());
    tell(&format!("   alma: {}", told["payload"]));
    tokio::time::timeout(Duration::from_secs(5), alma.close_code()).await.ok();
    tell("\nDone.");
}
