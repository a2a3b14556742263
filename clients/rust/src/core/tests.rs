//! The core driven by hand.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use waystation_domain::{Epoch, Lane, MessageId, Position, Timestamp, Window};

use super::{Actions, Command, Core, Moment, Next, Settings, Ticket, Verdict};
use crate::error::{Disconnect, SendError, Stopped};
use crate::event::Event;
use crate::health::Status;
use crate::journal::Record;
use crate::outgoing::Outgoing;
use crate::token::Token;

const EPOCH: &str = "00000000000000ab";

struct Table {
    core: Core,
    now: Moment,
}

impl Table {
    fn new(keeps_state: bool) -> Table {
        let settings = Settings {
            orchestrator: "o".parse().unwrap(),
            daemon: "d".parse().unwrap(),
            instance: "i".parse().unwrap(),
            name: "test".into(),
            version: "1".into(),
            window: Window::default(),
            subscriptions: None,
            login_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            patience: Duration::from_secs(10),
            message_timeout: Duration::from_secs(10),
            processing_limit: Duration::from_secs(600),
            displace_beyond: None,
        };
        let core = Core::new(settings, keeps_state.then(Default::default));
        let instant: Instant = tokio::time::Instant::now().into_std();
        Table { core, now: Moment { instant, wall: Timestamp::from_millis(1_767_225_600_000) } }
    }

    /// Logged in, with a token that ends in so many seconds.
    fn connected(keeps_state: bool) -> Table {
        let mut table = Table::new(keeps_state);
        table.connect(None);
        table
    }

    fn connect(&mut self, seconds: Option<u64>) -> Value {
        let expires = seconds.map(|seconds| self.now.wall.after(Duration::from_secs(seconds)));
        self.core.opened(&Token { access_token: "t".into(), expires }, self.now);
        let auth = frames(&self.take()).remove(0);
        self.hear(json!({"type": "auth_success", "replyTo": auth["id"], "payload": {
            "sessionId": "s", "heartbeatIntervalMs": 30_000, "epoch": EPOCH, "serverTime": self.now.wall.to_string()}}));
        auth
    }

    fn hear(&mut self, frame: Value) {
        self.core.heard(&frame.to_string().into(), self.now);
    }

    fn mail(&mut self, id: &str, sequence: u64) {
        self.hear(json!({"type": "event", "payload": {"eventId": id, "eventType": "a.b", "data": {}, "log": "mailbox",
            "sequence": sequence, "epoch": EPOCH, "lane": "normal", "attempt": 1, "redelivered": false}}));
    }

    fn take(&mut self) -> Actions {
        self.core.take(self.now)
    }

    fn wait(&mut self, time: Duration) {
        self.now = Moment { instant: self.now.instant + time, wall: self.now.wall.after(time) };
        self.core.tick(self.now);
    }

    fn settle(&mut self, id: &str, sequence: u64, verdict: Verdict) {
        let command = Command::Settle(at(sequence), MessageId::naming(id).unwrap(), verdict);
        self.core.command(command, self.now);
    }

    fn send(&mut self, id: &str) -> oneshot::Receiver<Result<waystation_wire::client::SendAck, SendError>> {
        let (answer, waiting) = oneshot::channel();
        let outgoing = Outgoing::to_orchestrator("otto", &json!({})).unwrap();
        let ticket = Ticket { answer: Some(answer), permit: None, refusals: 0 };
        self.core.command(Command::Send(MessageId::naming(id).unwrap(), outgoing, ticket), self.now);
        waiting
    }
}

fn at(sequence: u64) -> Position {
    Position { epoch: Epoch::from_raw(0xab), lane: Lane::Normal, sequence }
}

fn frames(actions: &Actions) -> Vec<Value> {
    actions.frames.iter().map(|frame| serde_json::from_str(frame).unwrap()).collect()
}

