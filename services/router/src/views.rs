//! What the store knows, as callers are told.

use std::time::Duration;

use waystation_proto::router::v1::{
    GetMailboxResponse, GetPresenceResponse, MailboxCounters, MailboxLane, Presence as WirePresence, SessionInfo,
};
use waystation_rpc::convert::{lane_to, timestamp_to};
use waystation_store::mailbox::{MailboxKey, MailboxView, Presence, PresenceView, ReportedStatus, SessionView};

/// A mailbox that nobody has used yet is an empty one.
pub(crate) fn mailbox(view: Option<MailboxView>, full_in: Option<Duration>) -> GetMailboxResponse {
    let Some(view) = view else { return GetMailboxResponse::default() };
    GetMailboxResponse {
        epoch: view.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
        lanes: (view.lanes.iter())
            .map(|(lane, state)| MailboxLane { priority: lane_to(lane).into(), head: state.head, depth: state.depth })
            .collect(),
        bytes: view.bytes,
        oldest_time: view.oldest.map(timestamp_to),
        counters: Some(MailboxCounters {
            accepted: view.accepted(),
            acknowledged: view.counters.acknowledged,
            expired: view.counters.expired,
            dead: view.counters.dead,
            overflowed: view.counters.overflowed,
            purged: view.counters.purged,
        }),
        conservation_delta: view.conservation_delta(),
        session_id: view.holder.map(|holder| holder.to_string()).unwrap_or_default(),
        time_to_overflow: full_in.and_then(|time| time.try_into().ok()),
        dead_letters: view.dead_letters,
    }
}

fn status(status: Option<ReportedStatus>) -> String {
    status.map_or("", ReportedStatus::name).to_owned()
}

pub(crate) fn presence(view: &PresenceView) -> GetPresenceResponse {
    let presence = match view.presence {
        Presence::Online => WirePresence::Online,
        Presence::Reconnecting => WirePresence::Reconnecting,
        Presence::Offline => WirePresence::Offline,
    };
    GetPresenceResponse {
        presence: presence.into(),
        reported_status: status(view.status),
        sessions: u32::try_from(view.sessions).unwrap_or(u32::MAX),
        last_seen: view.last_seen.map(timestamp_to),
        silent: view.silent,
    }
}

pub(crate) fn session(key: &MailboxKey, view: SessionView) -> SessionInfo {
    SessionInfo {
        session_id: view.session.to_string(),
        daemon_id: view.daemon.to_string(),
        login_id: view.login.to_string(),
        gateway_incarnation_id: view.incarnation.to_string(),
        open_time: Some(timestamp_to(view.opened)),
        active: view.active,
        reported_status: status(view.status),
        subscriptions: view.subscriptions.patterns.iter().map(|wanted| wanted.pattern.to_string()).collect(),
        organization_id: key.organization.to_string(),
        orchestrator_id: key.orchestrator.to_string(),
        metrics: view.metrics.unwrap_or_default(),
    }
}
