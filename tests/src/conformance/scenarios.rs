//! What every client must do.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::gateway::{Conversation, EPOCH};
use super::{Scenario, Stage, give_token};
use crate::adapter::Adapter;

macro_rules! scenarios {
    ($($name:ident)*) => {
        /// All, in the order in which they are played.
        pub const SCENARIOS: &[Scenario] =
            &[$(Scenario { name: stringify!($name), run: |stage| -> BoxFuture<'static, ()> { Box::pin($name(stage)) } }),*];
    };
}

scenarios! {
    messages_are_handed_out_and_acknowledged
    repeats_are_handed_out_once_and_acknowledged_again
    a_reconnect_shows_where_the_client_stopped
    acks_that_could_not_leave_leave_on_the_next_connection
    gaps_are_told_and_acknowledged
    what_the_store_may_have_lost_is_told
    what_is_not_known_is_ignored
    garbage_ends_the_connection_and_not_the_client
    lies_about_positions_end_the_connection
    mail_that_does_not_come_is_missed
    a_gateway_that_is_silent_is_left
    the_token_is_renewed_on_the_open_connection
    close_codes_say_what_to_do
    refused_logins_say_what_to_do
    the_wait_grows_and_a_breaker_opens
    a_gateway_that_leaves_is_left_for_as_long_as_it_says
    messages_are_sent_again_under_the_same_id_and_in_order
    messages_that_are_refused_for_now_are_sent_again
    messages_that_are_refused_for_good_are_told
    messages_that_are_not_answered_are_sent_again_on_another_connection
    clocks_that_differ_are_told
    tokens_end_by_the_clock_of_the_gateway
    what_was_applied_is_known_to_the_next_process
    what_waits_to_be_sent_is_sent_by_the_next_process
    a_damaged_state_is_told
}

fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// A token that only says when it ends.
fn jwt(ends: u64) -> String {
    let part = |value: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(json!({"alg": "none"})), part(json!({"exp": ends})))
}

async fn sees_message(client: &mut Adapter, id: &str) -> Value {
    client.sees_where("message", |seen| seen["id"] == id).await
}

/// The client comes back, and is let in.
async fn back(stage: &Stage) -> (Conversation, Value) {
    let mut conversation = stage.gateway.accept().await;
    let auth = conversation.welcome(json!({})).await;
    (conversation, auth)
}

async fn messages_are_handed_out_and_acknowledged(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[]).await;
    for sequence in 1..=3 {
        gateway.mail(&format!("m-{sequence}"), sequence).await;
    }
    for sequence in 1..=3 {
        let seen = client.sees("message").await;
        assert_eq!((&seen["id"], &seen["data"]["n"]), (&json!(format!("m-{sequence}")), &json!(sequence)), "in order");
    }
    gateway.hear_acks(&["m-1", "m-2", "m-3"]).await;
}

async fn repeats_are_handed_out_once_and_acknowledged_again(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[]).await;
    gateway.mail("m-1", 1).await;
    gateway.hear_acks(&["m-1"]).await;
    gateway.mail("m-1", 1).await;
    gateway.hear_acks(&["m-1"]).await;
    gateway.vanish();
    let (mut gateway, _) = back(&stage).await;
    gateway.mail("m-1", 1).await;
    gateway.mail("m-2", 2).await;
    gateway.hear_acks(&["m-1", "m-2"]).await;
    sees_message(&mut client, "m-2").await;
    let all = client.sees_within("message", Duration::from_millis(100)).await;
    assert_eq!(all.len(), 1, "m-1 once: {all:?}");
}

