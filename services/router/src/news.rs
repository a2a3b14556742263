//! What Waystation itself publishes on the feeds of organizations: who comes and goes, what daemons say of themselves,
//! which messages have died, who is held back, and how the router's own streams fare.
//!
//! Presence and dead letters are found by sweeps and told until the store knows that they were told; a router that dies in
//! between leaves them to another, which makes the same events. Everything else is told once, if the feed takes it.

mod events;

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use moka::sync::Cache;
use tokio::sync::mpsc;
use tokio::time::sleep;
use waystation_domain::{MessageId, OrganizationId};
use waystation_rpc::Fault;
use waystation_store::feed::{NewEvent, PublishRefused};
use waystation_store::mailbox::{DeadLetterView, MailboxKey, MailboxNews, NewsTold};
use waystation_store::report::{Changed, Report};

use crate::Parts;
use crate::gateways::LinkNews;
use crate::quotas::TooMany;

/// Mailboxes that are told of at once.
const TOGETHER: usize = 32;
/// Dead letters that are read at once.
const PIECE: usize = 50;
/// That an organization is held back is told so often.
const HELD_BACK_EVERY: Duration = Duration::from_secs(60);
/// After news could not be published.
const AGAIN: Duration = Duration::from_secs(1);
/// Organizations of which is remembered that it was told.
const HELD_BACK: u64 = 10_000;

/// Organizations that were told not long ago that they are held back. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HeldBack(Cache<OrganizationId, ()>);

impl Default for HeldBack {
    fn default() -> Self {
        HeldBack(Cache::builder().max_capacity(HELD_BACK).time_to_live(HELD_BACK_EVERY).build())
    }
}

/// Tells what a sweep has found. What cannot be told now a later sweep finds again.
pub(crate) async fn tell_swept(parts: &Parts, news: Vec<(MailboxKey, MailboxNews)>) {
    let telling = iter(news).for_each_concurrent(TOGETHER, async |(mailbox, news)| {
        if let Err(fault) = tell_of(parts, mailbox, news).await {
            tracing::warn!("cannot tell subscribers what has changed: {fault:?}");
        }
    });
    telling.await;
}

async fn tell_of(parts: &Parts, mailbox: MailboxKey, news: MailboxNews) -> Result<(), Fault> {
    let store = &parts.store.mailboxes;
    if let Some((online, since)) = news.presence {
        publish(parts, &mailbox.organization, events::presence(&mailbox, online, since).into_iter().collect()).await?;
    }
    let (mut told, last) = news.letters;
    while told < last {
        let letters = store.dead_letters(&mailbox, told, PIECE, None).await.map_err(Fault::unavailable)?;
        // Those that are no more were seen by whoever dropped them.
        told = letters.last().map_or(last, |letter| letter.number);
        let events = letters.iter().filter_map(|letter| events::dead_letter(&mailbox, letter));
        publish(parts, &mailbox.organization, events.collect()).await?;
    }
    let online = news.presence.map(|(online, _)| online);
    store.note_told(NewsTold { mailbox, online, letters: told }, None).await.map_err(Fault::unavailable)
}

/// Publishes events; they are on the feed when this resolves.
async fn publish(parts: &Parts, organization: &OrganizationId, events: Vec<NewEvent>) -> Result<(), Fault> {
    if events.is_empty() {
        return Ok(());
    }
    let told = parts.publisher.publish(organization.clone(), events)?.wait().await?;
    for outcome in told.outcomes {
        match outcome {
            // Another router was first, at another moment.
            Ok(_) | Err(PublishRefused::IdReused) => {}
            Err(refused) => return Err(Fault::unavailable(refused)),
        }
    }
    Ok(())
}

/// Tells that dead letters were routed once more, under which ids.
pub(crate) async fn tell_redriven(
    parts: &Parts,
    mailbox: &MailboxKey,
    redriven: &[(DeadLetterView, MessageId)],
) -> Result<(), Fault> {
    let now = parts.context.clock.now();
    let events = redriven.iter().flat_map(|(letter, id)| events::redriven(mailbox, letter, id, now)).flatten();
    publish(parts, &mailbox.organization, events.collect()).await
}

/// Tells what reports have changed; nobody waits for it.
pub(crate) fn tell_reported(parts: &Parts, reports: &[Report], changed: &[Changed]) {
    let now = parts.context.clock.now();
    for (report, changed) in reports.iter().zip(changed) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let status = report.status.filter(|_| changed.status);
        let status = status.and_then(|s| events::status_changed(&report.mailbox, s, &text(&report.message), now));
        let presence = report.presence.filter(|_| changed.presence);
        let presence = presence.and_then(|presence| {
            events::presence_updated(&report.mailbox, presence, &text(&report.presence_text), now)
        });
        publish_in_passing(parts, &report.mailbox.organization, status.into_iter().chain(presence).collect());
    }
}

/// Tells that an organization is held back.
pub(crate) fn tell_held_back(parts: &Parts, organization: &OrganizationId, too_many: TooMany) {
    if parts.held_back.0.contains_key(organization) {
        return;
    }
    parts.held_back.0.insert(organization.clone(), ());
    let event = events::rate_limited(organization, too_many, parts.context.clock.now());
    publish_in_passing(parts, organization, event.into_iter().collect());
}

/// Tells how the router's own streams to gateways fare, until the process stops. Whatever can be told late is told late: a
/// router that lost its gateways may have lost its store with them.
pub(crate) fn tell_links(parts: &Parts, organization: OrganizationId, mut news: mpsc::Receiver<LinkNews>) {
    let lifecycle = parts.context.lifecycle.clone();
    let parts = parts.clone();
    let telling = async move {
        while let Some(news) = news.recv().await {
            let event = events::link(&news).into_iter().collect::<Vec<_>>();
            while let Err(fault) = publish(&parts, &organization, event.clone()).await {
                tracing::warn!("cannot tell subscribers how streams to gateways fare: {fault:?}");
                sleep(AGAIN).await;
            }
        }
    };
    lifecycle.clone().spawn(async move {
        tokio::select! {
            () = telling => {}
            () = lifecycle.stopping() => {}
        }
    });
}

fn publish_in_passing(parts: &Parts, organization: &OrganizationId, events: Vec<NewEvent>) {
    if events.is_empty() {
        return;
    }
    if let Err(fault) = parts.publisher.publish(organization.clone(), events) {
        tracing::warn!("cannot tell subscribers what has changed: {fault:?}");
    }
}
