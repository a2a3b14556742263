//! Rules 4, 5, 13 and 15.

use std::time::Duration;

use bytes::Bytes;
use waystation_domain::Lane;

use super::World;
use super::world::sequences;
use crate::limits;
use crate::mailbox::*;

pub async fn an_activation_reads_everything_from_the_beginning(mut world: World) {
    world.fill(Lane::Normal, 5).await;
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    world.read("s1", fence).await;
    world.close("s1").await;
    let activation = world.open("s2", "d1").await.activation.unwrap();
    assert_eq!(activation.marks[Lane::Normal], 5, "all of it may have been delivered");
    let answer = world.read("s2", activation.fence).await;
    assert_eq!(sequences(&answer), (1..=5).map(|n| (Lane::Normal, n)).collect::<Vec<_>>());
    assert_eq!(answer.positions[Lane::Normal], 5);
}

pub async fn lanes_share_a_read_by_weight(mut world: World) {
    for lane in Lane::ALL {
        world.fill(lane, 20).await;
    }
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let answer = world.read("s1", fence).await;
    let lanes: Vec<Lane> = sequences(&answer).iter().map(|(lane, _)| *lane).collect();
    let count = |lane: Lane| lanes[..15].iter().filter(|l| **l == lane).count();
    assert_eq!(Lane::ALL.map(count), [8, 4, 2, 1]);
    assert_eq!(lanes.len(), 80);
}

pub async fn the_window_limits_a_read(mut world: World) {
    world.fill(Lane::Normal, 10).await;
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let read = ReadMailbox { max_entries: 3, max_critical: 3, ..world.reading("s1", fence) };
    let answer = world.try_read(read).await.unwrap();
    assert_eq!((answer.entries.len(), answer.positions[Lane::Normal]), (3, 3));
    assert_eq!(answer.heads.lanes[Lane::Normal], 10);
    let read = ReadMailbox { max_bytes: 7, positions: answer.positions, ..world.reading("s1", fence) };
    assert_eq!(world.try_read(read).await.unwrap().entries.len(), 3, "7 bytes hold three of two");
}

pub async fn one_entry_fits_an_empty_window_whatever_its_size(mut world: World) {
    let large = AppendMessage { data: Bytes::from(vec![b' '; 100_000]), ..world.message("") };
    world.append_all(vec![large; 2]).await;
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let read = ReadMailbox { max_bytes: 65_536, ..world.reading("s1", fence) };
    assert_eq!(world.try_read(read.clone()).await.unwrap().entries.len(), 1);
    let read = ReadMailbox { window_empty: false, ..read };
    assert_eq!(world.try_read(read).await.unwrap().entries.len(), 0);
}

pub async fn a_repeated_read_answers_the_same(mut world: World) {
    world.fill(Lane::Normal, 3).await;
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let first = world.read("s1", fence).await;
    let nack = super::nack(&first.entries[0], Duration::ZERO);
    world.settle(Settlement { nacks: vec![nack], ..world.settlement("s1", fence) }).await;
    let read = ReadMailbox { positions: first.positions, ..world.reading("s1", fence) };
    let answer = world.try_read(read.clone()).await.unwrap();
    assert_eq!(sequences(&answer), [(Lane::Normal, 1)]);
    assert_eq!(world.try_read(read.clone()).await.unwrap(), answer, "the answer was lost; it is asked again");
    let next = ReadMailbox { read_id: read.read_id + 1, ..read };
    assert!(world.try_read(next).await.unwrap().entries.is_empty());
}

pub async fn expired_entries_are_told_as_one_gap(mut world: World) {
    let short = AppendMessage { time_to_live: Duration::from_secs(1), ..world.message("{}") };
    world.append_all(vec![short; 3]).await;
    world.fill(Lane::Normal, 1).await;
    world.pass(Duration::from_secs(1));
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let answer = world.read("s1", fence).await;
    assert_eq!(sequences(&answer), [(Lane::Normal, 4)]);
    let gap = answer.gaps[0];
    let left = gap.left.unwrap();
    assert_eq!((gap.position, gap.count, left.from, left.to), (3, 3, 1, 3));
    assert_eq!(left.reason, ExitReason::Expired);
    assert_eq!(world.view().await.counters.expired, 3);
}

pub async fn acknowledged_gaps_are_not_told_again(mut world: World) {
    let short = AppendMessage { time_to_live: Duration::from_secs(1), ..world.message("{}") };
    world.append(short).await.unwrap();
    world.pass(Duration::from_secs(2));
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let gap = world.read("s1", fence).await.gaps.remove(0);
    assert_eq!(world.read("s1", fence).await.gaps.len(), 1);
    world.settle(Settlement { gap_mark: gap.position + 5, ..world.settlement("s1", fence) }).await;
    assert_eq!(world.read("s1", fence).await.gaps.len(), 1, "a mark beyond the log is none");
    world.settle(Settlement { gap_mark: gap.position, ..world.settlement("s1", fence) }).await;
    assert!(world.read("s1", fence).await.gaps.is_empty());
    world.close("s1").await;
    assert_eq!(world.open("s2", "d2").await.activation.unwrap().gap_mark, gap.position);
}

