//! What must be done when nobody asks: refresh the table of gateways, sweep what is due.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use waystation_rpc::Fault;
use waystation_store::mailbox::Sweep;

use crate::{Parts, news};

/// The table of gateways is at most this old (delivery, rule 1).
const EVERY: Duration = Duration::from_secs(1);
/// Events that are too old go so often.
const FEEDS_EVERY: u32 = 60;
/// The store is looked at again so often.
const JUDGED_EVERY: u32 = 15;
/// Mailboxes that one step of a sweep looks at, so that none holds the store for long.
const AT_ONCE: usize = 500;

/// Rounds that fail in a row before the router asks for no more traffic: a store that fails over is no reason.
const PATIENT_ROUNDS: u32 = 3;

/// Sweeps until the process stops. Resolves after the first round, whether the store answered or not.
pub(crate) async fn start(parts: Parts) {
    let mut sweeper = Sweeper { life: parts.store.mailboxes.life(), failed: PATIENT_ROUNDS, rounds: 0, parts };
    sweeper.round().await;
    let lifecycle = sweeper.parts.context.lifecycle.clone();
    lifecycle.clone().spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = lifecycle.stopping() => return sweeper.parts.context.readiness.set(false),
            }
            sweeper.round().await;
        }
    });
}

struct Sweeper {
    parts: Parts,
    /// Rounds that failed in a row.
    failed: u32,
    /// The store's life as it was last seen.
    life: u64,
    /// Rounds so far.
    rounds: u32,
}

impl Sweeper {
    async fn round(&mut self) {
        if self.rounds.is_multiple_of(JUDGED_EVERY) {
            self.judge().await;
        }
        let swept = self.sweep().await;
        self.rounds = self.rounds.wrapping_add(1);
        match swept {
            Ok(()) => {
                self.failed = 0;
                self.parts.context.readiness.set(true);
            }
            Err(fault) => {
                tracing::warn!("cannot sweep: {fault:?}");
                self.failed = self.failed.saturating_add(1);
                if self.failed >= PATIENT_ROUNDS {
                    self.parts.context.readiness.set(false);
                }
            }
        }
    }

    /// A store that promises less than it did goes on; those who run it are told.
    async fn judge(&self) {
        let judged = self.parts.store.mailboxes.judge().await;
        self.parts.metrics.store_unfit.set(judged.is_err().into());
        if let Err(why) = judged {
            tracing::error!("the store is not what it was configured to be: {why}");
        }
    }

    async fn sweep(&mut self) -> Result<(), Fault> {
        let Parts { store, gateways, metrics, .. } = &self.parts;
        loop {
            let swept = store.mailboxes.sweep(Sweep { limit: AT_ONCE }, None).await.map_err(Fault::unavailable)?;
            for notice in &swept.activated {
                gateways.push_activation(notice);
            }
            for (holder, heads) in &swept.grown {
                gateways.push_heads(holder, heads);
            }
            news::tell_swept(&self.parts, swept.news).await;
            if swept.handled < AT_ONCE && !swept.more {
                break;
            }
        }
        if self.rounds.is_multiple_of(FEEDS_EVERY) {
            store.feeds.sweep_feeds(None).await.map_err(Fault::unavailable)?;
        }
        gateways.refresh().await?;
        if self.parts.publisher.take_doubt() {
            // The store answers again: whatever it took of what it did not answer, gateways find by comparing.
            gateways.note_loss();
        }
        let life = store.mailboxes.life();
        if std::mem::replace(&mut self.life, life) != life {
            tracing::warn!("the store was replaced: gateways compare what they know with it");
            gateways.note_loss();
        }
        metrics.store_calls(store.mailboxes.calls());
        metrics.totals(store.mailboxes.totals().await.map_err(Fault::unavailable)?, self.parts.context.clock.now());
        Ok(())
    }
}
