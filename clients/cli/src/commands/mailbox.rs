//! Mailboxes, dead letters, sessions.

use std::process::ExitCode;

use serde_json::json;
use waystation_proto::common::v1::Priority;
use waystation_proto::router::v1::redriven_message::Outcome;
use waystation_proto::router::v1::{
    GetMailboxRequest, ListDeadLettersRequest, ListMessagesRequest, ListSessionsRequest, RedriveDeadLettersRequest,
    TerminateSessionRequest,
};

use super::Done;
use crate::arguments::DeadLetters;
use crate::failure::Failure;
use crate::place::Place;
use crate::show::{Show, data, or_dash, time, word};

/// Dead letters that one call routes anew.
const TOGETHER: u32 = 100;

fn lane(priority: Priority) -> String {
    word(priority.as_str_name(), "PRIORITY_")
}

pub(super) async fn show_mailbox(place: &Place, show: Show, orchestrator_id: String, page_size: u32) -> Done {
    let mut router = place.call_router().await?;
    let organization_id = place.organization.clone();
    let request =
        GetMailboxRequest { organization_id: organization_id.clone(), orchestrator_id: orchestrator_id.clone() };
    let mailbox = router.get_mailbox(request).await?.into_inner();
    let request = ListMessagesRequest { organization_id, orchestrator_id, page_size, ..ListMessagesRequest::default() };
    let messages = router.list_messages(request).await?.into_inner().messages;
    let counters = mailbox.counters.unwrap_or_default();
    let depths: Vec<(String, u64)> = mailbox.lanes.iter().map(|found| (lane(found.priority()), found.depth)).collect();
    let depth: u64 = depths.iter().map(|(_, depth)| depth).sum();
    let machine = json!({
        "epoch": mailbox.epoch, "depth": depth, "bytes": mailbox.bytes, "oldest": time(mailbox.oldest_time.as_ref()),
        "session": mailbox.session_id, "deadLetters": mailbox.dead_letters, "conservationDelta": mailbox.conservation_delta,
        "lanes": depths.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "counters": {"accepted": counters.accepted, "acknowledged": counters.acknowledged, "expired": counters.expired,
            "dead": counters.dead, "overflowed": counters.overflowed, "purged": counters.purged},
    });
    show.say(&machine, || {
        let lanes: Vec<String> = depths.iter().map(|(lane, depth)| format!("{depth} {lane}")).collect();
        format!(
            "{depth} wait ({}), {} bytes, the oldest since {}\nheld by session {}\naccepted {} = acknowledged {} + expired {} + dead {} + overflowed {} + purged {} + waiting {depth} (difference {})\n{} dead letters\n",
            lanes.join(", "),
            mailbox.bytes,
            time(mailbox.oldest_time.as_ref()),
            or_dash(&mailbox.session_id),
            counters.accepted,
            counters.acknowledged,
            counters.expired,
            counters.dead,
            counters.overflowed,
            counters.purged,
            mailbox.conservation_delta,
            mailbox.dead_letters,
        )
    });
    let rows: Vec<_> = messages
        .iter()
        .map(|message| {
            let position = message.position.clone().unwrap_or_default();
            let (lane, data) = (lane(position.lane()), data(&message.data));
            let row = vec![
                message.message_id.clone(),
                lane.clone(),
                position.sequence.to_string(),
                message.event_type.clone(),
                message.attempt.to_string(),
                if message.in_flight { "in flight" } else { "waits" }.to_owned(),
                time(message.accept_time.as_ref()),
            ];
            let machine = json!({
                "messageId": message.message_id, "lane": lane, "sequence": position.sequence, "type": message.event_type,
                "attempt": message.attempt, "inFlight": message.in_flight, "accepted": time(message.accept_time.as_ref()),
                "data": data,
            });
            (row, machine)
        })
        .collect();
    show.list(&["message", "lane", "sequence", "type", "attempt", "state", "accepted"], &rows, "");
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn dead_letters(place: &Place, show: Show, what: DeadLetters) -> Done {
    match what {
        DeadLetters::List { orchestrator, limit } => list(place, show, orchestrator, limit).await,
        DeadLetters::Redrive { orchestrator, numbers } => redrive(place, show, orchestrator, numbers).await,
    }
}

async fn list(place: &Place, show: Show, orchestrator_id: String, page_size: u32) -> Done {
    let organization_id = place.organization.clone();
    let request =
        ListDeadLettersRequest { organization_id, orchestrator_id, page_size, ..ListDeadLettersRequest::default() };
    let found = place.call_router().await?.list_dead_letters(request).await?.into_inner().dead_letters;
    let rows: Vec<_> = found
        .iter()
        .map(|letter| {
            let message = letter.message.clone().unwrap_or_default();
            let row = vec![
                letter.number.to_string(),
                message.message_id.clone(),
                message.event_type.clone(),
                letter.reason.clone(),
                time(letter.dead_time.as_ref()),
            ];
            let machine = json!({
                "number": letter.number, "messageId": message.message_id, "type": message.event_type, "reason": letter.reason,
                "died": time(letter.dead_time.as_ref()), "data": data(&message.data),
            });
            (row, machine)
        })
        .collect();
    show.list(&["number", "message", "type", "reason", "died"], &rows, "no dead letters");
    Ok(ExitCode::SUCCESS)
}

async fn redrive(place: &Place, show: Show, orchestrator_id: String, numbers: Vec<u64>) -> Done {
    let mut router = place.call_router().await?;
    let bar = show.bar(numbers.len() as u64, "redriving");
    let mut chunks: Vec<Vec<u64>> = numbers.chunks(TOGETHER as usize).map(<[u64]>::to_vec).collect();
    let all = chunks.is_empty();
    if all {
        chunks.push(Vec::new());
    }
    let mut moved = Vec::new();
    while let Some(numbers) = chunks.pop() {
        let request = RedriveDeadLettersRequest {
            organization_id: place.organization.clone(),
            orchestrator_id: orchestrator_id.clone(),
            numbers,
            limit: TOGETHER,
        };
        let answer = router.redrive_dead_letters(request).await?.into_inner();
        bar.inc(answer.messages.len() as u64);
        let any_routed = answer.messages.iter().any(|message| matches!(message.outcome, Some(Outcome::Routed(_))));
        // One call takes so many: the rest needs more. What is refused stays, and would be refused again.
        if all && answer.remaining > 0 && any_routed {
            bar.set_length(bar.position() + answer.remaining);
            chunks.push(Vec::new());
        }
        moved.extend(answer.messages);
    }
    bar.finish_and_clear();
    let rows: Vec<_> = moved
        .iter()
        .map(|message| {
            let (routed, refused) = match &message.outcome {
                Some(Outcome::Routed(routed)) => (Some(routed.message_id.clone()), None),
                Some(Outcome::Error(error)) => (None, Some(error.message.clone())),
                None => (None, None),
            };
            let row = vec![
                message.number.to_string(),
                message.message_id.clone(),
                or_dash(routed.as_deref().unwrap_or_default()),
                or_dash(refused.as_deref().unwrap_or_default()),
            ];
            let machine = json!({"number": message.number, "messageId": message.message_id, "routedAs": routed, "refused": refused});
            (row, machine)
        })
        .collect();
    show.list(&["number", "message", "routed as", "refused"], &rows, "no dead letters");
    let all_routed = moved.iter().all(|message| matches!(message.outcome, Some(Outcome::Routed(_))));
    Ok(if all_routed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn sessions(place: &Place, show: Show, orchestrator_id: String, terminate: Option<String>) -> Done {
    let mut router = place.call_router().await?;
    let organization_id = place.organization.clone();
    if let Some(session_id) = terminate {
        router.terminate_session(TerminateSessionRequest { organization_id, session_id: session_id.clone() }).await?;
        show.say(&json!({"terminated": session_id}), || format!("{session_id} has ended"));
        return Ok(ExitCode::SUCCESS);
    }
    let request = ListSessionsRequest { organization_id, orchestrator_id };
    let found = router.list_sessions(request).await.map_err(Failure::from)?.into_inner().sessions;
    let rows: Vec<_> = found
        .iter()
        .map(|session| {
            let role = if session.active { "mailbox" } else { "standby" };
            let row = vec![
                session.session_id.clone(),
                session.daemon_id.clone(),
                role.to_owned(),
                or_dash(&session.reported_status),
                time(session.open_time.as_ref()),
                or_dash(&session.subscriptions.join(",")),
            ];
            let machine = json!({
                "sessionId": session.session_id, "daemonId": session.daemon_id, "active": session.active,
                "status": session.reported_status, "opened": time(session.open_time.as_ref()),
                "subscriptions": session.subscriptions, "metrics": data(&session.metrics),
            });
            (row, machine)
        })
        .collect();
    show.list(&["session", "daemon", "role", "status", "opened", "subscriptions"], &rows, "no sessions");
    Ok(ExitCode::SUCCESS)
}
