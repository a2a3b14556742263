//! What is published reaches everybody who asked for it, in order, over reconnects, however slow they are (rule 17).

use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;
use waystation_proto::common::v1::{ErrorReason, FeedPosition};
use waystation_proto::router::v1::publish_event_result::Outcome;
use waystation_proto::router::v1::watch_events_response::What;
use waystation_proto::router::v1::{EventDelivery, PublishEventRequest, WatchEventsRequest};
use waystation_tests::{Backend, Cell, Daemon, code_and_reason, eventually};

/// Announces itself, so that it is told what is in force.
fn announced(more: Value) -> Value {
    let mut all = json!({"client": {"name": "t", "version": "1"}});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

async fn connect(cell: &Cell, orchestrator: &str, daemon: &str, more: Value) -> Daemon {
    let token = cell.token(orchestrator).await;
    Daemon::connect_with(&cell.dev.gateway_url, orchestrator, daemon, &token, announced(more)).await
}

/// A daemon that has asked for these.
async fn subscriber(cell: &Cell, orchestrator: &str, event_types: &[&str]) -> Daemon {
    let mut daemon = connect(cell, orchestrator, "d1", json!({})).await;
    daemon.ask("subscribe", json!({"eventTypes": event_types})).await;
    daemon
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect()
}

/// Where a client that has seen an event goes on.
fn after(event: &Value) -> Value {
    json!({"resume": {"feed": {"epoch": event["epoch"], "position": event["sequence"]}}})
}

#[tokio::test]
async fn an_event_reaches_those_who_asked_for_it_as_it_was_published() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut all = subscriber(&cell, "orla", &["*"]).await;
    let mut some = subscriber(&cell, "otto", &["invoice.*"]).await;
    let event = PublishEventRequest {
        event_id: "e-1".into(),
        event_type: "invoice.paid".into(),
        channel_id: "c1".into(),
        data: r#"{ "odd" : 1.50 }"#.into(),
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(),
        ..Default::default()
    };
    let published = backend.try_publish(event.clone()).await.unwrap();
    let position = published.position.clone().unwrap();
    assert_eq!((position.sequence, published.duplicate, published.event_id.as_str()), (1, false, "e-1"));
    assert!(backend.try_publish(event).await.unwrap().duplicate);
    backend.publish("message.deleted", 2).await;
    backend.publish("invoice.sent", 3).await;
    let seen = all.next_of("event").await;
    assert_eq!(seen["id"], "e-1");
    let payload = &seen["payload"];
    assert_eq!(payload["eventId"], "e-1");
    assert_eq!((&payload["eventType"], &payload["channelId"]), (&json!("invoice.paid"), &json!("c1")));
    assert_eq!((&payload["log"], &payload["requiresAck"]), (&json!("feed"), &json!(false)));
    assert_eq!((&payload["sequence"], &payload["epoch"]), (&json!(1), &json!(position.epoch)));
    assert_eq!(payload["data"], json!({"odd": 1.5}));
    assert_eq!(payload["traceparent"], "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let types = |events: Vec<Value>| -> Vec<String> {
        events.iter().map(|event| event["eventType"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(types(all.events(2).await), ["message.deleted", "invoice.sent"]);
    assert_eq!(types(some.events(2).await), ["invoice.paid", "invoice.sent"]);
    assert!(some.is_silent(Duration::from_millis(100)).await);
}

#[tokio::test]
async fn channels_exclusions_and_scopes_filter() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut daemon = connect(&cell, "orla", "d1", json!({})).await;
    daemon.ask("subscribe", json!({"eventTypes": ["message.*"], "channelIds": ["c1"]})).await;
    daemon.ask("subscribe", json!({"eventTypes": ["call.*"]})).await;
    daemon.ask("unsubscribe", json!({"eventTypes": ["call.ended"]})).await;
    let token = cell.token_with("otto", &["messages:read"]).await;
    let mut narrow = Daemon::connect_with(&cell.dev.gateway_url, "otto", "d1", &token, announced(json!({}))).await;
    narrow.ask("subscribe", json!({"eventTypes": ["*"]})).await;
    let publish = async |event_type: &str, channel: &str, number| {
        let event = PublishEventRequest { channel_id: channel.into(), ..Backend::event(event_type, number) };
        backend.try_publish(event).await.unwrap();
    };
    publish("message.updated", "c1", 1).await;
    publish("message.updated", "c2", 2).await;
    publish("message.updated", "", 3).await;
    publish("call.started", "c9", 4).await;
    publish("call.ended", "c9", 5).await;
    publish("presence.updated", "", 6).await;
    publish("message.deleted", "c1", 7).await;
    assert_eq!(numbers(&daemon.events(4).await), [1, 3, 4, 7]);
    assert_eq!(numbers(&narrow.events(4).await), [1, 2, 3, 7], "its token shows messages only");
}

#[tokio::test]
async fn nothing_is_missed_or_repeated_over_reconnects() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut daemon = subscriber(&cell, "orla", &["invoice.*"]).await;
    backend.publish_many("invoice.paid", 0..50).await;
    let mut seen = daemon.events(50).await;
    let mut expected = 50;
    for round in 0..5 {
        daemon.vanish();
        // Some are far behind, some a little; other events are in between.
        let more = [1, 20, 90, 300, 5][round];
        backend.publish_many("other.event", 0..more / 2).await;
        backend.publish_many("invoice.paid", expected..expected + more).await;
        daemon = connect(&cell, "orla", "d1", after(seen.last().unwrap())).await;
        // Subscriptions belong to the daemon.
        backend.publish("invoice.paid", expected + more).await;
        seen.extend(daemon.events(usize::try_from(more).unwrap() + 1).await);
        expected += more + 1;
    }
    assert_eq!(numbers(&seen), (0..expected).collect::<Vec<_>>());
    let sequences: Vec<u64> = seen.iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]));
}

