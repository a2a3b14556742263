//! What must be done when nobody asks: limits that were met, mail that was not sent, tasks that wait for somebody. Every
//! replica does it; a change is kept once.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use tokio::time::{MissedTickBehavior, interval};
use waystation_domain::{DelegationId, OrganizationId};
use waystation_rpc::Fault;

use crate::{Parts, desk, post, presence};

/// Limits are met this late at most, but for the time that the work takes.
const EVERY: Duration = Duration::from_millis(500);
/// Where nothing was to be done for a while, every so many rounds: looking costs a call for each partition.
const QUIET_ROUNDS: u32 = 10;
/// After a delegation was changed here there is more to do for so long.
const BUSY_FOR: Duration = Duration::from_secs(60);
/// Delegations that are looked at in a round, and at once.
const ROUND: usize = 1_024;
const TOGETHER: usize = 16;
/// Rounds that fail in a row before this process asks for no more traffic: a store that fails over is no reason.
const PATIENT_ROUNDS: u32 = 6;

/// Sweeps until the process stops. Resolves after the first round, whether the store answered or not.
pub(crate) async fn start(parts: Parts) {
    presence::start(parts.clone());
    let mut failed = PATIENT_ROUNDS;
    round(&parts, &mut failed).await;
    let lifecycle = parts.context.lifecycle.clone();
    lifecycle.clone().spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = 0_u32;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = lifecycle.stopping() => return parts.context.readiness.set(false),
            }
            rounds = rounds.wrapping_add(1);
            let is_quiet = failed == 0 && !parts.changes.within(BUSY_FOR, parts.context.clock.now());
            if !is_quiet || rounds.is_multiple_of(QUIET_ROUNDS) {
                round(&parts, &mut failed).await;
            }
        }
    });
}

async fn round(parts: &Parts, failed: &mut u32) {
    match parts.store.federation.due_delegations(ROUND, None).await {
        Ok(due) => {
            *failed = 0;
            parts.context.readiness.set(true);
            let sweeping = iter(due).for_each_concurrent(TOGETHER, async |(organization, id)| {
                if let Err(fault) = look_at(parts, &organization, &id).await {
                    tracing::warn!(delegation = %id, "cannot do what is due: {fault}");
                }
            });
            sweeping.await;
        }
        Err(unavailable) => {
            tracing::warn!("cannot sweep: {unavailable}");
            *failed = failed.saturating_add(1);
            if *failed >= PATIENT_ROUNDS {
                parts.context.readiness.set(false);
            }
        }
    }
}

async fn look_at(parts: &Parts, organization: &OrganizationId, id: &DelegationId) -> Result<(), Fault> {
    let kept = desk::find(parts, organization, id).await?;
    parts.cells.watch(organization, &kept.delegation);
    // Mail first: whoever is told of an end has been told of what was before.
    post::send_all(parts, organization, &kept.delegation).await;
    let now = parts.context.clock.now();
    if kept.delegation.forgotten().is_some_and(|forgotten| forgotten <= now) {
        let forgotten = parts.store.federation.forget_delegation(organization, id, kept.version, None).await;
        return forgotten.map(drop).map_err(Fault::unavailable);
    }
    desk::change(parts, organization, id, |delegation, now| {
        delegation.tick(now);
        Ok(())
    })
    .await?;
    let after = desk::find(parts, organization, id).await?;
    if after.version == kept.version && !after.delegation.outbox.is_empty() {
        // Nothing could be sent and nothing was due: it would be looked at in each round.
        return desk::postpone(parts, organization, after).await;
    }
    Ok(())
}
