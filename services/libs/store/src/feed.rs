//! Feeds: the ordered events of each organization.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
pub use waystation_domain::{Audience, FeedEvent, FeedExtent, FeedPosition};
use waystation_domain::{ChannelId, EventType, IncarnationId, MessageId, OrchestratorId, OrganizationId, TraceParent};

use crate::mailbox::{ContentDigest, Now};
use crate::{Unavailable, limits};

/// An event to be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvent {
    /// The publisher's; `None`: composed of the position.
    pub id: Option<MessageId>,
    /// What it is.
    pub event_type: EventType,
    /// Filters subscriptions.
    pub channel: Option<ChannelId>,
    /// The publisher's trace.
    pub trace: Option<TraceParent>,
    /// The orchestrator that sends it.
    pub sender: Option<OrchestratorId>,
    /// Whom it is for.
    pub audience: Audience,
    /// A JSON object.
    pub data: Bytes,
}

/// How much of a feed is kept. Whatever is exceeded, the oldest events make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Events.
    pub events: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// For how long; older ones go with the next sweep.
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { events: limits::FEED_EVENTS, bytes: limits::FEED_BYTES, age: limits::FEED_AGE }
    }
}

/// Publishes events of one organization, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Tenant.
    pub organization: OrganizationId,
    /// What happened.
    pub events: Vec<NewEvent>,
    /// Holds for the whole feed from now on.
    pub retention: Retention,
    /// Incarnations that are not interested any more, because they are no more.
    pub gone: Vec<IncarnationId>,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Where it stands.
    pub position: FeedPosition,
    /// The id was known already: nothing new was made.
    pub duplicate: bool,
}

/// Why an event is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum PublishRefused {
    /// The id was used with other content.
    #[error("the event id was used with other content")]
    IdReused,
    /// The store's memory is full; nothing was kept.
    #[error("the store is full")]
    StoreFull,
    /// The log is damaged.
    #[error("the feed is damaged")]
    Damaged,
}

/// What a publication answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Publication {
    /// One for each event.
    pub outcomes: Vec<Result<Published, PublishRefused>>,
    /// By the store's clock.
    pub time: waystation_domain::Timestamp,
    /// Gateways with subscribers.
    pub interested: Vec<Interested>,
}

/// A gateway with subscribers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Interested {
    /// Which run of it.
    pub incarnation: IncarnationId,
    /// URI that routers dial.
    pub address: String,
}

/// A gateway has subscribers in organizations, or none any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interest {
    /// Which run of it.
    pub incarnation: IncarnationId,
    /// URI that routers dial.
    pub address: String,
    /// Whether it has any.
    pub organizations: Vec<(OrganizationId, bool)>,
}

/// Reads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFeed {
    /// Tenant.
    pub organization: OrganizationId,
    /// After this sequence.
    pub after: u64,
    /// Most events.
    pub most: usize,
    /// Most bytes of data; the first event comes whatever its size.
    pub bytes: u64,
}

/// A piece of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPiece {
    /// How far the feed reaches.
    pub extent: FeedExtent,
    /// In their order.
    pub events: Vec<FeedEvent>,
}

/// Feeds. Every method is one atomic step for each organization.
///
/// An error means that the outcome is unknown; every method may be repeated.
#[async_trait]
pub trait FeedStore: Send + Sync {
    /// Appends events, each on its own merits, and says who has subscribers.
    async fn publish(&self, publish: Publish, now: Now) -> Result<Publication, Unavailable>;

    /// Reads on from a sequence.
    async fn read_feed(&self, read: ReadFeed, now: Now) -> Result<FeedPiece, Unavailable>;

    /// Notes where subscribers are; answers how far each feed reaches. Whatever is published afterwards names the gateway.
    async fn set_interest(&self, interest: Interest, now: Now) -> Result<Vec<FeedExtent>, Unavailable>;

    /// How far feeds reach.
    async fn extents(&self, organizations: &[OrganizationId], now: Now) -> Result<Vec<FeedExtent>, Unavailable>;

    /// Lets go what is too old; answers how many events.
    async fn sweep_feeds(&self, now: Now) -> Result<u64, Unavailable>;
}

impl NewEvent {
    pub(crate) fn digest(&self) -> ContentDigest {
        let channel = self.channel.as_ref().map_or("", |channel| channel.as_str());
        ContentDigest::of_parts(&[self.event_type.as_str(), channel, &audience_text(&self.audience)], &self.data)
    }
}

/// Stands where there is nothing; no id can be it.
const NONE: &str = "*";

/// Both lists, as they are kept: `<orchestrators> <daemons>`.
pub(crate) fn audience_text(audience: &Audience) -> String {
    let list = |ids: Vec<&str>| if ids.is_empty() { NONE.to_owned() } else { ids.join(",") };
    let orchestrators = audience.orchestrators.iter().map(|id| id.as_str()).collect();
    format!("{} {}", list(orchestrators), list(audience.daemons.iter().map(|id| id.as_str()).collect()))
}