#[tokio::test]
async fn a_client_that_remembers_nothing_begins_when_it_connects() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    backend.publish("invoice.paid", 1).await;
    let mut daemon = connect(&cell, "orla", "d1", json!({"subscriptions": ["invoice.paid"]})).await;
    let feed = daemon.welcome["payload"]["feed"].clone();
    assert_eq!(feed["position"], 1);
    backend.publish("invoice.paid", 2).await;
    assert_eq!(numbers(&daemon.events(1).await), [2]);
    daemon.vanish();
    let mut daemon = connect(&cell, "orla", "d1", json!({"resume": {"feed": feed}})).await;
    assert_eq!(numbers(&daemon.events(1).await), [2], "it has been told where it began");
    backend.publish("other.event", 0).await;
    backend.publish("invoice.paid", 3).await;
    daemon.events(1).await;
    backend.publish("other.event", 0).await;
    eventually("what is not wanted has come here too", async || {
        backend.publish("other.event", 0).await.gateways_notified.eq(&1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_frozen_reader_hurts_nobody_and_misses_nothing() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut frozen = subscriber(&cell, "frozen", &["*"]).await;
    let mut quick = subscriber(&cell, "quick", &["*"]).await;
    let event = |number: u64| PublishEventRequest {
        data: json!({"n": number, "pad": "x".repeat(8_000)}).to_string().into(),
        ..Backend::event("invoice.paid", 0)
    };
    let total = 2_000;
    for from in (0..total).step_by(100) {
        backend.publish_all((from..from + 100).map(event).collect()).await;
        assert_eq!(numbers(&quick.events(100).await), (from..from + 100).collect::<Vec<_>>());
    }
    assert_eq!(numbers(&frozen.events(usize::try_from(total).unwrap()).await), (0..total).collect::<Vec<_>>());
}

#[tokio::test]
async fn addressed_events_reach_mailboxes_or_live_sessions() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut orla = subscriber(&cell, "orla", &["*"]).await;
    let mut otto = subscriber(&cell, "otto", &["*"]).await;
    let to = |orchestrators: &[&str], delivery: EventDelivery, number| PublishEventRequest {
        event_id: format!("e-{number}"),
        orchestrator_ids: orchestrators.iter().map(ToString::to_string).collect(),
        delivery: delivery.into(),
        ..Backend::event("task.assigned", number)
    };
    let mailed = to(&["orla", "away"], EventDelivery::Mailbox, 1);
    let answer = backend.try_publish(mailed.clone()).await.unwrap();
    assert_eq!((answer.position, answer.gateways_notified, answer.duplicate), (None, 1, false));
    assert!(backend.try_publish(mailed).await.unwrap().duplicate);
    let event = orla.events(1).await.remove(0);
    assert_eq!(
        (&event["log"], &event["requiresAck"], &event["eventId"]),
        (&json!("mailbox"), &json!(true), &json!("e-1"))
    );
    assert_eq!(backend.depth("away").await, 1);
    backend.try_publish(to(&["otto"], EventDelivery::Live, 2)).await.unwrap();
    let of_daemon = PublishEventRequest { daemon_ids: vec!["d2".into()], ..to(&[], EventDelivery::Live, 3) };
    backend.try_publish(of_daemon).await.unwrap();
    backend.publish("invoice.paid", 4).await;
    assert_eq!(numbers(&otto.events(2).await), [2, 4]);
    assert_eq!(numbers(&orla.events(1).await), [4]);
    let bad = PublishEventRequest { daemon_ids: vec!["d1".into()], ..to(&["orla"], EventDelivery::Mailbox, 5) };
    let refused = backend.try_publish(bad).await.unwrap_err();
    assert_eq!(waystation_rpc::field_of(&refused).as_deref(), Some("daemon_ids"));
}

#[tokio::test]
async fn a_backend_watches_from_a_position_on() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut now = backend.watch(None, &[]).await;
    let Some(What::KeepAlive(begin)) = now.message().await.unwrap().unwrap().what else { panic!("it lives") };
    assert_eq!(begin.sequence, 0);
    backend.publish_many("invoice.paid", 0..700).await;
    backend.publish("other.event", 9).await;
    let mut position = begin.clone();
    let mut seen = Vec::new();
    let mut taken = 0;
    // Each stream is left after some events and taken up again.
    while seen.len() < 700 {
        taken += 90;
        let mut stream = backend.watch(Some(position.clone()), &["invoice.*"]).await;
        while seen.len() < taken.min(700) {
            if let Some(What::Event(event)) = stream.message().await.unwrap().unwrap().what {
                seen.push(serde_json::from_slice::<Value>(&event.data).unwrap()["n"].as_u64().unwrap());
                position = event.position.unwrap();
            }
        }
    }
    assert_eq!(seen, (0..700).collect::<Vec<_>>());
    let mut live = 0;
    while live < 701 {
        if let Some(What::Event(_)) = now.message().await.unwrap().unwrap().what {
            live += 1;
        }
    }
    let other = FeedPosition { epoch: "00000000000000aa".into(), sequence: 7 };
    let mut doubtful = backend.watch(Some(other), &["other.*"]).await;
    let Some(What::Gap(gap)) = doubtful.message().await.unwrap().unwrap().what else { panic!("a doubt is told") };
    assert_eq!(gap.reason().as_str_name(), "FEED_GAP_REASON_POSSIBLY_LOST");
    let Some(What::Event(event)) = doubtful.message().await.unwrap().unwrap().what else {
        panic!("then what there is")
    };
    assert_eq!(event.event_type, "other.event");
}

