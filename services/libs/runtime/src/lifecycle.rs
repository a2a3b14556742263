//! A process from start to stop.
//!
//! Stopping has two stages: at the first everybody finishes what they do, at the second they end at once.
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

/// Owns the tasks of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    stopping: CancellationToken,
    ending: CancellationToken,
    tasks: TaskTracker,
    failed: Arc<AtomicBool>,
}

/// How a process stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Because it was asked to.
    InOrder,
    /// Because a task failed; the process exits with a failure.
    ByFailure,
}

impl Lifecycle {
    /// Runs a task that the process cannot do without.
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

    /// Begins the first stage of the stop.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Resolves at the first stage of the stop.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Whether the stop has begun.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Resolves at the second stage: whatever still runs is dropped.
    pub async fn ending(&self) {
        self.ending.cancelled().await;
    }

    /// Runs until SIGTERM, SIGINT or a failure, then lets tasks finish for at most `grace`.
    /// A second signal ends at once.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub async fn run(&self, grace: Duration) -> std::io::Result<Stopped> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            () = self.stopping.cancelled() => {}
        }
        self.stop();
        tokio::select! {
            () = self.finish(grace) => {}
            _ = terminate.recv() => tracing::warn!("a second signal: ending at once"),
            _ = interrupt.recv() => tracing::warn!("a second signal: ending at once"),
        }
        self.ending.cancel();
        let failed = self.failed.load(Ordering::Acquire);
        Ok(if failed { Stopped::ByFailure } else { Stopped::InOrder })
    }

    /// Stops, and waits until tasks have finished; after `grace` they are told to end.
    pub async fn finish(&self, grace: Duration) {
        self.stop();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "still running after {grace:?}: ending them");
            self.ending.cancel();
        }
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
    async fn a_vital_task_that_ends_fails_the_process() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn_vital("test", async { Err::<(), _>("broken") });
        assert_eq!(lifecycle.run(Duration::from_secs(5)).await.unwrap(), Stopped::ByFailure);
    }

    #[tokio::test]
    async fn a_task_that_panics_fails_the_process() {
        let lifecycle = Lifecycle::default();
        lifecycle.spawn_vital("test", async {
            assert!(std::env::args().count() == 0, "a fault");
            Ok::<(), String>(())
        });
        assert_eq!(lifecycle.run(Duration::from_secs(5)).await.unwrap(), Stopped::ByFailure);
    }

    #[tokio::test]
    async fn a_stop_waits_for_tasks() {
        let lifecycle = Lifecycle::default();
        let of_task = lifecycle.clone();
        lifecycle.spawn_vital("test", async move {
            of_task.stopping().await;
            Ok::<(), String>(())
        });
        lifecycle.stop();
        assert_eq!(lifecycle.run(Duration::from_secs(5)).await.unwrap(), Stopped::InOrder);
    }
}
