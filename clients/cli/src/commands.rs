//! What each command does.

mod bench;
mod daemon;
mod doctor;
mod mailbox;
mod redis;
mod tasks;
mod top;
mod up;

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use clap::CommandFactory as _;
use prost_types::Duration as WireDuration;
use serde_json::json;
use tonic::Request;
use waystation_proto::auth::v1::{IssueServiceTokenRequest, IssueTokenRequest};
use waystation_proto::common::v1::Priority as WirePriority;
use waystation_proto::router::v1::{IfOffline, MessageStatus, PublishEventRequest, RouteMessageRequest, WaitFor};

use crate::arguments::{Arguments, Command, Priority, Publish, Send};
use crate::failure::Failure;
use crate::place::Place;
use crate::show::{Show, time, word};

type Done = Result<ExitCode, Failure>;

/// Does what was said.
pub(crate) async fn run(Arguments { place, json, command }: Arguments) -> Done {
    let show = if json { Show::Machines } else { Show::People };
    let place = Place::find(place)?;
    match command {
        Command::Up { arguments } => up::run(&arguments),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "waystation", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Token { orchestrator, service, secret, scopes } => {
            let login = service.zip(secret);
            token(&place, show, orchestrator.unwrap_or_default(), login, scopes).await
        }
        Command::Listen(listen) => daemon::listen(&place, show, listen).await,
        Command::Send(message) => send(&place, show, message).await,
        Command::Publish(event) => publish(&place, show, event).await,
        Command::Mailbox { orchestrator, limit } => mailbox::show_mailbox(&place, show, orchestrator, limit).await,
        Command::DeadLetters { what } => mailbox::dead_letters(&place, show, what).await,
        Command::Sessions { orchestrator, terminate } => mailbox::sessions(&place, show, orchestrator, terminate).await,
        Command::Delegate(task) => tasks::delegate(&place, show, task).await,
        Command::Explain { delegation } => tasks::explain(&place, show, delegation).await,
        Command::Top { orchestrators, count, interval } => top::run(&place, show, orchestrators, count, interval).await,
        Command::Bench { messages, window, size } => bench::run(&place, show, messages, window, size).await,
        Command::Doctor { redis } => doctor::run(&place, show, redis).await,
    }
}

/// What was given as JSON, or stands in the input.
fn json_of(text: &str) -> Result<Vec<u8>, Failure> {
    let text = if text == "-" {
        if std::io::stdin().is_terminal() {
            eprintln!("reading JSON until the end of the input …");
        }
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::Data(format!("the input: {error}")))?;
        text
    } else {
        text.to_owned()
    };
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Failure::Data(format!("data is no JSON: {error}")))?;
    if !value.is_object() {
        return Err(Failure::Data("data must be a JSON object, as '{\"n\":1}'".into()));
    }
    Ok(text.trim().as_bytes().to_vec())
}

async fn token(
    place: &Place,
    show: Show,
    orchestrator_id: String,
    login: Option<(String, String)>,
    scopes: Vec<String>,
) -> Done {
    let mut auth = place.call_auth().await?;
    let (token, expires, scopes) = if let Some((service, secret)) = login {
        let organization_id = place.organization.clone();
        let request = IssueServiceTokenRequest { service, secret, organization_id, scopes };
        let issued = auth.issue_service_token(request).await?.into_inner();
        (issued.access_token, issued.expire_time, issued.scopes)
    } else {
        let (api_key, api_secret) = place.api_key()?;
        let request =
            IssueTokenRequest { api_key, api_secret, orchestrator_id, scopes, ..IssueTokenRequest::default() };
        let issued = auth.issue_token(request).await?.into_inner();
        (issued.access_token, issued.expire_time, issued.scopes)
    };
    let machine = json!({"accessToken": token, "expiresAt": time(expires.as_ref()), "scopes": scopes});
    show.say(&machine, || token.clone());
    Ok(ExitCode::SUCCESS)
}

fn wire(priority: Priority) -> i32 {
    let priority = match priority {
        Priority::Low => WirePriority::Low,
        Priority::Normal => WirePriority::Normal,
        Priority::High => WirePriority::High,
        Priority::Critical => WirePriority::Critical,
    };
    priority.into()
}

async fn send(place: &Place, show: Show, message: Send) -> Done {
    let mut request = Request::new(RouteMessageRequest {
        organization_id: place.organization.clone(),
        orchestrator_id: message.orchestrator,
        message_id: message.id.unwrap_or_default(),
        event_type: message.event_type,
        data: json_of(&message.data)?.into(),
        priority: wire(message.priority),
        time_to_live: message.ttl.and_then(|ttl| WireDuration::try_from(ttl).ok()),
        wait_for: if message.wait.is_some() { WaitFor::Acknowledged.into() } else { WaitFor::Stored.into() },
        if_offline: if message.fail_if_offline { IfOffline::Fail.into() } else { IfOffline::Queue.into() },
        ..RouteMessageRequest::default()
    });
    request.set_timeout(message.wait.unwrap_or(std::time::Duration::from_secs(10)));
    let routed = place.call_router().await?.route_message(request).await?.into_inner();
    let status = word(routed.status().as_str_name(), "MESSAGE_STATUS_");
    let sequence = routed.position.as_ref().map_or(0, |position| position.sequence);
    let machine =
        json!({"messageId": routed.message_id, "status": status, "sequence": sequence, "duplicate": routed.duplicate});
    show.say(&machine, || format!("{} {status}", routed.message_id));
    let done = message.wait.is_none() || routed.status() == MessageStatus::Acknowledged;
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn publish(place: &Place, show: Show, event: Publish) -> Done {
    let request = PublishEventRequest {
        organization_id: place.organization.clone(),
        event_id: event.id.unwrap_or_default(),
        event_type: event.event_type,
        channel_id: event.channel.unwrap_or_default(),
        data: json_of(&event.data)?.into(),
        orchestrator_ids: event.to,
        ..PublishEventRequest::default()
    };
    let published = place.call_router().await?.publish_event(request).await?.into_inner();
    let sequence = published.position.as_ref().map_or(0, |position| position.sequence);
    let machine = json!({
        "eventId": published.event_id, "sequence": sequence, "gatewaysNotified": published.gateways_notified,
        "duplicate": published.duplicate,
    });
    let gateways = published.gateways_notified;
    show.say(&machine, || format!("{} published; {gateways} gateways have subscribers", published.event_id));
    Ok(ExitCode::SUCCESS)
}
