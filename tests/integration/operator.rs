//! The mailbox in an operator's hands: listed, purged, its dead letters redriven.

use serde_json::json;
use tonic::Code;
use waystation_proto::common::v1::{ErrorReason, Priority};
use waystation_proto::router::v1::redriven_message::Outcome;
use waystation_proto::router::v1::*;
use waystation_tests::{Backend, Cell, Daemon, code_and_reason, eventually, frame};

async fn list(backend: &mut Backend, page_size: u32, page_token: &str) -> ListMessagesResponse {
    let request = ListMessagesRequest {
        orchestrator_id: "orla".into(),
        page_size,
        page_token: page_token.into(),
        ..Default::default()
    };
    backend.router.list_messages(request).await.unwrap().into_inner()
}

fn numbers(page: &ListMessagesResponse) -> Vec<u64> {
    let number =
        |message: &StoredMessage| serde_json::from_slice::<serde_json::Value>(&message.data).unwrap()["n"].as_u64();
    page.messages.iter().map(|message| number(message).unwrap()).collect()
}

#[tokio::test]
async fn a_mailbox_is_looked_into_page_by_page_without_any_change() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    for number in 1..=4 {
        backend.route("orla", number).await;
    }
    let urgent = RouteMessageRequest {
        priority: Priority::Critical.into(),
        message_id: "urgent".into(),
        channel_id: "room".into(),
        ..Backend::message("orla", 5)
    };
    backend.try_route(urgent).await.unwrap();
    let page = list(&mut backend, 2, "").await;
    assert_eq!(numbers(&page), [5, 1]);
    let first = &page.messages[0];
    assert_eq!((first.message_id.as_str(), first.channel_id.as_str(), first.attempt), ("urgent", "room", 1));
    let seconds = |time: Option<prost_types::Timestamp>| time.unwrap().seconds;
    assert_eq!(seconds(first.expire_time) - seconds(first.accept_time), 7 * 24 * 3_600);
    assert!(!first.in_flight);
    let page = list(&mut backend, 2, &page.next_page_token).await;
    assert_eq!(numbers(&page), [2, 3]);
    let page = list(&mut backend, 2, &page.next_page_token).await;
    assert_eq!((numbers(&page), page.next_page_token.as_str()), (vec![4], ""));

    let mut daemon = cell.daemon("orla", "d1").await;
    assert_eq!(daemon.events(5).await[0]["redelivered"], false, "looking is not delivering");
    eventually("all are in flight", async || {
        list(&mut backend.clone(), 0, "").await.messages.iter().all(|message| message.in_flight).then_some(())
    })
    .await;
    for (page_size, page_token, field) in [(101, "", "page_size"), (0, "x", "page_token")] {
        let request = ListMessagesRequest {
            orchestrator_id: "orla".into(),
            page_size,
            page_token: page_token.into(),
            ..Default::default()
        };
        let refused = backend.router.list_messages(request).await.unwrap_err();
        assert_eq!(waystation_rpc::field_of(&refused).as_deref(), Some(field));
    }
}

#[tokio::test]
async fn large_messages_make_short_pages() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    for number in 0..15 {
        let data = format!(r#"{{"n":{number},"text":"{}"}}"#, "x".repeat(190 * 1024)).into();
        backend.try_route(RouteMessageRequest { data, ..Backend::message("orla", number) }).await.unwrap();
    }
    let page = list(&mut backend, 0, "").await;
    assert_eq!(page.messages.len(), 10, "2 MiB");
    let rest = list(&mut backend, 0, &page.next_page_token).await;
    assert_eq!((rest.messages.len(), rest.next_page_token.as_str()), (5, ""));
}

#[tokio::test]
async fn a_purge_takes_everything_and_the_daemon_is_told() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let token = cell.token("orla").await;
    let more = json!({"maxInFlight": 2});
    let mut daemon = Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more).await;
    for number in 1..=4 {
        backend.route("orla", number).await;
    }
    daemon.events(2).await;
    let purge = PurgeMailboxRequest { orchestrator_id: "orla".into(), ..Default::default() };
    assert_eq!(backend.router.purge_mailbox(purge.clone()).await.unwrap().into_inner().purged, 4);
    let gap = daemon.next_of("gap").await;
    assert_eq!((&gap["payload"]["reason"], &gap["payload"]["count"]), (&json!("purged"), &json!(4)));
    assert_eq!(backend.mailbox("orla").await.counters.unwrap().purged, 4);
    assert_eq!(backend.router.purge_mailbox(purge).await.unwrap().into_inner().purged, 0);
}

