//! Daemons' calls about tasks, in the words of federation and back. Federation judges them by the daemon's own token.

mod payloads;
mod tools;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Response, Status};
use waystation_domain::OrchestratorId;
use waystation_domain::policy::FrameKind;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::federation::v1::federation_service_client::FederationServiceClient;
use waystation_proto::federation::v1::{self as wire};
use waystation_rpc::{Balanced, Fault, field_of, limit_of, reason_of, retry_after_of};
use waystation_wire::{CallOutcome, ErrorCode, PeerTask, SendRefused, TaskCall, read_task};

use super::PATIENCE;
use payloads::{Cancel, ContextGet, ContextPut, Progress, Query, Register, Respond, all, broadcast, delegate, verdict};
pub(crate) use tools::{ClusterQuery, OrchestratorQuery, StatusQuery};

type Federation = FederationServiceClient<Balanced>;
/// Type and payload of the answer.
type Answer = (&'static str, Value);

/// Why a call came to nothing.
enum Failed {
    /// The payload is not what the frame carries: what is wrong, and where.
    Payload(String, Option<String>),
    /// Federation said so, or did not answer.
    Status(Status),
}

impl From<(String, Option<String>)> for Failed {
    fn from((message, field): (String, Option<String>)) -> Failed {
        Failed::Payload(message, field)
    }
}

impl From<Status> for Failed {
    fn from(status: Status) -> Failed {
        Failed::Status(status)
    }
}

/// A name of the contract without its prefix.
fn word<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// What a report did, for whoever made it.
fn reported(delegation: &str, outcome: wire::ReportOutcome) -> Answer {
    let outcome = word(outcome.as_str_name(), "REPORT_OUTCOME_");
    ("delegation_ack", json!({"delegationId": delegation, "outcome": outcome}))
}

fn shown(status: wire::OrchestratorStatus) -> Value {
    let standing = word(status.standing().as_str_name(), "STANDING_").to_lowercase();
    let orchestrator = status.orchestrator.unwrap_or_default();
    let capability = |capability: wire::Capability| {
        let mut shown = json!({"name": capability.name});
        if !capability.version.is_empty() {
            shown["version"] = capability.version.into();
        }
        if let Some(level) = capability.level {
            shown["level"] = level.into();
        }
        shown
    };
    json!({
        "id": orchestrator.orchestrator_id,
        "name": orchestrator.name,
        "region": orchestrator.region,
        "capabilities": orchestrator.capabilities.into_iter().map(capability).collect::<Vec<_>>(),
        "status": standing,
        "free": status.free,
    })
}

/// Calls about tasks, if the cell has federation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tasks(Option<Federation>);

impl Tasks {
    pub(crate) fn new(federation: Option<Balanced>) -> Tasks {
        Tasks(federation.map(Federation::new))
    }
}

impl Tasks {
    /// Somebody who asks by a token.
    fn caller(&self, token: &SecretString) -> Result<Caller, Failed> {
        let federation = self.0.clone();
        let federation = federation.ok_or_else(|| Status::unimplemented("this cell has no federation"))?;
        let bearer = format!("Bearer {}", token.expose_secret()).parse::<MetadataValue<Ascii>>();
        let bearer = bearer.map_err(|_| Status::from(Fault::field("authorization", "is not a token")))?;
        Ok(Caller { federation, bearer })
    }

    /// Makes a call of a daemon, or of a tool.
    pub(crate) async fn call(&self, token: &SecretString, call: TaskCall) -> CallOutcome {
        self.caller(token).map_err(told)?.call(call).await.map_err(told)
    }

    /// Whether the orchestrator of a token is registered, and what it works on.
    pub(crate) async fn works_on(
        &self,
        token: &SecretString,
        orchestrator: &OrchestratorId,
    ) -> Result<(bool, Vec<PeerTask>), SendRefused> {
        self.caller(token).map_err(told)?.works_on(orchestrator).await.map_err(told)
    }
}

struct Caller {
    federation: Federation,
    bearer: MetadataValue<Ascii>,
}

impl Caller {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request.set_timeout(PATIENCE);
        request
    }

    async fn works_on(mut self, orchestrator: &OrchestratorId) -> Result<(bool, Vec<PeerTask>), Failed> {
        let request = wire::GetOrchestratorRequest { orchestrator_id: orchestrator.to_string(), ..Default::default() };
        let is_registered = match self.federation.get_orchestrator(self.request(request)).await {
            Ok(_) => true,
            Err(status) if status.code() == Code::NotFound => false,
            Err(status) => return Err(status.into()),
        };
        let request = wire::ListDelegationsRequest { assignee_id: orchestrator.to_string(), ..Default::default() };
        let held = self.federation.list_delegations(self.request(request)).await?.into_inner().delegations;
        let task = |held: wire::Delegation| {
            let last = held.attempts.last()?;
            let named = held.task.as_ref().map(|task| task.id.clone()).filter(|id| !id.is_empty());
            Some(PeerTask {
                task: named.unwrap_or_else(|| held.delegation_id.clone()),
                attempt: last.number,
                accepted: last.accepted.is_some(),
                delegation: held.delegation_id.clone(),
            })
        };
        Ok((is_registered, held.into_iter().filter_map(task).collect()))
    }

    async fn call(mut self, call: TaskCall) -> Result<Answer, Failed> {
        match call.kind {
            FrameKind::Register => {
                let said: Register = read_task(&call)?;
                let orchestrator = wire::Orchestrator {
                    orchestrator_id: String::new(),
                    name: said.name,
                    region: said.region,
                    tier: said.tier,
                    capabilities: all(said.capabilities),
                    max_concurrent: said.max_concurrent,
                    weight: said.weight,
                    token_limit: said.token_limit,
                };
                let request =
                    wire::RegisterOrchestratorRequest { orchestrator: Some(orchestrator), ..Default::default() };
                self.federation.register_orchestrator(self.request(request)).await?;
                Ok(("registered", json!({})))
            }
            FrameKind::Deregister => {
                let request = self.request(wire::DeregisterOrchestratorRequest::default());
                let answer = self.federation.deregister_orchestrator(request).await?.into_inner();
                Ok(("deregistered", json!({"wasRegistered": answer.was_registered})))
            }
            FrameKind::QueryCapabilities => {
                let Query { capabilities, region, limit, after } = read_task(&call)?;
                let request = wire::ListOrchestratorsRequest {
                    capabilities: all(capabilities),
                    region,
                    page_size: limit,
                    page_token: after,
                    ..Default::default()
                };
                let answer = self.federation.list_orchestrators(self.request(request)).await?.into_inner();
                let mut payload = json!({"orchestrators": all_shown(answer.orchestrators)});
                if !answer.next_page_token.is_empty() {
                    payload["next"] = answer.next_page_token.into();
                }
                Ok(("capabilities", payload))
            }
            FrameKind::Delegate => {
                let request = delegate(read_task(&call)?)?;
                let answer = self.federation.delegate_task(self.request(request)).await?.into_inner();
                let state = word(answer.state().as_str_name(), "DELEGATION_STATE_");
                let mut payload = json!({
                    "delegationId": answer.delegation_id,
                    "state": state,
                    "duplicate": answer.duplicate,
                });
                if !answer.assignee_id.is_empty() {
                    payload["assignee"] = answer.assignee_id.into();
                }
                Ok(("delegate_ack", payload))
            }
            FrameKind::DelegationResponse => {
                let said: Respond = read_task(&call)?;
                let request = wire::RespondToDelegationRequest {
                    delegation_id: said.delegation_id.clone(),
                    attempt: said.attempt,
                    accepted: said.accepted,
                    reason: said.reason,
                    estimated_completion: said.estimated_completion,
                    ..Default::default()
                };
                let answer =
                    self.federation.respond_to_delegation(self.request(request)).await.map(Response::into_inner)?;
                Ok(reported(&said.delegation_id, answer.outcome()))
            }
            FrameKind::DelegationProgress => {
                let said: Progress = read_task(&call)?;
                let request = wire::ReportProgressRequest {
                    delegation_id: said.delegation_id.clone(),
                    attempt: said.attempt,
                    progress: said.progress,
                    message: said.message,
                    ..Default::default()
                };
                let answer = self.federation.report_progress(self.request(request)).await?.into_inner();
                Ok(reported(&said.delegation_id, answer.outcome()))
            }
            FrameKind::DelegationResult => {
                let request = verdict(read_task(&call)?)?;
                let delegation = request.delegation_id.clone();
                let answer = self.federation.complete_delegation(self.request(request)).await?.into_inner();
                Ok(reported(&delegation, answer.outcome()))
            }
            FrameKind::DelegationCancel => {
                let Cancel { delegation_id, reason } = read_task(&call)?;
                let request = wire::CancelDelegationRequest {
                    delegation_id: delegation_id.clone(),
                    reason,
                    ..Default::default()
                };
                self.federation.cancel_delegation(self.request(request)).await?;
                Ok(reported(&delegation_id, wire::ReportOutcome::Taken))
            }
            FrameKind::ContextGet => {
                let ContextGet { delegation_id, names, after } = read_task(&call)?;
                let request = wire::GetContextRequest {
                    delegation_id: delegation_id.clone(),
                    names,
                    page_token: after,
                    ..Default::default()
                };
                let answer = self.federation.get_context(self.request(request)).await?.into_inner();
                let entries = answer.entries.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
                let mut payload = json!({"delegationId": delegation_id, "entries": entries});
                if !answer.next_page_token.is_empty() {
                    payload["next"] = answer.next_page_token.into();
                }
                Ok(("context", payload))
            }
            FrameKind::ContextPut => {
                let ContextPut { delegation_id, name, value, version } = read_task(&call)?;
                let request = wire::PutContextRequest {
                    delegation_id: delegation_id.clone(),
                    name: name.clone(),
                    value: String::from(Box::<str>::from(value)).into(),
                    version,
                    ..Default::default()
                };
                let answer = self.federation.put_context(self.request(request)).await?.into_inner();
                Ok(("context_ack", json!({"delegationId": delegation_id, "name": name, "version": answer.version})))
            }
            FrameKind::Broadcast => {
                let request = broadcast(read_task(&call)?)?;
                let answer = self.federation.broadcast(self.request(request)).await?.into_inner();
                let wire::BroadcastResponse { broadcast_id, reached, refused } = answer;
                Ok(("broadcast_ack", json!({"broadcastId": broadcast_id, "reached": reached, "refused": refused})))
            }
            FrameKind::Auth
            | FrameKind::Heartbeat
            | FrameKind::Subscribe
            | FrameKind::Unsubscribe
            | FrameKind::Ack
            | FrameKind::Nack
            | FrameKind::Reject
            | FrameKind::Extend
            | FrameKind::Send
            | FrameKind::AuthRefresh
            | FrameKind::Goodbye => Err(Failed::Status(Status::internal("is no call about tasks"))),
        }
    }
}

