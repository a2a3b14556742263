//! waystation.router.v1.RouterService

mod stream;
mod wait;

use std::time::Duration;

use async_trait::async_trait;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waystation_domain::{MessageId, OrganizationId, TraceParent};
use waystation_proto::common::v1::{ActivityKind, ErrorReason};
use waystation_proto::router::v1::router_service_server::RouterService;
use waystation_proto::router::v1::*;
use waystation_rpc::convert::{parse, position_to};
use waystation_rpc::{About, Caller, Fault};
use waystation_store::mailbox::{AppendMessage, Appended, ExitReason, MailboxKey, MessageState, SessionView};

use crate::directory::Rules;
use crate::metrics::{EventOutcome, Outcome};
use crate::{
    Parts, activity, feeds, health, news, operator, pipeline, presence, redrive, request, stats, traces, views,
};

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
        let stream = stream::RouteStream { parts: self.0.clone(), caller };
        Ok(Response::new(pipeline::serve(stream, request.into_inner(), &self.0.context)))
    }

    async fn publish_event(
        &self,
        request: Request<PublishEventRequest>,
    ) -> Result<Response<PublishEventResponse>, Status> {
        let caller = Caller::of(&request)?;
        let trace = request::trace_of(request.metadata());
        let publishing = async {
            let wanted = feeds::read_request(&self.0, &caller, request.into_inner(), trace).await?;
            feeds::publish(&self.0, wanted).await
        };
        let published = publishing.await.inspect_err(|_| self.0.metrics.published(EventOutcome::Refused));
        Ok(Response::new(published?))
    }

    type PublishEventsStream = ReceiverStream<Result<PublishEventsResponse, Status>>;

    async fn publish_events(
        &self,
        request: Request<Streaming<PublishEventsRequest>>,
    ) -> Result<Response<Self::PublishEventsStream>, Status> {
        let caller = Caller::of(&request)?;
        let stream = feeds::PublishStream { parts: self.0.clone(), caller };
        Ok(Response::new(pipeline::serve(stream, request.into_inner(), &self.0.context)))
    }

    type WatchEventsStream = ReceiverStream<Result<WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(feeds::watch(&self.0, &caller, request.into_inner()).await?))
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
        let key = request::mailbox(&caller, &organization_id, &orchestrator_id)?;
        let rules = self.0.directory.check(&key).await?;
        let view = self.0.store.mailboxes.mailbox(&key, None).await.map_err(Fault::unavailable)?;
        let full_in = view.as_ref().and_then(|view| self.0.growth.look(&key, view, &rules.settings.mailbox));
        Ok(Response::new(views::mailbox(view, full_in)))
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

    async fn get_health(&self, request: Request<GetHealthRequest>) -> Result<Response<GetHealthResponse>, Status> {
        let caller = Caller::of(&request)?;
        let GetHealthRequest { organization_id, orchestrator_id } = request.into_inner();
        let key = self.known(&caller, &organization_id, &orchestrator_id).await?;
        Ok(Response::new(health::of(&self.0, &key).await?))
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
        let sessions = found.into_iter().map(|session| views::session(&key, session)).collect();
        Ok(Response::new(ListSessionsResponse { sessions }))
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let key = self.known(&caller, &request.organization_id, &request.orchestrator_id).await?;
        Ok(Response::new(operator::list_messages(&self.0, &key, &request).await?))
    }

    async fn purge_mailbox(
        &self,
        request: Request<PurgeMailboxRequest>,
    ) -> Result<Response<PurgeMailboxResponse>, Status> {
        let caller = Caller::of(&request)?;
        let PurgeMailboxRequest { organization_id, orchestrator_id } = request.into_inner();
        let key = self.known(&caller, &organization_id, &orchestrator_id).await?;
        let purged = operator::purge(&self.0, key).await?;
        Ok(Response::new(PurgeMailboxResponse { purged }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let key = self.known(&caller, &request.organization_id, &request.orchestrator_id).await?;
        Ok(Response::new(operator::list_dead_letters(&self.0, &key, &request).await?))
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<RedriveDeadLettersRequest>,
    ) -> Result<Response<RedriveDeadLettersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let key = request::mailbox(&caller, &request.organization_id, &request.orchestrator_id)?;
        let rules = self.0.directory.check(&key).await?;
        Ok(Response::new(redrive::redrive(&self.0, key, &rules, &request).await?))
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Result<Response<GetSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let GetSessionRequest { organization_id, session_id } = request.into_inner();
        let (key, session) = self.session(&caller, &organization_id, &session_id).await?;
        Ok(Response::new(GetSessionResponse { session: Some(views::session(&key, session)) }))
    }

    async fn terminate_session(
        &self,
        request: Request<TerminateSessionRequest>,
    ) -> Result<Response<TerminateSessionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let TerminateSessionRequest { organization_id, session_id } = request.into_inner();
        let (_, session) = self.session(&caller, &organization_id, &session_id).await?;
        self.0.gateways.close_session(&session.incarnation, &session.session).await?;
        Ok(Response::new(TerminateSessionResponse {}))
    }

    type WatchPresenceStream = ReceiverStream<Result<WatchPresenceResponse, Status>>;

    async fn watch_presence(
        &self,
        request: Request<WatchPresenceRequest>,
    ) -> Result<Response<Self::WatchPresenceStream>, Status> {
        let caller = Caller::of(&request)?;
        let keys = presence::wanted(&self.0, &caller, &request.into_inner()).await?;
        Ok(Response::new(presence::watch(self.0.clone(), keys)))
    }

    type WatchActivityStream = ReceiverStream<Result<WatchActivityResponse, Status>>;

    async fn watch_activity(
        &self,
        request: Request<WatchActivityRequest>,
    ) -> Result<Response<Self::WatchActivityStream>, Status> {
        let caller = Caller::of(&request)?;
        let filter = activity::Filter::read(&caller, request.into_inner())?;
        Ok(Response::new(activity::watch(&self.0, filter)))
    }

    async fn get_stats(&self, request: Request<GetStatsRequest>) -> Result<Response<GetStatsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let organization = caller.any_organization(&request.into_inner().organization_id)?;
        Ok(Response::new(stats::answer(&self.0, organization.as_ref()).await?))
    }
}

