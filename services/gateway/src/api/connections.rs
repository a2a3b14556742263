//! The connections of this gateway. Each is asked when somebody wants to know: nothing is kept for it meanwhile.

use std::time::Duration;

use futures_util::future::join_all;
use waystation_domain::{ReportedStatus, SessionId};
use waystation_proto::gateway::v1::{Connection, ConnectionState, ListConnectionsRequest, ListConnectionsResponse};
use waystation_rpc::Fault;
use waystation_rpc::convert::{parse, parse_optional, timestamp_to};
use waystation_token::Claims;

use crate::Parts;
use crate::registry::Report;

/// Connections of a page.
const MOST: usize = 1_000;
const USUAL: usize = 100;
/// A connection that does not answer in time has just ended.
const PATIENCE: Duration = Duration::from_secs(2);
/// Traffic within this time makes a connection active.
const ACTIVE: Duration = Duration::from_secs(30);

pub(super) async fn list(parts: &Parts, request: ListConnectionsRequest) -> Result<ListConnectionsResponse, Fault> {
    let organization = parse_optional("organization_id", &request.organization_id)?;
    let orchestrator = parse_optional("orchestrator_id", &request.orchestrator_id)?;
    let after: Option<SessionId> = match request.page_token.as_str() {
        "" => None,
        token => Some(parse("page_token", token)?),
    };
    let most = match usize::try_from(request.page_size).unwrap_or(usize::MAX) {
        0 => USUAL,
        size if size <= MOST => size,
        _ => return Err(Fault::field("page_size", format!("must be at most {MOST}"))),
    };
    let wanted = |claims: &Claims| {
        organization.as_ref().is_none_or(|id| claims.organization.as_ref() == Some(id))
            && orchestrator.as_ref().is_none_or(|id| claims.orchestrator.as_ref() == Some(id))
    };
    let mut found = parts.registry.after(after.as_ref(), wanted);
    let is_last = found.len() <= most;
    found.truncate(most);
    let next = found.last().filter(|_| !is_last).map(|(session, _)| session.to_string());
    let asked = found
        .into_iter()
        .map(|(_, handle)| async move { tokio::time::timeout(PATIENCE, handle.report()).await.ok()?.ok() });
    let reports = join_all(asked).await.into_iter().flatten();
    Ok(ListConnectionsResponse {
        connections: reports.map(|report| connection(parts, report)).collect(),
        next_page_token: next.unwrap_or_default(),
        unauthenticated: u32::try_from(parts.admission.waiting()).unwrap_or(u32::MAX),
    })
}

fn connection(parts: &Parts, report: Report) -> Connection {
    let Report { key, daemon, open_for, health, sent, is_stalled } = report;
    let now = parts.context.clock.now();
    let ago = |time: Duration| Some(timestamp_to(now.before(time)));
    let busy = health.in_flight > 0 || health.since_traffic.is_some_and(|since| since < ACTIVE);
    let state = match health.status {
        _ if health.is_leaving => ConnectionState::Disconnected,
        Some(ReportedStatus::Error) => ConnectionState::Error,
        _ if health.is_overdue || is_stalled => ConnectionState::Degraded,
        _ if busy => ConnectionState::Active,
        _ if health.since_heartbeat.is_none() => ConnectionState::Connected,
        _ => ConnectionState::Idle,
    };
    Connection {
        session_id: key.session.to_string(),
        organization_id: key.organization.to_string(),
        orchestrator_id: key.orchestrator.to_string(),
        daemon_id: daemon.to_string(),
        state: state.into(),
        open_time: ago(open_for),
        last_heartbeat_time: health.since_heartbeat.and_then(ago),
        last_frame_time: ago(health.silent),
        latency: health.latency.and_then(|latency| latency.try_into().ok()),
        sent,
        received: health.received,
        errors: health.refused,
        in_flight: u32::try_from(health.in_flight).unwrap_or(u32::MAX),
        reported_status: health.status.map_or("", ReportedStatus::name).to_owned(),
        reported_metrics: health.metrics.unwrap_or_default(),
    }
}
