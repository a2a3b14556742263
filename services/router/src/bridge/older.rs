//! Events as publishers of the older platform write them (daemon protocol, section 5).

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use waystation_domain::Lane;
use waystation_proto::common::v1::Priority;
use waystation_proto::router::v1::{EventDelivery, PublishEventRequest};
use waystation_rpc::Fault;
use waystation_rpc::convert::lane_to;

/// Channels that carry events: this one, and one for each organization.
pub(super) const CHANNEL: &str = "daemon:events";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default, deserialize_with = "or_empty")]
    orchestrator_id: String,
    /// Empty: every daemon.
    #[serde(default, deserialize_with = "or_empty")]
    daemon_id: String,
    payload: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "or_empty")]
    workspace_id: String,
    #[serde(default, deserialize_with = "or_empty")]
    channel_id: String,
    #[serde(default)]
    requires_ack: Option<bool>,
    /// A name; some wrote numbers, whose meaning nobody knows.
    #[serde(default)]
    priority: Option<serde_json::Value>,
}

/// Absent, null and empty are the same.
fn or_empty<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(from).map(Option::unwrap_or_default)
}

/// What an event of a channel asks for. Its organization is in the name of the channel or, if it has none, the workspace.
pub(super) fn read(channel: &str, text: &[u8]) -> Result<PublishEventRequest, Fault> {
    let event: Event = serde_json::from_slice(text).map_err(|error| Fault::field("event", error))?;
    let of_channel = channel.strip_prefix(CHANNEL).and_then(|rest| rest.strip_prefix(':')).unwrap_or_default();
    let organization_id = if of_channel.is_empty() { event.workspace_id } else { of_channel.to_owned() };
    if organization_id.is_empty() {
        return Err(Fault::field("workspaceId", "must not be empty on a channel of no organization"));
    }
    if event.id.is_empty() {
        return Err(Fault::field("id", "must not be empty: more than one router hears the event"));
    }
    let ids = |id: String| if id.is_empty() { Vec::new() } else { vec![id] };
    // Only a mailbox can wait for an ack, and a mailbox is an orchestrator's, whatever daemon is meant.
    let is_mail = event.requires_ack == Some(true) && !event.orchestrator_id.is_empty();
    let priority = event.priority.as_ref().and_then(serde_json::Value::as_str).and_then(Lane::from_name);
    Ok(PublishEventRequest {
        organization_id,
        event_id: event.id,
        event_type: event.event_type,
        channel_id: event.channel_id,
        data: event
            .payload
            .map_or(Bytes::from_static(b"{}"), |payload| Bytes::copy_from_slice(payload.get().as_bytes())),
        orchestrator_ids: ids(event.orchestrator_id),
        daemon_ids: if is_mail { Vec::new() } else { ids(event.daemon_id) },
        delivery: if is_mail { EventDelivery::Mailbox } else { EventDelivery::Live }.into(),
        priority: priority.map_or(Priority::Unspecified, lane_to).into(),
        traceparent: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(change: &Value) -> Vec<u8> {
        let mut event = json!({
            "id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "type": "message.received", "orchestratorId": "orla",
            "daemonId": "", "payload": {"n": 1}, "timestamp": "2026-01-01T00:00:00Z",
        });
        event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        event.to_string().into_bytes()
    }

    #[test]
    fn an_event_goes_to_live_sessions_unless_it_waits_for_an_ack() {
        let live = read("daemon:events:acme", &event(&json!({"daemonId": "d1", "channelId": null}))).unwrap();
        assert_eq!((live.organization_id.as_str(), live.event_type.as_str()), ("acme", "message.received"));
        assert_eq!((live.orchestrator_ids, live.daemon_ids), (vec!["orla".to_owned()], vec!["d1".to_owned()]));
        assert_eq!((live.delivery, live.data), (EventDelivery::Live.into(), Bytes::from_static(br#"{"n":1}"#)));
        let acked = json!({"requiresAck": true, "daemonId": "d1", "priority": "high", "workspaceId": "globex"});
        let mail = read("daemon:events", &event(&acked)).unwrap();
        assert_eq!((mail.organization_id.as_str(), mail.delivery), ("globex", EventDelivery::Mailbox.into()));
        assert_eq!((mail.daemon_ids, mail.priority), (vec![], Priority::High.into()));
        let all =
            read("daemon:events:acme", &event(&json!({"orchestratorId": "", "requiresAck": true, "priority": 5})));
        let all = all.unwrap();
        assert_eq!((all.orchestrator_ids, all.delivery, all.priority), (vec![], EventDelivery::Live.into(), 0));
    }

    #[test]
    fn what_cannot_be_an_event_is_refused_by_name() {
        let field =
            |channel: &str, text: &[u8]| tonic::Status::from(read(channel, text).unwrap_err()).message().to_owned();
        assert!(field("daemon:events", &event(&json!({}))).starts_with("workspaceId"));
        assert!(field("daemon:events:acme", &event(&json!({"id": ""}))).starts_with("id"));
        assert!(field("daemon:events:acme", b"no json").starts_with("event"));
        assert!(field("daemon:events:acme", &event(&json!({"type": 7}))).starts_with("event"));
    }
}
