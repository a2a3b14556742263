//! What Waystation itself publishes: who comes and goes, what daemons say of themselves, what died, who is held back.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use waystation_proto::auth::v1::{OrganizationSettings, UpdateOrganizationSettingsRequest};
use waystation_proto::router::v1::RedriveDeadLettersRequest;
use waystation_store::limits::RECONNECTING;
use waystation_tests::{Backend, Cell, Daemon, eventually, frame, http};

/// Somebody who hears all that Waystation says of these kinds.
async fn listener(cell: &Cell, event_types: &[&str]) -> Daemon {
    let token = cell.token("listener").await;
    let more = json!({"client": {"name": "t", "version": "1"}, "subscriptions": event_types});
    let mut daemon = Daemon::connect_with(&cell.dev.gateway_url, "listener", "d1", &token, more).await;
    daemon.hears_own = true;
    daemon
}

/// The next events: their types and data.
async fn heard(listener: &mut Daemon, count: usize) -> Vec<(String, Value)> {
    let events = listener.events(count).await;
    let heard =
        events.into_iter().map(|mut event| (event["eventType"].as_str().unwrap().to_owned(), event["data"].take()));
    heard.collect()
}

/// What is told of one orchestrator.
async fn heard_of(listener: &mut Daemon, orchestrator: &str) -> (String, Value) {
    loop {
        let (event_type, data) = heard(listener, 1).await.remove(0);
        if data["orchestratorId"] == orchestrator {
            return (event_type, data);
        }
    }
}

#[tokio::test]
async fn who_comes_and_goes_is_told_and_a_short_absence_is_not() {
    let cell = Cell::start().await;
    let mut listener = listener(&cell, &["presence.*"]).await;
    let (event_type, data) = heard(&mut listener, 1).await.remove(0);
    assert_eq!((event_type.as_str(), &data["orchestratorId"]), ("presence.user_online", &json!("listener")));

    let daemon = cell.daemon("orla", "d1").await;
    let (event_type, data) = heard(&mut listener, 1).await.remove(0);
    assert_eq!(event_type, "presence.user_online");
    assert_eq!((&data["orchestratorId"], &data["status"]), (&json!("orla"), &json!("online")));
    data["timestamp"].as_str().unwrap().parse::<waystation_domain::Timestamp>().unwrap();

    // It flaps, and it has more than one daemon.
    daemon.vanish();
    let mut daemon = cell.daemon("orla", "d1").await;
    let second = cell.daemon("orla", "d2").await;
    assert!(listener.is_silent(Duration::from_millis(2_500)).await, "it was never away for {RECONNECTING:?}");
    second.vanish();
    daemon.send(frame("goodbye", json!({}))).await;
    daemon.close_code().await;
    let (event_type, data) = heard(&mut listener, 1).await.remove(0);
    let offline = ("presence.user_offline", &json!("orla"), &json!("offline"));
    assert_eq!((event_type.as_str(), &data["orchestratorId"], &data["status"]), offline);
}

