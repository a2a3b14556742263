//! Presence, watched. A watcher gets what is so, not what was: one that does not read costs nothing but its place.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::{GetPresenceResponse, PresenceChange, WatchPresenceRequest, WatchPresenceResponse};
use waystation_rpc::{Caller, Fault};
use waystation_store::mailbox::MailboxKey;

use crate::{Parts, request, views};

/// Orchestrators of one watcher.
const MOST: usize = 1_000;
/// What another router did, or time alone, is found by looking: so often, …
const LOOK: Duration = Duration::from_secs(2);
/// … and of more than so many orchestrators less often.
const FEW: usize = 100;
const LOOK_AT_MANY: Duration = Duration::from_secs(10);
/// A stream that has nothing to say says so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Looks at the store at once.
const TOGETHER: usize = 50;
/// Mailboxes whose sessions have changed through this router; a watcher that misses some looks at all.
const CHANGES: usize = 1_024;

/// Tells watchers which mailboxes' sessions have changed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SessionChanges(broadcast::Sender<MailboxKey>);

impl Default for SessionChanges {
    fn default() -> Self {
        SessionChanges(broadcast::Sender::new(CHANGES))
    }
}

impl SessionChanges {
    pub(crate) fn tell(&self, key: &MailboxKey) {
        if self.0.receiver_count() > 0 {
            // Nobody may be left to hear it.
            self.0.send(key.clone()).ok();
        }
    }
}

/// The orchestrators that a request names.
pub(crate) async fn wanted(
    parts: &Parts,
    caller: &Caller,
    request: &WatchPresenceRequest,
) -> Result<Vec<MailboxKey>, Fault> {
    let ids = &request.orchestrator_ids;
    if ids.is_empty() || ids.len() > MOST {
        return Err(Fault::field("orchestrator_ids", format!("must have 1 to {MOST} elements")));
    }
    let mut keys = Vec::with_capacity(ids.len());
    for id in ids {
        let key = request::mailbox(caller, &request.organization_id, id)?;
        match parts.directory.check(&key).await {
            Err(fault) if request.unknown_are_offline && fault.reason() == ErrorReason::NotFound => {}
            checked => drop(checked?),
        }
        keys.push(key);
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// Watches until the caller goes or the process stops.
pub(crate) fn watch(parts: Parts, keys: Vec<MailboxKey>) -> ReceiverStream<Result<WatchPresenceResponse, Status>> {
    let (answers, receiver) = mpsc::channel(1);
    let lifecycle = parts.context.lifecycle.clone();
    let changes = parts.session_changes.0.subscribe();
    let watcher = Watcher { parts, keys, known: HashMap::new(), answers };
    lifecycle.clone().spawn(async move {
        tokio::select! {
            () = watcher.run(changes) => {}
            () = lifecycle.stopping() => {}
        }
    });
    ReceiverStream::new(receiver)
}

struct Watcher {
    parts: Parts,
    keys: Vec<MailboxKey>,
    known: HashMap<MailboxKey, GetPresenceResponse>,
    answers: mpsc::Sender<Result<WatchPresenceResponse, Status>>,
}

impl Watcher {
    async fn run(mut self, mut changed: broadcast::Receiver<MailboxKey>) {
        let every = if self.keys.len() > FEW { LOOK_AT_MANY } else { LOOK };
        let mut all = self.keys.clone();
        let mut told = Instant::now();
        loop {
            let found = self.look(&all).await;
            // A store that is away has not changed anybody's presence.
            let found = found.unwrap_or_default();
            let changes: Vec<PresenceChange> = found.into_iter().filter_map(|one| self.note(one)).collect();
            if !changes.is_empty() || told.elapsed() >= KEEP_ALIVE {
                if self.answers.send(Ok(WatchPresenceResponse { changes })).await.is_err() {
                    return;
                }
                told = Instant::now();
            }
            let next_look = Instant::now() + every;
            all = loop {
                tokio::select! {
                    key = changed.recv() => match key {
                        Ok(key) if self.keys.binary_search(&key).is_ok() => break vec![key],
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => break self.keys.clone(),
                        Err(RecvError::Closed) => return,
                    },
                    () = sleep_until(next_look) => break self.keys.clone(),
                    () = self.answers.closed() => return,
                }
            };
        }
    }

    async fn look(&self, keys: &[MailboxKey]) -> Result<Vec<(MailboxKey, GetPresenceResponse)>, Fault> {
        let liveness = self.parts.gateways.liveness();
        let mut found = Vec::with_capacity(keys.len());
        for piece in keys.chunks(TOGETHER) {
            let looks = piece.iter().map(|key| self.parts.store.mailboxes.presence(key, &liveness, None));
            let views = try_join_all(looks).await.map_err(Fault::unavailable)?;
            found.extend(piece.iter().cloned().zip(views.iter().map(views::presence)));
        }
        Ok(found)
    }

    /// Takes in what is so now; answers it if it is news.
    fn note(&mut self, (key, presence): (MailboxKey, GetPresenceResponse)) -> Option<PresenceChange> {
        let before = self.known.insert(key.clone(), presence.clone());
        let news = before.as_ref() != Some(&presence);
        news.then(|| PresenceChange { orchestrator_id: key.orchestrator.to_string(), presence: Some(presence) })
    }
}
