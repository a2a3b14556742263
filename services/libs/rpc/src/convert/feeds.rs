//! Feeds.

use std::fmt::Display;
use std::str::FromStr;

use waystation_domain::{
    Audience, Epoch, FeedEvent, FeedExtent, FeedGap, FeedLoss, FeedPoint, FeedPosition, MessageId,
};
use waystation_proto::common::v1 as common;
use waystation_proto::gateway::v1 as gateway;
use waystation_proto::router::v1 as router;

use super::{parse, parse_optional, required, timestamp_from, timestamp_to};
use crate::fault::Fault;

/// A position in a feed.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn feed_position_from(field: &str, position: Option<common::FeedPosition>) -> Result<FeedPosition, Fault> {
    let common::FeedPosition { epoch, sequence } = required(field, position)?;
    Ok(FeedPosition { epoch: parse::<Epoch>("epoch", &epoch).map_err(|fault| fault.within(field))?, sequence })
}

/// A position in a feed for a message.
pub fn feed_position_to(position: FeedPosition) -> common::FeedPosition {
    common::FeedPosition { epoch: position.epoch.to_string(), sequence: position.sequence }
}

/// What somebody remembers of a feed.
///
/// # Errors
/// INVALID_ARGUMENT naming the field, if it names a sequence but no epoch.
pub fn feed_point_from(field: &str, position: common::FeedPosition) -> Result<FeedPoint, Fault> {
    if position.epoch.is_empty() && position.sequence == 0 {
        return Ok(FeedPoint { epoch: None, sequence: 0 });
    }
    feed_position_from(field, Some(position)).map(FeedPoint::from)
}

/// An event of a feed.
///
/// # Errors
/// INVALID_ARGUMENT naming the field.
pub fn feed_event_from(event: gateway::FeedEvent) -> Result<FeedEvent, Fault> {
    Ok(FeedEvent {
        position: feed_position_from("event.position", event.position)?,
        id: MessageId::naming(&event.event_id).map_err(|error| Fault::field("event.event_id", error))?,
        event_type: parse("event.event_type", &event.event_type)?,
        channel: parse_optional("event.channel_id", &event.channel_id)?,
        trace: parse_optional("event.traceparent", &event.traceparent)?,
        sender: parse_optional("event.sender_orchestrator_id", &event.sender_orchestrator_id)?,
        audience: Audience {
            orchestrators: ids("event.orchestrator_ids", &event.orchestrator_ids)?,
            daemons: ids("event.daemon_ids", &event.daemon_ids)?,
        },
        time: timestamp_from(event.publish_time.as_ref()),
        data: event.data,
    })
}

fn ids<T: FromStr>(field: &str, texts: &[String]) -> Result<Vec<T>, Fault>
where
    T::Err: Display,
{
    texts.iter().map(|text| parse(field, text)).collect()
}

/// An event of a feed for a message.
pub fn feed_event_to(event: FeedEvent) -> gateway::FeedEvent {
    gateway::FeedEvent {
        position: Some(feed_position_to(event.position)),
        event_id: event.id.as_str().to_owned(),
        event_type: event.event_type.as_str().to_owned(),
        channel_id: event.channel.map(|channel| channel.to_string()).unwrap_or_default(),
        data: event.data,
        traceparent: event.trace.map(|trace| trace.to_string()).unwrap_or_default(),
        sender_orchestrator_id: event.sender.map(|sender| sender.to_string()).unwrap_or_default(),
        orchestrator_ids: event.audience.orchestrators.iter().map(ToString::to_string).collect(),
        daemon_ids: event.audience.daemons.iter().map(ToString::to_string).collect(),
        publish_time: Some(timestamp_to(event.time)),
    }
}

/// How far a feed reaches; nowhere if absent.
///
/// # Errors
/// INVALID_ARGUMENT if an epoch is malformed.
pub fn extent_from(extent: Option<router::FeedExtent>) -> Result<FeedExtent, Fault> {
    let router::FeedExtent { epochs, head, floor } = extent.unwrap_or_default();
    let epochs = epochs.iter().map(|one| Ok((parse("extent.epochs", &one.epoch)?, one.first)));
    Ok(FeedExtent { epochs: epochs.collect::<Result<_, Fault>>()?, head, floor })
}

/// How far a feed reaches, for a message.
pub fn extent_to(extent: &FeedExtent) -> router::FeedExtent {
    let epochs =
        extent.epochs.iter().map(|(epoch, first)| router::FeedEpoch { epoch: epoch.to_string(), first: *first });
    router::FeedExtent { epochs: epochs.collect(), head: extent.head, floor: extent.floor }
}

/// A gap of a feed for a message.
pub fn feed_gap_to(gap: &FeedGap) -> router::FeedGap {
    let reason = match gap.loss {
        FeedLoss::Trimmed => router::FeedGapReason::Trimmed,
        FeedLoss::PossiblyLost => router::FeedGapReason::PossiblyLost,
    };
    router::FeedGap {
        reason: reason.into(),
        epoch: gap.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
        from: gap.from,
        to: gap.to,
        count: gap.count(),
    }
}
