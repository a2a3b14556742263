//! What daemons and people send by REST.

use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use waystation_domain::policy::RestCall;
use waystation_domain::{ChannelId, Lane, MessageId, Timestamp, check_object};
use waystation_wire::{Addressee, ErrorCode, EventFrame, Outgoing, SendRefused, SharedEvent, json};

use super::Door;
use super::bearer::Caller;
use super::body::{Answer, Refusal, flat_error, invalid, list_of, read, refused};

/// Messages of one list: at most, and unless the caller says otherwise.
const MOST: u32 = 256;
const USUAL: u32 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    channel_id: Option<String>,
    orchestrator_id: Option<String>,
    /// Text for people; becomes the data of a `message.received`.
    content: Option<String>,
    /// In place of it: data as they are, with their type.
    data: Option<Box<RawValue>>,
    event_type: Option<String>,
    thread_id: Option<String>,
    attachments: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
    /// Makes a repeat harmless.
    message_id: Option<String>,
    priority: Option<String>,
}

/// POST /api/daemon/messages
pub(super) async fn send(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::SendMessage)?;
    let message: Message = read(&door, body).await?;
    let to = match (&message.orchestrator_id, &message.channel_id) {
        (Some(id), None) => {
            Addressee::Orchestrator(id.parse().map_err(|error| invalid(&format!("orchestratorId {error}")))?)
        }
        (None, Some(id)) => Addressee::Channel(id.parse().map_err(|error| invalid(&format!("channelId {error}")))?),
        _ => return Err(invalid("one of orchestratorId and channelId must be given")),
    };
    let id = match message.message_id.as_deref() {
        Some(id) => MessageId::from_caller(id).map_err(|error| invalid(&format!("messageId {error}")))?,
        None => MessageId::minted(door.parts.context.entropy.large_number()),
    };
    let lane = match message.priority.as_deref() {
        None => Lane::Normal,
        Some(name) => Lane::from_name(name).ok_or_else(|| invalid("priority is not a priority"))?,
    };
    let data = match (&message.content, &message.data) {
        (Some(text), None) => {
            content(&message, text, &id, caller.author(), &door.parts.context.clock.now().to_string())?
        }
        (None, Some(data)) => Bytes::copy_from_slice(data.get().as_bytes()),
        _ => return Err(invalid("one of content and data must be given")),
    };
    check_object(&data).map_err(|error| invalid(&format!("data {error}")))?;
    let event_type = message.event_type.as_deref().map(str::parse).transpose();
    let event_type = event_type.map_err(|error| invalid(&format!("eventType {error}")))?;
    let outgoing = Outgoing { to, event_type, data, lane, id: Some(id.clone()), time_to_live: None };
    match door.parts.upstream.send(&caller.token, id, outgoing).await {
        Ok(sent) => {
            let answer =
                serde_json::json!({"messageId": sent.id.as_str(), "status": sent.status, "sequence": sent.sequence});
            Ok(Json(answer).into_response())
        }
        Err(problem) => Err(refusal(&problem)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    channel_id: String,
    limit: Option<u32>,
}

/// GET /api/daemon/messages
pub(super) async fn list(door: Door, uri: Uri, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::ListMessages)?;
    let Query(Listed { channel_id, limit }) =
        Query::<Listed>::try_from_uri(&uri).map_err(|error| invalid(&error.to_string()))?;
    let channel: ChannelId = channel_id.parse().map_err(|error| invalid(&format!("channelId {error}")))?;
    let limit = limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(invalid(&format!("limit must be a number from 1 to {MOST}")));
    }
    let found = door.parts.upstream.channel_messages(&caller.token, &channel, limit).await;
    let (entries, events) = found.map_err(|status| refused(&status, "UNAUTHORIZED"))?;
    let entries = entries.into_iter().map(|entry| {
        let created = entry.accepted;
        (created, Bytes::from(json::encode_entry_item(&EventFrame { entry, redelivered: false })))
    });
    let events = events.into_iter().map(|event| (event.time, SharedEvent::new(event).item().clone()));
    let mut messages: Vec<(Timestamp, Bytes)> = entries.chain(events).collect();
    messages.sort_by_key(|(created, _)| *created);
    let beyond = messages.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(list_of("messages", messages[beyond..].iter().map(|(_, item)| item), ""))
}

/// `data` of the message, as message.received has it.
fn content(message: &Message, text: &str, id: &MessageId, author: &str, now: &str) -> Result<Bytes, Refusal> {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| drop(data.insert(name.to_owned(), value));
    put("messageId", id.as_str().into());
    put("content", text.into());
    put("authorId", author.into());
    put("authorName", author.into());
    put("timestamp", now.into());
    for (name, text) in [("channelId", &message.channel_id), ("threadId", &message.thread_id)] {
        if let Some(text) = text {
            put(name, text.as_str().into());
        }
    }
    for (name, raw) in [("attachments", &message.attachments), ("metadata", &message.metadata)] {
        if let Some(raw) = raw {
            put(name, serde_json::from_str(raw.get()).map_err(|error| invalid(&format!("{name}: {error}")))?);
        }
    }
    Ok(Value::Object(data).to_string().into())
}

/// A refusal of the daemon protocol in the words of REST. The field is a member of the frame; here that has no envelope.
pub(super) fn refusal(refused: &SendRefused) -> Refusal {
    let field = refused.field.as_deref().unwrap_or_default();
    let field = ["payload.to.", "payload."].iter().find_map(|prefix| field.strip_prefix(prefix)).unwrap_or(field);
    let message = if field.is_empty() { refused.message.clone() } else { format!("{field}: {}", refused.message) };
    if let Some((after, _)) = refused.limited {
        let limited = flat_error(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", &message);
        return Refusal::from(limited).later(after);
    }
    let (status, code) = match refused.code {
        ErrorCode::InvalidMessage if refused.reason == Some("NOT_FOUND") => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        ErrorCode::InvalidMessage if refused.reason == Some("MESSAGE_ID_REUSED") => {
            (StatusCode::CONFLICT, "MESSAGE_ID_REUSED")
        }
        ErrorCode::InvalidMessage => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
        ErrorCode::NotAuthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
        ErrorCode::InsufficientScope => (StatusCode::FORBIDDEN, "INSUFFICIENT_SCOPE"),
        ErrorCode::RateLimited => (StatusCode::TOO_MANY_REQUESTS, refused.reason.unwrap_or("RATE_LIMITED")),
        ErrorCode::InternalError => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
    };
    flat_error(status, code, &message).into()
}
