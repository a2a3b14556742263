//! What a peer is told, in its own frames.

use std::time::Duration;

use serde_json::{Value, json};
use waystation_domain::{Entry, FeedEvent, Timestamp};

use super::{About, MOST_TASKS, Peer, PeerTask};
use crate::frame::{ClientFrame, EventFrame, Received, ServerFrame};

/// Who speaks, where it is no orchestrator.
const WAYSTATION: &str = "waystation";
/// What a peer cannot understand waits so long for somebody who can.
const FOR_OTHERS: Duration = Duration::from_secs(60 * 60);

impl Peer {
    /// The frame in the words of the dialect; `None`: it has none for it.
    pub fn tell(&mut self, frame: &ServerFrame, now: Timestamp) -> Option<String> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "a dialect that has no words for the others")]
        match frame {
            ServerFrame::AuthSuccess { .. } => {
                let status = json!({
                    "status": "connected", "uptime": 0, "lastHeartbeat": now.to_string(),
                    "messagesSent": 0, "messagesReceived": 0, "errors": 0,
                });
                Some(self.say("status", &status, WAYSTATION, None, now))
            }
            ServerFrame::HeartbeatAck { .. } => {
                let beat = json!({
                    "orchestratorId": WAYSTATION, "timestamp": now.to_string(), "status": "healthy",
                    "activeConnections": 0,
                });
                Some(self.say("heartbeat", &beat, WAYSTATION, None, now))
            }
            ServerFrame::Event(EventFrame { entry, .. }) => self.message(entry, now),
            ServerFrame::FeedEvent(event) => self.event(&event.event, now),
            ServerFrame::TaskAnswer { reply_to, .. } => {
                // What is asked for is answered by mail. What has ended is told twice only if nobody has heard it.
                if let Some(About::Ended(task)) = reply_to.as_ref().and_then(|frame| self.under_way.remove(frame)) {
                    self.offered.remove(&task);
                }
                None
            }
            ServerFrame::Error { reply_to, code, message, field, .. } => {
                let field = field.as_deref();
                Some(self.refusal(reply_to.as_deref(), code.name(), message, field, now))
            }
            ServerFrame::RateLimit { reply_to, retry_after, .. } => {
                let message = format!("too many: again in {} s", retry_after.as_secs());
                Some(self.refusal(reply_to.as_deref(), "RATE_LIMITED", &message, None, now))
            }
            _ => None,
        }
    }

    /// A task that cannot be handed on is refused; other faults are told as such.
    fn refusal(
        &mut self,
        reply_to: Option<&str>,
        code: &str,
        message: &str,
        field: Option<&str>,
        now: Timestamp,
    ) -> String {
        let error = json!({"code": code, "message": message, "field": field});
        match reply_to.and_then(|frame| self.under_way.remove(frame)) {
            Some(About::Asked(task)) => {
                let reason = field.map_or_else(|| message.to_owned(), |field| format!("{field}: {message}"));
                let answer = json!({"taskId": task, "accepted": false, "reason": reason});
                self.say("callback", &answer, WAYSTATION, Some(&task), now)
            }
            Some(About::Going(task) | About::Ended(task)) => self.say("error", &error, WAYSTATION, Some(&task), now),
            None => self.say("error", &error, WAYSTATION, None, now),
        }
    }

    /// A message of the mailbox. It is acknowledged when the peer has it.
    fn message(&mut self, entry: &Entry, now: Timestamp) -> Option<String> {
        let data: Value = serde_json::from_slice(&entry.data).unwrap_or_default();
        let is_offer = entry.event_type.as_str() == "delegation.offered";
        let is_known = entry.event_type.as_str().starts_with("delegation.") && !is_offer;
        let said = match entry.event_type.as_str().strip_prefix("delegation.") {
            Some(what) => self.about_task(what, &data, now),
            None => self.broadcast(entry.event_type.as_str(), &data, now),
        };
        if said.is_none() && !is_known {
            let frame = ClientFrame::Nack { id: entry.id.clone(), delay: FOR_OTHERS };
            self.follows.push_back(Received { id: None, frame });
            return None;
        }
        self.written.push(entry.id.clone());
        said
    }

    fn event(&mut self, event: &FeedEvent, now: Timestamp) -> Option<String> {
        let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
        self.broadcast(event.event_type.as_str(), &data, now)
    }

    fn broadcast(&mut self, event_type: &str, data: &Value, now: Timestamp) -> Option<String> {
        let message_type = event_type.strip_prefix("broadcast.")?;
        let payload = &data["payload"];
        // What a peer has said is what it was.
        let said = match payload["topic"].as_str().filter(|_| message_type == "custom") {
            Some(topic) => json!({"topic": topic, "data": payload["data"]}),
            None => json!({"topic": message_type, "data": payload}),
        };
        let from = data["from"].as_str().unwrap_or(WAYSTATION);
        Some(self.say("broadcast", &said, from, None, now))
    }

    /// What happened to a task that it asked for, or has been asked to do.
    fn about_task(&mut self, what: &str, data: &Value, now: Timestamp) -> Option<String> {
        let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        let (delegation, named) = (text("delegationId"), text("taskId"));
        if what == "offered" {
            return self.offer(data, delegation, now);
        }
        let is_assignee = self.offered.values().any(|task| task.delegation == delegation);
        let task = self.offered.values().find(|task| task.delegation == delegation).map(|task| task.task.clone());
        let task = task.unwrap_or(named);
        let answer = match what {
            "accepted" => {
                let mut answer = json!({"taskId": task, "accepted": true});
                if !text("estimatedCompletion").is_empty() {
                    answer["estimatedCompletion"] = data["estimatedCompletion"].clone();
                }
                answer
            }
            "progress" => json!({
                "taskId": task, "status": "progress", "progress": data["progress"],
                "metadata": {"message": data["message"], "delegationId": delegation},
            }),
            "completed" => json!({
                "taskId": task, "status": "completed", "result": data["result"],
                "metadata": {"delegationId": delegation},
            }),
            "failed" if data["state"] == "REJECTED" => {
                json!({"taskId": task, "accepted": false, "reason": data["error"]})
            }
            // To whoever asked for it, or works on it.
            "failed" | "cancelled" => {
                let error = data["error"].as_str().or(data["reason"].as_str()).unwrap_or_default();
                json!({"taskId": task, "status": "failed", "error": format!("{}: {error}", text("state"))})
            }
            "reassigned" if is_assignee => {
                json!({"taskId": task, "status": "failed", "error": format!("it is not yours any more: {}", text("reason"))})
            }
            // The older delegator knows one answer: others are still asked.
            _ => return None,
        };
        if is_assignee && matches!(what, "cancelled" | "reassigned") {
            self.offered.remove(&task);
        }
        let from = data["assignee"].as_str().unwrap_or(WAYSTATION);
        Some(self.say("callback", &answer, from, Some(&task), now))
    }

    fn offer(&mut self, data: &Value, delegation: String, now: Timestamp) -> Option<String> {
        let attempt = u32::try_from(data["attempt"].as_u64()?).ok()?;
        // Anybody may write a message that looks like an offer.
        let mut task = data["task"].as_object()?.clone();
        let named = task.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_another = |known: &PeerTask| known.delegation != delegation;
        // Two delegators may have named two tasks alike.
        let name = match self.offered.get(&named) {
            Some(known) if is_another(known) => delegation.clone(),
            _ if named.is_empty() => delegation.clone(),
            Some(_) | None => named,
        };
        if self.offered.len() >= MOST_TASKS {
            return None;
        }
        let metadata = task.remove("payload").unwrap_or_default();
        task.insert("metadata".into(), metadata);
        task.insert("id".into(), name.as_str().into());
        let from = data["fromOrchestratorId"].as_str().unwrap_or(WAYSTATION);
        let request = json!({
            "fromOrchestratorId": from,
            "toOrchestratorId": self.own.as_str(),
            "priority": task.get("priority"),
            "task": task,
            "requiredCapabilities": data["requiredCapabilities"],
            "timeout": data["timeoutMs"],
            "callbackId": delegation,
        });
        let said = self.say("delegation", &request, from, Some(&name), now);
        let accepted = false;
        self.offered.insert(name.clone(), PeerTask { task: name, delegation, attempt, accepted });
        Some(said)
    }

    fn say(&self, kind: &str, payload: &Value, from: &str, correlation: Option<&str>, now: Timestamp) -> String {
        let payload = if self.is_text { Value::String(payload.to_string()) } else { payload.clone() };
        let mut frame = json!({
            "type": kind, "payload": payload, "from": from, "to": self.own.as_str(), "timestamp": now.to_string(),
        });
        if let Some(correlation) = correlation {
            frame["correlationId"] = correlation.into();
        }
        frame.to_string()
    }
}
