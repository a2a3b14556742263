//! Metrics in the formats of OpenMetrics and of Prometheus.

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::registry::Registry;

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use waystation_domain::TraceParent;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The older text of Prometheus, for tools that read nothing else.
    Text,
}

impl Format {
    /// What the header `accept` of a request asks for.
    pub fn wanted(accept: Option<&str>) -> Format {
        let accept = accept.unwrap_or_default();
        if accept.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Text }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes all metrics of a registry.
pub fn encode(registry: &Registry, format: Format) -> String {
    let mut text = String::new();
    match (prometheus_client::encoding::text::encode(&mut text, registry), format) {
        (Ok(()), Format::OpenMetrics) => text,
        (Ok(()), Format::Text) => older(&text),
        (Err(error), _) => format!("# {error}\n# EOF\n"),
    }
}

/// Older readers know a counter by the name of its sample, and neither units nor an end.
fn older(text: &str) -> String {
    let counter = |line: &str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
    let counters: HashSet<String> = text.lines().filter_map(counter).collect();
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), _, _) => continue,
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(name) => {
                lines.push_str(&format!("# {what} {name}_total {rest}"));
            }
            (Some("#"), ..) => lines.push_str(line),
            // They know no exemplars either.
            _ => lines.push_str(line.split_once(" # ").map_or(line, |(sample, _)| sample)),
        }
        lines.push('\n');
    }
    lines
}

/// Shows a counter for each of these labels from the start: what never happened is 0, and a rate can be taken from the
/// first time on.
pub fn begin<L>(counters: &Family<L, Counter>, labels: impl IntoIterator<Item = L>)
where
    L: Clone + Debug + Eq + Hash,
{
    for labels in labels {
        drop(counters.get_or_create(&labels));
    }
}

/// Upper bounds of the buckets of [`Times`], in seconds.
const BUCKETS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0];

/// A histogram of times, in seconds: from a millisecond to a day.
#[derive(Clone, Debug)]
pub struct Times(HistogramWithExemplars<Exemplar>);

/// Leads from a bucket to a trace that fell into it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Exemplar {
    trace_id: String,
}

impl Default for Times {
    fn default() -> Times {
        Times(HistogramWithExemplars::new(BUCKETS.into_iter()))
    }
}

impl Times {
    /// Counts one, with the trace in which it was taken.
    pub fn observe(&self, time: Duration, trace: Option<&TraceParent>) {
        let exemplar = trace.map(|trace| Exemplar { trace_id: format!("{:032x}", trace.trace()) });
        self.0.observe(time.as_secs_f64(), exemplar, None);
    }

    /// What is registered.
    pub fn histogram(&self) -> HistogramWithExemplars<Exemplar> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_readers_find_counters_under_the_names_of_their_samples() {
        let mut registry = Registry::default();
        let (counter, gauge) = (Counter::<u64>::default(), Gauge::<i64>::default());
        registry.register("cups", "Of tea", counter.clone());
        registry.register("guests", "Here", gauge);
        counter.inc();
        let text = encode(&registry, Format::Text);
        assert_eq!(
            text,
            "# HELP cups_total Of tea.\n# TYPE cups_total counter\ncups_total 1\n# HELP guests Here.\n# TYPE guests gauge\nguests 0\n"
        );
        assert!(encode(&registry, Format::OpenMetrics).ends_with("# EOF\n"));
    }

    #[test]
    fn an_exemplar_leads_to_a_trace_for_readers_who_know_them() {
        let (mut registry, times) = (Registry::default(), Times::default());
        registry.register("waits", "For tea", times.histogram());
        let trace = TraceParent::sampled(0xabc, 1);
        times.observe(Duration::from_millis(3), Some(&trace));
        times.observe(Duration::from_millis(300), None);
        let bucket = |text: &str| text.lines().find(|line| line.contains(r#"le="0.005""#)).unwrap().to_owned();
        let told = bucket(&encode(&registry, Format::OpenMetrics));
        assert!(told.contains(r#"} 1 # {trace_id="00000000000000000000000000000abc"} 0.003"#), "{told}");
        assert!(bucket(&encode(&registry, Format::Text)).ends_with("} 1"));
    }

    #[test]
    fn a_reader_gets_what_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
        assert_eq!(Format::wanted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::wanted(Some("*/*")), Format::Text);
        assert_eq!(Format::wanted(None), Format::Text);
    }
}