fn kinds(actions: &Actions) -> Vec<String> {
    frames(actions).iter().map(|frame| frame["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_note_comes_before_the_message_and_before_its_ack() {
    let mut table = Table::connected(true);
    table.take();
    table.mail("a", 1);
    let actions = table.take();
    assert!(matches!(actions.records[..], [Record::Begun(position)] if position == at(1)));
    assert_eq!((actions.handed.len(), actions.frames.len()), (1, 0));
    let (done, mut answer) = oneshot::channel();
    table.settle("a", 1, Verdict::Ack(Some(done)));
    let actions = table.take();
    assert!(matches!(actions.records[..], [Record::Applied(position)] if position == at(1)));
    assert_eq!((kinds(&actions), actions.written.len()), (vec!["ack".to_owned()], 1));
    assert!(answer.try_recv().is_err(), "told by the driver, once it is written");
}

#[test]
fn an_ack_whose_outcome_is_wanted_is_asked_for_until_it_is_known() {
    let mut table = Table::connected(false);
    table.mail("a", 1);
    table.take();
    let (done, mut answer) = oneshot::channel();
    table.settle("a", 1, Verdict::Confirm(done));
    let asked = frames(&table.take()).remove(0);
    assert_eq!((&asked["type"], &asked["payload"]["confirm"]), (&json!("ack"), &json!(true)));
    let away =
        json!({"type": "error", "replyTo": asked["id"], "payload": {"code": "INTERNAL_ERROR", "message": "away"}});
    table.hear(away);
    assert!(table.take().frames.is_empty(), "not at once");
    table.hear(json!({"type": "later"}));
    table.wait(Duration::from_secs(14));
    table.hear(json!({"type": "later"}));
    table.wait(Duration::from_secs(16));
    assert_eq!(kinds(&table.take())[..2], ["heartbeat".to_owned(), "ack".to_owned()]);
    table.core.lost(&Disconnect::Resync);
    table.connect(None);
    let asked = frames(&table.take()).into_iter().find(|frame| frame["type"] == "ack").unwrap();
    let known = json!({"type": "ack_result", "replyTo": asked["id"], "payload": {"results": [{"eventId": "a", "status": "ACKED"}]}});
    table.hear(known);
    assert_eq!(answer.try_recv().unwrap(), Ok(true));
}

#[test]
fn silence_is_asked_and_then_left() {
    let mut table = Table::connected(false);
    table.take();
    table.wait(Duration::from_secs(15));
    assert!(table.take().ping);
    table.core.ponged(table.now);
    table.wait(Duration::from_secs(15));
    let actions = table.take();
    assert!(actions.ping && actions.hang_up.is_none());
    table.wait(Duration::from_secs(10));
    assert!(matches!(table.take().hang_up, Some(Disconnect::Silent(_))));
}

#[test]
fn a_login_that_is_not_answered_is_left() {
    let mut table = Table::new(false);
    table.core.opened(&Token { access_token: "t".into(), expires: None }, table.now);
    table.take();
    table.wait(Duration::from_secs(10));
    assert!(matches!(table.take().hang_up, Some(Disconnect::Silent(_))));
}

#[test]
fn a_token_is_renewed_with_a_fifth_of_its_time_left_whatever_the_hosts_clock_says() {
    let mut table = Table::new(false);
    table.connect(Some(100));
    table.take();
    for _ in 0..7 {
        table.wait(Duration::from_secs(10));
        table.hear(json!({"type": "later"}));
        assert!(!table.take().renew);
    }
    table.wait(Duration::from_secs(10));
    assert!(table.take().renew);
    let expires = Some(table.now.wall.after(Duration::from_secs(100)));
    table.core.renewed(Ok(Token { access_token: "t2".into(), expires }), table.now);
    let refresh = frames(&table.take()).into_iter().find(|frame| frame["type"] == "auth_refresh").unwrap();
    // The host's clock jumps an hour ahead: the token is as good as before.
    table.now.wall = table.now.wall.after(Duration::from_secs(3_600));
    table.hear(json!({"type": "heartbeat_ack", "payload": {"serverTime": table.now.wall.before(Duration::from_secs(3_600)).to_string()}}));
    table.hear(json!({"type": "auth_refreshed", "replyTo": refresh["id"], "payload": {"scopes": []}}));
    assert!(table.take().events.contains(&Event::TokenRenewed));
    table.wait(Duration::from_secs(10));
    assert!(!table.take().renew);
}

#[test]
fn messages_wait_for_a_connection_and_go_again_after_it() {
    let mut table = Table::new(false);
    let mut first = table.send("a");
    assert_eq!((table.take().frames.len(), table.core.health().queue_size), (0, 1));
    table.connect(None);
    assert_eq!(kinds(&table.take()), ["send"]);
    assert_eq!(
        table.core.lost(&Disconnect::Silent(Duration::ZERO)),
        Next::Retry { at_least: Duration::ZERO, as_wished: false }
    );
    assert_eq!(table.core.health().status, Status::Disconnected);
    table.connect(None);
    let again = frames(&table.take()).remove(0);
    assert_eq!(again["payload"]["messageId"], "a");
    table.hear(json!({"type": "send_ack", "replyTo": again["id"], "payload": {"messageId": "a", "status": "QUEUED", "sequence": 1}}));
    assert_eq!(first.try_recv().unwrap().unwrap().status, "QUEUED");
    let mut second = table.send("b");
    table.core.stop(&Stopped::Closed);
    assert_eq!(second.try_recv().unwrap(), Err(SendError::Stopped(Stopped::Closed)));
}

#[test]
fn a_full_mailbox_is_tried_five_times() {
    let mut table = Table::connected(false);
    table.take();
    let mut waiting = table.send("a");
    for _ in 0..5 {
        let frame = frames(&table.take()).into_iter().find(|frame| frame["type"] == "send").expect("it goes again");
        let full = json!({"code": "RATE_LIMITED", "message": "full", "details": {"error": "MAILBOX_FULL"}});
        table.hear(json!({"type": "error", "replyTo": frame["id"], "payload": full}));
        table.wait(Duration::from_secs(5));
        table.hear(json!({"type": "later"}));
    }
    assert!(
        matches!(waiting.try_recv().unwrap(), Err(SendError::Refused(refused)) if refused.reason.as_deref() == Some("MAILBOX_FULL"))
    );
}

#[test]
fn a_drained_client_leaves_when_everything_is_settled() {
    let mut table = Table::connected(false);
    table.mail("a", 1);
    table.take();
    table.core.command(Command::Drain, table.now);
    table.mail("b", 2);
    let actions = table.take();
    assert!(actions.handed.is_empty() && !actions.finished, "it takes no more, and waits for what is in hand");
    table.settle("a", 1, Verdict::Ack(None));
    let actions = table.take();
    assert_eq!((kinds(&actions), actions.finished), (vec!["ack".to_owned(), "goodbye".to_owned()], true));
}

#[test]
fn a_message_that_takes_long_is_extended_but_not_for_ever() {
    let mut table = Table::connected(false);
    table.mail("a", 1);
    table.take();
    let extended = |table: &mut Table| {
        table.wait(Duration::from_secs(10));
        table.hear(json!({"type": "later"}));
        kinds(&table.take()).contains(&"extend".to_owned())
    };
    for _ in 0..59 {
        assert!(extended(&mut table));
    }
    assert!(!extended(&mut table), "ten minutes are enough");
}

#[test]
fn how_a_connection_ended_says_what_to_do() {
    let closed = |code| Disconnect::Closed { code, reason: "r".into() };
    let refused = |code: &str| Disconnect::Refused { code: code.into(), message: "m".into() };
    let retry = |seconds, as_wished| Next::Retry { at_least: Duration::from_secs(seconds), as_wished };
    let mut table = Table::new(false);
    let mut judged = |why: &Disconnect| table.core.lost(why);
    for (why, next) in [
        (closed(1006), retry(0, false)),
        (closed(4013), retry(5, false)),
        (closed(4999), retry(0, false)),
        (closed(4003), Next::NewToken),
        (closed(4001), Next::NewToken),
        (refused("TOKEN_EXPIRED"), Next::NewToken),
        (refused("MAX_CONNECTIONS"), retry(60, false)),
        (refused("SOMETHING_NEW"), retry(0, false)),
        (Disconnect::Leaving("restart".into()), retry(0, true)),
        (Disconnect::Resync, retry(0, true)),
        (closed(4009), Next::Stop(Stopped::Gateway { code: 4009, reason: "r".into() })),
    ] {
        assert_eq!(judged(&why), next, "{why:?}");
    }
}

/// Readers of `a.*`, each with room for so many.
fn reading(table: &mut Table, capacities: &[usize]) -> Vec<crate::Subscription> {
    let (commands, _) = tokio::sync::mpsc::channel(8);
    let mut streams = Vec::new();
    for (number, capacity) in (1..).zip(capacities) {
        let patterns = vec!["a.*".parse().unwrap()];
        let (reader, stream) = crate::Subscription::new(number, patterns, Vec::new(), *capacity, commands.downgrade());
        table.core.command(Command::Subscribe(reader), table.now);
        streams.push(stream);
    }
    table.take();
    streams
}

fn feed_event(sequence: u64) -> Value {
    json!({"type": "event", "payload": {"eventId": "e", "eventType": "a.b", "data": {}, "log": "feed",
        "sequence": sequence, "epoch": EPOCH}})
}

#[test]
fn two_slow_readers_both_get_what_they_missed() {
    let mut table = Table::connected(false);
    let _streams = reading(&mut table, &[2, 4]);
    for sequence in 1..=6 {
        table.hear(feed_event(sequence));
    }
    assert_eq!(table.take().events.iter().filter(|event| **event == Event::SlowConsumer).count(), 2);
    table.core.command(Command::Resync(1), table.now);
    table.core.command(Command::Resync(2), table.now);
    assert!(matches!(table.take().hang_up, Some(Disconnect::Resync)));
    table.core.lost(&Disconnect::Resync);
    let auth = table.connect(None);
    assert_eq!(auth["payload"]["resume"]["feed"]["position"], 2, "where the slower one stopped");
}

#[test]
fn a_gap_that_finds_no_room_is_asked_for_again() {
    let mut table = Table::connected(false);
    let streams = reading(&mut table, &[1, 4]);
    table.hear(feed_event(1));
    table.hear(
        json!({"type": "gap", "payload": {"log": "feed", "epoch": EPOCH, "from": 2, "to": 5, "reason": "retention"}}),
    );
    assert_eq!(streams[1].receiver.len(), 2, "who has room hears of it");
    table.core.command(Command::Resync(1), table.now);
    assert!(matches!(table.take().hang_up, Some(Disconnect::Resync)));
    table.core.lost(&Disconnect::Resync);
    let auth = table.connect(None);
    assert_eq!(auth["payload"]["resume"]["feed"]["position"], 1, "before the gap");
}
