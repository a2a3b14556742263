//! WatchEvents: a feed from a position on. A watcher that does not read costs nothing but its place.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use waystation_domain::{ChannelId, FeedEvent, FeedPoint, OrganizationId, Pattern, Subscriptions};
use waystation_proto::common::v1::FeedPosition;
use waystation_proto::router::v1::watch_events_response::What;
use waystation_proto::router::v1::{Event, WatchEventsRequest, WatchEventsResponse};
use waystation_rpc::convert::{feed_gap_to, feed_point_from, feed_position_to, parse, timestamp_to};
use waystation_rpc::{Caller, Fault};
use waystation_store::feed::{FeedPiece, ReadFeed};

use super::organization;
use crate::Parts;

/// Channels that a filter may name.
const MOST_CHANNELS: usize = 1_000;
/// Events that are read at once, and bytes.
const PIECE: usize = 256;
const PIECE_BYTES: u64 = 1 << 20;
/// A stream that has nothing to say says so.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// After the store did not answer.
const AGAIN: Duration = Duration::from_millis(500);

type Answers = mpsc::Sender<Result<WatchEventsResponse, Status>>;

/// Watches until the caller goes or the process stops.
pub(crate) async fn watch(
    parts: &Parts,
    caller: &Caller,
    request: WatchEventsRequest,
) -> Result<ReceiverStream<Result<WatchEventsResponse, Status>>, Fault> {
    let organization = organization(parts, caller, &request.organization_id).await?;
    let wanted = wanted(&request)?;
    let from = request.position.map(|position| feed_point_from("position", position)).transpose()?;
    let (answers, receiver) = mpsc::channel(PIECE);
    let watcher = Watcher { parts: parts.clone(), organization, wanted, answers };
    let lifecycle = parts.context.lifecycle.clone();
    parts.context.lifecycle.spawn(async move {
        tokio::select! {
            _ = watcher.run(from) => {}
            () = lifecycle.stopping() => {}
        }
    });
    Ok(ReceiverStream::new(receiver))
}

fn wanted(request: &WatchEventsRequest) -> Result<Subscriptions, Fault> {
    let patterns = request.event_types.iter().enumerate();
    let patterns = patterns.map(|(index, text)| parse(&format!("event_types[{index}]"), text));
    let mut patterns: Vec<Pattern> = patterns.collect::<Result<_, _>>()?;
    if patterns.is_empty() {
        patterns.push(parse("event_types", "*")?);
    }
    if request.channel_ids.len() > MOST_CHANNELS {
        return Err(Fault::field("channel_ids", format!("must have at most {MOST_CHANNELS} elements")));
    }
    let channels = request.channel_ids.iter().enumerate();
    let channels = channels.map(|(index, text)| parse(&format!("channel_ids[{index}]"), text));
    let channels: BTreeSet<ChannelId> = channels.collect::<Result<_, _>>()?;
    let wanted = Subscriptions::default().subscribe(&patterns, &channels);
    wanted.map_err(|error| Fault::field("event_types", error))
}

/// The caller has gone.
struct Gone;

struct Watcher {
    parts: Parts,
    organization: OrganizationId,
    wanted: Subscriptions,
    answers: Answers,
}

impl Watcher {
    async fn run(self, from: Option<FeedPoint>) -> Result<(), Gone> {
        // Before the first look: what is published after it rings.
        let mut head = self.parts.feed_hub.watch(&self.organization);
        let mut at = from;
        let mut told = None;
        loop {
            let after = at.map_or(u64::MAX, |point| point.sequence);
            let Some(piece) = self.read(after).await? else { continue };
            let point = at.unwrap_or_else(|| here(&piece));
            let start = piece.extent.start(point);
            if !start.gaps.is_empty() {
                for gap in &start.gaps {
                    self.say(What::Gap(feed_gap_to(gap))).await?;
                }
                at = Some(FeedPoint { epoch: piece.extent.owner(start.after), sequence: start.after });
                continue;
            }
            let reached = self.tell(&piece, point).await?;
            at = Some(reached);
            if reached.sequence >= piece.extent.head && told.is_none_or(|told: Instant| told.elapsed() >= KEEP_ALIVE) {
                self.say(What::KeepAlive(position_of(reached))).await?;
                told = Some(Instant::now());
            }
            if piece.events.is_empty() {
                let until = told.unwrap_or_else(Instant::now) + KEEP_ALIVE;
                tokio::select! {
                    changed = timeout_at(until, head.changed()) => drop(changed),
                    () = self.answers.closed() => return Err(Gone),
                }
            }
        }
    }

    /// A piece of the feed, unless the store does not answer now.
    async fn read(&self, after: u64) -> Result<Option<FeedPiece>, Gone> {
        let read = ReadFeed { organization: self.organization.clone(), after, most: PIECE, bytes: PIECE_BYTES };
        match self.parts.store.feeds.read_feed(read, None).await {
            Ok(piece) => Ok(Some(piece)),
            Err(unavailable) => {
                tracing::debug!("cannot read a feed: {unavailable}");
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => Ok(None),
                    () = self.answers.closed() => Err(Gone),
                }
            }
        }
    }

    /// Tells what is wanted of a piece; answers where the next one begins.
    async fn tell(&self, piece: &FeedPiece, from: FeedPoint) -> Result<FeedPoint, Gone> {
        let mut at = from;
        for event in &piece.events {
            if self.wanted.wants(&event.event_type, event.channel.as_ref()) {
                self.say(What::Event(shown(event))).await?;
            }
            at = event.position.into();
        }
        Ok(at)
    }

    async fn say(&self, what: What) -> Result<(), Gone> {
        self.answers.send(Ok(WatchEventsResponse { what: Some(what) })).await.map_err(|_| Gone)
    }
}

/// As a caller may give it back.
fn position_of(point: FeedPoint) -> FeedPosition {
    FeedPosition { epoch: point.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(), sequence: point.sequence }
}

/// The head.
fn here(piece: &FeedPiece) -> FeedPoint {
    FeedPoint { epoch: piece.extent.epoch(), sequence: piece.extent.head }
}

fn shown(event: &FeedEvent) -> Event {
    Event {
        event_id: event.id.as_str().to_owned(),
        event_type: event.event_type.as_str().to_owned(),
        channel_id: event.channel.as_ref().map(ToString::to_string).unwrap_or_default(),
        data: event.data.clone(),
        position: Some(feed_position_to(event.position)),
        time: Some(timestamp_to(event.time)),
        traceparent: event.trace.as_ref().map(ToString::to_string).unwrap_or_default(),
        sender_orchestrator_id: event.sender.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
