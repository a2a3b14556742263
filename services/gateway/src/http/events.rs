//! Messages and events without a WebSocket: by polls, or as a stream of server-sent events.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use waystation_domain::policy::RestCall;
use waystation_domain::{FeedPoint, MessageId, Pattern, Scope, Subscriptions, Timestamp};
use waystation_wire::{AuthRejection, Cursor};

use super::Door;
use super::bearer::Caller;
use super::body::{Answer, Refusal, flat_error, invalid, list_of, read, refused};
use crate::connection::{Poll, Polled, Rest, Visitor, open_poll, open_stream, visit_once, visit_stream};
use crate::upstream::OpenFailed;

/// Items of one answer: at most, and unless the client says otherwise.
const MOST: usize = 256;
const USUAL: usize = 100;
/// Longest wait of a poll, in seconds.
const LONGEST_WAIT: u64 = 60;
/// Ids in one acknowledgement.
const MOST_IDS: usize = 1_000;
/// Whoever may receive something.
const RECEIVING: [Scope; 4] = [Scope::MessagesRead, Scope::EventsRead, Scope::ChannelsRead, Scope::PresenceRead];

#[derive(Default, Deserialize)]
struct Asked {
    since: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
    wait: Option<String>,
    types: Option<String>,
}

/// What a request asks for.
struct Wanted {
    since: Option<Timestamp>,
    cursor: Option<Cursor>,
    most: usize,
    wait: Duration,
    /// As it was written, and what it means.
    types: Option<(String, Subscriptions)>,
}

fn number(name: &str, text: Option<&str>, usual: u64, from: u64, to: u64) -> Result<u64, Refusal> {
    let Some(text) = text else { return Ok(usual) };
    let number = text.parse().ok().filter(|number| (from..=to).contains(number));
    number.ok_or_else(|| invalid(&format!("{name} must be a number from {from} to {to}")))
}

impl Wanted {
    fn read(uri: &Uri, headers: &HeaderMap) -> Result<Wanted, Refusal> {
        let Query(asked) = Query::<Asked>::try_from_uri(uri).map_err(|error| invalid(&error.to_string()))?;
        let since = asked
            .since
            .as_deref()
            .map(|text| text.parse::<Timestamp>().map_err(|_| invalid("since must be a time in ISO 8601")));
        // Whoever reconnects by itself repeats the query it began with: what it got last counts.
        let last = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
        let (name, cursor) = match last.filter(|text| !text.is_empty()) {
            Some(last) => ("Last-Event-ID", Some(last)),
            None => ("cursor", asked.cursor.as_deref().filter(|text| !text.is_empty())),
        };
        let cursor = cursor.map(|text| text.parse::<Cursor>().map_err(|error| invalid(&format!("{name} {error}"))));
        let limit = number("limit", asked.limit.as_deref(), USUAL as u64, 1, MOST as u64)?;
        let wait = number("wait", asked.wait.as_deref(), 0, 0, LONGEST_WAIT)?;
        Ok(Wanted {
            since: since.transpose()?,
            cursor: cursor.transpose()?,
            most: usize::try_from(limit).unwrap_or(MOST),
            wait: Duration::from_secs(wait),
            types: asked.types.map(types).transpose()?,
        })
    }
}

/// Patterns, separated by commas; none: no events of the feed.
fn types(text: String) -> Result<(String, Subscriptions), Refusal> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let patterns =
        names.map(|name| name.parse::<Pattern>().map_err(|error| invalid(&format!("types: {name:?} {error}"))));
    let patterns: Vec<Pattern> = patterns.collect::<Result<_, _>>()?;
    let wanted = Subscriptions::default().subscribe(&patterns, &Default::default());
    let wanted = wanted.map_err(|error| invalid(&format!("types: {error}")))?;
    Ok((text, wanted))
}

/// GET /api/daemon/events
pub(super) async fn receive(door: Door, uri: Uri, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::GetEvents)?;
    if !RECEIVING.iter().any(|scope| caller.claims.scopes.allows(*scope)) {
        let message = "the token allows to receive nothing";
        return Err(flat_error(StatusCode::FORBIDDEN, "INSUFFICIENT_SCOPE", message).into());
    }
    let wanted = Wanted::read(&uri, &headers)?;
    let begin = wanted.since.map(|_| FeedPoint { epoch: None, sequence: 0 });
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_stream = accepts.split(',').any(|kind| kind.trim().starts_with("text/event-stream"));
    // It has a bearer that holds.
    drop(door.take_place());
    if caller.claims.is_user() {
        return watch(&door, caller, wanted, begin, is_stream).await;
    }
    let rest = Rest {
        daemon: caller.daemon()?,
        address: door.client_address(&headers),
        // Whoever names a time and no cursor wants to see what was published since.
        cursor: wanted.cursor.unwrap_or(Cursor { mailbox: None, feed: begin }),
        only_here: wanted.types.as_ref().map(|(_, subscriptions)| subscriptions.clone()),
        claims: caller.claims,
        token: caller.token,
    };
    if is_stream {
        let body = open_stream(&door.parts, rest).await.map_err(not_opened)?;
        return Ok(event_stream(body));
    }
    poll(&door, rest, wanted).await
}

