//! Tells on the feed of an organization who takes tasks, and how they are. Every replica looks; what is told has a name that
//! follows from what was told before, so that it is told once, and until the store knows that it was.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};
use tonic::Code;
use waystation_domain::federation::{Registration, Standing, Told};
use waystation_domain::{OrchestratorId, OrganizationId};
use waystation_proto::router::v1::publish_event_result::Outcome;
use waystation_proto::router::v1::{PublishEventRequest, PublishEventsRequest};
use waystation_rpc::Fault;
use waystation_store::federation::Listed;

use crate::registry::OneRegistry;
use crate::{Parts, request};

/// How often it is looked; what is news waits so long at most.
const EVERY: Duration = Duration::from_secs(2);
/// What other replicas were told is learnt each so many looks.
const CATCH_UP: u32 = 15;
/// Orchestrators that are told of at once.
const TOGETHER: usize = 256;

/// Looks until the process stops. Whoever has had no session for so long takes no tasks any more; its credentials stay.
pub(crate) fn start(parts: Parts, deregister_after: Duration) {
    let lifecycle = parts.context.lifecycle.clone();
    lifecycle.clone().spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = 0_u32;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = lifecycle.stopping() => return,
            }
            if rounds.is_multiple_of(CATCH_UP)
                && let Err(fault) = parts.registries.catch_up().await
            {
                tracing::warn!("cannot see who is registered: {fault}");
            }
            rounds = rounds.wrapping_add(1);
            for (organization, registry) in parts.registries.known() {
                if let Err(fault) = look(&parts, &organization, &registry, deregister_after).await {
                    tracing::warn!(%organization, "cannot tell how those are who take tasks: {fault}");
                }
            }
        }
    });
}

/// An orchestrator takes tasks, or others than before.
pub(crate) async fn registered(
    parts: &Parts,
    organization: &OrganizationId,
    registration: &Registration,
) -> Result<(), Fault> {
    let data = json!({
        "orchestratorId": registration.id,
        "name": registration.name,
        "region": registration.region,
        "tier": registration.tier,
        "capabilities": registration.capabilities.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        "maxConcurrent": registration.max_concurrent,
    });
    let fresh = parts.context.entropy.id();
    publish(parts, vec![event(organization, &registration.id, &fresh, "registered", &data)]).await.map(drop)
}

/// Takes an orchestrator out of the registry. It is told first: whoever breaks off in between does it once more.
pub(crate) async fn deregister(
    parts: &Parts,
    organization: &OrganizationId,
    id: &OrchestratorId,
    reason: &str,
) -> Result<bool, Fault> {
    let registry = parts.registries.fresh(organization).await?;
    let Some((known, _)) = registry.one(id, parts.context.clock.now()) else { return Ok(false) };
    let data = json!({"orchestratorId": id, "reason": reason});
    let since = known.told.since.as_millis().to_string();
    publish(parts, vec![event(organization, id, &since, "deregistered", &data)]).await?;
    let was = parts.store.federation.deregister_orchestrator(organization, id, None).await;
    let was = was.map_err(Fault::unavailable)?;
    parts.registries.fresh(organization).await?;
    Ok(was)
}

/// Tells of those who are otherwise than everybody thinks, and lets those go who are gone.
async fn look(
    parts: &Parts,
    organization: &OrganizationId,
    registry: &OneRegistry,
    deregister_after: Duration,
) -> Result<(), Fault> {
    let now = parts.context.clock.now();
    let gone_since = now.before(deregister_after);
    let untold = || registry.untold(TOGETHER, gone_since, now);
    if !registry.is_seen.load(Ordering::Relaxed) || untold().is_empty() {
        return Ok(());
    }
    // Perhaps another replica was faster.
    parts.registries.fresh(organization).await?;
    let (gone, changed): (Vec<_>, Vec<_>) =
        untold().into_iter().partition(|(listed, standing)| *standing == listed.told.standing);
    let mut events = Vec::new();
    for (Listed { registration, told, .. }, standing) in &changed {
        let since = told.since.as_millis().to_string();
        let data = json!({
            "orchestratorId": registration.id,
            "status": standing.name(),
            "previousStatus": told.standing.name(),
        });
        events.push(event(organization, &registration.id, &since, "status_changed", &data));
        if is_ill(*standing) && !is_ill(told.standing) {
            events.push(event(organization, &registration.id, &since, "unhealthy", &data));
        }
    }
    publish(parts, events).await?;
    let notes = changed.iter().map(async |(Listed { registration, told, .. }, standing)| {
        // Two changes are never of one moment.
        let since = now.max(told.since.after(Duration::from_millis(1)));
        let told = (*told, Told { standing: *standing, since, ..*told });
        parts.store.federation.note_standing(organization, &registration.id, told, None).await
    });
    for noted in join_all(notes).await {
        noted.map_err(Fault::unavailable)?;
    }
    for (listed, _) in gone {
        deregister(parts, organization, &listed.registration.id, "offline").await?;
    }
    parts.registries.fresh(organization).await.map(drop)
}

fn is_ill(standing: Standing) -> bool {
    matches!(standing, Standing::Degraded | Standing::Offline)
}

/// An event about an orchestrator; the same `after` is the same event.
fn event(
    organization: &OrganizationId,
    id: &OrchestratorId,
    after: &str,
    what: &str,
    data: &Value,
) -> PublishEventRequest {
    PublishEventRequest {
        organization_id: organization.to_string(),
        event_id: format!("o.{}", request::name_of(organization, Some(id), &format!("{what} {after}"))),
        event_type: format!("orchestrator.{what}"),
        data: data.to_string().into(),
        ..Default::default()
    }
}

async fn publish(parts: &Parts, events: Vec<PublishEventRequest>) -> Result<(), Fault> {
    if events.is_empty() {
        return Ok(());
    }
    let lost = |status: tonic::Status| Fault::unavailable(status.message());
    let request = tokio_stream::iter([PublishEventsRequest { events }]);
    let mut answers = parts.router.clone().publish_events(request).await.map_err(lost)?.into_inner();
    while let Some(answer) = answers.message().await.map_err(lost)? {
        for result in answer.results {
            match result.outcome {
                Some(Outcome::Published(_)) => {}
                // Another replica has seen something else, and told it.
                Some(Outcome::Error(error)) if Code::from(error.code) == Code::AlreadyExists => {}
                Some(Outcome::Error(error)) => return Err(Fault::unavailable(error.message)),
                None => return Err(Fault::unavailable("a router gave no outcome")),
            }
        }
    }
    Ok(())
}
