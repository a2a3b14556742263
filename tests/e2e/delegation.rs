//! Tasks handed on while the processes that look after them die in turn: each has one end, and every slot is free again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::{Code, Response, Status};
use waystation_proto::federation::v1::complete_delegation_request::Verdict;
use waystation_proto::federation::v1::*;
use waystation_test_redis::RedisOptions;
use waystation_tests::fleet::Size;
use waystation_tests::{Backend, Daemon, Fleet, eventually};

const TASKS: u64 = 1_000;
const WORKERS: [&str; 4] = ["anna", "bert", "cleo", "dora"];
const SLOTS: u32 = 20;
/// Requests under way at once.
const TOGETHER: u64 = 16;

/// Calls of one client to whichever replica answers.
#[derive(Clone)]
pub struct Calls {
    replicas: Vec<Backend>,
    next: Arc<AtomicUsize>,
}

impl Calls {
    pub fn new(fleet: &Fleet, token: &str) -> Calls {
        let replicas = (0..fleet.federations.len()).map(|number| fleet.federation(number, token)).collect();
        Calls { replicas, next: Arc::default() }
    }

    /// Until somebody answers; whether one that died has done it, nobody knows.
    pub async fn call<R: Clone, T, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        request: R,
        send: impl Fn(Backend, R) -> F,
    ) -> T {
        loop {
            let replica = self.next.load(Ordering::Relaxed) % self.replicas.len();
            match send(self.replicas[replica].clone(), request.clone()).await {
                Ok(answer) => return answer.into_inner(),
                Err(status) => {
                    assert!(matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled), "{status:?}");
                    self.next.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Accepts and does whatever it is asked to; counts how often it has begun each.
pub async fn work(mut daemon: Daemon, calls: Calls, begun: Arc<Mutex<BTreeMap<String, u32>>>) {
    let mut tasks = JoinSet::new();
    loop {
        let event = daemon.events(1).await.remove(0);
        daemon.ack(std::slice::from_ref(&event)).await;
        if event["eventType"] != "delegation.offered" {
            continue;
        }
        let (calls, begun) = (calls.clone(), begun.clone());
        tasks.spawn(async move {
            let delegation_id = event["data"]["delegationId"].as_str().unwrap().to_owned();
            let attempt = u32::try_from(event["data"]["attempt"].as_u64().unwrap()).unwrap();
            let respond = RespondToDelegationRequest {
                delegation_id: delegation_id.clone(),
                attempt,
                accepted: true,
                ..Default::default()
            };
            let answered = calls
                .call(respond, |mut to, request| async move { to.federation.respond_to_delegation(request).await })
                .await;
            if answered.outcome() == ReportOutcome::Late {
                return;
            }
            *begun.lock().unwrap().entry(delegation_id.clone()).or_default() += 1;
            sleep(Duration::from_millis(20)).await;
            let verdict = Some(Verdict::Result("{}".into()));
            let complete = CompleteDelegationRequest { delegation_id, attempt, verdict, ..Default::default() };
            calls
                .call(complete, |mut to, request| async move { to.federation.complete_delegation(request).await })
                .await;
        });
    }
}

/// Counts how often the delegator hears of an end.
pub async fn hear(mut daemon: Daemon, ends: Arc<Mutex<BTreeMap<String, u32>>>) {
    let last = ["delegation.completed", "delegation.failed", "delegation.cancelled"];
    loop {
        let event = daemon.events(1).await.remove(0);
        daemon.ack(std::slice::from_ref(&event)).await;
        let redelivered = event["redelivered"] == Value::Bool(true);
        if !redelivered && last.contains(&event["eventType"].as_str().unwrap()) {
            let id = event["data"]["delegationId"].as_str().unwrap().to_owned();
            *ends.lock().unwrap().entry(id).or_default() += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_have_one_end_each_though_federations_die_in_turn() {
    let redis = RedisOptions { append_fsync: Some("always"), ..RedisOptions::default() };
    let mut fleet = Fleet::start_sized(redis, Size { federations: 2, ..Size::default() }).await;
    let backend = Calls::new(&fleet, fleet.backend_token());
    let mut running = JoinSet::new();
    let (begun, ends) =
        (Arc::<Mutex<BTreeMap<String, u32>>>::default(), Arc::<Mutex<BTreeMap<String, u32>>>::default());
    for (number, name) in WORKERS.into_iter().enumerate() {
        let token = fleet.token(name).await;
        let daemon = Daemon::connect(&fleet.url(number % 2), name, "d1", &token).await;
        running.spawn(work(daemon, Calls::new(&fleet, &token), begun.clone()));
        let orchestrator = Orchestrator { orchestrator_id: name.into(), max_concurrent: SLOTS, ..Default::default() };
        let register = RegisterOrchestratorRequest { orchestrator: Some(orchestrator), ..Default::default() };
        backend
            .call(register, |mut to, request| async move { to.federation.register_orchestrator(request).await })
            .await;
    }
    let boss = Daemon::connect(&fleet.url(0), "boss", "d1", &fleet.token("boss").await).await;
    running.spawn(hear(boss, ends.clone()));

    let (mut asking, asked) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
    for lane in 0..TOGETHER {
        let (backend, asked) = (backend.clone(), asked.clone());
        asking.spawn(async move {
            let mut ids = Vec::new();
            for number in (lane..TASKS).step_by(TOGETHER as usize) {
                let request = DelegateTaskRequest {
                    request_id: format!("r-{number}"),
                    from_orchestrator_id: "boss".into(),
                    task: Some(Task { id: format!("t-{number}"), ..Default::default() }),
                    ..Default::default()
                };
                let answer = backend
                    .call(request, |mut to, request| async move { to.federation.delegate_task(request).await })
                    .await;
                ids.push(answer.delegation_id);
                asked.fetch_add(1, Ordering::Relaxed);
            }
            ids
        });
    }
    // Each dies twice, at every fifth of the way, and comes back.
    for fifth in 1..=4_u64 {
        while asked.load(Ordering::Relaxed) < TASKS / 5 * fifth {
            sleep(Duration::from_millis(5)).await;
        }
        let victim = &mut fleet.federations[(fifth % 2) as usize];
        victim.kill().await;
        victim.start().await;
    }
    let mut ids = BTreeSet::new();
    while let Some(some) = asking.join_next().await {
        ids.extend(some.unwrap());
    }
    assert_eq!(ids.len(), TASKS as usize, "the same request is one delegation, whoever answered");

    let all_ended = async || (ends.lock().unwrap().len() == TASKS as usize).then_some(());
    let patience = tokio::time::Instant::now() + Duration::from_secs(120);
    while all_ended().await.is_none() {
        assert!(tokio::time::Instant::now() < patience, "{} of {TASKS} have ended", ends.lock().unwrap().len());
        sleep(Duration::from_millis(100)).await;
    }
    assert!(ends.lock().unwrap().values().all(|times| *times == 1), "the delegator hears of one end");
    let mut states: BTreeMap<&'static str, usize> = BTreeMap::new();
    for id in &ids {
        let request = GetDelegationRequest { delegation_id: id.clone(), ..Default::default() };
        let found =
            backend.call(request, |mut to, request| async move { to.federation.get_delegation(request).await }).await;
        let found = found.delegation.unwrap();
        *states.entry(found.state().as_str_name()).or_default() += 1;
        let began = begun.lock().unwrap().get(id).copied().unwrap_or(0);
        assert!(began <= 1 + found.retries, "{id} was begun {began} times, with {} retries", found.retries);
    }
    assert_eq!(states, BTreeMap::from([("DELEGATION_STATE_COMPLETED", TASKS as usize)]));
    eventually("every slot is free", async || {
        let listed = backend
            .call(ListOrchestratorsRequest::default(), |mut to, request| async move {
                to.federation.list_orchestrators(request).await
            })
            .await;
        let listed = listed.orchestrators;
        (listed.len() == WORKERS.len() && listed.iter().all(|one| one.reserved == 0 && one.free == SLOTS)).then_some(())
    })
    .await;
    running.abort_all();
}
