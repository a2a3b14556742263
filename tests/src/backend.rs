//! A plain gRPC client.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use waystation_proto::auth::v1::auth_service_client::AuthServiceClient;
use waystation_proto::auth::v1::credential_service_client::CredentialServiceClient;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::federation::v1::federation_service_client::FederationServiceClient;
use waystation_proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use waystation_proto::router::v1::router_service_client::RouterServiceClient;
use waystation_proto::router::v1::*;
use waystation_standalone::DevFile;

/// Puts a bearer on each call.
#[derive(Clone)]
pub struct Token(MetadataValue<Ascii>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Client = InterceptedService<Channel, Token>;

#[derive(Clone)]
pub struct Backend {
    pub router: RouterServiceClient<Client>,
    pub auth: AuthServiceClient<Client>,
    pub credentials: CredentialServiceClient<Client>,
    /// Only where one gateway is named.
    pub gateway: GatewayServiceClient<Client>,
    /// Only where a federation is named.
    pub federation: FederationServiceClient<Client>,
}

/// Code and reason of an error.
pub fn code_and_reason(status: &Status) -> (Code, Option<ErrorReason>) {
    (status.code(), waystation_rpc::reason_of(status))
}

impl Backend {
    /// With the backend's token of dev.json.
    pub fn new(dev: &DevFile) -> Backend {
        Backend::with_token(dev, &dev.service_token)
    }

    pub fn with_token(dev: &DevFile, token: &str) -> Backend {
        // A fleet has several gateways and names none.
        let or_router = |address: &'_ String| if address.is_empty() { dev.router.clone() } else { address.clone() };
        Backend::dial([&dev.router, &dev.auth, &or_router(&dev.gateway), &or_router(&dev.federation)], token)
    }

    /// With the operator's token of dev.json.
    pub fn operator(dev: &DevFile) -> Backend {
        Backend::with_token(dev, &dev.operator_token)
    }

    /// At the addresses of a router and an auth.
    pub fn at(router: &str, auth: &str, token: &str) -> Backend {
        Backend::dial([router, auth, router, router], token)
    }

    fn dial([router, auth, gateway, federation]: [&str; 4], token: &str) -> Backend {
        let token = Token(format!("Bearer {token}").parse().unwrap());
        let to = |address: &str| {
            InterceptedService::new(waystation_rpc::channel(address, &Default::default()).unwrap(), token.clone())
        };
        Backend {
            router: RouterServiceClient::new(to(router)),
            auth: AuthServiceClient::new(to(auth)),
            credentials: CredentialServiceClient::new(to(auth)),
            gateway: GatewayServiceClient::new(to(gateway)),
            federation: FederationServiceClient::new(to(federation)),
        }
    }

    /// A message with a number in it.
    pub fn message(orchestrator: &str, number: u64) -> RouteMessageRequest {
        RouteMessageRequest {
            orchestrator_id: orchestrator.to_owned(),
            data: format!(r#"{{"n":{number}}}"#).into(),
            ..RouteMessageRequest::default()
        }
    }

    pub async fn try_route(&self, request: RouteMessageRequest) -> Result<RouteMessageResponse, Status> {
        let mut request = Request::new(request);
        request.set_timeout(Duration::from_secs(10));
        self.router.clone().route_message(request).await.map(tonic::Response::into_inner)
    }

    pub async fn route(&self, orchestrator: &str, number: u64) -> RouteMessageResponse {
        self.try_route(Backend::message(orchestrator, number)).await.unwrap()
    }

    /// Routes so many messages at once.
    pub async fn fill(&self, orchestrator: &str, count: u64) {
        let messages: Vec<_> = (0..count).map(|number| Backend::message(orchestrator, number)).collect();
        let request = RouteMessagesRequest { messages };
        let answers = self.router.clone().route_messages(tokio_stream::iter([request])).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        let is_routed =
            |result: &RouteMessageResult| matches!(result.outcome, Some(route_message_result::Outcome::Routed(_)));
        assert!(answer.results.iter().all(is_routed), "{answer:?}");
    }

    /// An event with a number in it.
    pub fn event(event_type: &str, number: u64) -> PublishEventRequest {
        PublishEventRequest {
            event_type: event_type.to_owned(),
            data: format!(r#"{{"n":{number}}}"#).into(),
            ..PublishEventRequest::default()
        }
    }

    pub async fn try_publish(&self, event: PublishEventRequest) -> Result<PublishEventResponse, Status> {
        let mut request = Request::new(event);
        request.set_timeout(Duration::from_secs(10));
        self.router.clone().publish_event(request).await.map(tonic::Response::into_inner)
    }

    pub async fn publish(&self, event_type: &str, number: u64) -> PublishEventResponse {
        self.try_publish(Backend::event(event_type, number)).await.unwrap()
    }

    /// Publishes many at once; answers what became of each.
    pub async fn publish_all(&self, events: Vec<PublishEventRequest>) -> Vec<publish_event_result::Outcome> {
        let request = PublishEventsRequest { events };
        let answers = self.router.clone().publish_events(tokio_stream::iter([request])).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        answer.results.into_iter().map(|result| result.outcome.unwrap()).collect()
    }

    /// Publishes so many numbered events.
    pub async fn publish_many(&self, event_type: &str, numbers: std::ops::Range<u64>) {
        let numbers: Vec<u64> = numbers.collect();
        for piece in numbers.chunks(1_000) {
            let events = piece.iter().map(|number| Backend::event(event_type, *number)).collect();
            let outcomes = self.publish_all(events).await;
            let is_published = |outcome: &publish_event_result::Outcome| {
                matches!(outcome, publish_event_result::Outcome::Published(_))
            };
            assert!(outcomes.iter().all(is_published), "{outcomes:?}");
        }
    }

    /// Watches events from a position on.
    pub async fn watch(
        &self,
        position: Option<waystation_proto::common::v1::FeedPosition>,
        event_types: &[&str],
    ) -> tonic::Streaming<WatchEventsResponse> {
        let event_types = event_types.iter().map(ToString::to_string).collect();
        let request = WatchEventsRequest { position, event_types, ..Default::default() };
        self.router.clone().watch_events(request).await.unwrap().into_inner()
    }

    pub async fn mailbox(&self, orchestrator: &str) -> GetMailboxResponse {
        let request = GetMailboxRequest { orchestrator_id: orchestrator.to_owned(), ..Default::default() };
        let view = self.router.clone().get_mailbox(request).await.unwrap().into_inner();
        assert_eq!(view.conservation_delta, 0, "{view:?}");
        view
    }

    /// Messages that wait or are in flight.
    pub async fn depth(&self, orchestrator: &str) -> u64 {
        self.mailbox(orchestrator).await.lanes.iter().map(|lane| lane.depth).sum()
    }

    pub async fn presence(&self, orchestrator: &str) -> Presence {
        let request = GetPresenceRequest { orchestrator_id: orchestrator.to_owned(), ..Default::default() };
        self.router.clone().get_presence(request).await.unwrap().into_inner().presence()
    }

    pub async fn sessions(&self, orchestrator: &str) -> Vec<SessionInfo> {
        let request = ListSessionsRequest { orchestrator_id: orchestrator.to_owned(), ..Default::default() };
        self.router.clone().list_sessions(request).await.unwrap().into_inner().sessions
    }
}
