//! Rules 1, 2 and 14.

use std::time::Duration;

use bytes::Bytes;
use waystation_domain::{Lane, MessageId};

use super::World;
use crate::mailbox::*;

pub async fn sequences_are_dense_in_each_lane(world: World) {
    for lane in Lane::ALL {
        let positions: Vec<u64> = world.fill(lane, 3).await.iter().map(|a| a.position.sequence).collect();
        assert_eq!(positions, [1, 2, 3]);
    }
    assert_eq!(world.view().await.accepted(), 12);
}

pub async fn composed_ids_name_their_position(world: World) {
    let appended = world.fill(Lane::High, 1).await.remove(0);
    let id = MessageId::composed(appended.position);
    assert_eq!(world.state(&id).await, MessageState::Queued);
}

pub async fn a_repeated_id_is_one_entry(world: World) {
    let first = world.append(world.named("order-1", r#"{"a":1}"#)).await.unwrap();
    let second = world.append(world.named("order-1", r#"{"a":1}"#)).await.unwrap();
    assert!(!first.duplicate);
    assert!(second.duplicate);
    assert_eq!(second.position, first.position);
    assert_eq!(second.state, MessageState::Queued);
    assert_eq!(world.view().await.accepted(), 1);
}

pub async fn an_id_with_other_content_is_refused(world: World) {
    world.append(world.named("order-1", r#"{"a":1}"#)).await.unwrap();
    let other_data = world.named("order-1", r#"{"a":2}"#);
    let other_type =
        AppendMessage { event_type: "other.type".parse().unwrap(), ..world.named("order-1", r#"{"a":1}"#) };
    for other in [other_data, other_type] {
        assert_eq!(world.append(other).await, Err(AppendRefused::IdReused));
    }
    assert_eq!(world.view().await.accepted(), 1);
}

pub async fn a_settled_id_is_remembered_for_two_minutes_at_least(mut world: World) {
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let first = world.append(world.named("order-1", "{}")).await.unwrap();
    world.read("s1", fence).await;
    world.ack(first.position).await;
    world.pass(Duration::from_secs(119));
    let again = world.append(world.named("order-1", "{}")).await.unwrap();
    assert_eq!((again.duplicate, again.state), (true, MessageState::Acknowledged));
    // Among the newest thousand it lives for a day.
    world.pass(Duration::from_secs(3_600));
    assert!(world.append(world.named("order-1", "{}")).await.unwrap().duplicate);
    world.pass(Duration::from_secs(24 * 3_600));
    assert!(!world.append(world.named("order-1", "{}")).await.unwrap().duplicate);
}

pub async fn a_full_mailbox_refuses_and_keeps_what_it_has(world: World) {
    for lane in Lane::ALL {
        world.fill(lane, 250).await;
    }
    assert_eq!(world.append(world.message("{}")).await, Err(AppendRefused::Full));
    let first = world.open("s1", "d1").await;
    assert_eq!(first.activation.unwrap().heads.lanes[Lane::Low], 250);
    assert_eq!(world.view().await.accepted(), 1_000);
}

pub async fn bytes_are_capped_too(world: World) {
    let mega = AppendMessage { data: Bytes::from(vec![b' '; 1 << 20]), ..world.message("") };
    for _ in 0..8 {
        world.append(mega.clone()).await.unwrap();
    }
    assert_eq!(world.append(world.message("{}")).await, Err(AppendRefused::Full));
    assert_eq!(world.view().await.bytes, 8 << 20);
}

pub async fn the_oldest_of_the_lowest_lane_makes_room_if_so_configured(mut world: World) {
    let limits = MailboxLimits { entries: 4, bytes: 1_000, overflow: Overflow::ReplaceOldest };
    let on = |lane| AppendMessage { lane, limits, ..world.message("{}") };
    for lane in [Lane::Low, Lane::Low, Lane::High, Lane::Normal] {
        world.append(on(lane)).await.unwrap();
    }
    world.append(on(Lane::Normal)).await.unwrap();
    world.append(on(Lane::Normal)).await.unwrap();
    // Nothing at or below low is left, and a low one pushes nothing higher out.
    assert_eq!(world.append(on(Lane::Low)).await, Err(AppendRefused::Full));
    world.append(on(Lane::Critical)).await.unwrap();
    assert_eq!(world.view().await.counters.overflowed, 3);
    let too_large = AppendMessage { data: Bytes::from(vec![b' '; 1_001]), ..on(Lane::Critical) };
    assert_eq!(world.append(too_large).await, Err(AppendRefused::Full));
    assert_eq!(world.view().await.counters.overflowed, 3, "checked before anything goes");
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let gaps = world.read("s1", fence).await.gaps;
    assert_eq!(gaps[0].left.unwrap().reason, ExitReason::Overflowed);
    assert_eq!((gaps[0].count, gaps[1].count), (2, 1));
}

pub async fn what_is_in_flight_never_makes_room(world: World) {
    world.open("s1", "d1").await;
    let limits = MailboxLimits { entries: 2, bytes: 1_000, overflow: Overflow::ReplaceOldest };
    let message = AppendMessage { limits, ..world.message("{}") };
    for _ in 0..2 {
        assert_eq!(world.append(message.clone()).await.unwrap().route, Route::Push);
    }
    assert_eq!(world.append(message).await, Err(AppendRefused::Full));
}

pub async fn if_offline_fail_keeps_nothing(mut world: World) {
    let message = AppendMessage { if_offline: IfOffline::Fail, ..world.message("{}") };
    assert_eq!(world.append(message.clone()).await, Err(AppendRefused::Offline));
    world.open("s1", "d1").await;
    assert!(world.append(message.clone()).await.is_ok());
    world.liveness.gone.push("g1".parse().unwrap());
    assert_eq!(world.append(message).await, Err(AppendRefused::Offline));
    assert_eq!(world.view().await.accepted(), 1);
}

pub async fn a_push_is_answered_only_while_the_mark_stands_at_the_head(mut world: World) {
    assert_eq!(world.fill(Lane::Normal, 1).await[0].route, Route::Behind);
    let fence = world.open("s1", "d1").await.activation.unwrap().fence;
    let behind = world.fill(Lane::Normal, 1).await.remove(0);
    assert_eq!((behind.route, behind.state), (Route::Behind, MessageState::Dispatched { attempt: 1 }));
    assert_eq!(behind.holder.unwrap().fence, fence);
    world.read("s1", fence).await;
    assert_eq!(world.fill(Lane::Normal, 1).await[0].route, Route::Push);
    // Beyond the window nothing is pushed, and what follows waits its turn.
    let routes: Vec<Route> = world.fill(Lane::Normal, 254).await.iter().map(|a| a.route).collect();
    assert_eq!(routes.iter().filter(|route| **route == Route::Push).count(), 253);
    assert_eq!(world.fill(Lane::Critical, 1).await[0].route, Route::Push, "critical may exceed the window");
}
