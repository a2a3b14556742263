//! What a peer says, as frames of the daemon protocol.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use waystation_domain::policy::FrameKind;
use waystation_domain::{ReportedStatus, check_document};

use super::{About, MOST_TASKS, Peer, PeerSaid};
use crate::frame::{ClientFrame, FrameError, Heartbeat, Received, TaskCall};
use crate::payload::{Refusal, parse, parse_payload};

/// Whom a task is for, if anybody will do.
const ANYBODY: &str = "*";
/// How long a task may take, unless the peer says otherwise, in milliseconds.
const USUAL_TIMEOUT: u64 = 300_000;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delegation {
    from_orchestrator_id: Option<String>,
    to_orchestrator_id: Option<String>,
    task: Task,
    priority: Option<String>,
    required_capabilities: Option<Required>,
    context: Option<Map<String, Value>>,
    timeout: Option<u64>,
    callback_id: Option<String>,
}

#[derive(Deserialize)]
struct Task {
    id: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    description: String,
    priority: Option<String>,
    metadata: Option<Map<String, Value>>,
}

/// What a task takes: names, or the older description of an orchestrator.
#[derive(Deserialize)]
#[serde(untagged)]
enum Required {
    Names(Vec<String>),
    #[serde(rename_all = "camelCase")]
    Described {
        #[serde(default)]
        supported_task_types: Vec<String>,
        #[serde(default)]
        specializations: Vec<String>,
    },
}

/// An answer to an offer (`accepted`), or a report (`status`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Callback {
    task_id: String,
    accepted: Option<bool>,
    #[serde(default)]
    reason: String,
    estimated_completion: Option<String>,
    status: Option<String>,
    result: Option<Value>,
    error: Option<String>,
    progress: Option<f64>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Broadcast {
    topic: String,
    data: Option<Value>,
}

#[derive(Deserialize)]
struct Beat {
    status: Option<String>,
}

fn refuse<T>(field: &str, message: &str) -> Result<T, Refusal> {
    Err((message.to_owned(), Some(field.to_owned())))
}

/// The payload, which is a JSON object or the text of one; and which of them.
fn unwrap(payload: Option<&RawValue>) -> Result<(String, bool), Refusal> {
    let raw = payload.map_or("{}", RawValue::get);
    if !raw.starts_with('"') {
        return Ok((raw.to_owned(), false));
    }
    let inner: String = parse(raw.as_bytes())?;
    check_document(inner.as_bytes()).map_err(|error| (error.to_string(), Some("payload".to_owned())))?;
    Ok((inner, true))
}

/// Percent; peers count to 1 or to 100.
fn percent(progress: f64) -> u64 {
    let percent = if progress > 0.0 && progress < 1.0 { progress * 100.0 } else { progress };
    // In range, so nothing is cut off.
    percent.clamp(0.0, 100.0).round() as u64
}

impl Peer {
    /// Reads what the peer has sent.
    ///
    /// # Errors
    /// If it is no frame of the dialect, or speaks for somebody else. The error names the field.
    pub fn handle_text(&mut self, text: &str) -> Result<PeerSaid, FrameError> {
        let id = self.frame_id();
        let refused = |(message, field): Refusal| FrameError { reply_to: Some(id.clone()), message, field };
        check_document(text.as_bytes()).map_err(|error| refused((error.to_string(), None)))?;
        let said: Envelope<'_> = parse(text.as_bytes()).map_err(refused)?;
        if said.from.as_deref() != Some(self.own.as_str()) {
            return Err(refused(("must be the orchestrator of the token".to_owned(), Some("from".to_owned()))));
        }
        let (payload, is_text) = unwrap(said.payload).map_err(refused)?;
        self.is_text = is_text;
        let payload = payload.as_bytes();
        let said = match said.kind.as_str() {
            "delegation" => {
                self.delegation(parse_payload(payload).map_err(refused)?, said.to, &id).map(|said| vec![said])
            }
            "callback" => self.callback(parse_payload(payload).map_err(refused)?, &id),
            "broadcast" => Ok(vec![broadcast(parse_payload(payload).map_err(refused)?)]),
            "heartbeat" => beat(&parse_payload(payload).map_err(refused)?).map(|said| vec![said]),
            "status" => return Ok(PeerSaid::Alive),
            _ => refuse("type", "is not known"),
        };
        // The last of them is what it said; what comes before follows from it.
        let frames = said.map_err(refused)?;
        let last = frames.len() - 1;
        let named = |(at, frame)| Received { id: (at == last).then(|| id.clone()), frame };
        Ok(PeerSaid::Frames(frames.into_iter().enumerate().map(named).collect()))
    }

