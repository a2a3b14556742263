//! What auth counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use waystation_telemetry::metrics::{Counter, Family, Registry, begin};

#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    logins: Family<LoginLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoginLabels {
    kind: Kind,
    accepted: Accepted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Kind {
    Daemon,
    Service,
    Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Accepted {
    Yes,
    No,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        registry.register("waystation_auth_logins", "Logins by kind and outcome", metrics.logins.clone());
        for kind in [Kind::Daemon, Kind::Service, Kind::Refresh] {
            begin(&metrics.logins, [Accepted::Yes, Accepted::No].map(|accepted| LoginLabels { kind, accepted }));
        }
        metrics
    }

    /// Counts a login and passes its outcome on.
    pub(crate) fn login<T, E>(&self, kind: Kind, outcome: Result<T, E>) -> Result<T, E> {
        let accepted = if outcome.is_ok() { Accepted::Yes } else { Accepted::No };
        self.logins.get_or_create(&LoginLabels { kind, accepted }).inc();
        outcome
    }
}
