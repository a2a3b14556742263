//! Without a WebSocket: polls and server-sent events get the same, from the same cursor (daemon protocol, section 2).

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use waystation_proto::router::v1::RouteMessageRequest;
use waystation_tests::{Backend, Cell, Daemon, Sse, eventually, http};

const EVENTS: &str = "/api/daemon/events";

async fn call(cell: &Cell, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {token}"));
    let answer = http(&cell.dev.http_url, request.body(body).unwrap()).await;
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
}

async fn poll(cell: &Cell, token: &str, query: &str) -> Value {
    let (status, answer) = call(cell, "GET", &format!("{EVENTS}?{query}"), token, Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn numbers(answer: &Value) -> Vec<u64> {
    answer["events"].as_array().unwrap().iter().map(|item| item["payload"]["n"].as_u64().unwrap()).collect()
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

fn cursor(answer: &Value) -> &str {
    answer["cursor"].as_str().unwrap()
}

#[tokio::test]
async fn a_poll_gets_mailbox_and_feed_and_an_ack_removes() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    let named = RouteMessageRequest { channel_id: "c1".into(), ..Backend::message("orla", 1) };
    backend.try_route(named).await.unwrap();
    let answer = poll(&cell, &token, "types=invoice.*").await;
    assert_eq!((numbers(&answer), &answer["hasMore"]), (vec![1], &json!(false)));
    let item = &answer["events"][0];
    assert_eq!((&item["type"], &item["channelId"]), (&json!("message.received"), &json!("c1")));
    assert_eq!((&item["messageId"], &item["requiresAck"]), (&item["id"], &json!(true)));
    assert!(item["createdAt"].as_str().unwrap().ends_with('Z'));
    backend.publish("invoice.paid", 2).await;
    backend.publish("other.event", 3).await;
    backend.route("orla", 4).await;
    let next = poll(&cell, &token, &format!("types=invoice.*&cursor={}", cursor(&answer))).await;
    let mut found = numbers(&next);
    found.sort_unstable();
    assert_eq!(found, [2, 4]);
    let mut all = ids(&answer);
    all.extend(ids(&next));
    let (status, acked) = call(&cell, "DELETE", EVENTS, &token, json!({"eventIds": all})).await;
    assert_eq!((status, acked), (200, json!({"success": true, "acknowledged": 2})));
    assert_eq!(backend.depth("orla").await, 0);
    let (_, again) = call(&cell, "DELETE", EVENTS, &token, json!({"eventIds": all})).await;
    assert_eq!(again["acknowledged"], 0);
    let last = poll(&cell, &token, &format!("types=invoice.*&cursor={}", cursor(&next))).await;
    assert_eq!(numbers(&last), [0; 0]);
}

#[tokio::test]
async fn a_long_poll_waits_for_what_comes() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    let first = poll(&cell, &token, "types=invoice.*").await;
    assert_eq!(numbers(&first), [0; 0]);
    let query = format!("types=invoice.*&wait=20&cursor={}", cursor(&first));
    let waiting = poll(&cell, &token, &query);
    let publishing = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        backend.publish("invoice.paid", 7).await;
    };
    // Earlier than the poll would end.
    let both = async { tokio::join!(waiting, publishing) };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
    assert_eq!(numbers(&answer), [7]);
    let query = format!("types=invoice.*&wait=1&cursor={}", cursor(&answer));
    assert_eq!(numbers(&poll(&cell, &token, &query).await), [0; 0]);
    let query = format!("types=invoice.*&wait=20&cursor={}", cursor(&answer));
    let (answer, _) = tokio::join!(poll(&cell, &token, &query), backend.route("orla", 8));
    assert_eq!(numbers(&answer), [8]);
}

