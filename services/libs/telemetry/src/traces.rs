//! Traces: what became of single messages, told to a collector by OTLP.
//!
//! A message is traced if its caller records it, or by chance. Nothing waits for the collector: what it does not take in
//! time is dropped and counted.

mod export;
mod sampling;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Link, Span as _, SpanContext, Status, TraceContextExt as _, TraceFlags, Tracer as _};
use opentelemetry::trace::{TraceState, TracerProvider as _};
use opentelemetry::{Context, KeyValue, SpanId, TraceId, Value};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, TracerProviderBuilder,
};
use serde::Deserialize;
use waystation_domain::TraceParent;

pub use opentelemetry::trace::SpanKind;

use crate::metrics::Registry;
use export::{Counted, Sent};
use sampling::{Sampling, is_within};

/// What is told of a message later than this after it was accepted begins a trace of its own, with a link to the first:
/// collectors decide about a trace, and close it, long before a daemon that was away comes back.
const LATE: Duration = Duration::from_secs(60);
/// Spans that wait for the collector; more are dropped.
const QUEUE: usize = 8_192;
/// How long spans wait for others.
const TOGETHER: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where traces go, and which.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// An OTLP collector (gRPC), as `http://127.0.0.1:4317`; empty: nothing is traced.
    pub endpoint: String,
    /// Of messages whose callers say nothing of a trace, this share is traced: 0 to 1.
    pub ratio: f64,
    /// Of messages whose callers record a trace, this share is traced here too: 0 to 1.
    pub callers_ratio: f64,
}

impl Default for TraceSettings {
    fn default() -> TraceSettings {
        TraceSettings { endpoint: String::new(), ratio: 0.0, callers_ratio: 1.0 }
    }
}

/// Settings of traces cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceSettingsError {
    /// A share is no share.
    #[error("{0}: must be 0 to 1")]
    Ratio(&'static str),
    /// Nothing can be sent there.
    #[error("endpoint: must begin with http:// or https://")]
    Scheme,
    /// Nothing can be sent there.
    #[error("endpoint: {0}")]
    Endpoint(#[from] ExporterBuildError),
}

impl TraceSettings {
    /// Whether they can be used, as far as that can be said before.
    ///
    /// # Errors
    /// With the key.
    pub fn check(&self) -> Result<(), TraceSettingsError> {
        for (key, ratio) in [("ratio", self.ratio), ("callers_ratio", self.callers_ratio)] {
            if !(0.0..=1.0).contains(&ratio) {
                return Err(TraceSettingsError::Ratio(key));
            }
        }
        let known = ["", "http://", "https://"];
        let scheme = self.endpoint.find("://").map_or(self.endpoint.as_str(), |at| &self.endpoint[..at + 3]);
        if known.contains(&scheme) { Ok(()) } else { Err(TraceSettingsError::Scheme) }
    }
}

/// Makes spans. Cheap to clone, and without an endpoint to call.
#[derive(Clone, Default)]
pub struct Tracer {
    open: Option<Arc<Open>>,
    sent: Sent,
}

struct Open {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    callers_ratio: f64,
    now: fn() -> SystemTime,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("is_open", &self.open.is_some()).finish()
    }
}

impl Tracer {
    /// Begins to tell a collector. Whether one answers is seen later; must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the settings cannot be used.
    pub fn open(
        service: &'static str,
        settings: &TraceSettings,
        now: fn() -> SystemTime,
    ) -> Result<Tracer, TraceSettingsError> {
        settings.check()?;
        let sent = Sent::default();
        if settings.endpoint.is_empty() {
            return Ok(Tracer { open: None, sent });
        }
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(&settings.endpoint).with_timeout(PATIENCE);
        let exporter = match settings.endpoint.starts_with("https://") {
            // Vouched for by whom the system trusts.
            true => exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots()),
            false => exporter,
        };
        let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(TOGETHER).build();
        let processor = BatchSpanProcessor::builder(Counted::new(exporter.build()?, sent.clone()));
        let resource = Resource::builder()
            .with_service_name(format!("waystation-{service}"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor.with_batch_config(batches).build())
            .with_resource(resource.build());
        Ok(Tracer { sent, ..Tracer::over(provider, settings, now) })
    }

    fn over(provider: TracerProviderBuilder, settings: &TraceSettings, now: fn() -> SystemTime) -> Tracer {
        let provider = provider.with_sampler(Sampling(settings.ratio)).build();
        let tracer = provider.tracer("waystation");
        let open = Open { provider, tracer, callers_ratio: settings.callers_ratio, now };
        Tracer { open: Some(Arc::new(open)), sent: Sent::default() }
    }

