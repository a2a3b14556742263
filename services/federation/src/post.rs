//! Mail about tasks. A note is sent until the store knows that it was; its id makes one message of all attempts.

use tonic::Code;
use waystation_domain::OrganizationId;
use waystation_domain::federation::{Delegation, Note, NoteKind};
use waystation_proto::common::v1::Priority;
use waystation_proto::router::v1::RouteMessageRequest;

use crate::{Parts, cells, desk};

/// Sends what a delegation has to say, beside everything else. What cannot be sent now a sweeper sends later.
pub(crate) fn send(parts: &Parts, organization: &OrganizationId, delegation: &Delegation) {
    if delegation.outbox.is_empty() {
        return;
    }
    let (parts, organization, delegation) = (parts.clone(), organization.clone(), delegation.clone());
    let lifecycle = parts.context.lifecycle.clone();
    lifecycle.clone().spawn(async move {
        tokio::select! {
            () = send_all(&parts, &organization, &delegation) => {}
            () = lifecycle.stopping() => {}
        }
    });
}

/// To each in their order, as far as that goes: a mailbox that is full holds nobody else up.
pub(crate) async fn send_all(parts: &Parts, organization: &OrganizationId, delegation: &Delegation) {
    let (mut sent, mut stuck) = (Vec::new(), Vec::new());
    for note in &delegation.outbox {
        if stuck.contains(&&note.to) {
            continue;
        }
        if route(parts, organization, delegation, note).await {
            sent.push(note.number);
        } else {
            stuck.push(&note.to);
        }
    }
    if sent.is_empty() {
        return;
    }
    let noted = desk::change(parts, organization, &delegation.id, |delegation, _| {
        delegation.note_sent(&sent);
        Ok(())
    });
    if let Err(fault) = noted.await {
        tracing::warn!(delegation = %delegation.id, "cannot note that mail was sent: {fault}");
    }
}

/// Sends one note; answers whether it need not be sent again.
async fn route(parts: &Parts, organization: &OrganizationId, delegation: &Delegation, note: &Note) -> bool {
    if let Some(is_told) = cells::send(parts, organization, delegation, note).await {
        return is_told;
    }
    let time_to_live = (note.kind == NoteKind::Offered).then_some(delegation.request.limits.offer);
    let request = RouteMessageRequest {
        organization_id: organization.to_string(),
        orchestrator_id: note.to.to_string(),
        message_id: message_id(delegation, note),
        event_type: note.kind.event_type().to_owned(),
        data: note.data.clone().into(),
        priority: if note.kind.is_urgent() { Priority::Critical } else { Priority::Normal }.into(),
        time_to_live: time_to_live.and_then(|time| prost_types::Duration::try_from(time).ok()),
        ..Default::default()
    };
    match parts.router.clone().route_message(request).await {
        Ok(_) => {
            parts.metrics.mail.inc();
            true
        }
        Err(status) => {
            tracing::warn!(delegation = %delegation.id, to = %note.to, "mail was refused: {}", status.message());
            // Sending it again would change nothing; whether the task goes on is decided by its limits.
            matches!(status.code(), Code::NotFound | Code::InvalidArgument | Code::AlreadyExists)
        }
    }
}

/// Offers are named by their attempt, everything else by its place.
fn message_id(delegation: &Delegation, note: &Note) -> String {
    match note.kind {
        NoteKind::Offered => format!("{}.{}", delegation.id, note.attempt),
        NoteKind::Accepted
        | NoteKind::Rejected
        | NoteKind::Progress
        | NoteKind::Completed
        | NoteKind::Failed
        | NoteKind::Cancelled
        | NoteKind::Withdrawn
        | NoteKind::Context
        | NoteKind::Reassigned => format!("{}.n{}", delegation.id, note.number),
    }
}
