//! Orchestrators that take tasks, for the tests of federation.

use prost_types::Duration as WireDuration;
use serde_json::Value;
use waystation_proto::federation::v1::complete_delegation_request::Verdict;
use waystation_proto::federation::v1::*;
use waystation_tests::{Backend, Cell, Daemon, eventually};

/// An orchestrator with a daemon, which answers for itself.
pub struct Worker {
    pub name: &'static str,
    pub daemon: Daemon,
    pub calls: Backend,
}

impl Worker {
    /// Connects, and says what it can do.
    pub async fn start(cell: &Cell, name: &'static str, capabilities: &[&str], slots: u32) -> Worker {
        let token = cell.token(name).await;
        let daemon = Daemon::connect(&cell.dev.gateway_url, name, "d1", &token).await;
        let mut worker = Worker { name, daemon, calls: Backend::with_token(&cell.dev, &token) };
        if slots > 0 {
            worker.register(capabilities, slots).await;
            let seen = eventually("it is seen", async || {
                let request = GetOrchestratorRequest { orchestrator_id: name.into(), ..Default::default() };
                let found = worker.calls.federation.clone().get_orchestrator(request).await.unwrap().into_inner();
                found.orchestrator.filter(|found| found.standing() == Standing::Online)
            });
            seen.await;
        }
        worker
    }

    pub async fn register(&mut self, capabilities: &[&str], slots: u32) {
        let capability = |name: &&str| Capability { name: (*name).into(), ..Default::default() };
        let orchestrator = Orchestrator {
            capabilities: capabilities.iter().map(capability).collect(),
            max_concurrent: slots,
            ..Default::default()
        };
        let request = RegisterOrchestratorRequest { orchestrator: Some(orchestrator), ..Default::default() };
        self.calls.federation.register_orchestrator(request).await.unwrap();
    }

    /// The next mail: its type, and what it says.
    pub async fn mail(&mut self) -> (String, Value) {
        let mut event = self.daemon.events(1).await.remove(0);
        self.daemon.ack(std::slice::from_ref(&event)).await;
        (event["eventType"].as_str().unwrap().to_owned(), event["data"].take())
    }

    pub async fn mail_of(&mut self, event_type: &str) -> Value {
        let (found, data) = self.mail().await;
        assert_eq!(found, event_type, "{}: {data}", self.name);
        data
    }

    /// An offer: of which delegation, and the attempt.
    pub async fn offer(&mut self) -> (String, u32) {
        let data = self.mail_of("delegation.offered").await;
        let attempt = u32::try_from(data["attempt"].as_u64().unwrap()).unwrap();
        (data["delegationId"].as_str().unwrap().to_owned(), attempt)
    }

    pub async fn answer(&mut self, (id, attempt): &(String, u32), accepted: bool) -> ReportOutcome {
        let request = RespondToDelegationRequest {
            delegation_id: id.clone(),
            attempt: *attempt,
            accepted,
            reason: if accepted { String::new() } else { "I do not want to".into() },
            ..Default::default()
        };
        self.calls.federation.respond_to_delegation(request).await.unwrap().into_inner().outcome()
    }

    pub async fn progress(&mut self, (id, attempt): &(String, u32), progress: u32) -> ReportOutcome {
        let request = ReportProgressRequest {
            delegation_id: id.clone(),
            attempt: *attempt,
            progress,
            message: "going on".into(),
            ..Default::default()
        };
        self.calls.federation.report_progress(request).await.unwrap().into_inner().outcome()
    }

    pub async fn try_complete(&mut self, of: &(String, u32), verdict: Verdict) -> Result<ReportOutcome, tonic::Status> {
        let (delegation_id, attempt) = of.clone();
        let request =
            CompleteDelegationRequest { delegation_id, attempt, verdict: Some(verdict), ..Default::default() };
        self.calls.federation.complete_delegation(request).await.map(|answer| answer.into_inner().outcome())
    }

    pub async fn complete(&mut self, of: &(String, u32), result: &'static str) -> ReportOutcome {
        self.try_complete(of, Verdict::Result(result.into())).await.unwrap()
    }

    pub async fn delegate(&mut self, request: DelegateTaskRequest) -> String {
        self.calls.federation.delegate_task(request).await.unwrap().into_inner().delegation_id
    }
}

pub fn task(capability: &str) -> DelegateTaskRequest {
    let required = Capability { name: capability.into(), ..Default::default() };
    DelegateTaskRequest {
        task: Some(Task { id: "t-1".into(), payload: r#"{"n":1}"#.into(), ..Default::default() }),
        required_capabilities: vec![required],
        ..Default::default()
    }
}

pub fn seconds(seconds: i64) -> Option<WireDuration> {
    Some(WireDuration { seconds, nanos: 0 })
}

pub async fn look(cell: &Cell, id: &str) -> Delegation {
    let request = GetDelegationRequest { delegation_id: id.into(), ..Default::default() };
    cell.backend().federation.get_delegation(request).await.unwrap().into_inner().delegation.unwrap()
}

pub async fn explain(cell: &Cell, id: &str) -> ExplainDelegationResponse {
    let request = ExplainDelegationRequest { delegation_id: id.into(), ..Default::default() };
    cell.backend().federation.explain_delegation(request).await.unwrap().into_inner()
}

pub async fn ends(cell: &Cell, id: &str) -> Delegation {
    let ended = async || {
        let found = look(cell, id).await;
        found.ended.is_some().then_some(found)
    };
    eventually("it ends", ended).await
}

/// Slots that are taken.
pub async fn reserved(cell: &Cell) -> u32 {
    let all = cell.backend().federation.list_orchestrators(ListOrchestratorsRequest::default()).await.unwrap();
    all.into_inner().orchestrators.iter().map(|orchestrator| orchestrator.reserved).sum()
}
