//! Frames for clients.

use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use waystation_domain::{FeedEvent, FeedPoint, Gap, GapRange, Lane, MessageId, Pattern, PerLane, Timestamp};
use waystation_proto::common::v1::{FeedPosition, LaneNumbers, Priority};
use waystation_proto::daemon::v1 as proto;
use waystation_proto::daemon::v1::server_frame::Frame;

use crate::frame::{EventFrame, ServerFrame};
use crate::stamp::FrameStamp;
use crate::words;

/// Writes a frame as a protobuf message behind what `out` holds.
pub fn encode(frame: &ServerFrame, stamp: FrameStamp, out: &mut Vec<u8>) {
    if let ServerFrame::Event(event) = frame {
        return encode_event(event, stamp, out);
    }
    if let ServerFrame::FeedEvent(event) = frame {
        return out.extend_from_slice(event.binary(|| stamp.now));
    }
    let message = proto::ServerFrame {
        id: stamp.id(),
        time_ms: stamp.now.as_millis(),
        reply_to: frame.reply_to().map(str::to_owned),
        frame: content(frame, stamp.now),
    };
    let written = message.encode(out);
    debug_assert!(written.is_ok(), "vectors take everything");
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lanes(numbers: &PerLane<u64>) -> LaneNumbers {
    LaneNumbers {
        critical: numbers[Lane::Critical],
        high: numbers[Lane::High],
        normal: numbers[Lane::Normal],
        low: numbers[Lane::Low],
    }
}

fn priority(lane: Lane) -> Priority {
    match lane {
        Lane::Critical => Priority::Critical,
        Lane::High => Priority::High,
        Lane::Normal => Priority::Normal,
        Lane::Low => Priority::Low,
    }
}

fn feed_point(point: &FeedPoint) -> FeedPosition {
    FeedPosition { epoch: point.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(), sequence: point.sequence }
}

/// An event of a feed: the same bytes for everybody who gets it.
pub(crate) fn encode_feed_event(event: &FeedEvent, now: Timestamp) -> Bytes {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let content = proto::Event {
        event_id: event.id.as_str().to_owned(),
        event_type: event.event_type.as_str().to_owned(),
        data: event.data.clone(),
        channel_id: text(event.channel.as_ref().map(|channel| channel.as_str())),
        traceparent: text(event.trace.as_ref().map(|trace| trace.as_str())),
        sender_orchestrator_id: text(event.sender.as_ref().map(|sender| sender.as_str())),
        feed_position: Some(feed_point(&event.position.into())),
        ..proto::Event::default()
    };
    let frame = proto::ServerFrame {
        id: event.id.as_str().to_owned(),
        time_ms: now.as_millis(),
        reply_to: None,
        frame: Some(Frame::Event(content)),
    };
    frame.encode_to_vec().into()
}

fn names(patterns: &[Pattern]) -> Vec<String> {
    patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
}

fn content(frame: &ServerFrame, now: Timestamp) -> Option<Frame> {
    Some(match frame {
        // Written by functions of their own.
        ServerFrame::Event(_) | ServerFrame::FeedEvent(_) => return None,
        ServerFrame::AuthSuccess {
            session, scopes, heartbeat_interval, epoch, verdict, window, lost, feed, ..
        } => Frame::AuthSuccess(proto::AuthSuccess {
            session_id: session.as_str().to_owned(),
            scopes: scopes.clone(),
            heartbeat_interval_ms: millis(*heartbeat_interval),
            epoch: epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
            resumed: words::resumed(*verdict),
            reason: words::doubt(*verdict).unwrap_or_default().to_owned(),
            max_in_flight: window.entries,
            max_in_flight_bytes: window.bytes,
            gap: lost.map(|lost| proto::ResumeMailbox {
                epoch: lost.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
                positions: Some(lanes(&lost.seen)),
            }),
            feed: feed.as_ref().map(feed_point),
        }),
        ServerFrame::AuthError { rejection, message, .. } => {
            Frame::AuthError(proto::AuthError { code: rejection.name().to_owned(), message: message.clone() })
        }
        ServerFrame::HeartbeatAck { next, heads, feed, .. } => Frame::HeartbeatAck(proto::HeartbeatAck {
            next_heartbeat_ms: now.after(*next).as_millis(),
            heads: heads.as_ref().map(lanes),
            feed: feed.as_ref().map(feed_point),
        }),
        ServerFrame::Gap { gap, .. } => Frame::Gap(gap_of(gap)),
        ServerFrame::FeedGap { gap, .. } => Frame::Gap(proto::Gap {
            reason: words::feed_loss(gap.loss).to_owned(),
            count: gap.count(),
            epoch: gap.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
            from: gap.from,
            to: if gap.from > 0 { gap.to } else { 0 },
            log: "feed".to_owned(),
            ..proto::Gap::default()
        }),
        ServerFrame::ReplayComplete { epoch, heads } => {
            Frame::ReplayComplete(proto::ReplayComplete { epoch: epoch.to_string(), heads: Some(lanes(heads)) })
        }
        ServerFrame::Subscribed { patterns, excluded, channels, .. } => Frame::Subscribed(proto::Subscribed {
            event_types: names(patterns),
            excluded: names(excluded),
            channel_ids: channels.iter().map(|channel| channel.as_str().to_owned()).collect(),
        }),
        ServerFrame::Error { code, message, field, reason, .. } => Frame::Error(proto::Error {
            code: code.name().to_owned(),
            message: message.clone(),
            field: field.clone().unwrap_or_default(),
            reason: reason.unwrap_or_default().to_owned(),
        }),
        ServerFrame::RateLimit { action, retry_after, current, most, .. } => Frame::RateLimit(proto::RateLimit {
            action: (*action).to_owned(),
            retry_after: words::whole_seconds(*retry_after),
            current_rate: *current,
            max_rate: *most,
        }),
        ServerFrame::Reconnect { reason, delay } => {
            Frame::Reconnect(proto::Reconnect { reason: (*reason).to_owned(), delay_ms: millis(*delay) })
        }
        ServerFrame::AckResult { results, .. } => Frame::AckResult(proto::AckResult {
            results: (results.iter())
                .map(|(id, status)| proto::AckOutcome {
                    event_id: id.as_str().to_owned(),
                    status: status.name().to_owned(),
                })
                .collect(),
        }),
        ServerFrame::SendAck { sent, .. } => Frame::SendAck(proto::SendAck {
            message_id: sent.id.as_str().to_owned(),
            status: sent.status.to_owned(),
            sequence: sent.sequence,
        }),
        ServerFrame::TaskAnswer { kind, payload, .. } => {
            let payload = payload.to_string().into();
            Frame::TaskAnswer(proto::TaskAnswer { r#type: (*kind).to_owned(), payload })
        }
        ServerFrame::AuthRefreshed { scopes, expires, .. } => {
            Frame::AuthRefreshed(proto::AuthRefreshed { scopes: scopes.clone(), expires_ms: expires.as_millis() })
        }
    })
}

fn gap_of(gap: &Gap) -> proto::Gap {
    let mut message = proto::Gap {
        event_id: MessageId::of_gap(gap.position).as_str().to_owned(),
        reason: words::left(gap.left.map(|left| left.reason)).to_owned(),
        count: gap.count,
        log: "mailbox".to_owned(),
        ..proto::Gap::default()
    };
    if let Some(GapRange { lane, from, to, epoch, .. }) = gap.left {
        message.set_lane(priority(lane));
        (message.epoch, message.from, message.to) = (epoch.to_string(), from, to);
    }
    message
}

/// Numbers of fields, as in `daemon.proto`.
mod tag {
    pub(super) const FRAME_ID: u32 = 1;
    pub(super) const FRAME_TIME: u32 = 2;
    pub(super) const FRAME_EVENT: u32 = 7;
    pub(super) const EVENT_ID: u32 = 1;
    pub(super) const EVENT_TYPE: u32 = 2;
    pub(super) const DATA: u32 = 3;
    pub(super) const CHANNEL: u32 = 4;
    pub(super) const POSITION: u32 = 5;
    pub(super) const ATTEMPT: u32 = 6;
    pub(super) const REDELIVERED: u32 = 7;
    pub(super) const TRACE: u32 = 8;
    pub(super) const SENDER: u32 = 9;
    pub(super) const EPOCH: u32 = 1;
    pub(super) const LANE: u32 = 2;
    pub(super) const SEQUENCE: u32 = 3;
}

/// Length of a field of bytes with a number below 16.
fn length_of(bytes: &[u8]) -> usize {
    1 + encoded_len_varint(bytes.len() as u64) + bytes.len()
}

fn put_bytes(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, tag: u32, number: u64) {
    if number > 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(number, out);
    }
}

fn length_of_number(number: u64) -> usize {
    if number > 0 { 1 + encoded_len_varint(number) } else { 0 }
}

/// The one frame that is sent by the million: written straight into its buffer, its data as the sender sent it.
fn encode_event(EventFrame { entry, redelivered }: &EventFrame, stamp: FrameStamp, out: &mut Vec<u8>) {
    let (id, epoch) = (stamp.id(), entry.position.epoch.to_string());
    let lane = priority(entry.position.lane) as u64;
    let position = length_of(epoch.as_bytes()) + length_of_number(lane) + length_of_number(entry.position.sequence);
    let optional = [
        (tag::CHANNEL, entry.channel.as_ref().map(|channel| channel.as_str())),
        (tag::TRACE, entry.trace.as_ref().map(|trace| trace.as_str())),
        (tag::SENDER, entry.sender.as_ref().map(|sender| sender.as_str())),
    ];
    let length = length_of(entry.id.as_str().as_bytes())
        + length_of(entry.event_type.as_str().as_bytes())
        + length_of(&entry.data)
        + optional.iter().filter_map(|(_, text)| *text).map(|text| length_of(text.as_bytes())).sum::<usize>()
        + 1
        + encoded_len_varint(position as u64)
        + position
        + length_of_number(entry.attempt.into())
        + length_of_number((*redelivered).into());
    out.reserve(length + id.len() + 24);
    put_bytes(out, tag::FRAME_ID, id.as_bytes());
    put_number(out, tag::FRAME_TIME, stamp.now.as_millis());
    encode_key(tag::FRAME_EVENT, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
    put_bytes(out, tag::EVENT_ID, entry.id.as_str().as_bytes());
    put_bytes(out, tag::EVENT_TYPE, entry.event_type.as_str().as_bytes());
    put_bytes(out, tag::DATA, &entry.data);
    for (tag, text) in optional {
        if let Some(text) = text {
            put_bytes(out, tag, text.as_bytes());
        }
    }
    encode_key(tag::POSITION, WireType::LengthDelimited, out);
    encode_varint(position as u64, out);
    put_bytes(out, tag::EPOCH, epoch.as_bytes());
    put_number(out, tag::LANE, lane);
    put_number(out, tag::SEQUENCE, entry.position.sequence);
    put_number(out, tag::ATTEMPT, entry.attempt.into());
    put_number(out, tag::REDELIVERED, (*redelivered).into());
}
