//! What a gateway tells of its connections, and what it does when it is told to.

use serde_json::json;
use tonic::Code;
use waystation_proto::gateway::v1::*;
use waystation_tests::{Backend, Cell, KeptAlive, eventually, frame, log_in};

fn list() -> ListConnectionsRequest {
    ListConnectionsRequest::default()
}

#[tokio::test]
async fn connections_are_listed_with_their_observed_health() {
    let cell = Cell::start().await;
    let mut operator = Backend::operator(&cell.dev);
    let mut busy = cell.daemon("orla", "d1").await;
    let mut in_trouble = cell.daemon("otto", "d1").await;
    let _silent = cell.daemon("silent", "d1").await;
    let _waits = waystation_tests::Daemon::open(&cell.dev.gateway_url).await;
    cell.backend().fill("orla", 2).await;
    let events = busy.events(2).await;
    busy.ack(&events[..1]).await;
    busy.heartbeat().await;
    in_trouble.send(frame("heartbeat", json!({"status": "error", "metrics": {"errors": 7}}))).await;
    in_trouble.next_of("heartbeat_ack").await;
    in_trouble.ask("nack", json!({"eventId": "never-sent"})).await;

    let answer = operator.gateway.list_connections(list()).await.unwrap().into_inner();
    assert_eq!((answer.connections.len(), answer.unauthenticated), (3, 1));
    let of = |orchestrator: &str| answer.connections.iter().find(|one| one.orchestrator_id == orchestrator).unwrap();
    let orla = of("orla");
    assert_eq!((orla.state(), orla.in_flight, orla.received), (ConnectionState::Active, 1, 2));
    assert_eq!((orla.organization_id.as_str(), orla.daemon_id.as_str()), ("dev", "d1"));
    // auth_success, two events, heartbeat_ack
    assert_eq!(orla.sent, 4);
    assert!(orla.latency.is_some() && orla.last_heartbeat_time.is_some() && orla.open_time.is_some());
    let otto = of("otto");
    assert_eq!((otto.state(), otto.errors), (ConnectionState::Error, 1));
    assert_eq!(&otto.reported_metrics[..], br#"{"errors":7}"#);
    assert_eq!(of("silent").state(), ConnectionState::Connected);

    let one = ListConnectionsRequest { orchestrator_id: "otto".into(), ..list() };
    assert_eq!(operator.gateway.list_connections(one).await.unwrap().into_inner().connections.len(), 1);
    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = ListConnectionsRequest { page_size: 2, page_token, ..list() };
        let page = operator.gateway.list_connections(page).await.unwrap().into_inner();
        seen.extend(page.connections.into_iter().map(|connection| connection.session_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(seen.len() == 3 && seen.is_sorted());
    let refused = operator.gateway.list_connections(ListConnectionsRequest { page_size: 1_001, ..list() }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn only_operators_and_routers_may_look() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    assert_eq!(backend.gateway.list_connections(list()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(backend.gateway.get_stats(GetStatsRequest {}).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(backend.gateway.drain(DrainRequest::default()).await.unwrap_err().code(), Code::PermissionDenied);
    let close = CloseSessionsRequest::default();
    assert_eq!(backend.gateway.close_sessions(close).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_operator_closes_connections_and_counts_them() {
    let cell = Cell::start().await;
    let mut operator = Backend::operator(&cell.dev);
    let mut daemon = cell.daemon("orla", "d1").await;
    let session = daemon.welcome["payload"]["sessionId"].as_str().unwrap().to_owned();
    let close = CloseSessionsRequest { session_ids: vec![session, "unknown".into()] };
    assert_eq!(operator.gateway.close_sessions(close).await.unwrap().into_inner().closed, 1);
    assert_eq!(daemon.close_code().await, 4006);
    let stats = eventually("it is counted", async || {
        let stats = operator.gateway.clone().get_stats(GetStatsRequest {}).await.unwrap().into_inner();
        (stats.connections == 0).then_some(stats)
    })
    .await;
    assert_eq!((stats.sessions, stats.closes["SESSION_TERMINATED"]), (0, 1));
    assert!(stats.leased && !stats.draining && stats.sent >= 1 && stats.received >= 1 && stats.start_time.is_some());
    let bad = CloseSessionsRequest { session_ids: vec!["a/b".into()] };
    assert_eq!(operator.gateway.close_sessions(bad).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_drain_tells_everybody_when_to_come_back_and_admits_nobody() {
    let cell = Cell::start().await;
    let mut operator = Backend::operator(&cell.dev);
    let mut daemon = cell.daemon("orla", "d1").await;
    let long = prost_types::Duration { seconds: 601, nanos: 0 };
    let refused = operator.gateway.drain(DrainRequest { spread: Some(long) }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let bearer = format!("Bearer {}", log_in(&cell.dev, "orla").await["accessToken"].as_str().unwrap());
    let mut line = KeptAlive::to(&cell.dev.http_url).await;
    line.ask("/.well-known/jwks.json", &[]).await;
    let spread = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    assert_eq!(operator.gateway.drain(DrainRequest { spread }).await.unwrap().into_inner().sessions, 1);
    let reconnect = daemon.next_of("reconnect").await;
    assert!(reconnect["payload"]["delay"].as_u64().unwrap() < 1_000);
    assert_eq!(daemon.close_code().await, 4012);
    let stats = operator.gateway.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    assert!(stats.draining && stats.leased);
    assert!(!waystation_tests::wants_traffic(&cell.dev.gateway).await);
    // Who keeps a connection is not let in by it.
    for accept in ["application/json", "text/event-stream"] {
        let asked = line.ask("/api/daemon/events", &[("authorization", &bearer), ("accept", accept)]).await;
        assert!(asked.starts_with("HTTP/1.1 503") && asked.contains("retry-after: 1"), "{asked}");
    }
    let host = cell.dev.gateway_url.strip_prefix("ws://").unwrap().split('/').next().unwrap().to_owned();
    let stream = tokio::net::TcpStream::connect(host).await.unwrap();
    assert!(tokio_tungstenite::client_async(cell.dev.gateway_url.as_str(), stream).await.is_err());
}

#[tokio::test]
async fn daemons_leave_one_after_the_other_and_are_served_until_then() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut operator = Backend::operator(&cell.dev);
    let daemons = [cell.daemon("orla", "d1").await, cell.daemon("otto", "d1").await];
    let spread = Some(prost_types::Duration { seconds: 600, nanos: 0 });
    assert_eq!(operator.gateway.drain(DrainRequest { spread }).await.unwrap().into_inner().sessions, 2);
    // The turn of the second is five minutes away.
    let [mut first, mut second] = daemons;
    let first_is_orla = tokio::select! {
        _ = first.next_of("reconnect") => true,
        _ = second.next_of("reconnect") => false,
    };
    let (mut gone, mut stays, name) = if first_is_orla { (first, second, "otto") } else { (second, first, "orla") };
    assert_eq!(gone.close_code().await, 4012);
    backend.route(name, 1).await;
    let events = stays.events(1).await;
    stays.ack(&events).await;
    eventually("it is acknowledged", async || (backend.depth(name).await == 0).then_some(())).await;
}
