//! What daemons and people send: routed or published like a backend's, under the name that their token says.

use waystation_domain::policy::RestCall;
use waystation_domain::{Audience, MessageId, OrchestratorId, OrganizationId};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::route_message_result::Outcome as Routed;
use waystation_proto::router::v1::send_message::What;
use waystation_proto::router::v1::send_message_result::Outcome;
use waystation_proto::router::v1::{PublishEventRequest, RouteMessageRequest, SendMessage, SendMessageResult};
use waystation_rpc::Fault;
use waystation_rpc::convert::{parse, required};
use waystation_store::feed::NewEvent;
use waystation_store::mailbox::{AppendMessage, MailboxKey};

use crate::batch::Judged;
use crate::feeds::OnTheWay;
use crate::{Parts, request};

/// Who sends.
struct Sender {
    organization: OrganizationId,
    /// `None`: a person.
    orchestrator: Option<OrchestratorId>,
}

/// Sends messages in their order; answers one for each.
pub(super) async fn send(parts: &Parts, messages: Vec<SendMessage>) -> Vec<SendMessageResult> {
    let mut judged = Judged::of(parts, "SendMessage", messages.len());
    // Places of those that go to channels, and the events on their way.
    let mut events = Vec::new();
    for (place, SendMessage { access_token, what }) in messages.into_iter().enumerate() {
        match what {
            Some(What::Event(event)) => events.push((place, publish(parts, &access_token, event).await)),
            Some(What::Message(message)) => judged.push(prepare(parts, &access_token, message).await),
            None => judged.push(required("message", None)),
        }
    }
    let routed = judged.append(parts).results(parts).await.into_iter().map(|result| {
        result.outcome.map(|outcome| match outcome {
            Routed::Routed(routed) => Outcome::Routed(routed),
            Routed::Error(error) => Outcome::Error(error),
        })
    });
    let mut outcomes: Vec<Option<Outcome>> = routed.collect();
    for (place, event) in events {
        let published = match event {
            Ok(event) => event.wait(parts).await,
            Err(fault) => Err(fault),
        };
        let outcome = published.map_or_else(|fault| Outcome::Error(fault.into()), Outcome::Published);
        outcomes.insert(place.min(outcomes.len()), Some(outcome));
    }
    outcomes.into_iter().map(|outcome| SendMessageResult { outcome }).collect()
}

/// The token says who sends, for which organization, and whether it may: a gateway alone cannot say it.
fn sender(parts: &Parts, token: &str) -> Result<Sender, Fault> {
    let claims = parts.verifier.verify(token, parts.context.clock.now())?;
    RestCall::SendMessage.rule().check(claims.identity())?;
    let nobodys = || Fault::new(ErrorReason::Unauthenticated, "the token is of no organization");
    Ok(Sender {
        organization: claims.organization.clone().ok_or_else(nobodys)?,
        orchestrator: claims.orchestrator.clone(),
    })
}

async fn prepare(parts: &Parts, token: &str, message: RouteMessageRequest) -> Result<AppendMessage, Fault> {
    let sender = sender(parts, token)?;
    let orchestrator = parse("message.orchestrator_id", &message.orchestrator_id)?;
    let key = MailboxKey { organization: sender.organization.clone(), orchestrator };
    let rules = parts.directory.check(&key).await?;
    let read = request::message(key, message, &rules.settings, parts.store.mailboxes.durability());
    let read = read.inspect_err(|_| parts.stats.refused(&sender.organization));
    let (read, _) = read.map_err(|fault| fault.within("message"))?;
    parts.admit(&sender.organization, &rules).await?;
    Ok(AppendMessage { sender: sender.orchestrator, ..read })
}

async fn publish(parts: &Parts, token: &str, event: PublishEventRequest) -> Result<OnTheWay, Fault> {
    let sender = sender(parts, token)?;
    let event = read_event(event, &sender).map_err(|fault| fault.within("event"))?;
    let rules = parts.directory.organization(&sender.organization).await?;
    parts.admit(&sender.organization, &rules).await?;
    OnTheWay::begin(parts, sender.organization, event)
}

fn read_event(event: PublishEventRequest, sender: &Sender) -> Result<NewEvent, Fault> {
    let event_type = match event.event_type.as_str() {
        "" => parse("event_type", request::DEFAULT_EVENT_TYPE)?,
        text => parse("event_type", text)?,
    };
    let event_type: waystation_domain::EventType = event_type;
    if event_type.is_reserved() {
        return Err(Fault::field("event_type", "is of a family that daemons do not send"));
    }
    Ok(NewEvent {
        id: Some(MessageId::from_caller(&event.event_id).map_err(|error| Fault::field("event_id", error))?),
        event_type,
        channel: Some(parse("channel_id", &event.channel_id)?),
        trace: None,
        sender: sender.orchestrator.clone(),
        audience: Audience::default(),
        data: request::data(&event.data)?,
    })
}
