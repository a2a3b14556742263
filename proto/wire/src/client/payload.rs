//! Payloads of a gateway's frames as they stand in JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use waystation_domain::{Epoch, FeedPoint, FeedPosition, Lane, MessageId, PerLane, Position, Window};

use super::inbound::{
    AckResult, AuthRefreshed, AuthRefused, FeedItem, GapNotice, GapSpan, HeartbeatAck, Mail, Refused, SendAck,
    Subscribed, Told, Welcome,
};
use crate::payload::{Refusal, parse_payload};

#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(rename = "replyTo", borrow, default)]
    pub(super) reply_to: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) payload: Option<&'a RawValue>,
}

type Read = Result<Told, Refusal>;

fn value<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| (error.to_string(), Some(format!("payload.{field}"))))
}

fn optional<T: FromStr<Err: Display>>(field: &str, text: &Option<Cow<'_, str>>) -> Result<Option<T>, Refusal> {
    text.as_deref().map(|text| value(field, text)).transpose()
}

fn message_id(field: &str, text: &str) -> Result<MessageId, Refusal> {
    MessageId::naming(text).map_err(|error| (error.to_string(), Some(format!("payload.{field}"))))
}

fn missing(field: &str) -> Refusal {
    (format!("missing field `{field}`"), Some(format!("payload.{field}")))
}

/// Lanes that are not known here are left out.
fn lanes(numbers: &BTreeMap<Cow<'_, str>, u64>) -> PerLane<u64> {
    PerLane::from_fn(|lane: Lane| numbers.get(lane.name()).copied().unwrap_or_default())
}

#[derive(Deserialize)]
struct FeedAt<'a> {
    #[serde(borrow)]
    epoch: Option<Cow<'a, str>>,
    position: u64,
}

impl FeedAt<'_> {
    fn point(&self) -> FeedPoint {
        FeedPoint { epoch: self.epoch.as_deref().and_then(|text| text.parse().ok()), sequence: self.position }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    channel_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sender_orchestrator_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    log: Cow<'a, str>,
    sequence: u64,
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    #[serde(borrow)]
    lane: Option<Cow<'a, str>>,
    #[serde(default)]
    attempt: u32,
    #[serde(default)]
    redelivered: bool,
}

