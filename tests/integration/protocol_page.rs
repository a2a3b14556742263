//! Every example of docs/protocol.md is what happens.
//!
//! The page tells one conversation. A fenced block begins with `> ` for a frame of the client, with `< ` for
//! one of the server, and with `! ` for what a backend does meanwhile. In frames of the server `"…"` stands for any
//! value; members that the page does not show must not be there. In frames of the client `<event>` stands for the id of
//! the event before, `<delegation>` for that of the delegation that was named last.

use std::collections::VecDeque;
use std::path::Path;

use http::Request;
use serde_json::Value;
use waystation_domain::policy::RestCall;
use waystation_proto::federation::v1::{Capability, DelegateTaskRequest, Task};
use waystation_proto::gateway::v1::DrainRequest;
use waystation_tests::{Cell, Daemon, http};

use crate::asyncapi::Frames;

const PAGE: &str = "../docs/protocol.md";
const ANY: &str = "…";
const NEXT_TOKEN: &str = "<nextAccessToken>";

/// Blocks of a language, in their order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn agrees(shown: &Value, found: &Value, at: &str) {
    match (shown, found) {
        (Value::String(any), _) if any == ANY => {}
        (Value::Object(shown), Value::Object(found)) => {
            let names = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(shown), names(found), "{at}");
            for (name, value) in shown {
                agrees(value, &found[name], &format!("{at}.{name}"));
            }
        }
        (Value::Array(shown), Value::Array(found)) if shown.len() == found.len() => {
            shown.iter().zip(found).for_each(|(shown, found)| agrees(shown, found, at));
        }
        _ => assert_eq!(shown, found, "{at}"),
    }
}

/// The page's examples with what only a run can know.
fn filled(text: &str, cell: &Cell, token: &str) -> Value {
    let text = text
        .replace("<accessToken>", token)
        .replace("<apiKey>", &cell.dev.api_key)
        .replace("<apiSecret>", &cell.dev.api_secret);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn backend_does(cell: &Cell, what: &str) {
    let backend = cell.backend();
    let mut words = what.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("route"), Some(orchestrator), Some(number)) => {
            backend.route(orchestrator, number.parse().unwrap()).await;
        }
        (Some("expire"), Some(orchestrator), None) => {
            let time_to_live = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
            let message = waystation_proto::router::v1::RouteMessageRequest {
                time_to_live,
                ..waystation_tests::Backend::message(orchestrator, 0)
            };
            let before = backend.mailbox(orchestrator).await.counters.unwrap_or_default().expired;
            backend.try_route(message).await.unwrap();
            waystation_tests::eventually("it expires", async || {
                (backend.mailbox(orchestrator).await.counters.unwrap().expired > before).then_some(())
            })
            .await;
        }
        (Some("publish"), Some(event_type), Some(number)) => {
            backend.publish(event_type, number.parse().unwrap()).await;
        }
        (Some("delegate"), Some(capability), None) => {
            let task = Task {
                id: "t-1".into(),
                r#type: "research".into(),
                payload: r#"{"question":"why?"}"#.into(),
                ..Default::default()
            };
            let capability = Capability { name: capability.into(), ..Default::default() };
            let request =
                DelegateTaskRequest { task: Some(task), required_capabilities: vec![capability], ..Default::default() };
            backend.federation.clone().delegate_task(request).await.unwrap();
        }
        (Some("drain"), None, None) => {
            let spread = Some(prost_types::Duration { seconds: 1, nanos: 0 });
            let mut operator = waystation_tests::Backend::operator(&cell.dev);
            operator.gateway.drain(DrainRequest { spread }).await.unwrap();
        }
        other => panic!("the page does not say what this is: {other:?}"),
    }
}