#[tokio::test]
async fn a_backlog_comes_in_pieces_and_a_lost_answer_comes_again() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    backend.fill("orla", 300).await;
    let mut seen = Vec::new();
    let mut at = String::new();
    loop {
        let answer = poll(&cell, &token, &format!("limit=40&cursor={at}")).await;
        seen.extend(numbers(&answer));
        if seen.len() == 80 {
            // As if the answer had been lost: asked again from the cursor before it.
            let again = poll(&cell, &token, &format!("limit=40&cursor={at}")).await;
            assert!(again["events"].as_array().unwrap().iter().all(|item| item["redelivered"] == true));
        }
        at = cursor(&answer).to_owned();
        let (_, acked) = call(&cell, "DELETE", EVENTS, &token, json!({"eventIds": ids(&answer)})).await;
        assert_eq!(acked["acknowledged"], ids(&answer).len());
        if answer["hasMore"] == false {
            break;
        }
    }
    seen.dedup();
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
    assert_eq!(backend.depth("orla").await, 0);
}

#[tokio::test]
async fn since_shows_what_is_younger() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    backend.route("orla", 1).await;
    backend.publish("invoice.paid", 2).await;
    let all = poll(&cell, &token, "types=invoice.*&since=2020-01-01T00:00:00Z").await;
    let mut found = numbers(&all);
    found.sort_unstable();
    assert_eq!(found, [1, 2], "the feed from its beginning");
    let newest =
        all["events"].as_array().unwrap().iter().map(|item| item["createdAt"].as_str().unwrap()).max().unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    backend.route("orla", 3).await;
    assert_eq!(numbers(&poll(&cell, &token, &format!("types=invoice.*&since={newest}")).await), [3]);
}

