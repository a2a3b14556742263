//! What a client can say about a message, and what it can send (daemon protocol 6.2, 6.5 and 6.6).

use serde_json::{Value, json};
use waystation_proto::router::v1::{GetStatsRequest, ListDeadLettersRequest, Presence};
use waystation_tests::{Cell, Daemon, eventually, frame};

async fn with_events(cell: &Cell, count: u64) -> (Daemon, Vec<Value>) {
    let mut daemon = cell.daemon("orla", "d1").await;
    for number in 1..=count {
        cell.backend().route("orla", number).await;
    }
    let events = daemon.events(count.try_into().unwrap()).await;
    (daemon, events)
}

fn error(answer: &Value) -> (&str, &str) {
    let payload = &answer["payload"];
    (payload["code"].as_str().unwrap_or_default(), payload["details"]["field"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn an_ack_up_to_a_sequence_is_confirmed_once_the_store_has_it() {
    let cell = Cell::start().await;
    let (mut daemon, events) = with_events(&cell, 3).await;
    let answer = daemon.ask("ack", json!({"upTo": {"normal": 2}, "confirm": true})).await;
    let result = |event: &Value, status: &str| json!({"eventId": event["eventId"], "status": status});
    assert_eq!(answer["payload"]["results"], json!([result(&events[0], "ACKED"), result(&events[1], "ACKED")]));
    assert_eq!(cell.backend().depth("orla").await, 1);

    // Old, foreign and future ids: each is told, none does anything.
    let ids = json!([events[0]["eventId"], "ffffffffffffffff.n.3", "somebody-elses", "gap.7", events[2]["eventId"]]);
    let answer = daemon.ask("ack", json!({"eventIds": ids, "confirm": true})).await;
    let results = answer["payload"]["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["ACKED", "STALE", "STALE", "STALE", "ACKED"]);
    let answer = daemon.ask("ack", json!({"upTo": {"normal": 4}, "confirm": true})).await;
    assert_eq!(error(&answer), ("INVALID_MESSAGE", "payload.upTo.normal"));
    let counters = cell.backend().mailbox("orla").await.counters.unwrap();
    assert_eq!((counters.accepted, counters.acknowledged), (3, 3));
}

#[tokio::test]
async fn the_next_sequence_of_another_epoch_is_not_acknowledged() {
    let cell = Cell::start().await;
    let (mut daemon, events) = with_events(&cell, 1).await;
    let (id, epoch) = (events[0]["eventId"].as_str().unwrap(), events[0]["epoch"].as_str().unwrap());
    let foreign = id.replace(epoch, "00000000000000aa");
    let answer = daemon.ask("ack", json!({"eventIds": [foreign], "confirm": true})).await;
    assert_eq!(answer["payload"]["results"][0]["status"], "STALE");
    assert_eq!(cell.backend().depth("orla").await, 1);
}

#[tokio::test]
async fn a_nacked_message_comes_again_after_its_delay() {
    let cell = Cell::start().await;
    let (mut daemon, events) = with_events(&cell, 2).await;
    daemon.send(frame("nack", json!({"eventId": events[0]["eventId"], "delayMs": 300}))).await;
    daemon.ack(&events[1..]).await;
    let again = daemon.events(1).await.remove(0);
    assert_eq!((&again["eventId"], &again["attempt"]), (&events[0]["eventId"], &json!(2)));
    assert_eq!(again["redelivered"], true);
    // At once, until its attempts are used up.
    for attempt in 3..=5 {
        daemon.send(frame("nack", json!({"eventId": again["eventId"]}))).await;
        assert_eq!(daemon.events(1).await[0]["attempt"], attempt);
    }
    daemon.send(frame("nack", json!({"eventId": again["eventId"]}))).await;
    let backend = cell.backend();
    let dead = eventually("it is dead", async || Some(backend.mailbox("orla").await.dead_letters).filter(|n| *n > 0));
    assert_eq!(dead.await, 1);
}

#[tokio::test]
async fn absurd_delays_are_refused_and_nothing_is_lost() {
    let cell = Cell::start().await;
    let (mut daemon, events) = with_events(&cell, 1).await;
    for delay in [json!(3_600_001), json!(u64::MAX), json!(-1), json!(1e300), json!("soon")] {
        let answer = daemon.ask("nack", json!({"eventId": events[0]["eventId"], "delayMs": delay})).await;
        assert_eq!(error(&answer), ("INVALID_MESSAGE", "payload.delayMs"), "{delay}");
        // Malformed frames in a row would close the connection.
        daemon.send(frame("extend", json!({"eventId": events[0]["eventId"]}))).await;
    }
    let answer = daemon.ask("ack", json!({"eventIds": [events[0]["eventId"]], "confirm": true})).await;
    assert_eq!(answer["payload"]["results"][0]["status"], "ACKED", "it is still in flight");
}

#[tokio::test]
async fn a_rejected_message_is_a_dead_letter_with_its_reason() {
    let cell = Cell::start().await;
    let (mut daemon, events) = with_events(&cell, 1).await;
    daemon.send(frame("reject", json!({"eventId": events[0]["eventId"], "reason": "cannot parse"}))).await;
    let mut backend = cell.backend();
    eventually("it is dead", async || (backend.mailbox("orla").await.dead_letters == 1).then_some(())).await;
    let list = ListDeadLettersRequest { orchestrator_id: "orla".into(), ..Default::default() };
    let letters = backend.router.list_dead_letters(list).await.unwrap().into_inner().dead_letters;
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "cannot parse"));
    let message = letters[0].message.as_ref().unwrap();
    assert_eq!(
        (message.message_id.as_str(), &message.data[..]),
        (events[0]["eventId"].as_str().unwrap(), &br#"{"n":1}"#[..])
    );
}

#[tokio::test]
async fn what_is_settled_can_be_neither_extended_nor_nacked_nor_rejected() {
    let cell = Cell::start().await;
    let (mut daemon, events) = with_events(&cell, 1).await;
    daemon.ack(&events).await;
    let id = &events[0]["eventId"];
    let verbs = [
        ("extend", json!({"eventId": id})),
        ("nack", json!({"eventId": id})),
        ("reject", json!({"eventId": id, "reason": "late"})),
        ("extend", json!({"eventId": "gap.1"})),
        ("nack", json!({"eventId": "never-sent"})),
    ];
    for (verb, payload) in verbs {
        let answer = daemon.ask(verb, payload).await;
        assert_eq!(error(&answer), ("INVALID_MESSAGE", "payload.eventId"), "{verb}");
    }
    assert_eq!(daemon.heartbeat().await["type"], "heartbeat_ack", "the connection lives");
}

#[tokio::test]
async fn an_extended_message_is_not_sent_again() {
    let cell = Cell::start_with(|options| options.session.redelivery = std::time::Duration::from_secs(1)).await;
    let (mut daemon, events) = with_events(&cell, 1).await;
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        daemon.send(frame("extend", json!({"eventId": events[0]["eventId"]}))).await;
    }
    assert!(daemon.is_silent(std::time::Duration::from_millis(500)).await);
    assert_eq!(daemon.events(1).await[0]["attempt"], 2, "left alone, it comes again");
}

#[tokio::test]
async fn a_daemon_sends_to_an_orchestrator_under_its_own_name() {
    let cell = Cell::start().await;
    let mut sender = cell.daemon("otto", "d1").await;
    let mut receiver = cell.daemon("orla", "d1").await;
    let message =
        json!({"to": {"orchestratorId": "orla"}, "data": {"hello": 1}, "messageId": "m-1", "priority": "high"});
    let sent = sender.ask("send", message.clone()).await;
    assert_eq!((&sent["type"], &sent["payload"]["messageId"]), (&json!("send_ack"), &json!("m-1")));
    assert_eq!((&sent["payload"]["status"], &sent["payload"]["sequence"]), (&json!("DISPATCHED"), &json!(1)));
    let event = receiver.events(1).await.remove(0);
    assert_eq!((&event["senderOrchestratorId"], &event["lane"]), (&json!("otto"), &json!("high")));
    assert_eq!((&event["eventType"], &event["data"]["hello"]), (&json!("message.received"), &json!(1)));

    // A repeat is one message; other content under its id is refused.
    receiver.ack(&[event]).await;
    let backend = cell.backend();
    eventually("it is acknowledged", async || (backend.depth("orla").await == 0).then_some(())).await;
    let again = sender.ask("send", message.clone()).await;
    assert_eq!((&again["payload"]["status"], &again["payload"]["sequence"]), (&json!("ACKNOWLEDGED"), &json!(1)));
    let mut other = message;
    other["data"] = json!({"hello": 2});
    let refused = sender.ask("send", other).await;
    assert_eq!(error(&refused), ("INVALID_MESSAGE", "payload.messageId"));
    assert_eq!(refused["payload"]["details"]["error"], "MESSAGE_ID_REUSED");

    // Without an id one is minted; to whoever is away it waits.
    let queued = sender.ask("send", json!({"to": {"orchestratorId": "nobody"}, "data": {}})).await;
    assert_eq!(
        (&queued["payload"]["status"], queued["payload"]["messageId"].as_str().unwrap().len()),
        (&json!("QUEUED"), 32)
    );
}

#[tokio::test]
async fn what_a_daemon_sends_arrives_in_its_order() {
    let cell = Cell::start().await;
    let mut sender = cell.daemon("otto", "d1").await;
    let mut receiver = cell.daemon("orla", "d1").await;
    for number in 0..80 {
        sender.send(frame("send", json!({"to": {"orchestratorId": "orla"}, "data": {"n": number}}))).await;
    }
    let numbers: Vec<u64> =
        receiver.events(80).await.iter().map(|event| event["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..80).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refused_message_says_why() {
    let cell = Cell::start().await;
    let mut sender = cell.daemon("otto", "d1").await;
    let to = |id: &str| json!({"to": {"orchestratorId": id}, "data": {}});
    let long = json!({"to": {"orchestratorId": "orla"}, "data": {}, "ttlMs": 8u64 * 24 * 3_600_000});
    assert_eq!(error(&sender.ask("send", long).await), ("INVALID_MESSAGE", "payload.ttlMs"));
    let reserved = json!({"to": {"channelId": "room"}, "eventType": "system.maintenance", "data": {}});
    assert_eq!(error(&sender.ask("send", reserved).await), ("INVALID_MESSAGE", "payload.eventType"));
    cell.backend().fill("full", 1_000).await;
    let refused = sender.ask("send", to("full")).await;
    assert_eq!(error(&refused), ("RATE_LIMITED", "payload.to.orchestratorId"));
    assert_eq!(refused["payload"]["details"]["error"], "MAILBOX_FULL");
    // The router judged two of them: what is too long to wait, and what finds no room.
    let stats = cell.backend().router.get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    assert_eq!(stats.refused, 2);

    let token = cell.token_with("otto", &["messages:read"]).await;
    let mut reader = Daemon::connect(&cell.dev.gateway_url, "otto", "d2", &token).await;
    assert_eq!(error(&reader.ask("send", to("orla")).await), ("INSUFFICIENT_SCOPE", ""));
}

#[tokio::test]
async fn a_token_is_renewed_on_the_open_socket() {
    let cell = Cell::start().await;
    let login = cell.log_in("orla").await;
    let token = login["accessToken"].as_str().unwrap();
    let mut daemon = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", token).await;
    let next = cell.refresh(login["refreshToken"].as_str().unwrap()).await;
    let answer = daemon.ask("auth_refresh", json!({"accessToken": next["accessToken"]})).await;
    assert_eq!(answer["type"], "auth_refreshed");
    // A token counts whole seconds.
    let second = |answer: &Value| answer["expiresAt"].as_str().unwrap()[..19].to_owned();
    assert_eq!(second(&answer["payload"]), second(&next));

    // Neither another orchestrator's, nor another login's, nor no token at all takes its place.
    let foreign = [cell.token("otto").await, cell.token("orla").await, "forged".to_owned()];
    for token in foreign {
        let answer = daemon.ask("auth_refresh", json!({"accessToken": token})).await;
        assert_eq!(error(&answer), ("NOT_AUTHENTICATED", "payload.accessToken"));
    }
    cell.backend().route("orla", 1).await;
    assert_eq!(daemon.events(1).await[0]["data"]["n"], 1, "the session goes on");
}

#[tokio::test]
async fn goodbye_ends_without_reconnecting() {
    let cell = Cell::start().await;
    let (mut daemon, events) = with_events(&cell, 1).await;
    daemon.ack(&events).await;
    daemon.send(frame("goodbye", json!({"reason": "done for today"}))).await;
    assert_eq!(daemon.close_code().await, 1000);
    let backend = cell.backend();
    eventually("it is offline", async || (backend.presence("orla").await == Presence::Offline).then_some(())).await;
    assert_eq!(backend.depth("orla").await, 0, "what was said before counts");
    let mut other = cell.daemon("orla", "d1").await;
    other.heartbeat().await;
    other.vanish();
    eventually("it is missed", async || (backend.presence("orla").await == Presence::Reconnecting).then_some(())).await;
}
