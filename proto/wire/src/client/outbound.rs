//! Frames of a client, written.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use waystation_domain::{
    ChannelId, DaemonId, FeedPoint, InstanceId, MessageId, OrchestratorId, PerLane, ReportedStatus, ResumePoint,
    Timestamp,
};

use crate::frame::Addressee;

/// What a client says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Outbound<'a> {
    /// Logs in, and announces what it understands.
    Auth {
        /// A JWT.
        access_token: &'a str,
        /// The process.
        daemon_id: &'a DaemonId,
        /// Whom it serves.
        orchestrator_id: &'a OrchestratorId,
        /// What it is.
        client: Announced<'a>,
        /// How many messages it takes unacknowledged.
        max_in_flight: u32,
        /// How many bytes of them.
        max_in_flight_bytes: u64,
        /// Replaces the daemon's subscriptions.
        #[serde(skip_serializing_if = "Option::is_none")]
        subscriptions: Option<Vec<&'a str>>,
        /// Where it stopped.
        resume: Remembered,
    },
    /// Is alive.
    Heartbeat {
        /// What it does.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<ReportedStatus>,
        /// A JSON object.
        #[serde(skip_serializing_if = "Option::is_none")]
        metrics: Option<&'a RawValue>,
    },
    /// Wants events.
    Subscribe {
        /// Which.
        event_types: Vec<&'a str>,
        /// Of which channels; none: of all.
        #[serde(skip_serializing_if = "<[ChannelId]>::is_empty")]
        channel_ids: &'a [ChannelId],
    },
    /// Does not want them any more.
    Unsubscribe {
        /// Which.
        event_types: Vec<&'a str>,
    },
    /// Has processed events.
    Ack {
        /// At most 4,096.
        event_ids: &'a [MessageId],
        /// An `ack_result` is wanted.
        confirm: bool,
    },
    /// Could not process one now.
    Nack {
        /// Which.
        event_id: &'a MessageId,
        /// Until it comes again.
        delay_ms: u64,
        /// For people; at most 256 bytes.
        reason: &'a str,
    },
    /// Can never process one.
    Reject {
        /// Which.
        event_id: &'a MessageId,
        /// Kept with the dead letter; 1 to 256 bytes.
        reason: &'a str,
    },
    /// Is still working on one.
    Extend {
        /// Which.
        event_id: &'a MessageId,
    },
    /// Sends a message.
    Send {
        /// The addressee.
        #[serde(serialize_with = "addressee")]
        to: &'a Addressee,
        /// `None`: `message.received`.
        #[serde(skip_serializing_if = "Option::is_none")]
        event_type: Option<&'a str>,
        /// A JSON object.
        data: &'a RawValue,
        /// Name of its lane.
        priority: &'a str,
        /// Makes a repeat harmless.
        message_id: &'a MessageId,
        /// How long it may wait.
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
    },
    /// Has a new token for the same login.
    AuthRefresh {
        /// A JWT.
        access_token: &'a str,
    },
    /// Leaves for good.
    Goodbye {
        /// For people; at most 256 bytes.
        reason: &'a str,
    },
}

/// What a client says of itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Announced<'a> {
    /// Of the software.
    pub name: &'a str,
    /// Of the software.
    pub version: &'a str,
    /// This running client.
    pub instance: &'a InstanceId,
}

/// Where a client stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Remembered {
    /// Of the mailbox; told if it has an epoch.
    pub mailbox: Option<ResumePoint>,
    /// Of the feed.
    pub feed: Option<FeedPoint>,
}

/// Writes a frame as JSON text. `id` comes back as `replyTo` of its answer.
pub fn encode(frame: &Outbound<'_>, id: &str, now: Timestamp) -> String {
    enveloped(id, now, |out| serde_json::to_writer(out, frame))
}

/// Writes a call about tasks.
pub fn encode_call(kind: &str, payload: &RawValue, id: &str, now: Timestamp) -> String {
    #[derive(Serialize)]
    struct Call<'a> {
        r#type: &'a str,
        payload: &'a RawValue,
    }
    enveloped(id, now, |out| serde_json::to_writer(out, &Call { r#type: kind, payload }))
}

/// Puts id and time into the object that `write` writes.
fn enveloped(id: &str, now: Timestamp, write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) -> String {
    let mut out = format!(r#"{{"id":"{id}","timestamp":"{now}""#).into_bytes();
    let brace = out.len();
    write(&mut out).unwrap_or_else(|error| unreachable!("frames are JSON: {error}"));
    out[brace] = b',';
    String::from_utf8(out).unwrap_or_else(|error| unreachable!("JSON is text: {error}"))
}

fn addressee<S: Serializer>(to: &&Addressee, out: S) -> Result<S::Ok, S::Error> {
    let mut map = out.serialize_map(Some(1))?;
    match to {
        Addressee::Orchestrator(id) => map.serialize_entry("orchestratorId", id.as_str())?,
        Addressee::Channel(id) => map.serialize_entry("channelId", id.as_str())?,
    }
    map.end()
}

struct Positions<'a>(&'a PerLane<u64>);

impl Serialize for Positions<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let seen = self.0.iter().filter(|(_, sequence)| **sequence > 0);
        out.collect_map(seen.map(|(lane, sequence)| (lane.name(), sequence)))
    }
}

impl Serialize for Remembered {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Mailbox<'a> {
            epoch: String,
            positions: Positions<'a>,
        }
        #[derive(Serialize)]
        struct Feed {
            // A text that is no epoch stands for none.
            epoch: String,
            position: u64,
        }
        let mut map = out.serialize_map(None)?;
        if let Some(ResumePoint { epoch: Some(epoch), positions }) = &self.mailbox {
            let mailbox = Mailbox { epoch: epoch.to_string(), positions: Positions(positions) };
            map.serialize_entry("mailbox", &mailbox)?;
        }
        if let Some(FeedPoint { epoch, sequence }) = self.feed {
            let epoch = epoch.map_or_else(String::new, |epoch| epoch.to_string());
            map.serialize_entry("feed", &Feed { epoch, position: sequence })?;
        }
        map.end()
    }
}
