//! What docs/operations.md says of backups, done.

use waystation_test_redis::RedisServer;
use waystation_tests::kept::Kept;
use waystation_tests::{Backend, Daemon, Fleet, eventually};

fn only(kept: &mut Kept) -> &mut RedisServer {
    match kept {
        Kept::One(redis) => redis,
        Kept::Trio(_) => unreachable!("the fleet has one"),
    }
}

fn numbers(events: &[serde_json::Value]) -> Vec<u64> {
    events.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_redis_is_a_backup() {
    let mut fleet = Fleet::start().await;
    let backend = Backend::new(&fleet.dev(0, 0));
    let token = fleet.token("orla").await;
    let mut receiver = Daemon::connect(&fleet.url(0), "orla", "d1", &token).await;
    for number in 1..=3 {
        backend.route("orla", number).await;
    }
    let events = receiver.events(3).await;
    receiver.ack(&events[..1]).await;
    eventually("one is acknowledged", async || (backend.depth("orla").await == 2).then_some(())).await;
    let before = backend.mailbox("orla").await.epoch;
    let copy = only(&mut fleet.redis).back_up();
    // What happens from here on is not in the copy.
    receiver.ack(&events[1..]).await;
    backend.route("orla", 4).await;
    let last = receiver.events(1).await;
    receiver.ack(&last).await;
    eventually("all is acknowledged", async || (backend.depth("orla").await == 0).then_some(())).await;

    for service in fleet.routers.iter_mut().chain(&mut fleet.auths) {
        assert_eq!(service.terminate().await, 0);
    }
    only(&mut fleet.redis).restore(copy.path());
    for service in fleet.auths.iter_mut().chain(&mut fleet.routers) {
        service.start().await;
    }
    // On the same socket: what the copy holds comes once more, and says so.
    let again = receiver.events(2).await;
    assert_eq!(numbers(&again), [2, 3]);
    assert!(again.iter().all(|event| event["redelivered"] == true), "{again:?}");
    let backend = Backend::new(&fleet.dev(0, 0));
    let mailbox = backend.mailbox("orla").await;
    assert_ne!(mailbox.epoch, before, "positions of the time after the copy are not given twice");
    receiver.ack(&again).await;
    backend.route("orla", 5).await;
    let next = receiver.events(1).await;
    assert_eq!(numbers(&next), [5]);
    receiver.ack(&next).await;
    eventually("all is acknowledged", async || (backend.depth("orla").await == 0).then_some(())).await;
    let counters = backend.mailbox("orla").await.counters.unwrap();
    assert_eq!((counters.accepted, counters.acknowledged), (4, 4), "the books balance");
    // Whoever logs in anew can: keys and logins are in the copy.
    let token = fleet.token("orla").await;
    Daemon::connect(&fleet.url(1), "orla", "d2", &token).await;
}
