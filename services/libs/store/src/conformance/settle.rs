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

pub async fn a_settlement_confirms_what_is_acknowledged(mut world: World) {
    world.append(world.named("a", "{}")).await.unwrap();
    let (fence, answer) = with_read(&mut world, 3).await;
    let at = |index: usize| answer.entries[index].position;
    let confirm = vec![
        MessageRef::Position(at(0)),
        MessageRef::Position(at(1)),
        MessageRef::Id(id("a")),
        MessageRef::Id(answer.entries[2].id.clone()),
        MessageRef::Id(id("never-sent")),
        MessageRef::Position(Position { epoch: foreign_epoch(), ..at(0) }),
        MessageRef::Position(Position { sequence: 99, ..at(0) }),
    ];
    let acks = vec![ack(at(0))];
    let settlement = Settlement { acks, confirm: confirm.clone(), ..world.settlement("s1", fence) };
    let expected = [true, false, true, false, false, false, false];
    assert_eq!(world.settle(settlement).await.confirmed, expected);
    // Asked again, by a session that no longer holds the mailbox, it is as true.
    let settlement = Settlement { confirm, ..world.settlement("s0", 0) };
    assert_eq!(world.settle(settlement).await.confirmed, expected);
    let purge = Purge { mailbox: world.key() };
    world.store.mailboxes.purge(purge, world.at()).await.unwrap();
    let confirm = vec![MessageRef::Position(at(1))];
    let settled = world.settle(Settlement { acks: vec![ack(at(1))], confirm, ..world.settlement("s1", fence) }).await;
    assert_eq!(settled.confirmed, [false], "what was purged is not acknowledged");
}

pub async fn a_settlement_tells_how_long_delivery_took(mut world: World) {
    world.fill(Lane::Normal, 1).await;
    world.pass(Duration::from_millis(250));
    let (fence, answer) = with_read(&mut world, 1).await;
    world.pass(Duration::from_millis(50));
    let run = AckRange { to: 2, ..ack(answer.entries[0].position) };
    let settled = world.settle(Settlement { acks: vec![run], ..world.settlement("s1", fence) }).await;
    assert_eq!(settled.took, [Duration::from_millis(300), Duration::from_millis(50)]);
}

pub async fn dead_letters_are_news_until_they_were_told(mut world: World) {
    let (fence, answer) = with_read(&mut world, 3).await;
    world.told(Some(true), 0).await;
    world.sweep().await;
    let reject = |index: usize| Reject { position: answer.entries[index].position, reason: "no".into() };
    let settlement = Settlement { rejects: vec![reject(0), reject(1)], ..world.settlement("s1", fence) };
    world.settle(settlement).await;
    let heard = async |world: &World| -> Vec<(u64, u64)> {
        world.sweep().await.news.iter().map(|(_, news)| news.letters).collect()
    };
    assert_eq!(heard(&world).await, [(0, 2)]);
    world.told(None, 1).await;
    world.pass(limits::NEWS_AGAIN);
    assert_eq!(heard(&world).await, [(1, 2)]);
    world.told(None, 2).await;
    world.pass(limits::NEWS_AGAIN);
    assert_eq!(heard(&world).await, []);
}

pub async fn dead_letters_are_listed_and_forgotten(mut world: World) {
    let sender = "otto".parse().ok();
    let named = AppendMessage { sender, channel: "room".parse().ok(), ..world.named("a", r#"{"n":1}"#) };
    world.append(named).await.unwrap();
    let (fence, answer) = with_read(&mut world, 2).await;
    let reject = |index: usize| Reject { position: answer.entries[index].position, reason: "cannot parse".into() };
    let settlement = Settlement { rejects: vec![reject(0), reject(2)], ..world.settlement("s1", fence) };
    assert_eq!(world.settle(settlement).await.dead, 2);
    assert_eq!(world.view().await.dead_letters, 2);

    let (key, now) = (world.key(), world.at());
    let store = world.store.mailboxes.clone();
    let list = async |after, most| store.dead_letters(&key, after, most, now).await.unwrap();
    let letters = list(0, 10).await;
    let expected = |index: usize, number| DeadLetterView {
        number,
        entry: answer.entries[index].clone(),
        reason: "cannot parse".into(),
        at: world.now,
    };
    assert_eq!(letters, [expected(0, 1), expected(2, 2)]);
    assert_eq!(list(0, 1).await.len(), 1);
    assert_eq!(list(1, 10).await[0].number, 2);

    let forget = ForgetDeadLetters { mailbox: key.clone(), numbers: vec![1, 7] };
    assert_eq!(store.forget_dead_letters(forget.clone(), now).await.unwrap(), 1);
    assert_eq!(store.forget_dead_letters(forget, now).await.unwrap(), 0);
    assert_eq!(list(0, 10).await.len(), 1);
    assert_eq!((world.view().await.dead_letters, world.view().await.counters.dead), (1, 2));
    // Numbers are never given again.
    let settlement = Settlement { rejects: vec![reject(1)], ..world.settlement("s1", fence) };
    world.settle(settlement).await;
    assert_eq!(list(2, 10).await[0].number, 3);
}

pub async fn organizations_are_counted_apart(world: World) {
    let of = |organization: &str| MailboxKey { organization: organization.parse().unwrap(), ..world.key() };
    for organization in ["acme", "acme", "other"] {
        world.append(AppendMessage { mailbox: of(organization), ..world.message("{}") }).await.unwrap();
    }
    let count = async |name: &str| {
        let totals = world.store.mailboxes.organization_totals(&name.parse().unwrap()).await.unwrap();
        (totals.mailboxes, totals.resident)
    };
    assert_eq!((count("acme").await, count("other").await, count("none").await), ((1, 2), (1, 1), (0, 0)));
    let all = world.store.mailboxes.totals().await.unwrap();
    assert_eq!((all.mailboxes, all.resident, all.conservation_delta), (2, 3, 0));
    let oldest = world.view().await.oldest;
    assert!(all.filling == 0 && oldest.is_some() && all.oldest == oldest, "{all:?}");
}

pub async fn a_mailbox_that_fills_is_counted_before_it_is_full(world: World) {
    let of = |name: &str| MailboxKey { orchestrator: name.parse().unwrap(), ..world.key() };
    let four_fifths = limits::MAILBOX_ENTRIES * 4 / 5;
    let small = |name: &str| AppendMessage { mailbox: of(name), ..world.message("{}") };
    let large =
        AppendMessage { mailbox: of("bytes"), ..world.message(&format!(r#"{{"n":"{}"}}"#, "9".repeat(48 << 10))) };
    let enough = (limits::MAILBOX_BYTES * 4 / 5).div_ceil(large.data.len() as u64);
    let many = (0..four_fifths).map(|_| small("entries")).chain((1..four_fifths).map(|_| small("nearly")));
    for message in many.chain((0..enough).map(|_| large.clone())) {
        world.append(message).await.unwrap();
    }
    let totals = world.store.mailboxes.totals().await.unwrap();
    assert_eq!((totals.mailboxes, totals.filling), (3, 2), "by entries and by bytes, and not a message before");
}

fn id(text: &str) -> MessageId {
    MessageId::naming(text).unwrap()
}
