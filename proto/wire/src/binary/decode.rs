//! Frames of clients.

use std::collections::BTreeMap;

use prost::Message as _;
use waystation_domain::{Lane, PerLane, ReportedStatus};
use waystation_proto::common::v1::{LaneNumbers, Priority};
use waystation_proto::daemon::v1 as proto;
use waystation_proto::daemon::v1::client_frame::Frame;
use waystation_proto::daemon::v1::send::To;

use crate::frame::{ClientFrame, FrameError, Received};
use crate::payload::{
    AckPayload, AuthPayload, AuthRefreshPayload, Client, ExtendPayload, GoodbyePayload, HeartbeatPayload, NackPayload,
    Payload as _, Refusal, RejectPayload, Resume, ResumeFeed, ResumeMailbox, SendPayload, SubscribePayload,
    To as Addressed, UnsubscribePayload, shortened, task,
};

/// Reads a frame.
///
/// # Errors
/// If it is no message of the protocol. The error names the field as it is named in JSON.
pub fn decode(bytes: bytes::Bytes) -> Result<Received, FrameError> {
    let decoded = proto::ClientFrame::decode(bytes);
    let proto::ClientFrame { id, frame } = decoded.map_err(|error| FrameError {
        reply_to: None,
        message: format!("is no ClientFrame: {error}"),
        field: None,
    })?;
    let id = (!id.is_empty()).then_some(id);
    match frame.ok_or_else(|| ("unknown frame type".to_owned(), Some("type".to_owned()))).and_then(read) {
        Ok(frame) => Ok(Received { id, frame }),
        Err((message, field)) => Err(FrameError { reply_to: id, message, field }),
    }
}

/// What proto3 leaves out if it is empty.
fn given(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn by_lane(numbers: Option<LaneNumbers>) -> BTreeMap<String, u64> {
    let LaneNumbers { critical, high, normal, low } = numbers.unwrap_or_default();
    let mut each = [critical, high, normal, low].into_iter();
    let lanes = PerLane::from_fn(|_| each.next().unwrap_or(0));
    lanes.iter().map(|(lane, number)| (lane.name().to_owned(), *number)).collect()
}

fn read(frame: Frame) -> Result<ClientFrame, Refusal> {
    match frame {
        Frame::Auth(auth) => auth_payload(auth).read(),
        Frame::Heartbeat(proto::Heartbeat { status, metrics }) => {
            let status = given(status).map(|name| {
                let unknown = || (format!("unknown status {:?}", shortened(&name)), Some("payload.status".to_owned()));
                ReportedStatus::from_name(&name).ok_or_else(unknown)
            });
            let metrics = (!metrics.is_empty()).then_some(metrics);
            HeartbeatPayload { status: status.transpose()?, metrics }.read()
        }
        Frame::Subscribe(proto::Subscribe { event_types, channel_ids }) => {
            SubscribePayload { event_types, channel_ids: Some(channel_ids) }.read()
        }
        Frame::Unsubscribe(proto::Unsubscribe { event_types }) => UnsubscribePayload { event_types }.read(),
        Frame::Ack(proto::Ack { event_ids, up_to, confirm }) => {
            let event_ids = (!event_ids.is_empty()).then_some(event_ids);
            AckPayload { event_ids, up_to: up_to.map(|numbers| by_lane(Some(numbers))), confirm }.read()
        }
        Frame::Nack(proto::Nack { event_id, delay_ms, reason }) => {
            NackPayload { event_id, delay_ms, reason: given(reason) }.read()
        }
        Frame::Reject(proto::Reject { event_id, reason }) => RejectPayload { event_id, reason }.read(),
        Frame::Extend(proto::Extend { event_id }) => ExtendPayload { event_id }.read(),
        Frame::Send(send) => send_payload(send)?.read(),
        Frame::AuthRefresh(proto::AuthRefresh { access_token }) => AuthRefreshPayload { access_token }.read(),
        Frame::Task(proto::TaskCall { r#type, payload }) => {
            task(&r#type, if payload.is_empty() { bytes::Bytes::from_static(b"{}") } else { payload })
        }
        Frame::Goodbye(proto::Goodbye { reason }) => GoodbyePayload { reason: given(reason) }.read(),
    }
}

fn auth_payload(auth: proto::Auth) -> AuthPayload {
    let mailbox = auth.resume.map(|resume| ResumeMailbox { epoch: resume.epoch, positions: by_lane(resume.positions) });
    let feed = auth.resume_feed.map(|feed| ResumeFeed { epoch: feed.epoch, position: feed.sequence });
    let cursor = given(auth.resume_cursor);
    let resume = (mailbox.is_some() || feed.is_some() || cursor.is_some()).then_some(Resume { mailbox, feed, cursor });
    AuthPayload {
        access_token: auth.access_token,
        daemon_id: auth.daemon_id,
        orchestrator_id: auth.orchestrator_id,
        resume,
        max_in_flight: auth.max_in_flight,
        max_in_flight_bytes: auth.max_in_flight_bytes,
        subscriptions: auth.subscriptions.map(|list| list.event_types),
        client: auth.client.map(|client| Client { instance: given(client.instance) }),
    }
}

fn send_payload(send: proto::Send) -> Result<SendPayload, Refusal> {
    let to = match send.to {
        Some(To::OrchestratorId(id)) => Addressed { orchestrator_id: Some(id), channel_id: None },
        Some(To::ChannelId(id)) => Addressed { orchestrator_id: None, channel_id: Some(id) },
        None => Addressed::default(),
    };
    let lane = match Priority::try_from(send.priority) {
        Ok(Priority::Unspecified) => None,
        Ok(Priority::Critical) => Some(Lane::Critical),
        Ok(Priority::High) => Some(Lane::High),
        Ok(Priority::Normal) => Some(Lane::Normal),
        Ok(Priority::Low) => Some(Lane::Low),
        Err(_) => return Err(("is not a priority".into(), Some("payload.priority".into()))),
    };
    Ok(SendPayload {
        to,
        event_type: given(send.event_type),
        data: (!send.data.is_empty()).then_some(send.data),
        priority: lane.map(|lane| lane.name().to_owned()),
        message_id: given(send.message_id),
        ttl_ms: (send.ttl_ms > 0).then_some(send.ttl_ms),
    })
}