#[tokio::test]
async fn a_stream_gets_what_a_socket_gets_and_resumes_by_its_last_id() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    let path = format!("{EVENTS}?types=invoice.*");
    let mut stream = Sse::open(&cell.dev.http_url, &path, &token, None).await;
    let welcome = stream.next().await;
    assert_eq!(welcome.event, "auth_success");
    backend.route("orla", 1).await;
    let message = stream.items(1).await.remove(0);
    assert_eq!((&message.data["payload"]["n"], &message.data["log"]), (&json!(1), &json!("mailbox")));
    backend.publish_many("invoice.paid", 2..5).await;
    let events = stream.items(3).await;
    assert_eq!(events.iter().map(|event| event.data["payload"]["n"].clone()).collect::<Vec<_>>(), [2, 3, 4]);
    drop(stream);
    backend.publish_many("invoice.paid", 5..8).await;
    call(&cell, "DELETE", EVENTS, &token, json!({"eventIds": [message.data["id"]]})).await;
    let mut stream = Sse::open(&cell.dev.http_url, &path, &token, Some(&events[1].id)).await;
    let events = stream.items(4).await;
    assert_eq!(events.iter().map(|event| event.data["payload"]["n"].clone()).collect::<Vec<_>>(), [4, 5, 6, 7]);
    eventually("one session lives", async || (backend.sessions("orla").await.len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_daemon_changes_its_transport_without_loss_or_repetition() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    let resumed = |cursor: &str| json!({"client": {"name": "t", "version": "1"}, "subscriptions": ["*"], "resume": {"cursor": cursor}});
    let mut seen = Vec::new();
    backend.publish_many("invoice.paid", 0..10).await;
    let answer = poll(&cell, &token, "types=invoice.*&since=2020-01-01T00:00:00Z&limit=4").await;
    seen.extend(numbers(&answer));
    let path = format!("{EVENTS}?types=invoice.*&cursor={}", cursor(&answer));
    let mut stream = Sse::open(&cell.dev.http_url, &path, &token, None).await;
    let events = stream.items(3).await;
    seen.extend(events.iter().map(|event| event.data["payload"]["n"].as_u64().unwrap()));
    // The WebSocket is another daemon, so that nothing is displaced.
    let mut daemon = Daemon::connect_with(&cell.dev.gateway_url, "orla", "d2", &token, resumed(&events[2].id)).await;
    let more = daemon.events(2).await;
    seen.extend(more.iter().map(|event| event["data"]["n"].as_u64().unwrap()));
    let (epoch, sequence) = (more[1]["epoch"].as_str().unwrap(), &more[1]["sequence"]);
    let answer = poll(&cell, &token, &format!("types=invoice.*&cursor=~{epoch}-{sequence}")).await;
    seen.extend(numbers(&answer));
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_that_is_never_read_costs_nothing_and_misses_nothing() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    let mut stream = Sse::open(&cell.dev.http_url, &format!("{EVENTS}?types=invoice.*"), &token, None).await;
    let pad = "x".repeat(8_000);
    for from in (0..1_500).step_by(100) {
        let event = |number: u64| waystation_proto::router::v1::PublishEventRequest {
            data: json!({"n": number, "pad": pad}).to_string().into(),
            ..Backend::event("invoice.paid", 0)
        };
        backend.publish_all((from..from + 100).map(event).collect()).await;
    }
    let events = stream.items(1_500).await;
    let found: Vec<u64> = events.iter().map(|event| event.data["payload"]["n"].as_u64().unwrap()).collect();
    assert_eq!(found, (0..1_500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_by_rest_reaches_a_mailbox_or_a_channel() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    let send = async |body: Value| call(&cell, "POST", "/api/daemon/messages", &token, body).await;
    let mut otto = Daemon::connect_with(
        &cell.dev.gateway_url,
        "otto",
        "d1",
        &cell.token("otto").await,
        json!({"client": {"name": "t", "version": "1"}, "subscriptions": ["message.*"]}),
    )
    .await;
    let direct = json!({"orchestratorId": "otto", "content": "hello", "messageId": "m-1", "threadId": "t1"});
    let (status, sent) = send(direct.clone()).await;
    assert_eq!((status, &sent["messageId"], &sent["status"]), (200, &json!("m-1"), &json!("DISPATCHED")));
    let event = otto.events(1).await.remove(0);
    assert_eq!((&event["data"]["content"], &event["data"]["authorId"]), (&json!("hello"), &json!("orla")));
    assert_eq!((&event["senderOrchestratorId"], &event["log"]), (&json!("orla"), &json!("mailbox")));
    let (status, _) = send(json!({"orchestratorId": "otto", "content": "other", "messageId": "m-1"})).await;
    assert_eq!(status, 409);
    let (status, sent) = send(json!({"channelId": "c1", "content": "all", "attachments": [{"id": 1}]})).await;
    assert_eq!((status, &sent["status"]), (200, &json!("PUBLISHED")));
    let first = sent["sequence"].as_u64().unwrap();
    let event = otto.events(1).await.remove(0);
    assert_eq!((&event["log"], &event["channelId"]), (&json!("feed"), &json!("c1")));
    assert_eq!((&event["data"]["attachments"][0]["id"], &event["senderOrchestratorId"]), (&json!(1), &json!("orla")));
    // The same by a frame.
    let mut orla = cell.daemon("orla", "d1").await;
    let ack = orla.ask("send", json!({"to": {"channelId": "c1"}, "eventType": "message.updated", "data": {}})).await;
    assert_eq!(ack["payload"]["status"], "PUBLISHED");
    assert!(ack["payload"]["sequence"].as_u64().unwrap() > first);
    assert_eq!(otto.events(1).await[0]["eventType"], "message.updated");
    let refused =
        orla.ask("send", json!({"to": {"channelId": "c1"}, "eventType": "presence.user_online", "data": {}})).await;
    assert_eq!(refused["payload"]["details"]["field"], "payload.eventType");
    for (body, named) in [
        (json!({"content": "x"}), "one of"),
        (json!({"channelId": "c1", "orchestratorId": "otto", "content": "x"}), "one of"),
        (json!({"channelId": "c 1", "content": "x"}), "channelId"),
        (json!({"channelId": "c1"}), "one of content and data"),
        (json!({"channelId": "c1", "content": "x", "data": {}}), "one of content and data"),
        (json!({"channelId": "c1", "data": [1]}), "data"),
        (json!({"channelId": "c1", "data": {}, "eventType": "A"}), "eventType"),
        (json!({"channelId": "c1", "content": "x", "messageId": "gap.1"}), "messageId"),
    ] {
        let (status, answer) = send(body).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().starts_with(named), "{answer}");
    }
    assert_eq!(backend.depth("otto").await, 1);
}

#[tokio::test]
async fn the_newest_messages_of_a_channel_are_listed_and_stay_where_they_are() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    let say = async |channel: &str, number: u64, event_type: &str| {
        let event = waystation_proto::router::v1::PublishEventRequest {
            channel_id: channel.into(),
            ..Backend::event(event_type, number)
        };
        backend.try_publish(event).await.unwrap();
    };
    let mail = async |channel: &str, number: u64| {
        let message = waystation_proto::router::v1::RouteMessageRequest {
            channel_id: channel.into(),
            ..Backend::message("orla", number)
        };
        backend.try_route(message).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let list = async |query: &str, token: &str| {
        let path = format!("/api/daemon/messages?{query}");
        call(&cell, "GET", &path, token, Value::Null).await
    };
    mail("c1", 1).await;
    say("c1", 2, "message.received").await;
    say("c2", 3, "message.received").await;
    say("c1", 4, "call.started").await;
    mail("c2", 5).await;
    // Far behind the others, so that more than one piece is read.
    backend.publish_many("invoice.paid", 0..1_500).await;
    say("c1", 6, "message.updated").await;
    mail("c1", 7).await;
    let numbers = |answer: &Value| -> Vec<u64> {
        answer["messages"].as_array().unwrap().iter().map(|item| item["payload"]["n"].as_u64().unwrap()).collect()
    };
    let (status, answer) = list("channelId=c1", &token).await;
    assert_eq!((status, numbers(&answer)), (200, vec![1, 2, 6, 7]), "{answer}");
    let logs: Vec<&Value> = answer["messages"].as_array().unwrap().iter().map(|item| &item["log"]).collect();
    assert_eq!(logs, ["mailbox", "feed", "feed", "mailbox"]);
    assert_eq!(numbers(&list("channelId=c1&limit=2", &token).await.1), [6, 7]);
    assert_eq!(numbers(&list("channelId=c9", &token).await.1), [0u64; 0]);
    assert_eq!(backend.depth("orla").await, 3);
    // Another orchestrator sees the channel, not the mail; who may read no messages sees nothing.
    assert_eq!(numbers(&list("channelId=c1", &cell.token("otto").await).await.1), [2, 6]);
    let deaf = cell.token_with("orla", &["presence:read"]).await;
    assert_eq!(numbers(&list("channelId=c1", &deaf).await.1), [0u64; 0]);
    for (query, named) in [("", "channelId"), ("channelId=a%20b", "channelId"), ("channelId=c1&limit=0", "limit")] {
        let (status, answer) = list(query, &token).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().contains(named), "{answer}");
    }
}

#[tokio::test]
async fn bad_queries_name_what_is_wrong() {
    let cell = Cell::start().await;
    let token = cell.token("orla").await;
    let cases = [
        ("since=garbage", "since"),
        ("cursor=garbage", "cursor"),
        ("limit=0", "limit"),
        ("limit=257", "limit"),
        ("limit=x", "limit"),
        ("wait=61", "wait"),
        ("types=a,*.b", "types"),
    ];
    for (query, named) in cases {
        let (status, answer) = call(&cell, "GET", &format!("{EVENTS}?{query}"), &token, Value::Null).await;
        assert_eq!((status, &answer["code"]), (400, &json!("VALIDATION_ERROR")), "{query}");
        assert!(answer["error"].as_str().unwrap().starts_with(named), "{query}: {answer}");
    }
    let many = (0..51).map(|n| format!("t{n}")).collect::<Vec<_>>().join(",");
    assert_eq!(call(&cell, "GET", &format!("{EVENTS}?types={many}"), &token, Value::Null).await.0, 400);
    for (body, status) in [(json!({}), 400), (json!({"eventIds": ["a/b"]}), 400), (json!({"eventIds": []}), 200)] {
        assert_eq!(call(&cell, "DELETE", EVENTS, &token, body.clone()).await.0, status, "{body}");
    }
    let blind = cell.token_with("orla", &["messages:write"]).await;
    assert_eq!(call(&cell, "GET", EVENTS, &blind, Value::Null).await.0, 403);
    let elsewhere = "00000000000000aa-0-0-3-0~00000000000000aa-9";
    let answer = poll(&cell, &token, &format!("types=invoice.*&cursor={elsewhere}")).await;
    assert_eq!(answer["events"][0]["type"], "system.gap", "{answer}");
}
