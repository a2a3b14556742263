//! Feeds (rule 17).

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use waystation_domain::{Epoch, IncarnationId, MessageId, OrganizationId, Timestamp};

use crate::feed::{
    FeedEvent, FeedExtent, FeedPiece, FeedPosition, Interest, Interested, NewEvent, Publication, Publish,
    PublishRefused, Published, ReadFeed, Retention,
};
use crate::mailbox::ContentDigest;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Feeds {
    by_organization: HashMap<OrganizationId, Feed>,
}

/// The feed of one organization.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Feed {
    epochs: Vec<(Epoch, u64)>,
    head: u64,
    /// What is kept: the sequences after the floor, without holes.
    log: VecDeque<FeedEvent>,
    bytes: u64,
    /// Publishers' ids of what is kept.
    ids: HashMap<MessageId, (u64, ContentDigest)>,
    interested: BTreeMap<IncarnationId, String>,
    retention: Retention,
}

impl Feed {
    fn extent(&self) -> FeedExtent {
        let floor = self.head - self.log.len() as u64;
        FeedExtent { epochs: self.epochs.clone(), head: self.head, floor }
    }

    /// Rule 11: an epoch begins if the store is not the one that was seen last.
    fn ensure_epoch(&mut self, epoch: Epoch) {
        if self.epochs.last().is_some_and(|(current, _)| *current == epoch) {
            return;
        }
        self.epochs.push((epoch, self.head + 1));
        let beyond = self.epochs.len().saturating_sub(crate::limits::EPOCHS);
        self.epochs.drain(..beyond);
    }

    fn publish(&mut self, event: NewEvent, epoch: Epoch, now: Timestamp) -> Result<Published, PublishRefused> {
        let digest = event.id.as_ref().map(|_| event.digest());
        if let Some((sequence, known)) = event.id.as_ref().and_then(|id| self.ids.get(id)) {
            if digest != Some(*known) {
                return Err(PublishRefused::IdReused);
            }
            let epoch = self.extent().owner(*sequence).unwrap_or(epoch);
            return Ok(Published { position: FeedPosition { epoch, sequence: *sequence }, duplicate: true });
        }
        let size = event.data.len() as u64;
        while self.log.len() as u64 >= self.retention.events || self.bytes + size > self.retention.bytes {
            if !self.forget_oldest() {
                break;
            }
        }
        self.head += 1;
        self.bytes += size;
        let position = FeedPosition { epoch, sequence: self.head };
        if let (Some(id), Some(digest)) = (&event.id, digest) {
            self.ids.insert(id.clone(), (self.head, digest));
        }
        let NewEvent { id, event_type, channel, trace, sender, audience, data } = event;
        let id = id.unwrap_or_else(|| MessageId::of_feed(position));
        self.log.push_back(FeedEvent { position, id, event_type, channel, trace, sender, audience, time: now, data });
        Ok(Published { position, duplicate: false })
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.log.pop_front() else { return false };
        self.bytes -= oldest.data.len() as u64;
        self.ids.remove(&oldest.id);
        true
    }
}

impl Feeds {
    pub(super) fn publish(&mut self, publish: Publish, epoch: Epoch, now: Timestamp) -> Publication {
        let feed = self.by_organization.entry(publish.organization).or_default();
        feed.retention = publish.retention;
        feed.ensure_epoch(epoch);
        feed.interested.retain(|incarnation, _| !publish.gone.contains(incarnation));
        let outcomes = publish.events.into_iter().map(|event| feed.publish(event, epoch, now)).collect();
        let interested = feed.interested.iter();
        let interested = interested
            .map(|(incarnation, address)| Interested { incarnation: incarnation.clone(), address: address.clone() });
        Publication { outcomes, time: now, interested: interested.collect() }
    }

    pub(super) fn read(&self, read: &ReadFeed) -> FeedPiece {
        let Some(feed) = self.by_organization.get(&read.organization) else {
            return FeedPiece { extent: FeedExtent::default(), events: Vec::new() };
        };
        let extent = feed.extent();
        let skipped = usize::try_from(read.after.saturating_sub(extent.floor)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let events = feed.log.iter().skip(skipped).take(read.most).enumerate().take_while(|(index, event)| {
            bytes += event.data.len() as u64;
            *index == 0 || bytes <= read.bytes
        });
        let events = events.map(|(_, event)| event.clone()).collect();
        FeedPiece { extent, events }
    }

    pub(super) fn set_interest(&mut self, interest: Interest) -> Vec<FeedExtent> {
        let Interest { incarnation, address, organizations } = interest;
        let each = organizations.into_iter().map(|(organization, has_subscribers)| {
            if has_subscribers {
                let feed = self.by_organization.entry(organization).or_default();
                feed.interested.insert(incarnation.clone(), address.clone());
                return feed.extent();
            }
            let feed = self.by_organization.get_mut(&organization);
            feed.map(|feed| {
                feed.interested.remove(&incarnation);
                feed.extent()
            })
            .unwrap_or_default()
        });
        each.collect()
    }

    pub(super) fn extents(&self, organizations: &[OrganizationId]) -> Vec<FeedExtent> {
        let extent = |organization| self.by_organization.get(organization).map(Feed::extent).unwrap_or_default();
        organizations.iter().map(extent).collect()
    }

    /// Forgets what is too old; answers how many events.
    pub(super) fn sweep(&mut self, now: Timestamp) -> u64 {
        let mut forgotten = 0;
        for feed in self.by_organization.values_mut() {
            while feed.log.front().is_some_and(|oldest| now.since(oldest.time) > feed.retention.age) {
                forgotten += u64::from(feed.forget_oldest());
            }
        }
        forgotten
    }
}
