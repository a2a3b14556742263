//! Frames for clients.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use waystation_domain::{
    FeedEvent, FeedGap, FeedPoint, FeedPosition, Gap, GapRange, MessageId, Pattern, PerLane, Timestamp,
};

use crate::frame::{AckStatus, EventFrame, ServerFrame};
use crate::stamp::FrameStamp;
use crate::words;

/// Writes a frame as JSON text behind what `out` holds.
pub fn encode(frame: &ServerFrame, stamp: FrameStamp, out: &mut Vec<u8>) {
    let mut out = Text(out);
    match frame {
        ServerFrame::Event(event) => encode_event(event, stamp, &mut out),
        ServerFrame::FeedEvent(event) => out.0.extend_from_slice(event.json(|| stamp.now)),
        ServerFrame::Gap { gap, as_event } => encode_gap(gap, *as_event, stamp, &mut out),
        ServerFrame::FeedGap { gap, as_event } => encode_feed_gap(gap, *as_event, stamp, &mut out),
        ServerFrame::AuthSuccess { .. }
        | ServerFrame::AuthError { .. }
        | ServerFrame::HeartbeatAck { .. }
        | ServerFrame::ReplayComplete { .. }
        | ServerFrame::Subscribed { .. }
        | ServerFrame::Error { .. }
        | ServerFrame::RateLimit { .. }
        | ServerFrame::AckResult { .. }
        | ServerFrame::SendAck { .. }
        | ServerFrame::TaskAnswer { .. }
        | ServerFrame::AuthRefreshed { .. }
        | ServerFrame::Reconnect { .. } => {
            let (kind, payload) = payload(frame, stamp.now);
            enveloped(kind, frame.reply_to(), &payload, stamp, &mut out);
        }
    }
}

/// Type and payload of a frame that is neither message, event nor gap; `None` for those.
pub fn encode_payload(frame: &ServerFrame, now: Timestamp) -> Option<(&'static str, String)> {
    let is_item = matches!(
        frame,
        ServerFrame::Event(_) | ServerFrame::FeedEvent(_) | ServerFrame::Gap { .. } | ServerFrame::FeedGap { .. }
    );
    (!is_item).then(|| {
        let (kind, payload) = payload(frame, now);
        (kind, payload.to_string())
    })
}

