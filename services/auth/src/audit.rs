//! Who did what. Events are chained by a MAC that only auth can make, so that nothing in a chain can be changed or left
//! out unnoticed, not even by whoever writes to the store.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use waystation_domain::{OrganizationId, Timestamp};
use waystation_rpc::{Caller, Fault};
use waystation_runtime::Context;
use waystation_store::Store;
use waystation_store::audit::{AuditLog, AuditRecord, Chain};
use waystation_token::{Pepper, TokenClass};

/// Events that wait to be written; then whoever has one waits.
const WAITING: usize = 1_024;
/// Events that are written at once.
const BATCH: usize = 256;
/// Failures like each other within this time are one event.
const ALIKE: Duration = Duration::from_secs(60);
/// Kinds of failures that are told apart; beyond that each is written.
const KINDS: usize = 10_000;
/// How often an event is tried to be written.
const TRIES: u32 = 5;
/// After each failed try.
const AGAIN: Duration = Duration::from_millis(200);
/// Events of a page when a chain is verified.
const PAGE: usize = 1_000;

/// Something that was done, or tried.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) chain: Chain,
    pub(crate) action: &'static str,
    pub(crate) actor: String,
    pub(crate) target: String,
    /// What the caller called its request.
    pub(crate) request: String,
    /// `ok`, or the reason of the refusal.
    pub(crate) result: &'static str,
    pub(crate) detail: String,
}

/// Who calls, and what they call their request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Actor {
    pub(crate) name: String,
    pub(crate) request: String,
}

impl Actor {
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Actor {
        let caller = Caller::of(request).map(|Caller(claims)| {
            let kind = match claims.class {
                TokenClass::Access => "orchestrator",
                TokenClass::Service => "service",
                TokenClass::Operator => "operator",
                TokenClass::User => "user",
            };
            format!("{kind}:{}", claims.subject)
        });
        let id = request.metadata().get("x-request-id").and_then(|id| id.to_str().ok());
        let id = id.filter(|id| id.len() <= 64).unwrap_or_default();
        Actor { name: caller.unwrap_or_default(), request: id.to_owned() }
    }
}

struct Pending {
    event: Event,
    time: Timestamp,
    written: Option<oneshot::Sender<Result<(), Fault>>>,
}

/// Takes events. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Auditor {
    queue: mpsc::Sender<Pending>,
    context: Context,
}

/// What a look through a chain found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) first: u64,
    pub(crate) last: Option<(u64, [u8; 32])>,
    /// The first that does not fit.
    pub(crate) broken: Option<u64>,
}

impl Auditor {
    pub(crate) fn start(store: Store, pepper: Pepper, context: &Context) -> Auditor {
        let (queue, pending) = mpsc::channel(WAITING);
        let writer = Writer { store, pepper, heads: HashMap::new(), failures: HashMap::new() };
        context.lifecycle.spawn(writer.run(pending, context.clone()));
        Auditor { queue, context: context.clone() }
    }

    /// Writes an event down. Resolves when it is kept.
    ///
    /// # Errors
    /// UNAVAILABLE if it could not be kept: what cannot be accounted for is not answered as done.
    pub(crate) async fn record(&self, event: Event) -> Result<(), Fault> {
        let (written, kept) = oneshot::channel();
        self.put(event, Some(written)).await?;
        kept.await.map_err(|_| Fault::unavailable("auth is stopping"))?
    }

    /// Writes an event down soon. Waits only while too many do.
    pub(crate) async fn note(&self, event: Event) {
        if let Err(fault) = self.put(event, None).await {
            tracing::warn!("an audit event is lost: {fault}");
        }
    }

    async fn put(&self, event: Event, written: Option<oneshot::Sender<Result<(), Fault>>>) -> Result<(), Fault> {
        let pending = Pending { event, time: self.context.clock.now(), written };
        self.queue.send(pending).await.map_err(|_| Fault::unavailable("auth is stopping"))
    }
}

/// Failures like each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Alike {
    chain: Chain,
    action: &'static str,
    target: String,
    result: &'static str,
}

struct Writer {
    store: Store,
    pepper: Pepper,
    /// The end of each chain, as this replica left it.
    heads: HashMap<Chain, AuditRecord>,
    /// Since when, how many were not written, and the last of them.
    failures: HashMap<Alike, (Instant, u64, Event)>,
}

