//! Leaving in order: daemons are told when to come back, each at a moment of its own.

use std::time::Duration;

use crate::registry::Event;
use crate::{Parts, lease};

/// How often it is looked whether all have gone.
const LOOK: Duration = Duration::from_millis(50);
/// A client that was told to come back is closed this long after its moment.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// Accepts nobody any more, and tells every daemon to come back elsewhere within a time. Answers how many were told.
pub(crate) async fn begin(parts: &Parts, spread: Duration) -> usize {
    parts.admission.close();
    parts.lease.begin_drain();
    parts.show_readiness();
    if let Err(fault) = lease::renew(parts).await {
        tracing::warn!("cannot tell routers of the drain: {fault:?}");
    }
    parts.registry.send_all(|| Event::Drain(parts.context.entropy.within(spread)));
    parts.registry.len()
}

/// Resolves when every session has gone, or after `grace`.
pub(crate) async fn drain(parts: &Parts, grace: Duration) {
    let begun = parts.context.clock.instant();
    begin(parts, parts.config.limits.drain_spread.min(grace.saturating_sub(PATIENCE * 2))).await;
    while parts.registry.len() > 0 && parts.context.clock.instant() - begun < grace {
        tokio::time::sleep(LOOK).await;
    }
}
