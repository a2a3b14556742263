//! Feeds: publishing, watching, and what gateways ask.

mod hub;
mod publisher;
mod request;
mod serving;
mod stream;
mod watch;

use std::time::Duration;

use waystation_domain::{MessageId, OrganizationId};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::PublishEventResponse;
use waystation_rpc::convert::feed_position_to;
use waystation_rpc::{Caller, Fault};
use waystation_store::feed::{NewEvent, PublishRefused, Published};
use waystation_store::mailbox::{AppendMessage, Appended};

use crate::Parts;
use crate::appender::Appending;
use crate::metrics::EventOutcome;
pub(crate) use hub::FeedHub;
pub(crate) use publisher::Publisher;
pub(crate) use request::read as read_request;
pub(crate) use serving::{compare, read};
pub(crate) use stream::PublishStream;
pub(crate) use watch::watch;

/// What a publisher wants.
pub(crate) enum Wanted {
    /// An event on the feed.
    Feed(OrganizationId, NewEvent),
    /// A message for each addressee, under one id.
    Mailboxes(MessageId, Vec<AppendMessage>),
}

/// Publishes one event.
pub(crate) async fn publish(parts: &Parts, wanted: Wanted) -> Result<PublishEventResponse, Fault> {
    match wanted {
        Wanted::Feed(organization, event) => OnTheWay::begin(parts, organization, event)?.wait(parts).await,
        Wanted::Mailboxes(id, messages) => Mailing::begin(parts, id, messages).wait(parts).await,
    }
}

/// An event on its way to the feed.
pub(crate) struct OnTheWay {
    id: Option<MessageId>,
    publishing: publisher::Publishing,
}

impl OnTheWay {
    /// Asks for the publication; what is asked for after this comes after it.
    pub(crate) fn begin(parts: &Parts, organization: OrganizationId, event: NewEvent) -> Result<OnTheWay, Fault> {
        let id = event.id.clone();
        Ok(OnTheWay { id, publishing: parts.publisher.publish(organization, vec![event])? })
    }

    /// Resolves once the store has answered.
    pub(crate) async fn wait(self, parts: &Parts) -> Result<PublishEventResponse, Fault> {
        let told = self.publishing.wait().await?;
        let outcome = told.outcomes.first().copied().unwrap_or(Err(PublishRefused::Damaged));
        answer(parts, self.id, outcome, told.gateways)
    }
}

/// What a publisher is told of an event on the feed.
fn answer(
    parts: &Parts,
    id: Option<MessageId>,
    outcome: Result<Published, PublishRefused>,
    gateways: u32,
) -> Result<PublishEventResponse, Fault> {
    let Published { position, duplicate } = outcome.map_err(refusal)?;
    parts.metrics.published(if duplicate { EventOutcome::Duplicate } else { EventOutcome::Published });
    let id = id.unwrap_or_else(|| MessageId::of_feed(position));
    Ok(PublishEventResponse {
        position: Some(feed_position_to(position)),
        gateways_notified: gateways,
        duplicate,
        event_id: id.as_str().to_owned(),
    })
}

/// What a publisher is told of an event that went to mailboxes: it may be repeated if one of them refused it.
fn addressed(
    parts: &Parts,
    id: &MessageId,
    appended: Vec<Result<Appended, Fault>>,
) -> Result<PublishEventResponse, Fault> {
    let (mut told, mut duplicate) = (0, true);
    for (index, outcome) in appended.into_iter().enumerate() {
        let appended = outcome.map_err(|fault| fault.about(&format!("orchestrator_ids[{index}]")))?;
        told += u32::from(appended.holder.is_some());
        duplicate &= appended.duplicate;
    }
    parts.metrics.published(if duplicate { EventOutcome::Duplicate } else { EventOutcome::Published });
    Ok(PublishEventResponse { position: None, gateways_notified: told, duplicate, event_id: id.as_str().to_owned() })
}

/// Why the store refused, in the words of callers.
fn refusal(refused: PublishRefused) -> Fault {
    match refused {
        PublishRefused::IdReused => Fault::new(ErrorReason::MessageIdReused, "event_id was used for another event"),
        PublishRefused::StoreFull => {
            Fault::new(ErrorReason::StoreFull, "the store's memory is full").retry(Duration::from_secs(5))
        }
        PublishRefused::Damaged => Fault::unavailable("the store cannot use this feed"),
    }
}

/// The organization that a caller means, if it is there.
async fn organization(parts: &Parts, caller: &Caller, named: &str) -> Result<OrganizationId, Fault> {
    let organization = caller.organization(named)?;
    parts.directory.organization(&organization).await?;
    Ok(organization)
}

/// Messages on their way to mailboxes.
struct Mailing {
    id: MessageId,
    keys: Vec<waystation_store::mailbox::MailboxKey>,
    appending: Appending,
}

impl Mailing {
    fn begin(parts: &Parts, id: MessageId, messages: Vec<AppendMessage>) -> Mailing {
        let keys = messages.iter().map(|message| message.mailbox.clone()).collect();
        Mailing { id, keys, appending: parts.appender.append(messages) }
    }

    async fn wait(self, parts: &Parts) -> Result<PublishEventResponse, Fault> {
        let appended = self.appending.wait().await;
        for (key, appended) in self.keys.iter().zip(&appended) {
            if let Ok(appended) = appended {
                parts.answer(key, Some(&self.id), appended.clone());
            }
        }
        addressed(parts, &self.id, appended)
    }
}