    /// Counts what is sent.
    pub fn register(&self, registry: &mut Registry) {
        self.sent.register(registry);
    }

    /// A span of what a caller asks for: of its trace, if it names one; else the first of a new one, by chance. `trace` is
    /// the caller's, and becomes what follows is to name.
    pub fn begin(&self, kind: SpanKind, name: &'static str, trace: &mut Option<TraceParent>) -> Option<Span> {
        let open = self.open.as_ref()?;
        let parent = match trace {
            Some(caller) if !caller.is_sampled() => return None,
            Some(caller) if !is_within(open.callers_ratio, TraceId::from(caller.trace())) => {
                *trace = Some(caller.unsampled());
                return None;
            }
            Some(caller) => Context::new().with_remote_span_context(context_of(caller)),
            None => Context::new(),
        };
        let span = open.start(kind, name, &parent, (open.now)(), None)?;
        *trace = Some(span.context());
        Some(span)
    }

    /// A span of something that follows, if its message is traced.
    pub fn follow(&self, kind: SpanKind, name: &'static str, message: Option<&TraceParent>) -> Option<Span> {
        self.follow_after(kind, name, message, Duration::ZERO)
    }

    /// The same of a message that has been with us for so long.
    pub fn follow_after(
        &self,
        kind: SpanKind,
        name: &'static str,
        message: Option<&TraceParent>,
        waited: Duration,
    ) -> Option<Span> {
        let open = self.open.as_ref()?;
        open.follow(kind, name, message?, waited, (open.now)())
    }

    /// A span of something that has taken so long and ends now.
    pub fn tell(&self, kind: SpanKind, name: &'static str, message: &TraceParent, took: Duration) -> Option<Span> {
        let open = self.open.as_ref()?;
        let now = (open.now)();
        open.follow(kind, name, message, Duration::ZERO, now.checked_sub(took).unwrap_or(now))
    }

    /// Sends what waits. Blocks, for at most `patience`.
    pub fn close(&self, patience: Duration) {
        if let Some(open) = &self.open
            && let Err(error) = open.provider.shutdown_with_timeout(patience)
        {
            tracing::warn!("the last spans were not sent: {error}");
        }
    }
}

impl Open {
    fn follow(
        &self,
        kind: SpanKind,
        name: &'static str,
        message: &TraceParent,
        waited: Duration,
        start: SystemTime,
    ) -> Option<Span> {
        if !message.is_sampled() {
            return None;
        }
        let first = context_of(message);
        match waited > LATE {
            true => self.start(kind, name, &Context::new(), start, Some(first)),
            false => self.start(kind, name, &Context::new().with_remote_span_context(first), start, None),
        }
    }

    fn start(
        &self,
        kind: SpanKind,
        name: &'static str,
        parent: &Context,
        start: SystemTime,
        linked: Option<SpanContext>,
    ) -> Option<Span> {
        let links = linked.into_iter().map(Link::with_context).collect();
        let builder = self.tracer.span_builder(name).with_kind(kind).with_start_time(start).with_links(links);
        let inner = self.tracer.build_with_context(builder, parent);
        inner.is_recording().then(|| Span(Box::new(Begun { inner, now: self.now })))
    }
}

fn context_of(trace: &TraceParent) -> SpanContext {
    let flags = if trace.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let (id, parent) = (TraceId::from(trace.trace()), SpanId::from(trace.parent()));
    SpanContext::new(id, parent, flags, true, TraceState::NONE)
}

/// Something that takes time. It ends when it is dropped, at the latest.
#[derive(Debug)]
pub struct Span(Box<Begun>);

#[derive(Debug)]
struct Begun {
    inner: opentelemetry_sdk::trace::Span,
    now: fn() -> SystemTime,
}

impl Span {
    /// What follows from it names this.
    pub fn context(&self) -> TraceParent {
        let context = self.0.inner.span_context();
        let (trace, span) = (context.trace_id().to_bytes(), context.span_id().to_bytes());
        TraceParent::sampled(u128::from_be_bytes(trace), u64::from_be_bytes(span))
    }

