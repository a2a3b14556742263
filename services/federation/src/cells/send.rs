//! What is sent to another cell about a task: that it is its, and that it is not any more.

use std::time::Duration;

use prost_types::Duration as WireDuration;
use tonic::{Code, Request, Response, Status};
use waystation_domain::federation::{Attempt, AttemptState, Delegation, Note, NoteKind, RemoteView};
use waystation_domain::{OrchestratorId, OrganizationId};
use waystation_proto::federation::v1::{ContextEntry, DelegationLimits, OfferTaskRequest, WithdrawTaskRequest};
use waystation_rpc::Fault;
use waystation_rpc::convert::timestamp_to;

use super::Watched;
use crate::{Parts, desk, views};

/// A cell answers within this, or not now.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells a cell what a note says; answers whether it need not be told again. `None`: it is no cell's.
pub(crate) async fn send(
    parts: &Parts,
    organization: &OrganizationId,
    delegation: &Delegation,
    note: &Note,
) -> Option<bool> {
    waystation_domain::federation::cell_of(&note.to)?;
    let attempt = delegation.attempts.iter().find(|attempt| attempt.number == note.attempt);
    let watched =
        Watched { organization: organization.clone(), delegation: delegation.id.clone(), attempt: note.attempt };
    Some(match (note.kind, attempt) {
        (NoteKind::Offered, Some(attempt)) => offer(parts, &watched, delegation, attempt).await,
        (NoteKind::Withdrawn | NoteKind::Cancelled | NoteKind::Reassigned, Some(attempt))
            if attempt.assignee == note.to =>
        {
            withdraw(parts, &watched, delegation, attempt).await
        }
        // The cell whose task it is watches how it does.
        (
            NoteKind::Offered
            | NoteKind::Accepted
            | NoteKind::Rejected
            | NoteKind::Progress
            | NoteKind::Completed
            | NoteKind::Failed
            | NoteKind::Cancelled
            | NoteKind::Withdrawn
            | NoteKind::Context
            | NoteKind::Reassigned,
            _,
        ) => true,
    })
}

/// Takes what a cell says of one of our attempts.
pub(super) async fn adopt(
    parts: &Parts,
    watched: &Watched,
    by: &OrchestratorId,
    view: RemoteView,
) -> Result<(), Fault> {
    let adopted = desk::change(parts, &watched.organization, &watched.delegation, |delegation, now| {
        // What does not fit any more changes nothing.
        let _reported = delegation.adopt(by, watched.attempt, view.clone(), now);
        Ok(())
    });
    adopted.await
}

/// It is none of its: somebody else is looked for.
async fn refuse(parts: &Parts, watched: &Watched, by: &OrchestratorId, reason: &str) -> bool {
    let refused = desk::change(parts, &watched.organization, &watched.delegation, |delegation, now| {
        let _reported = delegation.respond(by, watched.attempt, Err(reason.to_owned()), now);
        Ok(())
    });
    refused.await.is_ok()
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// Whether a cell has judged, and will judge so again. Of everything else nobody knows whether it was heard.
fn is_final(status: &Status) -> bool {
    let codes =
        [Code::InvalidArgument, Code::NotFound, Code::AlreadyExists, Code::PermissionDenied, Code::FailedPrecondition];
    codes.contains(&status.code())
}

async fn offer(parts: &Parts, watched: &Watched, delegation: &Delegation, attempt: &Attempt) -> bool {
    let cell = &attempt.assignee;
    let expires = delegation.lease(attempt);
    if !attempt.state.is_open() || attempt.withdrawn.is_some() || parts.context.clock.now() >= expires {
        // It must not begin any more.
        return true;
    }
    let Some(peer) = parts.cells.peer(cell) else {
        return refuse(parts, watched, cell, "the cell is not known any more").await;
    };
    let names: Vec<_> = delegation.context.names().cloned().collect();
    let entries = parts.store.federation.entries(&watched.organization, &watched.delegation, &names, None).await;
    let Ok(entries) = entries else { return false };
    let request = &delegation.request;
    let limits = &request.limits;
    let time = |time: Duration| WireDuration::try_from(time).ok();
    let message = OfferTaskRequest {
        id: Some(watched.to_wire()),
        task: Some(views::task(request.task.clone())),
        required_capabilities: request.required.iter().cloned().map(views::capability).collect(),
        region: request.region.clone(),
        tokens: request.tokens,
        limits: Some(DelegationLimits {
            offer: time(limits.offer),
            start: time(limits.start),
            run: time(limits.run),
            overall: None,
            heartbeat: limits.heartbeat.and_then(time),
        }),
        expire_time: Some(timestamp_to(expires)),
        hops: parts.cells.hops(delegation).iter().map(ToString::to_string).collect(),
        context: entries
            .into_iter()
            .map(|entry| ContextEntry { name: entry.name.to_string(), value: entry.value.into(), version: 0 })
            .collect(),
    };
    match answered(peer.client.clone().offer_task(within(message))).await {
        Ok(answer) => {
            peer.watch(watched.clone());
            match answer.view.map(views::remote) {
                Some(view) => adopt(parts, watched, cell, view).await.is_ok(),
                None => true,
            }
        }
        Err(status) if is_final(&status) => refuse(parts, watched, cell, status.message()).await,
        Err(_) => false,
    }
}

async fn withdraw(parts: &Parts, watched: &Watched, delegation: &Delegation, attempt: &Attempt) -> bool {
    let cell = &attempt.assignee;
    let Some(peer) = parts.cells.peer(cell) else { return true };
    let reason = attempt.withdrawn.clone().unwrap_or_else(|| attempt.reason.clone());
    // An offer that nobody here heard an answer to may have been accepted there.
    let unless_accepted = attempt.state == AttemptState::Offered;
    let message = WithdrawTaskRequest { id: Some(watched.to_wire()), reason, unless_accepted };
    match answered(peer.client.clone().withdraw_task(within(message))).await {
        Ok(answer) => match answer.view.map(views::remote) {
            Some(view) => adopt(parts, watched, cell, view).await.is_ok(),
            None => true,
        },
        // After its lease nobody works on it anyway.
        Err(status) => is_final(&status) || parts.context.clock.now() >= delegation.lease(attempt),
    }
}

async fn answered<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    let answer = tokio::time::timeout(PATIENCE, call).await;
    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))).map(Response::into_inner)
}
