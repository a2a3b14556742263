//! What the journal promises: the same state after a crash, a clear refusal when it is damaged.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use waystation_domain::{Lane, PerLane};
use waystation_store::conformance::{World, ack, nack};
use waystation_store::credential::*;
use waystation_store::feed::*;
use waystation_store::mailbox::*;
use waystation_store::{Config, OpenError, open};

fn config(dir: &Path) -> Config {
    Config::Journal { dir: dir.into(), fsync: false, file_bytes: 1 << 20 }
}

fn world(dir: &Path, generation: u64) -> World {
    World::new(open(&config(dir), generation).unwrap())
}

fn newest(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("journal.")).max().unwrap()
}

#[tokio::test]
async fn mail_and_epoch_survive_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let before = world(dir.path(), 1);
    before.fill(Lane::Normal, 10).await;
    before.append(before.named("order-1", "{}")).await.unwrap();
    let view = before.view().await;
    drop(before);
    let mut after = world(dir.path(), 2);
    assert_eq!(after.view().await, view, "another generation is offered and not taken");
    assert!(after.append(after.named("order-1", "{}")).await.unwrap().duplicate);
    let fence = after.open("s1", "d1").await.activation.unwrap().fence;
    assert_eq!(after.read("s1", fence).await.entries.len(), 11);
}

#[tokio::test]
async fn what_operators_changed_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = world(dir.path(), 1);
    let (store, now) = (before.store.credentials.clone(), before.at());
    let tenant: waystation_domain::OrganizationId = "acme".parse().unwrap();
    let orchestrator = "orla".parse().unwrap();
    let organization =
        Organization { id: tenant.clone(), name: "Acme".into(), slug: "acme".into(), auto_create_orchestrators: true };
    store.create_organization(organization, now).await.unwrap();
    let settings = OrganizationSettings { sessions: Some(2), ..OrganizationSettings::default() };
    assert!(store.set_settings(&tenant, settings.clone(), now).await.unwrap());
    assert!(store.set_orchestrator_status(&tenant, &orchestrator, OrchestratorStatus::Disabled, now).await.unwrap());
    let key = |id: &str, lead| NewSigningKey {
        id: id.into(),
        algorithm: waystation_domain::SigningAlgorithm::Es256,
        seed: [7; 32],
        lead: Duration::from_secs(lead),
        retiring: Duration::ZERO,
    };
    store.first_signing_key(key("k1", 0), now).await.unwrap();
    assert!(store.rotate_signing_key(key("k2", 9), now).await.unwrap());
    assert!(!store.rotate_signing_key(key("k3", 9), now).await.unwrap());
    let keys = store.signing_keys().await.unwrap();
    // A message that is rejected, and forgotten.
    before.fill(Lane::Normal, 1).await;
    let fence = before.open("s1", "d1").await.activation.unwrap().fence;
    let entry = before.read("s1", fence).await.entries.remove(0);
    let rejects = vec![Reject { position: entry.position, reason: "no".into() }];
    before.settle(Settlement { rejects, ..before.settlement("s1", fence) }).await;
    let letter = before.store.mailboxes.dead_letters(&before.key(), 0, 9, now).await.unwrap().remove(0);
    let forget = ForgetDeadLetters { mailbox: before.key(), numbers: vec![letter.number] };
    assert_eq!(before.store.mailboxes.forget_dead_letters(forget, now).await.unwrap(), 1);
    drop((before, store));

    let after = world(dir.path(), 2);
    let subject = after.store.credentials.subject(&tenant, &orchestrator).await.unwrap();
    assert_eq!((subject.settings, subject.state.status), (settings, OrchestratorStatus::Disabled));
    assert_eq!(after.store.credentials.signing_keys().await.unwrap(), keys);
    assert!(after.store.mailboxes.dead_letters(&after.key(), 0, 9, after.at()).await.unwrap().is_empty());
}

#[tokio::test]
async fn feeds_survive_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let event = |id: &str| NewEvent {
        id: Some(waystation_domain::MessageId::from_caller(id).unwrap()),
        event_type: "invoice.paid".parse().unwrap(),
        channel: None,
        trace: None,
        sender: None,
        audience: Audience::default(),
        data: "{}".into(),
    };
    let publish = |id| Publish {
        organization: "acme".parse().unwrap(),
        events: vec![event(id)],
        retention: Retention::default(),
        gone: Vec::new(),
    };
    let interest = Interest {
        incarnation: "g1".parse().unwrap(),
        address: "http://g1".into(),
        organizations: vec![("acme".parse().unwrap(), true)],
    };
    let before = world(dir.path(), 1);
    let first = before.store.feeds.publish(publish("a"), before.at()).await.unwrap();
    before.store.feeds.set_interest(interest, before.at()).await.unwrap();
    let read = ReadFeed { organization: "acme".parse().unwrap(), after: 0, most: 9, bytes: 99 };
    let piece = before.store.feeds.read_feed(read.clone(), before.at()).await.unwrap();
    drop(before);
    let mut after = world(dir.path(), 2);
    assert_eq!(after.store.feeds.read_feed(read.clone(), after.at()).await.unwrap(), piece);
    let again = after.store.feeds.publish(publish("a"), after.at()).await.unwrap();
    let known = again.outcomes[0].unwrap();
    assert_eq!((known.duplicate, known.position), (true, first.outcomes[0].unwrap().position));
    assert_eq!(again.interested.len(), 1);
    after.pass(Duration::from_secs(25 * 3600));
    assert_eq!(after.store.feeds.sweep_feeds(after.at()).await.unwrap(), 1);
    drop(after);
    let third = world(dir.path(), 3);
    let extent = third.store.feeds.read_feed(read, third.at()).await.unwrap().extent;
    assert_eq!((extent.head, extent.floor, extent.epochs.len()), (1, 1, 1));
}