/// What people see: events of the feed, and no mailbox.
async fn watch(door: &Door, caller: Caller, wanted: Wanted, begin: Option<FeedPoint>, is_stream: bool) -> Answer {
    let Some((_, types)) = wanted.types else {
        return Err(invalid("types must be given: a person has no subscriptions"));
    };
    let from = wanted.cursor.and_then(|cursor| cursor.feed).or(begin);
    let visitor = Visitor { watcher: caller.watch(door)?, from, wanted: types };
    if is_stream {
        return Ok(event_stream(visit_stream(&door.parts, visitor)));
    }
    match visit_once(&door.parts, visitor, wanted.since, wanted.most, wanted.wait).await {
        Some(Polled::Items { items, cursor, has_more }) => Ok(items_of(&items, cursor, has_more)),
        Some(Polled::Ended(_) | Polled::Elsewhere) | None => {
            Err(Refusal::from(unavailable()).later(Duration::from_secs(1)))
        }
    }
}

fn event_stream(body: mpsc::Receiver<Bytes>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies that collect answers would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let body = ReceiverStream::new(body).map(Ok::<Bytes, std::convert::Infallible>);
    (headers, Body::from_stream(body)).into_response()
}

/// Asks the session that is kept or, if there is none that fits, a new one.
async fn poll(door: &Door, rest: Rest, wanted: Wanted) -> Answer {
    let types = wanted.types.as_ref().map(|(text, _)| text.clone());
    let ask = |polls: mpsc::Sender<Poll>| {
        let (answer, polled) = oneshot::channel();
        let poll = Poll {
            cursor: wanted.cursor,
            types: types.clone(),
            since: wanted.since,
            most: wanted.most,
            wait: wanted.wait,
            answer,
        };
        async move {
            polls.send(poll).await.ok()?;
            polled.await.ok()
        }
    };
    let kept = match door.parts.rest_sessions.polls(&rest) {
        Some(polls) => ask(polls).await,
        None => None,
    };
    let polled = match kept {
        Some(polled @ (Polled::Items { .. } | Polled::Ended(_))) => Some(polled),
        Some(Polled::Elsewhere) | None => {
            let polls = open_poll(&door.parts, rest, types.clone()).await.map_err(not_opened)?;
            ask(polls).await
        }
    };
    match polled {
        Some(Polled::Items { items, cursor, has_more }) => Ok(items_of(&items, cursor, has_more)),
        Some(Polled::Ended(code)) => {
            let message = format!("the session has ended: {}", code.name());
            Err(flat_error(StatusCode::CONFLICT, code.name(), &message).into())
        }
        Some(Polled::Elsewhere) | None => Err(Refusal::from(unavailable()).later(Duration::from_secs(1))),
    }
}

fn items_of(items: &[Bytes], cursor: Cursor, has_more: bool) -> Response {
    list_of("events", items, &format!(r#","cursor":"{cursor}","hasMore":{has_more}"#))
}

fn unavailable() -> Response {
    flat_error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the session cannot be served now")
}

fn not_opened(failed: OpenFailed) -> Refusal {
    let refuse = |status, code, message| Refusal::from(flat_error(status, code, message));
    match failed {
        OpenFailed::Rejected(AuthRejection::MaxConnections) => {
            let message = "too many daemons of this orchestrator are connected";
            refuse(StatusCode::TOO_MANY_REQUESTS, "MAX_CONNECTIONS", message).later(Duration::from_secs(60))
        }
        OpenFailed::Rejected(AuthRejection::TokenExpired) => {
            refuse(StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED", "the token has expired")
        }
        OpenFailed::Rejected(AuthRejection::AuthFailed | AuthRejection::InsufficientScope) => {
            refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "the login is not valid")
        }
        OpenFailed::DuplicateIdentity => refuse(
            StatusCode::CONFLICT,
            "DUPLICATE_IDENTITY",
            "two instances of this daemon keep displacing each other",
        ),
        OpenFailed::Superseded => refuse(StatusCode::CONFLICT, "SUPERSEDED", "a newer connection of this daemon lives"),
        OpenFailed::Unavailable | OpenFailed::Draining => Refusal::from(unavailable()).later(Duration::from_secs(1)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Processed {
    event_ids: Vec<String>,
}

/// DELETE /api/daemon/events
pub(super) async fn acknowledge(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::AckEvents)?;
    let daemon = caller.daemon()?;
    let Processed { event_ids } = read(&door, body).await?;
    if event_ids.len() > MOST_IDS {
        return Err(invalid(&format!("eventIds must have at most {MOST_IDS} elements")));
    }
    let mut ids = Vec::with_capacity(event_ids.len());
    for (index, text) in event_ids.iter().enumerate() {
        let id = MessageId::naming(text).map_err(|error| invalid(&format!("eventIds[{index}] {error}")))?;
        // An event of the feed is not acknowledged.
        if id.feed_position().is_none() {
            ids.push(id);
        }
    }
    let acknowledged = door.parts.upstream.acknowledge(&daemon, &ids).await;
    let acknowledged = acknowledged.map_err(|status| refused(&status, "UNAUTHORIZED"))?;
    door.parts.rest_sessions.release(&daemon, ids);
    Ok(Json(json!({"success": true, "acknowledged": acknowledged})).into_response())
}
