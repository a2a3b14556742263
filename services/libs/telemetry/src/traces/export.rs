//! Sends spans, and counts them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::SpanExporter as Otlp;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

use crate::metrics::{Counter, Family, Registry, begin};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Sent,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

/// What became of spans. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent(Family<Labels, Counter>);

impl Sent {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("waystation_spans", "Spans for the collector of traces, by outcome", self.0.clone());
        begin(&self.0, [Outcome::Sent, Outcome::Failed].map(|outcome| Labels { outcome }));
    }

    fn count(&self, outcome: Outcome, spans: usize) {
        self.0.get_or_create(&Labels { outcome }).inc_by(spans as u64);
    }
}

/// An exporter whose failures are seen.
#[derive(Debug)]
pub(super) struct Counted {
    inner: Otlp,
    sent: Sent,
    /// The collector took nothing the last time; that is said once.
    failing: AtomicBool,
}

impl Counted {
    pub(super) fn new(inner: Otlp, sent: Sent) -> Counted {
        Counted { inner, sent, failing: AtomicBool::new(false) }
    }
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.inner.export(batch).await;
        self.sent.count(if exported.is_ok() { Outcome::Sent } else { Outcome::Failed }, spans);
        let failed = exported.is_err();
        if self.failing.swap(failed, Ordering::AcqRel) != failed {
            match &exported {
                Ok(()) => tracing::info!("the collector of traces takes spans again"),
                Err(error) => tracing::warn!("the collector of traces takes no spans: {error}"),
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
