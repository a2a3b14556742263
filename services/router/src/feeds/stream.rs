//! PublishEvents: many requests in flight, answered in their order.

use std::collections::HashMap;

use waystation_domain::{MessageId, OrganizationId};
use waystation_proto::router::v1::publish_event_result::Outcome;
use waystation_proto::router::v1::{PublishEventResult, PublishEventsRequest, PublishEventsResponse};
use waystation_rpc::{Caller, Fault};
use waystation_store::feed::NewEvent;

use super::publisher::{Publishing, Told};
use super::{Mailing, Wanted, answer, read_request};
use crate::Parts;
use crate::metrics::EventOutcome;
use crate::pipeline::Pipeline;

/// Events in one request.
const MOST: usize = 1_024;

/// What a stream of one caller needs.
pub(crate) struct PublishStream {
    pub(crate) parts: Parts,
    pub(crate) caller: Caller,
}

impl Pipeline for PublishStream {
    type Request = PublishEventsRequest;
    type Begun = Batch;
    type Answer = PublishEventsResponse;

    async fn begin(&self, request: PublishEventsRequest) -> Result<Batch, Fault> {
        Batch::begin(&self.parts, &self.caller, request).await
    }

    async fn finish(&self, batch: Batch) -> PublishEventsResponse {
        PublishEventsResponse { results: batch.results(&self.parts).await }
    }
}

/// What is awaited for one event.
enum Pending {
    /// Its organization's part of the batch, its place there, and the publisher's id.
    Feed(OrganizationId, usize, Option<MessageId>),
    Mail(Mailing),
    Refused(Fault),
}

/// Events of one request on their way.
pub(crate) struct Batch {
    pending: Vec<Pending>,
    parts: Vec<(OrganizationId, Result<Publishing, Fault>)>,
}

impl Batch {
    async fn begin(parts: &Parts, caller: &Caller, request: PublishEventsRequest) -> Result<Batch, Fault> {
        if request.events.len() > MOST {
            return Err(Fault::field("events", format!("must have at most {MOST} elements")));
        }
        let mut pending = Vec::with_capacity(request.events.len());
        let mut feeds: HashMap<OrganizationId, Vec<NewEvent>> = HashMap::new();
        for (index, event) in request.events.into_iter().enumerate() {
            pending.push(match read_request(parts, caller, event, None).await {
                Ok(Wanted::Feed(organization, event)) => {
                    let together = feeds.entry(organization.clone()).or_default();
                    let id = event.id.clone();
                    together.push(event);
                    Pending::Feed(organization, together.len() - 1, id)
                }
                Ok(Wanted::Mailboxes(id, messages)) => Pending::Mail(Mailing::begin(parts, id, messages)),
                Err(fault) => Pending::Refused(fault.within(&format!("events[{index}]"))),
            });
        }
        let publish = |(organization, events): (OrganizationId, Vec<NewEvent>)| {
            (organization.clone(), parts.publisher.publish(organization, events))
        };
        Ok(Batch { pending, parts: feeds.into_iter().map(publish).collect() })
    }

    /// One result for each event, in their order, once the store has answered.
    async fn results(self, parts: &Parts) -> Vec<PublishEventResult> {
        let mut told: HashMap<OrganizationId, Result<Told, Fault>> = HashMap::new();
        for (organization, publishing) in self.parts {
            let outcome = match publishing {
                Ok(publishing) => publishing.wait().await,
                Err(fault) => Err(fault),
            };
            told.insert(organization, outcome);
        }
        let mut results = Vec::with_capacity(self.pending.len());
        for pending in self.pending {
            let published = match pending {
                Pending::Refused(fault) => Err(fault),
                Pending::Mail(mailing) => mailing.wait(parts).await,
                Pending::Feed(organization, place, id) => match told.get(&organization) {
                    Some(Ok(told)) => match told.outcomes.get(place) {
                        Some(outcome) => answer(parts, id, *outcome, told.gateways),
                        None => Err(Fault::unavailable("the store gave no answer")),
                    },
                    Some(Err(fault)) => Err(fault.clone()),
                    None => Err(Fault::unavailable("the store gave no answer")),
                },
            };
            let outcome = match published {
                Ok(published) => Outcome::Published(published),
                Err(fault) => {
                    parts.metrics.published(EventOutcome::Refused);
                    Outcome::Error(fault.into())
                }
            };
            results.push(PublishEventResult { outcome: Some(outcome) });
        }
        results
    }
}
