//! Lets the conformance kit drive this client: orders on stdin, observations on stdout, one JSON object a line
//! (docs/clients.md, "Conformance").
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use waystation_client::{
    Client, ConnectOptions, Event, FeedNews, Lane, Outgoing, RetryPolicy, Subscription, Token, TokenError,
};

fn saw(what: Value) {
    // One write, so that lines stay whole.
    println!("{what}");
}

fn millis(options: &HashMap<String, String>, name: &str, default: u64) -> Duration {
    Duration::from_millis(options.get(name).map_or(default, |text| text.parse().unwrap()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "new kinds may come")]
fn told(event: &Event) {
    match event {
        Event::Connected { session, resumed, .. } => {
            saw(json!({"saw": "connected", "session": session.as_str(), "resumed": resumed}));
        }
        Event::Disconnected { reason, after, failures } => saw(json!({
            "saw": "disconnected", "reason": reason.to_string(), "afterMs": after.as_millis() as u64, "failures": failures,
        })),
        Event::Breaker(breaker) => saw(json!({"saw": "breaker", "state": format!("{breaker:?}").to_lowercase()})),
        Event::Gap(gap) => saw(json!({"saw": "gap", "reason": gap.reason, "count": gap.count})),
        Event::PossiblyLost => saw(json!({"saw": "possibly_lost"})),
        Event::TokenRenewed => saw(json!({"saw": "token_renewed"})),
        Event::Replayed => saw(json!({"saw": "replayed"})),
        Event::ClockSkew { .. } => saw(json!({"saw": "clock_skew"})),
        Event::Stopped(why) => saw(json!({"saw": "stopped", "reason": why.to_string()})),
        _ => saw(json!({"saw": "other", "what": format!("{event:?}")})),
    }
}

async fn read(client: Client, mut subscription: Subscription) {
    let _alive = client;
    while let Some(Ok(news)) = subscription.next().await {
        match news {
            FeedNews::Event(event) => saw(json!({
                "saw": "event", "id": event.id.as_str(), "type": event.event_type.as_str(),
                "data": serde_json::from_slice::<Value>(&event.data).unwrap(),
            })),
            FeedNews::Gap(gap) => saw(json!({"saw": "feed_gap", "reason": gap.reason})),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options: HashMap<String, String> =
        std::env::args().skip(1).map(|pair| pair.split_once('=').map(|(a, b)| (a.into(), b.into())).unwrap()).collect();
    let (give, tokens) = mpsc::channel::<String>(8);
    let tokens = Arc::new(tokio::sync::Mutex::new(tokens));
    let asked = Arc::new(Mutex::new(0));
    let retry = RetryPolicy {
        first: millis(&options, "backoff", 1_000),
        most: millis(&options, "backoff_most", 60_000),
        attempts: options.get("attempts").map_or(10, |text| text.parse().unwrap()),
        rest: millis(&options, "rest", 60_000),
    };
    let mut connecting = ConnectOptions::new(&options["url"], &options["orchestrator"], &options["daemon"])
        .retry(retry)
        .ping(millis(&options, "ping", 15_000), millis(&options, "patience", 10_000))
        .connect_timeout(millis(&options, "timeout", 10_000))
        .message_timeout(millis(&options, "message_timeout", 10_000))
        .on_event(told)
        .token_callback(move |occasion| {
            let tokens = tokens.clone();
            *asked.lock().unwrap() += 1;
            saw(json!({"saw": "token_wanted", "occasion": format!("{occasion:?}").to_lowercase()}));
            async move {
                match tokens.lock().await.recv().await.as_deref() {
                    Some("") | None => Err(TokenError::ForNow("there is none now".into())),
                    Some(token) => Ok(Token::of_jwt(token)),
                }
            }
        });
    if let Some(path) = options.get("state_file") {
        connecting = connecting.state_file(path);
    }
    let subscribed = options.get("subscribe").map(|patterns| {
        let patterns: Vec<&str> = patterns.split(',').collect();
        connecting.subscribe(&patterns, &[]).unwrap()
    });
    let client = match connecting.connect().await {
        Ok(client) => client,
        Err(error) => return saw(json!({"saw": "stopped", "reason": error.to_string()})),
    };
    let tasks = TaskTracker::new();
    if let Some(subscription) = subscribed {
        tasks.spawn(read(client.clone(), subscription));
    }
    let mut messages = client.messages();
    let hold = options.contains_key("hold");
    tasks.spawn(async move {
        let mut held = Vec::new();
        while let Some(Ok(message)) = messages.next().await {
            saw(json!({
                "saw": "message", "id": message.id.as_str(), "inDoubt": message.in_doubt(),
                "data": serde_json::from_slice::<Value>(&message.data).unwrap(),
            }));
            if hold {
                held.push(message);
            } else {
                message.ack().await.ok();
            }
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let order: Value = serde_json::from_str(&line).unwrap();
        match order["do"].as_str().unwrap() {
            "token" => give.send(order["token"].as_str().unwrap_or_default().to_owned()).await.unwrap(),
            "send" => {
                let to = order["to"].as_str().unwrap();
                let mut outgoing = Outgoing::to_orchestrator(to, &order["data"]).unwrap();
                if let Some(id) = order["id"].as_str() {
                    outgoing = outgoing.id(id).unwrap();
                }
                if let Some(lane) = order["priority"].as_str() {
                    outgoing = outgoing.lane(Lane::from_name(lane).unwrap());
                }
                let client = client.clone();
                match client.enqueue(outgoing).await {
                    Ok(sending) => {
                        tasks.spawn(async move {
                            let id = sending.id().clone();
                            match sending.accepted().await {
                                Ok(_) => saw(json!({"saw": "accepted", "id": id.as_str()})),
                                Err(error) => {
                                    saw(json!({"saw": "refused", "id": id.as_str(), "reason": error.to_string()}));
                                }
                            }
                        });
                    }
                    Err(error) => saw(json!({"saw": "refused", "id": order["id"], "reason": error.to_string()})),
                }
            }
            "stop" => {
                let why = client.drain().await;
                saw(json!({"saw": "ended", "reason": why.to_string()}));
                break;
            }
            unknown => panic!("no such order: {unknown}"),
        }
    }
}
