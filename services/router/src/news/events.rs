//! The events that Waystation itself publishes: their types, their data and their ids.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use waystation_domain::{
    Audience, EventType, MessageId, OrganizationId, ReportedPresence, ReportedStatus, Timestamp, TraceParent,
};
use waystation_store::feed::NewEvent;
use waystation_store::limits::EXITS_AGE;
use waystation_store::mailbox::{DeadLetterView, MailboxKey};

use crate::gateways::{LinkChange, LinkNews};
use crate::quotas::TooMany;

/// Made twice of the same, by routers that do not know of each other, it has the same id.
fn event(event_type: &'static str, about: &str, data: &Value, trace: Option<TraceParent>) -> Option<NewEvent> {
    let digest = Sha256::new().chain_update(event_type).chain_update("\n").chain_update(about).finalize();
    let (half, _) = digest.split_first_chunk::<16>()?;
    Some(NewEvent {
        id: Some(MessageId::own(u128::from_be_bytes(*half))),
        event_type: event_type.parse::<EventType>().ok()?,
        channel: None,
        trace,
        sender: None,
        audience: Audience::default(),
        data: data.to_string().into(),
    })
}

fn at(mailbox: &MailboxKey, number: u64, time: Timestamp) -> String {
    let MailboxKey { organization, orchestrator } = mailbox;
    format!("{organization}/{orchestrator}\n{number}\n{}", time.as_millis())
}

/// An orchestrator has a session, or has had none for long enough.
pub(super) fn presence(mailbox: &MailboxKey, online: bool, since: Timestamp) -> Option<NewEvent> {
    let (event_type, status) =
        if online { ("presence.user_online", "online") } else { ("presence.user_offline", "offline") };
    let data = json!({"orchestratorId": mailbox.orchestrator, "status": status, "timestamp": since.to_string()});
    event(event_type, &at(mailbox, 0, since), &data, None)
}

/// An orchestrator wants to be seen in another way.
pub(super) fn presence_updated(
    mailbox: &MailboxKey,
    presence: ReportedPresence,
    text: &str,
    now: Timestamp,
) -> Option<NewEvent> {
    let data = json!({
        "orchestratorId": mailbox.orchestrator, "status": presence, "statusText": text, "timestamp": now.to_string(),
    });
    event("presence.updated", &format!("{}\n{data}", at(mailbox, 0, now)), &data, None)
}

/// An orchestrator says that it does something else now.
pub(super) fn status_changed(
    mailbox: &MailboxKey,
    status: ReportedStatus,
    message: &str,
    now: Timestamp,
) -> Option<NewEvent> {
    let data = json!({
        "orchestratorId": mailbox.orchestrator, "status": status, "message": message, "timestamp": now.to_string(),
    });
    event("vp.status_changed", &format!("{}\n{data}", at(mailbox, 0, now)), &data, None)
}

/// How events name a dead letter.
fn entry_id(mailbox: &MailboxKey, number: u64) -> String {
    format!("{}.{number}", mailbox.orchestrator)
}

/// A message has died.
pub(super) fn dead_letter(mailbox: &MailboxKey, letter: &DeadLetterView) -> Option<NewEvent> {
    let data = json!({
        "entryId": entry_id(mailbox, letter.number),
        "originalMessageId": letter.entry.id.as_str(),
        "orchestratorId": mailbox.orchestrator,
        "reason": letter.reason,
        "addedAt": letter.at.to_string(),
        "expiresAt": letter.at.after(EXITS_AGE).to_string(),
    });
    event("dlq.entry-added", &at(mailbox, letter.number, letter.at), &data, letter.entry.trace.clone())
}

/// A dead letter was routed once more, and so it is settled.
pub(super) fn redriven(
    mailbox: &MailboxKey,
    letter: &DeadLetterView,
    message: &MessageId,
    now: Timestamp,
) -> [Option<NewEvent>; 2] {
    let (entry, now) = (entry_id(mailbox, letter.number), now.to_string());
    let about = at(mailbox, letter.number, letter.at);
    let resubmitted = json!({
        "entryId": entry, "targetQueue": mailbox.orchestrator, "resubmittedAt": now, "newMessageId": message.as_str(),
    });
    let resolved = json!({"entryId": entry, "resolution": "resubmitted", "resolvedAt": now});
    [
        event("dlq.entry-resubmitted", &about, &resubmitted, letter.entry.trace.clone()),
        event("dlq.entry-resolved", &about, &resolved, letter.entry.trace.clone()),
    ]
}

