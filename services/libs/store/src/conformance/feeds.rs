//! Feeds.

use std::time::Duration;

use bytes::Bytes;
use waystation_domain::{MessageId, OrganizationId};

use super::World;
use crate::feed::*;

fn organization() -> OrganizationId {
    "acme".parse().unwrap()
}

fn event(data: &str) -> NewEvent {
    NewEvent {
        id: None,
        event_type: "invoice.paid".parse().unwrap(),
        channel: None,
        trace: None,
        sender: None,
        audience: Audience::default(),
        data: Bytes::copy_from_slice(data.as_bytes()),
    }
}

fn named(id: &str, data: &str) -> NewEvent {
    NewEvent { id: Some(MessageId::from_caller(id).unwrap()), ..event(data) }
}

fn publish(events: Vec<NewEvent>) -> Publish {
    Publish { organization: organization(), events, retention: Retention::default(), gone: Vec::new() }
}

async fn tell(world: &World, publish: Publish) -> Publication {
    world.store.feeds.publish(publish, world.at()).await.unwrap()
}

async fn read(world: &World, after: u64) -> FeedPiece {
    let read = ReadFeed { organization: organization(), after, most: 1_000, bytes: 64 << 20 };
    world.store.feeds.read_feed(read, world.at()).await.unwrap()
}

/// Sequence and whether it is a repeat, or why it is refused.
fn outcomes(publication: &Publication) -> Vec<Result<(u64, bool), PublishRefused>> {
    let outcomes = publication.outcomes.iter();
    outcomes.map(|outcome| outcome.map(|published| (published.position.sequence, published.duplicate))).collect()
}

fn kept(piece: &FeedPiece) -> (u64, u64, Vec<u64>) {
    let sequences = piece.events.iter().map(|event| event.position.sequence).collect();
    (piece.extent.floor, piece.extent.head, sequences)
}

