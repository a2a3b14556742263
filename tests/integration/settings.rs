//! What an organization chooses is what holds for it.

use std::time::Duration;

use serde_json::json;
use tonic::Code;
use waystation_proto::auth::v1::*;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::*;
use waystation_tests::{Backend, Cell, Daemon, code_and_reason};

/// A cell whose organization has chosen, before anything else looked at it.
async fn with(settings: OrganizationSettings) -> Cell {
    let cell = Cell::start().await;
    let mut operator = Backend::operator(&cell.dev);
    let update = UpdateOrganizationSettingsRequest { organization_id: "dev".into(), settings: Some(settings) };
    operator.credentials.update_organization_settings(update).await.unwrap();
    cell
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn a_small_mailbox_is_full_sooner_and_makes_room_if_so_chosen() {
    let cell = with(OrganizationSettings { mailbox_messages: 3, ..Default::default() }).await;
    let backend = cell.backend();
    backend.fill("orla", 3).await;
    let full = backend.try_route(Backend::message("orla", 4)).await.unwrap_err();
    assert_eq!(code_and_reason(&full), (Code::ResourceExhausted, Some(ErrorReason::MailboxFull)));

    let overflow_policy = OverflowPolicy::ReplaceOldest.into();
    let cell = with(OrganizationSettings { mailbox_messages: 3, overflow_policy, ..Default::default() }).await;
    let backend = cell.backend();
    backend.fill("orla", 5).await;
    let mailbox = backend.mailbox("orla").await;
    assert_eq!((backend.depth("orla").await, mailbox.counters.unwrap().overflowed), (3, 2));
    let events = cell.daemon("orla", "d1").await.events(4).await;
    assert_eq!((&events[0]["eventType"], &events[0]["data"]["count"]), (&json!("system.gap"), &json!(2)));
    assert_eq!(events[1]["data"]["n"], 2);
}

#[tokio::test]
async fn a_large_mailbox_holds_ten_thousand() {
    let cell = with(OrganizationSettings { mailbox_messages: 10_000, ..Default::default() }).await;
    let backend = cell.backend();
    for _ in 0..10 {
        backend.fill("orla", 1_000).await;
    }
    assert_eq!(backend.depth("orla").await, 10_000);
    assert!(backend.try_route(Backend::message("orla", 0)).await.is_err());
}

#[tokio::test]
async fn a_time_to_live_is_bounded_and_has_a_default() {
    let settings =
        OrganizationSettings { time_to_live: seconds(1), longest_time_to_live: seconds(60), ..Default::default() };
    let cell = with(settings).await;
    let backend = cell.backend();
    backend.route("orla", 1).await;
    let long = RouteMessageRequest { time_to_live: seconds(61), ..Backend::message("orla", 2) };
    let refused = backend.try_route(long).await.unwrap_err();
    assert_eq!(waystation_rpc::field_of(&refused).as_deref(), Some("time_to_live"));
    waystation_tests::eventually("it expires", async || {
        (backend.mailbox("orla").await.counters.unwrap().expired == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn windows_rates_and_sessions_are_those_of_the_organization() {
    let settings = OrganizationSettings {
        max_in_flight: 10,
        max_in_flight_bytes: 64 << 10,
        frames_per_minute: 2,
        frames_per_minute_announced: 3,
        sessions_per_orchestrator: 1,
        ..Default::default()
    };
    let cell = with(settings).await;
    let token = cell.token("orla").await;
    let more = json!({"maxInFlight": 500, "client": {"name": "x"}});
    let mut daemon = Daemon::connect_with(&cell.dev.gateway_url, "orla", "d1", &token, more).await;
    assert_eq!(daemon.welcome["payload"]["limits"], json!({"maxInFlight": 10, "maxInFlightBytes": 65_536}));
    cell.backend().fill("orla", 20).await;
    assert_eq!(daemon.events(10).await.len(), 10);
    assert!(daemon.is_silent(Duration::from_millis(300)).await);
    let send = json!({"to": {"orchestratorId": "otto"}, "data": {}});
    for expected in ["send_ack", "send_ack", "send_ack", "rate_limit"] {
        assert_eq!(daemon.ask("send", send.clone()).await["type"], expected);
    }
    let second = Daemon::connect(&cell.dev.gateway_url, "orla", "d2", &token).await;
    assert_eq!(second.welcome["payload"]["code"], "MAX_CONNECTIONS");
    let mut plain = cell.daemon("otto", "d1").await;
    for expected in ["send_ack", "send_ack", "rate_limit"] {
        assert_eq!(plain.ask("send", send.clone()).await["type"], expected);
    }
}

#[tokio::test]
async fn orchestrators_must_be_made_first_if_so_chosen() {
    let cell = with(OrganizationSettings { auto_create_orchestrators: Some(false), ..Default::default() }).await;
    let refused = cell.backend().try_route(Backend::message("orla", 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let answer = cell.log_in_refused("orla").await;
    assert_eq!(answer["code"], "NOT_FOUND");
}

#[tokio::test]
async fn settings_are_read_back_and_bad_ones_are_refused_by_name() {
    let cell = with(OrganizationSettings { mailbox_messages: 7, ..Default::default() }).await;
    let mut backend = cell.backend();
    let get = GetOrganizationSettingsRequest::default();
    let found = backend.credentials.get_organization_settings(get).await.unwrap().into_inner().settings.unwrap();
    assert_eq!((found.mailbox_messages, found.mailbox_bytes, found.max_in_flight), (7, 8 << 20, 1_000));
    assert_eq!((found.time_to_live, found.auto_create_orchestrators), (seconds(7 * 24 * 3_600), Some(true)));
    let bad = OrganizationSettings { max_in_flight: 1_001, ..Default::default() };
    let update = UpdateOrganizationSettingsRequest { organization_id: "dev".into(), settings: Some(bad) };
    let mut operator = Backend::operator(&cell.dev);
    let refused = operator.credentials.update_organization_settings(update.clone()).await.unwrap_err();
    assert_eq!(waystation_rpc::field_of(&refused).as_deref(), Some("settings.max_in_flight"));
    let refused = backend.credentials.update_organization_settings(update).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "a tenant does not lift its own limits");
    let unknown =
        UpdateOrganizationSettingsRequest { organization_id: "none".into(), settings: Some(Default::default()) };
    assert_eq!(operator.credentials.update_organization_settings(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn an_organization_sends_only_so_much_and_others_are_not_touched() {
    let cell = with(OrganizationSettings { messages_per_second: 5, ..Default::default() }).await;
    let mut operator = Backend::operator(&cell.dev);
    let other = CreateOrganizationRequest {
        organization_id: "other".into(),
        name: "Other".into(),
        auto_create_orchestrators: true,
        ..Default::default()
    };
    operator.credentials.create_organization(other).await.unwrap();
    let backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    let (mut accepted, mut refused) = (0, None);
    for number in 0..40 {
        match backend.try_route(Backend::message("sink", number)).await {
            Ok(_) => accepted += 1,
            Err(status) => refused = Some(status),
        }
    }
    let refused = refused.expect("too many are refused");
    // Two seconds' worth at once, and what the time of the test allows.
    assert!((10..30).contains(&accepted), "{accepted}");
    assert_eq!(code_and_reason(&refused), (Code::ResourceExhausted, Some(ErrorReason::RateLimited)));
    let again = waystation_rpc::retry_after_of(&refused).unwrap();
    assert!(again <= Duration::from_millis(200), "{again:?}");
    // What daemons send counts alike, and they are told.
    let limited = daemon.ask("send", json!({"to": {"orchestratorId": "sink"}, "data": {}})).await;
    assert_eq!((&limited["type"], &limited["payload"]["action"]), (&json!("rate_limit"), &json!("send")), "{limited}");
    assert_eq!(limited["payload"]["maxRate"], 5);
    // In a stream each message has its own answer.
    let messages = (0..3).map(|number| Backend::message("sink", number)).collect();
    let request = RouteMessagesRequest { messages };
    let answers = backend.router.clone().route_messages(tokio_stream::iter([request])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let is_limited = |result: &RouteMessageResult| {
        let limited = Code::ResourceExhausted as i32;
        matches!(&result.outcome, Some(route_message_result::Outcome::Error(status)) if status.code == limited)
    };
    assert!(answer.results.iter().any(is_limited), "{answer:?}");
    for number in 0..40 {
        let message = RouteMessageRequest { organization_id: "other".into(), ..Backend::message("sink", number) };
        operator.try_route(message).await.unwrap();
    }
    let depth = backend.depth("sink").await;
    let routed = depth - accepted;
    assert!(routed <= 3, "what was refused was not kept");
}
