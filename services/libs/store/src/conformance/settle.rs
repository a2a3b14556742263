//! Rules 6, 8, 15 and 16.

use std::time::Duration;

use waystation_domain::{Lane, MessageId, Position};

use super::world::{foreign_epoch, sequences};
use super::{World, ack, nack};
use crate::limits;
use crate::mailbox::*;

/// Opens a session that has read `count` normal entries.
async fn with_read(world: &mut World, count: usize) -> (u64, ReadAnswer) {
    world.fill(Lane::Normal, count).await;
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    (fence, world.read("s1", fence).await)
}

pub async fn an_ack_removes_and_is_idempotent(mut world: World) {
    let (fence, answer) = with_read(&mut world, 3).await;
    let run = AckRange { to: 2, ..ack(answer.entries[0].position) };
    let settlement = Settlement { acks: vec![run], ..world.settlement("s1", fence) };
    assert_eq!(world.settle(settlement.clone()).await.acknowledged, 2);
    assert_eq!(world.settle(settlement).await.acknowledged, 0);
    let by_id = Settlement { ack_ids: vec![answer.entries[2].id.clone()], ..world.settlement("s1", fence) };
    assert_eq!(world.settle(by_id).await.acknowledged, 1);
    assert_eq!(world.view().await.counters.acknowledged, 3);
}

pub async fn acks_count_without_the_fence(mut world: World) {
    let (_, answer) = with_read(&mut world, 1).await;
    world.open("s2", "d1").await;
    let settled = world.ack(answer.entries[0].position).await;
    assert_eq!((settled.acknowledged, settled.fenced), (1, true));
}

pub async fn acks_of_what_was_never_sent_are_ignored(world: World) {
    let appended = world.fill(Lane::Normal, 1).await.remove(0);
    assert_eq!(world.ack(appended.position).await.acknowledged, 0);
    let by_id = Settlement { ack_ids: vec![MessageId::composed(appended.position)], ..world.settlement("s1", 0) };
    assert_eq!(world.settle(by_id).await.acknowledged, 0);
    let all = AckRange { from: 0, to: u64::MAX, ..ack(appended.position) };
    let settled = world.settle(Settlement { acks: vec![all], ..world.settlement("s1", 0) }).await;
    assert_eq!(settled.acknowledged, 0);
}

pub async fn acks_of_another_epoch_are_ignored(mut world: World) {
    let (_, answer) = with_read(&mut world, 1).await;
    let position = Position { epoch: foreign_epoch(), ..answer.entries[0].position };
    assert_eq!(world.ack(position).await.acknowledged, 0);
    let by_id = Settlement { ack_ids: vec![MessageId::composed(position)], ..world.settlement("s1", 0) };
    assert_eq!(world.settle(by_id).await.acknowledged, 0);
}

pub async fn a_nacked_entry_is_found_when_due(mut world: World) {
    let (fence, answer) = with_read(&mut world, 3).await;
    let nacks = vec![nack(&answer.entries[1], Duration::from_secs(10))];
    let settled = world.settle(Settlement { nacks, ..world.settlement("s1", fence) }).await;
    assert_eq!(settled.heads.next_due, Some(Duration::from_secs(10)));
    let read = ReadMailbox { positions: answer.positions, ..world.reading("s1", fence) };
    assert!(world.try_read(read).await.unwrap().entries.is_empty());
    world.pass(Duration::from_secs(10));
    assert_eq!(world.sweep().await.grown.len(), 1, "the holder is told");
    let read = ReadMailbox { positions: answer.positions, ..world.reading("s1", fence) };
    let found = world.try_read(read).await.unwrap().entries;
    assert_eq!((found.len(), found[0].attempt, found[0].position.sequence), (1, 2, 2));
}

pub async fn a_charge_of_another_attempt_is_ignored(mut world: World) {
    let (fence, answer) = with_read(&mut world, 1).await;
    let position = answer.entries[0].position;
    for attempt in [0, 2, 9] {
        let charges = vec![Charge { position, attempt }];
        let settled = world.settle(Settlement { charges, ..world.settlement("s1", fence) }).await;
        assert_eq!(settled.heads.next_due, None);
    }
    let charges = vec![Charge { position, attempt: 1 }; 2];
    world.settle(Settlement { charges, ..world.settlement("s1", fence) }).await;
    assert_eq!(world.read("s1", fence).await.entries[0].attempt, 2, "charged once");
}