async fn a_reconnect_shows_where_the_client_stopped(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[("subscribe", "invoice.*")]).await;
    gateway.mail("m-1", 4).await;
    gateway.mail("m-2", 7).await;
    gateway.event("e-1", 30).await;
    gateway.event("e-1", 30).await;
    gateway.event("e-2", 31).await;
    gateway.hear_acks(&["m-1", "m-2"]).await;
    client.sees_where("event", |seen| seen["id"] == "e-2").await;
    gateway.vanish();
    let (mut gateway, auth) = back(&stage).await;
    let resume = &auth["payload"]["resume"];
    assert_eq!(resume["mailbox"]["epoch"], EPOCH, "{auth}");
    assert_eq!(resume["mailbox"]["positions"]["normal"], 7, "{auth}");
    assert_eq!(resume["feed"], json!({"epoch": "00000000000000cd", "position": 31}), "{auth}");
    let wanted = gateway.hear_of("subscribe").await;
    assert_eq!(wanted["payload"]["eventTypes"], json!(["invoice.*"]), "a store may have lost subscriptions");
    gateway.event("e-2", 31).await;
    gateway.event("e-3", 32).await;
    client.sees_where("event", |seen| seen["id"] == "e-3").await;
    let others = client.sees_within("event", Duration::from_millis(100)).await;
    assert_eq!(others.len(), 1, "each event once: {others:?}");
}

async fn acks_that_could_not_leave_leave_on_the_next_connection(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[]).await;
    for sequence in 1..=50 {
        gateway.mail(&format!("m-{sequence}"), sequence).await;
    }
    sees_message(&mut client, "m-50").await;
    // The acks are written, or wait; nobody has read them.
    gateway.vanish();
    let (mut gateway, _) = back(&stage).await;
    for sequence in 1..=50 {
        gateway.mail(&format!("m-{sequence}"), sequence).await;
    }
    let all: Vec<String> = (1..=50).map(|sequence| format!("m-{sequence}")).collect();
    gateway.hear_acks(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn gaps_are_told_and_acknowledged(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[]).await;
    let gap = json!({"eventId": "gap.3", "log": "mailbox", "epoch": EPOCH, "lane": "normal", "from": 1, "to": 4, "reason": "expired", "count": 4});
    gateway.say("gap", gap).await;
    let seen = client.sees("gap").await;
    assert_eq!((&seen["reason"], &seen["count"]), (&json!("expired"), &json!(4)));
    gateway.hear_acks(&["gap.3"]).await;
    gateway.say("gap", json!({"eventId": "gap.4", "log": "mailbox", "reason": "trimmed", "count": 2})).await;
    gateway.hear_acks(&["gap.4"]).await;
    gateway.vanish();
    let (_gateway, auth) = back(&stage).await;
    assert_eq!(auth["payload"]["resume"]["mailbox"]["positions"]["normal"], 4, "a gap was seen: {auth}");
}

async fn what_the_store_may_have_lost_is_told(stage: Stage) {
    let mut client = stage.client(&[]);
    give_token(&mut client, "t").await;
    let mut gateway = stage.gateway.accept().await;
    let lost = json!({"reason": "possibly_lost", "gap": {"reason": "possibly_lost", "epoch": EPOCH, "positions": {"normal": 9}}});
    gateway.welcome(lost).await;
    client.sees("possibly_lost").await;
    let seen = client.sees("connected").await;
    assert_eq!(seen["resumed"], false);
}

async fn what_is_not_known_is_ignored(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[]).await;
    gateway.say("weather", json!({"rain": true})).await;
    gateway.say_text(r#"{"later":[1,{"a":null}],"type":"weather"}"#).await;
    let mut message = Conversation::message("m-1", 1);
    message["later"] = json!({"deep": [1]});
    gateway.say("event", message).await;
    sees_message(&mut client, "m-1").await;
    gateway.hear_acks(&["m-1"]).await;
}

async fn garbage_ends_the_connection_and_not_the_client(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[("attempts", "1000")]).await;
    let nameless =
        json!({"eventType": "a.b", "data": {}, "log": "mailbox", "sequence": 1, "epoch": EPOCH, "lane": "normal"});
    let mut nowhere = Conversation::message("m-1", 1);
    nowhere["sequence"] = json!(0);
    let mut backwards = Conversation::message("m-1", 1);
    backwards["sequence"] = json!(-3);
    let mut laneless = Conversation::message("m-1", 1);
    laneless["lane"] = json!("slow");
    let framed = |payload: Value| json!({"type": "event", "id": "g", "payload": payload}).to_string();
    let garbage = [
        "{",
        "[]",
        "null",
        "{}",
        r#"{"type":7}"#,
        &framed(nameless),
        &framed(nowhere),
        &framed(backwards),
        &framed(laneless),
    ];
    for text in garbage {
        gateway.say_text(text).await;
        gateway.is_left().await;
        client.sees("disconnected").await;
        (gateway, _) = back(&stage).await;
        client.sees("connected").await;
    }
    gateway.say_binary(&[1, 2, 3]).await;
    gateway.is_left().await;
    (gateway, _) = back(&stage).await;
    gateway.mail("m-1", 1).await;
    sees_message(&mut client, "m-1").await;
}

