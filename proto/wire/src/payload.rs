//! Payloads of client frames: as any format carries them, and how they become frames. Fields are named as in JSON.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use waystation_domain::{
    FeedPoint, InstanceId, Lane, MessageId, Pattern, PerLane, ReportedStatus, ResumePoint, Window, check_object,
};

use crate::cursor::Cursor;
use crate::frame::{Ack, Addressee, AuthRequest, ClientFrame, Heartbeat, Outgoing, TaskCall};

/// Most ids in one ack; a client's window is smaller.
const MAX_ACK_IDS: usize = 4_096;
/// Longest delay of a nack, in milliseconds.
const MAX_NACK_DELAY: u64 = 3_600_000;
/// Longest reason of a rejection, in bytes.
const MAX_REASON: usize = 256;
/// Largest metrics of a heartbeat, in bytes; they are kept with the session.
const MAX_METRICS: usize = 8 * 1024;

/// What is wrong, and where.
pub(crate) type Refusal = (String, Option<String>);

/// Becomes a frame, if it says what a frame can say.
pub(crate) trait Payload {
    fn read(self) -> Result<ClientFrame, Refusal>;
}

fn refusal(field: &str, problem: impl Display) -> Refusal {
    (problem.to_string(), Some(field.to_owned()))
}

/// Enough of a client's text to recognize it.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Reads JSON; the error names the field.
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(text);
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

/// Reads the payload of a frame.
pub(crate) fn in_payload<T: DeserializeOwned + Payload>(payload: &str) -> Result<ClientFrame, Refusal> {
    parse_payload::<T>(payload.as_bytes())?.read()
}

/// Reads JSON that is a payload; the error names the field within the frame.
pub(crate) fn parse_payload<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Refusal> {
    parse(payload).map_err(|(message, field)| {
        let field = field.map_or_else(|| "payload".to_owned(), |field| format!("payload.{field}"));
        (message, Some(field))
    })
}

/// A call about tasks, whose payload is read by whoever makes it.
pub(crate) fn task(name: &str, payload: Bytes) -> Result<ClientFrame, Refusal> {
    let unknown = || (format!("unknown frame type {:?}", shortened(name)), Some("type".to_owned()));
    let kind = TaskCall::kind_of(name).ok_or_else(unknown)?;
    check_object(&payload).map_err(|error| refusal("payload", error))?;
    Ok(ClientFrame::Task(Box::new(TaskCall { kind, payload })))
}

/// Reads the payload of a call about tasks.
///
/// # Errors
/// What is wrong, and the field.
pub fn read_task<T: DeserializeOwned>(call: &TaskCall) -> Result<T, (String, Option<String>)> {
    parse_payload(&call.payload)
}

fn value<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error| refusal(field, error))
}

