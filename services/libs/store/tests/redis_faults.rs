//! What a Redis can do to a store, and what the store then says: never a silent loss.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use waystation_domain::{Lane, MessageId};
use waystation_store::conformance::{World, ack};
use waystation_store::mailbox::*;
use waystation_store::{Durability, OpenError, RedisConfig, Store, connect};
use waystation_test_redis::{RedisCluster, RedisOptions, RedisServer};

async fn open(url: &str) -> Store {
    connect(&RedisConfig::of(url), 7).await.unwrap()
}

async fn world(url: &str) -> World {
    World::new(open(url).await)
}

fn server(settings: &[(&'static str, &str)]) -> RedisServer {
    let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    RedisServer::start(RedisOptions { settings, ..RedisOptions::default() })
}

fn persistent(fsync: &'static str) -> RedisServer {
    RedisServer::start(RedisOptions { append_fsync: Some(fsync), ..RedisOptions::default() })
}

async fn refusal(config: RedisConfig) -> String {
    match connect(&config, 7).await {
        Err(OpenError::Unfit(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was taken"),
    }
}

/// Waits until the store answers again; the address is the same, the process another one.
async fn back(world: &World) {
    for _ in 0..200 {
        if world.store.mailboxes.incarnations(world.at()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the store does not come back");
}

#[tokio::test]
async fn a_redis_that_would_lose_mail_is_refused() {
    let evicting = server(&[("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")]);
    assert!(refusal(RedisConfig::of(&evicting.url())).await.contains("allkeys-lru"));
    let volatile = server(&[]);
    let wanted = |durability| RedisConfig { durability, ..RedisConfig::of(&volatile.url()) };
    assert!(refusal(wanted(Durability::PageCache)).await.contains("appendonly"));
    assert!(refusal(wanted(Durability::Replicated)).await.contains("appendonly"));
    let everysec = persistent("everysec");
    let fsync = RedisConfig { durability: Durability::Fsync, ..RedisConfig::of(&everysec.url()) };
    assert!(refusal(fsync).await.contains("appendfsync"));
    let page_cache = RedisConfig { durability: Durability::PageCache, ..RedisConfig::of(&everysec.url()) };
    let store = connect(&page_cache, 7).await.unwrap();
    assert_eq!(store.mailboxes.durability(), Durability::PageCache);
    // One that changes while it is used goes on, and those who run it are told.
    store.mailboxes.judge().await.unwrap();
    everysec.command(&["CONFIG", "SET", "appendonly", "no"]);
    let why = store.mailboxes.judge().await.unwrap_err();
    assert!(why.contains("appendonly"), "{why}");
    assert!(refusal(RedisConfig::of("http://127.0.0.1:1")).await.contains("URL"));
}

#[tokio::test]
async fn another_partition_count_on_the_same_redis_is_refused() {
    let redis = server(&[]);
    let first = open(&redis.url()).await;
    let second = RedisConfig { partitions: 32, ..RedisConfig::of(&redis.url()) };
    let why = refusal(second).await;
    assert!(why.contains("64 partitions") && why.contains("32"), "{why}");
    // One that is running when the count changes under it stops writing too.
    redis.command(&["HSET", "g:{g}:meta", "partitions", "32"]);
    let world = World::new(first);
    world.store.mailboxes.incarnations(world.at()).await.unwrap_err();
    let append = Append { messages: vec![world.message("{}")], liveness: Liveness::default() };
    world.store.mailboxes.append(append, world.at()).await.unwrap_err();
    let zero = RedisConfig { partitions: 0, ..RedisConfig::of(&redis.url()) };
    assert!(refusal(zero).await.contains("partitions"));
}

#[tokio::test]
async fn a_full_redis_refuses_messages_and_takes_acks() {
    let redis = server(&[("maxmemory", "24mb")]);
    let mut world = world(&redis.url()).await;
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let large = Bytes::from(vec![b' '; 190_000]);
    let mut accepted = 0;
    let full = loop {
        let key = MailboxKey { orchestrator: format!("orch-{}", accepted / 5).parse().unwrap(), ..world.key() };
        let mailbox = if accepted < 10 { world.key() } else { key };
        let message = AppendMessage { data: large.clone(), mailbox, ..world.message("") };
        match world.append(message).await {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
        assert!(accepted < 1_000, "24 MB hold less than that");
    };
    assert_eq!(full, AppendRefused::StoreFull);
    // Everything that drains still works.
    let entries = world.read("s1", fence).await.entries;
    assert_eq!(entries.len(), 10);
    for entry in &entries {
        assert_eq!(world.ack(entry.position).await.acknowledged, 1);
    }
    world.gateway("g2").await;
    world.open("s2", "d2").await;
    world.sweep().await;
    assert_eq!(world.view().await.conservation_delta(), 0);
}

#[tokio::test]
async fn a_damaged_mailbox_harms_no_other() {
    let redis = server(&[]);
    let config = RedisConfig { partitions: 1, ..RedisConfig::of(&redis.url()) };
    let world = World::new(connect(&config, 7).await.unwrap());
    let other = MailboxKey { orchestrator: "other".parse().unwrap(), ..world.key() };
    world.fill(Lane::Normal, 2).await;
    // The lane of high messages is something else now: the script fails half-way.
    let foreign = "m:{p0000}:acme/orla:lh";
    redis.command(&["SET", foreign, "not a stream"]);
    let to = |lane, mailbox: &MailboxKey| AppendMessage { lane, mailbox: mailbox.clone(), ..world.message("{}") };
    let messages = vec![
        to(Lane::Normal, &world.key()),
        to(Lane::High, &world.key()),
        to(Lane::Normal, &other),
        to(Lane::Normal, &world.key()),
    ];
    let append = Append { messages, liveness: Liveness::default() };
    let answers = world.store.mailboxes.append(append, world.at()).await.unwrap();
    assert_eq!(answers[1], Err(AppendRefused::Damaged));
    let sequences: Vec<Option<u64>> =
        answers.iter().map(|answer| answer.as_ref().ok().map(|appended| appended.position.sequence)).collect();
    assert_eq!(sequences, [Some(3), None, Some(1), Some(4)]);
    redis.command(&["DEL", foreign]);
    assert_eq!(world.fill(Lane::High, 1).await[0].position.sequence, 1, "nothing was half done");
    assert_eq!(world.view().await.accepted(), 5);
}

#[tokio::test]
async fn a_restart_that_lost_everything_begins_another_epoch() {
    let mut redis = server(&[]);
    let world = world(&redis.url()).await;
    let before = world.fill(Lane::Normal, 3).await;
    redis.restart();
    back(&world).await;
    let after = world.fill(Lane::Normal, 3).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.position.sequence, after.position.sequence, "the sequence begins again …");
        assert_ne!(before.position.epoch, after.position.epoch, "… in another epoch");
    }
}

#[tokio::test]
async fn a_flushed_redis_begins_another_epoch() {
    let redis = server(&[]);
    let world = world(&redis.url()).await;
    let before = world.fill(Lane::Normal, 1).await[0].position;
    redis.command(&["FLUSHALL"]);
    // What was agreed is gone too: this process agrees anew.
    world.store.mailboxes.incarnations(world.at()).await.unwrap();
    let after = world.fill(Lane::Normal, 1).await[0].position;
    assert_eq!(before.sequence, after.sequence);
    assert_ne!(before.epoch, after.epoch);
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again() {
    let redis = server(&[]);
    let world = world(&redis.url()).await;
    let before = world.fill(Lane::Normal, 1).await[0].position;
    redis.command(&["SCRIPT", "FLUSH"]);
    let after = world.fill(Lane::Normal, 1).await[0].position;
    assert_eq!((after.sequence, after.epoch), (2, before.epoch));
}

#[tokio::test]
async fn a_new_replication_id_is_a_new_epoch() {
    let redis = server(&[]);
    let mut world = world(&redis.url()).await;
    let old = world.fill(Lane::Normal, 2).await[0].position;
    redis.command(&["DEBUG", "CHANGE-REPL-ID"]);
    let new = world.fill(Lane::Normal, 1).await[0].position;
    assert_ne!(old.epoch, new.epoch);
    assert_eq!(new.sequence, 3, "sequences continue");
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let read = world.read("s1", fence).await;
    let epochs: Vec<_> = read.entries.iter().map(|entry| entry.position.epoch).collect();
    assert_eq!(epochs, [old.epoch, old.epoch, new.epoch], "each entry keeps the epoch that owns it");
    assert_eq!(read.epoch, new.epoch);
    assert_eq!(world.ack(old).await.acknowledged, 1);
    assert_eq!(world.state(&MessageId::composed(old)).await, MessageState::Acknowledged);
}

#[tokio::test]
async fn with_append_fsync_always_a_killed_redis_has_lost_nothing() {
    let mut redis = persistent("always");
    let mut world = world(&redis.url()).await;
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    for _ in 0..50 {
        world.fill(Lane::Normal, 1).await;
    }
    world.read("s1", fence).await;
    let settled = world.fill(Lane::High, 1).await[0].position;
    let before = world.view().await;
    redis.restart();
    back(&world).await;
    assert_eq!(MailboxView { epoch: before.epoch, ..world.view().await }, before);
    let told = world.compare(world.report("s1")).await.results[0].unwrap();
    assert_ne!(Some(told.epoch), before.epoch, "a session learns of it without any message");
    let again = world.fill(Lane::Normal, 1).await[0].position;
    assert_eq!(again.sequence, 51);
    assert_ne!(Some(again.epoch), before.epoch, "nobody can know that nothing was lost");
    assert_eq!(
        world.settle(Settlement { acks: vec![ack(settled)], ..world.settlement("s1", fence) }).await.acknowledged,
        1
    );
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_unknown_outcome_and_comes_back() {
    let mut redis = persistent("always");
    let world = world(&redis.url()).await;
    world.append(world.named("order-1", "{}")).await.unwrap();
    redis.kill();
    let append = Append { messages: vec![world.named("order-1", "{}")], liveness: Liveness::default() };
    world.store.mailboxes.append(append, world.at()).await.unwrap_err();
    redis.restart();
    back(&world).await;
    assert!(world.append(world.named("order-1", "{}")).await.unwrap().duplicate, "a repeat is one entry");
    let appends = world.store.mailboxes.calls().into_iter().find(|calls| calls.operation == "append").unwrap();
    assert_eq!((appends.count, appends.failed), (3, 1));
    assert!(appends.took > Duration::ZERO);
}

#[tokio::test]
async fn a_store_opens_before_its_redis_does() {
    let mut redis = persistent("everysec");
    redis.kill();
    let world = world(&redis.url()).await;
    world.store.mailboxes.totals().await.unwrap_err();
    redis.restart();
    back(&world).await;
    world.fill(Lane::Normal, 1).await;
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let mut cluster = RedisCluster::start();
    let world = World::new(open(&cluster.url()).await);
    world.fill(Lane::Normal, 3).await;
    let slot = |node: &RedisServer, key: &str| -> u16 {
        redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut node.connect()).unwrap()
    };
    let partition = crc32c_partition("acme/orla");
    let slot = slot(&cluster.nodes()[0], &partition);
    let from = usize::from(slot / 5461).min(2);
    cluster.move_slot(slot, from, (from + 1) % 3);
    let appended = world.fill(Lane::Normal, 1).await[0].clone();
    assert_eq!(appended.position.sequence, 4);
    assert_eq!(world.view().await.lanes[Lane::Normal].depth, 4);
}

#[tokio::test]
async fn a_dead_master_of_a_cluster_stops_only_its_partitions() {
    let mut cluster = RedisCluster::start();
    for node in cluster.nodes() {
        node.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let world = World::new(open(&cluster.url()).await);
    let key = |number: usize| MailboxKey { orchestrator: format!("orch-{number}").parse().unwrap(), ..world.key() };
    let try_all = async || {
        let mut accepted = 0;
        for number in 0..24 {
            let messages = vec![AppendMessage { mailbox: key(number), ..world.message("{}") }];
            let append = Append { messages, liveness: Liveness::default() };
            accepted += usize::from(world.store.mailboxes.append(append, world.at()).await.is_ok());
        }
        accepted
    };
    assert_eq!(try_all().await, 24);
    cluster.nodes()[2].kill();
    let accepted = try_all().await;
    assert!((6..24).contains(&accepted), "{accepted} of 24");
    cluster.nodes()[2].restart();
    for _ in 0..200 {
        if try_all().await == 24 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the partitions of the restarted master do not come back");
}

/// The key that stands for the partition of a mailbox.
fn crc32c_partition(name: &str) -> String {
    format!("m:{{p{:04}}}", crc32c::crc32c(name.as_bytes()) % 64)
}
