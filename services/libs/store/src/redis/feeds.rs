//! Feeds. They are kept in the partition of their organization.

use std::collections::BTreeMap;
use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::Value;
use waystation_domain::{Epoch, MessageId, OrganizationId, Timestamp};

use super::append::{NONE, spaced};
use super::node::CallError;
use super::read::optional;
use super::reply::{self, odd};
use super::scripts::Script;
use super::{Args, Redis};
use crate::Unavailable;
use crate::feed::{
    Audience, FeedEvent, FeedExtent, FeedPiece, FeedPosition, FeedStore, Interest, Interested, NewEvent, Publication,
    Publish, PublishRefused, Published, ReadFeed, audience_text,
};
use crate::mailbox::Now;

impl Redis {
    /// One script for each partition; answers are in the order of the organizations.
    async fn extents_by(
        &self,
        script: Script,
        organizations: impl Iterator<Item = (&OrganizationId, Option<bool>)>,
        first: &[&str],
        now: Now,
    ) -> Result<Vec<FeedExtent>, Unavailable> {
        let mut partitions: BTreeMap<usize, (Args, Vec<usize>)> = BTreeMap::new();
        let mut count = 0;
        for (place, (organization, flag)) in organizations.enumerate() {
            let partition = self.places.partition_of_organization(organization);
            let (args, places) = partitions.entry(partition).or_insert_with(|| {
                let mut args = Args::default();
                for text in first {
                    args.text(text);
                }
                (args, Vec::new())
            });
            args.text(organization.as_str());
            if let Some(flag) = flag {
                args.number(u8::from(flag));
            }
            places.push(place);
            count = place + 1;
        }
        let each = partitions.into_iter().map(|(partition, (args, places))| async move {
            let answers = reply::list(self.run_in(partition, script, args, now).await?)?;
            let extents = answers.map(extent_of).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, Unavailable>(places.into_iter().zip(extents).collect::<Vec<_>>())
        });
        let mut extents = vec![FeedExtent::default(); count];
        for (place, extent) in try_join_all(each).await?.into_iter().flatten() {
            extents[place] = extent;
        }
        Ok(extents)
    }
}

#[async_trait]
impl FeedStore for Redis {
    async fn publish(&self, publish: Publish, now: Now) -> Result<Publication, Unavailable> {
        let Publish { organization, events, retention, gone } = publish;
        let mut args = Args::default();
        args.text(organization.as_str()).number(self.fresh_epochs.next());
        args.number(retention.events).number(retention.bytes).number(retention.age.as_millis());
        args.push(spaced(&gone));
        events.iter().for_each(|event| push_event(&mut args, event));
        let partition = self.places.partition_of_organization(&organization);
        match self.run_in(partition, Script::Publish, args, now).await {
            Ok(answer) => publication(&organization, answer),
            // The node refused the whole script: nothing was kept.
            Err(CallError::Full) => {
                let outcomes = vec![Err(PublishRefused::StoreFull); events.len()];
                Ok(Publication { outcomes, time: Timestamp::default(), interested: Vec::new() })
            }
            Err(CallError::Link(error)) => Err(CallError::Link(error).into()),
        }
    }

    async fn read_feed(&self, read: ReadFeed, now: Now) -> Result<FeedPiece, Unavailable> {
        let mut args = Args::default();
        args.text(read.organization.as_str()).number(read.after).number(read.most).number(read.bytes);
        let partition = self.places.partition_of_organization(&read.organization);
        let mut answer = reply::list(self.run_in(partition, Script::ReadFeed, args, now).await?)?;
        let extent = extent_of(reply::next(&mut answer)?)?;
        let events = answer.map(|event| event_of(event, &extent)).collect::<Result<_, _>>()?;
        Ok(FeedPiece { extent, events })
    }

    async fn set_interest(&self, interest: Interest, now: Now) -> Result<Vec<FeedExtent>, Unavailable> {
        let Interest { incarnation, address, organizations } = interest;
        let each = organizations.iter().map(|(organization, has_subscribers)| (organization, Some(*has_subscribers)));
        self.extents_by(Script::SetInterest, each, &[incarnation.as_str(), &address], now).await
    }

    async fn extents(&self, organizations: &[OrganizationId], now: Now) -> Result<Vec<FeedExtent>, Unavailable> {
        let each = organizations.iter().map(|organization| (organization, None));
        self.extents_by(Script::Extents, each, &[], now).await
    }

    async fn sweep_feeds(&self, now: Now) -> Result<u64, Unavailable> {
        let mut forgotten = 0;
        // One after the other: what others ask of the node finds its turn in between.
        for partition in 0..self.places.partitions {
            let answer = self.run_in(partition, Script::SweepFeeds, Args::default(), now).await?;
            forgotten += reply::number(answer)?;
        }
        Ok(forgotten)
    }
}

