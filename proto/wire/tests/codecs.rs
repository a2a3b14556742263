//! Both formats say the same, whatever is said; and nothing that arrives can break a decoder.
//!
//! Frames of clients are written here in both formats and read by the crate; frames of the server are written by the
//! crate in both formats and read here.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Map, Value, json};
use waystation_domain::*;
use waystation_proto::common::v1 as common;
use waystation_proto::daemon::v1 as proto;
use waystation_proto::daemon::v1::{client_frame, send, server_frame};
use waystation_wire::*;

fn id<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[A-Za-z0-9_-]{1,12}".prop_map(|text| text.parse().unwrap())
}

fn message_id() -> impl Strategy<Value = MessageId> {
    prop_oneof![
        "[A-Za-z0-9._-]{1,40}".prop_map(|text| MessageId::naming(&text).unwrap()),
        position().prop_map(MessageId::composed),
        any::<u64>().prop_map(MessageId::of_gap),
    ]
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), lane(), any::<u64>()).prop_map(|(epoch, lane, sequence)| Position {
        epoch: Epoch::from_raw(epoch),
        lane,
        sequence,
    })
}

fn lane() -> impl Strategy<Value = Lane> {
    prop::sample::select(Lane::ALL.to_vec())
}

fn lanes() -> impl Strategy<Value = PerLane<u64>> {
    any::<[u64; 4]>().prop_map(|numbers| {
        let mut each = numbers.into_iter();
        PerLane::from_fn(|_| each.next().unwrap())
    })
}

/// JSON objects, with text that must be escaped.
fn object() -> impl Strategy<Value = Bytes> {
    prop::collection::btree_map("[a-z]{1,6}", "[ -~äß€\\n]{0,12}", 0..4)
        .prop_map(|members| Bytes::from(serde_json::to_vec(&members).unwrap()))
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof!["[a-z]{1,6}\\.[a-z]{1,6}", "[a-z]{1,6}\\.\\*", Just("*".to_owned())]
        .prop_map(|text| text.parse().unwrap())
}

fn feed_point() -> impl Strategy<Value = Option<FeedPoint>> {
    let point = (prop::option::of(any::<u64>()), any::<u64>());
    prop::option::of(point.prop_map(|(epoch, sequence)| FeedPoint { epoch: epoch.map(Epoch::from_raw), sequence }))
}

