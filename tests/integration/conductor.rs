//! The event stream of the conductor kind (daemon protocol, section 3): another dialect over the same feed.

use http::Request;
use serde_json::{Value, json};
use waystation_proto::router::v1::PublishEventRequest;
use waystation_tests::{Backend, Cell, Conductor, eventually, http};

fn resolved(number: u64) -> PublishEventRequest {
    let data = json!({"entryId": number.to_string(), "resolution": "done", "resolvedAt": "2026-01-01T00:00:00Z"});
    PublishEventRequest { data: data.to_string().into(), ..Backend::event("dlq.entry-resolved", 0) }
}

async fn publish(backend: &Backend, numbers: std::ops::Range<u64>) {
    backend.publish_all(numbers.map(resolved).collect()).await;
}

fn entries(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["data"]["entryId"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_client_gets_the_categories_it_asked_for() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    let mut client = Conductor::connect(&cell.dev.http_url, &token).await;
    assert_eq!(client.protocol.as_deref(), Some("waystation.events.v1"), "the token is not echoed");
    assert!(client.greeting["data"]["connectedAt"].is_string());
    let ack = client.subscribe(&["dlq"], None).await;
    assert_eq!((&ack["type"], &ack["data"]["categories"]), (&json!("subscription-ack"), &json!(["dlq"])));
    publish(&backend, 0..1).await;
    backend.publish("message.received", 1).await;
    publish(&backend, 2..3).await;
    let events = client.events(2).await;
    assert_eq!(entries(&events), [0, 2]);
    assert_eq!((&events[0]["category"], &events[0]["event"]), (&json!("dlq"), &json!("entry-resolved")));
    assert_eq!(events[0]["clientId"], client.greeting["clientId"]);
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    let ack = client.ask(json!({"type": "unsubscribe", "categories": ["dlq"]})).await;
    assert_eq!(ack["data"]["categories"], json!([]));
}

#[tokio::test]
async fn a_client_that_names_its_position_misses_nothing() {
    let cell = Cell::start().await;
    let (backend, token) = (cell.backend(), cell.token("orla").await);
    let mut client = Conductor::connect(&cell.dev.http_url, &token).await;
    let mut at = client.subscribe(&["dlq"], None).await["data"]["position"].as_str().map(str::to_owned);
    let mut seen = Vec::new();
    for round in 0..4 {
        publish(&backend, round * 100..round * 100 + 100).await;
        let events = client.events(60).await;
        seen.extend(entries(&events));
        at = Some(events.last().unwrap()["position"].as_str().unwrap().to_owned());
        client = Conductor::connect(&cell.dev.http_url, &token).await;
        client.subscribe(&["dlq"], at.as_deref()).await;
        seen.extend(entries(&client.events(40).await));
    }
    assert_eq!(seen, (0..400).collect::<Vec<_>>());
    let mut lost = Conductor::connect(&cell.dev.http_url, &token).await;
    lost.subscribe(&["dlq"], Some("00000000000000aa.7")).await;
    assert_eq!(lost.next().await["type"], "gap");
    drop(at);
}

#[tokio::test]
async fn who_watches_is_shown_to_its_organization_alone() {
    let cell = Cell::start().await;
    let token = cell.token("orla").await;
    let status = async |bearer: &str| -> (u16, Value) {
        let request = Request::get("/api/websocket/status").header("authorization", format!("Bearer {bearer}"));
        let answer = http(&cell.dev.http_url, request.body(String::new()).unwrap()).await;
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
    };
    let mut client = Conductor::connect(&cell.dev.http_url, &token).await;
    client.subscribe(&["dlq", "webhook"], None).await;
    let (code, shown) = status(&cell.dev.service_token).await;
    assert_eq!((code, &shown["status"], &shown["connectedClients"]), (200, &json!("operational"), &json!(1)));
    assert_eq!((&shown["subscriptions"]["dlq"], &shown["subscriptions"]["scheduler"]), (&json!(1), &json!(0)));
    let id = client.greeting["clientId"].as_str().unwrap();
    assert_eq!(shown["clientDetails"][id]["subscriptions"], json!(["dlq", "webhook"]));
    drop(client);
    eventually("it is gone", async || (status(&token).await.1["connectedClients"] == 0).then_some(())).await;
}

#[tokio::test]
async fn those_without_a_token_or_a_place_are_refused() {
    let cell = Cell::start_with(|options| options.limits.conductor_clients = 1).await;
    let base = &cell.dev.http_url;
    let refused = async |protocols: &str| Conductor::try_connect(base, protocols).await.unwrap().err();
    assert_eq!(refused("").await, Some(401));
    assert_eq!(refused("waystation.events.v1, bearer.x.y.z").await, Some(401));
    let blind = cell.token_with("orla", &["messages:read"]).await;
    assert_eq!(refused(&format!("waystation.events.v1, bearer.{blind}")).await, Some(403));
    let token = cell.token("orla").await;
    let mut first = Conductor::connect(base, &token).await;
    assert_eq!(refused(&format!("bearer.{token}")).await, Some(503));
    for (frame, named) in
        [(json!({"type": "subscribe", "categories": ["news"]}), "categories[0]"), (json!({"type": "dance"}), "type")]
    {
        let error = first.ask(frame).await;
        assert!(error["data"]["error"].as_str().unwrap().starts_with(named), "{error}");
    }
    let description = http(base, Request::get("/ws").body(String::new()).unwrap()).await;
    assert_eq!(description.status(), 200);
}
