//! The SDKs over lines and processes that break in every way: nothing is lost, nothing is applied twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use waystation_client::{ConnectOptions, RetryPolicy, Token};
use waystation_proto::router::v1::RouteMessageRequest;
use waystation_tests::adapter::{Adapter, Program};
use waystation_tests::conformance::failures;
use waystation_tests::line::{Break, Line};
use waystation_tests::node::Node;
use waystation_tests::process::binary;
use waystation_tests::{Backend, PATIENCE, Process, hs256};

const SECRET: &str = "a secret of the older platform, long enough";
/// How long a token is good: so short that each connection renews it.
const TOKEN_SECONDS: u64 = 4;
/// Messages each way.
const MESSAGES: u64 = 2_000;
/// Disconnects, unless WAYSTATION_DISCONNECTS says otherwise.
const DISCONNECTS: usize = 20;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Kill,
    Reset,
    BlackHole,
    Drain,
    TokenExpiry,
}

const ENDS: [End; 5] = [End::Kill, End::Reset, End::BlackHole, End::Drain, End::TokenExpiry];

fn token(orchestrator: &str, daemon: &str, seconds: u64) -> String {
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = json!({
        "iss": "waystation", "aud": "waystation", "type": "access", "jti": format!("{orchestrator}-{now}"), "nbf": now, "sub": orchestrator, "orchestratorId": orchestrator,
        "organizationId": "dev", "daemonId": daemon, "sessionId": format!("login-{orchestrator}"),
        "scopes": ["messages:read", "messages:write", "events:read"], "iat": now, "exp": now + seconds,
    });
    hs256(&claims, SECRET)
}

fn address(process: &Process) -> SocketAddr {
    process.dev.http_url.strip_prefix("http://").unwrap().parse().unwrap()
}

async fn start(dir: &Path) -> Process {
    Process::start_with(dir, &["--daemon-jwt-secret", SECRET]).await
}

/// The other side: gets what the client under test sends.
struct Other {
    received: Arc<Mutex<BTreeMap<u64, u32>>>,
    line: Line,
    _tasks: JoinSet<()>,
}

impl Other {
    async fn start(process: &Process) -> Other {
        let line = Line::to(address(process)).await;
        let received = Arc::new(Mutex::new(BTreeMap::new()));
        let retry = RetryPolicy {
            first: Duration::from_millis(50),
            most: Duration::from_millis(200),
            attempts: 1_000,
            ..RetryPolicy::default()
        };
        let client = ConnectOptions::new(&format!("ws://{}", line.address), "otto", "d2")
            .retry(retry)
            .token_callback(|_| async { Ok(Token::of_jwt(token("otto", "d2", 3_600))) })
            .connect()
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        let counting = received.clone();
        tasks.spawn(async move {
            let mut messages = client.messages();
            while let Some(message) = messages.next().await {
                let message = message.unwrap();
                let data: Value = message.json().unwrap();
                *counting.lock().unwrap().entry(data["n"].as_u64().unwrap()).or_default() += 1;
                message.ack().await.unwrap();
            }
        });
        Other { received, line, _tasks: tasks }
    }

    fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }
}

struct Ride {
    adapter: Adapter,
    process: Option<Process>,
    line: Line,
    other: Other,
    /// No new token is given.
    starves: bool,
    connections: usize,
    renewals: usize,
    applied: BTreeMap<u64, u32>,
    accepted: BTreeSet<String>,
    reasons: Vec<String>,
    asked: u64,
    routed: u64,
}

impl Ride {
    async fn take(&mut self, seen: &Value) {
        match seen["saw"].as_str().unwrap() {
            "token_wanted" => {
                let starved = self.starves && seen["occasion"] == "renewal";
                let given = if starved { String::new() } else { token("orla", "d1", TOKEN_SECONDS) };
                self.adapter.order(json!({"do": "token", "token": given})).await;
            }
            "connected" => self.connections += 1,
            "token_renewed" => self.renewals += 1,
            "disconnected" => self.reasons.push(seen["reason"].as_str().unwrap().to_owned()),
            "message" => *self.applied.entry(seen["data"]["n"].as_u64().unwrap()).or_default() += 1,
            "accepted" => assert!(self.accepted.insert(seen["id"].as_str().unwrap().to_owned())),
            "stopped" | "refused" => panic!("{seen}; {:?}", self.reasons),
            _ => {}
        }
    }