#[tokio::test]
async fn sessions_of_the_process_that_died_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let before = world(dir.path(), 1);
    before.open("s1", "d1").await;
    drop(before);
    let after = world(dir.path(), 2);
    let gone = after.store.mailboxes.incarnations(after.at()).await.unwrap();
    assert!(gone[0].gone);
    after.sweep().await;
    assert_eq!(after.presence().await, Presence::Reconnecting);
    drop(after);
    world(dir.path(), 3);
}

#[tokio::test]
async fn without_a_journal_each_life_has_an_epoch_of_its_own() {
    let epoch = async |generation| {
        let world = World::new(open(&Config::Memory, generation).unwrap());
        world.fill(Lane::Normal, 1).await;
        world.view().await.epoch
    };
    assert_ne!(epoch(1).await, epoch(2).await);
}

#[tokio::test]
async fn after_a_reboot_the_epoch_is_new_unless_the_disk_had_everything() {
    for fsync in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::Journal { dir: dir.path().into(), fsync, file_bytes: 1 << 20 };
        let before = World::new(open(&config, 1).unwrap());
        before.fill(Lane::Normal, 1).await;
        let epoch = before.view().await.epoch;
        drop(before);
        let path = newest(dir.path());
        let mut bytes = fs::read(&path).unwrap();
        bytes[8..44].copy_from_slice(&[b'x'; 36]);
        fs::write(&path, bytes).unwrap();
        let after = World::new(open(&config, 2).unwrap());
        after.fill(Lane::Normal, 1).await;
        assert_eq!(after.view().await.epoch == epoch, fsync);
        assert_eq!(after.view().await.accepted(), 2, "sequences continue");
    }
}

#[tokio::test]
async fn a_half_written_tail_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let before = world(dir.path(), 1);
    before.fill(Lane::Normal, 3).await;
    before.fill(Lane::High, 1).await;
    drop(before);
    let path = newest(dir.path());
    let length = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 5).unwrap();
    let after = world(dir.path(), 2);
    assert_eq!(after.view().await.accepted(), 3, "the last record was not whole, so it was never answered");
}

#[tokio::test]
async fn damage_in_the_middle_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let before = world(dir.path(), 1);
    for _ in 0..3 {
        before.fill(Lane::Normal, 1).await;
    }
    drop(before);
    let path = newest(dir.path());
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let records: Vec<usize> = (0..whole.len()).filter(|at| whole[*at..].starts_with(b"\xd7WSr")).collect();
    let last_but_one = records[records.len() - 2];
    damaged[last_but_one + 20] ^= 0xff;
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(open(&config(dir.path()), 2), Err(OpenError::Damaged { .. })));
    assert_eq!(fs::read(&path).unwrap(), damaged, "nothing was changed");
    OpenOptions::new().write(true).open(&path).unwrap().write_all(b"OTHER").unwrap();
    assert!(matches!(open(&config(dir.path()), 2), Err(OpenError::Damaged { offset: 0, .. })));
}

#[test]
fn a_directory_serves_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(&config(dir.path()), 1).unwrap();
    assert!(matches!(open(&config(dir.path()), 2), Err(OpenError::Locked(_))));
}

#[tokio::test]
async fn old_files_are_removed_once_their_snapshot_stands() {
    let dir = tempfile::tempdir().unwrap();
    let small = Config::Journal { dir: dir.path().into(), fsync: false, file_bytes: 1_000 };
    let before = World::new(open(&small, 1).unwrap());
    for _ in 0..100 {
        before.fill(Lane::Normal, 1).await;
    }
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 2, "the journal and its lock");
    drop(before);
    assert_eq!(world(dir.path(), 2).view().await.accepted(), 100);
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Append { lane: usize, id: Option<u8>, seconds: u64 },
    Open { daemon: u8 },
    Close { daemon: u8, drained: bool },
    Read { most: usize },
    Ack { which: usize },
    Nack { which: usize, seconds: u64 },
    Pass { seconds: u64 },
    Sweep,
    Purge,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4usize, proptest::option::of(0..6u8), 1..60u64)
            .prop_map(|(lane, id, seconds)| Step::Append { lane, id, seconds }),
        3 => (0..3u8).prop_map(|daemon| Step::Open { daemon }),
        2 => (0..3u8, any::<bool>()).prop_map(|(daemon, drained)| Step::Close { daemon, drained }),
        4 => (1..5usize).prop_map(|most| Step::Read { most }),
        4 => (0..8usize).prop_map(|which| Step::Ack { which }),
        2 => (0..8usize, 0..20u64).prop_map(|(which, seconds)| Step::Nack { which, seconds }),
        2 => (1..40u64).prop_map(|seconds| Step::Pass { seconds }),
        2 => Just(Step::Sweep),
        1 => Just(Step::Purge),
        1 => Just(Step::Restart),
    ]
}

