//! A task that was given away.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Notice, Request};
use crate::client::Client;
use crate::delivery::Delivery;
use crate::error::{CallError, Stopped};

/// Updates that may wait to be read.
const WAITING: usize = 64;

/// What happens to a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// Somebody works on it.
    Accepted {
        /// Who.
        assignee: String,
        /// What it said of when.
        estimate: Option<String>,
    },
    /// Somebody did not want it; another is asked.
    Rejected {
        /// Who.
        assignee: String,
        /// Why.
        reason: String,
    },
    /// It goes on.
    Progress {
        /// From 0 to 100.
        percent: f64,
        /// For people.
        message: String,
    },
    /// Somebody else is looked for.
    Reassigned {
        /// Why.
        reason: String,
    },
    /// An entry of the shared context has changed.
    Context {
        /// Which.
        name: String,
    },
    /// It is over.
    Ended(DelegationEnd),
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq)]
pub enum DelegationEnd {
    /// Done.
    Completed(Value),
    /// Failed, expired, or refused by all who could do it.
    Failed {
        /// FAILED, EXPIRED or REJECTED.
        state: String,
        /// Why.
        error: String,
    },
    /// Not wanted any more.
    Cancelled,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Heard(Update);

impl Heard {
    pub(crate) fn is_progress(&self) -> bool {
        matches!(self.0, Update::Progress { .. })
    }

    pub(crate) fn read(delivery: &Delivery) -> Option<Heard> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[derive(Default)]
        struct Said {
            assignee: Option<String>,
            reason: Option<String>,
            estimated_completion: Option<String>,
            progress: Option<f64>,
            message: Option<String>,
            result: Value,
            state: Option<String>,
            error: Option<String>,
            name: Option<String>,
        }
        let said: Said = delivery.json().ok()?;
        let assignee = said.assignee.unwrap_or_default();
        let reason = said.reason.unwrap_or_default();
        Some(Heard(match delivery.event_type.as_str().strip_prefix("delegation.")? {
            "accepted" => Update::Accepted { assignee, estimate: said.estimated_completion },
            "rejected" => Update::Rejected { assignee, reason },
            "progress" => Update::Progress {
                percent: said.progress.unwrap_or_default(),
                message: said.message.unwrap_or_default(),
            },
            "reassigned" => Update::Reassigned { reason },
            "context" => Update::Context { name: said.name.unwrap_or_default() },
            "completed" => Update::Ended(DelegationEnd::Completed(said.result)),
            "cancelled" => Update::Ended(DelegationEnd::Cancelled),
            "failed" => {
                let (state, error) = (said.state.unwrap_or_default(), said.error.unwrap_or_default());
                Update::Ended(DelegationEnd::Failed { state, error })
            }
            _ => return None,
        }))
    }
}

/// A task that was given away, and what becomes of it.
#[derive(Debug)]
pub struct Delegation {
    id: String,
    client: Client,
    updates: mpsc::Receiver<Heard>,
    ended: bool,
}

impl Delegation {
    pub(crate) async fn make(client: &Client, request: &Request) -> Result<Delegation, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Made {
            delegation_id: String,
        }
        let desk = client.desk();
        // A desk that is gone went with the client, which the call tells.
        desk.send(Notice::Delegating).await.ok();
        let made: Result<Made, CallError> = client.call("delegate", request).await;
        let (sender, updates) = mpsc::channel(WAITING);
        let noted = made.as_ref().ok().map(|made| (made.delegation_id.clone(), sender));
        desk.send(Notice::Delegated(noted)).await.ok();
        Ok(Delegation { id: made?.delegation_id, client: client.clone(), updates, ended: false })
    }

    /// The delegation's id, with which anybody may ask for an explanation.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What happens next; `None` after the end.
    ///
    /// # Errors
    /// If the client has ended. The task goes on all the same.
    pub async fn next(&mut self) -> Result<Option<Update>, Stopped> {
        if self.ended {
            return Ok(None);
        }
        match self.updates.recv().await {
            Some(Heard(update)) => {
                self.ended = matches!(update, Update::Ended(_));
                Ok(Some(update))
            }
            None => Err(self.client.closed().await),
        }
    }

    /// How it ends.
    ///
    /// # Errors
    /// If the client has ended. The task goes on all the same.
    pub async fn end(&mut self) -> Result<DelegationEnd, Stopped> {
        while let Some(update) = self.next().await? {
            if let Update::Ended(end) = update {
                return Ok(end);
            }
        }
        Err(Stopped::Failed)
    }

    /// It is not wanted any more. Whoever works on it is told.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn cancel(&self, reason: &str) -> Result<(), CallError> {
        let payload = json!({"delegationId": self.id, "reason": reason});
        self.client.call::<Value>("delegation_cancel", &payload).await.map(drop)
    }

    /// Writes an entry of the context that both share; answers its version. With `version` it is refused if the entry has
    /// another one.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn put_context(&self, name: &str, value: &Value, version: Option<u64>) -> Result<u64, CallError> {
        put_context(&self.client, &self.id, name, value, version).await
    }
}

pub(super) async fn put_context(
    client: &Client,
    delegation: &str,
    name: &str,
    value: &Value,
    version: Option<u64>,
) -> Result<u64, CallError> {
    #[derive(Deserialize)]
    struct Written {
        version: u64,
    }
    let mut payload = json!({"delegationId": delegation, "name": name, "value": value});
    if let Some(version) = version {
        payload["version"] = version.into();
    }
    client.call::<Written>("context_put", &payload).await.map(|written| written.version)
}
