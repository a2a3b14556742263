//! What gateways ask of feeds. Whose feed it is the token of a subscriber says: a gateway alone cannot.

use waystation_domain::{OrganizationId, Scope};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::{
    CompareFeedsRequest, CompareFeedsResponse, ComparedFeed, FeedInterest, ReadFeedRequest, ReadFeedResponse,
};
use waystation_rpc::Fault;
use waystation_rpc::convert::{extent_to, feed_event_to, parse};
use waystation_store::feed::{Interest, ReadFeed};

use crate::Parts;

/// Feeds of one request.
const MOST: usize = 1_024;
/// Of one read.
const MOST_EVENTS: usize = 1_024;
const MOST_BYTES: u64 = 4 << 20;

/// Whoever has one of these sees events of some kind.
const SEEING: [Scope; 6] = [
    Scope::EventsRead,
    Scope::MessagesRead,
    Scope::ChannelsRead,
    Scope::PresenceRead,
    Scope::VpStatus,
    Scope::CallsJoin,
];

/// The organization whose feed the holder of a token may see; without one, that which lets anybody watch.
fn subscriber(parts: &Parts, token: &str, anonymous: &str) -> Result<OrganizationId, Fault> {
    if !anonymous.is_empty() {
        let open = parts.anonymous_organization.clone().filter(|organization| organization.as_str() == anonymous);
        return open.ok_or_else(|| Fault::new(ErrorReason::PermissionDenied, "only whoever has a token may watch"));
    }
    let claims = parts.verifier.verify(token, parts.context.clock.now())?;
    if !SEEING.iter().any(|scope| claims.scopes.allows(*scope)) {
        return Err(Fault::new(ErrorReason::PermissionDenied, "the token allows to see no events"));
    }
    let none = || Fault::new(ErrorReason::PermissionDenied, "the token is of no organization");
    claims.organization.clone().ok_or_else(none)
}

/// Notes where subscribers are; `address` is the gateway's.
pub(crate) async fn compare(
    parts: &Parts,
    request: CompareFeedsRequest,
    address: String,
) -> Result<CompareFeedsResponse, Fault> {
    if request.feeds.len() > MOST {
        return Err(Fault::field("feeds", format!("must have at most {MOST} elements")));
    }
    let mut judged = Vec::with_capacity(request.feeds.len());
    for FeedInterest { access_token, organization_id, anonymous_organization_id } in &request.feeds {
        judged.push(match organization_id.as_str() {
            "" => subscriber(parts, access_token, anonymous_organization_id).ok().map(|feed| (feed, true)),
            _ => Some((parse("feeds.organization_id", organization_id)?, false)),
        });
    }
    let interest = Interest {
        incarnation: parse("incarnation_id", &request.incarnation_id)?,
        address,
        organizations: judged.iter().flatten().cloned().collect(),
    };
    let extents = parts.store.feeds.set_interest(interest, None).await.map_err(Fault::unavailable)?;
    let mut extents = extents.iter();
    let results = judged.iter().map(|judged| match judged {
        None => ComparedFeed { refused: true, extent: None },
        Some(_) => ComparedFeed { refused: false, extent: extents.next().map(extent_to) },
    });
    Ok(CompareFeedsResponse { results: results.collect() })
}

/// Reads on.
pub(crate) async fn read(parts: &Parts, request: ReadFeedRequest) -> Result<ReadFeedResponse, Fault> {
    let read = ReadFeed {
        organization: subscriber(parts, &request.access_token, &request.anonymous_organization_id)?,
        after: request.after,
        most: usize::try_from(request.max_events).unwrap_or(MOST_EVENTS).min(MOST_EVENTS),
        bytes: request.max_bytes.min(MOST_BYTES),
    };
    let piece = parts.store.feeds.read_feed(read, None).await.map_err(Fault::unavailable)?;
    Ok(ReadFeedResponse {
        extent: Some(extent_to(&piece.extent)),
        events: piece.events.into_iter().map(feed_event_to).collect(),
    })
}
