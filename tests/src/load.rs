//! Load on a fleet that does not mind failures: senders that repeat until they are answered, daemons that come back.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;
use waystation_proto::router::v1::RouteMessageRequest;

use crate::history::{At, History, Seen, Verdict};
use crate::{Backend, Daemon, Fleet, Received, eventually, frame};

/// Between messages of one sender.
const PACE: Duration = Duration::from_millis(10);
/// After a message that was not accepted.
const AGAIN: Duration = Duration::from_millis(50);

/// How daemons behave.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// A connection that says nothing for so long is given up, but kept open and watched.
    pub patience: Duration,
    /// Orchestrators, each with one daemon and one sender.
    pub orchestrators: usize,
}

impl Default for Habits {
    fn default() -> Self {
        Habits { patience: Duration::from_secs(4), orchestrators: 6 }
    }
}

struct Shared {
    history: Mutex<History>,
    backends: Vec<Backend>,
    gateways: Vec<String>,
    habits: Habits,
    sending: AtomicBool,
    receiving: AtomicBool,
    connections: AtomicU64,
    /// Calls that were answered UNAVAILABLE with a delay to come back after, and without.
    told: AtomicUsize,
    untold: AtomicUsize,
    /// Events that came on connections that had been given up.
    on_given_up: AtomicUsize,
}

/// Load that runs.
pub struct Load {
    shared: Arc<Shared>,
    senders: JoinSet<()>,
    daemons: JoinSet<()>,
}

/// What came of it.
pub struct Outcome {
    pub verdict: Verdict,
    pub connections: u64,
    /// Calls that were answered UNAVAILABLE with a delay, and in another way.
    pub told: usize,
    pub untold: usize,
    pub on_given_up: usize,
}

fn name(number: usize) -> String {
    format!("orch-{number}")
}

impl Load {
    /// Starts senders and daemons, and resolves once every daemon has got something.
    pub async fn start(fleet: &Fleet, habits: Habits) -> Load {
        let shared = Arc::new(Shared {
            history: Mutex::default(),
            backends: (0..fleet.routers.len()).map(|router| fleet.backend(router)).collect(),
            gateways: (0..fleet.gateways.len()).map(|gateway| fleet.url(gateway)).collect(),
            habits,
            sending: AtomicBool::new(true),
            receiving: AtomicBool::new(true),
            connections: AtomicU64::new(0),
            told: AtomicUsize::new(0),
            untold: AtomicUsize::new(0),
            on_given_up: AtomicUsize::new(0),
        });
        let (mut senders, mut daemons) = (JoinSet::new(), JoinSet::new());
        for number in 0..habits.orchestrators {
            let token = fleet.token(&name(number)).await;
            senders.spawn(send(shared.clone(), number));
            daemons.spawn(receive(shared.clone(), number, token));
        }
        let load = Load { shared, senders, daemons };
        eventually("the load runs", async || (load.delivered() >= 10 * habits.orchestrators).then_some(())).await;
        load
    }

    pub fn delivered(&self) -> usize {
        self.shared.history.lock().unwrap().judge().delivered
    }

    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Acquire)
    }

    /// Resolves when so many more have been delivered.
    pub async fn more(&self, count: usize) {
        let before = self.delivered();
        eventually("more is delivered", async || (self.delivered() >= before + count).then_some(())).await;
    }

    /// Stops and starts each process of the fleet, one after the other.
    pub async fn while_rolled(&self, fleet: &mut Fleet) {
        for service in fleet.services() {
            self.more(40).await;
            assert_eq!(service.terminate().await, 0, "{} stops in order", service.name);
            service.start().await;
        }
    }

    /// Ends sending; whatever was accepted must then arrive and be acknowledged.
    pub async fn finish(self, fleet: &Fleet) -> Outcome {
        let verdict = self.end(fleet, true).await;
        verdict.verdict.assert_kept();
        verdict
    }

    /// Ends sending. With `all`, waits until everything that was accepted has arrived.
    pub async fn end(mut self, fleet: &Fleet, all: bool) -> Outcome {
        self.shared.sending.store(false, Ordering::Release);
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
        if all {
            let shared = &self.shared;
            eventually("everything arrives", async || {
                (shared.history.lock().unwrap().outstanding() == 0).then_some(())
            })
            .await;
        }
        for number in 0..self.shared.habits.orchestrators {
            let backend = fleet.backend(0);
            // Every look also checks conservation.
            eventually("everything is acknowledged", async || (backend.depth(&name(number)).await == 0).then_some(()))
                .await;
        }
        self.shared.receiving.store(false, Ordering::Release);
        while let Some(ended) = self.daemons.join_next().await {
            ended.unwrap();
        }
        let count = |counter: &AtomicUsize| counter.load(Ordering::Acquire);
        Outcome {
            verdict: self.shared.history.lock().unwrap().judge(),
            connections: self.shared.connections.load(Ordering::Acquire),
            told: count(&self.shared.told),
            untold: count(&self.shared.untold),
            on_given_up: count(&self.shared.on_given_up),
        }
    }
}

