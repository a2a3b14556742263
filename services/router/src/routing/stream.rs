//! RouteMessages: many requests in flight, answered in their order.

use waystation_proto::router::v1::{RouteMessageRequest, RouteMessagesRequest, RouteMessagesResponse};
use waystation_rpc::{Caller, Fault};
use waystation_store::mailbox::AppendMessage;

use crate::batch::{Batch, Judged};
use crate::pipeline::Pipeline;
use crate::{Parts, request};

/// Messages in one request.
const MOST: usize = 1_024;

/// What a stream of one caller needs.
pub(super) struct RouteStream {
    pub(super) parts: Parts,
    pub(super) caller: Caller,
}

impl Pipeline for RouteStream {
    type Request = RouteMessagesRequest;
    type Begun = Batch;
    type Answer = RouteMessagesResponse;

    async fn begin(&self, request: RouteMessagesRequest) -> Result<Batch, Fault> {
        begin(&self.parts, &self.caller, request).await
    }

    async fn finish(&self, batch: Batch) -> RouteMessagesResponse {
        RouteMessagesResponse { results: batch.results(&self.parts).await }
    }
}

async fn begin(parts: &Parts, caller: &Caller, request: RouteMessagesRequest) -> Result<Batch, Fault> {
    if request.messages.len() > MOST {
        return Err(Fault::field("messages", format!("must have at most {MOST} elements")));
    }
    let mut judged = Judged::of(parts, "RouteMessages", request.messages.len());
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
