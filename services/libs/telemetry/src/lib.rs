//! What a running service tells about itself: logs, metrics and traces.
//!
//! **Invariant:** no payload, no secret and no id of a tenant becomes a label.

pub mod metrics;
pub mod traces;

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use serde::Deserialize;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// How log lines are written to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// JSON, one object a line.
    Json,
    /// For people.
    Text,
}

/// Libraries that write what passes through them, payloads and bearers too, below this level.
const QUIET: [&str; 6] =
    ["tungstenite=info", "tokio_tungstenite=info", "h2=info", "hyper=info", "tonic=info", "tower=info"];

/// Changes what is logged while the process runs.
static CHANGE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// What is logged cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// No such filter.
    #[error("{0}")]
    Malformed(#[from] ParseError),
    /// Whoever started the process logs in another way.
    #[error("logs were not begun here")]
    NotBegun,
}

/// With the libraries that must stay quiet.
fn with_quiet(chosen: EnvFilter) -> EnvFilter {
    let quiet = QUIET.iter().filter_map(|directive| directive.parse().ok());
    quiet.fold(chosen, EnvFilter::add_directive)
}

/// What is logged, as `RUST_LOG` says it; `None`: logs were not begun here.
pub fn filter() -> Option<String> {
    CHANGE.get()?.with_current(ToString::to_string).ok()
}

/// Changes what is logged: `info`, or levels by module, as `info,waystation_router=debug`. Libraries that write what
/// passes through them stay quiet, whatever is asked for.
///
/// # Errors
/// If it is malformed; then nothing changes.
pub fn set_filter(directives: &str) -> Result<(), FilterError> {
    let filter = with_quiet(EnvFilter::builder().parse(directives)?);
    CHANGE.get().and_then(|change| change.reload(filter).ok()).ok_or(FilterError::NotBegun)
}

/// Begins to log. `RUST_LOG` selects, `info` by default. A second call has no effect.
pub fn init_logs(format: LogFormat) {
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, change) = reload::Layer::new(with_quiet(chosen));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let begun = match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal()).compact()).try_init(),
    };
    match begun {
        Ok(()) => drop(CHANGE.set(change)),
        Err(_) => tracing::debug!("logs were begun before"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_changed_and_libraries_stay_quiet() {
        assert_eq!(filter(), None);
        assert!(matches!(set_filter("info"), Err(FilterError::NotBegun)));
        init_logs(LogFormat::Text);
        assert!(!tracing::enabled!(target: "waystation_router", tracing::Level::DEBUG));
        set_filter("info,waystation_router=debug,h2=trace").unwrap();
        assert!(tracing::enabled!(target: "waystation_router", tracing::Level::DEBUG));
        assert!(!tracing::enabled!(target: "h2", tracing::Level::DEBUG), "it would write bearers");
        assert!(filter().unwrap().contains("waystation_router=debug"));
        assert!(matches!(set_filter("waystation_router=loud"), Err(FilterError::Malformed(_))));
        assert!(tracing::enabled!(target: "waystation_router", tracing::Level::DEBUG), "nothing has changed");
    }
}
