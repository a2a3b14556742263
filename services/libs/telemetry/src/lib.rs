//! What a running service tells about itself: logs and metrics.
//!
//! **Invariant:** no payload, no secret and no id of a tenant becomes a label.

pub mod metrics;

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

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

/// Begins to log. `RUST_LOG` selects, `info` by default. A second call has no effect.
pub fn init_logs(format: LogFormat) {
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let quiet = QUIET.iter().filter_map(|directive| directive.parse().ok());
    let filter = quiet.fold(chosen, EnvFilter::add_directive);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let begun = match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal()).compact()).try_init(),
    };
    if begun.is_err() {
        tracing::debug!("logs were begun before");
    }
}
