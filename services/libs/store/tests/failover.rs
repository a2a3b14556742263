//! A master that is replaced by its sentinels while messages are written.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use waystation_domain::Position;
use waystation_store::conformance::World;
use waystation_store::mailbox::*;
use waystation_store::{Durability, RedisConfig, Store, connect};
use waystation_test_redis::{MASTER, RedisTrio};

const PATIENCE: Duration = Duration::from_secs(60);
const WRITERS: usize = 8;
/// A master that refuses to write alone.
const CAREFUL: [(&str, &str); 2] = [("min-replicas-to-write", "1"), ("min-replicas-max-lag", "10")];

fn watched(trio: &RedisTrio, durability: Durability) -> RedisConfig {
    RedisConfig { urls: trio.urls(), sentinel_master: Some(MASTER.to_owned()), durability, ..RedisConfig::default() }
}

/// What was answered: id and position.
type Answered = Vec<(String, Position)>;

/// Writes one message after the other, each under its id until it is answered, until it is told to stop.
async fn write(store: Store, number: usize, count: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> Answered {
    let world = World::new(store.clone());
    let mut answered = Answered::new();
    let limits = MailboxLimits { entries: 100_000, ..MailboxLimits::default() };
    while !stop.load(Ordering::Relaxed) {
        let id = format!("w{number}-{}", answered.len());
        let give_up = Instant::now() + PATIENCE;
        loop {
            let message = AppendMessage { limits, ..world.named(&id, "{}") };
            let append = Append { messages: vec![message], liveness: Liveness::default() };
            match store.mailboxes.append(append, world.at()).await {
                Ok(answers) => {
                    answered.push((id, answers[0].as_ref().unwrap().position));
                    break;
                }
                Err(unavailable) => assert!(Instant::now() < give_up, "{unavailable}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    answered
}

async fn more(count: &AtomicUsize, number: usize) {
    let number = number + count.load(Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    while count.load(Ordering::Relaxed) < number {
        assert!(Instant::now() < until, "{} of {number}", count.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How a master ends.
#[derive(Clone, Copy)]
enum End {
    /// kill -9 while its replicas have not heard of it for a while; it comes back as one of them.
    Ahead,
    /// It stands still, and goes on as if it were the master still, with what writers had sent it.
    Stop,
}

/// What was answered before, during and after a failover, and what is there then.
async fn fail_over(trio: &mut RedisTrio, durability: Durability, end: End) -> (Answered, World) {
    let store = connect(&watched(trio, durability), 7).await.unwrap();
    let (count, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(write(store.clone(), number, count.clone(), stop.clone()));
    }
    more(&count, 100).await;
    let first = trio.master();
    match end {
        End::Ahead => {
            let others = [(first + 1) % 3, (first + 2) % 3];
            for replica in others {
                trio.servers()[replica].pause();
            }
            trio.servers()[first].command(&["CLIENT", "KILL", "TYPE", "replica"]);
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            trio.servers()[first].kill();
            for replica in others {
                trio.servers()[replica].resume();
            }
        }
        End::Stop => trio.servers()[first].pause(),
    }
    let second = trio.await_another(first);
    more(&count, 100).await;
    match end {
        End::Ahead => trio.servers()[first].restart(),
        End::Stop => trio.servers()[first].resume(),
    }
    more(&count, 100).await;
    stop.store(true, Ordering::Relaxed);
    let mut answered = Answered::new();
    while let Some(written) = writers.join_next().await {
        answered.extend(written.unwrap());
    }
    assert_eq!(trio.master(), second);
    (answered, World::new(store))
}

/// R11: a position is never given to two messages, whatever was lost.
fn check_positions(answered: &Answered) {
    let mut ids: HashMap<Position, &String> = HashMap::new();
    for (id, position) in answered {
        assert_eq!(ids.insert(*position, id), None, "{position:?} was given twice");
    }
    let epochs: std::collections::HashSet<_> = answered.iter().map(|(_, position)| position.epoch).collect();
    assert!(epochs.len() > 1, "the new master is another epoch");
}

/// How many of the answered messages are not there.
async fn lost(answered: &Answered, world: &World) -> usize {
    let mut lost = 0;
    for (id, _) in answered {
        let found = world.store.mailboxes.message(&world.key(), &world.named(id, "").id.unwrap(), world.at()).await;
        lost += usize::from(matches!(found.unwrap().state, MessageState::Unknown));
    }
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replicas_must_have_is_not_lost_when_the_master_goes() {
    for end in [End::Ahead, End::Stop] {
        let mut trio = RedisTrio::start(&CAREFUL);
        let (answered, world) = fail_over(&mut trio, Durability::Replicated, end).await;
        assert_eq!(world.store.mailboxes.durability(), Durability::Replicated);
        check_positions(&answered);
        assert_eq!(lost(&answered, &world).await, 0, "of {}", answered.len());
        assert_eq!(world.view().await.conservation_delta(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_replica_had_is_lost_and_its_positions_are_never_given_again() {
    let mut trio = RedisTrio::start(&[]);
    let (answered, world) = fail_over(&mut trio, Durability::PageCache, End::Ahead).await;
    check_positions(&answered);
    assert!(lost(&answered, &world).await > 0, "the other test could not fail");
    assert_eq!(world.view().await.conservation_delta(), 0);
}

#[tokio::test]
async fn a_master_that_would_write_alone_is_refused() {
    let trio = RedisTrio::start(&[]);
    let refused = connect(&watched(&trio, Durability::Replicated), 7).await.err().unwrap().to_string();
    assert!(refused.contains("min-replicas-to-write"), "{refused}");
}

#[tokio::test]
async fn without_replicas_nothing_is_answered_until_they_are_back() {
    let mut trio = RedisTrio::start(&CAREFUL);
    let world = World::new(connect(&watched(&trio, Durability::Replicated), 7).await.unwrap());
    world.fill(waystation_domain::Lane::Normal, 1).await;
    for replica in 1..3 {
        trio.servers()[replica].pause();
    }
    let append = || Append { messages: vec![world.named("order-1", "{}")], liveness: Liveness::default() };
    world.store.mailboxes.append(append(), world.at()).await.unwrap_err();
    for replica in 1..3 {
        trio.servers()[replica].resume();
    }
    let until = Instant::now() + PATIENCE;
    while let Err(unavailable) = world.store.mailboxes.append(append(), world.at()).await {
        assert!(Instant::now() < until, "{unavailable}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.view().await.lanes[waystation_domain::Lane::Normal].depth, 2, "the repeat made no copy");
}

#[tokio::test]
async fn sentinels_that_know_no_such_master_are_an_outage_and_no_crash() {
    let trio = RedisTrio::start(&[]);
    let config = RedisConfig { sentinel_master: Some("another".to_owned()), ..watched(&trio, Durability::PageCache) };
    let store = connect(&config, 7).await.unwrap();
    store.mailboxes.totals().await.unwrap_err();
}
