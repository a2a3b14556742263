//! `make bench`: figures measured by plain clients against the real binary, over each store in turn.
//!
//! What one unit is: a *message* is routed by a unary RouteMessage (or in a batch of RouteMessages), delivered
//! over a WebSocket and acknowledged. Latency counts from the moment at which a message should have been sent,
//! so a stall of the server is not hidden.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod clients;
mod doors;
mod feeds;
mod scenarios;
mod scripts;
mod sdk;
mod tasks;
mod usage;

use clients::{Kept, Server};

const ROUNDS: usize = 3;

/// Median, lowest and highest of the rounds.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    if values.iter().any(|value| value.is_nan()) {
        return "not counted".to_owned();
    }
    let (low, median, high) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    format!("{median:.1} ({low:.1} … {high:.1})")
}

async fn rounds<const N: usize>(names: [&str; N], mut scenario: impl AsyncFnMut(Server) -> [f64; N]) {
    let mut columns: [[Vec<f64>; 2]; N] = std::array::from_fn(|_| Default::default());
    for _ in 0..ROUNDS {
        for (store, kept) in [Kept::Journal, Kept::Redis].into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let server = Server::start(dir.path(), kept).await;
            let found = scenario(server).await;
            columns.iter_mut().zip(found).for_each(|(column, value)| column[store].push(value));
        }
    }
    for (name, [journal, redis]) in names.iter().zip(columns) {
        println!("| {name} | {} | {} |", spread(journal), spread(redis));
    }
}

/// Scenarios of a fleet, which always has a Redis.
async fn fleets<const N: usize>(names: [&str; N], mut scenario: impl AsyncFnMut() -> [f64; N]) {
    let mut columns: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..ROUNDS {
        let found = scenario().await;
        columns.iter_mut().zip(found).for_each(|(column, value)| column.push(value));
    }
    for (name, values) in names.iter().zip(columns) {
        println!("| {name} | | {} |", spread(values));
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    // `cargo bench` passes `--bench`; a word chooses scenarios.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|word| name.contains(word.as_str()));
    eprintln!("server and client share this machine's cores; {ROUNDS} rounds");
    if wanted("scripts") {
        scripts::table().await;
    }
    println!("| figure: median (lowest … highest) | embedded, journal | Redis, everysec |\n|---|---|---|");
    if wanted("idle") {
        let names = ["idle memory per connection of 10,000, KiB", "connections opened per second"];
        rounds(names, scenarios::idle).await;
    }
    if wanted("saturated") {
        let names = ["unary, routed and acknowledged per second", "per second of server CPU"];
        rounds(names, |server| scenarios::saturated(server, false)).await;
        let names = ["streams, routed and acknowledged per second", "per second of server CPU"];
        rounds(names, |server| scenarios::saturated(server, true)).await;
    }
    if wanted("steady") {
        let names = ["delivery at 5,000 a second, p50 µs", "delivery at 5,000 a second, p99 µs"];
        rounds(names, scenarios::steady).await;
    }
    if wanted("replay") {
        let names = ["replay of 10,000 over ten orchestrators, per second", "first message after, ms"];
        rounds(names, scenarios::replay).await;
    }
    if wanted("fanout") {
        for window in [1, 8] {
            let names =
                [&*format!("fan-out to 1,000, {window} under way, deliveries per second"), "per second of server CPU"];
            rounds(names, |server| feeds::fanout(server, window)).await;
        }
    }
    if wanted("frozen") {
        let names = ["a reader that never reads, of 1,000, KiB", "while so many MiB are published"];
        rounds(names, feeds::frozen).await;
    }
    if wanted("told") {
        let names = ["20 events a second to 1,000, p50 µs", "p99 µs", "p99.9 µs"];
        rounds(names, feeds::told).await;
    }
    if wanted("fleet") {
        let names = [
            "10,000 subscribers on 5 gateways: CPU of all processes for a delivery, µs",
            "until all have an event, ms",
            "memory of all processes for a subscriber, KiB",
        ];
        fleets(names, feeds::wide).await;
        let names = [
            "10,000 organizations with one subscriber each: CPU of all processes for an event, µs",
            "events published and delivered per second",
            "memory of all processes for an organization with its subscriber, KiB",
        ];
        fleets(names, feeds::many).await;
    }
    if wanted("tasks") {
        for among in [100, 10_000] {
            let [usual, dearest] = tasks::chosen(among);
            println!(
                "| a choice among {among} who could do it, p99 µs: power-of-two, weighted | {usual:.1}, {dearest:.1} | |"
            );
        }
        let names = ["tasks handed on, accepted and done by 4, per second", "CPU of the server for each, µs"];
        rounds(names, tasks::delegated).await;
        let names = [
            "memory of the server for each of 10,000 registered, KiB",
            "DelegateTask with 4 registered, p99 µs",
            "with 10,004 registered, p99 µs",
        ];
        rounds(names, tasks::registered).await;
    }
    if wanted("sdk") {
        for (name, program) in sdk::programs() {
            let mut columns: [Vec<f64>; 3] = Default::default();
            for _ in 0..ROUNDS {
                let found = sdk::received(&program).await;
                columns.iter_mut().zip(found).for_each(|(column, value)| column.push(value));
            }
            let [rate, by_cpu, allocations] = columns.map(spread);
            println!(
                "| client {name}: messages received and acknowledged per second, per second of its CPU, allocations of each | {rate}, {by_cpu}, {allocations} | |"
            );
        }
    }
    if wanted("validate") {
        let names = ["ValidateToken per second, 64 at once", "ValidateToken, p99 µs"];
        rounds(names, doors::validate).await;
    }
    if wanted("logins") {
        let names = ["logins (IssueToken) per second, 64 at once", "logins, p99 µs"];
        rounds(names, doors::logins).await;
    }
    if wanted("storm") {
        let names = ["10,000 daemons back after all was dropped, s", "CPU of the server for each, µs"];
        rounds(names, doors::storm).await;
    }
    if wanted("neighbours") {
        let names = [
            "RouteMessage of one tenant alone, p99 µs",
            "beside one that floods its limit, p99 µs",
            "beside one whose flood expires after 1 s, p99 µs",
        ];
        rounds(names, doors::neighbours).await;
    }
}
