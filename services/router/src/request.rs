//! Requests of backends, read and judged.

use std::time::Duration;

use bytes::Bytes;
use tonic::metadata::MetadataMap;
use waystation_domain::{EventType, MessageId, TraceParent, check_object};
use waystation_proto::common::v1::{Durability as WireDurability, ErrorReason};
use waystation_proto::router::v1::{IfOffline as WireIfOffline, RouteMessageRequest, WaitFor};
use waystation_rpc::convert::{lane_from, parse, parse_optional};
use waystation_rpc::{Caller, Fault};
use waystation_store::Durability;
use waystation_store::credential::OrganizationSettings;
use waystation_store::mailbox::{AppendMessage, IfOffline, MailboxKey};

/// What a message is if its caller does not say.
pub(crate) const DEFAULT_EVENT_TYPE: &str = "message.received";

/// Whose mailbox a request names.
pub(crate) fn mailbox(caller: &Caller, organization: &str, orchestrator: &str) -> Result<MailboxKey, Fault> {
    Ok(MailboxKey {
        organization: caller.organization(organization)?,
        orchestrator: parse("orchestrator_id", orchestrator)?,
    })
}

/// A message to append, and whether the caller waits for its ack.
pub(crate) fn message(
    mailbox: MailboxKey,
    request: RouteMessageRequest,
    settings: &OrganizationSettings,
    durability: Durability,
) -> Result<(AppendMessage, bool), Fault> {
    let id = match request.message_id.as_str() {
        "" => None,
        id => Some(MessageId::from_caller(id).map_err(|error| Fault::field("message_id", error))?),
    };
    let event_type: EventType = match request.event_type.as_str() {
        "" => parse("event_type", DEFAULT_EVENT_TYPE)?,
        text => parse("event_type", text)?,
    };
    check_durability(request.minimum_durability, durability)?;
    let if_offline = match WireIfOffline::try_from(request.if_offline) {
        Ok(WireIfOffline::Unspecified | WireIfOffline::Queue) => IfOffline::Queue,
        Ok(WireIfOffline::Fail) => IfOffline::Fail,
        Err(_) => return Err(Fault::field("if_offline", "is not known")),
    };
    let wait = match WaitFor::try_from(request.wait_for) {
        Ok(WaitFor::Unspecified | WaitFor::Stored) => false,
        Ok(WaitFor::Acknowledged) => true,
        Err(_) => return Err(Fault::field("wait_for", "is not known")),
    };
    let message = AppendMessage {
        mailbox,
        id,
        event_type,
        channel: parse_optional("channel_id", &request.channel_id)?,
        trace: trace(&request.traceparent)?,
        sender: None,
        lane: lane_from("priority", request.priority)?,
        time_to_live: time_to_live(request.time_to_live, settings)?,
        if_offline,
        limits: settings.mailbox,
        data: data(&request.data)?,
    };
    Ok((message, wait))
}

/// The trace that a request names.
fn trace(text: &str) -> Result<Option<TraceParent>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| Fault::field("traceparent", error))
}

/// The trace of the call itself. A malformed one is ignored, as the standard wants it.
pub(crate) fn trace_of(metadata: &MetadataMap) -> Option<TraceParent> {
    metadata.get("traceparent")?.to_str().ok()?.parse().ok()
}

/// A copy of its own: the request's bytes are a slice of the connection's buffer, which would live as long.
pub(crate) fn data(bytes: &Bytes) -> Result<Bytes, Fault> {
    if bytes.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    check_object(bytes).map_err(|error| Fault::field("data", error))?;
    Ok(Bytes::copy_from_slice(bytes))
}

fn time_to_live(duration: Option<prost_types::Duration>, settings: &OrganizationSettings) -> Result<Duration, Fault> {
    let longest = settings.longest_time_to_live;
    let Some(duration) = duration else { return Ok(settings.time_to_live.min(longest)) };
    match Duration::try_from(duration) {
        Ok(duration) if duration.is_zero() => Err(Fault::field("time_to_live", "must be positive")),
        Ok(duration) if duration > longest => {
            Err(Fault::field("time_to_live", format!("must be at most {} s", longest.as_secs())))
        }
        Ok(duration) => Ok(duration),
        Err(_) => Err(Fault::field("time_to_live", "must be positive")),
    }
}

fn check_durability(minimum: i32, given: Durability) -> Result<(), Fault> {
    let minimum = WireDurability::try_from(minimum).map_err(|_| Fault::field("minimum_durability", "is not known"))?;
    if minimum > durability(given) {
        let message = format!("this store gives {}", durability(given).as_str_name());
        return Err(Fault::new(ErrorReason::DurabilityUnavailable, message));
    }
    Ok(())
}

/// What a store promises, as callers are told.
pub(crate) fn durability(given: Durability) -> WireDurability {
    match given {
        Durability::Process => WireDurability::Process,
        Durability::PageCache => WireDurability::PageCache,
        Durability::Fsync => WireDurability::Fsync,
        Durability::Replicated => WireDurability::Replicated,
    }
}
