//! What daemons send: routed like a backend's messages, under the name of the orchestrator that their token says.

use waystation_domain::policy::FrameKind;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::{RouteMessageResult, SendMessage};
use waystation_rpc::Fault;
use waystation_rpc::convert::{parse, required};
use waystation_store::mailbox::{AppendMessage, MailboxKey};

use crate::batch::Judged;
use crate::{Parts, request};

/// Routes messages in their order; answers one for each.
pub(super) async fn route(parts: &Parts, messages: Vec<SendMessage>) -> Vec<RouteMessageResult> {
    let mut judged = Judged::with_capacity(messages.len());
    for message in messages {
        judged.push(prepare(parts, message).await);
    }
    judged.append(parts).results(parts).await
}

/// The token says who sends, for which organization, and whether it may: a gateway alone cannot say it.
async fn prepare(parts: &Parts, send: SendMessage) -> Result<AppendMessage, Fault> {
    let claims = parts.verifier.verify(&send.access_token, parts.context.clock.now())?;
    let daemon = claims.as_daemon().ok_or_else(|| Fault::new(ErrorReason::Unauthenticated, "not a daemon's token"))?;
    FrameKind::Send.rule().check(claims.identity())?;
    let message = required("message", send.message)?;
    let orchestrator = parse("message.orchestrator_id", &message.orchestrator_id)?;
    let key = MailboxKey { organization: daemon.organization.clone(), orchestrator };
    let rules = parts.directory.check(&key).await?;
    let read = request::message(key, message, &rules.settings, parts.store.mailboxes.durability());
    let read = read.inspect_err(|_| parts.stats.refused(&daemon.organization));
    let (read, _) = read.map_err(|fault| fault.within("message"))?;
    parts.admit(&daemon.organization, &rules).await?;
    Ok(AppendMessage { sender: Some(daemon.orchestrator), ..read })
}