/// See `publish.lua`.
fn push_event(args: &mut Args, event: &NewEvent) {
    let channel = event.channel.as_ref().map_or(NONE, |channel| channel.as_str());
    let trace = event.trace.as_ref().map_or(NONE, |trace| trace.as_str());
    let sender = event.sender.as_ref().map_or(NONE, |sender| sender.as_str());
    args.push(format!("{} {channel} {trace} {sender} {}", event.event_type, audience_text(&event.audience)));
    args.push(event.data.clone());
    match &event.id {
        Some(id) => args.text(id.as_str()).number(event.digest()),
        None => args.text("").text(""),
    };
}

fn publication(organization: &OrganizationId, answer: Value) -> Result<Publication, Unavailable> {
    let mut answer = reply::list(answer)?;
    let epoch: Epoch = reply::parse(&reply::text(reply::next(&mut answer)?)?)?;
    let time = Timestamp::from_millis(reply::number(reply::next(&mut answer)?)?);
    let outcomes = reply::list(reply::next(&mut answer)?)?.map(|outcome| {
        let text = reply::text(outcome)?;
        if let Some(problem) = text.strip_prefix('!') {
            tracing::error!(%organization, "cannot publish: {problem}");
        }
        outcome_of(&text, epoch)
    });
    let outcomes = outcomes.collect::<Result<_, _>>()?;
    let mut gateways = reply::list(reply::next(&mut answer)?)?;
    let mut interested = Vec::new();
    while let Some(incarnation) = gateways.next() {
        let incarnation = reply::parse(&reply::text(incarnation)?)?;
        interested.push(Interested { incarnation, address: reply::text(reply::next(&mut gateways)?)? });
    }
    interested.sort_unstable();
    Ok(Publication { outcomes, time, interested })
}

fn outcome_of(text: &str, epoch: Epoch) -> Result<Result<Published, PublishRefused>, Unavailable> {
    let (kind, rest) = text.split_at_checked(1).ok_or_else(|| odd(text))?;
    let at = |epoch, sequence, duplicate| Ok(Published { position: FeedPosition { epoch, sequence }, duplicate });
    match kind {
        "P" => Ok(at(epoch, reply::parse(rest)?, false)),
        "D" => {
            let (sequence, owner) = rest.split_once(' ').ok_or_else(|| odd(text))?;
            Ok(at(reply::parse(owner)?, reply::parse(sequence)?, true))
        }
        "R" => Ok(Err(PublishRefused::IdReused)),
        "!" => Ok(Err(PublishRefused::Damaged)),
        _ => Err(odd(text)),
    }
}

/// Epochs with their first sequences, head, floor.
fn extent_of(value: Value) -> Result<FeedExtent, Unavailable> {
    let mut parts = reply::list(value)?;
    let epochs = reply::text(reply::next(&mut parts)?)?;
    let epochs = epochs.split(';').filter(|one| !one.is_empty()).map(|one| {
        let (epoch, first) = one.split_once(' ').ok_or_else(|| odd(one))?;
        Ok((reply::parse(epoch)?, reply::parse(first)?))
    });
    let epochs = epochs.collect::<Result<_, Unavailable>>()?;
    let (head, floor) = (reply::number(reply::next(&mut parts)?)?, reply::number(reply::next(&mut parts)?)?);
    Ok(FeedExtent { epochs, head, floor })
}

/// Sequence, meta, data, and the publisher's id if it gave one.
fn event_of(value: Value, extent: &FeedExtent) -> Result<FeedEvent, Unavailable> {
    let mut parts = reply::list(value)?;
    let sequence = reply::parse(&reply::text(reply::next(&mut parts)?)?)?;
    let epoch = extent.owner(sequence).ok_or_else(|| odd("a feed without an epoch"))?;
    let position = FeedPosition { epoch, sequence };
    let meta = reply::text(reply::next(&mut parts)?)?;
    let data = Bytes::from(reply::bytes(reply::next(&mut parts)?)?);
    let id = match parts.next() {
        Some(Value::BulkString(id)) => reply::parse_id(&id)?,
        _ => MessageId::of_feed(position),
    };
    let fields: Vec<&str> = meta.split(' ').collect();
    let [time, event_type, channel, trace, sender, orchestrators, daemons] = fields[..] else { return Err(odd(meta)) };
    Ok(FeedEvent {
        position,
        id,
        event_type: reply::parse(event_type)?,
        channel: optional(channel)?,
        trace: optional(trace)?,
        sender: optional(sender)?,
        audience: Audience { orchestrators: list_of(orchestrators)?, daemons: list_of(daemons)? },
        time: Timestamp::from_millis(reply::parse(time)?),
        data,
    })
}

fn list_of<T: FromStr>(text: &str) -> Result<Vec<T>, Unavailable> {
    let ids = text.split(',').filter(|_| text != NONE);
    ids.map(reply::parse).collect()
}
