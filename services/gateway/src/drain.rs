//! Leaving in order: daemons are sent elsewhere one after the other, so that others can take them in and nobody is away
//! for long.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::{Parts, lease};

/// How often it is looked whether all have gone.
const LOOK: Duration = Duration::from_millis(50);
/// A client that was told to come back is closed this long after its moment.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);
/// Clients that are told in the same moment come back within this time.
const APART: Duration = Duration::from_millis(200);

/// Accepts nobody any more, and begins to send every daemon elsewhere, evenly over a time. Answers how many there are.
pub(crate) async fn begin(parts: &Parts, spread: Duration) -> usize {
    parts.admission.close();
    parts.lease.begin_drain();
    parts.show_readiness();
    if let Err(fault) = lease::renew(parts).await {
        tracing::warn!("cannot tell routers of the drain: {fault:?}");
    }
    parts.context.lifecycle.spawn(send_away(parts.clone(), spread));
    parts.registry.len()
}

/// Tells each client in its turn.
async fn send_away(parts: Parts, spread: Duration) {
    let begun = Instant::now();
    let first = parts.registry.not_yet_sent_away();
    let count = u32::try_from(first.len()).unwrap_or(u32::MAX);
    for (turn, handle) in (0_u32..).zip(first) {
        tokio::select! {
            () = sleep_until(begun + spread / count * turn) => {}
            () = parts.context.lifecycle.stopping() => return,
        }
        handle.send_away(parts.context.entropy.within(APART));
    }
    // Who was just logging in when it began.
    loop {
        for handle in parts.registry.not_yet_sent_away() {
            handle.send_away(parts.context.entropy.within(APART));
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = parts.context.lifecycle.stopping() => return,
        }
    }
}

/// Resolves when every session has gone, or after `grace`.
pub(crate) async fn drain(parts: &Parts, grace: Duration) {
    let begun = parts.context.clock.instant();
    begin(parts, parts.config.limits.drain_spread.min(grace.saturating_sub(PATIENCE * 2))).await;
    while parts.registry.len() > 0 && parts.context.clock.instant() - begun < grace {
        sleep(LOOK).await;
    }
}