fn entry(entry: &wire::ContextEntry) -> Result<Value, Status> {
    let value: Value = serde_json::from_slice(&entry.value)
        .map_err(|_| Status::internal("federation gave an entry that is no JSON"))?;
    Ok(json!({"name": entry.name, "version": entry.version, "value": value}))
}

fn all_shown(orchestrators: Vec<wire::OrchestratorStatus>) -> Vec<Value> {
    orchestrators.into_iter().map(shown).collect()
}

/// A failure in the words of the daemon protocol.
fn told(failed: Failed) -> SendRefused {
    let status = match failed {
        Failed::Payload(message, field) => {
            let reason = Some("INVALID_FIELD");
            return SendRefused { code: ErrorCode::InvalidMessage, message, field, reason, limited: None };
        }
        Failed::Status(status) => status,
    };
    let reason = reason_of(&status);
    let code = match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::Aborted
        | Code::Unimplemented => ErrorCode::InvalidMessage,
        Code::ResourceExhausted => ErrorCode::RateLimited,
        Code::PermissionDenied => ErrorCode::InsufficientScope,
        Code::Unauthenticated => ErrorCode::NotAuthenticated,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => ErrorCode::InternalError,
    };
    let reason = Some(word(reason.unwrap_or(ErrorReason::Unavailable).as_str_name(), "ERROR_REASON_"));
    let limited = limit_of(&status).and_then(|most| Some((retry_after_of(&status)?, most)));
    let field = field_of(&status).map(|field| member(&field));
    SendRefused { code, message: status.message().to_owned(), field, reason, limited }
}

