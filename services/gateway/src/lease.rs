//! The lease of this gateway's incarnation (delivery, rule 10).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use waystation_domain::IncarnationId;
use waystation_rpc::{Fault, Heard};
use waystation_runtime::Context;

use crate::Parts;
use crate::registry::Event;

/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Without a renewal for so long nothing is delivered: earlier than the store gives the mailboxes on.
const DELIVER_FOR: Duration = Duration::from_secs(12);
/// After a failed renewal.
const AGAIN: Duration = Duration::from_millis(500);
/// Sessions are opened again within this time, so that a store that is back is not stormed.
const REOPEN_SPREAD: Duration = Duration::from_secs(5);

/// Who this process is, and whether it may deliver. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lease(Arc<Inner>);

struct Inner {
    incarnation: ArcSwap<IncarnationId>,
    /// Counts incarnations.
    term: AtomicU64,
    started: Instant,
    /// Milliseconds after `started`.
    valid_until: AtomicU64,
    /// It is about to stop: no session begins here.
    draining: AtomicBool,
    /// When auth was heard.
    heard: Heard,
    /// For how long it may be silent; `None`: for ever.
    patience: Option<Duration>,
}

fn mint(context: &Context) -> IncarnationId {
    let id = context.entropy.id();
    id.parse().unwrap_or_else(|error| unreachable!("hexadecimal digits are an id: {error}"))
}

impl Lease {
    pub(crate) fn new(context: &Context, heard: Heard, patience: Option<Duration>) -> Lease {
        Lease(Arc::new(Inner {
            incarnation: ArcSwap::from_pointee(mint(context)),
            term: AtomicU64::new(0),
            started: context.clock.instant(),
            valid_until: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            heard,
            patience,
        }))
    }

    pub(crate) fn incarnation(&self) -> IncarnationId {
        IncarnationId::clone(&self.0.incarnation.load())
    }

    /// Whether anything may be delivered.
    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        self.holds(now) && self.sees(now)
    }

    /// Whether the store still counts the sessions of this gateway.
    fn holds(&self, now: Instant) -> bool {
        self.millis(now) < self.0.valid_until.load(Ordering::Acquire)
    }

    /// Whether it is known what has been revoked (R5).
    fn sees(&self, now: Instant) -> bool {
        self.0.patience.is_none_or(|patience| self.0.heard.within(patience, now))
    }

    /// For how long auth has been silent.
    fn silence(&self, now: Instant) -> Duration {
        self.0.heard.silence(now).unwrap_or_else(|| now.saturating_duration_since(self.0.started))
    }

    /// Which incarnation this is, counted.
    pub(crate) fn term(&self) -> u64 {
        self.0.term.load(Ordering::Acquire)
    }

    /// Whether a session that was opened in a term may deliver. A lease that is valid again is another incarnation's:
    /// hints that waited since before it must not be taken for its own.
    pub(crate) fn covers(&self, term: u64, now: Instant) -> bool {
        self.is_valid(now) && self.term() == term
    }

    /// From the next renewal on routers know that this gateway is about to stop.
    pub(crate) fn begin_drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether it is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Counted from before the request: the store's lease began later.
    fn renewed(&self, asked: Instant) {
        self.0.valid_until.store(self.millis(asked + DELIVER_FOR), Ordering::Release);
    }
}

/// Renews until the process ends. Resolves when the lease holds for the first time. The gateway wants traffic while
/// the lease holds.
pub(crate) async fn keep(parts: &Parts) {
    while let Err(fault) = renew(parts).await {
        tracing::warn!("cannot take a lease: {fault:?}");
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = parts.context.lifecycle.stopping() => return,
        }
    }
    parts.show_readiness();
    let parts = parts.clone();
    let lifecycle = parts.context.lifecycle.clone();
    lifecycle.clone().spawn(async move {
        let (mut pause, mut saw) = (RENEW_EVERY, true);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = lifecycle.stopping() => return,
            }
            pause = match renew(&parts).await {
                Ok(()) => RENEW_EVERY,
                Err(fault) => {
                    tracing::warn!("cannot renew the lease: {fault:?}");
                    AGAIN
                }
            };
            let now = parts.context.clock.instant();
            parts.metrics.auth_silence.set(parts.lease.silence(now).as_secs().cast_signed());
            let sees = parts.lease.sees(now);
            if sees != saw {
                tracing::warn!(
                    sees,
                    "auth was silent: what is revoked is not known while it is, and nothing is delivered"
                );
            }
            if sees && !saw {
                // What came in the meantime was let go by.
                parts.note_loss();
            }
            saw = sees;
            parts.show_readiness();
        }
    });
}

impl Parts {
    /// Says whether more traffic is wanted.
    pub(crate) fn show_readiness(&self) {
        let valid = self.lease.is_valid(self.context.clock.instant());
        self.context.readiness.set(valid && !self.lease.is_draining());
    }
}

/// Renews once. A lease that had ended is taken anew by another incarnation, which opens every session again.
pub(crate) async fn renew(parts: &Parts) -> Result<(), Fault> {
    let lease = &parts.lease;
    let draining = lease.is_draining();
    let asked = parts.context.clock.instant();
    let was_valid = lease.holds(asked);
    let address = parts.config.advertised.clone();
    if parts.upstream.renew(&lease.incarnation(), address.clone(), draining).await? {
        // Before the new lease begins, so that no session can take it for the one it was opened under.
        lease.0.term.fetch_add(1, Ordering::AcqRel);
        lease.0.incarnation.store(Arc::new(mint(&parts.context)));
        tracing::warn!(incarnation = %lease.incarnation(), "the lease had ended: opening every session again");
        parts.upstream.renew(&lease.incarnation(), address, draining).await?;
        lease.renewed(asked);
        parts.registry.send_all(|| Event::Reopen(parts.context.entropy.within(REOPEN_SPREAD)));
        parts.feeds.note_loss();
        return Ok(());
    }
    lease.renewed(asked);
    if !was_valid {
        parts.note_loss();
    }
    Ok(())
}