/// A mailbox with so many dead letters, and nothing else.
async fn with_dead_letters(cell: &Cell, orchestrator: &str, count: u64) {
    let backend = cell.backend();
    let token = cell.token(orchestrator).await;
    let more = json!({"maxInFlight": 1_000, "maxInFlightBytes": 16 << 20, "client": {"name": "test"}});
    let mut daemon = Daemon::connect_with(&cell.dev.gateway_url, orchestrator, "d1", &token, more).await;
    backend.fill(orchestrator, count).await;
    for event in daemon.events(count.try_into().unwrap()).await {
        daemon.send(frame("reject", json!({"eventId": event["eventId"], "reason": "not now"}))).await;
    }
    eventually("all are dead", async || (backend.mailbox(orchestrator).await.dead_letters == count).then_some(()))
        .await;
    daemon.send(frame("goodbye", json!({}))).await;
    daemon.close_code().await;
}

fn redrive(orchestrator: &str, limit: u32) -> RedriveDeadLettersRequest {
    RedriveDeadLettersRequest { orchestrator_id: orchestrator.into(), limit, ..Default::default() }
}

#[tokio::test]
async fn dead_letters_are_redriven_as_new_messages_that_name_their_lineage() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    with_dead_letters(&cell, "orla", 3).await;
    let list = ListDeadLettersRequest { orchestrator_id: "orla".into(), page_size: 2, ..Default::default() };
    let page = backend.router.list_dead_letters(list.clone()).await.unwrap().into_inner();
    let letter_numbers: Vec<u64> = page.dead_letters.iter().map(|letter| letter.number).collect();
    assert_eq!((letter_numbers, page.next_page_token.as_str()), (vec![1, 2], "2"));
    let first = page.dead_letters[0].message.clone().unwrap();

    let one = RedriveDeadLettersRequest { numbers: vec![2, 99], ..redrive("orla", 0) };
    let answer = backend.router.redrive_dead_letters(one).await.unwrap().into_inner();
    assert_eq!((answer.messages.len(), answer.messages[0].number, answer.remaining), (1, 2, 2));
    let answer = backend.router.redrive_dead_letters(redrive("orla", 0)).await.unwrap().into_inner();
    assert_eq!((answer.messages.len(), answer.remaining), (2, 0));
    let Some(Outcome::Routed(routed)) = &answer.messages[0].outcome else { panic!("{answer:?}") };
    assert_eq!(routed.message_id, format!("{}.r1", first.message_id));

    // They come again, and may die again.
    let mut daemon = cell.daemon("orla", "d1").await;
    let events = daemon.events(3).await;
    let again = events.iter().find(|event| event["eventId"] == routed.message_id.as_str()).unwrap();
    assert_eq!((&again["attempt"], &again["data"]), (&json!(1), &json!({"n": 0})));
    daemon.send(frame("reject", json!({"eventId": again["eventId"], "reason": "still not"}))).await;
    eventually("it is dead again", async || (backend.mailbox("orla").await.dead_letters == 1).then_some(())).await;
    let answer = backend.router.redrive_dead_letters(redrive("orla", 0)).await.unwrap().into_inner();
    let Some(Outcome::Routed(routed)) = &answer.messages[0].outcome else { panic!("{answer:?}") };
    assert_eq!(routed.message_id, format!("{}.r2", first.message_id));
    let counters = backend.mailbox("orla").await.counters.unwrap();
    assert_eq!((counters.accepted, counters.dead), (7, 4));
}

#[tokio::test]
async fn ten_thousand_dead_letters_go_at_their_pace_and_none_is_lost() {
    let cell = Cell::start().await;
    for mailbox in 0..10 {
        with_dead_letters(&cell, &format!("o{mailbox}"), 1_000).await;
    }
    let begun = tokio::time::Instant::now();
    let all = (0..10).map(|mailbox| {
        let mut backend = cell.backend();
        async move {
            let (mut redriven, mut refused) = (0, 0);
            for _ in 0..3 {
                match backend.router.redrive_dead_letters(redrive(&format!("o{mailbox}"), 1_000)).await {
                    Ok(answer) => redriven += answer.into_inner().messages.len(),
                    Err(status) => {
                        let overloaded = (Code::ResourceExhausted, Some(ErrorReason::Overloaded));
                        assert_eq!(code_and_reason(&status), overloaded);
                        assert!(waystation_rpc::retry_after_of(&status).is_some());
                        refused += 1;
                    }
                }
            }
            (redriven, refused)
        }
    });
    let outcomes = futures_util::future::join_all(all).await;
    let redriven: usize = outcomes.iter().map(|(redriven, _)| redriven).sum();
    let refused: usize = outcomes.iter().map(|(_, refused)| refused).sum();
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!(redriven <= 1_000 + 200 * seconds, "{redriven} in {seconds} s");
    assert!(redriven >= 1_000 && refused > 0, "{outcomes:?}");
    let backend = cell.backend();
    let (mut waiting, mut dead) = (0, 0);
    for mailbox in 0..10 {
        let view = backend.mailbox(&format!("o{mailbox}")).await;
        dead += view.dead_letters;
        waiting += view.lanes.iter().map(|lane| lane.depth).sum::<u64>();
    }
    assert_eq!((waiting, dead), (redriven as u64, 10_000 - redriven as u64));
}

