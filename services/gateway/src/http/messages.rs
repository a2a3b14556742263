//! What daemons send by REST.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use waystation_domain::policy::RestCall;
use waystation_domain::{Lane, MessageId, check_object};
use waystation_wire::{Addressee, ErrorCode, Outgoing, SendRefused};

use super::Door;
use super::bearer::Caller;
use super::body::{Answer, Refusal, flat_error, invalid, read};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    channel_id: Option<String>,
    orchestrator_id: Option<String>,
    content: String,
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
    let daemon = caller.daemon()?;
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
    let data = content(&message, &id, daemon.orchestrator.as_str(), &door.parts.context.clock.now().to_string())?;
    let outgoing = Outgoing { to, event_type: None, data, lane, id: Some(id.clone()), time_to_live: None };
    match door.parts.upstream.send(&caller.token, id, outgoing).await {
        Ok(sent) => {
            let answer = json!({"messageId": sent.id.as_str(), "status": sent.status, "sequence": sent.sequence});
            Ok(Json(answer).into_response())
        }
        Err(refused) => Err(refusal(&refused)),
    }
}

/// `data` of the message, as message.received has it.
fn content(message: &Message, id: &MessageId, author: &str, now: &str) -> Result<Bytes, Refusal> {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| drop(data.insert(name.to_owned(), value));
    put("messageId", id.as_str().into());
    put("content", message.content.as_str().into());
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
    let data = Bytes::from(Value::Object(data).to_string());
    check_object(&data).map_err(|error| invalid(&format!("content {error}")))?;
    Ok(data)
}

/// A refusal of the daemon protocol in the words of REST. The field is a member of the frame; here it stands alone.
fn refusal(refused: &SendRefused) -> Refusal {
    let field = refused.field.map_or("", |field| field.rsplit('.').next().unwrap_or(field));
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
