//! Frames of clients.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use waystation_domain::{
    InstanceId, Lane, MessageId, Pattern, PerLane, ReportedStatus, ResumePoint, Window, check_document,
};

use crate::frame::{AuthRequest, ClientFrame, FrameError, Heartbeat, Received};

/// Most ids in one ack; a client's window is smaller.
const MAX_ACK_IDS: usize = 4_096;

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
    let envelope: Envelope<'_> = parse(text).map_err(|(message, field)| refuse(message, field))?;
    let payload = envelope.payload.map_or("{}", RawValue::get);
    match frame(&envelope.kind, payload) {
        Ok(frame) => Ok(Received { id: envelope.id, frame }),
        Err((message, field)) => Err(FrameError { reply_to: envelope.id, message, field }),
    }
}

type Refusal = (String, Option<String>);

fn frame(kind: &str, payload: &str) -> Result<ClientFrame, Refusal> {
    match kind {
        "auth" => auth(in_payload(payload)?).map(|auth| ClientFrame::Auth(Box::new(auth))),
        "heartbeat" => heartbeat(in_payload(payload)?).map(ClientFrame::Heartbeat),
        "subscribe" => {
            let wanted: Subscribe = in_payload(payload)?;
            let patterns = patterns("payload.eventTypes", &wanted.event_types)?;
            let channels = each("payload.channelIds", &wanted.channel_ids.unwrap_or_default())?;
            Ok(ClientFrame::Subscribe { patterns, channels: channels.into_iter().collect() })
        }
        "unsubscribe" => {
            let unwanted: Unsubscribe = in_payload(payload)?;
            Ok(ClientFrame::Unsubscribe { patterns: patterns("payload.eventTypes", &unwanted.event_types)? })
        }
        "ack" => ack(in_payload(payload)?),
        unknown => Err((format!("unknown frame type {:?}", shortened(unknown)), Some("type".into()))),
    }
}

/// Enough of a client's text to recognize it.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        // A missing field is named by the message only: its path ends at the object.
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        let field = match (path.as_str(), missing) {
            (".", Some(missing)) => Some(missing.to_owned()),
            (path, Some(missing)) => Some(format!("{path}.{missing}")),
            (".", None) => None,
            (path, None) => Some(path.to_owned()),
        };
        (message, field)
    })
}

fn in_payload<T: DeserializeOwned>(payload: &str) -> Result<T, Refusal> {
    parse(payload).map_err(|(message, field)| {
        let field = field.map_or_else(|| "payload".to_owned(), |field| format!("payload.{field}"));
        (message, Some(field))
    })
}

fn value<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, Refusal>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| (error.to_string(), Some(field.to_owned())))
}

fn each<T: std::str::FromStr>(field: &str, texts: &[String]) -> Result<Vec<T>, Refusal>
where
    T::Err: std::fmt::Display,
{
    texts.iter().enumerate().map(|(index, text)| value(&format!("{field}[{index}]"), text)).collect()
}

fn patterns(field: &str, texts: &[String]) -> Result<Vec<Pattern>, Refusal> {
    if texts.is_empty() {
        return Err(("must not be empty".into(), Some(field.to_owned())));
    }
    each(field, texts)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Auth {
    access_token: String,
    daemon_id: String,
    orchestrator_id: String,
    resume: Option<Resume>,
    max_in_flight: Option<u32>,
    max_in_flight_bytes: Option<u64>,
    subscriptions: Option<Vec<String>>,
    client: Option<Client>,
}

#[derive(Deserialize)]
struct Resume {
    mailbox: Option<ResumeMailbox>,
}

#[derive(Deserialize)]
struct ResumeMailbox {
    epoch: String,
    positions: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Client {
    instance: Option<String>,
}

fn auth(auth: Auth) -> Result<AuthRequest, Refusal> {
    let default = Window::default();
    let knows_gaps = auth.resume.is_some() || auth.client.is_some() || auth.max_in_flight.is_some();
    let resume = auth.resume.and_then(|resume| resume.mailbox).map(resume_point).transpose()?;
    let instance = auth.client.as_ref().and_then(|client| client.instance.as_deref());
    let instance: Option<InstanceId> = instance.map(|text| value("payload.client.instance", text)).transpose()?;
    let subscriptions = auth.subscriptions.map(|texts| each("payload.subscriptions", &texts)).transpose()?;
    Ok(AuthRequest {
        access_token: auth.access_token,
        daemon: value("payload.daemonId", &auth.daemon_id)?,
        orchestrator: value("payload.orchestratorId", &auth.orchestrator_id)?,
        resume,
        window: Window::within_limits(
            auth.max_in_flight.unwrap_or(default.entries),
            auth.max_in_flight_bytes.unwrap_or(default.bytes),
        ),
        subscriptions,
        instance,
        announces_client: auth.client.is_some(),
        knows_gaps,
    })
}

fn resume_point(resume: ResumeMailbox) -> Result<ResumePoint, Refusal> {
    let mut positions = PerLane::default();
    for (name, position) in resume.positions {
        let field = || Some(format!("payload.resume.mailbox.positions.{}", shortened(&name)));
        let lane = Lane::from_name(&name).ok_or_else(|| ("is not a lane".to_owned(), field()))?;
        positions[lane] = position;
    }
    Ok(ResumePoint { epoch: resume.epoch.parse().ok(), positions })
}

#[derive(Deserialize)]
struct HeartbeatPayload {
    status: Option<ReportedStatus>,
    metrics: Option<Box<RawValue>>,
}

/// What old clients may report; other members are kept as they are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read only to judge the types")]
struct Metrics {
    memory_usage_bytes: Option<f64>,
    cpu_usage_percent: Option<f64>,
    uptime_seconds: Option<f64>,
    messages_sent: Option<f64>,
    messages_received: Option<f64>,
    errors: Option<f64>,
    queue_depth: Option<f64>,
}

fn heartbeat(HeartbeatPayload { status, metrics }: HeartbeatPayload) -> Result<Heartbeat, Refusal> {
    if let Some(metrics) = &metrics {
        parse::<Metrics>(metrics.get()).map_err(|(message, field)| {
            let field = field.map_or_else(String::new, |field| format!(".{field}"));
            (message, Some(format!("payload.metrics{field}")))
        })?;
    }
    Ok(Heartbeat { status, metrics: metrics.map(|metrics| Bytes::from(metrics.get().to_owned())) })
}

#[derive(Deserialize)]
struct Subscribe {
    #[serde(rename = "eventTypes")]
    event_types: Vec<String>,
    #[serde(rename = "channelIds")]
    channel_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Unsubscribe {
    #[serde(rename = "eventTypes")]
    event_types: Vec<String>,
}

#[derive(Deserialize)]
struct Ack {
    #[serde(rename = "eventIds")]
    event_ids: Vec<String>,
}

fn ack(ack: Ack) -> Result<ClientFrame, Refusal> {
    let field = "payload.eventIds";
    if ack.event_ids.len() > MAX_ACK_IDS {
        return Err((format!("must have at most {MAX_ACK_IDS} elements"), Some(field.into())));
    }
    let ids = ack.event_ids.iter().enumerate().map(|(index, text)| {
        MessageId::naming(text).map_err(|error| (error.to_string(), Some(format!("{field}[{index}]"))))
    });
    Ok(ClientFrame::Ack { ids: ids.collect::<Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
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
