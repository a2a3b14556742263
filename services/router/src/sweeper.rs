//! What must be done when nobody asks: refresh the table of gateways, sweep what is due.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use waystation_rpc::Fault;
use waystation_store::mailbox::Sweep;

use crate::Parts;

/// The table of gateways is at most this old (delivery, rule 1).
const EVERY: Duration = Duration::from_secs(1);
/// Mailboxes that one step of a sweep looks at, so that none holds the store for long.
const AT_ONCE: usize = 500;

pub(crate) fn start(parts: Parts) {
    let lifecycle = parts.context.lifecycle.clone();
    lifecycle.clone().spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = lifecycle.stopping() => return,
            }
            if let Err(fault) = round(&parts).await {
                tracing::warn!("cannot sweep: {fault:?}");
            }
        }
    });
}

async fn round(parts: &Parts) -> Result<(), Fault> {
    loop {
        let swept = parts.store.mailboxes.sweep(Sweep { limit: AT_ONCE }, None).await.map_err(Fault::unavailable)?;
        for notice in &swept.activated {
            parts.gateways.push_activation(notice);
        }
        for (holder, heads) in &swept.grown {
            parts.gateways.push_heads(holder, heads);
        }
        if swept.handled < AT_ONCE {
            break;
        }
    }
    parts.gateways.refresh().await?;
    parts.metrics.totals(parts.store.mailboxes.totals().await.map_err(Fault::unavailable)?);
    Ok(())
}