pub async fn events_are_read_as_they_were_published(mut world: World) {
    assert_eq!(kept(&read(&world, 0).await), (0, 0, vec![]), "nothing yet");
    let full = NewEvent {
        channel: Some("c1".parse().unwrap()),
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap()),
        sender: Some("otto".parse().unwrap()),
        audience: Audience {
            orchestrators: vec!["orla".parse().unwrap(), "otto".parse().unwrap()],
            daemons: vec!["d1".parse().unwrap()],
        },
        ..named("e-1", r#"{ "odd" : 1.50 }"#)
    };
    let first = tell(&world, publish(vec![full.clone(), event("{}")])).await;
    assert_eq!((outcomes(&first), first.time), (vec![Ok((1, false)), Ok((2, false))], world.now));
    world.pass(Duration::from_secs(1));
    tell(&world, publish(vec![event(r#"{"n":3}"#)])).await;
    let piece = read(&world, 0).await;
    assert_eq!(kept(&piece), (0, 3, vec![1, 2, 3]));
    let position = piece.events[0].position;
    assert_eq!(Some(position.epoch), piece.extent.epoch());
    assert_eq!(
        piece.events[0],
        FeedEvent {
            position,
            id: MessageId::from_caller("e-1").unwrap(),
            event_type: full.event_type,
            channel: full.channel,
            trace: full.trace,
            sender: full.sender,
            audience: full.audience,
            time: first.time,
            data: full.data,
        }
    );
    assert_eq!(piece.events[1].id, MessageId::of_feed(piece.events[1].position));
    assert_eq!(piece.events[2].time, world.now);
    assert_eq!(kept(&read(&world, 2).await), (0, 3, vec![3]));
    assert_eq!(kept(&read(&world, 7).await), (0, 3, vec![]), "beyond the head");
}

pub async fn a_repeated_event_id_is_one_event(world: World) {
    let batch = || publish(vec![named("a", r#"{"n":1}"#), named("b", "{}"), named("a", r#"{"n":1}"#)]);
    assert_eq!(outcomes(&tell(&world, batch()).await), [Ok((1, false)), Ok((2, false)), Ok((1, true))]);
    assert_eq!(outcomes(&tell(&world, batch()).await), [Ok((1, true)), Ok((2, true)), Ok((1, true))]);
    let others = vec![
        named("a", r#"{"n":2}"#),
        NewEvent { channel: Some("c1".parse().unwrap()), ..named("b", "{}") },
        NewEvent {
            audience: Audience { orchestrators: vec!["orla".parse().unwrap()], daemons: vec![] },
            ..named("b", "{}")
        },
    ];
    assert_eq!(outcomes(&tell(&world, publish(others)).await), [Err(PublishRefused::IdReused); 3]);
    assert_eq!(kept(&read(&world, 0).await), (0, 2, vec![1, 2]));
}

pub async fn the_oldest_events_make_room(world: World) {
    let few = |events: Vec<NewEvent>, most, bytes| Publish {
        retention: Retention { events: most, bytes, ..Retention::default() },
        ..publish(events)
    };
    let all = (1..=5).map(|n| named(&format!("e-{n}"), "{\"a\":1234}")).collect();
    tell(&world, few(all, 3, 1_000)).await;
    assert_eq!(kept(&read(&world, 0).await), (2, 5, vec![3, 4, 5]));
    let again = vec![named("e-4", "{\"a\":1234}"), named("e-1", "{\"a\":1234}")];
    let again = tell(&world, few(again, 3, 1_000)).await;
    assert_eq!(outcomes(&again), [Ok((4, true)), Ok((6, false))], "an id is known for as long as its event is kept");
    tell(&world, few(vec![event("{\"a\":1234}")], 10, 25)).await;
    assert_eq!(kept(&read(&world, 0).await), (5, 7, vec![6, 7]), "bytes are counted too");
    tell(&world, few(vec![event(&format!("{{\"a\":\"{}\"}}", "x".repeat(50)))], 10, 25)).await;
    assert_eq!(kept(&read(&world, 0).await), (7, 8, vec![8]), "one event is always kept");
    tell(&world, few(vec![event("{}"); 200], 200, 1_000)).await;
    tell(&world, few(vec![event("{}")], 5, 1_000)).await;
    assert_eq!(kept(&read(&world, 0).await), (204, 209, (205..=209).collect()), "a feed may have to shrink");
}

pub async fn old_events_go_with_a_sweep(mut world: World) {
    let hour =
        Publish { retention: Retention { age: Duration::from_secs(3_600), ..Retention::default() }, ..publish(vec![]) };
    for n in 0..3 {
        tell(&world, Publish { events: vec![named(&format!("e-{n}"), "{}"); 1], ..hour.clone() }).await;
        world.pass(Duration::from_secs(1_800));
    }
    let swept = world.store.feeds.sweep_feeds(world.at()).await.unwrap();
    assert_eq!((swept, kept(&read(&world, 0).await)), (1, (1, 3, vec![2, 3])));
    assert_eq!(world.store.feeds.sweep_feeds(world.at()).await.unwrap(), 0);
    world.pass(Duration::from_secs(3_600));
    assert_eq!(world.store.feeds.sweep_feeds(world.at()).await.unwrap(), 2);
    let again = tell(&world, Publish { events: vec![named("e-2", "{}")], ..hour }).await;
    assert_eq!(outcomes(&again), [Ok((4, false))], "its sequence is never given again");
    assert_eq!(kept(&read(&world, 0).await), (3, 4, vec![4]));
    world.pass(Duration::from_secs(3_601));
    assert_eq!(world.store.feeds.sweep_feeds(world.at()).await.unwrap(), 1);
}

pub async fn a_read_is_limited(world: World) {
    tell(&world, publish(vec![event("{\"a\":1234}"); 100])).await;
    let limited = async |after, most, bytes| {
        let read = ReadFeed { organization: organization(), after, most, bytes };
        let (_, _, sequences) = kept(&world.store.feeds.read_feed(read, world.at()).await.unwrap());
        sequences
    };
    assert_eq!(limited(0, 70, 10_000).await, (1..=70).collect::<Vec<_>>());
    assert_eq!(limited(70, 70, 10_000).await, (71..=100).collect::<Vec<_>>());
    assert_eq!(limited(10, 70, 35).await, [11, 12, 13]);
    assert_eq!(limited(10, 70, 5).await, [11], "the first one comes whatever its size");
}

pub async fn a_publication_names_the_gateways_that_are_interested(world: World) {
    let interest = |gateway: &str, flag| Interest {
        incarnation: gateway.parse().unwrap(),
        address: format!("http://{gateway}"),
        organizations: vec![(organization(), flag), ("other".parse().unwrap(), flag)],
    };
    let note = async |interest| world.store.feeds.set_interest(interest, world.at()).await.unwrap();
    let named = |publication: Publication| -> Vec<String> {
        publication.interested.iter().map(|one| format!("{} {}", one.incarnation, one.address)).collect()
    };
    assert_eq!(named(tell(&world, publish(vec![event("{}")])).await), [""; 0]);
    let extents = note(interest("g1", true)).await;
    assert_eq!(extents.iter().map(|extent| extent.head).collect::<Vec<_>>(), [1, 0]);
    note(interest("g2", true)).await;
    note(interest("g2", true)).await;
    let both = ["g1 http://g1", "g2 http://g2"];
    assert_eq!(named(tell(&world, publish(vec![event("{}")])).await), both);
    note(interest("g1", false)).await;
    assert_eq!(named(tell(&world, publish(vec![event("{}")])).await), both[1..]);
    let gone = Publish { gone: vec!["g2".parse().unwrap()], ..publish(vec![]) };
    assert_eq!(named(tell(&world, gone).await), [""; 0]);
    assert_eq!(named(tell(&world, publish(vec![])).await), [""; 0], "it is forgotten");
}

pub async fn feeds_of_organizations_are_apart(world: World) {
    let other: OrganizationId = "acme2".parse().unwrap();
    tell(&world, publish(vec![named("a", "{}"); 1])).await;
    let theirs = Publish { organization: other.clone(), ..publish(vec![named("a", r#"{"n":1}"#)]) };
    assert_eq!(outcomes(&tell(&world, theirs).await), [Ok((1, false))]);
    assert_eq!(read(&world, 0).await.events[0].data, "{}");
    let extents =
        world.store.feeds.extents(&[other, "none".parse().unwrap(), organization()], world.at()).await.unwrap();
    assert_eq!(extents.iter().map(|extent| extent.head).collect::<Vec<_>>(), [1, 0, 1]);
}
