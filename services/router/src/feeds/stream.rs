//! PublishEvents: many requests in flight, answered in their order.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use waystation_domain::{MessageId, OrganizationId};
use waystation_proto::router::v1::publish_event_result::Outcome;
use waystation_proto::router::v1::{PublishEventResult, PublishEventsRequest, PublishEventsResponse};
use waystation_rpc::{Caller, Fault};
use waystation_store::feed::NewEvent;

use super::publisher::{Publishing, Told};
use super::{Mailing, Wanted, answer, read_request};
use crate::Parts;
use crate::metrics::EventOutcome;

/// Requests of one stream that may be in flight; then its reader waits, and with it the caller.
const IN_FLIGHT: usize = 64;
/// Events in one request.
const MOST: usize = 1_024;

pub(crate) fn serve(
    parts: Parts,
    caller: Caller,
    mut requests: Streaming<PublishEventsRequest>,
) -> ReceiverStream<Result<PublishEventsResponse, Status>> {
    let (answers, receiver) = mpsc::channel(IN_FLIGHT);
    let (batches, mut waiting) = mpsc::channel::<Batch>(IN_FLIGHT);
    let (reader, writer) = (parts.clone(), answers.clone());
    let reading = async move {
        // A caller that has gone has published what it has published.
        while let Some(Ok(request)) = requests.next().await {
            match Batch::begin(&reader, &caller, request).await {
                Ok(batch) => {
                    if batches.send(batch).await.is_err() {
                        return;
                    }
                }
                Err(fault) => return drop(answers.send(Err(fault.into())).await),
            }
        }
    };
    let of_answers = parts.clone();
    let answering = async move {
        while let Some(batch) = waiting.recv().await {
            let answer = PublishEventsResponse { results: batch.results(&of_answers).await };
            if writer.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    };
    let lifecycle = parts.context.lifecycle.clone();
    parts.context.lifecycle.spawn(async move {
        tokio::select! {
            ((), ()) = async { tokio::join!(reading, answering) } => {}
            () = lifecycle.stopping() => {}
        }
    });
    ReceiverStream::new(receiver)
}

/// What is awaited for one event.
enum Pending {
    /// Its organization's part of the batch, its place there, and the publisher's id.
    Feed(OrganizationId, usize, Option<MessageId>),
    Mail(Mailing),
    Refused(Fault),
}

/// Events of one request on their way.
struct Batch {
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