pub async fn the_fifth_attempt_is_the_last(mut world: World) {
    let (fence, answer) = with_read(&mut world, 2).await;
    let position = answer.entries[0].position;
    for attempt in 1..=limits::ATTEMPTS {
        let charges = vec![Charge { position, attempt }];
        world.settle(Settlement { charges, ..world.settlement("s1", fence) }).await;
        let read = ReadMailbox { positions: answer.positions, ..world.reading("s1", fence) };
        let found = world.try_read(read).await.unwrap();
        assert_eq!(found.entries.len(), usize::from(attempt < limits::ATTEMPTS));
    }
    let view = world.view().await;
    assert_eq!((view.counters.dead, view.lanes[Lane::Normal].depth), (1, 1));
    assert_eq!(world.state(&answer.entries[0].id).await, MessageState::Exited(ExitReason::Dead));
}

pub async fn a_rejected_message_is_dead_at_once(mut world: World) {
    let (fence, answer) = with_read(&mut world, 1).await;
    let position = answer.entries[0].position;
    let rejects = vec![Reject { position, reason: "cannot parse".into() }];
    world.settle(Settlement { rejects: rejects.clone(), ..world.settlement("s1", fence + 1) }).await;
    assert_eq!(world.view().await.counters.dead, 0, "fenced");
    world.settle(Settlement { rejects, ..world.settlement("s1", fence) }).await;
    assert_eq!(world.view().await.counters.dead, 1);
    assert_eq!(world.read("s1", fence).await.gaps[0].left.unwrap().reason, ExitReason::Dead);
}

pub async fn another_daemon_charges_only_the_oldest_of_each_lane(mut world: World) {
    world.fill(Lane::High, 2).await;
    with_read(&mut world, 2).await;
    world.close("s1").await;
    let same = world.open("s2", "d1").await.activation.unwrap().fence;
    assert!(world.read("s2", same).await.entries.iter().all(|entry| entry.attempt == 1), "the same daemon is back");
    world.close("s2").await;
    let other = world.open("s3", "d2").await.activation.unwrap().fence;
    let answer = world.read("s3", other).await;
    let charged: Vec<(Lane, u64, u32)> =
        answer.entries.iter().map(|e| (e.position.lane, e.position.sequence, e.attempt)).collect();
    assert_eq!(charged, [(Lane::High, 1, 2), (Lane::High, 2, 1), (Lane::Normal, 1, 2), (Lane::Normal, 2, 1)]);
}

pub async fn a_drain_charges_nothing(mut world: World) {
    with_read(&mut world, 1).await;
    world.close_as("s1", false, true).await;
    world.pass(limits::DRAIN_RESERVATION);
    let fence = world.open("s2", "d2").await.activation.unwrap().fence;
    assert_eq!(world.read("s2", fence).await.entries[0].attempt, 1);
}

pub async fn a_purge_takes_everything_and_is_told(mut world: World) {
    let (fence, _) = with_read(&mut world, 2).await;
    world.fill(Lane::Low, 1).await;
    let purge = Purge { mailbox: world.key() };
    assert_eq!(world.store.mailboxes.purge(purge, world.at()).await.unwrap(), 3);
    let answer = world.read("s1", fence).await;
    assert!(sequences(&answer).is_empty());
    let counts: Vec<u64> = answer.gaps.iter().map(|gap| gap.count).collect();
    assert_eq!(counts, [2, 1]);
}

pub async fn messages_can_be_followed_by_id(mut world: World) {
    let first = world.append(world.named("order-1", "{}")).await.unwrap();
    let id = MessageId::naming("order-1").unwrap();
    assert_eq!(world.state(&id).await, MessageState::Queued);
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    world.read("s1", fence).await;
    assert_eq!(world.state(&id).await, MessageState::Dispatched { attempt: 1 });
    world.ack(first.position).await;
    assert_eq!(world.state(&id).await, MessageState::Acknowledged);
    assert_eq!(world.state(&MessageId::naming("order-2").unwrap()).await, MessageState::Unknown);
    let future = Position { sequence: 99, ..first.position };
    assert_eq!(world.state(&MessageId::composed(future)).await, MessageState::Unknown);
    let foreign = Position { epoch: foreign_epoch(), ..first.position };
    assert_eq!(world.state(&MessageId::composed(foreign)).await, MessageState::Unknown);
}
