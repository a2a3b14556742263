//! The real binary: killed, stopped, misconfigured.
#![allow(clippy::unwrap_used, missing_docs)]

mod backup;
mod cells;
mod clients;
mod command_line;
mod delegation;
mod deployment;
mod feeds;
mod links;
mod manifests;
mod older_client;
mod older_peer;
mod page;
mod rehearsal;
mod revocation;
mod secured;
mod traces;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use waystation_proto::router::v1::RouteMessageRequest;
use waystation_test_redis::{RedisOptions, RedisServer};
use waystation_tests::process::command;
use waystation_tests::{Backend, Daemon, Process, eventually, log_in};

async fn daemon(process: &Process, orchestrator: &str) -> Daemon {
    let login = log_in(&process.dev, orchestrator).await;
    let token = login["accessToken"].as_str().unwrap();
    Daemon::connect(&process.dev.gateway_url, orchestrator, "d1", token).await
}

/// What a caller knows after a kill: answered OK, or not known. Each message has an id, so a retry makes no copy.
async fn route_until_killed(backend: Backend, orchestrator: String) -> BTreeSet<u64> {
    let mut accepted = BTreeSet::new();
    for number in 0..900 {
        let message =
            RouteMessageRequest { message_id: format!("m-{number}"), ..Backend::message(&orchestrator, number) };
        if backend.try_route(message).await.is_err() {
            break;
        }
        accepted.insert(number);
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_stream_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5_u64 {
        let process = Process::start(dir.path()).await;
        let orchestrator = format!("orla-{round}");
        let mut receiver = daemon(&process, &orchestrator).await;
        let mut routing = JoinSet::new();
        routing.spawn(route_until_killed(process.backend(), orchestrator.clone()));
        // Some are acknowledged, some delivered only, some on their way when it dies.
        let events = receiver.events(40 + 37 * usize::try_from(round).unwrap()).await;
        let (acked, _) = events.split_at(20);
        receiver.ack(acked).await;
        process.kill().await;
        let accepted = routing.join_next().await.unwrap().unwrap();
        assert!(accepted.len() < 900, "the kill came too late");

        let process = Process::start(dir.path()).await;
        let backend = process.backend();
        let mailbox = backend.mailbox(&orchestrator).await;
        let counters = mailbox.counters.unwrap();
        assert!(counters.accepted >= accepted.len() as u64, "{counters:?} {}", accepted.len());
        let depth: u64 = mailbox.lanes.iter().map(|lane| lane.depth).sum();
        let mut receiver = daemon(&process, &orchestrator).await;
        let mut seen: BTreeSet<u64> = acked.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
        let rest = receive_all(&mut receiver, depth).await;
        assert!(rest.is_sorted(), "in order");
        seen.extend(rest);
        assert!(accepted.is_subset(&seen), "lost: {:?}", accepted.difference(&seen));
        eventually("all is acknowledged", async || (backend.depth(&orchestrator).await == 0).then_some(())).await;
        process.kill().await;
    }
}

async fn receive_all(receiver: &mut Daemon, depth: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while (numbers.len() as u64) < depth {
        let events = receiver.events(1).await;
        receiver.ack(&events).await;
        numbers.push(events[0]["data"]["n"].as_u64().unwrap());
    }
    numbers
}

#[tokio::test]
async fn sigterm_drains_and_exits_with_zero() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::start(dir.path()).await;
    let mut receiver = daemon(&process, "orla").await;
    let (code, told) = tokio::join!(process.terminate(), async {
        let told = receiver.next_of("reconnect").await;
        assert_eq!(receiver.close_code().await, 4012);
        told
    });
    assert_eq!(code, 0);
    assert_eq!(told["payload"]["reason"], "gateway is restarting");
}

#[tokio::test]
async fn a_stopped_process_serves_nothing_stale_when_it_continues() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path()).await;
    let backend = process.backend();
    let mut receiver = daemon(&process, "orla").await;
    backend.route("orla", 1).await;
    receiver.events(1).await;
    process.signal("-STOP");
    // Longer than the lease: everybody must find out by themselves.
    tokio::time::sleep(Duration::from_secs(17)).await;
    process.signal("-CONT");
    backend.route("orla", 2).await;
    let events = receiver.events(2).await;
    let numbers: Vec<u64> = events.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2], "the activation begins anew");
    receiver.ack(&events).await;
    eventually("all is acknowledged", async || (backend.depth("orla").await == 0).then_some(())).await;
}