/// Sends numbered messages, each until it is answered OK. A router that failed is left alone for a while.
async fn send(shared: Arc<Shared>, number: usize) {
    let mailbox = name(number);
    let mut turn = number;
    let mut message = 0_u64;
    while shared.sending.load(Ordering::Acquire) {
        message += 1;
        let id = format!("m-{message}");
        // By turns, unless one has to be gone around.
        turn += usize::from(message.is_multiple_of(50));
        let at = loop {
            if let Some(at) = attempt(&shared, &mailbox, &id, message, turn).await {
                break at;
            }
            turn += 1;
            tokio::time::sleep(AGAIN).await;
        };
        shared.history.lock().unwrap().note(Seen::Accepted { mailbox: mailbox.clone(), id, at });
        tokio::time::sleep(PACE).await;
    }
}

/// One attempt at one router: where the message stands, if it was accepted.
async fn attempt(shared: &Shared, mailbox: &str, id: &str, message: u64, turn: usize) -> Option<At> {
    let request = RouteMessageRequest { message_id: id.to_owned(), ..Backend::message(mailbox, message) };
    let backend = &shared.backends[turn % shared.backends.len()];
    match tokio::time::timeout(Duration::from_secs(6), backend.try_route(request)).await {
        Ok(Ok(routed)) => {
            let position = routed.position.unwrap();
            let lane = format!("{:?}", position.lane()).to_lowercase();
            return Some(At { epoch: position.epoch, lane, sequence: position.sequence });
        }
        Ok(Err(status)) => {
            let waits = waystation_rpc::retry_after_of(&status).is_some();
            let told = status.code() == Code::Unavailable && waits;
            if told { &shared.told } else { &shared.untold }.fetch_add(1, Ordering::AcqRel);
        }
        Err(_) => drop(shared.untold.fetch_add(1, Ordering::AcqRel)),
    }
    None
}

/// Connects, by turns to each gateway, and acknowledges in small batches.
async fn receive(shared: Arc<Shared>, number: usize, token: String) {
    let mailbox = name(number);
    let mut given_up = JoinSet::new();
    let mut turn = number;
    while shared.receiving.load(Ordering::Acquire) {
        turn += 1;
        let url = &shared.gateways[turn % shared.gateways.len()];
        let Some(mut daemon) = Daemon::try_connect(url, &mailbox, "d1", &token).await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let connection = shared.connections.fetch_add(1, Ordering::AcqRel) + 1;
        if !serve(&shared, &mailbox, connection, &mut daemon).await {
            given_up.spawn(watch(shared.clone(), daemon));
        }
    }
    while given_up.join_next().await.is_some() {}
}

/// Receives until the connection ends; answers false if it only fell silent.
async fn serve(shared: &Shared, mailbox: &str, connection: u64, daemon: &mut Daemon) -> bool {
    let mut unacknowledged: Vec<String> = Vec::new();
    let mut silent = Duration::ZERO;
    let look = Duration::from_millis(30);
    while shared.receiving.load(Ordering::Acquire) {
        match daemon.receive(look).await {
            Received::Frame(event) if event["type"] == "event" => {
                silent = Duration::ZERO;
                let seen = delivered(mailbox, connection, &event["payload"]);
                if let Seen::Delivered { id, .. } = &seen {
                    unacknowledged.push(id.clone());
                }
                shared.history.lock().unwrap().note(seen);
            }
            Received::Frame(_) => silent = Duration::ZERO,
            Received::Closed => return true,
            Received::Nothing => {
                silent += look;
                if silent > shared.habits.patience && shared.sending.load(Ordering::Acquire) {
                    return false;
                }
            }
        }
        if unacknowledged.len() >= 5 || silent > Duration::ZERO && !unacknowledged.is_empty() {
            let ids = std::mem::take(&mut unacknowledged);
            if !daemon.try_send(frame("ack", json!({"eventIds": ids}))).await {
                return true;
            }
            let mut history = shared.history.lock().unwrap();
            for id in ids {
                history.note(Seen::Acknowledged { mailbox: mailbox.to_owned(), id });
            }
        }
    }
    true
}

fn delivered(mailbox: &str, connection: u64, payload: &Value) -> Seen {
    let text = |field: &str| payload[field].as_str().unwrap().to_owned();
    Seen::Delivered {
        mailbox: mailbox.to_owned(),
        connection,
        id: text("eventId"),
        at: At { epoch: text("epoch"), lane: text("lane"), sequence: payload["sequence"].as_u64().unwrap() },
        redelivered: payload["redelivered"].as_bool().unwrap(),
    }
}

/// Nothing may come on a connection whose gateway was stopped for longer than its lease.
async fn watch(shared: Arc<Shared>, mut daemon: Daemon) {
    while shared.receiving.load(Ordering::Acquire) {
        match daemon.receive(Duration::from_millis(200)).await {
            Received::Frame(event) if event["type"] == "event" => {
                shared.on_given_up.fetch_add(1, Ordering::AcqRel);
            }
            Received::Frame(_) | Received::Nothing => {}
            Received::Closed => return,
        }
    }
}