    /// Tells something of it. Never a payload, never a secret.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.inner.set_attribute(KeyValue::new(key, value));
    }

    /// It failed.
    pub fn fail(&mut self, why: impl fmt::Display) {
        self.0.inner.set_status(Status::error(why.to_string()));
    }

    /// It ends now.
    pub fn end(mut self) {
        self.0.inner.end_with_timestamp((self.0.now)());
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};

    use super::*;

    const NOON: Duration = Duration::from_secs(43_200);

    fn tracer(ratio: f64, callers_ratio: f64) -> (Tracer, InMemorySpanExporter) {
        let told = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(told.clone());
        let settings = TraceSettings { ratio, callers_ratio, ..TraceSettings::default() };
        (Tracer::over(provider, &settings, || UNIX_EPOCH + NOON), told)
    }

    fn told(exporter: &InMemorySpanExporter) -> Vec<SpanData> {
        exporter.get_finished_spans().unwrap()
    }

    #[test]
    fn what_its_caller_records_is_recorded_and_nothing_else() {
        let (tracer, exporter) = tracer(0.0, 1.0);
        let caller = TraceParent::sampled(7, 8);
        let begin = |tracer: &Tracer, mut trace| {
            let span = tracer.begin(SpanKind::Server, "RouteMessage", &mut trace);
            (span, trace)
        };
        let (span, context) = begin(&tracer, Some(caller.clone()));
        let (span, context) = (span.unwrap(), context.unwrap());
        assert_eq!(span.context(), context);
        assert!(context.trace() == 7 && context.parent() != 8 && context.is_sampled());
        span.end();
        let silent: TraceParent = "00-00000000000000000000000000000007-0000000000000008-00".parse().unwrap();
        assert!(matches!(begin(&tracer, Some(silent.clone())), (None, Some(same)) if same == silent));
        assert!(tracer.follow(SpanKind::Internal, "append", Some(&silent)).is_none());
        assert!(matches!(begin(&tracer, None), (None, None)));
        assert!(tracer.follow(SpanKind::Internal, "append", None).is_none());
        assert_eq!(told(&exporter).len(), 1);
        assert_eq!(u64::from_be_bytes(told(&exporter)[0].parent_span_id.to_bytes()), 8);
        assert!(matches!(begin(&Tracer::default(), Some(caller.clone())), (None, Some(same)) if same == caller));
    }

    #[test]
    fn shares_are_kept() {
        let (half, _) = tracer(0.5, 0.0);
        let begun = |_: &u32| half.begin(SpanKind::Server, "RouteMessage", &mut None).is_some();
        let share = (0..2_000).filter(begun).count();
        assert!((800..1_200).contains(&share), "{share}");
        // Whoever records nothing of a caller's trace has others record nothing either.
        let mut of_caller = Some(TraceParent::sampled(7, 8));
        assert!(half.begin(SpanKind::Server, "RouteMessage", &mut of_caller).is_none());
        assert_eq!(of_caller.unwrap(), TraceParent::sampled(7, 8).unsampled());
        // What has begun is told to its end.
        let mut own = None;
        while own.is_none() {
            drop(half.begin(SpanKind::Server, "RouteMessage", &mut own));
        }
        assert!(half.follow(SpanKind::Internal, "append", own.as_ref()).is_some());
    }

    #[test]
    fn what_comes_late_is_linked() {
        let (tracer, exporter) = tracer(0.0, 1.0);
        let message = TraceParent::sampled(7, 8);
        drop(tracer.follow_after(SpanKind::Producer, "deliver", Some(&message), LATE));
        let late = tracer.follow_after(SpanKind::Producer, "deliver", Some(&message), LATE * 2).unwrap();
        let next = tracer.tell(SpanKind::Consumer, "acknowledge", &late.context(), Duration::from_secs(3)).unwrap();
        late.end();
        next.end();
        let [soon, late, ack] = told(&exporter).try_into().unwrap();
        assert!(soon.links.is_empty() && u128::from_be_bytes(soon.span_context.trace_id().to_bytes()) == 7);
        assert_ne!(late.span_context.trace_id(), soon.span_context.trace_id());
        assert_eq!(late.links[0].span_context, context_of(&message));
        assert_eq!(ack.span_context.trace_id(), late.span_context.trace_id());
        assert_eq!(ack.start_time, UNIX_EPOCH + NOON - Duration::from_secs(3));
        assert_eq!(ack.end_time, UNIX_EPOCH + NOON);
    }

    #[test]
    fn bad_settings_are_refused_by_name() {
        let good = TraceSettings { endpoint: "http://collector:4317".into(), ..TraceSettings::default() };
        assert!(good.check().is_ok() && TraceSettings::default().check().is_ok());
        for (bad, named) in [
            (TraceSettings { endpoint: "collector:4317".into(), ..good.clone() }, "endpoint: "),
            (TraceSettings { endpoint: "ftp://collector".into(), ..good.clone() }, "endpoint: "),
            (TraceSettings { ratio: 1.5, ..good.clone() }, "ratio: "),
            (TraceSettings { callers_ratio: f64::NAN, ..good }, "callers_ratio: "),
        ] {
            let refused = bad.check().unwrap_err().to_string();
            assert!(refused.starts_with(named), "{refused}");
        }
    }
}
