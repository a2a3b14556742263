//! Requests of publishers, read and judged.

use std::fmt::Display;
use std::str::FromStr;

use waystation_domain::{Audience, EventType, MessageId, OrchestratorId, TraceParent, check_typed};
use waystation_proto::router::v1::{EventDelivery, PublishEventRequest};
use waystation_rpc::convert::{lane_from, parse, parse_optional};
use waystation_rpc::{Caller, Fault};
use waystation_store::feed::NewEvent;
use waystation_store::mailbox::{AppendMessage, IfOffline, MailboxKey};

use super::Wanted;
use crate::{Parts, request};

/// Addressees of one event.
const MOST: usize = 1_000;

/// Reads a request; `trace` holds if it names none.
pub(crate) async fn read(
    parts: &Parts,
    caller: &Caller,
    request: PublishEventRequest,
    trace: Option<TraceParent>,
) -> Result<Wanted, Fault> {
    let organization = caller.organization(&request.organization_id)?;
    let delivery = EventDelivery::try_from(request.delivery).map_err(|_| Fault::field("delivery", "is not known"))?;
    let orchestrators: Vec<OrchestratorId> = ids("orchestrator_ids", &request.orchestrator_ids)?;
    let is_live = delivery == EventDelivery::Live || orchestrators.is_empty();
    if !is_live && !request.daemon_ids.is_empty() {
        return Err(Fault::field("daemon_ids", "a mailbox is an orchestrator's: daemons can be named with LIVE only"));
    }
    let event = NewEvent {
        id: event_id(&request.event_id)?,
        event_type: parse("event_type", &request.event_type)?,
        channel: parse_optional("channel_id", &request.channel_id)?,
        trace: parse_optional("traceparent", &request.traceparent)?.or(trace),
        sender: None,
        audience: Audience::default(),
        data: request::data(&request.data)?,
    };
    check(&event.event_type, &event.data)?;
    let rules = parts.directory.organization(&organization).await?;
    if is_live {
        let daemons = ids("daemon_ids", &request.daemon_ids)?;
        parts.admit(&organization, &rules).await?;
        return Ok(Wanted::Feed(organization, NewEvent { audience: Audience { orchestrators, daemons }, ..event }));
    }
    let lane = lane_from("priority", request.priority)?;
    let id = event.id.clone().unwrap_or_else(|| MessageId::minted(parts.context.entropy.large_number()));
    let mut messages = Vec::with_capacity(orchestrators.len());
    for (index, orchestrator) in orchestrators.into_iter().enumerate() {
        let mailbox = MailboxKey { organization: organization.clone(), orchestrator };
        let known = parts.directory.check(&mailbox).await;
        known.map_err(|fault| fault.about(&format!("orchestrator_ids[{index}]")))?;
        parts.admit(&organization, &rules).await?;
        messages.push(AppendMessage {
            mailbox,
            id: Some(id.clone()),
            event_type: event.event_type.clone(),
            channel: event.channel.clone(),
            trace: event.trace.clone(),
            sender: None,
            data: event.data.clone(),
            lane,
            time_to_live: rules.settings.time_to_live.min(rules.settings.longest_time_to_live),
            if_offline: IfOffline::Queue,
            limits: rules.settings.mailbox,
        });
    }
    Ok(Wanted::Mailboxes(id, messages))
}

fn event_id(text: &str) -> Result<Option<MessageId>, Fault> {
    let id = (!text.is_empty()).then(|| MessageId::from_caller(text));
    id.transpose().map_err(|error| Fault::field("event_id", error))
}

/// Data of a typed event has a form.
fn check(event_type: &EventType, data: &[u8]) -> Result<(), Fault> {
    check_typed(event_type, data).map_err(|error| Fault::field(&format!("data.{}", error.member), error))
}

fn ids<T: FromStr>(field: &str, texts: &[String]) -> Result<Vec<T>, Fault>
where
    T::Err: Display,
{
    if texts.len() > MOST {
        return Err(Fault::field(field, format!("must have at most {MOST} elements")));
    }
    texts.iter().enumerate().map(|(index, text)| parse(&format!("{field}[{index}]"), text)).collect()
}
