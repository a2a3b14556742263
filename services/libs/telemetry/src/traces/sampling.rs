//! Which traces are recorded.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// Whether a trace is within a share: by its id, so that everybody decides alike.
pub(super) fn is_within(share: f64, trace: TraceId) -> bool {
    let by_chance = Sampler::TraceIdRatioBased(share);
    let result = by_chance.should_sample(None, trace, "", &SpanKind::Internal, &[], &[]);
    // The share of nothing is nothing: an id of zeros would pass.
    share > 0.0 && result.decision == SamplingDecision::RecordAndSample
}

/// What follows from something recorded, or is linked to it, is recorded; of the rest, this share.
#[derive(Clone, Debug)]
pub(super) struct Sampling(pub(super) f64);

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let follows = parent.is_some_and(|context| context.span().span_context().is_sampled()) || !links.is_empty();
        let sampled = if follows || is_within(self.0, trace) { Sampler::AlwaysOn } else { Sampler::AlwaysOff };
        sampled.should_sample(parent, trace, name, kind, attributes, links)
    }
}