#[tokio::test]
async fn many_events_are_published_over_one_stream_each_on_its_own_merits() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let events = vec![
        Backend::event("invoice.paid", 1),
        Backend::event("Invoice", 2),
        PublishEventRequest { orchestrator_ids: vec!["orla".into()], ..Backend::event("invoice.paid", 3) },
        Backend::event("invoice.paid", 4),
    ];
    let outcomes = backend.publish_all(events).await;
    let sequence = |outcome: &Outcome| match outcome {
        Outcome::Published(published) => published.position.as_ref().map(|position| position.sequence),
        Outcome::Error(_) => None,
    };
    assert_eq!(outcomes.iter().map(sequence).collect::<Vec<_>>(), [Some(1), None, None, Some(2)]);
    assert!(matches!(&outcomes[1], Outcome::Error(error) if error.message.starts_with("event_type")));
    assert_eq!(backend.depth("orla").await, 1);
}

#[tokio::test]
async fn bad_events_name_their_field() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let good = || Backend::event("invoice.paid", 1);
    let long = "a".repeat(65);
    let typed =
        |data: &str| PublishEventRequest { data: data.to_owned().into(), ..Backend::event("dlq.entry-resolved", 0) };
    let resolved = r#"{"entryId":"1","resolution":"done","resolvedAt":"2026-01-01T00:00:00Z"}"#;
    assert!(backend.try_publish(typed(resolved)).await.is_ok());
    let bad = [
        ("event_type", PublishEventRequest { event_type: String::new(), ..good() }),
        ("event_type", PublishEventRequest { event_type: long, ..good() }),
        ("event_id", PublishEventRequest { event_id: "a/b".into(), ..good() }),
        ("event_id", PublishEventRequest { event_id: "00000000000000ab.f.1".into(), ..good() }),
        ("channel_id", PublishEventRequest { channel_id: "{}".into(), ..good() }),
        ("data", PublishEventRequest { data: "[]".into(), ..good() }),
        ("data", PublishEventRequest { data: vec![b' '; 200_000].into(), ..good() }),
        ("priority", PublishEventRequest { priority: 9, orchestrator_ids: vec!["orla".into()], ..good() }),
        ("delivery", PublishEventRequest { delivery: 9, ..good() }),
        ("traceparent", PublishEventRequest { traceparent: "x".into(), ..good() }),
        ("orchestrator_ids[1]", PublishEventRequest { orchestrator_ids: vec!["orla".into(), String::new()], ..good() }),
        ("orchestrator_ids", PublishEventRequest { orchestrator_ids: vec!["orla".into(); 1_001], ..good() }),
        ("data.resolvedAt", typed(&resolved.replace("2026-01-01T00:00:00Z", "soon"))),
        ("data.resolution", typed(r#"{"entryId":"1"}"#)),
    ];
    for (field, event) in bad {
        let refused = backend.try_publish(event).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        assert_eq!(waystation_rpc::field_of(&refused).as_deref(), Some(field));
    }
    let named = |number| PublishEventRequest { event_id: "e-1".into(), ..Backend::event("invoice.paid", number) };
    backend.try_publish(named(1)).await.unwrap();
    let reused = backend.try_publish(named(2)).await.unwrap_err();
    assert_eq!(code_and_reason(&reused), (Code::AlreadyExists, Some(ErrorReason::MessageIdReused)));
    let watches = [
        ("event_types[0]", WatchEventsRequest { event_types: vec!["*.a".into()], ..Default::default() }),
        (
            "event_types",
            WatchEventsRequest { event_types: (0..51).map(|n| format!("t{n}")).collect(), ..Default::default() },
        ),
        ("channel_ids[0]", WatchEventsRequest { channel_ids: vec!["a b".into()], ..Default::default() }),
        (
            "position.epoch",
            WatchEventsRequest {
                position: Some(FeedPosition { epoch: "x".into(), sequence: 1 }),
                ..Default::default()
            },
        ),
    ];
    for (field, watch) in watches {
        let refused = backend.router.clone().watch_events(watch).await.unwrap_err();
        assert_eq!(waystation_rpc::field_of(&refused).as_deref(), Some(field));
    }
}

#[tokio::test]
async fn positions_of_the_future_and_of_other_epochs_are_doubts() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    backend.publish_many("invoice.paid", 0..3).await;
    let mut daemon = subscriber(&cell, "orla", &["*"]).await;
    let epoch = daemon.welcome["payload"]["feed"]["epoch"].clone();
    assert!(epoch.is_null(), "nothing was subscribed yet");
    backend.publish("invoice.paid", 3).await;
    let seen = daemon.events(1).await.remove(0);
    let resume = |epoch: &Value, position: u64| json!({"resume": {"feed": {"epoch": epoch, "position": position}}});
    let mut daemon = connect(&cell, "orla", "d1", resume(&seen["epoch"], 99)).await;
    let gap = daemon.next_of("gap").await;
    assert_eq!(
        (&gap["payload"]["log"], &gap["payload"]["reason"], &gap["payload"]["from"], &gap["payload"]["to"]),
        (&json!("feed"), &json!("possibly_lost"), &json!(5), &json!(99))
    );
    backend.publish("invoice.paid", 4).await;
    assert_eq!(numbers(&daemon.events(1).await), [4]);
    let mut daemon = connect(&cell, "orla", "d1", resume(&json!("00000000000000aa"), 2)).await;
    assert_eq!(daemon.next_of("gap").await["payload"]["reason"], "possibly_lost");
    assert_eq!(numbers(&daemon.events(5).await), [0, 1, 2, 3, 4], "everything there is may be new");
    let mut daemon = connect(&cell, "orla", "d1", resume(&seen["epoch"], 0)).await;
    assert_eq!(numbers(&daemon.events(5).await), [0, 1, 2, 3, 4], "from the beginning");
}
