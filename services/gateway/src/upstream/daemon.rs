//! What daemons say and ask without a socket. A call names its daemon by the token.

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status};
use waystation_domain::{ChannelId, Entry, FeedEvent, MessageId};
use waystation_proto::auth::v1::{GetKeySetRequest, GetProfileRequest, GetProfileResponse};
use waystation_proto::router::v1 as wire;
use waystation_rpc::Fault;
use waystation_rpc::convert::{entry_from, feed_event_from};
use waystation_token::DaemonClaims;

use super::{PATIENCE, Upstream, answered};

impl Upstream {
    /// Who a daemon is.
    pub(crate) async fn profile(&self, token: &SecretString) -> Result<GetProfileResponse, Status> {
        let request = GetProfileRequest { access_token: token.expose_secret().to_owned() };
        answered(&self.auth, request, |mut client, q| async move { client.get_profile(q).await }).await
    }

    /// The public keys, as a JWK Set. Everybody may ask: auth is asked once in a while.
    pub(crate) async fn keys(&self) -> Result<Bytes, Status> {
        if let Some(known) = self.jwks.get(&()) {
            return Ok(known);
        }
        let answer =
            answered(&self.auth, GetKeySetRequest {}, |mut client, q| async move { client.get_key_set(q).await });
        let jwks = answer.await?.jwks;
        self.jwks.insert((), jwks.clone());
        Ok(jwks)
    }

    /// Acknowledges messages of a daemon's orchestrator; answers how many left the mailbox by it.
    pub(crate) async fn acknowledge(&self, daemon: &DaemonClaims, ids: &[MessageId]) -> Result<u64, Status> {
        let settlement = wire::Settlement {
            session: Some(wire::SessionRef {
                organization_id: daemon.organization.to_string(),
                orchestrator_id: daemon.orchestrator.to_string(),
                // Acks are facts, whoever tells them.
                session_id: daemon.login.to_string(),
            }),
            ack_ids: ids.iter().filter(|id| id.gap().is_none()).map(|id| id.as_str().to_owned()).collect(),
            gap_mark: 0,
            ..wire::Settlement::default()
        };
        self.settle.call(settlement).await.map(|settled| settled.acknowledged)
    }

    /// The newest messages of a channel, of the mailbox and of the feed.
    pub(crate) async fn channel_messages(
        &self,
        token: &SecretString,
        channel: &ChannelId,
        limit: u32,
    ) -> Result<(Vec<Entry>, Vec<FeedEvent>), Status> {
        let request = wire::ListChannelMessagesRequest {
            access_token: token.expose_secret().to_owned(),
            channel_id: channel.to_string(),
            limit,
        };
        let answer =
            answered(&self.sessions, request, |mut client, q| async move { client.list_channel_messages(q).await });
        let wire::ListChannelMessagesResponse { entries, events } = answer.await?;
        let entries = entries.into_iter().map(entry_from).collect::<Result<_, _>>()?;
        let events = events.into_iter().map(feed_event_from).collect::<Result<_, _>>()?;
        Ok((entries, events))
    }

    pub(crate) async fn report(&self, request: wire::ReportDaemonRequest) -> Result<(), Status> {
        let answer = answered(&self.sessions, request, |mut client, q| async move { client.report_daemon(q).await });
        answer.await.map(drop)
    }

    pub(crate) async fn register(&self, request: wire::RegisterDaemonRequest) -> Result<(), Status> {
        let answer = answered(&self.sessions, request, |mut client, q| async move { client.register_daemon(q).await });
        answer.await.map(drop)
    }

    pub(crate) async fn unregister(&self, request: wire::UnregisterDaemonRequest) -> Result<(), Status> {
        let answer =
            answered(&self.sessions, request, |mut client, q| async move { client.unregister_daemon(q).await });
        answer.await.map(drop)
    }

    pub(crate) async fn sessions(&self, token: &SecretString) -> Result<Vec<wire::SessionInfo>, Status> {
        let request = wire::ListDaemonSessionsRequest { access_token: token.expose_secret().to_owned() };
        let answer =
            answered(&self.sessions, request, |mut client, q| async move { client.list_daemon_sessions(q).await });
        answer.await.map(|answer| answer.sessions)
    }

    pub(crate) async fn end_sessions(&self, token: &SecretString, session_id: String) -> Result<u32, Status> {
        let request = wire::EndDaemonSessionsRequest { access_token: token.expose_secret().to_owned(), session_id };
        let answer =
            answered(&self.sessions, request, |mut client, q| async move { client.end_daemon_sessions(q).await });
        answer.await.map(|answer| answer.ended)
    }

    /// How an orchestrator is, for an operator who is judged once more by the router.
    pub(crate) async fn health(
        &self,
        token: &SecretString,
        orchestrator: String,
    ) -> Result<wire::GetHealthResponse, Status> {
        let bearer = format!("Bearer {}", token.expose_secret()).parse::<MetadataValue<Ascii>>();
        let bearer = bearer.map_err(|_| Fault::field("authorization", "is not a token"))?;
        let request = wire::GetHealthRequest { organization_id: String::new(), orchestrator_id: orchestrator };
        let mut request = Request::new(request);
        request.metadata_mut().insert("authorization", bearer);
        request.set_timeout(PATIENCE);
        self.routers.clone().get_health(request).await.map(tonic::Response::into_inner)
    }
}
