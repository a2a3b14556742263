//! Tasks that are handed on: how many a second, how long it takes to choose among many, and what one that is registered costs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::iter;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use waystation_domain::Timestamp;
use waystation_domain::federation::{self as rules, Candidate, Registration, Wanted, choose};
use waystation_proto::federation::v1::*;
use waystation_tests::{Backend, Daemon, eventually};

use crate::clients::Server;
use crate::usage::{cpu_seconds, resident_kib};

const WORKERS: usize = 4;
const TASKS: usize = 2_000;
const UNDER_WAY: usize = 64;
const REGISTERED: usize = 10_000;
const CHOICES: u64 = 2_000;

/// Accepts whatever it is offered, and has done it at once.
async fn work(mut daemon: Daemon) {
    loop {
        let event = daemon.events(1).await.remove(0);
        daemon.ack(std::slice::from_ref(&event)).await;
        let data = &event["data"];
        let with = |more: &str, value: serde_json::Value| json!({"delegationId": data["delegationId"], "attempt": data["attempt"], more: value});
        let accepted = with("accepted", json!(true));
        daemon.send(json!({"type": "delegation_response", "payload": accepted})).await;
        daemon.send(json!({"type": "delegation_result", "payload": with("status", json!("completed"))})).await;
    }
}

fn task(capability: &str) -> DelegateTaskRequest {
    DelegateTaskRequest {
        task: Some(Task::default()),
        required_capabilities: vec![Capability { name: capability.into(), ..Default::default() }],
        ..Default::default()
    }
}

async fn register(backend: &Backend, id: String, capability: &str, slots: u32) {
    let orchestrator = Orchestrator {
        orchestrator_id: id,
        capabilities: vec![Capability { name: capability.into(), ..Default::default() }],
        max_concurrent: slots,
        ..Default::default()
    };
    let request = RegisterOrchestratorRequest { orchestrator: Some(orchestrator), ..Default::default() };
    backend.federation.clone().register_orchestrator(request).await.unwrap();
}

async fn workers(server: &Server, backend: &Backend, tasks: &mut JoinSet<()>) {
    let names: Vec<String> = (0..WORKERS).map(|n| format!("worker-{n}")).collect();
    for (name, token) in names.iter().zip(server.tokens(&names).await) {
        let more = json!({"client": {"name": "b", "version": "1"}});
        let url = &server.process.dev.gateway_url;
        tasks.spawn(work(Daemon::connect_with(url, name, "d1", &token, more).await));
        register(backend, name.clone(), "work", 1_000).await;
    }
    let seen = async || {
        let request = ListOrchestratorsRequest { standing: Standing::Online.into(), ..Default::default() };
        let listed = backend.federation.clone().list_orchestrators(request).await.unwrap().into_inner();
        (listed.orchestrators.len() == WORKERS).then_some(())
    };
    eventually("workers are seen", seen).await;
}

/// Tasks from request to completed in a second, and µs of server CPU for each.
pub async fn delegated(server: Server) -> [f64; 2] {
    let (backend, mut tasks) = (server.backend(), JoinSet::new());
    workers(&server, &backend, &mut tasks).await;
    let (begun, cpu) = (Instant::now(), cpu_seconds(&server.pids()));
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    let each = (0..TASKS).map(|_| {
        let (places, mut federation) = (places.clone(), backend.federation.clone());
        async move {
            let _place = places.acquire().await.unwrap();
            let answer = federation.delegate_task(task("work")).await.unwrap().into_inner();
            let watch = WatchDelegationRequest { delegation_id: answer.delegation_id, ..Default::default() };
            let mut changes = federation.watch_delegation(watch).await.unwrap().into_inner();
            let mut last = DelegationState::Pending;
            while let Some(change) = changes.message().await.unwrap() {
                last = change.delegation.unwrap().state();
            }
            assert_eq!(last, DelegationState::Completed);
        }
    });
    join_all(each).await;
    let tasks = TASKS as f64;
    [tasks / begun.elapsed().as_secs_f64(), (cpu_seconds(&server.pids()) - cpu) * 1e6 / tasks]
}

/// KiB that one who is registered costs, and the p99 in µs of DelegateTask with so many and with only those who work.
pub async fn registered(server: Server) -> [f64; 3] {
    let (backend, mut tasks) = (server.backend(), JoinSet::new());
    workers(&server, &backend, &mut tasks).await;
    let few = asked(&backend).await;
    sleep(Duration::from_secs(1)).await;
    let before = resident_kib(&server.pids());
    let all = (0..REGISTERED).map(|n| register(&backend, format!("other-{n}"), "work", 1));
    iter(all).buffer_unordered(16).collect::<Vec<_>>().await;
    sleep(Duration::from_secs(5)).await;
    let kib = (resident_kib(&server.pids()) - before) / REGISTERED as f64;
    [kib, few, asked(&backend).await]
}

/// The p99 of DelegateTask, one after the other.
async fn asked(backend: &Backend) -> f64 {
    let mut latencies = Histogram::<u64>::new(3).unwrap();
    for _ in 0..500 {
        let begun = Instant::now();
        backend.federation.clone().delegate_task(task("work")).await.unwrap();
        latencies.record(begun.elapsed().as_micros() as u64).unwrap();
    }
    latencies.value_at_quantile(0.99) as f64
}

/// The p99 in µs of a choice alone, among so many who could all do it: by the usual strategy, and by the dearest.
pub fn chosen(among: usize) -> [f64; 2] {
    let needed = [rules::Capability { name: "work".parse().unwrap(), version: None, level: None }];
    let registration = |n: usize| Registration {
        id: format!("o-{n}").parse().unwrap(),
        name: String::new(),
        region: String::new(),
        tier: String::new(),
        capabilities: needed.to_vec(),
        max_concurrent: 8,
        weight: 100,
        token_limit: None,
    };
    let registrations: Vec<_> = (0..among).map(registration).collect();
    [rules::Strategy::PowerOfTwo, rules::Strategy::Weighted].map(|strategy| {
        let mut latencies = Histogram::<u64>::new(3).unwrap();
        for turn in 0..CHOICES {
            let candidates = registrations.iter().map(|registration| Candidate {
                registration,
                reserved: 1,
                standing: rules::Standing::Online,
                tokens_used: 0,
                errors: 0,
            });
            let wanted = Wanted {
                to: None,
                capabilities: &needed,
                region: "",
                tokens: 0,
                preferred: &[],
                excluded: &[],
                refused: &[],
                hops: &[],
                tried: &[],
                strategy,
                affinity: "",
            };
            let begun = Instant::now();
            let decision = choose(&wanted, candidates, (turn * 7_919, turn), Timestamp::default());
            latencies.record(begun.elapsed().as_nanos() as u64).unwrap();
            assert!(decision.chosen.is_some());
        }
        latencies.value_at_quantile(0.99) as f64 / 1e3
    })
}
