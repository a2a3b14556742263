//! Both ends agree: what one writes the other reads.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use waystation_domain::{
    Entry, Epoch, ExitReason, FeedPoint, FeedPosition, Gap, GapRange, Lane, MessageId, PerLane, Position,
    ReportedStatus, ResumePoint, ResumeVerdict, Timestamp, Window,
};

use super::*;
use crate::frame::{
    Ack, AckStatus, Addressee, AuthRejection, ClientFrame, ErrorCode, EventFrame, Heartbeat, LossNotice, Sent,
    ServerFrame,
};
use crate::{FrameStamp, json};

const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_123);

fn read_by_gateway(frame: &Outbound<'_>) -> ClientFrame {
    let received = json::decode(&encode(frame, "7", NOW)).unwrap();
    assert_eq!(received.id.as_deref(), Some("7"));
    received.frame
}

fn written_by_gateway(frame: &ServerFrame) -> Bytes {
    let mut out = Vec::new();
    json::encode(frame, FrameStamp { connection: 1, number: 2, now: NOW }, &mut out);
    out.into()
}

fn told(frame: &ServerFrame) -> Told {
    decode(&written_by_gateway(frame)).unwrap().told
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn epoch() -> Epoch {
    Epoch::from_raw(0xab)
}

fn id(text: &str) -> MessageId {
    MessageId::naming(text).unwrap()
}

#[test]
fn a_login_says_all_that_the_gateway_reads() {
    let positions = PerLane::from_fn(|lane| if lane == Lane::High { 9 } else { 0 });
    let (daemon, orchestrator, instance) = ("d".parse().unwrap(), "o".parse().unwrap(), "i".parse().unwrap());
    let feed = FeedPoint { epoch: None, sequence: 0 };
    let mailbox = ResumePoint { epoch: Some(epoch()), positions };
    let frame = Outbound::Auth {
        access_token: "t\"",
        daemon_id: &daemon,
        orchestrator_id: &orchestrator,
        client: Announced { name: "x", version: "1", instance: &instance },
        max_in_flight: 10,
        max_in_flight_bytes: 1 << 20,
        subscriptions: Some(vec!["a.*"]),
        resume: Remembered { mailbox: Some(mailbox), feed: Some(feed) },
    };
    let ClientFrame::Auth(auth) = read_by_gateway(&frame) else { panic!("auth") };
    assert_eq!((auth.access_token.as_str(), auth.daemon, auth.orchestrator), ("t\"", daemon, orchestrator));
    assert_eq!((auth.resume, auth.resume_feed), (Some(mailbox), Some(feed)));
    assert_eq!(auth.window, Window { entries: 10, bytes: 1 << 20 });
    assert_eq!((auth.instance, auth.subscriptions.map(|all| all.len())), (Some(instance), Some(1)));
    assert!(auth.announces_client && auth.knows_gaps);
}

#[test]
fn what_was_never_seen_is_not_remembered() {
    let never = ResumePoint { epoch: None, positions: PerLane::default() };
    let remembered = serde_json::to_string(&Remembered { mailbox: Some(never), feed: None }).unwrap();
    assert_eq!(remembered, "{}");
}

#[test]
fn the_gateway_reads_every_other_frame_of_a_client() {
    let (a, data) = (id("a"), raw(r#"{ "n" : 1.50 }"#));
    let frame = Outbound::Heartbeat { status: Some(ReportedStatus::Busy), metrics: Some(&data) };
    let metrics = Some(Bytes::from_static(br#"{ "n" : 1.50 }"#));
    assert_eq!(
        read_by_gateway(&frame),
        ClientFrame::Heartbeat(Heartbeat { status: Some(ReportedStatus::Busy), metrics: metrics.clone() })
    );
    let channels = ["c".parse().unwrap()];
    let subscribe = Outbound::Subscribe { event_types: vec!["a.*", "b"], channel_ids: &channels };
    let ClientFrame::Subscribe { patterns, channels } = read_by_gateway(&subscribe) else { panic!("subscribe") };
    assert_eq!((patterns.len(), channels.len()), (2, 1));
    let unsubscribe = Outbound::Unsubscribe { event_types: vec!["*"] };
    assert!(matches!(read_by_gateway(&unsubscribe), ClientFrame::Unsubscribe { .. }));
    let ids = vec![id("a"), id("gap.3")];
    let ack = Outbound::Ack { event_ids: &ids, confirm: true };
    assert_eq!(read_by_gateway(&ack), ClientFrame::Ack(Ack { ids, confirm: true, ..Ack::default() }));
    let nack = Outbound::Nack { event_id: &a, delay_ms: 50, reason: "" };
    assert_eq!(read_by_gateway(&nack), ClientFrame::Nack { id: a.clone(), delay: Duration::from_millis(50) });
    let reject = Outbound::Reject { event_id: &a, reason: "no" };
    assert_eq!(read_by_gateway(&reject), ClientFrame::Reject { id: a.clone(), reason: "no".into() });
    assert_eq!(read_by_gateway(&Outbound::Extend { event_id: &a }), ClientFrame::Extend { id: a.clone() });
    let refresh = Outbound::AuthRefresh { access_token: "t" };
    assert_eq!(read_by_gateway(&refresh), ClientFrame::AuthRefresh { access_token: "t".into() });
    assert_eq!(read_by_gateway(&Outbound::Goodbye { reason: "" }), ClientFrame::Goodbye);
    let to = Addressee::Channel("c".parse().unwrap());
    let send = Outbound::Send {
        to: &to,
        event_type: Some("a.b"),
        data: &data,
        priority: Lane::High.name(),
        message_id: &a,
        ttl_ms: Some(5),
    };
    let ClientFrame::Send(sent) = read_by_gateway(&send) else { panic!("send") };
    assert_eq!((sent.to, sent.lane, sent.id), (to, Lane::High, Some(a)));
    assert_eq!((Some(sent.data), sent.time_to_live), (metrics, Some(Duration::from_millis(5))));
    let call = encode_call("context_get", &raw(r#"{"delegationId":"d"}"#), "8", NOW);
    let ClientFrame::Task(call) = json::decode(&call).unwrap().frame else { panic!("task") };
    assert_eq!(&call.payload[..], br#"{"delegationId":"d"}"#);
}

#[test]
fn a_message_shares_the_memory_of_its_frame() {
    let position = Position { epoch: epoch(), lane: Lane::Low, sequence: 3 };
    let entry = Entry {
        position,
        id: id("m-1"),
        event_type: "message.received".parse().unwrap(),
        channel: Some("c1".parse().unwrap()),
        data: Bytes::from_static(br#"{ "odd" : 1.50, "u":"\u00e9" }"#),
        attempt: 2,
        trace: None,
        sender: Some("otto".parse().unwrap()),
        accepted: NOW,
    };
    let frame = written_by_gateway(&ServerFrame::Event(EventFrame { entry: entry.clone(), redelivered: true }));
    let Told::Mail(mail) = decode(&frame).unwrap().told else { panic!("mail") };
    assert_eq!((mail.position, mail.attempt, mail.redelivered), (position, 2, true));
    assert_eq!((&mail.id, &mail.channel, &mail.sender), (&entry.id, &entry.channel, &entry.sender));
    assert_eq!(mail.data, entry.data);
    let within = frame.as_ptr_range();
    assert!(within.contains(&mail.data.as_ptr()), "not copied");
}

#[test]
fn a_client_reads_how_it_was_welcomed() {
    let welcome = |verdict, lost, feed| ServerFrame::AuthSuccess {
        reply_to: Some("1".into()),
        session: "s".parse().unwrap(),
        scopes: vec!["messages:read".into()],
        heartbeat_interval: Duration::from_secs(30),
        epoch: Some(epoch()),
        verdict,
        window: Window::default(),
        lost,
        feed,
    };
    let point = FeedPoint { epoch: Some(epoch()), sequence: 4 };
    let Told::Welcome(resumed) = told(&welcome(ResumeVerdict::Resumed, None, Some(point))) else { panic!("welcome") };
    assert!(resumed.resumed && !resumed.possibly_lost && resumed.reason.is_none());
    assert_eq!((resumed.feed, resumed.epoch), (Some(point), Some(epoch())));
    assert_eq!((resumed.server_time, resumed.heartbeat_interval), (Some(NOW), 30_000));
    assert_eq!(resumed.window, Some(Window::default()));
    let lost = LossNotice { seen: PerLane::default(), epoch: None };
    let never = FeedPoint { epoch: None, sequence: 0 };
    let doubted = told(&welcome(ResumeVerdict::PossiblyLost, Some(lost), Some(never)));
    let Told::Welcome(doubted) = doubted else { panic!("welcome") };
    assert!(!doubted.resumed && doubted.possibly_lost);
    assert_eq!((doubted.reason.as_deref(), doubted.feed), (Some("possibly_lost"), Some(never)));
}

#[test]
fn a_client_reads_gaps() {
    let range = GapRange { reason: ExitReason::Expired, lane: Lane::High, from: 2, to: 5, epoch: epoch() };
    let gap = |left| ServerFrame::Gap { gap: Gap { position: 7, left, count: 4 }, as_event: false };
    let Told::Gap(notice) = told(&gap(Some(range))) else { panic!("gap") };
    assert_eq!((notice.id, notice.reason.as_str(), notice.count), (Some(id("gap.7")), "expired", 4));
    assert_eq!(notice.span, Some(GapSpan { epoch: epoch(), lane: Some(Lane::High), from: 2, to: 5 }));
    let Told::Gap(trimmed) = told(&gap(None)) else { panic!("gap") };
    assert_eq!((trimmed.reason.as_str(), trimmed.span), ("trimmed", None));
}

#[test]
fn a_client_reads_answers() {
    let answer = |frame: &ServerFrame| decode(&written_by_gateway(frame)).unwrap();
    let reply_to = Some("f".to_owned());
    let heads = PerLane::from_fn(|lane| lane as u64);
    let feed = Some(FeedPoint { epoch: Some(epoch()), sequence: 1 });
    let beat = ServerFrame::HeartbeatAck {
        reply_to: reply_to.clone(),
        next: Duration::from_secs(1),
        heads: Some(heads),
        feed,
    };
    let expected = HeartbeatAck { server_time: Some(NOW), heads: Some(heads), feed };
    assert_eq!(answer(&beat), Inbound { reply_to: reply_to.clone(), told: Told::HeartbeatAck(expected) });
    assert_eq!(told(&ServerFrame::ReplayComplete { epoch: epoch(), heads }), Told::ReplayComplete { heads });
    let error = ServerFrame::Error {
        reply_to: reply_to.clone(),
        code: ErrorCode::InvalidMessage,
        message: "no".into(),
        field: Some("payload.x".into()),
        reason: Some("MAILBOX_FULL"),
    };
    let Told::Error(refused) = told(&error) else { panic!("error") };
    assert_eq!((refused.code.as_str(), refused.message.as_str()), ("INVALID_MESSAGE", "no"));
    assert_eq!((refused.field.as_deref(), refused.reason.as_deref()), (Some("payload.x"), Some("MAILBOX_FULL")));
    let results = vec![(id("a"), AckStatus::Acked), (id("b"), AckStatus::Stale)];
    let judged = vec![(id("a"), true), (id("b"), false)];
    let acked = ServerFrame::AckResult { reply_to: reply_to.clone(), results };
    assert_eq!(told(&acked), Told::AckResult(AckResult { results: judged }));
    let sent = Sent { id: id("m"), status: "QUEUED", sequence: 3 };
    let accepted = SendAck { id: id("m"), status: "QUEUED".into(), sequence: 3 };
    assert_eq!(told(&ServerFrame::SendAck { reply_to: reply_to.clone(), sent }), Told::SendAck(accepted));
    let renewed = ServerFrame::AuthRefreshed { reply_to: reply_to.clone(), scopes: vec![], expires: NOW };
    assert_eq!(told(&renewed), Told::AuthRefreshed(AuthRefreshed { expires: Some(NOW) }));
    let reconnect = ServerFrame::Reconnect { reason: "r", delay: Duration::from_millis(9) };
    assert_eq!(told(&reconnect), Told::Reconnect { reason: "r".into(), delay: 9 });
    let limited = ServerFrame::RateLimit {
        reply_to: reply_to.clone(),
        action: "send",
        retry_after: Duration::from_millis(1_500),
        current: 2,
        most: 1,
    };
    assert_eq!(told(&limited), Told::RateLimit { action: "send".into(), retry_after: 2 });
    let refused = ServerFrame::AuthError { reply_to, rejection: AuthRejection::TokenExpired, message: "late".into() };
    let expected = AuthRefused { code: "TOKEN_EXPIRED".into(), message: "late".into() };
    assert_eq!(told(&refused), Told::AuthRefused(expected));
}

#[test]
fn what_is_not_known_is_kept_as_it_is() {
    let frame = Bytes::from_static(br#"{"later":[1],"type":"news","payload":{"a": 1},"replyTo":"x"}"#);
    let Inbound { reply_to, told } = decode(&frame).unwrap();
    assert_eq!(reply_to.as_deref(), Some("x"));
    assert_eq!(told, Told::Other { kind: "news".into(), payload: Bytes::from_static(br#"{"a": 1}"#) });
    let frame = Bytes::from_static(
        br#"{"type":"event","payload":{"eventId":"a","eventType":"a.b","data":{},"log":"feed","sequence":1,"epoch":"00000000000000ab","later":{}}}"#,
    );
    let Told::Event(event) = decode(&frame).unwrap().told else { panic!("event") };
    assert_eq!(event.position, FeedPosition { epoch: epoch(), sequence: 1 });
}

#[test]
fn garbage_names_its_field() {
    let field =
        |text: &'static str| decode(&Bytes::from_static(text.as_bytes())).unwrap_err().field.unwrap_or_default();
    assert_eq!(field("no JSON"), "");
    assert_eq!(field("{}"), "type");
    assert_eq!(field(r#"{"type":7}"#), "type");
    assert_eq!(field(r#"{"type":"event"}"#), "payload.eventId");
    assert_eq!(field(r#"{"type":"event","payload":[]}"#), "payload");
    let event = |rest: &str| {
        let text = format!(
            r#"{{"type":"event","payload":{{"eventId":"a","eventType":"a.b","data":{{}},"log":"mailbox",{rest}}}}}"#
        );
        decode(&text.into()).unwrap_err().field.unwrap_or_default()
    };
    assert_eq!(event(r#""sequence":0,"epoch":"00000000000000ab","lane":"low""#), "payload.sequence");
    assert_eq!(event(r#""sequence":-1,"epoch":"00000000000000ab","lane":"low""#), "payload.sequence");
    assert_eq!(event(r#""sequence":1,"epoch":"x","lane":"low""#), "payload.epoch");
    assert_eq!(event(r#""sequence":1,"epoch":"00000000000000ab""#), "payload.lane");
    assert_eq!(event(r#""sequence":1,"epoch":"00000000000000ab","lane":"slow""#), "payload.lane");
    assert_eq!(field(r#"{"type":"gap","payload":{"log":"mailbox","reason":"dead"}}"#), "payload.eventId");
    assert_eq!(field(r#"{"type":"send_ack","payload":{"messageId":"a b","status":"QUEUED"}}"#), "payload.messageId");
}
