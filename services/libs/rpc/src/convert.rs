//! Between the contract's messages and the domain's types, in both directions.

mod feeds;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

pub use prost_types::Timestamp as WireTimestamp;
use waystation_domain::{
    Activation, Entry, Epoch, ExitReason, Gap, GapRange, Heads, Lane, MessageId, PerLane, Position, Revocation,
    Revoked, Subscription, Subscriptions, Timestamp,
};
use waystation_proto::auth::v1 as auth;
use waystation_proto::common::v1::{self as common, LaneNumbers, Priority};
use waystation_proto::gateway::v1 as gateway;
use waystation_proto::router::v1 as router;

use crate::fault::Fault;
pub use feeds::{
    extent_from, extent_to, feed_event_from, feed_event_to, feed_gap_to, feed_point_from, feed_position_from,
    feed_position_to,
};

/// Reads a text of a request as a type of the domain.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn parse<T: FromStr>(field: &str, text: &str) -> Result<T, Fault>
where
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| Fault::field(field, error))
}

/// Reads a text that may be empty.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn parse_optional<T: FromStr>(field: &str, text: &str) -> Result<Option<T>, Fault>
where
    T::Err: Display,
{
    if text.is_empty() { Ok(None) } else { parse(field, text).map(Some) }
}

/// A part of a request that must be there.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::field(field, "must be present"))
}

/// The time that a message carries; the epoch if it carries none.
pub fn timestamp_from(time: Option<&WireTimestamp>) -> Timestamp {
    let Some(WireTimestamp { seconds, nanos }) = time else { return Timestamp::default() };
    let seconds = u64::try_from(*seconds).unwrap_or(0);
    let nanos = u64::try_from(*nanos).unwrap_or(0);
    Timestamp::from_millis(seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000))
}

/// A time for a message.
pub fn timestamp_to(time: Timestamp) -> WireTimestamp {
    let millis = time.as_millis();
    WireTimestamp {
        seconds: i64::try_from(millis / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1_000 * 1_000_000).unwrap_or(0),
    }
}

/// The lane of a priority.
///
/// # Errors
/// INVALID_ARGUMENT if there is no such priority.
pub fn lane_from(field: &str, priority: i32) -> Result<Lane, Fault> {
    match Priority::try_from(priority) {
        Ok(Priority::Unspecified | Priority::Normal) => Ok(Lane::Normal),
        Ok(Priority::Low) => Ok(Lane::Low),
        Ok(Priority::High) => Ok(Lane::High),
        Ok(Priority::Critical) => Ok(Lane::Critical),
        Err(_) => Err(Fault::field(field, "is not a priority")),
    }
}

/// The priority of a lane.
pub fn lane_to(lane: Lane) -> Priority {
    match lane {
        Lane::Critical => Priority::Critical,
        Lane::High => Priority::High,
        Lane::Normal => Priority::Normal,
        Lane::Low => Priority::Low,
    }
}

/// Numbers of the lanes; zeros if absent.
pub fn lanes_from(numbers: Option<LaneNumbers>) -> PerLane<u64> {
    let numbers = numbers.unwrap_or_default();
    PerLane::from_fn(|lane| match lane {
        Lane::Critical => numbers.critical,
        Lane::High => numbers.high,
        Lane::Normal => numbers.normal,
        Lane::Low => numbers.low,
    })
}

/// Numbers of the lanes for a message.
pub fn lanes_to(numbers: &PerLane<u64>) -> LaneNumbers {
    LaneNumbers {
        critical: numbers[Lane::Critical],
        high: numbers[Lane::High],
        normal: numbers[Lane::Normal],
        low: numbers[Lane::Low],
    }
}

/// A position.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn position_from(field: &str, position: Option<common::Position>) -> Result<Position, Fault> {
    let position = required(field, position)?;
    Ok(Position {
        epoch: parse::<Epoch>("epoch", &position.epoch).map_err(|fault| fault.within(field))?,
        lane: lane_from("lane", position.lane).map_err(|fault| fault.within(field))?,
        sequence: position.sequence,
    })
}