/// Text on its way.
struct Text<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Text<'_> {
    fn push(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        let written = self.write_fmt(text);
        debug_assert!(written.is_ok(), "vectors take everything");
    }

    fn begin(&mut self, kind: &str, capacity: usize, stamp: FrameStamp) {
        self.0.reserve(capacity);
        self.push(r#"{"type":""#);
        self.push(kind);
        self.push(r#"","id":""#);
        stamp.write_id(self);
        self.put(format_args!(r#"","timestamp":"{}""#, stamp.now));
    }
}

fn enveloped(kind: &str, reply_to: Option<&str>, payload: &Value, stamp: FrameStamp, out: &mut Text<'_>) {
    out.begin(kind, 512, stamp);
    if let Some(id) = reply_to {
        out.put(format_args!(r#","replyTo":{}"#, Value::from(id)));
    }
    out.put(format_args!(r#","payload":{payload}}}"#));
}

/// The one frame that is sent by the million: written by hand, its data as the backend sent it.
/// Ids, types and lanes hold nothing that JSON would escape.
fn encode_event(EventFrame { entry, redelivered }: &EventFrame, stamp: FrameStamp, out: &mut Text<'_>) {
    out.begin("event", 512 + entry.data.len(), stamp);
    // The store took it as JSON, so it is UTF-8; what is not would be shown as such.
    let data = String::from_utf8_lossy(&entry.data);
    out.put(format_args!(r#","payload":{{"eventId":"{}","eventType":"{}","data":"#, entry.id, entry.event_type));
    out.push(if data.is_empty() { "{}" } else { &data });
    out.push(r#","requiresAck":true"#);
    if let Some(channel) = &entry.channel {
        out.put(format_args!(r#","channelId":"{channel}""#));
    }
    if let Some(sender) = &entry.sender {
        out.put(format_args!(r#","senderOrchestratorId":"{sender}""#));
    }
    if let Some(trace) = &entry.trace {
        out.put(format_args!(r#","traceparent":"{trace}""#));
    }
    let position = entry.position;
    out.put(format_args!(
        r#","log":"mailbox","sequence":{},"epoch":"{}","lane":"{}","attempt":{},"redelivered":{redelivered},"sentAt":"{}"}}}}"#,
        position.sequence,
        position.epoch,
        position.lane.name(),
        entry.attempt,
        stamp.now,
    ));
}

/// An event of a feed: the same text for everybody who gets it.
pub(crate) fn encode_feed_event(event: &FeedEvent, now: Timestamp) -> Bytes {
    let mut text = Vec::with_capacity(512 + event.data.len());
    let mut out = Text(&mut text);
    let FeedEvent { id, event_type, position, .. } = event;
    out.put(format_args!(r#"{{"type":"event","id":"{id}","timestamp":"{now}","payload":"#));
    out.put(format_args!(r#"{{"eventId":"{id}","eventType":"{event_type}","data":"#));
    out.push(&String::from_utf8_lossy(&event.data));
    out.push(r#","requiresAck":false"#);
    if let Some(channel) = &event.channel {
        out.put(format_args!(r#","channelId":"{channel}""#));
    }
    if let Some(sender) = &event.sender {
        out.put(format_args!(r#","senderOrchestratorId":"{sender}""#));
    }
    if let Some(trace) = &event.trace {
        out.put(format_args!(r#","traceparent":"{trace}""#));
    }
    let FeedPosition { epoch, sequence } = position;
    out.put(format_args!(r#","log":"feed","sequence":{sequence},"epoch":"{epoch}","sentAt":"{now}"}}}}"#));
    text.into()
}

pub(super) fn feed_gap_fields(gap: &FeedGap) -> Value {
    let mut data = json!({"log": "feed", "reason": words::feed_loss(gap.loss), "count": gap.count()});
    if let Some(epoch) = gap.epoch {
        data["epoch"] = epoch.to_string().into();
    }
    if gap.from > 0 {
        (data["from"], data["to"]) = (gap.from.into(), gap.to.into());
    }
    data
}

fn encode_feed_gap(gap: &FeedGap, as_event: bool, stamp: FrameStamp, out: &mut Text<'_>) {
    let data = feed_gap_fields(gap);
    if !as_event {
        return enveloped("gap", None, &data, stamp, out);
    }
    let event = json!({
        "eventId": format!("feed.gap.{}", gap.to),
        "eventType": "system.gap",
        "data": data,
        "requiresAck": false,
        "log": "feed",
    });
    enveloped("event", None, &event, stamp, out);
}

fn encode_gap(gap: &Gap, as_event: bool, stamp: FrameStamp, out: &mut Text<'_>) {
    let data = gap_fields(gap);
    if !as_event {
        return enveloped("gap", None, &data, stamp, out);
    }
    let event = json!({
        "eventId": MessageId::of_gap(gap.position).as_str(),
        "eventType": "system.gap",
        "data": data,
        "requiresAck": true,
        "log": "mailbox",
    });
    enveloped("event", None, &event, stamp, out);
}

pub(super) fn gap_fields(gap: &Gap) -> Value {
    let mut fields = Map::new();
    fields.insert("eventId".into(), MessageId::of_gap(gap.position).as_str().into());
    fields.insert("log".into(), "mailbox".into());
    if let Some(GapRange { lane, from, to, epoch, .. }) = gap.left {
        fields.insert("epoch".into(), epoch.to_string().into());
        fields.insert("lane".into(), lane.name().into());
        fields.insert("from".into(), from.into());
        fields.insert("to".into(), to.into());
    }
    let reason = words::left(gap.left.map(|left| left.reason));
    fields.insert("reason".into(), reason.into());
    fields.insert("count".into(), gap.count.into());
    Value::Object(fields)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lanes(numbers: &PerLane<u64>) -> Value {
    numbers.iter().map(|(lane, number)| (lane.name().to_owned(), Value::from(*number))).collect()
}

fn feed_point(point: &FeedPoint) -> Value {
    json!({"epoch": point.epoch.map(|epoch| epoch.to_string()), "position": point.sequence})
}

fn names(patterns: &[Pattern]) -> Vec<&str> {
    patterns.iter().map(Pattern::as_str).collect()
}

/// Type and payload of every frame that answers or informs.
fn payload(frame: &ServerFrame, now: Timestamp) -> (&'static str, Value) {
    match frame {
        ServerFrame::AuthSuccess {
            session, scopes, heartbeat_interval, epoch, verdict, window, lost, feed, ..
        } => {
            let mut payload = json!({
                "sessionId": session.as_str(),
                "scopes": scopes,
                "serverTime": now.to_string(),
                "heartbeatIntervalMs": millis(*heartbeat_interval),
                "resumed": words::resumed(*verdict),
                "limits": {"maxInFlight": window.entries, "maxInFlightBytes": window.bytes},
            });
            let mut add = |name: &str, value: Value| payload[name] = value;
            if let Some(epoch) = epoch {
                add("epoch", epoch.to_string().into());
            }
            if let Some(doubt) = words::doubt(*verdict) {
                add("reason", doubt.into());
            }
            if let Some(lost) = lost {
                let epoch = lost.epoch.map(|epoch| epoch.to_string());
                add("gap", json!({"reason": "possibly_lost", "epoch": epoch, "positions": lanes(&lost.seen)}));
            }
            if let Some(feed) = feed {
                payload["feed"] = feed_point(feed);
            }
            ("auth_success", payload)
        }
        ServerFrame::AuthError { rejection, message, .. } => {
            ("auth_error", json!({"code": rejection.name(), "message": message}))
        }
        ServerFrame::HeartbeatAck { next, heads, feed, .. } => {
            let mut payload = json!({"serverTime": now.to_string(), "nextHeartbeat": now.after(*next).to_string()});
            if let Some(heads) = heads {
                payload["heads"] = lanes(heads);
                payload["asOf"] = now.to_string().into();
            }
            if let Some(feed) = feed {
                payload["feed"] = feed_point(feed);
            }
            ("heartbeat_ack", payload)
        }
        ServerFrame::ReplayComplete { epoch, heads } => {
            ("replay_complete", json!({"log": "mailbox", "epoch": epoch.to_string(), "heads": lanes(heads)}))
        }
        ServerFrame::Subscribed { patterns, excluded, channels, .. } => {
            let channels: Vec<&str> = channels.iter().map(|channel| channel.as_str()).collect();
            let payload = json!({"eventTypes": names(patterns), "excluded": names(excluded), "channelIds": channels});
            ("subscribed", payload)
        }
        ServerFrame::Error { code, message, field, reason, .. } => {
            let mut payload = json!({"code": code.name(), "message": message});
            let error = reason.map_or_else(|| Value::from(message.as_str()), Value::from);
            match field {
                Some(field) => payload["details"] = json!({"field": field, "error": error}),
                None if reason.is_some() => payload["details"] = json!({"error": error}),
                None => {}
            }
            ("error", payload)
        }
        ServerFrame::AckResult { results, .. } => {
            let one = |(id, status): &(MessageId, AckStatus)| json!({"eventId": id.as_str(), "status": status.name()});
            ("ack_result", json!({"results": results.iter().map(one).collect::<Vec<_>>()}))
        }
        ServerFrame::SendAck { sent, .. } => {
            let payload = json!({"messageId": sent.id.as_str(), "status": sent.status, "sequence": sent.sequence});
            ("send_ack", payload)
        }
        ServerFrame::TaskAnswer { kind, payload, .. } => (*kind, payload.clone()),
        ServerFrame::AuthRefreshed { scopes, expires, .. } => {
            ("auth_refreshed", json!({"scopes": scopes, "expiresAt": expires.to_string()}))
        }
        ServerFrame::RateLimit { action, retry_after, current, most, .. } => {
            let seconds = words::whole_seconds(*retry_after);
            let payload = json!({"action": action, "retryAfter": seconds, "currentRate": current, "maxRate": most});
            ("rate_limit", payload)
        }
        ServerFrame::Reconnect { reason, delay } => ("reconnect", json!({"reason": reason, "delay": millis(*delay)})),
        ServerFrame::Event(_) | ServerFrame::FeedEvent(_) | ServerFrame::FeedGap { .. } | ServerFrame::Gap { .. } => {
            unreachable!("encoded by functions of their own")
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waystation_domain::ExitReason;
    use waystation_domain::{Entry, Epoch, Lane, Position};

    use super::*;
    use crate::frame::ErrorCode;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn stamp() -> FrameStamp {
        FrameStamp { connection: 0x0123_4567_89ab_cdef, number: 5, now: Timestamp::from_millis(42) }
    }

    fn text(frame: &ServerFrame, stamp: FrameStamp) -> String {
        let mut out = Vec::new();
        encode(frame, stamp, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_carries_the_bytes_of_the_backend() {
        let position = Position { epoch: Epoch::from_raw(1), lane: Lane::High, sequence: 9 };
        let entry = Entry {
            position,
            id: MessageId::composed(position),
            event_type: "message.received".parse().unwrap(),
            channel: Some("c1".parse().unwrap()),
            data: Bytes::from_static(br#"{ "odd" : 1.50 }"#),
            attempt: 2,
            trace: Some(TRACE.parse().unwrap()),
            sender: Some("otto".parse().unwrap()),
            accepted: Timestamp::default(),
        };
        let text = text(&ServerFrame::Event(EventFrame { entry, redelivered: true }), stamp());
        assert!(text.contains(r#""data":{ "odd" : 1.50 },"#));
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["id"], "01234567-89ab-8cde-8000-000000000005");
        let payload = &frame["payload"];
        assert_eq!(payload["eventId"], "0000000000000001.h.9");
        assert_eq!(payload["lane"], "high");
        assert_eq!(payload["sequence"], 9);
        assert_eq!(payload["attempt"], 2);
        assert_eq!(payload["redelivered"], true);
        assert_eq!(payload["channelId"], "c1");
        assert_eq!(payload["traceparent"], TRACE);
        assert_eq!(payload["senderOrchestratorId"], "otto");
        assert_eq!(payload["sentAt"], "1970-01-01T00:00:00.042Z");
    }

    #[test]
    fn replies_name_the_frame_they_answer() {
        let frame = ServerFrame::Error {
            reply_to: Some("a\"b".into()),
            code: ErrorCode::InvalidMessage,
            message: "no".into(),
            field: Some("payload.x".into()),
            reason: None,
        };
        let frame: Value = serde_json::from_str(&text(&frame, stamp())).unwrap();
        assert_eq!(frame["replyTo"], "a\"b");
        assert_eq!(frame["payload"]["details"]["field"], "payload.x");
    }

    #[test]
    fn plain_clients_get_gaps_as_events() {
        let left = GapRange { reason: ExitReason::Expired, lane: Lane::Low, from: 3, to: 5, epoch: Epoch::from_raw(1) };
        let gap = Gap { position: 7, left: Some(left), count: 3 };
        let read =
            |as_event| -> Value { serde_json::from_str(&text(&ServerFrame::Gap { gap, as_event }, stamp())).unwrap() };
        assert_eq!(read(false)["type"], "gap");
        assert_eq!(read(false)["payload"]["eventId"], "gap.7");
        assert_eq!(read(true)["payload"]["eventType"], "system.gap");
        assert_eq!(read(true)["payload"]["data"]["from"], 3);
        let trimmed = Gap { left: None, ..gap };
        let frame: Value =
            serde_json::from_str(&text(&ServerFrame::Gap { gap: trimmed, as_event: false }, stamp())).unwrap();
        assert_eq!(frame["payload"]["reason"], "trimmed");
    }
}
