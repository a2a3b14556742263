//! The newest messages of a channel, as one daemon or person may see them.

use waystation_domain::policy::RestCall;
use waystation_domain::{ChannelId, Entry, FeedEvent, Lane, OrganizationId, Scope, may_see};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::{ListChannelMessagesRequest, ListChannelMessagesResponse};
use waystation_rpc::Fault;
use waystation_rpc::convert::{entry_to, feed_event_to, parse};
use waystation_store::feed::ReadFeed;
use waystation_store::mailbox::MailboxKey;
use waystation_token::Claims;

use crate::Parts;

/// Of each kind.
const MOST: usize = 256;
/// Messages of the mailbox and events of the feed that are looked through, in so many reads.
const LOOKED_THROUGH: u64 = 4_096;
const READS: u64 = 4;
/// Data of one read.
const BYTES: u64 = 4 << 20;

pub(super) async fn list(
    parts: &Parts,
    request: ListChannelMessagesRequest,
) -> Result<ListChannelMessagesResponse, Fault> {
    let claims = parts.verifier.verify(&request.access_token, parts.context.clock.now())?;
    RestCall::ListMessages.rule().check(claims.identity())?;
    let nobodys = || Fault::new(ErrorReason::Unauthenticated, "the token is of no organization");
    let organization = claims.organization.clone().ok_or_else(nobodys)?;
    let channel: ChannelId = parse("channel_id", &request.channel_id)?;
    let limit = usize::try_from(request.limit).unwrap_or(MOST);
    if !(1..=MOST).contains(&limit) {
        return Err(Fault::field("limit", format!("must be 1 to {MOST}")));
    }
    let entries = resident(parts, &claims, &organization, &channel, limit).await?;
    let events = published(parts, &claims, organization, channel, limit).await?;
    Ok(ListChannelMessagesResponse {
        entries: entries.into_iter().map(entry_to).collect(),
        events: events.into_iter().map(feed_event_to).collect(),
    })
}

/// What waits in the mailbox of the daemon's orchestrator.
async fn resident(
    parts: &Parts,
    claims: &Claims,
    organization: &OrganizationId,
    channel: &ChannelId,
    limit: usize,
) -> Result<Vec<Entry>, Fault> {
    let Some(orchestrator) = claims.orchestrator.clone().filter(|_| claims.scopes.allows(Scope::MessagesRead)) else {
        return Ok(Vec::new());
    };
    let mailbox = MailboxKey { organization: organization.clone(), orchestrator };
    let (mut found, mut after) = (Vec::new(), (Lane::Critical, 0));
    let piece = usize::try_from(LOOKED_THROUGH / READS).unwrap_or(MOST);
    for _ in 0..READS {
        let residents = parts.store.mailboxes.residents(&mailbox, after, piece, None).await;
        let residents = residents.map_err(Fault::unavailable)?;
        let is_last = residents.len() < piece;
        after = residents.last().map_or(after, |last| (last.entry.position.lane, last.entry.position.sequence));
        let of_channel = residents.into_iter().filter(|resident| resident.entry.channel.as_ref() == Some(channel));
        found.extend(of_channel.map(|resident| Entry { accepted: resident.accepted, ..resident.entry }));
        if is_last {
            break;
        }
    }
    found.sort_by_key(|entry| entry.accepted);
    Ok(found.split_off(found.len().saturating_sub(limit)))
}

/// What was published, newest pieces first.
async fn published(
    parts: &Parts,
    claims: &Claims,
    organization: OrganizationId,
    channel: ChannelId,
    limit: usize,
) -> Result<Vec<FeedEvent>, Fault> {
    let is_wanted = |event: &FeedEvent| {
        event.channel.as_ref() == Some(&channel)
            && event.event_type.as_str().starts_with("message.")
            && may_see(claims.scopes, &event.event_type)
            && event.audience.includes(claims.orchestrator.as_ref(), claims.daemon.as_ref())
    };
    let extents = parts.store.feeds.extents(std::slice::from_ref(&organization), None).await;
    let Some(extent) = extents.map_err(Fault::unavailable)?.into_iter().next() else { return Ok(Vec::new()) };
    let (mut found, mut until) = (Vec::new(), extent.head);
    let piece = LOOKED_THROUGH / READS;
    for _ in 0..READS {
        let begin = until.saturating_sub(piece);
        let mut events = Vec::new();
        let mut after = begin;
        // Large events come in more than one answer.
        while after < until {
            let most = usize::try_from(until - after).unwrap_or(MOST);
            let read = ReadFeed { organization: organization.clone(), after, most, bytes: BYTES };
            let read = parts.store.feeds.read_feed(read, None).await.map_err(Fault::unavailable)?;
            let Some(last) = read.events.last().map(|event| event.position.sequence) else { break };
            events.extend(read.events.into_iter().filter(|event| event.position.sequence <= until && is_wanted(event)));
            after = last;
        }
        events.extend(found);
        found = events;
        until = begin;
        if until == 0 || found.len() >= limit {
            break;
        }
    }
    Ok(found.split_off(found.len().saturating_sub(limit)))
}