#[tokio::test]
async fn what_cannot_be_configured_ends_with_64() {
    let dir = tempfile::tempdir().unwrap();
    let evicting = RedisServer::start(RedisOptions {
        settings: vec![("maxmemory", "50mb".into()), ("maxmemory-policy", "allkeys-lru".into())],
        ..RedisOptions::default()
    });
    let bad: [&[&str]; 10] = [
        &["--path", "daemon"],
        &["--sessions-per-orchestrator", "0"],
        &["--bind", "0.0.0.0"],
        &["--no-such-option"],
        &["--memory", "--fsync"],
        &["--daemon-jwt-secret", "short"],
        &["--redis", "redis://127.0.0.1:1", "--memory"],
        &["--redis", "nonsense"],
        &["--traces", "collector:4317"],
        &["--redis", &evicting.url()],
    ];
    for arguments in bad {
        let ended = command(dir.path()).args(arguments).stderr(std::process::Stdio::null()).status().await.unwrap();
        assert_eq!(ended.code(), Some(64), "{arguments:?}");
    }
}

#[tokio::test]
async fn the_names_of_the_older_platform_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--path", "/older/ws", "--sessions-per-orchestrator", "1", "--heartbeat-interval-ms", "12345"];
    let process = Process::start_with(dir.path(), &more).await;
    let login = log_in(&process.dev, "orla").await;
    let token = login["accessToken"].as_str().unwrap();
    let url = process.dev.gateway_url.replace("/daemon/ws", "/older/ws");
    let first = Daemon::connect(&url, "orla", "d1", token).await;
    assert_eq!(first.welcome["payload"]["heartbeatIntervalMs"], 12_345);
    let second = Daemon::connect(&process.dev.gateway_url, "orla", "d2", token).await;
    assert_eq!(second.welcome["payload"]["code"], "MAX_CONNECTIONS");
}

#[tokio::test]
async fn a_state_directory_serves_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path()).await;
    let second = command(dir.path()).stderr(std::process::Stdio::null()).status().await.unwrap();
    assert_eq!(second.code(), Some(1));
    process.backend().route("orla", 1).await;
}

#[tokio::test]
async fn credentials_and_secrets_are_for_their_owner_only_and_never_logged() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut child = command(dir.path());
    child.env("RUST_LOG", "trace");
    child.stderr(std::fs::File::create(&log).unwrap());
    let mut child = child.spawn().unwrap();
    let dev = eventually("dev.json is written", async || waystation_standalone::DevFile::read(dir.path()).ok()).await;
    let login = log_in(&dev, "orla").await;
    let token = login["accessToken"].as_str().unwrap();
    let mut receiver = Daemon::connect(&dev.gateway_url, "orla", "d1", token).await;
    let canary = RouteMessageRequest { data: r#"{"canary":"c4n4ry"}"#.into(), ..Backend::message("orla", 1) };
    Backend::new(&dev).try_route(canary).await.unwrap();
    receiver.events(1).await;
    child.kill().await.unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    let refresh = login["refreshToken"].as_str().unwrap();
    for secret in [&dev.api_secret, &dev.service_token, &dev.service_secret, &dev.operator_token] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
    assert!(!log.contains(token) && !log.contains(refresh) && !log.contains("c4n4ry"));
    for file in ["dev.json", "secrets.json"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_logged_is_changed_while_the_process_runs() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path()).await;
    let ask = async |request: http::request::Builder, body: &str| {
        let answer = waystation_tests::http(&process.dev.admin.router, request.body(body.to_owned()).unwrap()).await;
        (answer.status().as_u16(), String::from_utf8(answer.into_body()).unwrap())
    };
    let path = "/debug/log";
    assert_eq!(ask(http::Request::put(path), "warn,waystation_router=debug\n").await.0, 204);
    let (status, shown) = ask(http::Request::get(path), "").await;
    assert!(status == 200 && shown.contains("waystation_router=debug") && shown.contains("tonic=info"), "{shown}");
    let (status, said) = ask(http::Request::put(path), "waystation_router=loud").await;
    assert!(status == 400 && said.contains("level"), "{said}");
    assert_eq!(ask(http::Request::get(path), "").await.1, shown, "nothing has changed");
    process.kill().await;
}