#[tokio::test]
async fn what_does_not_fit_stays_a_dead_letter() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    with_dead_letters(&cell, "orla", 10).await;
    backend.fill("orla", 995).await;
    let answer = backend.router.redrive_dead_letters(redrive("orla", 10)).await.unwrap().into_inner();
    let is_routed = |one: &&RedrivenMessage| matches!(one.outcome, Some(Outcome::Routed(_)));
    assert_eq!((answer.messages.iter().filter(is_routed).count(), answer.remaining), (5, 5));
    let Some(Outcome::Error(error)) = &answer.messages[9].outcome else { panic!("{answer:?}") };
    assert_eq!(error.code, Code::ResourceExhausted as i32);
}

#[tokio::test]
async fn a_session_is_found_and_ended_by_its_id() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    daemon.send(frame("heartbeat", json!({"status": "busy", "metrics": {"errors": 3}}))).await;
    daemon.next_of("heartbeat_ack").await;
    let session_id = daemon.welcome["payload"]["sessionId"].as_str().unwrap().to_owned();
    let get = GetSessionRequest { session_id: session_id.clone(), ..Default::default() };
    let session = backend.router.get_session(get.clone()).await.unwrap().into_inner().session.unwrap();
    assert_eq!((session.orchestrator_id.as_str(), session.daemon_id.as_str()), ("orla", "d1"));
    assert_eq!((session.reported_status.as_str(), &session.metrics[..]), ("busy", &br#"{"errors":3}"#[..]));
    assert!(session.active);

    let end = TerminateSessionRequest { session_id, ..Default::default() };
    backend.router.terminate_session(end.clone()).await.unwrap();
    assert_eq!(daemon.close_code().await, 4006);
    eventually("it is gone", async || {
        let status = backend.router.clone().get_session(get.clone()).await.err()?;
        (code_and_reason(&status) == (Code::NotFound, Some(ErrorReason::NotFound))).then_some(())
    })
    .await;
    let gone = backend.router.terminate_session(end).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn the_time_until_a_mailbox_is_full_is_told_while_it_grows() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    assert_eq!(backend.mailbox("orla").await.time_to_overflow, None, "it is empty");
    backend.fill("orla", 100).await;
    let seconds =
        eventually("a second has passed", async || backend.mailbox("orla").await.time_to_overflow).await.seconds;
    assert!((9..120).contains(&seconds), "100 messages in one to a few seconds, 900 to go: {seconds}");
}

#[tokio::test]
async fn statistics_tell_what_became_of_messages() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    let named = RouteMessageRequest { message_id: "m1".into(), ..Backend::message("orla", 1) };
    backend.try_route(named.clone()).await.unwrap();
    backend.try_route(named).await.unwrap();
    backend.fill("orla", 3).await;
    backend.try_route(RouteMessageRequest { data: "[]".into(), ..Backend::message("orla", 9) }).await.unwrap_err();
    let events = daemon.events(4).await;
    daemon.ack(&events[..3]).await;
    daemon.send(frame("reject", json!({"eventId": events[3]["eventId"], "reason": "no"}))).await;
    backend.route("away", 1).await;
    let stats = eventually("all is settled", async || {
        let stats = backend.router.clone().get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
        (stats.acknowledged + stats.dead == 4).then_some(stats)
    })
    .await;
    assert_eq!((stats.accepted, stats.duplicates, stats.refused), (5, 1, 1));
    assert_eq!((stats.acknowledged, stats.dead, stats.success_rate), (3, 1, Some(0.75)));
    let time = stats.delivery_time.unwrap();
    assert_eq!(time.count, 3);
    assert!(time.p50_ms <= time.p99_ms && time.p99_ms <= time.max_ms && time.mean_ms > 0.0, "{time:?}");
    assert!(stats.since_time.is_some());

    let mut operator = Backend::operator(&cell.dev);
    let all = operator.router.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.accepted, 5, "an operator sees all organizations");
    assert_eq!(
        backend.router.get_stats(GetStatsRequest { organization_id: "other".into() }).await.unwrap_err().code(),
        Code::NotFound
    );
}