#[tokio::test]
async fn every_conversation_of_the_page_takes_place() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let conversations = blocks(&page, "conversation");
    assert!(conversations.len() >= 5);
    let mut frames = Frames::read();
    for conversation in conversations {
        let cell = Cell::start().await;
        let login = cell.log_in("orla").await;
        let token = login["accessToken"].as_str().unwrap();
        let mut next_token = String::new();
        if conversation.contains(NEXT_TOKEN) {
            let next = cell.refresh(login["refreshToken"].as_str().unwrap()).await;
            next["accessToken"].as_str().unwrap().clone_into(&mut next_token);
        }
        let (mut event, mut delegation, mut sent) = (String::new(), String::new(), None);
        // Events come on a way of their own: perhaps before the answer that stands before them on the page.
        let mut early = VecDeque::new();
        let mut socket: Option<Daemon> = None;
        for line in conversation.lines().filter(|line| !line.trim().is_empty()) {
            // Shown if the test fails.
            println!("{line}");
            let (mark, text) = line.split_at(2);
            match mark {
                "> " => {
                    if socket.is_none() {
                        socket = Some(Daemon::open(&cell.dev.gateway_url).await);
                    }
                    let text = text.replace("<event>", &event).replace(NEXT_TOKEN, &next_token);
                    let text = text.replace("<delegation>", &delegation);
                    let frame = filled(&text, &cell, token);
                    if let Some(before) = sent.replace(frame.clone()) {
                        assert_eq!(frames.problems(&before), Vec::<String>::new(), "{before}");
                    }
                    socket.as_mut().unwrap().send(frame).await;
                }
                "< " => match text.strip_prefix("close ") {
                    Some(code) => {
                        let code: u16 = code.split(' ').next().unwrap().parse().unwrap();
                        assert_eq!(socket.as_mut().unwrap().close_code().await, code);
                    }
                    None => {
                        let shown = filled(&text.replace("<delegation>", &delegation), &cell, token);
                        let found = loop {
                            let is_event = shown["type"] == "event";
                            if is_event && let Some(found) = early.pop_front() {
                                break found;
                            }
                            let found = socket.as_mut().unwrap().next().await;
                            if is_event || found["type"] != "event" {
                                break found;
                            }
                            early.push_back(found);
                        };
                        agrees(&shown, &found, text);
                        assert_eq!(frames.problems(&found), Vec::<String>::new(), "{found}");
                        // What the server takes is as described; what it refuses need not be.
                        let is_refused = found["payload"]["code"] == "INVALID_MESSAGE";
                        if let Some(sent) = sent.take().filter(|_| !is_refused) {
                            assert_eq!(frames.problems(&sent), Vec::<String>::new(), "{sent}");
                        }
                        if let Some(id) = found["payload"]["eventId"].as_str() {
                            id.clone_into(&mut event);
                        }
                        let ids = [&found["payload"]["data"]["delegationId"], &found["payload"]["delegationId"]];
                        if let Some(id) = ids.into_iter().find_map(Value::as_str) {
                            id.clone_into(&mut delegation);
                        }
                    }
                },
                "! " => backend_does(&cell, text).await,
                other => panic!("{other:?} in {line:?}"),
            }
        }
        if let Some(sent) = sent {
            assert_eq!(frames.problems(&sent), Vec::<String>::new(), "{sent}");
        }
    }
    assert_eq!(frames.unseen(), Vec::<&String>::new(), "the page has no example of these frames");
}

#[tokio::test]
async fn every_rest_call_of_the_page_takes_place() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let calls = blocks(&page, "rest");
    let cell = Cell::start().await;
    let (mut refresh_token, mut delegation) = (String::new(), String::new());
    let daemons_token = cell.token("orla").await;
    let mut unseen: Vec<RestCall> = RestCall::ALL.to_vec();
    // What has the form of another call of the page.
    unseen.retain(|call| *call != RestCall::Unregister);
    for call in calls {
        let mut lines = call.lines().peekable();
        let (method, path) = lines.next().unwrap().split_once(' ').unwrap();
        let known = RestCall::ALL.iter().copied().find(|call| {
            let plain = path.split('?').next().unwrap().replace("/orla", "/{orchestratorId}");
            let plain = plain.replace("<delegation>", "{delegationId}");
            (call.method(), call.path()) == (method, plain.as_str())
        });
        let known = known.unwrap_or_else(|| panic!("{method} {path} is no call"));
        unseen.retain(|call| *call != known);
        let body = lines.next_if(|line| line.starts_with('{')).unwrap_or_default();
        let body = body.replace("<refreshToken>", &refresh_token);
        let body = if body.is_empty() { body } else { filled(&body, &cell, "").to_string() };
        let path = &path.replace("<delegation>", &delegation);
        let (status, shown) = lines.next().unwrap().split_once(' ').unwrap();
        let bearer = if known == RestCall::GetHealth { &cell.dev.service_token } else { &daemons_token };
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = match known.rule().is_public() {
            true => request,
            false => request.header("authorization", format!("Bearer {bearer}")),
        };
        let response = http(&cell.dev.http_url, request.body(body).unwrap()).await;
        assert_eq!(response.status().as_str(), status, "{path}");
        let found: Value = serde_json::from_slice(response.body()).unwrap();
        agrees(&filled(shown, &cell, ""), &found, path);
        if let Some(id) = found["delegationId"].as_str() {
            id.clone_into(&mut delegation);
        }
        if let Some(token) = found["refreshToken"].as_str() {
            refresh_token = token.to_owned();
        }
    }
    assert!(unseen.is_empty(), "the page has no example of {unseen:?}");
}

#[test]
fn the_table_of_close_codes_is_the_one_of_the_code() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    for code in waystation_wire::CloseCode::ALL {
        let (number, name, verdict) = code.row();
        let verdict = match verdict {
            waystation_wire::Verdict::Stop => "stop".to_owned(),
            waystation_wire::Verdict::RenewToken => "renew the token, then at once".to_owned(),
            waystation_wire::Verdict::RetryAfter(after) => format!("retry after {} s", after.as_secs()),
        };
        let row = format!("| {number} | {name} | {verdict} |");
        assert!(page.contains(&row), "the page lacks {row}");
    }
}
