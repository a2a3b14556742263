//! What tests, benchmarks and the demo share: a cell to talk to, and plain clients that talk.
//!
//! The clients know nothing of Waystation's crates but the contract: they are what an outsider would write.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs)]

pub mod adapter;
mod backend;
mod cell;
pub mod collector;
mod conductor;
pub mod conformance;
mod daemon;
pub mod fleet;
pub mod history;
pub mod kept;
pub mod line;
pub mod load;
pub mod node;
mod peer;
mod platform;
mod probe;
pub mod process;
pub mod proxy;
mod rest;
mod stream;
pub mod subscribers;
pub mod tls;
pub mod wheel;

pub use backend::{Backend, code_and_reason};
pub use cell::Cell;
pub use conductor::Conductor;
pub use daemon::{Daemon, Received, frame};
pub use fleet::Fleet;
pub use peer::Peer;
pub use platform::{Platform, issuer};
pub use probe::wants_traffic;
pub use process::Process;
pub use rest::{KeptAlive, hs256, http, log_in, post, try_http};
pub use stream::{Sse, SseEvent};

use std::time::Duration;

/// Longest wait for anything: what has not happened by then does not happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds, looking again and again.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("not in time: {what}"))
}
