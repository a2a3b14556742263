//! waystation.router.v1.RouterService

mod stream;
mod wait;

use std::time::Duration;

use async_trait::async_trait;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waystation_domain::{MessageId, TraceParent};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::router_service_server::RouterService;
use waystation_proto::router::v1::*;
use waystation_rpc::convert::position_to;
use waystation_rpc::{Caller, Fault};
use waystation_store::mailbox::{AppendMessage, Appended, ExitReason, MailboxKey, MessageState};

use crate::metrics::Outcome;
use crate::{Parts, request, views};

pub(crate) struct RouterApi(pub(crate) Parts);

#[async_trait]
impl RouterService for RouterApi {
    async fn route_message(
        &self,
        request: Request<RouteMessageRequest>,
    ) -> Result<Response<RouteMessageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let call = Call { patience: wait::patience(request.metadata()), trace: request::trace_of(request.metadata()) };
        let routed = self.route(&caller, request.into_inner(), call).await;
        if routed.is_err() {
            self.0.metrics.routed(Outcome::Refused);
        }
        Ok(Response::new(routed?))
    }

    type RouteMessagesStream = ReceiverStream<Result<RouteMessagesResponse, Status>>;

    async fn route_messages(
        &self,
        request: Request<Streaming<RouteMessagesRequest>>,
    ) -> Result<Response<Self::RouteMessagesStream>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(stream::serve(self.0.clone(), caller, request.into_inner())))
    }

    async fn get_message(&self, request: Request<GetMessageRequest>) -> Result<Response<GetMessageResponse>, Status> {
        let caller = Caller::of(&request)?;
        let GetMessageRequest { organization_id, orchestrator_id, message_id } = request.into_inner();
        let key = self.known(&caller, &organization_id, &orchestrator_id).await?;
        let id = MessageId::naming(&message_id).map_err(|error| Fault::field("message_id", error))?;
        let view = self.0.store.mailboxes.message(&key, &id, None).await.map_err(Fault::unavailable)?;
        let attempt = match view.state {
            MessageState::Dispatched { attempt } => attempt,
            MessageState::Queued | MessageState::Acknowledged | MessageState::Exited(_) | MessageState::Unknown => 0,
        };
        Ok(Response::new(GetMessageResponse {
            status: status_of(view.state).into(),
            position: view.position.map(position_to),
            attempt,
        }))
    }

    async fn get_mailbox(&self, request: Request<GetMailboxRequest>) -> Result<Response<GetMailboxResponse>, Status> {
        let caller = Caller::of(&request)?;
        let GetMailboxRequest { organization_id, orchestrator_id } = request.into_inner();
        let key = self.known(&caller, &organization_id, &orchestrator_id).await?;
        let view = self.0.store.mailboxes.mailbox(&key, None).await.map_err(Fault::unavailable)?;
        Ok(Response::new(views::mailbox(view)))
    }

    async fn get_presence(
        &self,
        request: Request<GetPresenceRequest>,
    ) -> Result<Response<GetPresenceResponse>, Status> {
        let caller = Caller::of(&request)?;
        let GetPresenceRequest { organization_id, orchestrator_id } = request.into_inner();
        let key = self.known(&caller, &organization_id, &orchestrator_id).await?;
        let liveness = self.0.gateways.liveness();
        let view = self.0.store.mailboxes.presence(&key, &liveness, None).await.map_err(Fault::unavailable)?;
        Ok(Response::new(views::presence(&view)))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ListSessionsRequest { organization_id, orchestrator_id } = request.into_inner();
        let key = self.known(&caller, &organization_id, &orchestrator_id).await?;
        let liveness = self.0.gateways.liveness();
        let found = self.0.store.mailboxes.sessions(&key, &liveness, None).await.map_err(Fault::unavailable)?;
        let sessions = found.into_iter().map(views::session).collect();
        Ok(Response::new(ListSessionsResponse { sessions }))
    }
}

/// What a call says beside its request.
struct Call {
    /// How long it can wait.
    patience: Duration,
    trace: Option<TraceParent>,
}

impl RouterApi {
    /// The mailbox that a request names, if its orchestrator is there.
    async fn known(&self, caller: &Caller, organization: &str, orchestrator: &str) -> Result<MailboxKey, Fault> {
        let key = request::mailbox(caller, organization, orchestrator)?;
        self.0.directory.check(&key).await?;
        Ok(key)
    }

    async fn route(
        &self,
        caller: &Caller,
        request: RouteMessageRequest,
        call: Call,
    ) -> Result<RouteMessageResponse, Fault> {
        let (mut message, wait) = request::message(caller, request, self.0.store.mailboxes.durability())?;
        message.trace = message.trace.or(call.trace);
        self.0.directory.check(&message.mailbox).await?;
        let (id, key) = (message.id.clone(), message.mailbox.clone());
        let mut outcomes = self.0.appender.append(vec![message]).wait().await;
        let unanswered = || Fault::new(ErrorReason::Internal, "the store gave no answer");
        let mut appended = outcomes.pop().ok_or_else(unanswered)??;
        if wait {
            let id = id.clone().unwrap_or_else(|| MessageId::composed(appended.position));
            appended.state = wait::acknowledged(&self.0, &key, &id, appended.state, call.patience).await?;
        }
        Ok(self.0.answer(id.as_ref(), appended))
    }
}

impl Parts {
    /// Tells a caller what has been promised, and counts it.
    fn answer(&self, id: Option<&MessageId>, appended: Appended) -> RouteMessageResponse {
        self.metrics.routed(match (appended.duplicate, &appended.holder) {
            (true, _) => Outcome::Duplicate,
            (false, Some(_)) => Outcome::Dispatched,
            (false, None) => Outcome::Queued,
        });
        let composed = || MessageId::composed(appended.position);
        RouteMessageResponse {
            message_id: id.map_or_else(|| composed().as_str().to_owned(), |id| id.as_str().to_owned()),
            status: status_of(appended.state).into(),
            position: Some(position_to(appended.position)),
            session_id: appended.holder.map(|holder| holder.session.to_string()).unwrap_or_default(),
            durability: request::durability(self.store.mailboxes.durability()).into(),
            duplicate: appended.duplicate,
        }
    }
}

fn status_of(state: MessageState) -> MessageStatus {
    match state {
        MessageState::Queued => MessageStatus::Queued,
        MessageState::Dispatched { .. } => MessageStatus::Dispatched,
        MessageState::Acknowledged => MessageStatus::Acknowledged,
        MessageState::Exited(ExitReason::Expired) => MessageStatus::Expired,
        MessageState::Exited(ExitReason::Dead) => MessageStatus::Dead,
        MessageState::Exited(ExitReason::Overflowed) => MessageStatus::Overflowed,
        MessageState::Exited(ExitReason::Purged) => MessageStatus::Purged,
        MessageState::Unknown => MessageStatus::Unknown,
    }
}

/// A message of a batch on its way: its id for the answer, and what to append.
type Prepared = Result<(Option<MessageId>, AppendMessage), Fault>;