fn each<T: FromStr<Err: Display>>(field: &str, texts: &[String]) -> Result<Vec<T>, Refusal> {
    texts.iter().enumerate().map(|(index, text)| value(&format!("{field}[{index}]"), text)).collect()
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, Refusal> {
    let field = "payload.eventTypes";
    if texts.is_empty() {
        return Err(refusal(field, "must not be empty"));
    }
    each(field, texts)
}

fn event_id(text: &str) -> Result<MessageId, Refusal> {
    MessageId::naming(text).map_err(|error| refusal("payload.eventId", error))
}

fn by_lane(field: &str, numbers: BTreeMap<String, u64>) -> Result<PerLane<u64>, Refusal> {
    let mut lanes = PerLane::default();
    for (name, number) in numbers {
        let lane = Lane::from_name(&name);
        let lane = lane.ok_or_else(|| refusal(&format!("{field}.{}", shortened(&name)), "is not a lane"))?;
        lanes[lane] = number;
    }
    Ok(lanes)
}

/// The bytes of a member as they stand in the frame.
fn raw<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Bytes>, D::Error> {
    let value = Option::<Box<RawValue>>::deserialize(reader)?;
    Ok(value.map(|value| Bytes::from(String::from(Box::<str>::from(value)))))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthPayload {
    pub(crate) access_token: String,
    pub(crate) daemon_id: String,
    pub(crate) orchestrator_id: String,
    pub(crate) resume: Option<Resume>,
    pub(crate) max_in_flight: Option<u32>,
    pub(crate) max_in_flight_bytes: Option<u64>,
    pub(crate) subscriptions: Option<Vec<String>>,
    pub(crate) client: Option<Client>,
}

#[derive(Deserialize)]
pub(crate) struct Resume {
    pub(crate) mailbox: Option<ResumeMailbox>,
    pub(crate) feed: Option<ResumeFeed>,
    /// Both of them in one word, as other ways of receiving tell it.
    pub(crate) cursor: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct ResumeFeed {
    pub(crate) epoch: String,
    pub(crate) position: u64,
}

#[derive(Deserialize)]
pub(crate) struct ResumeMailbox {
    pub(crate) epoch: String,
    pub(crate) positions: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
pub(crate) struct Client {
    pub(crate) instance: Option<String>,
}

impl Payload for AuthPayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        let default = Window::default();
        let knows_gaps = self.resume.is_some() || self.client.is_some() || self.max_in_flight.is_some();
        let (resume, resume_feed) = self.resume.map(remembered).transpose()?.unwrap_or_default();
        let instance = self.client.as_ref().and_then(|client| client.instance.as_deref());
        let instance: Option<InstanceId> = instance.map(|text| value("payload.client.instance", text)).transpose()?;
        let subscriptions = self.subscriptions.map(|texts| each("payload.subscriptions", &texts)).transpose()?;
        Ok(ClientFrame::Auth(Box::new(AuthRequest {
            access_token: self.access_token,
            daemon: value("payload.daemonId", &self.daemon_id)?,
            orchestrator: value("payload.orchestratorId", &self.orchestrator_id)?,
            resume,
            resume_feed,
            window: Window::within_limits(
                self.max_in_flight.unwrap_or(default.entries),
                self.max_in_flight_bytes.unwrap_or(default.bytes),
            ),
            subscriptions,
            instance,
            announces_client: self.client.is_some(),
            knows_gaps,
        })))
    }
}

/// What a client remembers of its mailbox and of the feed.
fn remembered(resume: Resume) -> Result<(Option<ResumePoint>, Option<FeedPoint>), Refusal> {
    let Resume { mailbox, feed, cursor } = resume;
    let cursor: Cursor = cursor.map(|text| value("payload.resume.cursor", &text)).transpose()?.unwrap_or_default();
    let mailbox = mailbox.map(resume_point).transpose()?;
    let feed = feed.map(|feed| FeedPoint { epoch: feed.epoch.parse().ok(), sequence: feed.position });
    Ok((mailbox.or(cursor.mailbox), feed.or(cursor.feed)))
}

fn resume_point(resume: ResumeMailbox) -> Result<ResumePoint, Refusal> {
    let positions = by_lane("payload.resume.mailbox.positions", resume.positions)?;
    Ok(ResumePoint { epoch: resume.epoch.parse().ok(), positions })
}

#[derive(Deserialize)]
pub(crate) struct HeartbeatPayload {
    pub(crate) status: Option<ReportedStatus>,
    #[serde(default, deserialize_with = "raw")]
    pub(crate) metrics: Option<Bytes>,
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

impl Payload for HeartbeatPayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        if let Some(metrics) = &self.metrics {
            let field = "payload.metrics";
            check_object(metrics).map_err(|error| refusal(field, error))?;
            if metrics.len() > MAX_METRICS {
                return Err(refusal(field, format!("must have at most {MAX_METRICS} bytes")));
            }
            parse::<Metrics>(metrics).map_err(|(message, member)| {
                let member = member.map_or_else(String::new, |member| format!(".{member}"));
                refusal(&format!("{field}{member}"), message)
            })?;
        }
        Ok(ClientFrame::Heartbeat(Heartbeat { status: self.status, metrics: self.metrics }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscribePayload {
    pub(crate) event_types: Vec<String>,
    pub(crate) channel_ids: Option<Vec<String>>,
}

impl Payload for SubscribePayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        let patterns = patterns(&self.event_types)?;
        let channels = each("payload.channelIds", &self.channel_ids.unwrap_or_default())?;
        Ok(ClientFrame::Subscribe { patterns, channels: channels.into_iter().collect() })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnsubscribePayload {
    pub(crate) event_types: Vec<String>,
}

impl Payload for UnsubscribePayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        Ok(ClientFrame::Unsubscribe { patterns: patterns(&self.event_types)? })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AckPayload {
    pub(crate) event_ids: Option<Vec<String>>,
    pub(crate) up_to: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    pub(crate) confirm: bool,
}

impl Payload for AckPayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        let field = "payload.eventIds";
        if self.event_ids.is_none() && self.up_to.is_none() {
            return Err(refusal(field, "missing field `eventIds` or `upTo`"));
        }
        let ids = self.event_ids.unwrap_or_default();
        if ids.len() > MAX_ACK_IDS {
            return Err(refusal(field, format!("must have at most {MAX_ACK_IDS} elements")));
        }
        let ids = ids
            .iter()
            .enumerate()
            .map(|(index, text)| MessageId::naming(text).map_err(|error| refusal(&format!("{field}[{index}]"), error)));
        let ids = ids.collect::<Result<_, _>>()?;
        let up_to = by_lane("payload.upTo", self.up_to.unwrap_or_default())?;
        Ok(ClientFrame::Ack(Ack { ids, up_to, confirm: self.confirm }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NackPayload {
    pub(crate) event_id: String,
    #[serde(default)]
    pub(crate) delay_ms: u64,
    pub(crate) reason: Option<String>,
}

impl Payload for NackPayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        if self.delay_ms > MAX_NACK_DELAY {
            return Err(refusal("payload.delayMs", format!("must be at most {MAX_NACK_DELAY}")));
        }
        check_reason(self.reason.as_deref().unwrap_or_default())?;
        Ok(ClientFrame::Nack { id: event_id(&self.event_id)?, delay: Duration::from_millis(self.delay_ms) })
    }
}

fn check_reason(reason: &str) -> Result<(), Refusal> {
    if reason.len() > MAX_REASON {
        return Err(refusal("payload.reason", format!("must have at most {MAX_REASON} bytes")));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RejectPayload {
    pub(crate) event_id: String,
    pub(crate) reason: String,
}

impl Payload for RejectPayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        if self.reason.is_empty() {
            return Err(refusal("payload.reason", "must not be empty"));
        }
        check_reason(&self.reason)?;
        Ok(ClientFrame::Reject { id: event_id(&self.event_id)?, reason: self.reason })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExtendPayload {
    pub(crate) event_id: String,
}

impl Payload for ExtendPayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        Ok(ClientFrame::Extend { id: event_id(&self.event_id)? })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendPayload {
    pub(crate) to: To,
    pub(crate) event_type: Option<String>,
    #[serde(default, deserialize_with = "raw")]
    pub(crate) data: Option<Bytes>,
    pub(crate) priority: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) ttl_ms: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct To {
    pub(crate) orchestrator_id: Option<String>,
    pub(crate) channel_id: Option<String>,
}

impl Payload for SendPayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        let to = match (&self.to.orchestrator_id, &self.to.channel_id) {
            (Some(orchestrator), None) => Addressee::Orchestrator(value("payload.to.orchestratorId", orchestrator)?),
            (None, Some(channel)) => Addressee::Channel(value("payload.to.channelId", channel)?),
            _ => return Err(refusal("payload.to", "must name one addressee")),
        };
        let data = self.data.ok_or_else(|| refusal("payload.data", "missing field `data`"))?;
        check_object(&data).map_err(|error| refusal("payload.data", error))?;
        let lane = match self.priority.as_deref() {
            None => Lane::Normal,
            Some(name) => Lane::from_name(name).ok_or_else(|| refusal("payload.priority", "is not a priority"))?,
        };
        let id = self.message_id.as_deref().map(MessageId::from_caller).transpose();
        if self.ttl_ms == Some(0) {
            return Err(refusal("payload.ttlMs", "must be positive"));
        }
        Ok(ClientFrame::Send(Box::new(Outgoing {
            to,
            event_type: self.event_type.as_deref().map(|text| value("payload.eventType", text)).transpose()?,
            data,
            lane,
            id: id.map_err(|error| refusal("payload.messageId", error))?,
            time_to_live: self.ttl_ms.map(Duration::from_millis),
        })))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthRefreshPayload {
    pub(crate) access_token: String,
}

impl Payload for AuthRefreshPayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        Ok(ClientFrame::AuthRefresh { access_token: self.access_token })
    }
}

#[derive(Deserialize)]
pub(crate) struct GoodbyePayload {
    pub(crate) reason: Option<String>,
}

impl Payload for GoodbyePayload {
    fn read(self) -> Result<ClientFrame, Refusal> {
        check_reason(self.reason.as_deref().unwrap_or_default())?;
        Ok(ClientFrame::Goodbye)
    }
}