    /// Looks at what the client sees until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Ride) -> bool) {
        let end = Instant::now() + 6 * PATIENCE;
        while !holds(self) {
            let tick = (Instant::now() + Duration::from_millis(50)).min(end);
            match self.adapter.next(tick).await {
                Some(seen) => self.take(&seen).await,
                None => assert!(
                    Instant::now() < end,
                    "not in time: {what}; {} applied, {} accepted, {} received; {:?}",
                    self.applied.len(),
                    self.accepted.len(),
                    self.other.count(),
                    self.reasons
                ),
            }
        }
    }

    /// Looks at what the client sees for a moment.
    async fn moment(&mut self) {
        if let Some(seen) = self.adapter.next(Instant::now() + Duration::from_millis(50)).await {
            self.take(&seen).await;
        }
    }

    async fn talk(&mut self, to: u64) {
        let backend = self.process.as_ref().map(Process::backend);
        while self.asked < to {
            let number = self.asked;
            self.adapter.order(json!({"do": "send", "to": "otto", "data": {"n": number}})).await;
            self.asked += 1;
        }
        if let Some(backend) = backend {
            while self.routed < to {
                self.route(&backend).await;
            }
        }
    }

    async fn route(&mut self, backend: &Backend) {
        let number = self.routed;
        let message = RouteMessageRequest { message_id: format!("b-{number}"), ..Backend::message("orla", number) };
        match backend.try_route(message).await {
            Ok(_) => self.routed += 1,
            // Not ready yet, or full: again, under the same id.
            Err(_) => self.moment().await,
        }
    }

    async fn end(&mut self, end: End, dir: &Path) {
        let connections = self.connections;
        match end {
            End::Reset => self.line.cut(Break::Reset),
            End::BlackHole => self.line.cut(Break::BlackHole),
            End::TokenExpiry => self.starves = true,
            End::Kill => self.process.take().unwrap().kill().await,
            End::Drain => {
                let mut process = self.process.take().unwrap();
                let mut ending = JoinSet::new();
                ending.spawn(async move { process.terminate().await });
                let ended = loop {
                    match ending.try_join_next() {
                        Some(ended) => break ended,
                        None => self.moment().await,
                    }
                };
                assert_eq!(ended.unwrap(), 0);
            }
        }
        if self.process.is_none() {
            let process = start(dir).await;
            self.line.lead_to(address(&process));
            self.other.line.lead_to(address(&process));
            self.process = Some(process);
        }
        self.until(&format!("it is back after {end:?}"), |ride| ride.connections > connections).await;
        self.starves = false;
    }
}

async fn ride(program: Program) {
    let disconnects = std::env::var("WAYSTATION_DISCONNECTS").ok().and_then(|text| text.parse().ok());
    let disconnects: usize = disconnects.unwrap_or(DISCONNECTS);
    let dir = tempfile::tempdir().unwrap();
    let process = start(dir.path()).await;
    let line = Line::to(address(&process)).await;
    let url = format!("ws://{}", line.address);
    let options = [
        ("url", url.as_str()),
        ("orchestrator", "orla"),
        ("daemon", "d1"),
        ("backoff", "50"),
        ("backoff_most", "500"),
        ("attempts", "1000"),
        ("ping", "500"),
        ("patience", "1500"),
        ("timeout", "3000"),
    ];
    let mut ride = Ride {
        adapter: program.start(&options),
        other: Other::start(&process).await,
        process: Some(process),
        line,
        starves: false,
        connections: 0,
        renewals: 0,
        applied: BTreeMap::new(),
        accepted: BTreeSet::new(),
        reasons: Vec::new(),
        asked: 0,
        routed: 0,
    };
    ride.until("it is connected", |ride| ride.connections > 0).await;
    for round in 0..disconnects {
        // Half of a round's messages are on their way when the connection ends, half come while it is gone.
        let share = |half: usize| MESSAGES * (2 * round + half) as u64 / (2 * disconnects) as u64;
        ride.talk(share(1)).await;
        ride.end(ENDS[round % ENDS.len()], dir.path()).await;
        ride.talk(share(2)).await;
    }
    let all = usize::try_from(MESSAGES).unwrap();
    ride.until("everything has arrived", |ride| {
        ride.applied.len() == all && ride.accepted.len() == all && ride.other.count() == all
    })
    .await;
    assert!(ride.applied.values().all(|times| *times == 1), "applied twice: {:?}", ride.applied);
    let received = ride.other.received.lock().unwrap().clone();
    assert!(received.values().all(|times| *times == 1), "sent twice: {received:?}");
    let connections = ride.connections;
    assert!(connections > disconnects);
    ride.until("the token is renewed on the open connection", |ride| ride.renewals > 0).await;
    assert_eq!(ride.connections, connections);
}

/// The adapter, which is built with the standalone.
async fn rust() -> Program {
    let standalone = tokio::task::spawn_blocking(binary).await.unwrap();
    Program::new([standalone.with_file_name("examples").join("adapter")])
}

async fn typescript() -> Program {
    let found = tokio::task::spawn_blocking(|| {
        let node = Node::find();
        let adapter = node.client().join("build/test/adapter.js");
        Program::new([node.binary.into_os_string(), adapter.into_os_string()])
    });
    found.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_loses_nothing_and_applies_nothing_twice() {
    ride(rust().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_client_loses_nothing_and_applies_nothing_twice() {
    ride(typescript().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_passes_the_conformance_kit() {
    assert_eq!(failures(&rust().await, None, |_, _| {}).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_client_passes_the_conformance_kit() {
    assert_eq!(failures(&typescript().await, None, |_, _| {}).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_typescript_clients_own_tests_pass() {
    let dir = tempfile::tempdir().unwrap();
    let process = start(dir.path()).await;
    let dev = dir.path().join("dev.json");
    let ran = tokio::task::spawn_blocking(move || {
        let node = Node::find();
        let tests = ["rules", "live", "size"].map(|name| node.client().join(format!("build/test/{name}.test.js")));
        std::process::Command::new(&node.binary).arg("--test").args(tests).env("WAYSTATION_DEV", dev).output().unwrap()
    });
    let ran = ran.await.unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    process.kill().await;
}
