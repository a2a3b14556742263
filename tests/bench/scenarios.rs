//! What is measured.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use waystation_proto::router::v1::{RouteMessageRequest, RouteMessagesRequest};

use crate::clients::{Receiver, Server, drained, number_of, payload};
use crate::usage::{cpu_seconds, resident_kib};

const IDLE: usize = 10_000;
/// Senders, each with a receiver of its own, and messages that each has in flight.
const PAIRS: usize = 16;
const WINDOW: u64 = 64;
const SATURATED_EACH: u64 = 4_000;
const STEADY_RATE: u64 = 5_000;
const STEADY_SECONDS: u64 = 8;
const REPLAYED: u64 = 1_000;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("orla-{n}")).collect()
}

fn message(orchestrator: &str, number: u64) -> RouteMessageRequest {
    RouteMessageRequest {
        orchestrator_id: orchestrator.to_owned(),
        data: payload(number).into(),
        ..RouteMessageRequest::default()
    }
}

/// KiB per connection, and connections per second.
pub async fn idle(server: Server) -> [f64; 2] {
    let server = &server;
    let names = names(IDLE);
    let tokens = server.tokens(&names).await;
    let before = resident_kib(&server.pids());
    let begun = Instant::now();
    let mut open = Vec::new();
    for chunk in names.iter().zip(&tokens).collect::<Vec<_>>().chunks(64) {
        let opening = chunk.iter().map(|(name, token)| Receiver::connect(server, name, token));
        open.extend(futures_util::future::join_all(opening).await);
    }
    let seconds = begun.elapsed().as_secs_f64();
    // What the openings needed only for a moment is given back.
    sleep(Duration::from_secs(3)).await;
    let after = resident_kib(&server.pids());
    let kib = (after - before) / IDLE as f64;
    drop(open);
    [kib, IDLE as f64 / seconds]
}

async fn receive(mut receiver: Receiver, count: u64) {
    let mut seen = Vec::new();
    let mut next = 0;
    while next < count {
        receiver.take(&mut seen).await;
        for text in seen.drain(..) {
            assert_eq!(number_of(&text), next, "in order, each once");
            next += 1;
        }
    }
}