/// What a call says beside its request.
struct Call {
    /// How long it can wait.
    patience: Duration,
    trace: Option<TraceParent>,
}

impl RouterApi {
    /// A live session by its id, if it is of the caller's organization.
    async fn session(
        &self,
        caller: &Caller,
        organization: &str,
        session: &str,
    ) -> Result<(MailboxKey, SessionView), Fault> {
        let organization = caller.organization(organization)?;
        let id = parse("session_id", session)?;
        let found = self.0.store.mailboxes.locate(&id).await.map_err(Fault::unavailable)?;
        let of_organization = found.filter(|(key, _)| key.organization == organization);
        of_organization.ok_or_else(|| Fault::not_found("session"))
    }

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
        let key = request::mailbox(caller, &request.organization_id, &request.orchestrator_id)?;
        let rules = self.0.directory.check(&key).await?;
        let durability = self.0.store.mailboxes.durability();
        let read = request::message(key.clone(), request, &rules.settings, durability);
        let (mut message, wait) = read.inspect_err(|_| self.0.stats.refused(&key.organization))?;
        message.trace = message.trace.or(call.trace);
        let span = traces::begin(&self.0.context.tracer, "RouteMessage", &mut message);
        let routed = self.accept(&key, &rules, message, wait.then_some(call.patience)).await;
        traces::end(span, routed.as_ref());
        routed
    }

    /// Appends a message that was judged, and waits for its ack if its caller does.
    async fn accept(
        &self,
        key: &MailboxKey,
        rules: &Rules,
        message: AppendMessage,
        wait: Option<Duration>,
    ) -> Result<RouteMessageResponse, Fault> {
        self.0.admit(&key.organization, rules).await?;
        let id = message.id.clone();
        let mut appended = self.0.append_one(message).await?;
        if let Some(patience) = wait {
            let id = id.clone().unwrap_or_else(|| MessageId::composed(appended.position));
            appended.state = wait::acknowledged(&self.0, key, &id, appended.state, patience).await?;
        }
        Ok(self.0.answer(key, id.as_ref(), appended))
    }
}

impl Parts {
    /// Lets one more message of an organization through.
    pub(crate) async fn admit(&self, organization: &OrganizationId, rules: &Rules) -> Result<(), Fault> {
        let refused = match self.quotas.take(organization, rules.settings.messages_per_second).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(too_many)) => {
                news::tell_held_back(self, organization, too_many);
                too_many.into()
            }
            Err(fault) => fault,
        };
        self.stats.refused(organization);
        Err(refused)
    }

    pub(crate) async fn append_one(&self, message: AppendMessage) -> Result<Appended, Fault> {
        let organization = message.mailbox.organization.clone();
        let outcome = self.appender.append(vec![message]).wait().await.pop();
        let outcome = outcome.unwrap_or_else(|| Err(Fault::new(ErrorReason::Internal, "the store gave no answer")));
        outcome.inspect_err(|_| self.stats.refused(&organization))
    }

    /// Tells a caller what has been promised, and counts it.
    pub(crate) fn answer(&self, key: &MailboxKey, id: Option<&MessageId>, appended: Appended) -> RouteMessageResponse {
        self.metrics.routed(match (appended.duplicate, &appended.holder) {
            (true, _) => Outcome::Duplicate,
            (false, Some(_)) => Outcome::Dispatched,
            (false, None) => Outcome::Queued,
        });
        self.stats.accepted(&key.organization, appended.duplicate);
        let composed = || MessageId::composed(appended.position);
        let message_id = id.map_or_else(|| composed().as_str().to_owned(), |id| id.as_str().to_owned());
        if !appended.duplicate {
            let kind = match appended.holder {
                Some(_) => ActivityKind::MessageRouted,
                None => ActivityKind::MessageQueued,
            };
            self.activities.tell(kind, about(key), |activity| activity.message_id.clone_from(&message_id));
        }
        RouteMessageResponse {
            message_id,
            status: status_of(appended.state).into(),
            position: Some(position_to(appended.position)),
            session_id: appended.holder.map(|holder| holder.session.to_string()).unwrap_or_default(),
            durability: request::durability(self.store.mailboxes.durability()).into(),
            duplicate: appended.duplicate,
        }
    }
}

/// Whom an activity of a mailbox is about.
pub(crate) fn about(key: &MailboxKey) -> About<'_> {
    About { organization: key.organization.as_str(), orchestrator: key.orchestrator.as_str(), ..About::default() }
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
