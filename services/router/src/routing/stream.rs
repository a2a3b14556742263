//! RouteMessages: many requests in flight, answered in their order.

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use waystation_domain::MessageId;
use waystation_proto::router::v1::route_message_result::Outcome;
use waystation_proto::router::v1::{
    RouteMessageRequest, RouteMessageResult, RouteMessagesRequest, RouteMessagesResponse,
};
use waystation_rpc::{Caller, Fault};
use waystation_store::mailbox::{AppendMessage, MailboxKey};

use crate::appender::Appending;
use crate::metrics;
use crate::{Parts, request};

/// Requests of one stream that may be in flight; then its reader waits, and with it the caller.
const IN_FLIGHT: usize = 64;
/// Messages in one request.
const MOST: usize = 1_024;

type Judged = Result<(MailboxKey, Option<MessageId>), Fault>;

/// One request on its way.
struct Batch {
    /// For each message, its mailbox and id, or why it goes no further.
    judged: Vec<Judged>,
    appending: Appending,
}

pub(super) fn serve(
    parts: Parts,
    caller: Caller,
    mut requests: Streaming<RouteMessagesRequest>,
) -> ReceiverStream<Result<RouteMessagesResponse, Status>> {
    let (answers, receiver) = mpsc::channel(IN_FLIGHT);
    let (batches, mut waiting) = mpsc::channel::<Batch>(IN_FLIGHT);
    let (reader, writer) = (parts.clone(), answers.clone());
    let reading = async move {
        while let Some(request) = requests.next().await {
            let begun = match request {
                Ok(request) => begin(&reader, &caller, request).await,
                // The caller has gone; what it routed is routed.
                Err(_) => return,
            };
            match begun {
                Ok(batch) => {
                    if batches.send(batch).await.is_err() {
                        return;
                    }
                }
                Err(fault) => return drop(answers.send(Err(fault.into())).await),
            }
        }
    };
    let answering_parts = parts.clone();
    let answering = async move {
        while let Some(batch) = waiting.recv().await {
            let answer = finish(&answering_parts, batch).await;
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

async fn begin(parts: &Parts, caller: &Caller, request: RouteMessagesRequest) -> Result<Batch, Fault> {
    if request.messages.len() > MOST {
        return Err(Fault::field("messages", format!("must have at most {MOST} elements")));
    }
    let mut judged = Vec::with_capacity(request.messages.len());
    let mut messages = Vec::with_capacity(request.messages.len());
    for (index, message) in request.messages.into_iter().enumerate() {
        judged.push(match prepare(parts, caller, message).await {
            Ok(message) => {
                let of_answer = (message.mailbox.clone(), message.id.clone());
                messages.push(message);
                Ok(of_answer)
            }
            Err(fault) => Err(fault.within(&format!("messages[{index}]"))),
        });
    }
    Ok(Batch { judged, appending: parts.appender.append(messages) })
}

async fn prepare(parts: &Parts, caller: &Caller, request: RouteMessageRequest) -> Result<AppendMessage, Fault> {
    let key = request::mailbox(caller, &request.organization_id, &request.orchestrator_id)?;
    let rules = parts.directory.check(&key).await?;
    let organization = key.organization.clone();
    let read = request::message(key, request, &rules.settings, parts.store.mailboxes.durability());
    let read = read.and_then(|(message, wait)| match wait {
        true => Err(Fault::field("wait_for", "must be STORED in a stream")),
        false => Ok(message),
    });
    read.inspect_err(|_| parts.stats.refused(&organization))
}

async fn finish(parts: &Parts, batch: Batch) -> RouteMessagesResponse {
    let mut outcomes = batch.appending.wait().await.into_iter();
    let unanswered = || Fault::unavailable("the store gave no answer");
    let results = batch.judged.into_iter().map(|judged| {
        let outcome = judged.and_then(|(key, id)| {
            let appended = outcomes.next().ok_or_else(unanswered)?;
            let appended = appended.inspect_err(|_| parts.stats.refused(&key.organization))?;
            Ok(parts.answer(&key, id.as_ref(), appended))
        });
        let outcome = match outcome {
            Ok(routed) => Outcome::Routed(routed),
            Err(fault) => {
                parts.metrics.routed(metrics::Outcome::Refused);
                Outcome::Error(fault.into())
            }
        };
        RouteMessageResult { outcome: Some(outcome) }
    });
    RouteMessagesResponse { results: results.collect() }
}