/// A random life on one mailbox. `World` checks conservation after each step; here the order of first
/// deliveries is checked (R2), and that a restart changes nothing.
async fn live(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut world = world(dir.path(), 1);
    let mut holder: Option<(String, u64)> = None;
    let mut positions = PerLane::<u64>::default();
    let mut seen: Vec<Entry> = Vec::new();
    let mut opened = 0;
    for step in steps {
        match step {
            Step::Append { lane, id, seconds } => {
                let message = AppendMessage {
                    lane: Lane::ALL[lane],
                    time_to_live: Duration::from_secs(seconds),
                    ..world.message("{}")
                };
                let message = match id {
                    Some(id) => AppendMessage { id: world.named(&format!("id-{id}"), "{}").id, ..message },
                    None => message,
                };
                world.append(message).await.unwrap();
            }
            Step::Open { daemon } => {
                opened += 1;
                let session = format!("s{daemon}.{opened}");
                if world.gateway("g1").await == Renewed::Expired {
                    world.sweep().await;
                    world.gateway("g1").await;
                }
                if let Ok(answer) = world.try_open(world.session(&session, &format!("d{daemon}"))).await
                    && let Some(activation) = answer.activation
                {
                    holder = Some((session, activation.fence));
                    positions = PerLane::default();
                }
            }
            Step::Close { daemon, drained } => {
                let views = world.store.mailboxes.sessions(&world.key(), &world.liveness, world.at()).await.unwrap();
                if let Some(view) = views.iter().find(|view| view.daemon.as_str() == format!("d{daemon}"))
                    && let Some(notice) = world.close_as(view.session.as_str(), false, drained).await
                {
                    holder = Some((notice.holder.session.to_string(), notice.holder.fence));
                    positions = PerLane::default();
                }
            }
            Step::Read { most } => {
                let Some((session, fence)) = &holder else { continue };
                let read =
                    ReadMailbox { max_entries: most, max_critical: most, positions, ..world.reading(session, *fence) };
                let Ok(answer) = world.try_read(read).await else { continue };
                for entry in &answer.entries {
                    let lane = entry.position.lane;
                    let first = entry.position.sequence > positions[lane];
                    assert!(first || entry.attempt > 1, "below the position there are only nacked ones");
                    assert!(entry.position.sequence <= answer.positions[lane]);
                }
                positions = answer.positions;
                seen = answer.entries;
            }
            Step::Ack { which } => {
                if let Some(entry) = seen.get(which) {
                    world.ack(entry.position).await;
                }
            }
            Step::Nack { which, seconds } => {
                if let (Some(entry), Some((session, fence))) = (seen.get(which), &holder) {
                    let nacks = vec![nack(entry, Duration::from_secs(seconds))];
                    world.settle(Settlement { nacks, ..world.settlement(session, *fence) }).await;
                }
            }
            Step::Pass { seconds } => world.pass(Duration::from_secs(seconds)),
            Step::Sweep => {
                for notice in world.sweep().await.activated {
                    holder = Some((notice.holder.session.to_string(), notice.holder.fence));
                    positions = PerLane::default();
                }
            }
            Step::Purge => {
                world.store.mailboxes.purge(Purge { mailbox: world.key() }, world.at()).await.unwrap();
            }
            Step::Restart => {
                let before = world.store.mailboxes.mailbox(&world.key(), world.at()).await.unwrap();
                let now = world.now;
                drop(world);
                world = World::new(open(&config(dir.path()), 99).unwrap());
                world.now = now;
                let after = world.store.mailboxes.mailbox(&world.key(), world.at()).await.unwrap();
                assert_eq!(before, after);
                holder = None;
            }
        }
    }
    // Whoever comes last gets all that is left, in the order of each lane.
    world.pass(Duration::from_secs(10_000));
    world.sweep().await;
    world.gateway("g9").await;
    let last = OpenSession { incarnation: "g9".parse().unwrap(), ..world.session("last", "d0") };
    let fence = world.try_open(last).await.unwrap().activation.unwrap().fence;
    let rest = world.read("last", fence).await;
    for lane in Lane::ALL {
        let of_lane: Vec<u64> =
            rest.entries.iter().filter(|e| e.position.lane == lane).map(|e| e.position.sequence).collect();
        assert!(of_lane.is_sorted());
    }
    let acks = rest.entries.iter().map(|entry| ack(entry.position)).collect();
    world.settle(Settlement { acks, ..world.settlement("last", fence) }).await;
    assert!(world.view().await.lanes.iter().all(|(_, lane)| lane.depth == 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_random_life_survives_restarts_and_loses_nothing(steps in prop::collection::vec(step(), 1..80)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(live(steps));
    }
}
