//! What federation counts.

use prometheus_client::encoding::EncodeLabelSet;
use waystation_domain::federation::{DelegationState, Reported};
use waystation_telemetry::metrics::{Counter, Family, Registry};

#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    delegated: Counter,
    ended: Family<StateLabels, Counter>,
    reports: Family<ReportLabels, Counter>,
    conflicts: Counter,
    pub(crate) mail: Counter,
    pub(crate) broadcast: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReportLabels {
    outcome: &'static str,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        let mut add = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add("waystation_delegations", "Delegations that were begun", &metrics.delegated);
        add("waystation_delegation_conflicts", "Changes that somebody else was faster with", &metrics.conflicts);
        add("waystation_delegation_mail", "Messages about delegations that were sent", &metrics.mail);
        add("waystation_broadcasts", "Broadcasts that were said", &metrics.broadcast);
        registry.register("waystation_delegations_ended", "Delegations by how they ended", metrics.ended.clone());
        registry.register("waystation_delegation_reports", "Reports of assignees", metrics.reports.clone());
        metrics
    }

    pub(crate) fn began(&self) {
        self.delegated.inc();
    }

    pub(crate) fn ended(&self, state: DelegationState) {
        self.ended.get_or_create(&StateLabels { state: state.name() }).inc();
    }

    pub(crate) fn reported(&self, reported: Reported) {
        let outcome = match reported {
            Reported::Taken => "taken",
            Reported::Known => "known",
            Reported::Late => "late",
        };
        self.reports.get_or_create(&ReportLabels { outcome }).inc();
    }

    pub(crate) fn conflicted(&self) {
        self.conflicts.inc();
    }
}