pub async fn trimmed_exits_are_told_without_their_sequences(mut world: World) {
    let limits = MailboxLimits { entries: 10, ..MailboxLimits::default() };
    for _ in 0..110 {
        let message = AppendMessage { time_to_live: Duration::from_secs(1), limits, ..world.message("{}") };
        world.append_all(vec![message; 10]).await;
        world.pass(Duration::from_secs(1));
        world.sweep().await;
    }
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let gaps = world.read("s1", fence).await.gaps;
    assert_eq!((gaps[0].left, gaps[0].count, gaps[0].position), (None, 100, 100));
    assert_eq!((gaps[1].count, gaps[1].position), (1_000, 1_100));
    assert_eq!(gaps.len(), 2);
}

pub async fn what_is_in_flight_does_not_expire(mut world: World) {
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let short = AppendMessage { time_to_live: Duration::from_secs(1), ..world.message("{}") };
    assert_eq!(world.append(short).await.unwrap().route, Route::Push);
    world.pass(Duration::from_secs(5));
    world.sweep().await;
    assert_eq!(world.read("s1", fence).await.entries.len(), 1);
    world.close("s1").await;
    world.sweep().await;
    assert_eq!(world.view().await.counters.expired, 1);
}

pub async fn a_sweep_lets_go_so_much_of_a_mailbox_at_once(mut world: World) {
    let few = limits::EXPIRIES - 4;
    let short = AppendMessage { time_to_live: Duration::from_secs(1), lane: Lane::High, ..world.message("{}") };
    world.append_all(vec![short.clone(); few]).await.into_iter().for_each(|one| drop(one.unwrap()));
    world.fill(Lane::Normal, 10).await;
    world.append(AppendMessage { lane: Lane::Normal, ..short }).await.unwrap();
    world.fill(Lane::Normal, 9).await;
    world.pass(limits::TIME_TO_LIVE);
    assert!(world.sweep_once().await.more);
    let view = world.view().await;
    assert_eq!((view.counters.expired, view.lanes[Lane::High].depth), (limits::EXPIRIES as u64, 0));
    let left = world.store.mailboxes.residents(&world.key(), (Lane::Critical, 0), 100, world.at()).await.unwrap();
    let sequences: Vec<u64> = left.iter().map(|one| one.entry.position.sequence).collect();
    assert_eq!(sequences, (5..=20).collect::<Vec<_>>(), "the oldest went first");
    assert!(!world.sweep_once().await.more);
    assert_eq!(world.view().await.counters.expired, few as u64 + 20);
}

pub async fn trace_and_sender_travel_with_the_entry(mut world: World) {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok();
    let sender = "otto".parse().ok();
    let traced = AppendMessage { trace: trace.clone(), sender: sender.clone(), ..world.message("{}") };
    world.append(traced).await.unwrap();
    world.append(AppendMessage { channel: "-".parse().ok(), ..world.message("{}") }).await.unwrap();
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let entries = world.read("s1", fence).await.entries;
    assert_eq!((entries[0].trace.clone(), entries[0].sender.clone()), (trace, sender));
    assert_eq!((entries[0].channel.clone(), entries[1].channel.clone()), (None, "-".parse().ok()));
    assert_eq!((entries[1].trace.clone(), entries[1].sender.clone()), (None, None));
}

pub async fn residents_are_listed_without_being_sent(mut world: World) {
    world.fill(Lane::Normal, 3).await;
    world.append(AppendMessage { lane: Lane::Critical, ..world.named("urgent", r#"{"n":1}"#) }).await.unwrap();
    let (key, now) = (world.key(), world.at());
    let store = world.store.mailboxes.clone();
    let list = async |after, most| store.residents(&key, after, most, now).await.unwrap();
    let listed = list((Lane::Critical, 0), 2).await;
    assert_eq!((listed[0].entry.id.as_str(), &listed[0].entry.data[..]), ("urgent", &br#"{"n":1}"#[..]));
    assert_eq!((listed[0].accepted, listed[0].expires), (world.now, world.now.after(limits::TIME_TO_LIVE)));
    let last = listed[1].entry.position;
    assert_eq!((last.lane, last.sequence, listed.len()), (Lane::Normal, 1, 2));
    let rest = list((last.lane, last.sequence), 100).await;
    assert_eq!(rest.iter().map(|one| one.entry.position.sequence).collect::<Vec<_>>(), [2, 3]);
    assert!(list((Lane::Low, 0), 100).await.is_empty());

    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let read = ReadMailbox { max_critical: 1, max_entries: 1, ..world.reading("s1", fence) };
    world.try_read(read).await.unwrap();
    let flying: Vec<bool> = list((Lane::Critical, 0), 9).await.iter().map(|one| one.in_flight).collect();
    assert_eq!(flying, [true, false, false, false], "listing sends nothing");
}
