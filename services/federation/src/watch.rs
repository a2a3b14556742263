//! Delegations as they change, for those who watch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use waystation_domain::{DelegationId, OrganizationId, Timestamp};
use waystation_proto::federation::v1::WatchDelegationResponse;
use waystation_rpc::Fault;

use crate::{Parts, views};

/// Changes that watchers of this process may be behind.
const CHANGES: usize = 1_024;
/// What another replica changed is found by looking.
const LOOK: Duration = Duration::from_millis(500);
/// Answers that wait for a watcher; then it gets what is so when it reads on.
const WAITING: usize = 2;

/// Which delegations this process has changed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Changes {
    told: broadcast::Sender<DelegationId>,
    /// When it changed one last, in milliseconds.
    last: Arc<AtomicU64>,
}

impl Default for Changes {
    fn default() -> Self {
        Changes { told: broadcast::Sender::new(CHANGES), last: Arc::default() }
    }
}

impl Changes {
    pub(crate) fn tell(&self, id: &DelegationId, now: Timestamp) {
        self.last.store(now.as_millis(), Ordering::Relaxed);
        if self.told.receiver_count() > 0 {
            // Nobody may be left to hear it.
            self.told.send(id.clone()).ok();
        }
    }

    /// Hears of changes from now on; whoever is too slow misses some.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<DelegationId> {
        self.told.subscribe()
    }

    /// Whether there was a change not longer ago than this.
    pub(crate) fn within(&self, time: Duration, now: Timestamp) -> bool {
        now.since(Timestamp::from_millis(self.last.load(Ordering::Relaxed))) <= time
    }
}

pub(crate) fn serve(
    parts: &Parts,
    organization: OrganizationId,
    id: DelegationId,
    after: u64,
) -> ReceiverStream<Result<WatchDelegationResponse, Status>> {
    let (answers, receiver) = mpsc::channel(WAITING);
    let lifecycle = parts.context.lifecycle.clone();
    let parts = parts.clone();
    lifecycle.clone().spawn(async move {
        let faults = answers.clone();
        tokio::select! {
            ended = follow(&parts, &organization, &id, after, answers) => {
                if let Err(fault) = ended {
                    faults.send(Err(fault.into())).await.ok();
                }
            }
            () = faults.closed() => {}
            () = lifecycle.stopping() => {}
        }
    });
    ReceiverStream::new(receiver)
}

async fn follow(
    parts: &Parts,
    organization: &OrganizationId,
    id: &DelegationId,
    mut known: u64,
    answers: mpsc::Sender<Result<WatchDelegationResponse, Status>>,
) -> Result<(), Fault> {
    let mut changes = parts.changes.subscribe();
    loop {
        let kept = parts.store.federation.delegation(organization, id, None).await.map_err(Fault::unavailable)?;
        let kept = kept.ok_or_else(|| Fault::not_found("delegation"))?;
        let is_over = kept.delegation.state.is_terminal();
        if kept.version > known {
            known = kept.version;
            let answer = WatchDelegationResponse { delegation: Some(views::delegation(kept)) };
            if answers.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
        }
        if is_over {
            return Ok(());
        }
        // Until it has changed, or it is time to look. Whoever missed something looks too.
        let changed = async { while changes.recv().await.is_ok_and(|changed| changed != *id) {} };
        timeout(LOOK, changed).await.ok();
    }
}
