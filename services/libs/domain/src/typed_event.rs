//! Events whose data has a form that their readers rely on: the four categories of the conductor.

use serde_json::{Map, Value};

use crate::EventType;

/// What a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Texts,
    Number,
    Bool,
    /// ISO 8601.
    Date,
    /// Anything.
    Any,
    /// One of two words.
    Either(&'static str, &'static str),
}

/// A member of an event's data.
struct Member {
    name: &'static str,
    kind: Kind,
    is_optional: bool,
}

const fn must(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, is_optional: false }
}

const fn may(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, is_optional: true }
}

use Kind::{Any, Bool, Date, Either, Number, Text, Texts};

/// Every typed event.
const TYPED: [(&str, &[Member]); 14] = [
    (
        "error-recovery.retry-started",
        &[must("retryId", Text), must("attemptNumber", Number), must("errorMessage", Text), must("nextRetryAt", Date)],
    ),
    (
        "error-recovery.retry-completed",
        &[
            must("retryId", Text),
            must("success", Bool),
            must("attemptCount", Number),
            may("result", Any),
            may("error", Text),
        ],
    ),
    ("error-recovery.error-resolved", &[must("errorId", Text), must("resolution", Text), must("resolvedAt", Date)]),
    (
        "error-recovery.circuit-breaker-state-changed",
        &[must("circuitBreakerId", Text), must("previousState", Text), must("newState", Text), must("reason", Text)],
    ),
    (
        "scheduler.schedule-executed",
        &[
            must("scheduleId", Text),
            must("scheduleName", Text),
            must("executionId", Text),
            must("executedAt", Date),
            must("nextScheduledAt", Date),
        ],
    ),
    (
        "scheduler.execution-completed",
        &[
            must("executionId", Text),
            must("scheduleId", Text),
            must("status", Either("success", "failed")),
            must("duration", Number),
            may("result", Any),
            may("error", Text),
        ],
    ),
    (
        "scheduler.schedule-created",
        &[must("scheduleId", Text), must("name", Text), must("cronExpression", Text), must("createdAt", Date)],
    ),
    ("scheduler.schedule-deleted", &[must("scheduleId", Text), must("name", Text), must("deletedAt", Date)]),
    (
        "webhook.webhook-delivered",
        &[
            must("webhookId", Text),
            must("url", Text),
            must("deliveryId", Text),
            must("statusCode", Number),
            must("deliveredAt", Date),
        ],
    ),
    (
        "webhook.webhook-failed",
        &[
            must("webhookId", Text),
            must("url", Text),
            must("deliveryId", Text),
            must("error", Text),
            must("failedAt", Date),
            must("retryCount", Number),
        ],
    ),
    (
        "webhook.webhook-registered",
        &[must("webhookId", Text), must("url", Text), must("events", Texts), must("registeredAt", Date)],
    ),
    (
        "dlq.entry-added",
        &[
            must("entryId", Text),
            must("originalMessageId", Text),
            must("reason", Text),
            must("addedAt", Date),
            must("expiresAt", Date),
        ],
    ),
    ("dlq.entry-resolved", &[must("entryId", Text), must("resolution", Text), must("resolvedAt", Date)]),
    (
        "dlq.entry-resubmitted",
        &[must("entryId", Text), must("targetQueue", Text), must("resubmittedAt", Date), must("newMessageId", Text)],
    ),
];

/// What is wrong with the data of a typed event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct TypedEventError {
    /// The member of the data.
    pub member: &'static str,
    /// What it must be.
    pub problem: &'static str,
}

/// Checks the data of an event whose type has a form; data of every other type may be anything. `data` is a JSON object.
///
/// # Errors
/// The first member that is missing or of another kind.
pub fn check_typed(event_type: &EventType, data: &[u8]) -> Result<(), TypedEventError> {
    let Some((_, members)) = TYPED.iter().find(|(name, _)| *name == event_type.as_str()) else { return Ok(()) };
    let data: Map<String, Value> = serde_json::from_slice(data).unwrap_or_default();
    for Member { name, kind, is_optional } in *members {
        let problem = match data.get(*name) {
            None if *is_optional => None,
            None => Some("is missing"),
            Some(value) => kind.problem(value),
        };
        if let Some(problem) = problem {
            return Err(TypedEventError { member: name, problem });
        }
    }
    Ok(())
}

/// The category of an event of the conductor, and the rest of its name; `None` for other types.
pub fn category_of(event_type: &EventType) -> Option<(&'static str, &str)> {
    let (category, event) = event_type.as_str().split_once('.')?;
    CATEGORIES.iter().find(|known| **known == category).map(|known| (*known, event))
}

/// What the conductor's clients subscribe to.
pub const CATEGORIES: [&str; 4] = ["error-recovery", "scheduler", "webhook", "dlq"];

impl Kind {
    /// What a value must be, if it is not.
    fn problem(self, value: &Value) -> Option<&'static str> {
        let (fits, problem) = match self {
            Kind::Text => (value.is_string(), "must be a string"),
            Kind::Texts => {
                let texts = value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
                (texts, "must be an array of strings")
            }
            Kind::Number => (value.is_number(), "must be a number"),
            Kind::Bool => (value.is_boolean(), "must be true or false"),
            Kind::Date => {
                let date = value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok());
                (date, "must be a time in ISO 8601")
            }
            Kind::Any => (true, ""),
            Kind::Either(one, other) => {
                let word = value.as_str();
                (word == Some(one) || word == Some(other), "must be success or failed")
            }
        };
        (!fits).then_some(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(event_type: &str, data: &str) -> Result<(), &'static str> {
        check_typed(&event_type.parse().unwrap(), data.as_bytes()).map_err(|error| error.member)
    }

    #[test]
    fn typed_events_are_checked_member_by_member() {
        let good = r#"{"executionId":"e","scheduleId":"s","status":"success","duration":1.5,"more":[]}"#;
        assert_eq!(check("scheduler.execution-completed", good), Ok(()));
        assert_eq!(check("scheduler.execution-completed", &good.replace("success", "maybe")), Err("status"));
        assert_eq!(check("scheduler.execution-completed", &good.replace("1.5", "\"1.5\"")), Err("duration"));
        assert_eq!(check("scheduler.schedule-deleted", r#"{"scheduleId":"s","name":"n"}"#), Err("deletedAt"));
        let deleted = r#"{"scheduleId":"s","name":"n","deletedAt":"yesterday"}"#;
        assert_eq!(check("scheduler.schedule-deleted", deleted), Err("deletedAt"));
        assert_eq!(check("scheduler.schedule-deleted", &deleted.replace("yesterday", "2026-01-01T00:00:00Z")), Ok(()));
        let hook = r#"{"webhookId":"w","url":"u","events":["a",1],"registeredAt":"2026-01-01T00:00:00Z"}"#;
        assert_eq!(check("webhook.webhook-registered", hook), Err("events"));
        assert_eq!(check("invoice.paid", "{}"), Ok(()), "other events may be anything");
    }

    #[test]
    fn every_typed_event_has_a_category_and_a_name_that_is_an_event_type() {
        for (name, members) in &TYPED {
            let event_type: EventType = name.parse().unwrap();
            assert!(category_of(&event_type).is_some(), "{name}");
            assert!(!members.is_empty());
        }
        assert_eq!(category_of(&"message.received".parse().unwrap()), None);
    }
}
