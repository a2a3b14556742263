//! waystation.auth.v1.AuthService

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use waystation_domain::{OrganizationId, Revoked, ScopeSet};
use waystation_proto::auth::v1::auth_service_server::AuthService;
use waystation_proto::auth::v1::revoke_token_request::Target;
use waystation_proto::auth::v1::*;
use waystation_proto::common::v1::ErrorReason;
use waystation_rpc::convert::{parse, parse_optional, required, revocation_to, timestamp_to};
use waystation_rpc::{Caller, Fault, Peer};
use waystation_token::{Claims, TokenError};

use crate::audit::Actor;
use crate::authority::{Authority, DaemonLoginRequest};
use crate::credentials::{profile_to, shown};
use crate::issuers;

/// How often watchers are told what is new; with it R5 has five seconds to spare.
const WATCH_EVERY: Duration = Duration::from_millis(500);
/// Rounds without news after which a watcher gets a heartbeat.
const HEARTBEAT_ROUNDS: u32 = 4;

pub(crate) struct AuthApi(pub(crate) Authority);

/// The scopes that a request names, if it names any.
fn requested(scopes: &[String]) -> Option<ScopeSet> {
    (!scopes.is_empty()).then(|| ScopeSet::from_known(scopes.iter().map(String::as_str)))
}

/// Where a daemon is: what a gateway says, or else where the caller itself connects from.
fn address_of<T>(request: &Request<T>, told: &str) -> Option<IpAddr> {
    let by_gateway = Caller::of(request).is_ok_and(|caller| caller.is_service("gateway"));
    if by_gateway {
        return told.parse().ok();
    }
    request.extensions().get::<Peer>()?.address.map(|address| address.ip())
}

fn target_of(revoked: &Revoked) -> String {
    match revoked {
        Revoked::Token(id) => format!("token:{id}"),
        Revoked::Login(id) => format!("login:{id}"),
        Revoked::ApiKey(id) => format!("api_key:{id}"),
        Revoked::Orchestrator(id) => format!("orchestrator:{id}"),
        Revoked::Organization => "organization".to_owned(),
    }
}

