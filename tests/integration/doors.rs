//! Two tenants before every door (R6): what one asks of the other's things is answered as if they were not there. The
//! calls are made from the policy and the contract, so that a new one is tried without being written down here.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use serde_json::{Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use waystation_domain::policy::{self, Callers, FrameKind, RestCall, Tenancy};
use waystation_proto::auth::v1::*;
use waystation_proto::federation::v1::{DelegateTaskRequest, Task};
use waystation_tests::{Backend, Cell, Daemon, frame, http};

/// Stands in what the victim has, and not in what it is called by; it must never be told to the other.
const CANARY: &str = "birdsong";

/// Bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Messages of the contract by name, and the request of each method.
struct Contract {
    messages: BTreeMap<String, DescriptorProto>,
    requests: BTreeMap<String, String>,
}

impl Contract {
    fn read() -> Contract {
        let files = FileDescriptorSet::decode(waystation_proto::FILE_DESCRIPTOR_SET).unwrap();
        let (mut messages, mut requests) = (BTreeMap::new(), BTreeMap::new());
        for file in files.file {
            for message in &file.message_type {
                messages.insert(format!(".{}.{}", file.package(), message.name()), message.clone());
            }
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    requests.insert(path, method.input_type().to_owned());
                }
            }
        }
        Contract { messages, requests }
    }

    /// A message in which every field that names something names these things; `choice` says which of a oneof.
    fn fill(&self, name: &str, named: &dyn Fn(&str) -> Option<String>, choice: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let message = &self.messages[name];
        let chosen = message.field.iter().filter(|field| field.oneof_index.is_some() && !field.proto3_optional());
        let chosen = chosen.map(|field| field.number()).nth(choice);
        for field in &message.field {
            if field.oneof_index.is_some() && !field.proto3_optional() && Some(field.number()) != chosen {
                continue;
            }
            let kind = field.r#type();
            let bytes = if kind == Type::String {
                named(field.name()).map(String::into_bytes)
            } else if kind == Type::Bytes {
                (field.name() == "data").then(|| b"{}".to_vec())
            } else if self.messages.contains_key(field.type_name()) {
                Some(self.fill(field.type_name(), named, 0))
            } else {
                None
            };
            let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty() || field.label() != Label::Repeated) else {
                continue;
            };
            prost::encoding::bytes::encode(u32::try_from(field.number()).unwrap(), &bytes, &mut out);
        }
        out
    }

    /// How many alternatives the oneof of a message has; 1 if it has none.
    fn choices(&self, name: &str) -> usize {
        let in_oneof =
            |field: &&prost_types::FieldDescriptorProto| field.oneof_index.is_some() && !field.proto3_optional();
        self.messages[name].field.iter().filter(in_oneof).count().max(1)
    }
}

/// What a method answers first.
async fn call(address: &str, path: &str, token: &str, request: Vec<u8>) -> Result<Bytes, Status> {
    let channel = waystation_rpc::channel(address, &Default::default()).unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(tokio_stream::iter([Bytes::from(request)]));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let exchange = async {
        let mut answers = client.streaming(request, path.parse().unwrap(), Raw).await?.into_inner();
        Ok(answers.message().await?.unwrap_or_default())
    };
    // A watch may have nothing to tell.
    tokio::time::timeout(Duration::from_secs(2), exchange).await.unwrap_or(Ok(Bytes::new()))
}

/// What the victim alone may see.
fn event(id: &str) -> waystation_proto::router::v1::PublishEventRequest {
    let data = r#"{"n":"birdsong"}"#.into();
    waystation_proto::router::v1::PublishEventRequest { event_id: id.into(), data, ..Backend::event("invoice.paid", 0) }
}

/// The victim's things, and an attacker of another organization with every scope that there is.
struct Scene {
    cell: Cell,
    victim: Daemon,
    /// Names of fields, and what of the victim's they could name.
    things: BTreeMap<&'static str, String>,
    backend_token: String,
    daemon_token: String,
}

