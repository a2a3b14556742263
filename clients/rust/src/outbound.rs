//! Room in the queue of outgoing messages.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{SendError, Stopped};

/// Who may put a message into the queue.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// `None`: the queue makes room by itself.
    pub(crate) permits: Option<Arc<Semaphore>>,
    pub(crate) waits: bool,
    pub(crate) most: usize,
}

impl Outbound {
    /// A place in the queue, as the policy says.
    pub(crate) async fn place(&self) -> Result<Option<OwnedSemaphorePermit>, SendError> {
        let Some(permits) = self.permits.clone() else { return Ok(None) };
        if self.waits {
            return permits.acquire_owned().await.map(Some).map_err(|_| Stopped::Closed.into());
        }
        permits.try_acquire_owned().map(Some).map_err(|_| SendError::QueueFull(self.most))
    }
}
