//! Events of a feed on their way to many clients: each is encoded once for each format, however many get it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use waystation_domain::{FeedEvent, Timestamp};

use crate::{binary, conductor, json};

/// An event that connections share. Equal if the events are.
#[derive(Debug)]
pub struct SharedEvent {
    /// What was published.
    pub event: FeedEvent,
    json: OnceLock<Bytes>,
    binary: OnceLock<Bytes>,
    item: OnceLock<Bytes>,
    conductor: OnceLock<Bytes>,
}

impl SharedEvent {
    /// Shares an event.
    pub fn new(event: FeedEvent) -> Arc<SharedEvent> {
        let (json, binary, item, conductor) = Default::default();
        Arc::new(SharedEvent { event, json, binary, item, conductor })
    }

    /// The frame as JSON text. `now` is told as the moment of sending if it has not been encoded before.
    pub fn json(&self, now: impl FnOnce() -> Timestamp) -> &Bytes {
        self.json.get_or_init(|| json::encode_feed_event(&self.event, now()))
    }

    /// The frame as a protobuf message, likewise.
    pub fn binary(&self, now: impl FnOnce() -> Timestamp) -> &Bytes {
        self.binary.get_or_init(|| binary::encode_feed_event(&self.event, now()))
    }
}

impl SharedEvent {
    /// The frame of the conductor's dialect, up to the id of the client.
    pub(crate) fn conductor(&self) -> &Bytes {
        self.conductor.get_or_init(|| conductor::encode_event(&self.event))
    }

    /// The event as an item of a list, as REST and SSE show it.
    pub fn item(&self) -> &Bytes {
        self.item.get_or_init(|| json::encode_feed_item(&self.event))
    }
}

impl PartialEq for SharedEvent {
    fn eq(&self, other: &SharedEvent) -> bool {
        self.event == other.event
    }
}