async fn lies_about_positions_end_the_connection(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[("hold", "yes")]).await;
    gateway.mail("m-1", 1).await;
    sees_message(&mut client, "m-1").await;
    gateway.mail("m-other", 1).await;
    gateway.is_left().await;
    client.sees("disconnected").await;
    let (_gateway, _) = back(&stage).await;
    assert!(client.sees_within("message", Duration::from_millis(100)).await.is_empty());
}

/// Heartbeats as fast as clients send them.
fn fast() -> Value {
    json!({"heartbeatIntervalMs": 1_000})
}

async fn mail_that_does_not_come_is_missed(stage: Stage) {
    let mut client = stage.client(&[]);
    give_token(&mut client, "t").await;
    let mut gateway = stage.gateway.accept().await;
    gateway.welcome(fast()).await;
    let heads = |normal: u64| json!({"critical": 0, "high": 0, "normal": normal, "low": 0});
    gateway.say("replay_complete", json!({"log": "mailbox", "epoch": EPOCH, "heads": heads(2)})).await;
    client.sees("connected").await;
    // Five are there, two were sent: once that is chance.
    for _ in 0..2 {
        let beat = gateway.hear_of("heartbeat").await;
        gateway.answer(&beat, "heartbeat_ack", json!({"heads": heads(5)})).await;
    }
    gateway.is_left().await;
    client.sees("disconnected").await;
}

async fn a_gateway_that_is_silent_is_left(mut stage: Stage) {
    let (mut client, gateway) = stage.connected(&[("ping", "300"), ("patience", "300")]).await;
    // It neither reads nor writes, so that pings are not answered.
    client.sees("disconnected").await;
    let (_next, _) = back(&stage).await;
    drop(gateway);
}

async fn the_token_is_renewed_on_the_open_connection(stage: Stage) {
    let mut client = stage.client(&[]);
    give_token(&mut client, &jwt(now() + 12)).await;
    let mut gateway = stage.gateway.accept().await;
    gateway.welcome(json!({})).await;
    client.sees("connected").await;
    let wanted = client.sees("token_wanted").await;
    assert_eq!(wanted["occasion"], "renewal");
    let next = jwt(now() + 3_600);
    client.order(json!({"do": "token", "token": next})).await;
    let refresh = gateway.hear_of("auth_refresh").await;
    assert_eq!(refresh["payload"]["accessToken"], next);
    gateway.answer(&refresh, "auth_refreshed", json!({"scopes": []})).await;
    client.sees("token_renewed").await;
    gateway.mail("m-1", 1).await;
    sees_message(&mut client, "m-1").await;
}

/// Codes, and the shortest wait in seconds.
const RETRIED: &[(u16, u64)] =
    &[(1001, 0), (1011, 0), (4002, 1), (4004, 60), (4008, 1), (4010, 1), (4011, 60), (4012, 1), (4013, 5), (4999, 0)];
const STOPPED: &[u16] = &[1000, 1002, 1007, 1009, 4005, 4006, 4009];