/// An organization sends more messages than it may: told once in a minute.
pub(super) fn rate_limited(
    organization: &OrganizationId,
    TooMany { again, a_second }: TooMany,
    now: Timestamp,
) -> Option<NewEvent> {
    let data = json!({
        "action": "message", "maxRate": a_second, "retryAfter": again.as_secs_f64(), "timestamp": now.to_string(),
    });
    event("system.rate_limited", &format!("{organization}\n{}", now.as_seconds() / 60), &data, None)
}

/// The stream of a router to a gateway breaks, is dialled again, stands.
pub(super) fn link(LinkNews { link, change }: &LinkNews) -> Option<NewEvent> {
    match change {
        LinkChange::State { from, to, reason, at } => {
            let (from, to) = (from.name(), to.name());
            let data = json!({"circuitBreakerId": link, "previousState": from, "newState": to, "reason": reason});
            let about = format!("{link}\n{from}\n{to}\n{}", at.as_millis());
            event("error-recovery.circuit-breaker-state-changed", &about, &data, None)
        }
        LinkChange::RetryStarted { retry, attempt, error, next } => {
            let data = json!({
                "retryId": retry, "attemptNumber": attempt, "errorMessage": error, "nextRetryAt": next.to_string(),
            });
            event("error-recovery.retry-started", &format!("{retry}\n{attempt}"), &data, None)
        }
        LinkChange::RetryCompleted { retry, attempts, error } => {
            let mut data = json!({"retryId": retry, "success": error.is_none(), "attemptCount": attempts});
            if let Some(error) = error {
                data["error"] = error.as_str().into();
            }
            event("error-recovery.retry-completed", retry, &data, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use waystation_domain::{Entry, Epoch, Lane, Position, check_typed};

    use super::*;
    use crate::gateways::BreakerState;

    fn mailbox() -> MailboxKey {
        MailboxKey { organization: "acme".parse().unwrap(), orchestrator: "otto".parse().unwrap() }
    }

    fn letter() -> DeadLetterView {
        let position = Position { epoch: Epoch::from_raw(7), lane: Lane::Normal, sequence: 3 };
        let entry = Entry {
            position,
            id: MessageId::composed(position),
            event_type: "order.placed".parse().unwrap(),
            channel: None,
            sender: None,
            trace: None,
            data: "{}".into(),
            attempt: 5,
            accepted: Timestamp::from_millis(1),
        };
        DeadLetterView { number: 4, entry, reason: "no".into(), at: Timestamp::from_millis(1_000) }
    }

    #[test]
    fn what_has_a_form_has_it() {
        let id = MessageId::naming("order-1.r1").unwrap();
        let [resubmitted, resolved] = redriven(&mailbox(), &letter(), &id, Timestamp::from_millis(2_000));
        let link_news = [
            LinkChange::State {
                from: BreakerState::Closed,
                to: BreakerState::Open,
                reason: "reset".into(),
                at: Timestamp::from_millis(3),
            },
            LinkChange::RetryStarted {
                retry: "r.g.3".into(),
                attempt: 1,
                error: "reset".into(),
                next: Timestamp::from_millis(4),
            },
            LinkChange::RetryCompleted { retry: "r.g.3".into(), attempts: 1, error: None },
            LinkChange::RetryCompleted { retry: "r.g.4".into(), attempts: 2, error: Some("gone".into()) },
        ];
        let links = link_news.map(|change| link(&LinkNews { link: "r.g".into(), change }));
        for event in links.into_iter().chain([dead_letter(&mailbox(), &letter()), resubmitted, resolved]) {
            let event = event.unwrap();
            assert_eq!(check_typed(&event.event_type, &event.data), Ok(()), "{event:?}");
        }
    }

    #[test]
    fn the_same_news_has_the_same_id_and_other_news_another() {
        let id = |event: Option<NewEvent>| event.unwrap().id.unwrap();
        let (early, late) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
        let first = id(presence(&mailbox(), true, early));
        assert_eq!(first, id(presence(&mailbox(), true, early)));
        let other = MailboxKey { orchestrator: "anna".parse().unwrap(), ..mailbox() };
        for different in
            [presence(&mailbox(), false, early), presence(&mailbox(), true, late), presence(&other, true, early)]
        {
            assert_ne!(first, id(different));
        }
    }
}
