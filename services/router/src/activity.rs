//! Activities, watched.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use waystation_domain::{OrchestratorId, OrganizationId};
use waystation_proto::common::v1::{Activity, ActivityKind};
use waystation_proto::router::v1::{WatchActivityRequest, WatchActivityResponse};
use waystation_rpc::convert::parse;
use waystation_rpc::{Caller, Fault};

use crate::Parts;

/// Orchestrators that a filter may name.
const MOST_ORCHESTRATORS: usize = 1_000;
/// Activities of one answer.
const TOGETHER: usize = 256;
/// A stream that has nothing to say says so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What a watcher wants to see, and may.
pub(crate) struct Filter {
    /// `None`: every organization's.
    organization: Option<OrganizationId>,
    /// Empty: all.
    kinds: HashSet<i32>,
    /// Empty: all.
    orchestrators: HashSet<String>,
}

impl Filter {
    pub(crate) fn read(caller: &Caller, request: WatchActivityRequest) -> Result<Filter, Fault> {
        let organization = caller.any_organization(&request.organization_id)?;
        if request.orchestrator_ids.len() > MOST_ORCHESTRATORS {
            let message = format!("must have at most {MOST_ORCHESTRATORS} elements");
            return Err(Fault::field("orchestrator_ids", message));
        }
        for (index, id) in request.orchestrator_ids.iter().enumerate() {
            parse::<OrchestratorId>(&format!("orchestrator_ids[{index}]"), id)?;
        }
        for (index, kind) in request.kinds.iter().enumerate() {
            if matches!(ActivityKind::try_from(*kind), Err(_) | Ok(ActivityKind::Unspecified)) {
                return Err(Fault::field(&format!("kinds[{index}]"), "is not known"));
            }
        }
        let kinds = request.kinds.into_iter().collect();
        Ok(Filter { organization, kinds, orchestrators: request.orchestrator_ids.into_iter().collect() })
    }

    fn takes(&self, activity: &Activity) -> bool {
        self.organization.as_ref().is_none_or(|id| id.as_str() == activity.organization_id)
            && (self.kinds.is_empty() || self.kinds.contains(&activity.kind))
            && (self.orchestrators.is_empty() || self.orchestrators.contains(&activity.orchestrator_id))
    }
}

/// Watches until the caller goes or the process stops.
pub(crate) fn watch(parts: &Parts, filter: Filter) -> ReceiverStream<Result<WatchActivityResponse, Status>> {
    let (answers, receiver) = mpsc::channel(4);
    let mut watch = parts.activities.watch();
    parts.gateways.note_watcher();
    let (lifecycle, gateways) = (parts.context.lifecycle.clone(), parts.gateways.clone());
    let watching = async move {
        let mut told = Instant::now();
        loop {
            let found = tokio::select! {
                found = timeout_at(told + KEEP_ALIVE, watch.next(TOGETHER)) => found,
                () = answers.closed() => return,
            };
            let activities: Vec<Activity> = (found.unwrap_or_default().iter())
                .filter(|activity| filter.takes(activity))
                .map(|activity| Activity::clone(activity))
                .collect();
            let dropped = watch.take_dropped();
            if activities.is_empty() && dropped == 0 && told.elapsed() < KEEP_ALIVE {
                continue;
            }
            // While this waits for a watcher that does not read, the oldest activities are dropped and counted.
            if answers.send(Ok(WatchActivityResponse { activities, dropped })).await.is_err() {
                return;
            }
            told = Instant::now();
        }
    };
    parts.context.lifecycle.spawn(async move {
        tokio::select! {
            () = watching => {}
            () = lifecycle.stopping() => {}
        }
        gateways.note_watcher();
    });
    ReceiverStream::new(receiver)
}