async fn close_codes_say_what_to_do(stage: Stage) {
    for (code, seconds) in RETRIED {
        let mut client = stage.client(&[]);
        give_token(&mut client, "t").await;
        let (gateway, _) = back(&stage).await;
        client.sees("connected").await;
        gateway.close(*code).await;
        let seen = client.sees("disconnected").await;
        let after = seen["afterMs"].as_u64().unwrap();
        assert!(after >= seconds * 1_000 && after <= seconds * 1_250 + 1_000, "{code}: {seen}");
        client.kill().await;
    }
    for code in STOPPED {
        let mut client = stage.client(&[]);
        give_token(&mut client, "t").await;
        let (gateway, _) = back(&stage).await;
        client.sees("connected").await;
        gateway.close(*code).await;
        let seen = client.sees("stopped").await;
        assert!(seen["reason"].as_str().unwrap().contains(&code.to_string()), "{seen}");
        client.kill().await;
    }
    for code in [4001, 4003] {
        let mut client = stage.client(&[]);
        give_token(&mut client, "t").await;
        let (gateway, _) = back(&stage).await;
        client.sees("connected").await;
        gateway.close(code).await;
        let wanted = client.sees("token_wanted").await;
        assert_eq!(wanted["occasion"], "refused", "{code}: another token is needed");
        client.order(json!({"do": "token", "token": "t-2"})).await;
        let (_gateway, auth) = back(&stage).await;
        assert_eq!(auth["payload"]["accessToken"], "t-2");
        client.kill().await;
    }
}

async fn refused_logins_say_what_to_do(stage: Stage) {
    let refuse = async |code: &str, close: u16| {
        let mut gateway = stage.gateway.accept().await;
        let auth = gateway.hear_of("auth").await;
        gateway.answer(&auth, "auth_error", json!({"code": code, "message": "no"})).await;
        gateway.close(close).await;
    };
    let mut client = stage.client(&[]);
    give_token(&mut client, "t").await;
    refuse("TOKEN_EXPIRED", 4003).await;
    give_token(&mut client, "t-2").await;
    let (_gateway, _) = back(&stage).await;
    client.sees("connected").await;
    client.kill().await;

    let mut client = stage.client(&[]);
    give_token(&mut client, "t").await;
    refuse("INSUFFICIENT_SCOPE", 4005).await;
    client.sees("stopped").await;
    client.kill().await;

    let mut client = stage.client(&[]);
    give_token(&mut client, "t").await;
    refuse("MAX_CONNECTIONS", 4004).await;
    assert!(client.sees("disconnected").await["afterMs"].as_u64().unwrap() >= 60_000);
    client.kill().await;

    // Whoever has nothing but refused tokens ends.
    let mut client = stage.client(&[]);
    for _ in 0..3 {
        give_token(&mut client, "t").await;
        refuse("AUTH_FAILED", 4001).await;
    }
    client.sees("stopped").await;
}

async fn the_wait_grows_and_a_breaker_opens(stage: Stage) {
    let mut client = stage.client(&[("backoff", "20"), ("backoff_most", "80"), ("attempts", "6"), ("rest", "400")]);
    give_token(&mut client, "t").await;
    for (failures, most) in [(1, 20), (2, 40), (3, 80), (4, 80), (5, 80)] {
        stage.gateway.turn_away().await;
        let seen = client.sees("disconnected").await;
        assert_eq!(seen["failures"], failures);
        assert!(seen["afterMs"].as_u64().unwrap() <= most, "{seen}");
    }
    stage.gateway.turn_away().await;
    assert!(client.sees("disconnected").await["afterMs"].as_u64().unwrap() >= 400);
    client.sees_where("breaker", |seen| seen["state"] == "open").await;
    let (mut gateway, _) = back(&stage).await;
    client.sees_where("breaker", |seen| seen["state"] == "closed").await;
    gateway.mail("m-1", 1).await;
    sees_message(&mut client, "m-1").await;
}

async fn a_gateway_that_leaves_is_left_for_as_long_as_it_says(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[]).await;
    gateway.say("reconnect", json!({"reason": "restart", "delay": 700})).await;
    let begun = tokio::time::Instant::now();
    gateway.is_left().await;
    let seen = client.sees("disconnected").await;
    assert!(seen["afterMs"].as_u64().unwrap() >= 700, "{seen}");
    let (_gateway, _) = back(&stage).await;
    assert!(begun.elapsed() >= Duration::from_millis(690));
}

async fn send(client: &mut Adapter, id: &str) {
    client.order(json!({"do": "send", "id": id, "to": "otto", "data": {"id": id}})).await;
}

