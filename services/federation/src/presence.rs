//! Who of those who are registered can be reached, as routers see it. While no router tells, what was seen last holds.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::{sleep, timeout};
use waystation_domain::federation::{Seen, Standing};
use waystation_domain::{OrchestratorId, OrganizationId, Timestamp};
use waystation_proto::router::v1::{GetPresenceResponse, Presence, PresenceChange, WatchPresenceRequest};
use waystation_rpc::Fault;
use waystation_rpc::convert::{parse, timestamp_from};

use crate::registry::OneRegistry;
use crate::{Parts, desk};

/// Orchestrators that one stream watches.
const TOGETHER: usize = 1_000;
/// A stream that says nothing for so long is dead: routers say each 10 s that it lives.
const SILENCE: Duration = Duration::from_secs(25);
/// After a stream broke.
const AGAIN: Duration = Duration::from_secs(1);
/// Others may come and go a moment after somebody did; who watches many waits for more of them.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_FOR_EACH: Duration = Duration::from_micros(100);
/// What is said of a task whose assignee is gone.
const GONE: &str = "the assignee has had no session for too long";

/// Watches every registry that is known, until the process stops.
pub(crate) fn start(parts: Parts) {
    let lifecycle = parts.context.lifecycle.clone();
    lifecycle.clone().spawn(async move {
        let mut watched: HashSet<OrganizationId> = HashSet::new();
        loop {
            for (organization, registry) in parts.registries.known() {
                if watched.insert(organization.clone()) {
                    spawn(parts.clone(), organization, registry);
                }
            }
            tokio::select! {
                () = parts.registries.met() => {}
                () = lifecycle.stopping() => return,
            }
        }
    });
}

fn spawn(parts: Parts, organization: OrganizationId, registry: Arc<OneRegistry>) {
    let lifecycle = parts.context.lifecycle.clone();
    lifecycle.clone().spawn(async move {
        loop {
            let ids = registry.ids();
            tokio::select! {
                broken = follow(&parts, &organization, &registry, &ids), if !ids.is_empty() => {
                    registry.is_seen.store(false, Ordering::Relaxed);
                    if let Err(fault) = broken {
                        tracing::warn!(%organization, "presence is not seen: {fault}");
                    }
                    sleep(AGAIN).await;
                }
                () = registry.changed.notified() => {
                    sleep(PAUSE + PAUSE_FOR_EACH * u32::try_from(ids.len()).unwrap_or(u32::MAX)).await;
                }
                () = lifecycle.stopping() => return,
            }
        }
    });
}

/// Watches these until a stream breaks.
async fn follow(
    parts: &Parts,
    organization: &OrganizationId,
    registry: &OneRegistry,
    ids: &[OrchestratorId],
) -> Result<(), Fault> {
    let each = ids.chunks(TOGETHER).map(async |ids| {
        let request = WatchPresenceRequest {
            organization_id: organization.to_string(),
            orchestrator_ids: ids.iter().map(ToString::to_string).collect(),
            // A name that a backend has mistyped must not hide all the others.
            unknown_are_offline: true,
        };
        let lost = |status: tonic::Status| Fault::unavailable(status.message());
        let mut stream = parts.router.clone().watch_presence(request).await.map_err(lost)?.into_inner();
        loop {
            let answer = timeout(SILENCE, stream.message()).await.map_err(|_| Fault::unavailable("it is silent"))?;
            let Some(answer) = answer.map_err(lost)? else { return Ok::<_, Fault>(()) };
            let mut gone = Vec::new();
            for PresenceChange { orchestrator_id, presence } in answer.changes {
                let id: OrchestratorId = parse("orchestrator_id", &orchestrator_id)?;
                let presence = presence.unwrap_or_default();
                if presence.presence() == Presence::Offline {
                    gone.push(id.clone());
                }
                let now = parts.context.clock.now();
                registry.note_seen(id, |before| seen(&presence, before, now));
            }
            registry.is_seen.store(true, Ordering::Relaxed);
            if !gone.is_empty() {
                give_up_all(parts, organization, gone).await?;
            }
        }
    });
    try_join_all(each).await.map(drop)
}

/// Most of those who are gone had nothing to do: the registry says who had.
async fn give_up_all(parts: &Parts, organization: &OrganizationId, gone: Vec<OrchestratorId>) -> Result<(), Fault> {
    let registry = parts.registries.fresh(organization).await?;
    for id in gone.into_iter().filter(|id| registry.reserved(id) > 0) {
        give_up(parts, organization, &id).await?;
    }
    Ok(())
}

/// What an orchestrator works on is somebody else's now.
async fn give_up(parts: &Parts, organization: &OrganizationId, assignee: &OrchestratorId) -> Result<(), Fault> {
    let held = parts.store.federation.held_delegations(organization, assignee, None).await;
    for id in held.map_err(Fault::unavailable)? {
        let lost = desk::change(parts, organization, &id, |delegation, now| {
            // An offer waits for its answer as long as offers do.
            if delegation.current().is_some_and(|attempt| attempt.accepted.is_some()) {
                delegation.lose(assignee, GONE, now);
            }
            Ok(())
        });
        if let Err(fault) = lost.await {
            tracing::warn!(delegation = %id, "cannot take it from an assignee that is gone: {fault}");
        }
    }
    Ok(())
}

/// What is seen, and within it what a daemon says of itself.
fn seen(presence: &GetPresenceResponse, before: Seen, now: Timestamp) -> Seen {
    match presence.presence() {
        Presence::Online => {
            let said = match presence.reported_status.as_str() {
                "busy" => Standing::Busy,
                "error" => Standing::Degraded,
                "paused" => Standing::Draining,
                _ => Standing::Online,
            };
            Seen::Connected(if presence.silent { said.max(Standing::Degraded) } else { said })
        }
        Presence::Reconnecting => {
            before.then_lost(presence.last_seen.as_ref().map_or(now, |last| timestamp_from(Some(last))))
        }
        Presence::Offline | Presence::Unspecified => Seen::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_weighs_more_than_what_is_said() {
        let before = Seen::Connected(Standing::Busy);
        let told = |presence: Presence, reported: &str| GetPresenceResponse {
            presence: presence.into(),
            reported_status: reported.into(),
            ..Default::default()
        };
        let seen = |presence: GetPresenceResponse| seen(&presence, before, Timestamp::from_millis(7));
        let of = |presence, reported| seen(told(presence, reported));
        let silent = |reported| seen(GetPresenceResponse { silent: true, ..told(Presence::Online, reported) });
        assert_eq!(silent("active"), Seen::Connected(Standing::Degraded));
        assert_eq!(silent("paused"), Seen::Connected(Standing::Draining));
        assert_eq!(of(Presence::Online, ""), Seen::Connected(Standing::Online));
        assert_eq!(of(Presence::Online, "busy"), Seen::Connected(Standing::Busy));
        assert_eq!(of(Presence::Online, "paused"), Seen::Connected(Standing::Draining));
        assert_eq!(of(Presence::Reconnecting, "active"), Seen::Lost(Standing::Busy, Timestamp::from_millis(7)));
        assert_eq!(of(Presence::Offline, "active"), Seen::Gone);
    }
}
