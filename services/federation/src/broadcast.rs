//! Something that is said to many: as an event to those who listen now, or as a message to each.

use bytes::Bytes;
use serde_json::{Value, json};
use tonic::Code;
use waystation_domain::{BroadcastId, OrchestratorId, OrganizationId, check_object};
use waystation_proto::federation::v1::broadcast_request::To;
use waystation_proto::federation::v1::{BroadcastRequest, BroadcastResponse, BroadcastType};
use waystation_proto::router::v1::route_message_result::Outcome;
use waystation_proto::router::v1::{EventDelivery, PublishEventRequest, RouteMessageRequest, RouteMessagesRequest};
use waystation_rpc::convert::{parse, required};
use waystation_rpc::{Caller, Fault};

use crate::{Parts, request};

/// Orchestrators that are reached.
const MOST: usize = 10_000;
/// To whom one event is addressed.
const ADDRESSED: usize = 1_000;
/// Messages of one request.
const TOGETHER: usize = 256;
/// Bytes of what is said.
const PAYLOAD: usize = 64 * 1024;

/// A broadcast that has been judged.
struct Said {
    id: BroadcastId,
    /// As messages and events are named: two who say something with the same id say two things.
    message_id: String,
    event_type: String,
    data: Bytes,
}

impl Said {
    fn read(
        organization: &OrganizationId,
        from: Option<&OrchestratorId>,
        wanted: &BroadcastRequest,
        fresh: String,
    ) -> Result<Said, Fault> {
        let message_type = match BroadcastType::try_from(wanted.r#type) {
            Ok(BroadcastType::StatusUpdate) => "status_update",
            Ok(BroadcastType::CapabilityChange) => "capability_change",
            Ok(BroadcastType::LoadAlert) => "load_alert",
            Ok(BroadcastType::ShutdownNotice) => "shutdown_notice",
            Ok(BroadcastType::Custom) => "custom",
            Ok(BroadcastType::Unspecified) | Err(_) => {
                return Err(Fault::field("type", "must be one of those there are"));
            }
        };
        let id = if wanted.broadcast_id.is_empty() { fresh } else { wanted.broadcast_id.clone() };
        let id: BroadcastId = parse("broadcast_id", &id)?;
        if wanted.payload.len() > PAYLOAD {
            return Err(Fault::field("payload", format!("must have at most {PAYLOAD} bytes")));
        }
        let payload: Value = match wanted.payload.as_ref() {
            [] => Value::Null,
            payload => {
                check_object(payload).map_err(|error| Fault::field("payload", error))?;
                serde_json::from_slice(payload).map_err(|error| Fault::field("payload", error))?
            }
        };
        let data = json!({"broadcastId": id, "from": from, "messageType": message_type, "payload": payload});
        Ok(Said {
            message_id: format!("b.{}", request::name_of(organization, from, id.as_str())),
            event_type: format!("broadcast.{message_type}"),
            data: data.to_string().into(),
            id,
        })
    }
}

/// Says it.
pub(crate) async fn say(
    parts: &Parts,
    caller: &Caller,
    organization: &OrganizationId,
    wanted: BroadcastRequest,
) -> Result<BroadcastResponse, Fault> {
    let from = request::speaker(caller, "from_orchestrator_id", &wanted.from_orchestrator_id)?;
    let said = Said::read(organization, from.as_ref(), &wanted, parts.context.entropy.id())?;
    let to = listeners(parts, organization, from.as_ref(), required("to", wanted.to)?).await?;
    let refused = match wanted.durable {
        true => write(parts, organization, &said, &to).await?,
        false => publish(parts, organization, &said, &to).await.map(|()| 0)?,
    };
    parts.metrics.broadcast.inc();
    let reached = u32::try_from(to.len()).unwrap_or(u32::MAX).saturating_sub(refused);
    Ok(BroadcastResponse { broadcast_id: said.id.to_string(), reached, refused })
}

/// Those who are registered and meant.
async fn listeners(
    parts: &Parts,
    organization: &OrganizationId,
    from: Option<&OrchestratorId>,
    to: To,
) -> Result<Vec<OrchestratorId>, Fault> {
    let registry = parts.registries.fresh(organization).await?;
    let ids = match to {
        To::All(true) => registry.ids_of(|_| true),
        To::All(false) => return Err(Fault::field("to.all", "must be true")),
        To::Capability(capability) => {
            let needed = request::capability("to.capability", &capability)?;
            registry.ids_of(|registration| registration.capabilities.iter().any(|has| has.meets(&needed)))
        }
        To::Region(region) => registry.ids_of(|registration| registration.region == region),
    };
    let ids: Vec<_> = ids.into_iter().filter(|id| Some(id) != from).collect();
    if ids.len() > MOST {
        return Err(Fault::field("to", format!("means more than {MOST} orchestrators")));
    }
    Ok(ids)
}

/// To the mailbox of each; answers how many did not take it.
async fn write(parts: &Parts, organization: &OrganizationId, said: &Said, to: &[OrchestratorId]) -> Result<u32, Fault> {
    let message = |to: &OrchestratorId| RouteMessageRequest {
        organization_id: organization.to_string(),
        orchestrator_id: to.to_string(),
        message_id: said.message_id.clone(),
        event_type: said.event_type.clone(),
        data: said.data.clone(),
        ..Default::default()
    };
    let requests: Vec<_> =
        to.chunks(TOGETHER).map(|to| RouteMessagesRequest { messages: to.iter().map(message).collect() }).collect();
    let lost = |status: tonic::Status| Fault::unavailable(status.message());
    let answers = parts.router.clone().route_messages(tokio_stream::iter(requests)).await;
    let mut answers = answers.map_err(lost)?.into_inner();
    let mut refused = 0;
    while let Some(answer) = answers.message().await.map_err(lost)? {
        for result in answer.results {
            match result.outcome {
                Some(Outcome::Routed(_)) => {}
                // Whoever says it once more reaches those who were not reached.
                Some(Outcome::Error(error)) if Code::from(error.code) == Code::Unavailable => {
                    return Err(Fault::unavailable(error.message));
                }
                Some(Outcome::Error(_)) | None => refused += 1,
            }
        }
    }
    Ok(refused)
}

/// To those who listen now.
async fn publish(
    parts: &Parts,
    organization: &OrganizationId,
    said: &Said,
    to: &[OrchestratorId],
) -> Result<(), Fault> {
    for (number, to) in to.chunks(ADDRESSED).enumerate() {
        let request = PublishEventRequest {
            organization_id: organization.to_string(),
            event_id: format!("{}.{number}", said.message_id),
            event_type: said.event_type.clone(),
            data: said.data.clone(),
            orchestrator_ids: to.iter().map(ToString::to_string).collect(),
            delivery: EventDelivery::Live.into(),
            ..Default::default()
        };
        match parts.router.clone().publish_event(request).await {
            Ok(_) => {}
            // Others have come or gone since it was said first: the event is what it was.
            Err(status) if status.code() == Code::AlreadyExists => {}
            Err(status) => return Err(Fault::unavailable(status.message())),
        }
    }
    Ok(())
}