async fn send_unary(backend: waystation_tests::Backend, orchestrator: String, count: u64) {
    // One after the other keeps the order; many pairs keep the server busy.
    for number in 0..count {
        while backend.try_route(message(&orchestrator, number)).await.is_err() {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn send_stream(mut backend: waystation_tests::Backend, orchestrator: String, count: u64) {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let feeding = async move {
        for first in (0..count).step_by(16) {
            let messages = (first..count.min(first + 16)).map(|number| message(&orchestrator, number)).collect();
            sender.send(RouteMessagesRequest { messages }).await.unwrap();
        }
    };
    let answered = async {
        let mut answers = backend.router.route_messages(stream).await.unwrap().into_inner();
        let mut accepted = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            accepted += answer.results.len() as u64;
        }
        assert_eq!(accepted, count);
    };
    tokio::join!(feeding, answered);
}

/// Messages per second, and per second of server CPU.
pub async fn saturated(server: Server, streams: bool) -> [f64; 2] {
    let server = &server;
    let names = names(PAIRS);
    let tokens = server.tokens(&names).await;
    let mut tasks = JoinSet::new();
    let (begun, cpu) = (Instant::now(), cpu_seconds(&server.pids()));
    // A stream has more in flight than a mailbox holds unless its receiver keeps up: fewer messages each.
    let each = if streams { 960 } else { SATURATED_EACH };
    for (name, token) in names.iter().zip(&tokens) {
        let receiver = Receiver::connect(server, name, token).await;
        tasks.spawn(receive(receiver, each));
        let backend = server.backend();
        match streams {
            true => tasks.spawn(send_stream(backend, name.clone(), each)),
            false => tasks.spawn(send_unary(backend, name.clone(), each)),
        };
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let backend = server.backend();
    for name in &names {
        drained(&backend, name).await;
    }
    let total = (PAIRS as u64 * each) as f64;
    let seconds = begun.elapsed().as_secs_f64();
    [total / seconds, total / (cpu_seconds(&server.pids()) - cpu)]
}

/// Gives the senders their turns, one after the other, from a thread: timers of the runtime are too coarse.
fn pace(begin: Instant, gap: Duration, each: u64) -> Vec<mpsc::Receiver<u64>> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..PAIRS).map(|_| mpsc::channel(4_096)).unzip();
    std::thread::spawn(move || {
        let turns = (0..each).flat_map(|number| senders.iter().map(move |sender| (number, sender)));
        for (turn, (number, sender)) in (0..).zip(turns) {
            std::thread::sleep((begin + gap * turn).saturating_duration_since(Instant::now()));
            sender.blocking_send(number).unwrap();
        }
    });
    receivers
}

/// p50 and p99 of a delivery, in µs, at a steady rate over sixteen pairs.
pub async fn steady(server: Server) -> [f64; 2] {
    let server = &server;
    let names = names(PAIRS);
    let tokens = server.tokens(&names).await;
    let each = STEADY_RATE * STEADY_SECONDS / PAIRS as u64;
    let gap = Duration::from_secs_f64(PAIRS as f64 / STEADY_RATE as f64);
    let begin = Instant::now() + Duration::from_millis(500);
    let mut pace = pace(begin, gap / u32::try_from(PAIRS).unwrap(), each).into_iter();
    let mut tasks: JoinSet<Option<Histogram<u64>>> = JoinSet::new();
    for (index, (name, token)) in names.iter().zip(&tokens).enumerate() {
        let mut receiver = Receiver::connect(server, name, token).await;
        // Senders take turns.
        let begin = begin + gap * u32::try_from(index).unwrap() / u32::try_from(PAIRS).unwrap();
        let due = move |number: u64| begin + gap * u32::try_from(number).unwrap();
        tasks.spawn(async move {
            let mut latencies = Histogram::new(3).unwrap();
            let mut seen = Vec::new();
            while latencies.len() < each {
                receiver.take(&mut seen).await;
                let now = Instant::now();
                for text in seen.drain(..) {
                    let late = now.saturating_duration_since(due(number_of(&text)));
                    latencies.record(u64::try_from(late.as_micros()).unwrap().max(1)).unwrap();
                }
            }
            Some(latencies)
        });
        let (backend, name) = (server.backend(), name.clone());
        let mut turns = pace.next().unwrap();
        tasks.spawn(async move {
            let mut calls = JoinSet::new();
            while let Some(number) = turns.recv().await {
                let (backend, message) = (backend.clone(), message(&name, number));
                calls.spawn(async move { backend.try_route(message).await.unwrap() });
                if calls.len() as u64 > WINDOW {
                    calls.join_next().await;
                }
            }
            calls.join_all().await;
            None
        });
    }
    let mut all: Histogram<u64> = Histogram::new(3).unwrap();
    while let Some(done) = tasks.join_next().await {
        if let Some(latencies) = done.unwrap() {
            all.add(latencies).unwrap();
        }
    }
    [all.value_at_quantile(0.5) as f64, all.value_at_quantile(0.99) as f64]
}

/// Messages per second of a replay, and milliseconds until the first one.
pub async fn replay(server: Server) -> [f64; 2] {
    let server = &server;
    let names = names(10);
    let tokens = server.tokens(&names).await;
    let mut filling = JoinSet::new();
    for name in &names {
        filling.spawn(send_stream(server.backend(), name.clone(), REPLAYED));
    }
    filling.join_all().await;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    let mut first = f64::MAX;
    for (name, token) in names.iter().zip(&tokens) {
        let asked = Instant::now();
        let mut receiver = Receiver::connect(server, name, token).await;
        let mut seen = Vec::new();
        while seen.is_empty() {
            receiver.take(&mut seen).await;
        }
        first = first.min(asked.elapsed().as_secs_f64() * 1e3);
        tasks.spawn(async move {
            while (seen.len() as u64) < REPLAYED {
                receiver.take(&mut seen).await;
            }
            assert!(seen.iter().map(|text| number_of(text)).eq(0..REPLAYED), "in order, each once");
        });
    }
    tasks.join_all().await;
    [(10 * REPLAYED) as f64 / begun.elapsed().as_secs_f64(), first]
}
