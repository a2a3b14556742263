//! What router counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use waystation_domain::{Timestamp, TraceParent};
use waystation_store::mailbox::{Calls, Totals};
use waystation_telemetry::metrics::{Counter, Family, Gauge, Registry, Times, begin};

#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    routed: Family<RoutedLabels, Counter>,
    published: Family<PublishedLabels, Counter>,
    bridged: Family<PublishedLabels, Counter>,
    pub(crate) acknowledged: Counter,
    delivery: Times,
    dead: Counter,
    pub(crate) pushes: Counter,
    pub(crate) dropped_pushes: Counter,
    mailboxes: Gauge,
    resident: Gauge,
    oldest: Gauge,
    filling: Gauge,
    pub(crate) store_unfit: Gauge,
    conservation: Gauge,
    store_calls: Family<CallLabels, Gauge>,
    store_failures: Family<CallLabels, Gauge>,
    store_seconds: Family<CallLabels, Gauge<f64, AtomicU64>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoutedLabels {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PublishedLabels {
    outcome: EventOutcome,
}

/// What became of a PublishEvent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum EventOutcome {
    Published,
    Duplicate,
    Refused,
}

/// What became of a RouteMessage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Dispatched,
    Queued,
    Duplicate,
    Refused,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        let mut add = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add("waystation_messages_acknowledged", "Messages acknowledged by daemons", &metrics.acknowledged);
        add("waystation_messages_dead", "Messages that became dead letters", &metrics.dead);
        add("waystation_pushes", "Hints sent to gateways", &metrics.pushes);
        add("waystation_pushes_dropped", "Hints dropped because a queue was full", &metrics.dropped_pushes);
        let help =
            "Time from acceptance to acknowledgement, in seconds; what waits for a daemon that is away counts too";
        registry.register("waystation_delivery_seconds", help, metrics.delivery.histogram());
        registry.register("waystation_messages_routed", "Messages by outcome", metrics.routed.clone());
        registry.register("waystation_events_published", "Events by outcome", metrics.published.clone());
        let help = "Events that publishers by Redis said, by outcome";
        registry.register("waystation_events_bridged", help, metrics.bridged.clone());
        let mut add = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        add("waystation_mailboxes", "Mailboxes that were ever used", &metrics.mailboxes);
        add("waystation_messages_resident", "Messages that wait or are in flight", &metrics.resident);
        add("waystation_messages_oldest_seconds", "Age of the oldest of them, in seconds", &metrics.oldest);
        add("waystation_mailboxes_filling", "Mailboxes that hold four fifths of the usual caps", &metrics.filling);
        add("waystation_store_unfit", "Whether the store promises less than it must: 1 or 0", &metrics.store_unfit);
        add("waystation_conservation_delta", "Messages unaccounted for: 0, always", &metrics.conservation);
        let help = "Calls to the store since the start, by operation";
        registry.register("waystation_store_calls", help, metrics.store_calls.clone());
        let help = "Calls to the store that failed since the start, by operation";
        registry.register("waystation_store_failures", help, metrics.store_failures.clone());
        let help = "Time that all calls to the store took since the start, in seconds, by operation";
        registry.register("waystation_store_seconds", help, metrics.store_seconds.clone());
        let outcomes = [Outcome::Dispatched, Outcome::Queued, Outcome::Duplicate, Outcome::Refused];
        begin(&metrics.routed, outcomes.map(|outcome| RoutedLabels { outcome }));
        let outcomes = [EventOutcome::Published, EventOutcome::Duplicate, EventOutcome::Refused];
        for events in [&metrics.published, &metrics.bridged] {
            begin(events, outcomes.map(|outcome| PublishedLabels { outcome }));
        }
        metrics
    }

    pub(crate) fn store_calls(&self, calls: Vec<Calls>) {
        for Calls { operation, count, failed, took } in calls {
            let labels = CallLabels { operation };
            self.store_calls.get_or_create(&labels).set(count.cast_signed());
            self.store_failures.get_or_create(&labels).set(failed.cast_signed());
            self.store_seconds.get_or_create(&labels).set(took.as_secs_f64());
        }
    }

    pub(crate) fn routed(&self, outcome: Outcome) {
        self.routed.get_or_create(&RoutedLabels { outcome }).inc();
    }

    pub(crate) fn published(&self, outcome: EventOutcome) {
        self.published.get_or_create(&PublishedLabels { outcome }).inc();
    }

    pub(crate) fn bridged(&self, outcome: EventOutcome) {
        self.bridged.get_or_create(&PublishedLabels { outcome }).inc();
    }

    /// `trace`: to which one of the messages belongs; it leads there only if there is no other.
    pub(crate) fn settled(&self, took: &[Duration], dead: u64, trace: Option<&TraceParent>) {
        let trace = trace.filter(|_| took.len() == 1);
        took.iter().for_each(|took| self.delivery.observe(*took, trace));
        self.dead.inc_by(dead);
    }

    pub(crate) fn totals(&self, totals: Totals, now: Timestamp) {
        let age = totals.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        self.oldest.set(age.as_secs().cast_signed());
        self.filling.set(totals.filling.cast_signed());
        self.mailboxes.set(totals.mailboxes.cast_signed());
        self.resident.set(totals.resident.cast_signed());
        self.conservation.set(totals.conservation_delta.cast_signed());
    }
}