/// The member of the payload that a field of the request stands for: `required_capabilities[0].name` is
/// `payload.requiredCapabilities[0].name`.
fn member(field: &str) -> String {
    let field = match field.strip_prefix("orchestrator.").unwrap_or(field) {
        "page_token" => "after",
        // Frames have a type of their own.
        "type" => "message_type",
        field => field,
    };
    let mut member = String::from("payload.");
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '_' => member.extend(letters.next().map(|next| next.to_ascii_uppercase())),
            letter => member.push(letter),
        }
    }
    member
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(kind: FrameKind, payload: &'static str) -> TaskCall {
        TaskCall { kind, payload: payload.into() }
    }

    #[test]
    fn fields_are_named_as_in_the_frame() {
        assert_eq!(member("required_capabilities[0].name"), "payload.requiredCapabilities[0].name");
        assert_eq!(member("orchestrator.max_concurrent"), "payload.maxConcurrent");
        assert_eq!(member("task.payload"), "payload.task.payload");
    }

    #[test]
    fn a_task_is_read_as_it_stands() {
        let text = r#"{"task":{"id":"t","type":"code","priority":"high","payload":{"a":[1, 2]}},"strategy":"round-robin",
            "requiredCapabilities":["research",{"name":"testing","level":2}],"limits":{"offerMs":1500}}"#;
        let request = delegate(read_task(&call(FrameKind::Delegate, text)).unwrap()).ok().unwrap();
        let task = request.task.clone().unwrap();
        assert_eq!((task.priority(), &task.payload[..]), (wire::TaskPriority::High, &br#"{"a":[1, 2]}"#[..]));
        assert_eq!(request.strategy(), wire::Strategy::RoundRobin);
        assert_eq!(request.required_capabilities[1].level, Some(2));
        let offer = request.limits.unwrap().offer.unwrap();
        assert_eq!((offer.seconds, offer.nanos), (1, 500_000_000));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let field = |failed: Failed| match failed {
            Failed::Payload(_, field) => field.unwrap_or_default(),
            Failed::Status(status) => panic!("{status}"),
        };
        let delegated = |text| {
            let read = read_task(&call(FrameKind::Delegate, text)).map_err(Failed::from);
            field(read.and_then(delegate).err().unwrap())
        };
        assert_eq!(delegated("{}"), "payload.task");
        assert_eq!(delegated(r#"{"task":{"priority":"soon"}}"#), "payload.task.priority");
        assert_eq!(delegated(r#"{"task":{},"strategy":"best"}"#), "payload.strategy");
        assert_eq!(delegated(r#"{"task":{},"maxRetries":-1}"#), "payload.maxRetries");
        let ended = |text| {
            let read = read_task(&call(FrameKind::DelegationResult, text)).map_err(Failed::from);
            field(read.and_then(verdict).err().unwrap())
        };
        assert_eq!(ended(r#"{"delegationId":"d","attempt":1,"status":"done"}"#), "payload.status");
        assert_eq!(ended(r#"{"delegationId":"d","attempt":1,"status":"failed"}"#), "payload.error");
        assert_eq!(ended(r#"{"delegationId":"d","status":"failed"}"#), "payload.attempt");
    }
}