fn client_frames() -> impl Strategy<Value = ClientFrame> {
    let window = (1..=1_000u32, (64u64 << 10)..=(16 << 20)).prop_map(|(entries, bytes)| Window { entries, bytes });
    let resume = (prop::option::of(any::<u64>()), lanes())
        .prop_map(|(epoch, positions)| ResumePoint { epoch: epoch.map(Epoch::from_raw), positions });
    let auth = (
        "[!-~]{1,20}",
        id(),
        id(),
        (prop::option::of(resume), feed_point()),
        window,
        prop::option::of(prop::collection::vec(pattern(), 0..3)),
        prop::option::of(prop::option::of(id())),
    )
        .prop_map(|(access_token, daemon, orchestrator, (resume, resume_feed), window, subscriptions, client)| {
            ClientFrame::Auth(Box::new(AuthRequest {
                access_token,
                daemon,
                orchestrator,
                resume,
                resume_feed,
                window,
                subscriptions,
                instance: client.clone().flatten(),
                announces_client: client.is_some(),
                knows_gaps: true,
            }))
        });
    let status = prop::option::of(prop::sample::select(vec![
        ReportedStatus::Active,
        ReportedStatus::Idle,
        ReportedStatus::Busy,
        ReportedStatus::Paused,
        ReportedStatus::Error,
    ]));
    let metrics = prop::option::of(any::<u32>().prop_map(|n| Bytes::from(format!(r#"{{"errors":{n}}}"#))));
    let ack = (prop::collection::vec(message_id(), 1..4), lanes(), any::<bool>())
        .prop_map(|(ids, up_to, confirm)| ClientFrame::Ack(Ack { ids, up_to, confirm }));
    let to = prop_oneof![id().prop_map(Addressee::Orchestrator), id().prop_map(Addressee::Channel)];
    let send = (
        to,
        prop::option::of("[a-z]{1,6}\\.[a-z]{1,6}"),
        object(),
        lane(),
        prop::option::of("[A-Z]{1,9}"),
        prop::option::of(1..9_999_999_999u64),
    )
        .prop_map(|(to, event_type, data, lane, id, ttl)| {
            ClientFrame::Send(Box::new(Outgoing {
                to,
                event_type: event_type.map(|text| text.parse().unwrap()),
                data,
                lane,
                id: id.map(|text| MessageId::from_caller(&text).unwrap()),
                time_to_live: ttl.map(Duration::from_millis),
            }))
        });
    let delay = prop_oneof![Just(0), 0..=3_600_000u64].prop_map(Duration::from_millis);
    prop_oneof![
        auth,
        (status, metrics).prop_map(|(status, metrics)| ClientFrame::Heartbeat(Heartbeat { status, metrics })),
        (prop::collection::vec(pattern(), 1..4), prop::collection::btree_set(id(), 0..3))
            .prop_map(|(patterns, channels)| ClientFrame::Subscribe { patterns, channels }),
        prop::collection::vec(pattern(), 1..4).prop_map(|patterns| ClientFrame::Unsubscribe { patterns }),
        ack,
        (message_id(), delay).prop_map(|(id, delay)| ClientFrame::Nack { id, delay }),
        (message_id(), "[ -~ü]{1,60}").prop_map(|(id, reason)| ClientFrame::Reject { id, reason }),
        message_id().prop_map(|id| ClientFrame::Extend { id }),
        send,
        "[!-~]{1,20}".prop_map(|access_token| ClientFrame::AuthRefresh { access_token }),
        Just(ClientFrame::Goodbye),
        (prop::sample::select(TaskCall::KINDS.to_vec()), object())
            .prop_map(|(kind, payload)| ClientFrame::Task(Box::new(TaskCall { kind, payload }))),
    ]
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

fn numbers(lanes: &PerLane<u64>) -> common::LaneNumbers {
    common::LaneNumbers {
        critical: lanes[Lane::Critical],
        high: lanes[Lane::High],
        normal: lanes[Lane::Normal],
        low: lanes[Lane::Low],
    }
}

fn by_name(lanes: &PerLane<u64>) -> Value {
    lanes.iter().map(|(lane, number)| (lane.name().to_owned(), json!(number))).collect()
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// A frame as a client writes it in JSON.
fn in_json(frame: &ClientFrame) -> String {
    // `data` and metrics keep their bytes: they are put in afterwards.
    let mut raw = None;
    let (kind, payload) = match frame {
        ClientFrame::Auth(auth) => {
            let mut payload = json!({
                "accessToken": auth.access_token,
                "daemonId": auth.daemon.as_str(),
                "orchestratorId": auth.orchestrator.as_str(),
                "maxInFlight": auth.window.entries,
                "maxInFlightBytes": auth.window.bytes,
            });
            if let Some(resume) = &auth.resume {
                let epoch = resume.epoch.map_or_else(|| "never".to_owned(), |epoch| epoch.to_string());
                payload["resume"] = json!({"mailbox": {"epoch": epoch, "positions": by_name(&resume.positions)}});
            }
            if let Some(feed) = &auth.resume_feed {
                let epoch = feed.epoch.map_or_else(|| "never".to_owned(), |epoch| epoch.to_string());
                payload["resume"]["feed"] = json!({"epoch": epoch, "position": feed.sequence});
            }
            if let Some(patterns) = &auth.subscriptions {
                payload["subscriptions"] = json!(texts(patterns));
            }
            if auth.announces_client {
                payload["client"] = json!({"name": "n", "instance": auth.instance.as_ref().map(|id| id.as_str())});
            }
            ("auth", payload)
        }
        ClientFrame::Heartbeat(Heartbeat { status, metrics }) => {
            let mut payload = json!({"status": status.map(ReportedStatus::name)});
            if let Some(metrics) = metrics {
                payload["metrics"] = parsed(metrics);
            }
            ("heartbeat", payload)
        }
        ClientFrame::Subscribe { patterns, channels } => {
            let channels: Vec<&str> = channels.iter().map(|id| id.as_str()).collect();
            ("subscribe", json!({"eventTypes": texts(patterns), "channelIds": channels}))
        }
        ClientFrame::Unsubscribe { patterns } => ("unsubscribe", json!({"eventTypes": texts(patterns)})),
        ClientFrame::Ack(Ack { ids, up_to, confirm }) => {
            ("ack", json!({"eventIds": texts(ids), "upTo": by_name(up_to), "confirm": confirm}))
        }
        ClientFrame::Nack { id, delay } => {
            ("nack", json!({"eventId": id.as_str(), "delayMs": u64::try_from(delay.as_millis()).unwrap()}))
        }
        ClientFrame::Reject { id, reason } => ("reject", json!({"eventId": id.as_str(), "reason": reason})),
        ClientFrame::Extend { id } => ("extend", json!({"eventId": id.as_str()})),
        ClientFrame::Send(message) => {
            raw = Some(message.data.clone());
            let to = match &message.to {
                Addressee::Orchestrator(id) => json!({"orchestratorId": id.as_str()}),
                Addressee::Channel(id) => json!({"channelId": id.as_str()}),
            };
            let mut payload = json!({
                "to": to,
                "priority": message.lane.name(),
                "data": "HERE",
            });
            if let Some(event_type) = &message.event_type {
                payload["eventType"] = json!(event_type.as_str());
            }
            if let Some(id) = &message.id {
                payload["messageId"] = json!(id.as_str());
            }
            if let Some(ttl) = message.time_to_live {
                payload["ttlMs"] = json!(u64::try_from(ttl.as_millis()).unwrap());
            }
            ("send", payload)
        }
        ClientFrame::AuthRefresh { access_token } => ("auth_refresh", json!({"accessToken": access_token})),
        ClientFrame::Goodbye => ("goodbye", json!({"reason": "done"})),
        ClientFrame::Task(call) => {
            raw = Some(call.payload.clone());
            (call.kind.name(), json!("HERE"))
        }
    };
    let text = json!({"type": kind, "id": "f1", "timestamp": "2026-01-01T00:00:00Z", "payload": payload}).to_string();
    match raw {
        Some(raw) => text.replace("\"HERE\"", std::str::from_utf8(&raw).unwrap()),
        None => text,
    }
}

/// A frame as a client writes it in protobuf.
fn in_binary(frame: &ClientFrame) -> Bytes {
    use client_frame::Frame;
    let frame = match frame.clone() {
        ClientFrame::Auth(auth) => Frame::Auth(proto::Auth {
            access_token: auth.access_token.clone(),
            daemon_id: auth.daemon.to_string(),
            orchestrator_id: auth.orchestrator.to_string(),
            resume: auth.resume.map(|resume| proto::ResumeMailbox {
                epoch: resume.epoch.map_or_else(|| "never".to_owned(), |epoch| epoch.to_string()),
                positions: Some(numbers(&resume.positions)),
            }),
            resume_feed: auth.resume_feed.map(|feed| common::FeedPosition {
                epoch: feed.epoch.map_or_else(|| "never".to_owned(), |epoch| epoch.to_string()),
                sequence: feed.sequence,
            }),
            resume_cursor: String::new(),
            max_in_flight: Some(auth.window.entries),
            max_in_flight_bytes: Some(auth.window.bytes),
            subscriptions: auth.subscriptions.as_ref().map(|list| proto::SubscriptionList { event_types: texts(list) }),
            client: auth.announces_client.then(|| proto::Client {
                instance: auth.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
                ..proto::Client::default()
            }),
        }),
        ClientFrame::Heartbeat(Heartbeat { status, metrics }) => Frame::Heartbeat(proto::Heartbeat {
            status: status.map(|status| status.name().to_owned()).unwrap_or_default(),
            metrics: metrics.unwrap_or_default(),
        }),
        ClientFrame::Subscribe { patterns, channels } => Frame::Subscribe(proto::Subscribe {
            event_types: texts(&patterns),
            channel_ids: channels.iter().map(ToString::to_string).collect(),
        }),
        ClientFrame::Unsubscribe { patterns } => {
            Frame::Unsubscribe(proto::Unsubscribe { event_types: texts(&patterns) })
        }
        ClientFrame::Ack(Ack { ids, up_to, confirm }) => {
            Frame::Ack(proto::Ack { event_ids: texts(&ids), up_to: Some(numbers(&up_to)), confirm })
        }
        ClientFrame::Nack { id, delay } => Frame::Nack(proto::Nack {
            event_id: id.to_string(),
            delay_ms: u64::try_from(delay.as_millis()).unwrap(),
            reason: "later".into(),
        }),
        ClientFrame::Reject { id, reason } => Frame::Reject(proto::Reject { event_id: id.to_string(), reason }),
        ClientFrame::Extend { id } => Frame::Extend(proto::Extend { event_id: id.to_string() }),
        ClientFrame::Send(message) => Frame::Send(proto::Send {
            to: Some(match &message.to {
                Addressee::Orchestrator(id) => send::To::OrchestratorId(id.to_string()),
                Addressee::Channel(id) => send::To::ChannelId(id.to_string()),
            }),
            event_type: message.event_type.map(|name| name.as_str().to_owned()).unwrap_or_default(),
            data: message.data,
            priority: priority(message.lane).into(),
            message_id: message.id.map(|id| id.to_string()).unwrap_or_default(),
            ttl_ms: message.time_to_live.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap()),
        }),
        ClientFrame::AuthRefresh { access_token } => Frame::AuthRefresh(proto::AuthRefresh { access_token }),
        ClientFrame::Goodbye => Frame::Goodbye(proto::Goodbye { reason: "done".into() }),
        ClientFrame::Task(call) => {
            Frame::Task(proto::TaskCall { r#type: call.kind.name().to_owned(), payload: call.payload })
        }
    };
    proto::ClientFrame { id: "f1".into(), frame: Some(frame) }.encode_to_vec().into()
}

fn priority(lane: Lane) -> common::Priority {
    match lane {
        Lane::Critical => common::Priority::Critical,
        Lane::High => common::Priority::High,
        Lane::Normal => common::Priority::Normal,
        Lane::Low => common::Priority::Low,
    }
}

fn gap() -> impl Strategy<Value = Gap> {
    let reason =
        prop::sample::select(vec![ExitReason::Expired, ExitReason::Dead, ExitReason::Overflowed, ExitReason::Purged]);
    let left = prop::option::of((reason, position(), any::<u64>()).prop_map(|(reason, from, to)| GapRange {
        reason,
        lane: from.lane,
        from: from.sequence,
        to,
        epoch: from.epoch,
    }));
    (any::<u64>(), left, any::<u64>()).prop_map(|(position, left, count)| Gap { position, left, count })
}

fn feed_event() -> impl Strategy<Value = FeedEvent> {
    let trace = prop::option::of(Just("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let names = (message_id(), "[a-z]{1,6}\\.[a-z]{1,6}", prop::option::of(id()), prop::option::of(id()));
    (any::<u64>(), any::<u64>(), names, object(), trace).prop_map(|(epoch, sequence, names, data, trace)| FeedEvent {
        position: FeedPosition { epoch: Epoch::from_raw(epoch), sequence },
        id: names.0,
        event_type: names.1.parse().unwrap(),
        channel: names.2,
        trace: trace.map(|text| text.parse().unwrap()),
        sender: names.3,
        audience: Audience::default(),
        time: Timestamp::default(),
        data,
    })
}

fn feed_gap() -> impl Strategy<Value = FeedGap> {
    let loss = prop::sample::select(vec![FeedLoss::Trimmed, FeedLoss::PossiblyLost]);
    (loss, prop::option::of(any::<u64>()), 0..9u64, 9..99u64).prop_map(|(loss, epoch, from, to)| FeedGap {
        loss,
        epoch: epoch.map(Epoch::from_raw),
        from,
        to,
    })
}

fn server_frames() -> impl Strategy<Value = ServerFrame> {
    let reply_to = || prop::option::of("[ -~ö]{1,12}");
    let some_text = || "[ -~é\\n]{0,30}";
    let channels = || prop::collection::btree_set(id::<ChannelId>(), 0..3);
    let millis = || any::<u32>().prop_map(|n| Duration::from_millis(n.into()));
    let trace = prop::option::of(Just("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let entry = (
        position(),
        message_id(),
        "[a-z]{1,6}\\.[a-z]{1,6}",
        prop::option::of(id()),
        object(),
        0..9u32,
        trace,
        prop::option::of(id()),
    )
        .prop_map(|(position, id, event_type, channel, data, attempt, trace, sender)| Entry {
            position,
            id,
            event_type: event_type.parse().unwrap(),
            channel,
            data,
            attempt,
            trace: trace.map(|text| text.parse().unwrap()),
            sender,
            accepted: Timestamp::default(),
        });
    let verdict = prop::sample::select(vec![
        ResumeVerdict::Fresh,
        ResumeVerdict::Resumed,
        ResumeVerdict::StoreRestarted,
        ResumeVerdict::PossiblyLost,
    ]);
    let lost = prop::option::of((lanes(), prop::option::of(any::<u64>())))
        .prop_map(|lost| lost.map(|(seen, epoch)| LossNotice { seen, epoch: epoch.map(Epoch::from_raw) }));
    let welcome = (
        reply_to(),
        id(),
        prop::collection::vec("[a-z:]{1,9}", 0..3),
        millis(),
        prop::option::of(any::<u64>()),
        verdict,
        lost,
        feed_point(),
    )
        .prop_map(|(reply_to, session, scopes, heartbeat_interval, epoch, verdict, lost, feed)| {
            ServerFrame::AuthSuccess {
                reply_to,
                session,
                scopes,
                heartbeat_interval,
                epoch: epoch.map(Epoch::from_raw),
                verdict,
                window: Window { entries: 7, bytes: 70_000 },
                lost,
                feed,
            }
        });
    let code = prop::sample::select(vec![
        ErrorCode::InvalidMessage,
        ErrorCode::NotAuthenticated,
        ErrorCode::InsufficientScope,
        ErrorCode::RateLimited,
        ErrorCode::InternalError,
    ]);
    let error =
        (reply_to(), code, some_text(), prop::option::of("[a-z.]{1,9}"), prop::option::of(Just("MAILBOX_FULL")))
            .prop_map(|(reply_to, code, message, field, reason)| ServerFrame::Error {
                reply_to,
                code,
                message,
                field,
                reason,
            });
    let rejection = prop::sample::select(vec![AuthRejection::AuthFailed, AuthRejection::MaxConnections]);
    let acked = prop::sample::select(vec![AckStatus::Acked, AckStatus::Stale]);
    prop_oneof![
        6 => (entry, any::<bool>()).prop_map(|(entry, redelivered)| ServerFrame::Event(EventFrame { entry, redelivered })),
        2 => gap().prop_map(|gap| ServerFrame::Gap { gap, as_event: false }),
        2 => welcome,
        1 => (reply_to(), rejection, some_text())
            .prop_map(|(reply_to, rejection, message)| ServerFrame::AuthError { reply_to, rejection, message }),
        1 => (reply_to(), millis(), prop::option::of(lanes()), feed_point())
            .prop_map(|(reply_to, next, heads, feed)| ServerFrame::HeartbeatAck { reply_to, next, heads, feed }),
        4 => feed_event().prop_map(|event| ServerFrame::FeedEvent(SharedEvent::new(event))),
        1 => feed_gap().prop_map(|gap| ServerFrame::FeedGap { gap, as_event: false }),
        1 => (any::<u64>(), lanes())
            .prop_map(|(epoch, heads)| ServerFrame::ReplayComplete { epoch: Epoch::from_raw(epoch), heads }),
        1 => (reply_to(), prop::collection::vec(pattern(), 0..3), prop::collection::vec(pattern(), 0..3), channels())
            .prop_map(|(reply_to, patterns, excluded, channels)| ServerFrame::Subscribed { reply_to, patterns, excluded, channels }),
        2 => error,
        1 => (reply_to(), millis(), any::<u32>(), any::<u32>()).prop_map(|(reply_to, retry_after, current, most)| {
            ServerFrame::RateLimit { reply_to, action: "send", retry_after, current, most }
        }),
        1 => millis().prop_map(|delay| ServerFrame::Reconnect { reason: "why", delay }),
        1 => (reply_to(), prop::collection::vec((message_id(), acked), 0..4))
            .prop_map(|(reply_to, results)| ServerFrame::AckResult { reply_to, results }),
        1 => (reply_to(), message_id(), any::<u64>()).prop_map(|(reply_to, id, sequence)| {
            ServerFrame::SendAck { reply_to, sent: Sent { id, status: "QUEUED", sequence } }
        }),
        1 => (reply_to(), object()).prop_map(|(reply_to, payload)| {
            ServerFrame::TaskAnswer { reply_to, kind: "delegate_ack", payload: parsed(&payload) }
        }),
        1 => (reply_to(), prop::collection::vec("[a-z:]{1,9}", 0..3), any::<u32>()).prop_map(|(reply_to, scopes, at)| {
            ServerFrame::AuthRefreshed { reply_to, scopes, expires: Timestamp::from_millis(at.into()) }
        }),
    ]
}

fn time(millis: u64) -> Value {
    json!(Timestamp::from_millis(millis).to_string())
}

fn lane_name(priority: i32) -> &'static str {
    let lane = Lane::ALL.into_iter().find(|lane| i32::from(self::priority(*lane)) == priority);
    lane.unwrap().name()
}

fn named(numbers: &common::LaneNumbers) -> Value {
    let common::LaneNumbers { critical, high, normal, low } = numbers;
    json!({"critical": critical, "high": high, "normal": normal, "low": low})
}

fn shown_point(point: common::FeedPosition) -> Value {
    json!({"epoch": (!point.epoch.is_empty()).then_some(point.epoch), "position": point.sequence})
}

/// What proto3 leaves out stands for a member that JSON leaves out.
fn given(payload: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        payload.insert(name.into(), text.into());
    }
}

/// A binary frame of the server as JSON would say it.
fn told(bytes: &[u8]) -> Value {
    use server_frame::Frame;
    let frame = proto::ServerFrame::decode(bytes).unwrap();
    let mut payload = Map::new();
    let mut put = |name: &str, value: Value| drop(payload.insert(name.into(), value));
    let kind = match frame.frame.unwrap() {
        Frame::Event(event) => {
            put("eventId", event.event_id.into());
            put("eventType", event.event_type.into());
            put("data", parsed(&event.data));
            put("requiresAck", event.feed_position.is_none().into());
            if let Some(position) = event.feed_position {
                put("log", "feed".into());
                put("sequence", position.sequence.into());
                put("epoch", position.epoch.into());
            } else {
                let position = event.position.clone().unwrap();
                put("log", "mailbox".into());
                put("sequence", position.sequence.into());
                put("epoch", position.epoch.clone().into());
                put("lane", lane_name(position.lane).into());
                put("attempt", event.attempt.into());
                put("redelivered", event.redelivered.into());
            }
            put("sentAt", time(frame.time_ms));
            given(&mut payload, "channelId", &event.channel_id);
            given(&mut payload, "traceparent", &event.traceparent);
            given(&mut payload, "senderOrchestratorId", &event.sender_orchestrator_id);
            "event"
        }
        Frame::Gap(gap) if gap.log == "feed" => {
            put("log", "feed".into());
            put("reason", gap.reason.into());
            put("count", gap.count.into());
            if gap.from > 0 {
                put("from", gap.from.into());
                put("to", gap.to.into());
            }
            given(&mut payload, "epoch", &gap.epoch);
            "gap"
        }
        Frame::Gap(gap) => {
            put("eventId", gap.event_id.clone().into());
            put("log", gap.log.into());
            put("reason", gap.reason.clone().into());
            put("count", gap.count.into());
            if gap.reason != "trimmed" {
                put("epoch", gap.epoch.clone().into());
                put("lane", lane_name(gap.lane).into());
                put("from", gap.from.into());
                put("to", gap.to.into());
            }
            "gap"
        }
        Frame::AuthSuccess(welcome) => {
            put("sessionId", welcome.session_id.into());
            put("scopes", json!(welcome.scopes));
            put("serverTime", time(frame.time_ms));
            put("heartbeatIntervalMs", welcome.heartbeat_interval_ms.into());
            put("resumed", welcome.resumed.into());
            put(
                "limits",
                json!({"maxInFlight": welcome.max_in_flight, "maxInFlightBytes": welcome.max_in_flight_bytes}),
            );
            if let Some(gap) = welcome.gap {
                let epoch = (!gap.epoch.is_empty()).then_some(gap.epoch);
                let positions = named(&gap.positions.unwrap());
                put("gap", json!({"reason": "possibly_lost", "epoch": epoch, "positions": positions}));
            }
            if let Some(feed) = welcome.feed {
                put("feed", shown_point(feed));
            }
            given(&mut payload, "epoch", &welcome.epoch);
            given(&mut payload, "reason", &welcome.reason);
            "auth_success"
        }
        Frame::AuthError(error) => {
            put("code", error.code.into());
            put("message", error.message.into());
            "auth_error"
        }
        Frame::HeartbeatAck(ack) => {
            put("serverTime", time(frame.time_ms));
            put("nextHeartbeat", time(ack.next_heartbeat_ms));
            if let Some(heads) = ack.heads {
                put("heads", named(&heads));
                put("asOf", time(frame.time_ms));
            }
            if let Some(feed) = ack.feed {
                put("feed", shown_point(feed));
            }
            "heartbeat_ack"
        }
        Frame::ReplayComplete(complete) => {
            put("log", "mailbox".into());
            put("epoch", complete.epoch.into());
            put("heads", named(&complete.heads.unwrap()));
            "replay_complete"
        }
        Frame::Subscribed(subscribed) => {
            put("eventTypes", json!(subscribed.event_types));
            put("excluded", json!(subscribed.excluded));
            put("channelIds", json!(subscribed.channel_ids));
            "subscribed"
        }
        Frame::Error(error) => {
            put("code", error.code.into());
            put("message", error.message.clone().into());
            let why = if error.reason.is_empty() { error.message } else { error.reason.clone() };
            match (error.field.as_str(), error.reason.as_str()) {
                ("", "") => {}
                ("", reason) => put("details", json!({"error": reason})),
                (field, _) => put("details", json!({"field": field, "error": why})),
            }
            "error"
        }
        Frame::RateLimit(limit) => {
            put("action", limit.action.into());
            put("retryAfter", limit.retry_after.into());
            put("currentRate", limit.current_rate.into());
            put("maxRate", limit.max_rate.into());
            "rate_limit"
        }
        Frame::Reconnect(reconnect) => {
            put("reason", reconnect.reason.into());
            put("delay", reconnect.delay_ms.into());
            "reconnect"
        }
        Frame::AckResult(result) => {
            let one = |outcome: &proto::AckOutcome| json!({"eventId": outcome.event_id, "status": outcome.status});
            put("results", result.results.iter().map(one).collect());
            "ack_result"
        }
        Frame::SendAck(ack) => {
            put("messageId", ack.message_id.into());
            put("status", ack.status.into());
            put("sequence", ack.sequence.into());
            "send_ack"
        }
        Frame::TaskAnswer(answer) => {
            payload = parsed(&answer.payload).as_object().unwrap().clone();
            assert_eq!(answer.r#type, "delegate_ack");
            "delegate_ack"
        }
        Frame::AuthRefreshed(refreshed) => {
            put("scopes", json!(refreshed.scopes));
            put("expiresAt", time(refreshed.expires_ms));
            "auth_refreshed"
        }
    };
    let mut whole = json!({"type": kind, "id": frame.id, "timestamp": time(frame.time_ms), "payload": payload});
    if let Some(reply_to) = frame.reply_to {
        whole["replyTo"] = reply_to.into();
    }
    whole
}

/// A frame in a format, behind something else.
fn encoded(encode: fn(&ServerFrame, FrameStamp, &mut Vec<u8>), frame: &ServerFrame, stamp: FrameStamp) -> Vec<u8> {
    let mut out = b"before".to_vec();
    encode(frame, stamp, &mut out);
    out.split_off(6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_client_says_the_same_in_both_formats(frame in client_frames()) {
        let expected = Ok(Received { id: Some("f1".into()), frame: frame.clone() });
        prop_assert_eq!(&json::decode(&in_json(&frame)), &expected);
        prop_assert_eq!(&binary::decode(in_binary(&frame)), &expected);
    }

    #[test]
    fn the_server_says_the_same_in_both_formats(frame in server_frames(), connection: u64, number: u64, now in 0..9_999_999_999_999u64) {
        let stamp = FrameStamp { connection, number, now: Timestamp::from_millis(now) };
        let json: Value = serde_json::from_slice(&encoded(json::encode, &frame, stamp)).unwrap();
        prop_assert_eq!(told(&encoded(binary::encode, &frame, stamp)), json);
    }

    /// A gap that a client knows only as an event is the same gap.
    #[test]
    fn a_gap_as_an_event_holds_the_gap(gap in gap()) {
        let stamp = FrameStamp { connection: 1, number: 1, now: Timestamp::from_millis(1) };
        let text = |as_event| encoded(json::encode, &ServerFrame::Gap { gap, as_event }, stamp);
        let (plain, event): (Value, Value) = (parsed(&text(false)), parsed(&text(true)));
        prop_assert_eq!(&plain["payload"], &event["payload"]["data"]);
        prop_assert_eq!(&plain["payload"]["eventId"], &event["payload"]["eventId"]);
    }

    #[test]
    fn bytes_break_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        binary::decode(Bytes::from(bytes.clone())).ok();
        json::decode(&String::from_utf8_lossy(&bytes)).ok();
    }

    /// A frame that arrives damaged is a frame or an error, and never a panic.
    #[test]
    fn damaged_frames_break_nothing(frame in client_frames(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
        let mut binary = in_binary(&frame).to_vec();
        let index = at.index(binary.len());
        binary[index] = byte;
        binary.truncate(cut.index(binary.len() + 1));
        binary::decode(Bytes::from(binary)).ok();
        let mut json = in_json(&frame).into_bytes();
        let index = at.index(json.len());
        json[index] = byte;
        json.truncate(cut.index(json.len() + 1));
        json::decode(&String::from_utf8_lossy(&json)).ok();
    }
}

#[test]
fn binary_refusals_name_the_field() {
    use client_frame::Frame;
    let field = |frame: Option<Frame>| {
        let bytes = proto::ClientFrame { id: "f1".into(), frame }.encode_to_vec();
        let error = binary::decode(bytes.into()).unwrap_err();
        assert_eq!(error.reply_to.as_deref(), Some("f1"));
        error.field.unwrap_or_default()
    };
    assert_eq!(field(None), "type");
    assert_eq!(field(Some(Frame::Ack(proto::Ack::default()))), "payload.eventIds");
    let nack = proto::Nack { event_id: "a".into(), delay_ms: u64::MAX, reason: String::new() };
    assert_eq!(field(Some(Frame::Nack(nack))), "payload.delayMs");
    let heartbeat = proto::Heartbeat { status: "sleepy".into(), ..Default::default() };
    assert_eq!(field(Some(Frame::Heartbeat(heartbeat))), "payload.status");
    let heartbeat = proto::Heartbeat { metrics: Bytes::from_static(b"{"), ..Default::default() };
    assert_eq!(field(Some(Frame::Heartbeat(heartbeat))), "payload.metrics");
    let to = Some(send::To::OrchestratorId("otto".into()));
    let send = proto::Send { to: to.clone(), data: Bytes::from_static(b"{\"a\":1,\"a\":2}"), ..Default::default() };
    assert_eq!(field(Some(Frame::Send(send))), "payload.data");
    let send = proto::Send { to, data: Bytes::from_static(b"{}"), priority: 9, ..Default::default() };
    assert_eq!(field(Some(Frame::Send(send))), "payload.priority");
    assert_eq!(field(Some(Frame::Send(proto::Send::default()))), "payload.to");
    let auth = proto::Auth { access_token: "t".into(), daemon_id: "d".into(), ..Default::default() };
    assert_eq!(field(Some(Frame::Auth(auth))), "payload.orchestratorId");
}
