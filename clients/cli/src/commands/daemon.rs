//! A daemon that prints.

use std::process::ExitCode;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use waystation_client::{Client, ConnectOptions, Delivery, Event, FeedNews, Stopped, Subscription};

use super::Done;
use crate::arguments::Listen;
use crate::failure::Failure;
use crate::place::Place;
use crate::show::{Show, data};

/// Options of a daemon at this place.
pub(super) fn options(place: &Place, orchestrator: &str, daemon: &str) -> Result<ConnectOptions, Failure> {
    let (id, secret) = place.api_key()?;
    let options = ConnectOptions::new(&place.gateway_url()?, orchestrator, daemon).api_key(&id, &secret);
    Ok(options.client_name("waystation-cli", env!("CARGO_PKG_VERSION")))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what else happens is of no matter here; new kinds may come")]
fn tell(event: &Event) {
    match event {
        Event::Connected { session, resumed, standby, .. } => {
            let how = if *resumed { "resumed" } else { "new" };
            let role = if *standby { ", on standby: another session has the mailbox" } else { "" };
            eprintln!("connected, session {session}, {how}{role}");
        }
        Event::Disconnected { reason, after, .. } => eprintln!("{reason}; again in {after:.1?}"),
        Event::Gap(gap) => eprintln!("gap: {} {}", gap.count, gap.reason),
        Event::PossiblyLost => eprintln!("the store may have lost what was seen"),
        Event::ClockSkew { gateway, here } => eprintln!("the clocks differ: gateway {gateway}, here {here}"),
        Event::LameDuck { reason, .. } => eprintln!("the gateway leaves: {reason}"),
        _ => {}
    }
}

async fn next_event(subscription: &mut Option<Subscription>) -> Option<Result<FeedNews, Stopped>> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn listen(place: &Place, show: Show, wanted: Listen) -> Done {
    let mut connecting = options(place, &wanted.orchestrator, &wanted.daemon)?.on_event(tell);
    if let Some(path) = wanted.state_file {
        connecting = connecting.state_file(path);
    }
    let events: Vec<&str> = wanted.events.iter().map(String::as_str).collect();
    let mut subscription = if events.is_empty() { None } else { Some(connecting.subscribe(&events, &[])?) };
    let client = connecting.connect().await?;
    let mut messages = client.messages();
    let mut held = Vec::new();
    let mut left = wanted.count.unwrap_or(u64::MAX);
    while left > 0 {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => {
                    let message = message?;
                    print_message(show, &message);
                    left -= 1;
                    if wanted.no_ack { held.push(message) } else { message.ack().await? }
                }
                None => break,
            },
            news = next_event(&mut subscription) => match news {
                Some(Ok(FeedNews::Event(event))) => {
                    let machine = json!({"log": "feed", "id": event.id.as_str(), "type": event.event_type.as_str(),
                        "sequence": event.position.sequence, "data": data(&event.data)});
                    show.say(&machine, || line(&machine, event.event_type.as_str(), "event"));
                    left -= 1;
                }
                Some(Ok(FeedNews::Gap(_))) => {}
                Some(Err(stopped)) => return Err(stopped.into()),
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    leave(&client, held).await;
    Ok(ExitCode::SUCCESS)
}

/// What was held stays where it is: nothing is said of it.
async fn leave(client: &Client, held: Vec<Delivery>) {
    if held.is_empty() {
        client.drain().await;
    } else {
        client.close().await;
    }
    drop(held);
}

fn line(machine: &Value, event_type: &str, kind: &str) -> String {
    format!("{kind:8} {event_type} {}", machine["data"])
}

fn print_message(show: Show, message: &Delivery) {
    let position = message.position;
    let machine = json!({
        "log": "mailbox", "id": message.id.as_str(), "type": message.event_type.as_str(), "lane": position.lane.name(),
        "sequence": position.sequence, "attempt": message.attempt, "redelivered": message.redelivered,
        "sender": message.sender.as_ref().map(|sender| sender.as_str()), "data": data(&message.data),
    });
    show.say(&machine, || line(&machine, message.event_type.as_str(), position.lane.name()));
}
