//! Tasks that orchestrators hand to each other: to work on them, and to give them away.

mod delegation;
mod desk;
mod worker;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use delegation::{Delegation, DelegationEnd, Update};
pub(crate) use desk::{Desk, Notice};
pub use worker::{Task, TaskFailed, Worker};

/// What an orchestrator can do.
#[derive(Clone, Debug, Serialize)]
pub struct Capability {
    /// Lower-case, as `research`.
    pub name: String,
    /// If the work depends on it, as `1.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// If some do it better than others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<u32>,
}

impl From<&str> for Capability {
    fn from(name: &str) -> Capability {
        Capability { name: name.to_owned(), version: None, level: None }
    }
}

/// How a daemon takes tasks.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkOptions {
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// How many tasks at a time; at least one.
    pub max_concurrent: u32,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Of which tier it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
}

impl WorkOptions {
    /// One task at a time, with these capabilities.
    pub fn new(capabilities: &[&str]) -> WorkOptions {
        let capabilities = capabilities.iter().map(|name| Capability::from(*name)).collect();
        WorkOptions { capabilities, max_concurrent: 1, region: None, tier: None }
    }

    /// So many at a time.
    pub fn at_a_time(mut self, tasks: u32) -> WorkOptions {
        self.max_concurrent = tasks.max(1);
        self
    }
}

/// A task as it is offered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// The delegation.
    pub delegation_id: String,
    /// Counts those who were asked.
    pub attempt: u32,
    /// What is to be done.
    pub task: TaskData,
    /// Who wants it; `None`: a backend.
    pub from_orchestrator_id: Option<String>,
    /// What it takes.
    #[serde(default)]
    pub required_capabilities: Vec<Value>,
    /// Milliseconds that it may run.
    #[serde(default)]
    pub timeout_ms: u64,
    /// Milliseconds between signs of progress, if they are wanted. The worker gives them by itself.
    pub heartbeat_ms: Option<u64>,
}

/// What is to be done.
#[derive(Clone, Debug, Deserialize)]
pub struct TaskData {
    /// The delegator's own name of it.
    #[serde(default)]
    pub id: String,
    /// As `research`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// low, medium, high or critical.
    #[serde(default)]
    pub priority: String,
    /// Whatever the delegator says.
    #[serde(default)]
    pub payload: Value,
}

/// A task for somebody else.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    request_id: String,
    task: RequestedTask,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    required_capabilities: Vec<Capability>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_orchestrator_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strategy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<u32>,
    limits: Limits,
}

#[derive(Clone, Debug, Serialize)]
struct RequestedTask {
    #[serde(rename = "type")]
    kind: String,
    payload: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overall_ms: Option<u64>,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Request {
    /// A task of a type, for whoever has the capabilities of that name unless others are named.
    pub fn new(kind: &str, payload: Value) -> Request {
        Request {
            request_id: format!("{:032x}", rand::random::<u128>()),
            task: RequestedTask { kind: kind.to_owned(), payload, priority: None },
            required_capabilities: vec![kind.into()],
            to_orchestrator_id: None,
            strategy: None,
            max_retries: None,
            limits: Limits::default(),
        }
    }

    /// The same id is the same delegation. Default: a new one.
    pub fn request_id(mut self, id: &str) -> Request {
        self.request_id = id.to_owned();
        self
    }

    /// What whoever does it must be able to.
    pub fn required_capabilities(mut self, capabilities: Vec<Capability>) -> Request {
        self.required_capabilities = capabilities;
        self
    }

    /// Names who is to do it.
    pub fn to(mut self, orchestrator: &str) -> Request {
        self.to_orchestrator_id = Some(orchestrator.to_owned());
        self
    }

    /// power-of-two, round-robin, least-loaded, weighted, capability-aware or sticky.
    pub fn strategy(mut self, strategy: &str) -> Request {
        self.strategy = Some(strategy.to_owned());
        self
    }

    /// How often it may be done anew after a failure. Default: 3.
    pub fn max_retries(mut self, retries: u32) -> Request {
        self.max_retries = Some(retries);
        self
    }

    /// low, medium, high or critical.
    pub fn priority(mut self, priority: &str) -> Request {
        self.task.priority = Some(priority.to_owned());
        self
    }

    /// How long one attempt may run, and how long all of it may take.
    pub fn limits(mut self, run: Duration, overall: Duration) -> Request {
        self.limits = Limits { run_ms: Some(millis(run)), overall_ms: Some(millis(overall)) };
        self
    }
}
