//! Messages of daemons, in the words of routers and back.

use std::time::Duration;

use prost_types::Duration as WireDuration;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Code, Status};
use waystation_domain::MessageId;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1 as wire;
use waystation_proto::router::v1::MessageStatus;
use waystation_proto::router::v1::send_message::What;
use waystation_proto::router::v1::send_message_result::Outcome;
use waystation_rpc::convert::lane_to;
use waystation_rpc::{limit_of, reason_of, retry_after_of, status_of_element};
use waystation_wire::{Addressee, ErrorCode, Outgoing, SendOutcome, SendRefused, Sent};

pub(super) fn request(token: &SecretString, id: &MessageId, message: Outgoing) -> wire::SendMessage {
    let Outgoing { to, event_type, data, lane, time_to_live, .. } = message;
    let event_type = event_type.map(|name| name.as_str().to_owned()).unwrap_or_default();
    let what = match to {
        Addressee::Orchestrator(orchestrator) => What::Message(wire::RouteMessageRequest {
            orchestrator_id: orchestrator.to_string(),
            message_id: id.as_str().to_owned(),
            event_type,
            data,
            priority: lane_to(lane).into(),
            time_to_live: time_to_live.map(duration),
            ..wire::RouteMessageRequest::default()
        }),
        Addressee::Channel(channel) => What::Event(wire::PublishEventRequest {
            channel_id: channel.to_string(),
            event_id: id.as_str().to_owned(),
            event_type,
            data,
            ..wire::PublishEventRequest::default()
        }),
    };
    wire::SendMessage { access_token: token.expose_secret().to_owned(), what: Some(what) }
}

fn duration(time: Duration) -> WireDuration {
    WireDuration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or(0),
    }
}

pub(super) fn outcome(id: MessageId, answered: Result<wire::SendMessageResult, Status>) -> SendOutcome {
    match answered.map(|result| result.outcome) {
        Ok(Some(Outcome::Routed(routed))) => {
            let sequence = routed.position.as_ref().map_or(0, |position| position.sequence);
            Ok(Sent { id, status: word(routed.status()), sequence })
        }
        Ok(Some(Outcome::Published(published))) => {
            let sequence = published.position.map_or(0, |position| position.sequence);
            Ok(Sent { id, status: "PUBLISHED", sequence })
        }
        Ok(Some(Outcome::Error(error))) => Err(refused(&status_of_element(error))),
        Ok(None) => Err(refused(&Status::internal("a router gave no answer"))),
        Err(status) => Err(refused(&status)),
    }
}

/// The name of a status without its prefix.
fn word(status: MessageStatus) -> &'static str {
    let name = status.as_str_name();
    name.strip_prefix("MESSAGE_STATUS_").unwrap_or(name)
}

/// A router's refusal in the words of the daemon protocol.
fn refused(status: &Status) -> SendRefused {
    let reason = reason_of(status);
    let (code, field) = match (reason, status.code()) {
        (Some(ErrorReason::MessageIdReused), _) => (ErrorCode::InvalidMessage, Some("payload.messageId")),
        (Some(ErrorReason::NotFound), _) => (ErrorCode::InvalidMessage, Some("payload.to.orchestratorId")),
        (Some(ErrorReason::MailboxFull), _) => (ErrorCode::RateLimited, Some("payload.to.orchestratorId")),
        (Some(ErrorReason::InvalidField), _) => (ErrorCode::InvalidMessage, field_of(status)),
        (_, Code::ResourceExhausted) => (ErrorCode::RateLimited, None),
        (_, Code::PermissionDenied) => (ErrorCode::InsufficientScope, None),
        (_, Code::Unauthenticated) => (ErrorCode::NotAuthenticated, None),
        _ => (ErrorCode::InternalError, None),
    };
    let named = reason.unwrap_or(ErrorReason::Unavailable).as_str_name();
    let reason = Some(named.strip_prefix("ERROR_REASON_").unwrap_or(named));
    let limited = limit_of(status).and_then(|most| Some((retry_after_of(status)?, most)));
    SendRefused { code, message: status.message().to_owned(), field: field.map(str::to_owned), reason, limited }
}

/// The member of the frame that a field of the request stands for.
fn field_of(status: &Status) -> Option<&'static str> {
    match waystation_rpc::field_of(status)?.as_str() {
        "message.orchestrator_id" => Some("payload.to.orchestratorId"),
        "event.channel_id" => Some("payload.to.channelId"),
        "message.event_type" | "event.event_type" => Some("payload.eventType"),
        "message.data" | "event.data" => Some("payload.data"),
        "message.message_id" | "event.event_id" => Some("payload.messageId"),
        "message.time_to_live" => Some("payload.ttlMs"),
        _ => None,
    }
}
