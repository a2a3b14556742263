//! Two routers, two gateways, one auth, a Redis: each a process, each killed, stopped and restarted under load.

use std::time::Duration;

use tokio::time::sleep;
use tonic::Code;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::{MessageStatus, RouteMessageRequest, WaitFor};
use waystation_standalone::DevFile;
use waystation_test_redis::RedisOptions;
use waystation_tests::fleet::{ServiceProcess, service_binary};
use waystation_tests::line::Line;
use waystation_tests::load::{Habits, Load};
use waystation_tests::{Backend, Daemon, Fleet, code_and_reason, eventually, wants_traffic};

/// Longer than the lease of a gateway.
const LONGER_THAN_THE_LEASE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_lose_and_reorder_nothing() {
    let runs: u32 = std::env::var("WAYSTATION_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1);
    for run in 1..=runs {
        let mut fleet = Fleet::start().await;
        let load = Load::start(&fleet, Habits::default()).await;
        // Each run kills at other moments.
        let moment = |number: u32| Duration::from_millis(u64::from((run * 7919 + number * 104_729) % 700));
        for (number, victim) in ["gateway", "router", "auth", "redis", "gateway", "router"].into_iter().enumerate() {
            load.more(60).await;
            sleep(moment(u32::try_from(number).unwrap())).await;
            match victim {
                "redis" => fleet.redis.restart(),
                "auth" => restart(&mut fleet.auths[0]).await,
                "router" => restart(&mut fleet.routers[number % 2]).await,
                _ => restart(&mut fleet.gateways[number / 2 % 2]).await,
            }
        }
        load.more(60).await;
        let outcome = load.finish(&fleet).await;
        println!("run {run}: {} · conservation 0", outcome.verdict);
    }
}

async fn restart(service: &mut ServiceProcess) {
    service.kill().await;
    service.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_stopped_for_longer_than_its_lease_cannot_act() {
    let fleet = Fleet::start().await;
    // Patient enough that only connections of the stopped gateway are given up.
    let habits = Habits { patience: Duration::from_secs(9), ..Habits::default() };
    let load = Load::start(&fleet, habits).await;
    fleet.gateways[0].signal("-STOP");
    sleep(LONGER_THAN_THE_LEASE).await;
    load.more(60).await;
    fleet.gateways[0].signal("-CONT");
    load.more(120).await;
    fleet.gateways[0].ready().await;
    let outcome = load.finish(&fleet).await;
    assert_eq!(outcome.on_given_up, 0, "it woke up and delivered on its old sockets");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_that_was_stopped_is_gone_around() {
    let fleet = Fleet::start().await;
    let load = Load::start(&fleet, Habits::default()).await;
    fleet.routers[0].signal("-STOP");
    sleep(LONGER_THAN_THE_LEASE).await;
    load.more(60).await;
    fleet.routers[0].signal("-CONT");
    load.more(120).await;
    load.finish(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_and_reorders_nothing() {
    let mut fleet = Fleet::start().await;
    let load = Load::start(&fleet, Habits::default()).await;
    load.while_rolled(&mut fleet).await;
    load.more(60).await;
    load.finish(&fleet).await;
}

/// R18: whatever depends on the store waits for it, and nothing else changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_sockets_stay_and_senders_are_told() {
    let mut fleet = Fleet::start().await;
    let habits = Habits { patience: Duration::from_secs(120), ..Habits::default() };
    let load = Load::start(&fleet, habits).await;
    let connections = load.connections();
    fleet.redis.kill();
    let until = tokio::time::Instant::now() + LONGER_THAN_THE_LEASE;
    while tokio::time::Instant::now() < until {
        for service in fleet.services() {
            assert_eq!(service.page("/livez").await, 200, "{} lives", service.name);
        }
        sleep(Duration::from_millis(500)).await;
    }
    for service in fleet.services() {
        assert_eq!(service.page("/readyz").await, 503, "{} wants no traffic", service.name);
    }
    assert!(!wants_traffic(&format!("http://{}", fleet.routers[0].address)).await, "probes hear it by gRPC too");
    fleet.redis.restart();
    for service in fleet.services() {
        service.ready().await;
    }
    load.more(120).await;
    assert_eq!(load.connections(), connections, "every socket stayed");
    let outcome = load.finish(&fleet).await;
    assert!(outcome.told > 0, "senders are told when to come back");
    assert_eq!(outcome.untold, 0, "and nothing else");
    assert!(outcome.verdict.epochs > 1, "the new life of the store is told");
}

/// Sentinels choose another master under load; what was answered is on a replica, so nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_loses_and_reorders_nothing() {
    let mut fleet = Fleet::start_watched().await;
    let load = Load::start(&fleet, Habits { patience: Duration::from_secs(120), ..Habits::default() }).await;
    load.more(100).await;
    fleet.redis.kill();
    load.more(200).await;
    let outcome = load.finish(&fleet).await;
    assert!(outcome.verdict.epochs > 1, "the new master is told: {}", outcome.verdict);
}

/// With `appendfsync everysec` Redis may lose what it answered. What is lost is told: another epoch, balanced books.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_may_have_lost_something_says_so() {
    let mut fleet = Fleet::start_over(RedisOptions { append_fsync: Some("everysec"), ..RedisOptions::default() }).await;
    let load = Load::start(&fleet, Habits::default()).await;
    load.more(100).await;
    fleet.redis.restart();
    load.more(100).await;
    let outcome = load.end(&fleet, false).await;
    outcome.verdict.assert_consistent();
    assert!(outcome.verdict.epochs > 1, "{}", outcome.verdict);
}

/// A Redis without persistence loses everything; nobody waits half a minute to learn of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_opened_again_after_the_store_forgot_them() {
    let mut fleet = Fleet::start_over(RedisOptions::default()).await;
    let token = fleet.token("orla").await;
    let mut daemon = Daemon::connect(&fleet.url(0), "orla", "d1", &token).await;
    fleet.backend(0).route("orla", 1).await;
    let before = daemon.events(1).await;
    fleet.redis.restart();
    // The organization is gone with the rest: an operator makes it anew, as after any such loss.
    fleet.bootstrap_again().await;
    let backend = fleet.backend(1);
    eventually("the session is opened again", async || (backend.sessions("orla").await.len() == 1).then_some(())).await;
    backend.route("orla", 2).await;
    let after = daemon.events(1).await;
    assert_eq!(after[0]["data"]["n"], 2);
    assert_eq!(after[0]["sequence"], 1);
    assert_ne!(after[0]["epoch"], before[0]["epoch"]);
    // Verifiers have asked for the keys again by now. Tokens of before are as good as they were, although the store has
    // lost the key that signed them.
    tokio::time::sleep(Duration::from_secs(3)).await;
    eventually("a token of before is taken", async || Daemon::try_connect(&fleet.url(0), "orla", "d2", &token).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_waits_at_one_router_for_an_ack_that_comes_through_any() {
    let fleet = Fleet::start().await;
    let token = fleet.token("orla").await;
    let mut daemon = Daemon::connect(&fleet.url(1), "orla", "d1", &token).await;
    // By turns through both routers, and so do the gateway's acks.
    for number in 0..10_u64 {
        let backend = fleet.backend(usize::try_from(number % 2).unwrap());
        let waiting =
            RouteMessageRequest { wait_for: WaitFor::Acknowledged.into(), ..Backend::message("orla", number) };
        let (routed, ()) = tokio::join!(backend.try_route(waiting), async {
            let event = daemon.events(1).await;
            daemon.ack(&event).await;
        });
        assert_eq!(routed.unwrap().status(), MessageStatus::Acknowledged);
    }
}

/// A full Redis refuses messages by name and with a delay, takes acks, and takes messages again when it has drained.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_refuses_messages_and_drains() {
    let settings = vec![("maxmemory", "24mb".to_owned())];
    let fleet =
        Fleet::start_over(RedisOptions { append_fsync: Some("everysec"), settings, ..RedisOptions::default() }).await;
    let backend = fleet.backend(0);
    let large = || {
        let data = format!(r#"{{"n":0,"fill":"{}"}}"#, "x".repeat(180_000));
        RouteMessageRequest { data: data.into(), ..Backend::message("orla", 0) }
    };
    let mut accepted = 0;
    let full = loop {
        // 8 MiB a mailbox: several are needed.
        let message = RouteMessageRequest { orchestrator_id: format!("orla-{}", accepted / 30), ..large() };
        match backend.try_route(message).await {
            Ok(_) => accepted += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(code_and_reason(&full), (Code::ResourceExhausted, Some(ErrorReason::StoreFull)));
    assert!(waystation_rpc::retry_after_of(&full).is_some());
    assert_eq!(fleet.routers[0].page("/readyz").await, 200, "a full store is no reason to send nobody here");
    let token = fleet.token("orla-0").await;
    let mut daemon = Daemon::connect(&fleet.url(0), "orla-0", "d1", &token).await;
    let mut left = accepted.min(30);
    while left > 0 {
        let events = daemon.events(1).await;
        daemon.ack(&events).await;
        left -= 1;
    }
    eventually("it has drained", async || (backend.depth("orla-0").await == 0).then_some(())).await;
    eventually("messages are taken again", async || backend.try_route(large()).await.ok()).await;
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("router.toml");
    let cases = [
        ("router", "sessions_per_orchestrater = 5", "sessions_per_orchestrater"),
        ("router", "sessions_per_orchestrator = 0\nsecret = \"0123456789abcdef\"", "sessions_per_orchestrator"),
        ("router", "", "secret"),
        ("router", "secret = \"0123456789abcdef\"", "redis"),
        ("router", "[redis]\npartitions = \"many\"", "partitions"),
        ("gateway", "grpc = \"0.0.0.0:1\"\nsecret = \"0123456789abcdef\"", "advertised"),
        ("gateway", "path = \"daemon\"", "path"),
        ("gateway", "[process.traces]\nendpoint = \"collector:4317\"", "process.traces.endpoint"),
        ("auth", "[process.traces]\nratio = 1.5", "process.traces.ratio"),
        ("auth", "[[services]]\nname = \"x\"\nsecret = \"short\"\nscopes = [\"messages:write\"]", "gateway_secret"),
    ];
    for (service, text, named) in cases {
        std::fs::write(&file, text).unwrap();
        let mut command = tokio::process::Command::new(service_binary(service));
        let ended = command.arg("--config").arg(&file).env_clear().output().await.unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(64), "{text}: {said}");
        assert!(said.contains(named), "{text}: {said}");
    }
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/router.toml");
    let mut check = tokio::process::Command::new(service_binary("router"));
    let checked = check.arg("--config").arg(example).arg("--check").env_clear().output().await.unwrap();
    assert_eq!(checked.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_stays_connected_reaches_a_router_that_came_later() {
    let mut fleet = Fleet::start().await;
    for router in &mut fleet.routers {
        router.reconfigure("process__connection_age_seconds", "1").await;
    }
    // A balancer of connections before both: whoever keeps one keeps its router.
    let of = |router: usize| fleet.routers[router].address.parse().unwrap();
    let line = Line::to(of(0)).await;
    let dev = DevFile { router: format!("http://{}", line.address), ..fleet.dev(0, 0) };
    let backend = Backend::new(&dev);
    backend.route("orla", 0).await;
    line.lead_to(of(1));
    let queued = r#"waystation_messages_routed_total{outcome="Queued"} "#;
    let mut number = 0;
    eventually("the other router is called", async || {
        // None of them fails.
        number += 1;
        backend.route("orla", number).await;
        let page = fleet.routers[1].text("/metrics").await;
        let count = page.lines().find_map(|line| line.strip_prefix(queued)).unwrap().parse::<u64>().unwrap();
        (count > 0).then_some(())
    })
    .await;
    assert_eq!(backend.depth("orla").await, number + 1);
}