async fn hear_sends(gateway: &mut Conversation, wanted: &[&str]) -> Vec<Value> {
    let mut heard = Vec::new();
    for id in wanted {
        let frame = gateway.hear_of("send").await;
        assert_eq!(
            (&frame["payload"]["messageId"], &frame["payload"]["to"]["orchestratorId"]),
            (&json!(id), &json!("otto"))
        );
        heard.push(frame);
    }
    heard
}

async fn accept(gateway: &mut Conversation, frame: &Value) {
    let payload = json!({"messageId": frame["payload"]["messageId"], "status": "QUEUED", "sequence": 1});
    gateway.answer(frame, "send_ack", payload).await;
}

async fn messages_are_sent_again_under_the_same_id_and_in_order(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[]).await;
    for id in ["a", "b", "c"] {
        send(&mut client, id).await;
    }
    let heard = hear_sends(&mut gateway, &["a", "b", "c"]).await;
    accept(&mut gateway, &heard[0]).await;
    client.sees_where("accepted", |seen| seen["id"] == "a").await;
    gateway.vanish();
    client.sees("disconnected").await;
    client.order(json!({"do": "send", "id": "d", "to": "otto", "data": {}, "priority": "critical"})).await;
    // While nobody is there the urgent one goes before.
    let (mut gateway, _) = back(&stage).await;
    for frame in hear_sends(&mut gateway, &["d", "b", "c"]).await {
        accept(&mut gateway, &frame).await;
    }
    for id in ["b", "c", "d"] {
        client.sees_where("accepted", |seen| seen["id"] == id).await;
    }
    client.order(json!({"do": "stop"})).await;
    gateway.hear_of("goodbye").await;
    client.sees("ended").await;
}

async fn messages_that_are_refused_for_now_are_sent_again(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[]).await;
    send(&mut client, "a").await;
    let heard = hear_sends(&mut gateway, &["a"]).await;
    gateway
        .answer(&heard[0], "rate_limit", json!({"action": "send", "retryAfter": 1, "currentRate": 2, "maxRate": 1}))
        .await;
    let begun = tokio::time::Instant::now();
    let heard = hear_sends(&mut gateway, &["a"]).await;
    assert!(begun.elapsed() >= Duration::from_millis(900), "not before the gateway takes it");
    gateway.answer(&heard[0], "error", json!({"code": "INTERNAL_ERROR", "message": "the store is away"})).await;
    let heard = hear_sends(&mut gateway, &["a"]).await;
    accept(&mut gateway, &heard[0]).await;
    client.sees_where("accepted", |seen| seen["id"] == "a").await;
}

async fn messages_that_are_refused_for_good_are_told(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[]).await;
    send(&mut client, "a").await;
    let heard = hear_sends(&mut gateway, &["a"]).await;
    let error = json!({"code": "INVALID_MESSAGE", "message": "used before", "details": {"field": "payload.messageId", "error": "MESSAGE_ID_REUSED"}});
    gateway.answer(&heard[0], "error", error).await;
    let seen = client.sees("refused").await;
    assert!(seen["id"] == "a" && seen["reason"].as_str().unwrap().contains("used before"), "{seen}");
}

async fn clocks_that_differ_are_told(stage: Stage) {
    let mut client = stage.client(&[]);
    give_token(&mut client, &jwt(now() + 3_600)).await;
    let mut gateway = stage.gateway.accept().await;
    gateway.welcome(json!({"serverTime": "2020-01-01T00:00:00Z"})).await;
    client.sees("clock_skew").await;
    client.sees("connected").await;
    gateway.mail("m-1", 1).await;
    sees_message(&mut client, "m-1").await;
}

async fn messages_that_are_not_answered_are_sent_again_on_another_connection(mut stage: Stage) {
    let (mut client, mut gateway) = stage.connected(&[("message_timeout", "300")]).await;
    send(&mut client, "a").await;
    hear_sends(&mut gateway, &["a"]).await;
    // It answers everything but that.
    gateway.is_left().await;
    let (mut gateway, _) = back(&stage).await;
    let heard = hear_sends(&mut gateway, &["a"]).await;
    accept(&mut gateway, &heard[0]).await;
    client.sees_where("accepted", |seen| seen["id"] == "a").await;
}

/// 2020-01-01, in seconds.
const LONG_AGO: u64 = 1_577_836_800;

