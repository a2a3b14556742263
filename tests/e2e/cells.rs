//! Two deployments, each with its own Redis, that hand tasks to each other while their federations die in turn.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use waystation_proto::federation::v1::*;
use waystation_test_redis::{RedisOptions, free_port};
use waystation_tests::fleet::Size;
use waystation_tests::tls::Authority;
use waystation_tests::{Daemon, Fleet, eventually};

use super::delegation::{Calls, hear, work};

const TASKS: usize = 200;

/// One of the two, and where it listens to the other.
struct Side {
    name: &'static str,
    fleet: Fleet,
    authority: Authority,
    address: String,
}

impl Side {
    async fn start(dir: &Path, name: &'static str) -> Side {
        let redis = RedisOptions { append_fsync: Some("always"), ..RedisOptions::default() };
        let size = Size { auths: 1, routers: 1, gateways: 1, federations: 1 };
        let fleet = Fleet::start_sized(redis, size).await;
        let dir = dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        let authority = Authority::of_domain(&dir, &format!("{name}.example"));
        Side { name, fleet, authority, address: format!("127.0.0.1:{}", free_port()) }
    }

    /// As deploy/config/federation.toml says it.
    fn configuration(&self, other: &Side, grants: &str) -> String {
        let issued = self.authority.service("federation");
        format!(
            r#"
            [cells]
            name = "{name}"
            listen = "{address}"
            [cells.tls]
            certificate_file = {certificate:?}
            key_file = {key:?}
            [[cells.peers]]
            name = "{other}"
            address = "https://{there}"
            identity = "{identity}"
            ca_file = {ca:?}
            {grants}
            "#,
            name = self.name,
            address = self.address,
            certificate = issued.certificate,
            key = issued.key,
            other = other.name,
            there = other.address,
            identity = other.authority.identity("federation"),
            ca = other.authority.file(),
        )
    }

    /// Starts federation anew with this.
    async fn configure(&mut self, dir: &Path, configuration: String) {
        let file = dir.join(format!("{}.toml", self.name));
        std::fs::write(&file, configuration).unwrap();
        let federation = &mut self.fleet.federations[0];
        assert_eq!(federation.terminate().await, 0);
        federation.config = Some(file);
        federation.start().await;
    }

    fn backend(&self) -> Calls {
        Calls::new(&self.fleet, self.fleet.backend_token())
    }

    async fn list(&self) -> Vec<OrchestratorStatus> {
        let list = ListOrchestratorsRequest::default();
        let backend = self.backend();
        let listed =
            backend.call(list, |mut to, request| async move { to.federation.list_orchestrators(request).await });
        listed.await.orchestrators
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_one_deployment_are_done_once_in_another_though_federations_die_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let mut a = Side::start(dir.path(), "a").await;
    let mut b = Side::start(dir.path(), "b").await;
    let organization = waystation_tests::fleet::ORGANIZATION;
    let uses = format!("[[cells.peers.uses]]\norganization = \"{organization}\"");
    let serves = format!("[[cells.peers.serves]]\norganization = \"{organization}\"\ncapabilities = [\"research\"]");
    let (of_a, of_b) = (a.configuration(&b, &uses), b.configuration(&a, &serves));
    a.configure(dir.path(), of_a).await;
    b.configure(dir.path(), of_b).await;

    let mut running = JoinSet::new();
    let begun = Arc::<Mutex<BTreeMap<String, u32>>>::default();
    let ends = Arc::<Mutex<BTreeMap<String, u32>>>::default();
    for name in ["anna", "bert"] {
        let token = b.fleet.token(name).await;
        let daemon = Daemon::connect(&b.fleet.url(0), name, "d1", &token).await;
        running.spawn(work(daemon, Calls::new(&b.fleet, &token), begun.clone()));
        let research = Capability { name: "research".into(), ..Default::default() };
        let orchestrator = Orchestrator {
            orchestrator_id: name.into(),
            capabilities: vec![research],
            max_concurrent: 20,
            ..Default::default()
        };
        let register = RegisterOrchestratorRequest { orchestrator: Some(orchestrator), ..Default::default() };
        let registering = b.backend();
        registering
            .call(register, |mut to, request| async move { to.federation.register_orchestrator(request).await })
            .await;
    }
    eventually("a knows what b can do", async || a.list().await.first().filter(|cell| cell.free > 0).map(drop)).await;
    let boss = Daemon::connect(&a.fleet.url(0), "boss", "d1", &a.fleet.token("boss").await).await;
    running.spawn(hear(boss, ends.clone()));

    for number in 0..TASKS {
        let research = Capability { name: "research".into(), ..Default::default() };
        let request = DelegateTaskRequest {
            request_id: format!("r-{number}"),
            from_orchestrator_id: "boss".into(),
            task: Some(Task { id: format!("t-{number}"), ..Default::default() }),
            required_capabilities: vec![research],
            ..Default::default()
        };
        let asking = a.backend();
        asking.call(request, |mut to, request| async move { to.federation.delegate_task(request).await }).await;
        if number % (TASKS / 5) == TASKS / 10 {
            let side = if number % (TASKS * 2 / 5) == TASKS / 10 { &mut a } else { &mut b };
            let victim = &mut side.fleet.federations[0];
            victim.kill().await;
            victim.start().await;
        }
    }
    let patience = tokio::time::Instant::now() + Duration::from_secs(120);
    while ends.lock().unwrap().len() < TASKS {
        assert!(tokio::time::Instant::now() < patience, "{} of {TASKS} have ended", ends.lock().unwrap().len());
        sleep(Duration::from_millis(100)).await;
    }
    assert!(ends.lock().unwrap().values().all(|times| *times == 1), "the delegator hears of one end");
    let ids: Vec<String> = ends.lock().unwrap().keys().cloned().collect();
    for id in ids {
        let request = GetDelegationRequest { delegation_id: id, ..Default::default() };
        let looking = a.backend();
        let found =
            looking.call(request, |mut to, request| async move { to.federation.get_delegation(request).await }).await;
        assert_eq!(found.delegation.unwrap().state(), DelegationState::Completed);
    }
    let begun = begun.lock().unwrap().clone();
    assert_eq!((begun.len(), begun.values().sum::<u32>()), (TASKS, TASKS as u32), "each was begun once");
    for side in [&a, &b] {
        let free = async || side.list().await.iter().all(|one| one.reserved == 0).then_some(());
        eventually("every slot is free", free).await;
    }
    running.abort_all();
}
