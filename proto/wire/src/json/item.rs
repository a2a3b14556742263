//! Messages and events as REST and SSE show them.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::json;
use waystation_domain::{ChannelId, EventType, FeedEvent, FeedGap, Gap, MessageId, OrchestratorId, Timestamp};

use super::encode::{feed_gap_fields, gap_fields};
use crate::frame::EventFrame;

/// What is the same for a message and an event.
struct Item<'a> {
    id: &'a MessageId,
    event_type: &'a EventType,
    created: Timestamp,
    channel: Option<&'a ChannelId>,
    sender: Option<&'a OrchestratorId>,
    data: &'a [u8],
}

impl Item<'_> {
    /// The object without its end. Ids and types hold nothing that JSON would escape.
    fn begin(&self) -> String {
        let Item { id, event_type, created, channel, sender, data } = self;
        let mut text = String::with_capacity(256 + data.len());
        let payload = String::from_utf8_lossy(data);
        let payload = if payload.is_empty() { "{}" } else { &payload };
        let written =
            write!(text, r#"{{"id":"{id}","type":"{event_type}","payload":{payload},"createdAt":"{created}""#);
        debug_assert!(written.is_ok(), "text takes everything");
        if let Some(channel) = channel {
            text.push_str(&format!(r#","channelId":"{channel}""#));
        }
        if let Some(sender) = sender {
            text.push_str(&format!(r#","senderOrchestratorId":"{sender}""#));
        }
        if event_type.as_str().starts_with("message.") {
            text.push_str(&format!(r#","messageId":"{id}""#));
        }
        text
    }
}

/// A message of the mailbox as an item of a list.
pub fn encode_entry_item(EventFrame { entry, redelivered }: &EventFrame) -> String {
    let item = Item {
        id: &entry.id,
        event_type: &entry.event_type,
        created: entry.accepted,
        channel: entry.channel.as_ref(),
        sender: entry.sender.as_ref(),
        data: &entry.data,
    };
    let mut text = item.begin();
    let position = entry.position;
    text.push_str(&format!(
        r#","requiresAck":true,"log":"mailbox","sequence":{},"epoch":"{}","lane":"{}","attempt":{},"redelivered":{redelivered}}}"#,
        position.sequence,
        position.epoch,
        position.lane.name(),
        entry.attempt,
    ));
    text
}

/// An event of the feed as an item of a list.
pub(crate) fn encode_feed_item(event: &FeedEvent) -> Bytes {
    let item = Item {
        id: &event.id,
        event_type: &event.event_type,
        created: event.time,
        channel: event.channel.as_ref(),
        sender: event.sender.as_ref(),
        data: &event.data,
    };
    let position = event.position;
    let mut text = item.begin();
    text.push_str(&format!(
        r#","requiresAck":false,"log":"feed","sequence":{},"epoch":"{}"}}"#,
        position.sequence, position.epoch
    ));
    text.into()
}

/// A gap of the mailbox as an item of a list.
pub fn encode_gap_item(gap: &Gap, now: Timestamp) -> String {
    let id = MessageId::of_gap(gap.position);
    json!({
        "id": id.as_str(), "type": "system.gap", "payload": gap_fields(gap), "createdAt": now.to_string(),
        "requiresAck": true, "log": "mailbox",
    })
    .to_string()
}

/// A gap of the feed as an item of a list.
pub fn encode_feed_gap_item(gap: &FeedGap, now: Timestamp) -> String {
    json!({
        "id": format!("feed.gap.{}", gap.to), "type": "system.gap", "payload": feed_gap_fields(gap),
        "createdAt": now.to_string(), "requiresAck": false, "log": "feed",
    })
    .to_string()
}
