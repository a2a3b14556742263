//! How frames of a session reach its client: over a WebSocket, as a stream of events, or by answers to polls.

use std::sync::Arc;

use waystation_domain::FeedPoint;
use waystation_wire::{CloseCode, FrameError, Received, ServerFrame, SharedEvent};

/// Something from the client.
pub(super) enum Incoming {
    /// A frame, or why it is none.
    Frame(Result<Received, FrameError>),
    /// A sign of life.
    Alive,
    /// All that was queued has been written.
    Flushed,
    /// The connection has ended, or must: then with this code.
    Broken(Option<CloseCode>),
}

/// The way to one client. It holds little: what does not fit stays in the log.
pub(super) trait Outlet: Send {
    /// Whether somebody takes what is sent.
    fn is_taken(&self) -> bool {
        true
    }

    /// Whether a frame may be queued.
    fn has_room(&self, frame: &ServerFrame) -> bool;

    /// Queues a frame; [`Outlet::next`] writes it.
    fn queue(&mut self, frame: &ServerFrame);

    /// Whether an event of the feed may be queued by [`Outlet::queue_event`].
    fn takes_events(&self) -> bool {
        false
    }

    /// Queues an event of the feed that connections share, as [`Outlet::queue`] would.
    fn queue_event(&mut self, event: &Arc<SharedEvent>) {
        self.queue(&ServerFrame::FeedEvent(event.clone()));
    }

    /// Writes what is queued, as far as that is possible at once.
    fn flush(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// All of the feed up to here has been queued, or is not wanted. Only clients without a session are told by this.
    fn note_point(&mut self, _point: FeedPoint) {}

    /// Whether everything there is has been queued, as far as is known; for those who want to know.
    fn note_progress(&mut self, _is_caught_up: impl FnOnce() -> bool) {}

    /// Writes what is queued and, if asked to, reads on. Nothing is lost if it is dropped.
    fn next(&mut self, read: bool) -> impl Future<Output = Incoming> + Send;

    /// Whether something waits to be written.
    fn is_dirty(&self) -> bool;

    /// What has been taken; a stalled write shows by its standing still.
    fn written(&self) -> u64;

    /// Frames queued so far.
    fn sent(&self) -> u64;

    /// Says why, and ends.
    fn close(&mut self, code: CloseCode) -> impl Future<Output = ()> + Send;
}
