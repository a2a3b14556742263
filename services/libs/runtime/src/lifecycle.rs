//! A service from start to stop.
//!
//! A task that a service cannot do without, and that ends before the stop, begins the stop itself and
//! makes the process fail.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Resolves at the next SIGTERM or SIGINT.
///
/// # Errors
/// If signals cannot be received.
pub async fn shutdown_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
    }
    Ok(())
}

/// Owns the tasks of a service. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    stopping: CancellationToken,
    tasks: TaskTracker,
    failed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// Runs a task that the service cannot do without.
    pub fn spawn_vital<E: Display>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let guard = VitalGuard { lifecycle: self.clone(), name };
        self.tasks.spawn(async move {
            if let Err(error) = task.await {
                tracing::error!(task = name, "failed: {error}");
            }
            drop(guard);
        });
    }

    /// Runs a task that may end at any time, such as a connection.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Begins the stop: tasks finish what they do.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Resolves when the stop begins.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Whether the stop has begun.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Whether a vital task ended before the stop: the process exits with a failure.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Stops, and waits until tasks have finished, but not longer than `grace`. Answers whether they have.
    pub async fn finish(&self, grace: Duration) -> bool {
        self.stop();
        self.tasks.close();
        let finished = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        if !finished {
            tracing::warn!(tasks = self.tasks.len(), "still running after {grace:?}");
        }
        finished
    }
}

/// Notices when a vital task ends, by a panic too.
struct VitalGuard {
    lifecycle: Lifecycle,
    name: &'static str,
}

impl Drop for VitalGuard {
    fn drop(&mut self) {
        if !self.lifecycle.is_stopping() {
            tracing::error!(task = self.name, "ended before the stop");
            self.lifecycle.failed.store(true, Ordering::Release);
            self.lifecycle.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vital_task_that_ends_begins_the_stop_as_a_failure() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn_vital("test", async { Err::<(), _>("broken") });
        lifecycle.stopping().await;
        assert!(lifecycle.has_failed());
    }

    #[tokio::test]
    async fn a_vital_task_that_panics_does_too() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn_vital("test", async {
            assert!(std::env::args().count() == 0, "a fault");
            Ok::<(), String>(())
        });
        lifecycle.stopping().await;
        assert!(lifecycle.has_failed());
    }

    #[tokio::test]
    async fn a_stop_waits_for_tasks() {
        let lifecycle = Lifecycle::default();
        let of_task = lifecycle.clone();
        lifecycle.spawn_vital("test", async move {
            of_task.stopping().await;
            Ok::<(), String>(())
        });
        assert!(lifecycle.finish(Duration::from_secs(5)).await);
        assert!(!lifecycle.has_failed());
    }
}