/// A position for a message.
pub fn position_to(position: Position) -> common::Position {
    common::Position {
        epoch: position.epoch.to_string(),
        lane: lane_to(position.lane).into(),
        sequence: position.sequence,
    }
}

/// Heads.
pub fn heads_from(heads: Option<gateway::Heads>) -> Heads {
    let heads = heads.unwrap_or_default();
    Heads { lanes: lanes_from(heads.lanes), exits: heads.exits, next_due: heads.next_due_ms.map(Duration::from_millis) }
}

/// Heads for a message.
pub fn heads_to(heads: &Heads) -> gateway::Heads {
    gateway::Heads {
        lanes: Some(lanes_to(&heads.lanes)),
        exits: heads.exits,
        next_due_ms: heads.next_due.map(|due| u64::try_from(due.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// An activation; the fence travels beside it.
///
/// # Errors
/// INVALID_ARGUMENT if the epoch is malformed.
pub fn activation_from(fence: u64, activation: gateway::Activation) -> Result<Activation, Fault> {
    Ok(Activation {
        fence,
        epoch: parse("activation.epoch", &activation.epoch)?,
        marks: lanes_from(activation.marks),
        heads: heads_from(activation.heads),
        gap_mark: activation.gap_mark,
    })
}

/// An activation for a message.
pub fn activation_to(activation: &Activation) -> gateway::Activation {
    gateway::Activation {
        epoch: activation.epoch.to_string(),
        marks: Some(lanes_to(&activation.marks)),
        heads: Some(heads_to(&activation.heads)),
        gap_mark: activation.gap_mark,
    }
}

/// An entry.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn entry_from(entry: gateway::Entry) -> Result<Entry, Fault> {
    Ok(Entry {
        position: position_from("entry.position", entry.position)?,
        id: MessageId::naming(&entry.message_id).map_err(|error| Fault::field("entry.message_id", error))?,
        event_type: parse("entry.event_type", &entry.event_type)?,
        channel: parse_optional("entry.channel_id", &entry.channel_id)?,
        data: entry.data,
        attempt: entry.attempt,
        trace: parse_optional("entry.traceparent", &entry.traceparent)?,
        sender: parse_optional("entry.sender_orchestrator_id", &entry.sender_orchestrator_id)?,
        accepted: Timestamp::from_millis(entry.accept_time_ms),
    })
}

/// An entry for a message.
pub fn entry_to(entry: Entry) -> gateway::Entry {
    gateway::Entry {
        position: Some(position_to(entry.position)),
        message_id: entry.id.as_str().to_owned(),
        event_type: entry.event_type.as_str().to_owned(),
        data: entry.data,
        channel_id: entry.channel.map(|channel| channel.as_str().to_owned()).unwrap_or_default(),
        attempt: entry.attempt,
        traceparent: entry.trace.map(|trace| trace.as_str().to_owned()).unwrap_or_default(),
        sender_orchestrator_id: entry.sender.map(|sender| sender.as_str().to_owned()).unwrap_or_default(),
        accept_time_ms: entry.accepted.as_millis(),
    }
}

/// A gap.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn gap_from(gap: router::Gap) -> Result<Gap, Fault> {
    let reason = match gap.reason() {
        router::GapReason::Unspecified => None,
        router::GapReason::Expired => Some(ExitReason::Expired),
        router::GapReason::Dead => Some(ExitReason::Dead),
        router::GapReason::Overflowed => Some(ExitReason::Overflowed),
        router::GapReason::Purged => Some(ExitReason::Purged),
    };
    let range = |reason| -> Result<GapRange, Fault> {
        Ok(GapRange {
            reason,
            lane: lane_from("gap.lane", gap.lane)?,
            from: gap.from,
            to: gap.to,
            epoch: parse("gap.epoch", &gap.epoch)?,
        })
    };
    Ok(Gap { position: gap.position, left: reason.map(range).transpose()?, count: gap.count })
}

/// A gap for a message.
pub fn gap_to(gap: &Gap) -> router::Gap {
    let mut wire = router::Gap { position: gap.position, count: gap.count, ..router::Gap::default() };
    if let Some(left) = &gap.left {
        wire.set_reason(match left.reason {
            ExitReason::Expired => router::GapReason::Expired,
            ExitReason::Dead => router::GapReason::Dead,
            ExitReason::Overflowed => router::GapReason::Overflowed,
            ExitReason::Purged => router::GapReason::Purged,
        });
        wire.set_lane(lane_to(left.lane));
        (wire.from, wire.to, wire.epoch) = (left.from, left.to, left.epoch.to_string());
    }
    wire
}

/// Subscriptions.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn subscriptions_from(subscriptions: router::Subscriptions) -> Result<Subscriptions, Fault> {
    let one = |wanted: router::Subscription| -> Result<Subscription, Fault> {
        let channels = wanted.channel_ids.iter().map(|id| parse("subscriptions.channel_ids", id));
        Ok(Subscription {
            pattern: parse("subscriptions.pattern", &wanted.pattern)?,
            channels: channels.collect::<Result<_, _>>()?,
        })
    };
    let excluded = subscriptions.excluded.iter().map(|text| parse("subscriptions.excluded", text));
    Ok(Subscriptions {
        patterns: subscriptions.patterns.into_iter().map(one).collect::<Result<_, _>>()?,
        excluded: excluded.collect::<Result<_, _>>()?,
    })
}

/// Subscriptions for a message.
pub fn subscriptions_to(subscriptions: &Subscriptions) -> router::Subscriptions {
    let one = |wanted: &Subscription| router::Subscription {
        pattern: wanted.pattern.to_string(),
        channel_ids: wanted.channels.iter().map(ToString::to_string).collect(),
    };
    router::Subscriptions {
        patterns: subscriptions.patterns.iter().map(one).collect(),
        excluded: subscriptions.excluded.iter().map(ToString::to_string).collect(),
    }
}

/// A revocation.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn revocation_from(revocation: auth::Revocation) -> Result<Revocation, Fault> {
    let value = &revocation.value;
    let revoked = match revocation.kind() {
        auth::RevocationKind::Token => Revoked::Token(parse("value", value)?),
        auth::RevocationKind::Family => Revoked::Login(parse("value", value)?),
        auth::RevocationKind::ApiKey => Revoked::ApiKey(parse("value", value)?),
        auth::RevocationKind::Orchestrator => Revoked::Orchestrator(parse("value", value)?),
        auth::RevocationKind::Organization => Revoked::Organization,
        auth::RevocationKind::Unspecified => return Err(Fault::field("kind", "must be known")),
    };
    Ok(Revocation {
        organization: parse("organization_id", &revocation.organization_id)?,
        revoked,
        at: timestamp_from(revocation.revoke_time.as_ref()),
    })
}

/// A revocation for a message.
pub fn revocation_to(revocation: &Revocation) -> auth::Revocation {
    let (kind, value) = match &revocation.revoked {
        Revoked::Token(id) => (auth::RevocationKind::Token, id.to_string()),
        Revoked::Login(id) => (auth::RevocationKind::Family, id.to_string()),
        Revoked::ApiKey(id) => (auth::RevocationKind::ApiKey, id.to_string()),
        Revoked::Orchestrator(id) => (auth::RevocationKind::Orchestrator, id.to_string()),
        Revoked::Organization => (auth::RevocationKind::Organization, String::new()),
    };
    auth::Revocation {
        kind: kind.into(),
        value,
        organization_id: revocation.organization.to_string(),
        revoke_time: Some(timestamp_to(revocation.at)),
    }
}