    /// Asks for a task.
    fn delegation(&mut self, said: Delegation, to: Option<String>, frame: &str) -> Result<ClientFrame, Refusal> {
        if said.from_orchestrator_id.is_some_and(|from| from != self.own.as_str()) {
            return refuse("payload.fromOrchestratorId", "must be the orchestrator of the token");
        }
        if said.task.id.is_empty() {
            return refuse("payload.task.id", "must not be empty");
        }
        if self.under_way.len() >= MOST_TASKS {
            return refuse("payload", "too many tasks are asked for at once");
        }
        let to = said.to_orchestrator_id.or(to).filter(|to| to != ANYBODY).unwrap_or_default();
        let capabilities = match said.required_capabilities {
            None => Vec::new(),
            Some(Required::Names(names)) => names,
            Some(Required::Described { mut supported_task_types, specializations }) => {
                supported_task_types.extend(specializations);
                supported_task_types
            }
        };
        let entry = |(name, value): (String, Value)| json!({"name": name, "value": value});
        let timeout = said.timeout.unwrap_or(USUAL_TIMEOUT);
        let mut payload = json!({
            "requestId": said.callback_id.unwrap_or_default(),
            "toOrchestratorId": to,
            "task": {
                "id": said.task.id,
                "type": said.task.kind,
                "description": said.task.description,
                "priority": said.priority.or(said.task.priority),
                "payload": said.task.metadata.unwrap_or_default(),
            },
            "requiredCapabilities": capabilities,
            "context": said.context.unwrap_or_default().into_iter().map(entry).collect::<Vec<_>>(),
            "limits": {"runMs": timeout, "overallMs": timeout},
        });
        if !to.is_empty() {
            // Whoever names somebody expects one answer of it.
            payload["maxRetries"] = 0.into();
        }
        self.under_way.insert(frame.to_owned(), About::Asked(said.task.id));
        Ok(call(FrameKind::Delegate, payload))
    }

    /// Says whether it wants to, how it goes, or what came of it.
    fn callback(&mut self, said: Callback, frame: &str) -> Result<Vec<ClientFrame>, Refusal> {
        let Some(task) = self.offered.get_mut(&said.task_id) else {
            return refuse("payload.taskId", "names no task that was offered");
        };
        let of = |kind, mut payload: Value| {
            payload["delegationId"] = task.delegation.as_str().into();
            payload["attempt"] = task.attempt.into();
            call(kind, payload)
        };
        let mut frames = Vec::new();
        let has_answered = task.accepted || said.accepted.is_some();
        if !has_answered {
            // Whoever reports on a task without a word before has accepted it.
            frames.push(of(FrameKind::DelegationResponse, json!({"accepted": true})));
        }
        let message = said.metadata.as_ref().and_then(|metadata| metadata.get("message")).and_then(Value::as_str);
        let (kind, payload, has_ended) = match (said.accepted, said.status.as_deref()) {
            (Some(accepted), _) => {
                let estimate = said.estimated_completion.unwrap_or_default();
                let answer = json!({"accepted": accepted, "reason": said.reason, "estimatedCompletion": estimate});
                (FrameKind::DelegationResponse, answer, !accepted)
            }
            (None, Some("progress")) => {
                let progress = percent(said.progress.unwrap_or_default());
                let report = json!({"progress": progress, "message": message.unwrap_or_default()});
                (FrameKind::DelegationProgress, report, false)
            }
            (None, Some("completed")) => {
                (FrameKind::DelegationResult, json!({"status": "completed", "result": said.result}), true)
            }
            (None, Some("failed")) => {
                let error = said.error.filter(|error| !error.is_empty()).unwrap_or_else(|| "it did not say why".into());
                (FrameKind::DelegationResult, json!({"status": "failed", "error": error}), true)
            }
            (None, _) => {
                return refuse("payload.status", "must be completed, failed or progress, or accepted be there");
            }
        };
        frames.push(of(kind, payload));
        task.accepted = true;
        let about = if has_ended { About::Ended(said.task_id) } else { About::Going(said.task_id) };
        self.under_way.insert(frame.to_owned(), about);
        Ok(frames)
    }
}

fn broadcast(Broadcast { topic, data }: Broadcast) -> ClientFrame {
    let payload = json!({"topic": topic, "data": data});
    call(FrameKind::Broadcast, json!({"to": {"all": true}, "messageType": "custom", "payload": payload}))
}

fn call(kind: FrameKind, payload: Value) -> ClientFrame {
    ClientFrame::Task(Box::new(TaskCall { kind, payload: payload.to_string().into() }))
}

fn beat(said: &Beat) -> Result<ClientFrame, Refusal> {
    let status = match said.status.as_deref() {
        None | Some("healthy") => ReportedStatus::Active,
        Some("degraded" | "overloaded") => ReportedStatus::Busy,
        Some(_) => return refuse("payload.status", "must be healthy, degraded or overloaded"),
    };
    Ok(ClientFrame::Heartbeat(Heartbeat { status: Some(status), metrics: None }))
}