#[async_trait]
impl AuthService for AuthApi {
    async fn issue_token(&self, request: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>, Status> {
        let (address, actor) = (address_of(&request, &request.get_ref().client_address), Actor::of(&request));
        let IssueTokenRequest { api_key, api_secret, orchestrator_id, daemon_id, scopes, .. } = request.into_inner();
        let asked = DaemonLoginRequest {
            key: api_key,
            secret: api_secret,
            orchestrator: orchestrator_id,
            daemon: daemon_id,
            scopes: requested(&scopes),
            address,
            request: actor.request,
        };
        let login = self.0.log_in_daemon(asked).await?;
        let claims = login.access.claims;
        Ok(Response::new(IssueTokenResponse {
            access_token: login.access.token,
            refresh_token: login.refresh,
            expire_time: Some(timestamp_to(claims.expires)),
            session_id: claims.login.map(|login| login.to_string()).unwrap_or_default(),
            scopes: claims.scopes.to_strings(),
            orchestrator: Some(profile_to(login.profile)),
        }))
    }

    async fn issue_service_token(
        &self,
        request: Request<IssueServiceTokenRequest>,
    ) -> Result<Response<IssueServiceTokenResponse>, Status> {
        let actor = Actor::of(&request);
        let IssueServiceTokenRequest { service, secret, organization_id, scopes } = request.into_inner();
        let organization = parse_optional("organization_id", &organization_id)?;
        let issued = self.0.log_in_service(&service, &secret, organization, requested(&scopes), actor.request).await?;
        Ok(Response::new(IssueServiceTokenResponse {
            access_token: issued.token,
            expire_time: Some(timestamp_to(issued.claims.expires)),
            scopes: issued.claims.scopes.to_strings(),
        }))
    }

    async fn refresh_token(
        &self,
        request: Request<RefreshTokenRequest>,
    ) -> Result<Response<RefreshTokenResponse>, Status> {
        let address = address_of(&request, &request.get_ref().client_address);
        let (access, refresh) = self.0.refresh(&request.into_inner().refresh_token, address).await?;
        Ok(Response::new(RefreshTokenResponse {
            access_token: access.token,
            refresh_token: refresh,
            expire_time: Some(timestamp_to(access.claims.expires)),
        }))
    }

    async fn validate_token(
        &self,
        request: Request<ValidateTokenRequest>,
    ) -> Result<Response<ValidateTokenResponse>, Status> {
        let caller = Caller::of(&request)?;
        let claims = self.judge(&request.into_inner().token)?;
        // A token of another tenant is to this caller what a forged one is.
        let organization = claims.organization.as_ref().map(ToString::to_string).unwrap_or_default();
        caller.organization(&organization).map_err(|_| Fault::from(TokenError::Invalid))?;
        Ok(Response::new(ValidateTokenResponse {
            r#type: claims.class.name().to_owned(),
            subject: claims.subject.clone(),
            organization_id: organization,
            orchestrator_id: claims.orchestrator.as_ref().map(ToString::to_string).unwrap_or_default(),
            daemon_id: claims.daemon.as_ref().map(ToString::to_string).unwrap_or_default(),
            session_id: claims.login.as_ref().map(ToString::to_string).unwrap_or_default(),
            scopes: claims.scopes.to_strings(),
            expire_time: Some(timestamp_to(claims.expires)),
            token_id: claims.id.to_string(),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        let (caller, actor) = (Caller::of(&request)?, Actor::of(&request));
        let request = request.into_inner();
        let target = required("target", request.target)?;
        let (organization, revoked) = self.resolve(target, &request.orchestrator_organization_id, &caller).await?;
        let about = (target_of(&revoked), shown("reason", request.reason)?);
        let outcome = self.0.revoke(&organization, revoked).await;
        self.0.account(Some(&organization), "token.revoked", &actor, about, outcome).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn get_key_set(&self, _: Request<GetKeySetRequest>) -> Result<Response<GetKeySetResponse>, Status> {
        let published = self.0.published();
        Ok(Response::new(GetKeySetResponse {
            jwks: published.jwks.clone().into(),
            issuers: published.issuers.iter().map(issuers::to_wire).collect(),
            version: published.version.clone(),
        }))
    }

    async fn get_profile(&self, request: Request<GetProfileRequest>) -> Result<Response<GetProfileResponse>, Status> {
        let claims = self.judge(&request.into_inner().access_token)?;
        let daemon = claims.as_daemon().ok_or(TokenError::Invalid).map_err(Fault::from)?;
        let profile = self.0.profile(&daemon.organization, &daemon.orchestrator, None).await?;
        Ok(Response::new(GetProfileResponse {
            orchestrator: Some(profile_to(profile)),
            scopes: claims.scopes.to_strings(),
            session_id: daemon.login.to_string(),
        }))
    }

    type WatchRevocationsStream = ReceiverStream<Result<WatchRevocationsResponse, Status>>;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let (sender, receiver) = mpsc::channel(4);
        let watch = watch(self.0.clone(), request.into_inner().cursor, sender);
        let lifecycle = self.0.context().lifecycle.clone();
        self.0.context().lifecycle.spawn(async move {
            tokio::select! {
                () = watch => {}
                () = lifecycle.stopping() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Tells a watcher what is new until it goes.
async fn watch(authority: Authority, mut cursor: u64, sender: mpsc::Sender<Result<WatchRevocationsResponse, Status>>) {
    let mut silent = HEARTBEAT_ROUNDS;
    loop {
        let (news, next) = match authority.revocations_after(cursor).await {
            Ok(found) => found,
            Err(fault) => return drop(sender.send(Err(fault.into())).await),
        };
        cursor = next;
        silent += 1;
        if !news.is_empty() || silent >= HEARTBEAT_ROUNDS {
            silent = 0;
            let revocations = news.iter().map(revocation_to).collect();
            let key_set_version = authority.published().version.clone();
            if sender.send(Ok(WatchRevocationsResponse { revocations, cursor, key_set_version })).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            () = sender.closed() => return,
        }
    }
}

impl AuthApi {
    /// Whoever asks about a token asks again: its signature is verified once.
    fn judge(&self, token: &str) -> Result<Arc<Claims>, Fault> {
        Ok(self.0.verifier().verify(token, self.0.context().clock.now())?)
    }

    /// What a request to revoke means, if the caller may touch it.
    async fn resolve(
        &self,
        target: Target,
        of_orchestrator: &str,
        caller: &Caller,
    ) -> Result<(OrganizationId, Revoked), Fault> {
        let within = |organization: &OrganizationId, what| {
            let allowed = caller.organization(organization.as_str());
            allowed.map_err(|_| Fault::not_found(what))
        };
        match target {
            Target::Token(token) => {
                let claims = self.judge(&token)?;
                // A token of another tenant is to this caller what a forged one is.
                let organization = claims.organization.as_ref().map(|organization| within(organization, "token"));
                let organization = organization.and_then(Result::ok).ok_or(TokenError::Invalid)?;
                Ok((organization, Revoked::Token(claims.id.clone())))
            }
            Target::SessionId(session) => {
                let session = parse("session_id", &session)?;
                let found = self.0.store().mailboxes.locate(&session).await.map_err(Fault::unavailable)?;
                let (key, session) = found.ok_or_else(|| Fault::not_found("session"))?;
                Ok((within(&key.organization, "session")?, Revoked::Login(session.login)))
            }
            Target::Family(login) => {
                let id = parse("family", &login)?;
                let login = self.0.login(&id).await?.ok_or_else(|| Fault::not_found("login"))?;
                Ok((within(&login.organization, "login")?, Revoked::Login(id)))
            }
            Target::ApiKeyId(key) => {
                let id = parse("api_key_id", &key)?;
                let key = self.0.api_key(&id).await?.ok_or_else(|| Fault::not_found("API key"))?;
                Ok((within(&key.organization, "API key")?, Revoked::ApiKey(id)))
            }
            Target::OrchestratorId(orchestrator) => {
                let id = parse("orchestrator_id", &orchestrator)?;
                Ok((caller.organization(of_orchestrator)?, Revoked::Orchestrator(id)))
            }
            Target::OrganizationId(organization) => {
                if !caller.0.is_multi_organization() {
                    return Err(Fault::new(ErrorReason::PermissionDenied, "only operators revoke organizations"));
                }
                Ok((caller.organization(&organization)?, Revoked::Organization))
            }
        }
    }
}
