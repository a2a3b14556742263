//! What calls cost, by operation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::scripts::Script;
use crate::mailbox::Calls;

#[derive(Default)]
struct Counts {
    count: AtomicU64,
    failed: AtomicU64,
    micros: AtomicU64,
}

/// By the number of the script.
pub(super) struct Counted([Counts; Script::ALL.len()]);

impl Default for Counted {
    fn default() -> Counted {
        Counted(std::array::from_fn(|_| Counts::default()))
    }
}

impl Counted {
    pub(super) fn note(&self, script: Script, took: Duration, failed: bool) {
        let counts = &self.0[script as usize];
        counts.count.fetch_add(1, Ordering::Relaxed);
        counts.failed.fetch_add(failed.into(), Ordering::Relaxed);
        counts.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn calls(&self) -> Vec<Calls> {
        let read = |(script, counts): (&Script, &Counts)| Calls {
            operation: script.name(),
            count: counts.count.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            took: Duration::from_micros(counts.micros.load(Ordering::Relaxed)),
        };
        Script::ALL.iter().zip(&self.0).map(read).collect()
    }
}