#[tokio::test]
async fn what_daemons_say_of_themselves_is_told_when_it_changes() {
    let cell = Cell::start().await;
    let mut listener = listener(&cell, &["vp.status_changed", "presence.updated"]).await;
    let token = cell.token("orla").await;
    let say = async |what: &str, body: Value| {
        let request = Request::put(format!("/api/daemon/{what}")).header("authorization", format!("Bearer {token}"));
        let request = request.header("content-type", "application/json").body(body.to_string()).unwrap();
        assert_eq!(http(&cell.dev.http_url, request).await.status(), 200, "{what}: {body}");
    };
    say("status", json!({"status": "paused", "message": "lunch"})).await;
    say("status", json!({"status": "paused", "message": "lunch"})).await;
    say("presence", json!({"status": "away"})).await;
    say("status", json!({"status": "active"})).await;
    let mut told = heard(&mut listener, 3).await;
    for (_, data) in &mut told {
        assert_eq!(data["orchestratorId"], "orla");
        data.as_object_mut().unwrap().remove("timestamp").unwrap();
        data.as_object_mut().unwrap().remove("orchestratorId").unwrap();
    }
    let expected = [
        ("vp.status_changed", json!({"status": "paused", "message": "lunch"})),
        ("presence.updated", json!({"status": "away", "statusText": ""})),
        ("vp.status_changed", json!({"status": "active", "message": ""})),
    ];
    assert_eq!(told, expected.map(|(event_type, data)| (event_type.to_owned(), data)));

    // By a heartbeat on a socket too.
    let mut daemon = cell.daemon("otto", "d1").await;
    daemon.send(frame("heartbeat", json!({"status": "busy"}))).await;
    let (event_type, data) = heard_of(&mut listener, "otto").await;
    assert_eq!((event_type.as_str(), &data["status"]), ("vp.status_changed", &json!("busy")));
}

#[tokio::test]
async fn dead_letters_and_what_becomes_of_them_are_told() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let mut listener = listener(&cell, &["dlq.*"]).await;
    let mut daemon = cell.daemon("orla", "d1").await;
    backend.fill("orla", 3).await;
    let events = daemon.events(3).await;
    for event in &events {
        daemon.send(frame("reject", json!({"eventId": event["eventId"], "reason": "not now"}))).await;
    }
    let told = heard(&mut listener, 3).await;
    for (number, ((event_type, data), event)) in (1..).zip(told.iter().zip(&events)) {
        assert_eq!(event_type, "dlq.entry-added");
        let expected = (&json!(format!("orla.{number}")), &event["eventId"], &json!("not now"));
        assert_eq!((&data["entryId"], &data["originalMessageId"], &data["reason"]), expected);
    }
    let redrive = RedriveDeadLettersRequest { orchestrator_id: "orla".into(), numbers: vec![2], ..Default::default() };
    backend.router.redrive_dead_letters(redrive).await.unwrap();
    let told = heard(&mut listener, 2).await;
    let types: Vec<&str> = told.iter().map(|(event_type, _)| event_type.as_str()).collect();
    assert_eq!(types, ["dlq.entry-resubmitted", "dlq.entry-resolved"]);
    let again = format!("{}.r1", events[1]["eventId"].as_str().unwrap());
    assert_eq!((&told[0].1["entryId"], &told[0].1["newMessageId"]), (&json!("orla.2"), &json!(again)));
    assert_eq!((&told[1].1["entryId"], &told[1].1["resolution"]), (&json!("orla.2"), &json!("resubmitted")));
    assert!(listener.is_silent(Duration::from_millis(1_500)).await);
}

#[tokio::test]
async fn an_organization_that_is_held_back_is_told_once() {
    let cell = Cell::start().await;
    let mut operator = Backend::operator(&cell.dev);
    let settings = OrganizationSettings { messages_per_second: 20, ..Default::default() };
    let update = UpdateOrganizationSettingsRequest { organization_id: "dev".into(), settings: Some(settings) };
    operator.credentials.update_organization_settings(update).await.unwrap();
    let (backend, mut listener) = (cell.backend(), listener(&cell, &["system.*"]).await);
    eventually("it is held back", async || {
        let sending = (0..50).map(|number| backend.try_route(Backend::message("orla", number)));
        futures_util::future::join_all(sending).await.iter().any(Result::is_err).then_some(())
    })
    .await;
    let (event_type, data) = heard(&mut listener, 1).await.remove(0);
    let expected = ("system.rate_limited", &json!("message"), &json!(20));
    assert_eq!((event_type.as_str(), &data["action"], &data["maxRate"]), expected);
    let sending = (0..50).map(|number| backend.try_route(Backend::message("orla", number)));
    futures_util::future::join_all(sending).await;
    assert!(listener.is_silent(Duration::from_millis(500)).await, "once in a minute");
}