impl Writer {
    async fn run(mut self, mut pending: mpsc::Receiver<Pending>, context: Context) {
        let mut batch = Vec::new();
        let mut tick = tokio::time::interval(ALIKE);
        loop {
            tokio::select! {
                count = pending.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                }
                _ = tick.tick() => {}
                () = context.lifecycle.stopping() => {
                    // What was taken is written.
                    pending.close();
                    while let Ok(last) = pending.try_recv() {
                        batch.push(last);
                    }
                    self.write(std::mem::take(&mut batch), &context).await;
                    return;
                }
            }
            self.write(std::mem::take(&mut batch), &context).await;
        }
    }

    async fn write(&mut self, batch: Vec<Pending>, context: &Context) {
        let now = context.clock.instant();
        let mut chains: BTreeMap<Chain, Vec<Pending>> = BTreeMap::new();
        for summary in self.summaries(now) {
            let pending = Pending { event: summary, time: context.clock.now(), written: None };
            chains.entry(pending.event.chain.clone()).or_default().push(pending);
        }
        for pending in batch {
            if pending.written.is_some() || !self.is_alike(&pending.event, now) {
                chains.entry(pending.event.chain.clone()).or_default().push(pending);
            }
        }
        for (chain, pending) in chains {
            let kept = self.append(&chain, &pending).await;
            if let Err(fault) = &kept {
                // The log of the process is the last place where they can stand.
                for Pending { event, .. } in &pending {
                    tracing::error!(?event, "an audit event is lost: {fault}");
                }
            }
            for waiting in pending.into_iter().filter_map(|pending| pending.written) {
                // Whoever does not wait any more need not know.
                drop(waiting.send(kept.clone()));
            }
        }
    }

    /// Whether a failure like this one has just been written.
    fn is_alike(&mut self, event: &Event, now: Instant) -> bool {
        if event.result == "ok" {
            return false;
        }
        let alike = Alike {
            chain: event.chain.clone(),
            action: event.action,
            target: event.target.clone(),
            result: event.result,
        };
        if let Some((_, count, last)) = self.failures.get_mut(&alike) {
            *count += 1;
            last.clone_from(event);
            return true;
        }
        if self.failures.len() < KINDS {
            self.failures.insert(alike, (now, 0, event.clone()));
        }
        false
    }

    /// What was counted and not written, when its time is over.
    fn summaries(&mut self, now: Instant) -> Vec<Event> {
        let mut summaries = Vec::new();
        self.failures.retain(|_, (since, count, last)| {
            let is_over = now.saturating_duration_since(*since) >= ALIKE;
            if is_over && *count > 0 {
                summaries
                    .push(Event { detail: format!("{count} more like it; the last: {}", last.detail), ..last.clone() });
            }
            !is_over
        });
        summaries
    }

    async fn append(&mut self, chain: &Chain, pending: &[Pending]) -> Result<(), Fault> {
        let mut written: Option<AuditRecord> = None;
        let mut problem = String::new();
        for tries in 0..TRIES {
            let known = if tries == 0 { self.heads.get(chain).cloned() } else { None };
            let head = match known {
                Some(head) => Some(head),
                None => match self.store.audit.audit_head(chain).await {
                    Ok(head) => head,
                    Err(unavailable) => {
                        problem = unavailable.to_string();
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                },
            };
            // A try whose answer was lost may have been the last to write.
            if written.is_some() && written == head {
                return Ok(());
            }
            let records = self.chained(chain, head.as_ref(), pending);
            written = records.last().cloned();
            let after = head.map_or(0, |head| head.sequence);
            match self.store.audit.append_audit(chain, after, records, None).await {
                Ok(true) => {
                    self.heads.extend(written.map(|last| (chain.clone(), last)));
                    return Ok(());
                }
                Ok(false) => "other replicas were faster".clone_into(&mut problem),
                Err(unavailable) => {
                    problem = unavailable.to_string();
                    tokio::time::sleep(AGAIN).await;
                }
            }
            self.heads.remove(chain);
        }
        Err(Fault::unavailable(problem))
    }

    fn chained(&self, chain: &Chain, head: Option<&AuditRecord>, pending: &[Pending]) -> Vec<AuditRecord> {
        let (mut sequence, mut before) = head.map_or((0, [0; 32]), |head| (head.sequence, head.mac));
        let each = pending.iter().map(|Pending { event, time, .. }| {
            sequence += 1;
            let record = AuditRecord {
                sequence,
                time: *time,
                action: event.action.to_owned(),
                actor: event.actor.clone(),
                target: event.target.clone(),
                request: event.request.clone(),
                result: event.result.to_owned(),
                detail: event.detail.clone(),
                mac: [0; 32],
            };
            before = mac(&self.pepper, chain, &before, &record);
            AuditRecord { mac: before, ..record }
        });
        each.collect()
    }
}

fn mac(pepper: &Pepper, chain: &Chain, before: &[u8; 32], record: &AuditRecord) -> [u8; 32] {
    let log = match chain.log {
        AuditLog::Changes => "changes",
        AuditLog::Logins => "logins",
    };
    pepper.audit_mac(&[
        before,
        chain.organization.as_ref().map_or("", OrganizationId::as_str).as_bytes(),
        log.as_bytes(),
        &record.sequence.to_le_bytes(),
        &record.time.as_millis().to_le_bytes(),
        record.action.as_bytes(),
        record.actor.as_bytes(),
        record.target.as_bytes(),
        record.request.as_bytes(),
        record.result.as_bytes(),
        record.detail.as_bytes(),
    ])
}

/// Looks through a whole chain; `known`: an event that must be in it.
///
/// # Errors
/// UNAVAILABLE if the store does not answer.
pub(crate) async fn verify(
    store: &Store,
    pepper: &Pepper,
    chain: &Chain,
    known: Option<(u64, [u8; 32])>,
) -> Result<Verified, Fault> {
    let mut found = Verified::default();
    // What stood before the oldest event has left the chain with its MAC: the oldest is taken as it is.
    loop {
        let after = found.last.map_or(0, |(sequence, _)| sequence);
        let page = store.audit.audit(chain, after, PAGE).await.map_err(Fault::unavailable)?;
        if page.is_empty() {
            break;
        }
        for record in page {
            let fits = match (&found.last, record.sequence) {
                (None, 1) => mac(pepper, chain, &[0; 32], &record) == record.mac,
                (None, _) => true,
                (Some((last, before)), sequence) => {
                    sequence == last + 1 && mac(pepper, chain, before, &record) == record.mac
                }
            };
            if !fits {
                found.broken.get_or_insert(record.sequence);
            }
            if known.is_some_and(|(sequence, mac)| sequence == record.sequence && mac != record.mac) {
                found.broken.get_or_insert(record.sequence);
            }
            if found.first == 0 {
                found.first = record.sequence;
            }
            found.last = Some((record.sequence, record.mac));
        }
    }
    if let Some((sequence, _)) = known
        && found.last.is_none_or(|(last, _)| last < sequence)
    {
        found.broken.get_or_insert(sequence);
    }
    Ok(found)
}
