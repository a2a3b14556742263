//! Two routers, two gateways, one auth, a Redis: each a process, each killed, stopped and restarted under load.

use std::time::Duration;

use tokio::time::sleep;
use waystation_test_redis::RedisOptions;
use waystation_tests::load::{Habits, Load};
use waystation_tests::{Daemon, Fleet, eventually};

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
                "auth" => restart(&mut fleet.auth).await,
                "router" => restart(&mut fleet.routers[number % 2]).await,
                _ => restart(&mut fleet.gateways[number / 2 % 2]).await,
            }
        }
        load.more(60).await;
        let outcome = load.finish(&fleet).await;
        println!("run {run}: {} · conservation 0", outcome.verdict);
    }
}

async fn restart(service: &mut waystation_tests::fleet::ServiceProcess) {
    service.kill().await;
    service.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_stopped_for_longer_than_its_lease_cannot_act() {
    let fleet = Fleet::start().await;
    let load = Load::start(&fleet, Habits::default()).await;
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
    for service in fleet.services() {
        load.more(40).await;
        assert_eq!(service.terminate().await, 0, "{} stops in order", service.name);
        service.start().await;
    }
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
}