async fn tokens_end_by_the_clock_of_the_gateway(stage: Stage) {
    let mut client = stage.client(&[]);
    give_token(&mut client, &jwt(LONG_AGO + 5)).await;
    let mut gateway = stage.gateway.accept().await;
    gateway.welcome(json!({"serverTime": "2020-01-01T00:00:00Z"})).await;
    client.sees("connected").await;
    let begun = tokio::time::Instant::now();
    give_token(&mut client, &jwt(LONG_AGO + 3_600)).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "it is good for five seconds");
    let refresh = gateway.hear_of("auth_refresh").await;
    gateway.answer(&refresh, "auth_refreshed", json!({"scopes": []})).await;
    client.sees("token_renewed").await;
    assert!(
        client.sees_within("token_wanted", Duration::from_secs(2)).await.is_empty(),
        "the next is good for an hour"
    );
}

async fn what_was_applied_is_known_to_the_next_process(mut stage: Stage) {
    let state = stage.dir.path().join("state").to_str().unwrap().to_owned();
    let options = [("state_file", state.as_str())];
    let (client, mut gateway) = stage.connected(&options).await;
    gateway.mail("m-1", 1).await;
    gateway.hear_acks(&["m-1"]).await;
    client.kill().await;
    gateway.is_left().await;
    let held = [("state_file", state.as_str()), ("hold", "yes")];
    let (mut client, mut gateway) = stage.connected(&held).await;
    gateway.mail("m-1", 1).await;
    gateway.mail("m-2", 2).await;
    let seen = client.sees("message").await;
    assert_eq!((&seen["id"], &seen["inDoubt"]), (&json!("m-2"), &json!(false)), "m-1 was applied");
    gateway.hear_acks(&["m-1"]).await;
    client.kill().await;
    gateway.is_left().await;
    let mut client = stage.client(&options);
    give_token(&mut client, "t").await;
    let (mut gateway, auth) = back(&stage).await;
    assert_eq!(auth["payload"]["resume"]["mailbox"]["positions"]["normal"], 2, "{auth}");
    gateway.mail("m-2", 2).await;
    let seen = client.sees("message").await;
    assert_eq!((&seen["id"], &seen["inDoubt"]), (&json!("m-2"), &json!(true)), "it may have been applied");
    gateway.hear_acks(&["m-2"]).await;
}

async fn what_waits_to_be_sent_is_sent_by_the_next_process(stage: Stage) {
    let state = stage.dir.path().join("state").to_str().unwrap().to_owned();
    let options = [("state_file", state.as_str())];
    let mut client = stage.client(&options);
    // It has no token, so no connection.
    client.sees("token_wanted").await;
    for id in ["a", "b"] {
        send(&mut client, id).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.kill().await;
    let mut client = stage.client(&options);
    give_token(&mut client, "t").await;
    let (mut gateway, _) = back(&stage).await;
    for frame in hear_sends(&mut gateway, &["a", "b"]).await {
        accept(&mut gateway, &frame).await;
    }
}

async fn a_damaged_state_is_told(mut stage: Stage) {
    let state = stage.dir.path().join("state");
    let options = [("state_file", state.to_str().unwrap())];
    let (client, mut gateway) = stage.connected(&options).await;
    gateway.mail("m-1", 1).await;
    gateway.hear_acks(&["m-1"]).await;
    client.kill().await;
    damage(&state);
    let mut client = stage.client(&options);
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let until = tokio::time::Instant::now() + Duration::from_secs(10);
            let seen = client.next(until).await.expect("it tells of the damage");
            // It stops, or says that it goes on without.
            if seen["saw"] == "stopped" || seen["what"].as_str().is_some_and(|what| what.contains("CORRUPT")) {
                return;
            }
        }
    });
    told.await.expect("it tells of the damage in time");
}

/// Damages a file in its middle, or the files of a directory.
fn damage(path: &std::path::Path) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            damage(&entry.unwrap().path());
        }
        return;
    }
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 3;
    bytes.iter_mut().skip(middle).take(8).for_each(|byte| *byte = b'#');
    std::fs::write(path, bytes).unwrap();
}
