//! RouteMessages: many requests in flight, answered in their order.

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use waystation_proto::router::v1::{RouteMessageRequest, RouteMessagesRequest, RouteMessagesResponse};
use waystation_rpc::{Caller, Fault};
use waystation_store::mailbox::AppendMessage;

use crate::batch::{Batch, Judged};
use crate::{Parts, request};

/// Requests of one stream that may be in flight; then its reader waits, and with it the caller.
const IN_FLIGHT: usize = 64;
/// Messages in one request.
const MOST: usize = 1_024;

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
            let answer = RouteMessagesResponse { results: batch.results(&answering_parts).await };
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
    let mut judged = Judged::with_capacity(request.messages.len());
    for (index, message) in request.messages.into_iter().enumerate() {
        let message = prepare(parts, caller, message).await;
        judged.push(message.map_err(|fault| fault.within(&format!("messages[{index}]"))));
    }
    Ok(judged.append(parts))
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
    let read = read.inspect_err(|_| parts.stats.refused(&organization))?;
    parts.admit(&organization, &rules).await?;
    Ok(read)
}
