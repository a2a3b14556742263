//! Pieces of feeds that were read, for a moment: those who are equally far behind read them once.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use waystation_domain::{FeedExtent, OrganizationId};
use waystation_wire::SharedEvent;

use crate::upstream::{FeedCalls, FeedUnread, Witness};

/// Pieces begin at multiples of this, so that readers meet.
const ALIGNED: u64 = 128;
/// Bytes of data in a piece.
const BYTES: u64 = 1 << 20;
/// How long a piece is kept, and bytes of all of them.
const KEPT: Duration = Duration::from_secs(10);
const KEPT_BYTES: u64 = 32 << 20;
/// Costs that an event has beside its data.
const OVERHEAD: usize = 512;

/// A piece of a feed.
pub(super) struct Piece {
    pub(super) extent: FeedExtent,
    pub(super) events: Vec<Arc<SharedEvent>>,
}

impl Piece {
    /// The last sequence in it.
    pub(super) fn through(&self) -> Option<u64> {
        self.events.last().map(|event| event.event.position.sequence)
    }

    fn weight(&self) -> u32 {
        let bytes: usize = self.events.iter().map(|event| event.event.data.len() * 2 + OVERHEAD).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// Reads pieces. Cheap to clone.
pub(super) struct Pieces {
    calls: FeedCalls,
    kept: Cache<(OrganizationId, u64), Arc<Piece>>,
}

impl Pieces {
    pub(super) fn new(calls: FeedCalls) -> Pieces {
        let kept = Cache::builder()
            .max_capacity(KEPT_BYTES)
            .weigher(|_, piece: &Arc<Piece>| piece.weight())
            .time_to_live(KEPT)
            .build();
        Pieces { calls, kept }
    }

    /// A piece that has what follows a sequence, or whatever comes first after it.
    pub(super) async fn after(
        &self,
        organization: &OrganizationId,
        witness: &Witness,
        sequence: u64,
    ) -> Result<Arc<Piece>, FeedUnread> {
        let mut from = sequence / ALIGNED * ALIGNED;
        loop {
            let piece = self.piece(organization, witness, from).await?;
            match piece.through() {
                // Large events: the piece ends before what is wanted.
                Some(through) if through <= sequence && through < piece.extent.head => from = through,
                Some(_) | None => return Ok(piece),
            }
        }
    }

    async fn piece(
        &self,
        organization: &OrganizationId,
        witness: &Witness,
        from: u64,
    ) -> Result<Arc<Piece>, FeedUnread> {
        let key = (organization.clone(), from);
        let read = async {
            let (extent, events) = self.calls.read(witness, from, ALIGNED, BYTES).await?;
            Ok(Arc::new(Piece { extent, events: events.into_iter().map(SharedEvent::new).collect() }))
        };
        let piece = self.kept.try_get_with(key.clone(), read).await;
        let piece = piece.map_err(|error: Arc<FeedUnread>| FeedUnread::clone(&error))?;
        if piece.through().is_none_or(|through| through >= piece.extent.head) {
            // The end of the log: it grows.
            self.kept.invalidate(&key).await;
        }
        Ok(piece)
    }
}
