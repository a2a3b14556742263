//! Frames of clients.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use waystation_domain::check_document;

use crate::frame::{ClientFrame, FrameError, Received};
use crate::payload::{
    AckPayload, AuthPayload, AuthRefreshPayload, ExtendPayload, GoodbyePayload, HeartbeatPayload, NackPayload, Refusal,
    RejectPayload, SendPayload, SubscribePayload, UnsubscribePayload, in_payload, parse, task,
};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// Reads a frame.
///
/// # Errors
/// If it is no JSON object of the protocol. The error names the field.
pub fn decode(text: &str) -> Result<Received, FrameError> {
    let refuse = |message: String, field: Option<String>| FrameError { reply_to: None, message, field };
    check_document(text.as_bytes()).map_err(|error| refuse(error.to_string(), None))?;
    let envelope: Envelope<'_> = parse(text.as_bytes()).map_err(|(message, field)| refuse(message, field))?;
    let payload = envelope.payload.map_or("{}", RawValue::get);
    match frame(&envelope.kind, payload) {
        Ok(frame) => Ok(Received { id: envelope.id, frame }),
        Err((message, field)) => Err(FrameError { reply_to: envelope.id, message, field }),
    }
}

fn frame(kind: &str, payload: &str) -> Result<ClientFrame, Refusal> {
    match kind {
        "auth" => in_payload::<AuthPayload>(payload),
        "heartbeat" => in_payload::<HeartbeatPayload>(payload),
        "subscribe" => in_payload::<SubscribePayload>(payload),
        "unsubscribe" => in_payload::<UnsubscribePayload>(payload),
        "ack" => in_payload::<AckPayload>(payload),
        "nack" => in_payload::<NackPayload>(payload),
        "reject" => in_payload::<RejectPayload>(payload),
        "extend" => in_payload::<ExtendPayload>(payload),
        "send" => in_payload::<SendPayload>(payload),
        "auth_refresh" => in_payload::<AuthRefreshPayload>(payload),
        "goodbye" => in_payload::<GoodbyePayload>(payload),
        name => task(name, Bytes::copy_from_slice(payload.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use waystation_domain::{Lane, Window};

    use super::*;

    fn refused(text: &str) -> (String, Option<String>) {
        let error = decode(text).unwrap_err();
        (error.message, error.field)
    }

    #[test]
    fn an_auth_frame_of_the_older_platform_is_read() {
        let text = r#"{"type":"auth","id":"f1","timestamp":"2026-01-01T00:00:00Z","payload":
            {"accessToken":"t","daemonId":"d","orchestratorId":"o","later":1}}"#;
        let Received { id, frame: ClientFrame::Auth(auth) } = decode(text).unwrap() else { panic!("auth") };
        assert_eq!(id.as_deref(), Some("f1"));
        assert_eq!((auth.daemon.as_str(), auth.window, auth.knows_gaps), ("d", Window::default(), false));
    }

    #[test]
    fn what_a_client_announces_is_read() {
        let text = r#"{"type":"auth","payload":{"accessToken":"t","daemonId":"d","orchestratorId":"o",
            "maxInFlight":5000,"maxInFlightBytes":1,"client":{"name":"x","version":"1","instance":"i1"},
            "subscriptions":["a.*"],"resume":{"mailbox":{"epoch":"00000000000000ff","positions":{"normal":7}}}}}"#;
        let ClientFrame::Auth(auth) = decode(text).unwrap().frame else { panic!("auth") };
        assert_eq!(auth.window, Window { entries: 1_000, bytes: 64 << 10 }, "within the limits");
        assert_eq!(auth.resume.unwrap().positions[Lane::Normal], 7);
        assert!(auth.announces_client && auth.knows_gaps && auth.instance.is_some() && auth.subscriptions.is_some());
    }

    #[test]
    fn refusals_name_the_field() {
        let field = |text: &str| refused(text).1.unwrap_or_default();
        assert_eq!(field(r#"{"id":"1"}"#), "type");
        assert_eq!(field(r#"{"type":7}"#), "type");
        assert_eq!(field(r#"{"type":"made_up"}"#), "type");
        assert_eq!(field(r#"{"type":"ack","id":7}"#), "id");
        assert_eq!(field(r#"{"type":"ack"}"#), "payload.eventIds");
        assert_eq!(field(r#"{"type":"ack","payload":[]}"#), "payload");
        assert_eq!(field(r#"{"type":"ack","payload":{"eventIds":["ok","a/b"]}}"#), "payload.eventIds[1]");
        assert_eq!(field(r#"{"type":"ack","payload":{"eventIds":["ok",7]}}"#), "payload.eventIds[1]");
        assert_eq!(field(r#"{"type":"auth","payload":{"accessToken":"t","daemonId":"d"}}"#), "payload.orchestratorId");
        let slash = r#"{"type":"auth","payload":{"accessToken":"t","daemonId":"a/b","orchestratorId":"o"}}"#;
        assert_eq!(field(slash), "payload.daemonId");
        assert_eq!(field(r#"{"type":"heartbeat","payload":{"status":"sleepy"}}"#), "payload.status");
        let metrics = r#"{"type":"heartbeat","payload":{"metrics":{"errors":"many"}}}"#;
        assert_eq!(field(metrics), "payload.metrics.errors");
        assert_eq!(field(r#"{"type":"subscribe","payload":{"eventTypes":["a.*","*b"]}}"#), "payload.eventTypes[1]");
        assert_eq!(field(r#"{"type":"subscribe","payload":{"eventTypes":[]}}"#), "payload.eventTypes");
        assert_eq!(field(r#"{"type":"heartbeat","payload":{"metrics":[1]}}"#), "payload.metrics");
        let large = format!(r#"{{"type":"heartbeat","payload":{{"metrics":{{"a":"{}"}}}}}}"#, "x".repeat(8 * 1024));
        assert_eq!(field(&large), "payload.metrics");
        assert_eq!(field(r#"{"type":"ack","payload":{"upTo":{"urgent":1}}}"#), "payload.upTo.urgent");
        assert_eq!(field(r#"{"type":"ack","payload":{"upTo":{"normal":-1}}}"#), "payload.upTo.normal");
        assert_eq!(field(r#"{"type":"nack","payload":{"delayMs":1}}"#), "payload.eventId");
        assert_eq!(field(r#"{"type":"nack","payload":{"eventId":"a b"}}"#), "payload.eventId");
        for absurd in ["3600001", "18446744073709551615", "18446744073709551616", "-1", "1.5", "\"1\""] {
            let nack = format!(r#"{{"type":"nack","payload":{{"eventId":"a","delayMs":{absurd}}}}}"#);
            assert_eq!(field(&nack), "payload.delayMs", "{absurd}");
        }
        assert_eq!(field(r#"{"type":"reject","payload":{"eventId":"a"}}"#), "payload.reason");
        assert_eq!(field(r#"{"type":"reject","payload":{"eventId":"a","reason":""}}"#), "payload.reason");
        let long = format!(r#"{{"type":"reject","payload":{{"eventId":"a","reason":"{}"}}}}"#, "x".repeat(257));
        assert_eq!(field(&long), "payload.reason");
        assert_eq!(field(r#"{"type":"extend","payload":{}}"#), "payload.eventId");
        assert_eq!(field(r#"{"type":"auth_refresh"}"#), "payload.accessToken");
        let send = |rest: &str| field(&format!(r#"{{"type":"send","payload":{rest}}}"#));
        assert_eq!(send("{}"), "payload.to");
        assert_eq!(send(r#"{"to":{},"data":{}}"#), "payload.to");
        assert_eq!(send(r#"{"to":{"orchestratorId":"a","channelId":"b"},"data":{}}"#), "payload.to");
        assert_eq!(send(r#"{"to":{"channelId":"b c"},"data":{}}"#), "payload.to.channelId");
        assert_eq!(send(r#"{"to":{"orchestratorId":"a/b"},"data":{}}"#), "payload.to.orchestratorId");
        assert_eq!(send(r#"{"to":{"orchestratorId":"a"}}"#), "payload.data");
        assert_eq!(send(r#"{"to":{"orchestratorId":"a"},"data":[]}"#), "payload.data");
        assert_eq!(send(r#"{"to":{"orchestratorId":"a"},"data":{},"priority":"soon"}"#), "payload.priority");
        assert_eq!(send(r#"{"to":{"orchestratorId":"a"},"data":{},"messageId":"gap.1"}"#), "payload.messageId");
        assert_eq!(send(r#"{"to":{"orchestratorId":"a"},"data":{},"eventType":"A"}"#), "payload.eventType");
        assert_eq!(send(r#"{"to":{"orchestratorId":"a"},"data":{},"ttlMs":0}"#), "payload.ttlMs");
    }

    #[test]
    fn malformed_documents_are_refused() {
        let deep = format!(r#"{{"type":"ack","payload":{}1{}}}"#, "[".repeat(40), "]".repeat(40));
        for bad in ["", "[]", "null", "{", r#"{"type":"ack","type":"ack"}"#, r#"{"type":"\ud800"}"#, &deep] {
            assert!(decode(bad).is_err(), "{bad}");
        }
        assert_eq!(decode(r#"{"type":"x","id":"f7"}"#).unwrap_err().reply_to.as_deref(), Some("f7"));
    }
}