pub(super) fn event(text: &str, frame: &Bytes) -> Read {
    let event: Event<'_> = parse_payload(text.as_bytes())?;
    let id = message_id("eventId", &event.event_id)?;
    let event_type = value("eventType", &event.event_type)?;
    let data = frame.slice_ref(event.data.get().as_bytes());
    let channel = optional("channelId", &event.channel_id)?;
    let sender = optional("senderOrchestratorId", &event.sender_orchestrator_id)?;
    // A trace is help for people: no message is refused for it.
    let trace = event.traceparent.as_deref().and_then(|text| text.parse().ok());
    let (epoch, sequence): (Epoch, u64) = (value("epoch", &event.epoch)?, event.sequence);
    if sequence == 0 {
        return Err(("must be positive".into(), Some("payload.sequence".into())));
    }
    if event.log == "feed" {
        let position = FeedPosition { epoch, sequence };
        return Ok(Told::Event(FeedItem { id, event_type, data, channel, sender, trace, position }));
    }
    let lane = event.lane.as_deref().ok_or_else(|| missing("lane"))?;
    let lane = Lane::from_name(lane).ok_or_else(|| ("is not a lane".into(), Some("payload.lane".into())))?;
    let position = Position { epoch, lane, sequence };
    let Event { attempt, redelivered, .. } = event;
    Ok(Told::Mail(Mail { id, event_type, data, channel, sender, trace, position, attempt, redelivered }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gap<'a> {
    #[serde(borrow)]
    event_id: Option<Cow<'a, str>>,
    reason: String,
    #[serde(default)]
    count: u64,
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    epoch: Option<Cow<'a, str>>,
    #[serde(borrow)]
    lane: Option<Cow<'a, str>>,
    from: Option<u64>,
    to: Option<u64>,
}

pub(super) fn gap(text: &str) -> Read {
    let gap: Gap<'_> = parse_payload(text.as_bytes())?;
    let is_feed = gap.log == "feed";
    let id = gap.event_id.as_deref().map(|id| message_id("eventId", id)).transpose()?;
    if id.is_none() && !is_feed {
        return Err(missing("eventId"));
    }
    let epoch: Option<Epoch> = optional("epoch", &gap.epoch)?;
    let lane = gap.lane.as_deref().and_then(Lane::from_name);
    let span = match (epoch, gap.from, gap.to) {
        (Some(epoch), Some(from), Some(to)) if is_feed || lane.is_some() => Some(GapSpan { epoch, lane, from, to }),
        _ => None,
    };
    Ok(Told::Gap(GapNotice { id: id.filter(|_| !is_feed), reason: gap.reason, count: gap.count, span }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    max_in_flight: u32,
    max_in_flight_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthSuccess<'a> {
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(borrow)]
    server_time: Option<Cow<'a, str>>,
    #[serde(default = "thirty_seconds")]
    heartbeat_interval_ms: u64,
    #[serde(borrow)]
    epoch: Option<Cow<'a, str>>,
    #[serde(default)]
    resumed: bool,
    reason: Option<String>,
    #[serde(borrow)]
    gap: Option<&'a RawValue>,
    limits: Option<Limits>,
    #[serde(borrow)]
    feed: Option<FeedAt<'a>>,
}

fn thirty_seconds() -> u64 {
    30_000
}

pub(super) fn welcome(text: &str) -> Read {
    let told: AuthSuccess<'_> = parse_payload(text.as_bytes())?;
    let window = |limits: Limits| Window::within_limits(limits.max_in_flight, limits.max_in_flight_bytes);
    Ok(Told::Welcome(Welcome {
        session: value("sessionId", &told.session_id)?,
        scopes: told.scopes,
        server_time: told.server_time.as_deref().and_then(|time| time.parse().ok()),
        heartbeat_interval: told.heartbeat_interval_ms,
        epoch: optional("epoch", &told.epoch)?,
        resumed: told.resumed,
        reason: told.reason,
        possibly_lost: told.gap.is_some(),
        window: told.limits.map(window),
        feed: told.feed.map(|feed| feed.point()),
    }))
}

pub(super) fn auth_refused(text: &str) -> Read {
    #[derive(Deserialize)]
    struct AuthError {
        code: String,
        #[serde(default)]
        message: String,
    }
    let AuthError { code, message } = parse_payload(text.as_bytes())?;
    Ok(Told::AuthRefused(AuthRefused { code, message }))
}

pub(super) fn heartbeat_ack(text: &str) -> Read {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Acked<'a> {
        #[serde(borrow)]
        server_time: Option<Cow<'a, str>>,
        #[serde(borrow)]
        heads: Option<BTreeMap<Cow<'a, str>, u64>>,
        #[serde(borrow)]
        feed: Option<FeedAt<'a>>,
    }
    let told: Acked<'_> = parse_payload(text.as_bytes())?;
    Ok(Told::HeartbeatAck(HeartbeatAck {
        server_time: told.server_time.as_deref().and_then(|time| time.parse().ok()),
        heads: told.heads.as_ref().map(lanes),
        feed: told.feed.map(|feed| feed.point()),
    }))
}

pub(super) fn replay_complete(text: &str) -> Read {
    #[derive(Deserialize)]
    struct Complete<'a> {
        #[serde(borrow, default)]
        heads: BTreeMap<Cow<'a, str>, u64>,
    }
    let told: Complete<'_> = parse_payload(text.as_bytes())?;
    Ok(Told::ReplayComplete { heads: lanes(&told.heads) })
}

pub(super) fn subscribed(text: &str) -> Read {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct InForce {
        event_types: Vec<String>,
        #[serde(default)]
        excluded: Vec<String>,
    }
    let InForce { event_types, excluded } = parse_payload(text.as_bytes())?;
    Ok(Told::Subscribed(Subscribed { event_types, excluded }))
}

pub(super) fn refused(text: &str) -> Read {
    #[derive(Default, Deserialize)]
    struct Details {
        field: Option<String>,
        error: Option<String>,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        details: Details,
    }
    let Error { code, message, details } = parse_payload(text.as_bytes())?;
    Ok(Told::Error(Refused { code, message, field: details.field, reason: details.error }))
}

pub(super) fn rate_limit(text: &str) -> Read {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RateLimit {
        action: String,
        retry_after: u64,
    }
    let RateLimit { action, retry_after } = parse_payload(text.as_bytes())?;
    Ok(Told::RateLimit { action, retry_after })
}

pub(super) fn ack_result(text: &str) -> Read {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct One<'a> {
        #[serde(borrow)]
        event_id: Cow<'a, str>,
        #[serde(borrow)]
        status: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct Results<'a> {
        #[serde(borrow)]
        results: Vec<One<'a>>,
    }
    let told: Results<'_> = parse_payload(text.as_bytes())?;
    let one = |one: &One<'_>| Ok((message_id("results", &one.event_id)?, one.status == "ACKED"));
    Ok(Told::AckResult(AckResult { results: told.results.iter().map(one).collect::<Result<_, Refusal>>()? }))
}

pub(super) fn send_ack(text: &str) -> Read {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Accepted<'a> {
        #[serde(borrow)]
        message_id: Cow<'a, str>,
        status: String,
        #[serde(default)]
        sequence: u64,
    }
    let told: Accepted<'_> = parse_payload(text.as_bytes())?;
    let id = message_id("messageId", &told.message_id)?;
    Ok(Told::SendAck(SendAck { id, status: told.status, sequence: told.sequence }))
}

pub(super) fn auth_refreshed(text: &str) -> Read {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Renewed<'a> {
        #[serde(borrow)]
        expires_at: Option<Cow<'a, str>>,
    }
    let told: Renewed<'_> = parse_payload(text.as_bytes())?;
    Ok(Told::AuthRefreshed(AuthRefreshed { expires: told.expires_at.as_deref().and_then(|time| time.parse().ok()) }))
}

pub(super) fn reconnect(text: &str) -> Read {
    #[derive(Deserialize)]
    struct Reconnect {
        #[serde(default)]
        reason: String,
        #[serde(default)]
        delay: u64,
    }
    let Reconnect { reason, delay } = parse_payload(text.as_bytes())?;
    Ok(Told::Reconnect { reason, delay })
}