async fn scene() -> Scene {
    let cell = Cell::start().await;
    let mut operator = Backend::operator(&cell.dev);
    for id in ["attacker"] {
        let organization = CreateOrganizationRequest {
            organization_id: id.into(),
            name: id.into(),
            auto_create_orchestrators: false,
            ..Default::default()
        };
        operator.credentials.create_organization(organization).await.unwrap();
    }
    let orchestrator = "orla-canary";
    let display = OrchestratorDisplay { user_name: "Birdsong".into(), ..Default::default() };
    let create = CreateOrchestratorRequest {
        organization_id: "dev".into(),
        orchestrator_id: orchestrator.into(),
        display: Some(display),
    };
    operator.credentials.create_orchestrator(create).await.unwrap();
    let create = CreateOrchestratorRequest {
        organization_id: "attacker".into(),
        orchestrator_id: "mallory".into(),
        ..Default::default()
    };
    operator.credentials.create_orchestrator(create).await.unwrap();
    let key = |organization: &str, scopes: &[&str]| CreateApiKeyRequest {
        organization_id: organization.into(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let scopes =
        ["messages:read", "messages:write", "events:read", "presence:read", "federation:read", "federation:write"];
    let theirs = operator.credentials.create_api_key(key("dev", &scopes)).await.unwrap().into_inner();
    let own = operator.credentials.create_api_key(key("attacker", &scopes)).await.unwrap().into_inner();
    let login = IssueTokenRequest {
        api_key: own.api_key,
        api_secret: own.api_secret,
        orchestrator_id: "mallory".into(),
        ..Default::default()
    };
    let daemon_token = operator.auth.issue_token(login).await.unwrap().into_inner().access_token;
    let service = IssueServiceTokenRequest {
        service: waystation_standalone::BACKEND.into(),
        secret: cell.dev.service_secret.clone(),
        organization_id: "attacker".into(),
        scopes: vec![],
    };
    let backend_token = operator.auth.issue_service_token(service).await.unwrap().into_inner().access_token;

    let backend = cell.backend();
    let sent = backend.try_route(waystation_proto::router::v1::RouteMessageRequest {
        message_id: "m-canary".into(),
        data: r#"{"n":"birdsong"}"#.into(),
        ..Backend::message(orchestrator, 1)
    });
    sent.await.unwrap();
    let login = cell.log_in(orchestrator).await;
    let token = login["accessToken"].as_str().unwrap().to_owned();
    let mut victim = Daemon::connect(&cell.dev.gateway_url, orchestrator, "d-canary", &token).await;
    victim.events(1).await;
    backend.try_publish(event("e-canary")).await.unwrap();
    let task = Task { id: "t-1".into(), payload: r#"{"n":"birdsong"}"#.into(), ..Default::default() };
    let mut federation = backend.federation.clone();
    let delegated = federation.delegate_task(DelegateTaskRequest {
        from_orchestrator_id: orchestrator.into(),
        task: Some(task),
        ..Default::default()
    });
    let delegation = delegated.await.unwrap().into_inner().delegation_id;
    let things = BTreeMap::from([
        ("delegation_id", delegation.clone()),
        ("parent_delegation_id", delegation),
        ("from_orchestrator_id", orchestrator.to_owned()),
        ("organization_id", "dev".to_owned()),
        ("orchestrator_organization_id", "dev".to_owned()),
        ("orchestrator_id", orchestrator.to_owned()),
        ("orchestrator_ids", orchestrator.to_owned()),
        ("session_id", victim.welcome["payload"]["sessionId"].as_str().unwrap().to_owned()),
        ("message_id", "m-canary".to_owned()),
        ("message_ids", "m-canary".to_owned()),
        ("event_id", "e-canary".to_owned()),
        ("event_type", "invoice.paid".to_owned()),
        ("event_types", "*".to_owned()),
        ("api_key", theirs.api_key.clone()),
        ("api_key_id", theirs.api_key),
        ("family", login["sessionId"].as_str().unwrap().to_owned()),
        ("token", token),
        ("scopes", "messages:read".to_owned()),
    ]);
    Scene { cell, victim, things, backend_token, daemon_token }
}

fn told(status: &Status) -> (Code, String) {
    (status.code(), status.message().to_owned())
}

fn holds_canary(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).to_lowercase().contains(CANARY)
}

#[tokio::test]
async fn every_rpc_answers_for_another_tenants_things_as_for_none() {
    let scene = scene().await;
    let contract = Contract::read();
    let dev = &scene.cell.dev;
    let mut tried = 0;
    for path in policy::methods().filter(|path| path.starts_with("/waystation.")) {
        let rule = policy::of_method(path).unwrap();
        let address = match path.split('.').nth(1).unwrap() {
            "router" => &dev.router,
            "auth" => &dev.auth,
            "gateway" => &dev.gateway,
            "federation" => &dev.federation,
            other => panic!("where is {other}?"),
        };
        let request = &contract.requests[path];
        for choice in 0..contract.choices(request) {
            let ask = async |named: &dyn Fn(&str) -> Option<String>, token: &str| {
                call(address, path, token, contract.fill(request, named, choice)).await
            };
            let theirs = |field: &str| scene.things.get(field).cloned();
            match (rule.callers, rule.tenancy) {
                (Callers::Anyone, _) => continue,
                (Callers::Backends | Callers::BackendsAndInternal(_), Tenancy::Own) => {
                    let daemon = ask(&theirs, &scene.daemon_token).await.unwrap_err();
                    assert_eq!(daemon.code(), Code::PermissionDenied, "{path} is nothing for daemons");
                }
                (Callers::BackendsAndDaemons, Tenancy::Own) => {
                    let daemon = ask(&theirs, &scene.daemon_token).await.unwrap_err();
                    let codes = [Code::PermissionDenied, Code::NotFound];
                    assert!(codes.contains(&daemon.code()), "{path} is for daemons' own orchestrators: {daemon:?}");
                }
                _ => {
                    let refused = ask(&theirs, &scene.backend_token).await.unwrap_err();
                    assert_eq!(refused.code(), Code::PermissionDenied, "{path}");
                    tried += 1;
                    continue;
                }
            }
            // Of another organization by name, and of the own one.
            for organization in ["dev", ""] {
                let of_tenant = |field: &str| match field {
                    "organization_id" | "orchestrator_organization_id" => Some(organization.to_owned()),
                    field => scene.things.get(field).cloned(),
                };
                let absent = |field: &str| match (field, organization) {
                    ("organization_id" | "orchestrator_organization_id", "") => Some(String::new()),
                    ("token", _) => Some("x.y.z".to_owned()),
                    ("scopes", _) => Some("messages:read".to_owned()),
                    (field, _) => scene.things.get(field).map(|_| format!("no-{}", field.replace('_', "-"))),
                };
                let (found, none) =
                    (ask(&of_tenant, &scene.backend_token).await, ask(&absent, &scene.backend_token).await);
                match (found, none) {
                    (Err(found), Err(none)) => {
                        assert_eq!(told(&found), told(&none), "{path} {choice} of {organization:?}");
                        assert!(!holds_canary(found.details()) && !holds_canary(found.message().as_bytes()), "{path}");
                    }
                    (Ok(found), _) => {
                        // Streams tell each element its own outcome.
                        assert!(!holds_canary(&found), "{path} {choice} of {organization:?}");
                    }
                    (Err(found), Ok(_)) => {
                        panic!("{path} {choice} of {organization:?} shows that it is there: {found:?}")
                    }
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 60, "{tried}");
    let backend = scene.cell.backend();
    assert_eq!(backend.depth("orla-canary").await, 1, "nothing was taken");
    assert_eq!(backend.sessions("orla-canary").await.len(), 1, "nothing was ended");
}

#[tokio::test]
async fn every_rest_call_knows_its_callers_and_its_tenant() {
    let scene = scene().await;
    let ask = async |call: RestCall, path: &str, body: Value, bearer: Option<&str>| {
        let mut request = http::Request::builder().method(call.method()).uri(path);
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = http(&scene.cell.dev.http_url, request.body(body).unwrap()).await;
        (answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned())
    };
    for call in RestCall::ALL.iter().copied() {
        let path = |thing: &str| call.path().replace("{orchestratorId}", thing).replace("{delegationId}", thing);
        if !call.rule().is_public() {
            assert_eq!(ask(call, &path("x"), Value::Null, None).await.0, 401, "{call:?}");
            for bad in ["x", "", &scene.daemon_token[..40]] {
                assert_eq!(ask(call, &path("x"), Value::Null, Some(bad)).await.0, 401, "{call:?}");
            }
            let wrong = match call.rule().callers {
                Callers::Daemons | Callers::DaemonsAndUsers => Some(&scene.backend_token),
                Callers::TokenHolders => None,
                Callers::BackendsAndDaemons => None,
                Callers::Anyone
                | Callers::Backends
                | Callers::BackendsAndInternal(_)
                | Callers::Internal(_)
                | Callers::InternalAndOperators(_)
                | Callers::Cells => Some(&scene.daemon_token),
            };
            if let Some(wrong) = wrong {
                assert_eq!(ask(call, &path("x"), Value::Null, Some(wrong)).await.0, 403, "{call:?}");
            }
        }
        // What the attacker may ask, asked for the victim's things and for none.
        let registration = |organization: &str, orchestrator: &str| {
            json!({
                "orchestratorId": orchestrator,
                "organizationId": organization,
                "apiKey": scene.cell.dev.api_secret,
                "daemonInfo": {"instanceId": "i1"},
            })
        };
        let orchestrator = &scene.things["orchestrator_id"];
        let (found, none) = match call {
            RestCall::LogIn => {
                let body = |key: &str| json!({"apiKey": key, "apiSecret": "wsk_x", "orchestratorId": orchestrator});
                (
                    ask(call, &path(""), body(&scene.things["api_key"]), None).await,
                    ask(call, &path(""), body("no-key"), None).await,
                )
            }
            RestCall::Refresh => {
                let body = |login: &str| json!({"refreshToken": format!("wsr_1.AAAA.{login}")});
                (
                    ask(call, &path(""), body(&scene.things["family"]), None).await,
                    ask(call, &path(""), body("no-login"), None).await,
                )
            }
            RestCall::Register | RestCall::Unregister => (
                ask(call, &path(""), registration("attacker", "mallory"), None).await,
                ask(call, &path(""), registration("no-organization", "mallory"), None).await,
            ),
            RestCall::EndSessions => {
                let body = |session: &str| json!({"sessionId": session});
                (
                    ask(call, &path(""), body(&scene.things["session_id"]), Some(&scene.daemon_token)).await,
                    ask(call, &path(""), body("no-session"), Some(&scene.daemon_token)).await,
                )
            }
            RestCall::GetHealth => (
                ask(call, &path(orchestrator), Value::Null, Some(&scene.backend_token)).await,
                ask(call, &path("nobody"), Value::Null, Some(&scene.backend_token)).await,
            ),
            RestCall::GetDelegation => (
                ask(call, &path(&scene.things["delegation_id"]), Value::Null, Some(&scene.daemon_token)).await,
                ask(call, &path("none"), Value::Null, Some(&scene.daemon_token)).await,
            ),
            RestCall::Delegate => {
                let body = |parent: &str| json!({"task": {}, "parentDelegationId": parent});
                (
                    ask(call, &path(""), body(&scene.things["delegation_id"]), Some(&scene.daemon_token)).await,
                    ask(call, &path(""), body("none"), Some(&scene.daemon_token)).await,
                )
            }
            RestCall::Heartbeat
            | RestCall::ListFederation
            | RestCall::GetFederation
            | RestCall::SetStatus
            | RestCall::SetPresence
            | RestCall::GetConfig
            | RestCall::GetEvents
            | RestCall::AckEvents
            | RestCall::GetConductorStatus
            | RestCall::SendMessage
            | RestCall::ListMessages
            | RestCall::ListSessions => {
                let body = json!({"status": "active", "eventIds": ["m-canary", "e-canary"]});
                let body = if call.method() == "GET" { Value::Null } else { body };
                let body = if call == RestCall::SetPresence { json!({"status": "away"}) } else { body };
                let message = json!({"orchestratorId": "mallory", "content": "x"});
                let body = if call == RestCall::SendMessage { message } else { body };
                let query = if call == RestCall::ListMessages { "?channelId=c-canary" } else { "" };
                let path = |thing: &str| format!("{}{query}", path(thing));
                let answer = ask(call, &path(""), body, Some(&scene.daemon_token)).await;
                assert_eq!(answer.0, 200, "{call:?} {answer:?}");
                assert!(!holds_canary(answer.1.as_bytes()), "{call:?}");
                if call == RestCall::SendMessage {
                    // Nobody of that name is the attacker's.
                    let to = |id: &str| json!({"orchestratorId": id, "content": "x"});
                    let found = ask(call, &path(""), to(orchestrator), Some(&scene.daemon_token)).await;
                    let none = ask(call, &path(""), to("nobody"), Some(&scene.daemon_token)).await;
                    assert_eq!((found.0, &found), (404, &none));
                }
                if call == RestCall::AckEvents {
                    assert!(answer.1.contains(r#""acknowledged":0"#), "{}", answer.1);
                }
                continue;
            }
            RestCall::GetKeys => {
                assert_eq!(ask(call, &path(""), Value::Null, None).await.0, 200);
                continue;
            }
        };
        assert_eq!(found, none, "{call:?}");
        assert!(found.0 >= 400, "{call:?} {found:?}");
    }
    assert_eq!(scene.cell.backend().sessions("orla-canary").await.len(), 1);
}

#[tokio::test]
async fn a_feed_is_its_tenants_alone() {
    let mut scene = scene().await;
    let mut stranger = Daemon::connect(&scene.cell.dev.gateway_url, "mallory", "d1", &scene.daemon_token).await;
    for daemon in [&mut stranger, &mut scene.victim] {
        daemon.send(frame("subscribe", json!({"eventTypes": ["*"]}))).await;
        daemon.heartbeat().await;
    }
    let attacker = Backend::with_token(&scene.cell.dev, &scene.backend_token);
    let mut watch = attacker.watch(Some(Default::default()), &["invoice.*"]).await;
    scene.cell.backend().try_publish(event("e-canary-2")).await.unwrap();
    assert_eq!(scene.victim.events(1).await[0]["eventId"], "e-canary-2");
    attacker.publish("invoice.paid", 5).await;
    let own = stranger.events(1).await.remove(0);
    assert_eq!(own["data"]["n"], 5);
    assert!(own["sequence"].as_u64().unwrap() < 10, "counted from its own first number on: {own}");
    loop {
        let told = watch.message().await.unwrap().unwrap();
        assert!(!holds_canary(format!("{told:?}").as_bytes()));
        if let Some(waystation_proto::router::v1::watch_events_response::What::Event(event)) = told.what {
            assert_eq!(event.data, r#"{"n":5}"#);
            break;
        }
    }
    let taken = attacker.try_publish(event("e-canary")).await.unwrap();
    assert!(!taken.duplicate, "ids of others are not known");
}

#[tokio::test]
async fn every_frame_is_of_its_sender_alone() {
    let mut scene = scene().await;
    let mut stranger = Daemon::open(&scene.cell.dev.gateway_url).await;
    let payload = |kind: FrameKind| match kind {
        FrameKind::Auth => json!({
            "accessToken": scene.daemon_token,
            "orchestratorId": scene.things["orchestrator_id"],
            "daemonId": "d-canary",
        }),
        FrameKind::Heartbeat => json!({"status": "active"}),
        FrameKind::Subscribe | FrameKind::Unsubscribe => json!({"eventTypes": ["message.received"]}),
        FrameKind::Ack => json!({"eventIds": ["m-canary"], "confirm": true}),
        FrameKind::Nack | FrameKind::Extend => json!({"eventId": "m-canary"}),
        FrameKind::Reject => json!({"eventId": "m-canary", "reason": "mine"}),
        FrameKind::Send => json!({"to": {"orchestratorId": "orla-canary"}, "data": {}}),
        FrameKind::AuthRefresh => json!({"accessToken": scene.things["token"]}),
        FrameKind::Goodbye | FrameKind::Deregister | FrameKind::QueryCapabilities => json!({}),
        FrameKind::Register => json!({"capabilities": ["research"]}),
        FrameKind::Delegate => json!({"task": {}, "parentDelegationId": scene.things["delegation_id"]}),
        FrameKind::DelegationResponse => {
            json!({"delegationId": scene.things["delegation_id"], "attempt": 1, "accepted": true})
        }
        FrameKind::DelegationProgress => {
            json!({"delegationId": scene.things["delegation_id"], "attempt": 1, "progress": 1})
        }
        FrameKind::DelegationResult => {
            json!({"delegationId": scene.things["delegation_id"], "attempt": 1, "status": "completed"})
        }
        FrameKind::DelegationCancel | FrameKind::ContextGet => {
            json!({"delegationId": scene.things["delegation_id"]})
        }
        FrameKind::ContextPut => {
            json!({"delegationId": scene.things["delegation_id"], "name": "plan", "value": 1})
        }
        FrameKind::Broadcast => json!({"to": {"all": true}, "messageType": "custom", "durable": true}),
    };
    for kind in FrameKind::ALL.iter().copied().filter(|kind| !kind.rule().is_public()).take(2) {
        stranger.send(frame(kind.name(), payload(kind))).await;
        assert_eq!(stranger.next_of("error").await["payload"]["code"], "NOT_AUTHENTICATED", "{kind:?}");
    }
    // Its own token for another's name.
    stranger.send(frame("auth", payload(FrameKind::Auth))).await;
    assert_eq!(stranger.next_of("auth_error").await["payload"]["code"], "AUTH_FAILED");
    let mut stranger = Daemon::connect(&scene.cell.dev.gateway_url, "mallory", "d1", &scene.daemon_token).await;
    for kind in FrameKind::ALL.iter().copied().filter(|kind| *kind != FrameKind::Goodbye) {
        stranger.send(frame(kind.name(), payload(kind))).await;
        if matches!(kind, FrameKind::Subscribe | FrameKind::Unsubscribe) {
            // A plain client is not answered.
            continue;
        }
        let answer = stranger.next().await;
        assert!(!holds_canary(answer.to_string().as_bytes()), "{kind:?} {answer}");
        if kind == FrameKind::Heartbeat {
            assert_eq!(answer["type"], "heartbeat_ack");
        } else if kind == FrameKind::Ack {
            assert_eq!(answer["payload"]["results"][0]["status"], "STALE", "{answer}");
        } else if matches!(
            kind,
            FrameKind::Register | FrameKind::Deregister | FrameKind::QueryCapabilities | FrameKind::Broadcast
        ) {
            assert_ne!(answer["type"], "error", "it is about its own orchestrator, or its own organization: {answer}");
        } else {
            assert_eq!(answer["type"], "error", "{kind:?} {answer}");
        }
    }
    assert_eq!(scene.cell.backend().depth("orla-canary").await, 1, "nothing was taken");
    assert!(scene.victim.is_silent(Duration::from_millis(200)).await);
}
