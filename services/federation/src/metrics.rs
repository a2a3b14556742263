//! What federation counts.

use prometheus_client::encoding::EncodeLabelSet;
use waystation_domain::federation::{DelegationState, Reported};
use waystation_telemetry::metrics::{Counter, Family, Registry, begin};

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

impl ReportLabels {
    fn of(reported: Reported) -> ReportLabels {
        let outcome = match reported {
            Reported::Taken => "taken",
            Reported::Known => "known",
            Reported::Late => "late",
        };
        ReportLabels { outcome }
    }
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
        let ends = DelegationState::ALL.into_iter().filter(|state| state.is_terminal());
        begin(&metrics.ended, ends.map(|state| StateLabels { state: state.name() }));
        begin(&metrics.reports, [Reported::Taken, Reported::Known, Reported::Late].map(ReportLabels::of));
        metrics
    }

    pub(crate) fn began(&self) {
        self.delegated.inc();
    }

    pub(crate) fn ended(&self, state: DelegationState) {
        self.ended.get_or_create(&StateLabels { state: state.name() }).inc();
    }

    pub(crate) fn reported(&self, reported: Reported) {
        self.reports.get_or_create(&ReportLabels::of(reported)).inc();
    }

    pub(crate) fn conflicted(&self) {
        self.conflicts.inc();
    }
}
