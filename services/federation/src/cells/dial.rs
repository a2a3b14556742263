//! The stream to another cell: what it can do becomes an orchestrator of ours, what it says of tasks becomes what they are.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use waystation_domain::OrganizationId;
use waystation_domain::federation::{CapabilityName, Registration, Seen, Standing, Told};
use waystation_proto::federation::v1::exchange_response::What;
use waystation_proto::federation::v1::{CapabilitySummary, ExchangeRequest, TaskReport};
use waystation_rpc::Fault;
use waystation_rpc::convert::parse;

use super::{Peer, Watched};
use crate::{Parts, desk, post, request, views};

/// A cell that says nothing for so long has gone: it says each 5 s that it lives.
const SILENCE: Duration = Duration::from_secs(15);
/// How often standing is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Tasks that are asked for and have not been taken by the connection.
const ASKING: usize = 256;

/// Keeps the stream, until the process stops.
pub(super) fn start(parts: Parts, peer: Arc<Peer>) {
    let lifecycle = parts.context.lifecycle.clone();
    let (of_ticks, its) = (parts.clone(), peer.clone());
    lifecycle.spawn(async move {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => tick(&of_ticks, &its),
                () = of_ticks.context.lifecycle.stopping() => return,
            }
        }
    });
    lifecycle.clone().spawn(async move {
        loop {
            let broken = tokio::select! {
                broken = exchange(&parts, &peer) => broken,
                () = lifecycle.stopping() => return,
            };
            let error = broken.err().map_or_else(|| "it ended the stream".to_owned(), |fault| fault.to_string());
            tracing::warn!(cell = %peer.config.name, "no link: {error}");
            let (random, now) = (parts.context.entropy.number(), parts.context.clock.now());
            let pause = peer.lock().link.fail(error, random, now);
            tokio::select! {
                () = sleep(pause) => {}
                () = lifecycle.stopping() => return,
            }
        }
    });
}

/// Has those choose well who choose here.
fn tick(parts: &Parts, peer: &Peer) {
    let standing = {
        let mut known = peer.lock();
        known.link.tick(parts.context.clock.now());
        known.link.standing().as_orchestrator()
    };
    let seen = if standing == Standing::Offline { Seen::Gone } else { Seen::Connected(standing) };
    for grant in &peer.config.uses {
        parts.registries.of(&grant.organization).note_seen(peer.id.clone(), |_| seen);
    }
}

async fn exchange(parts: &Parts, peer: &Peer) -> Result<(), Fault> {
    let lost = |status: Status| Fault::unavailable(status.message());
    let silent = |_| Fault::unavailable("it is silent");
    let (asking, asked_for) = mpsc::channel(ASKING);
    let mut client = peer.client.clone();
    let opening = timeout(SILENCE, client.exchange(ReceiverStream::new(asked_for)));
    let mut stream = opening.await.map_err(silent)?.map_err(lost)?.into_inner();
    peer.lock().summaries.clear();
    recall(parts, peer).await?;
    let mut asked: HashSet<Watched> = HashSet::new();
    loop {
        let unasked: Vec<Watched> = peer.lock().watched.difference(&asked).cloned().collect();
        for watched in unasked {
            let request = ExchangeRequest { watch: Some(watched.to_wire()) };
            asking.send(request).await.map_err(|_| Fault::unavailable("it ended the stream"))?;
            asked.insert(watched);
        }
        let answer = tokio::select! {
            answer = timeout(SILENCE, stream.message()) => answer.map_err(silent)?.map_err(lost)?,
            () = peer.more.notified() => continue,
        };
        let Some(answer) = answer else { return Ok(()) };
        peer.lock().link.hear(parts.context.clock.now());
        match answer.what {
            Some(What::Summary(summary)) => hear(parts, peer, summary).await?,
            Some(What::Report(report)) => adopt(parts, peer, report).await?,
            None => {}
        }
    }
}

/// What it works on for us, whoever handed it on; and what it was not told yet, now that it can be.
async fn recall(parts: &Parts, peer: &Peer) -> Result<(), Fault> {
    for grant in &peer.config.uses {
        let held = parts.store.federation.held_delegations(&grant.organization, &peer.id, None).await;
        for id in held.map_err(Fault::unavailable)? {
            if let Ok(kept) = desk::find(parts, &grant.organization, &id).await {
                parts.cells.watch(&grant.organization, &kept.delegation);
                post::send(parts, &grant.organization, &kept.delegation);
            }
        }
    }
    Ok(())
}

/// Takes in what it can do.
async fn hear(parts: &Parts, peer: &Peer, said: CapabilitySummary) -> Result<(), Fault> {
    let organization: OrganizationId = parse("organization_id", &said.organization_id)?;
    let Some(grant) = peer.config.uses.iter().find(|grant| grant.organization == organization) else { return Ok(()) };
    let update = request::summary(said)?;
    let summary = {
        let mut known = peer.lock();
        let told = known.summaries.entry(organization.clone()).or_default();
        if !told.hear(update) {
            return Err(Fault::unavailable("a summary is missing"));
        }
        told.summary.clone()
    };
    let is_granted = |name: &CapabilityName| grant.capabilities.is_empty() || grant.capabilities.contains(name);
    let registry = parts.registries.fresh(&organization).await?;
    let registration = Registration {
        id: peer.id.clone(),
        name: format!("cell {}", peer.config.name),
        region: String::new(),
        tier: "cell".to_owned(),
        capabilities: summary.capabilities.into_values().filter(|one| is_granted(&one.name)).collect(),
        // What ours have there is not among the free ones.
        max_concurrent: registry.reserved(&peer.id).saturating_add(summary.free),
        weight: 100,
        token_limit: None,
    };
    let now = parts.context.clock.now();
    if registry.one(&peer.id, now).is_some_and(|(listed, _)| listed.registration == registration) {
        return Ok(());
    }
    let told = Told::of_new(now);
    let kept = parts.store.federation.register_orchestrator(&organization, registration, told, None).await;
    kept.map_err(Fault::unavailable)?;
    parts.registries.fresh(&organization).await.map(drop)
}

/// Takes in how a task does.
async fn adopt(parts: &Parts, peer: &Peer, report: TaskReport) -> Result<(), Fault> {
    let Some(watched) = report.task.as_ref().and_then(Watched::of_wire) else { return Ok(()) };
    // It is not there yet, or will never be: its limits say what becomes of it.
    let Some(view) = report.view.map(views::remote) else { return Ok(()) };
    let is_over = view.state.is_terminal();
    super::send::adopt(parts, &watched, &peer.id, view).await?;
    if is_over {
        peer.lock().watched.remove(&watched);
    }
    Ok(())
}
