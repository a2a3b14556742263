//! waystation.auth.v1.CredentialService

use std::time::Duration;

use async_trait::async_trait;
use tonic::{Request, Response, Status};
use waystation_domain::{Revoked, Scope, ScopeSet, Timestamp};
use waystation_proto::auth::v1::credential_service_server::CredentialService;
use waystation_proto::auth::v1::*;
use waystation_rpc::convert::{parse, parse_optional, required, timestamp_from, timestamp_to};
use waystation_rpc::{Caller, Fault};
use waystation_store::audit::{self as store_audit, AuditRecord, Chain};
use waystation_store::credential::{
    self as store, Display, KeyPhase, Orchestrator, OrchestratorState, Organization, SigningKeys,
};

use crate::audit::{self, Actor};
use crate::authority::{Authority, NewApiKey, Profile, Rotation, SigningRotation};
use crate::settings;

/// Longest text that is shown to people.
const MAX_DISPLAY: usize = 256;
/// Elements of a page.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1_000;
/// How long the secret before a rotation stays valid unless the caller says otherwise.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a signing key is published before it signs. Verifiers learn of it within 3 s.
const LEAD: Duration = Duration::from_secs(120);
const SHORTEST_LEAD: Duration = Duration::from_secs(10);
const LONGEST_LEAD: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct CredentialApi(pub(crate) Authority);

pub(crate) fn shown(field: &str, text: String) -> Result<String, Fault> {
    if text.len() > MAX_DISPLAY || text.chars().any(char::is_control) {
        return Err(Fault::field(field, format!("must have at most {MAX_DISPLAY} bytes and no control characters")));
    }
    Ok(text)
}

fn display(display: Option<OrchestratorDisplay>) -> Result<Display, Fault> {
    let display = display.unwrap_or_default();
    Ok(Display {
        discipline: shown("display.discipline", display.discipline)?,
        role: shown("display.role", display.role)?,
        user_name: shown("display.user_name", display.user_name)?,
        user_email: shown("display.user_email", display.user_email)?,
    })
}

/// What a request is called, if it is; so that it can be repeated.
fn request_name(text: &str) -> Result<Option<String>, Fault> {
    let id: Option<waystation_domain::TokenId> = parse_optional("request_id", text)?;
    Ok(id.map(|id| id.to_string()))
}

fn page_size(size: u32) -> Result<usize, Fault> {
    let size = if size == 0 { PAGE } else { size };
    if size > LARGEST_PAGE {
        return Err(Fault::field("page_size", format!("must be at most {LARGEST_PAGE}")));
    }
    Ok(usize::try_from(size).unwrap_or(usize::MAX))
}

/// Where the next page begins, if this one is full.
fn next_page<T>(page: &[T], size: usize, name: impl Fn(&T) -> String) -> String {
    page.last().filter(|_| page.len() == size).map(name).unwrap_or_default()
}

/// A duration within bounds, or the usual one.
fn within(
    field: &str,
    given: Option<prost_types::Duration>,
    usual: Duration,
    (least, most): (Duration, Duration),
) -> Result<Duration, Fault> {
    let Some(given) = given else { return Ok(usual) };
    let read = Duration::try_from(given).ok().filter(|given| (least..=most).contains(given));
    let problem = || format!("must be {} s to {} s", least.as_secs(), most.as_secs());
    read.ok_or_else(|| Fault::field(field, problem()))
}

#[async_trait]
impl CredentialService for CredentialApi {
    async fn create_organization(
        &self,
        request: Request<CreateOrganizationRequest>,
    ) -> Result<Response<CreateOrganizationResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let slug = if request.slug.is_empty() { request.organization_id.clone() } else { request.slug };
        let organization = Organization {
            id: parse("organization_id", &request.organization_id)?,
            name: shown("name", request.name)?,
            slug: shown("slug", slug)?,
            auto_create_orchestrators: request.auto_create_orchestrators,
        };
        let about = (format!("organization:{}", organization.id), String::new());
        let outcome = self.0.create_organization(organization).await;
        self.0.account(None, "organization.created", &actor, about, outcome).await?;
        Ok(Response::new(CreateOrganizationResponse { organization_id: request.organization_id }))
    }

    async fn create_orchestrator(
        &self,
        request: Request<CreateOrchestratorRequest>,
    ) -> Result<Response<CreateOrchestratorResponse>, Status> {
        let (caller, actor) = (Caller::of(&request)?, Actor::of(&request));
        let request = request.into_inner();
        let orchestrator = Orchestrator {
            organization: caller.organization(&request.organization_id)?,
            id: parse("orchestrator_id", &request.orchestrator_id)?,
            display: display(request.display)?,
        };
        let (tenant, about) = (orchestrator.organization.clone(), format!("orchestrator:{}", orchestrator.id));
        let outcome = self.0.create_orchestrator(orchestrator).await;
        self.0.account(Some(&tenant), "orchestrator.created", &actor, (about, String::new()), outcome).await?;
        Ok(Response::new(CreateOrchestratorResponse { orchestrator_id: request.orchestrator_id }))
    }

    async fn list_orchestrators(
        &self,
        request: Request<ListOrchestratorsRequest>,
    ) -> Result<Response<ListOrchestratorsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ListOrchestratorsRequest { organization_id, page_size: size, page_token } = request.into_inner();
        let (tenant, size) = (caller.organization(&organization_id)?, page_size(size)?);
        let (organization, page) = self.0.orchestrators(&tenant, &page_token, size).await?;
        let next_page_token = next_page(&page, size, |(record, _)| record.id.to_string());
        let profile =
            |(orchestrator, state)| profile_to(Profile { organization: organization.clone(), orchestrator, state });
        let orchestrators = page.into_iter().map(profile).collect();
        Ok(Response::new(ListOrchestratorsResponse { orchestrators, next_page_token }))
    }

    async fn set_orchestrator_status(
        &self,
        request: Request<SetOrchestratorStatusRequest>,
    ) -> Result<Response<SetOrchestratorStatusResponse>, Status> {
        let (caller, actor) = (Caller::of(&request)?, Actor::of(&request));
        let request = request.into_inner();
        let tenant = caller.organization(&request.organization_id)?;
        let id = parse("orchestrator_id", &request.orchestrator_id)?;
        let (status, detail) = match OrchestratorStatus::try_from(request.status) {
            Ok(OrchestratorStatus::Unspecified | OrchestratorStatus::Active) => {
                (store::OrchestratorStatus::Active, "active")
            }
            Ok(OrchestratorStatus::Offline) => (store::OrchestratorStatus::Offline, "offline"),
            Ok(OrchestratorStatus::Disabled) => (store::OrchestratorStatus::Disabled, "disabled"),
            Err(_) => return Err(Fault::field("status", "is not known").into()),
        };
        let outcome = self.0.set_orchestrator_status(&tenant, &id, status).await;
        let about = (format!("orchestrator:{id}"), detail.to_owned());
        self.0.account(Some(&tenant), "orchestrator.status_set", &actor, about, outcome).await?;
        Ok(Response::new(SetOrchestratorStatusResponse {}))
    }

    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let (caller, actor) = (Caller::of(&request)?, Actor::of(&request));
        let request = request.into_inner();
        let key = NewApiKey {
            organization: caller.organization(&request.organization_id)?,
            orchestrator: parse_optional("orchestrator_id", &request.orchestrator_id)?,
            scopes: scopes(&request.scopes)?,
            expires: request.expire_time.as_ref().map(|time| timestamp_from(Some(time))),
            networks: settings::networks("networks", &request.networks)?,
            stable_refresh: request.stable_refresh_token,
        };
        let (tenant, detail) = (key.organization.clone(), key.scopes.to_strings().join(" "));
        let name = request_name(&request.request_id)?;
        let outcome = self.0.create_api_key(key, name.as_deref()).await;
        let target = outcome.as_ref().map(|secret| format!("api_key:{}", secret.id())).unwrap_or_default();
        let secret = self.0.account(Some(&tenant), "api_key.created", &actor, (target, detail), outcome).await?;
        Ok(Response::new(CreateApiKeyResponse { api_key: secret.id().to_string(), api_secret: secret.expose() }))
    }

    async fn rotate_api_key(
        &self,
        request: Request<RotateApiKeyRequest>,
    ) -> Result<Response<RotateApiKeyResponse>, Status> {
        let (caller, actor) = (Caller::of(&request)?, Actor::of(&request));
        let RotateApiKeyRequest { api_key, overlap, request_id } = request.into_inner();
        let key = self.own_key(&caller, &api_key).await?;
        let overlap = within("overlap", overlap, OVERLAP, (Duration::ZERO, LONGEST_OVERLAP))?;
        let rotation = Rotation { overlap, request: request_name(&request_id)? };
        let outcome = self.0.rotate_api_key(&key.id, rotation).await;
        let about = (format!("api_key:{}", key.id), format!("overlap {} s", overlap.as_secs()));
        let secret = self.0.account(Some(&key.organization), "api_key.rotated", &actor, about, outcome).await?;
        Ok(Response::new(RotateApiKeyResponse { api_secret: secret.expose() }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let (caller, actor) = (Caller::of(&request)?, Actor::of(&request));
        let key = self.own_key(&caller, &request.into_inner().api_key).await?;
        let outcome = self.0.revoke(&key.organization, Revoked::ApiKey(key.id.clone())).await;
        let about = (format!("api_key:{}", key.id), String::new());
        self.0.account(Some(&key.organization), "api_key.revoked", &actor, about, outcome).await?;
        Ok(Response::new(RevokeApiKeyResponse {}))
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ListApiKeysRequest { organization_id, page_size: size, page_token } = request.into_inner();
        let (tenant, size) = (caller.organization(&organization_id)?, page_size(size)?);
        let page = self.0.api_keys(&tenant, &page_token, size).await?;
        let next_page_token = next_page(&page, size, |key| key.id.to_string());
        let now = self.0.context().clock.now();
        let api_keys = page.into_iter().map(|key| key_to(&key, now)).collect();
        Ok(Response::new(ListApiKeysResponse { api_keys, next_page_token }))
    }

    async fn rotate_signing_key(
        &self,
        request: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<RotateSigningKeyResponse>, Status> {
        let actor = Actor::of(&request);
        let RotateSigningKeyRequest { algorithm, lead, compromised, request_id } = request.into_inner();
        if compromised && lead.is_some() {
            return Err(Fault::field("lead", "must be absent: a compromised key ends now").into());
        }
        let rotation = SigningRotation {
            algorithm: parse_optional("algorithm", &algorithm)?,
            lead: within("lead", lead, LEAD, (SHORTEST_LEAD, LONGEST_LEAD))?,
            compromised,
            request: request_name(&request_id)?,
        };
        let detail = if compromised { "compromised" } else { "" };
        let outcome = self.0.rotate_signing_key(rotation).await;
        let about = ("signing_key".to_owned(), detail.to_owned());
        let keys = self.0.account(None, "signing_key.rotated", &actor, about, outcome).await?;
        let keys = signing_keys_to(&keys, self.0.context().clock.now());
        Ok(Response::new(RotateSigningKeyResponse { keys }))
    }

    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ListAuditEventsRequest { organization_id, log, page_size: size, page_token } = request.into_inner();
        let (chain, size) = (chain(&caller, &organization_id, log)?, page_size(size)?);
        let after = match page_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| Fault::field("page_token", "is not one of an answer"))?,
        };
        let page = self.0.store().audit.audit(&chain, after, size).await.map_err(Fault::unavailable)?;
        let next_page_token = next_page(&page, size, |record| record.sequence.to_string());
        Ok(Response::new(ListAuditEventsResponse { events: page.into_iter().map(event_to).collect(), next_page_token }))
    }

    async fn verify_audit_events(
        &self,
        request: Request<VerifyAuditEventsRequest>,
    ) -> Result<Response<VerifyAuditEventsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let chain = chain(&caller, &request.organization_id, request.log)?;
        let known = match request.known_sequence {
            0 => None,
            sequence => {
                let mac = request.known_mac.as_ref().try_into();
                Some((sequence, mac.map_err(|_| Fault::field("known_mac", "must have 32 bytes"))?))
            }
        };
        let found = audit::verify(self.0.store(), self.0.pepper(), &chain, known).await?;
        let (last_sequence, last_mac) = found.last.unwrap_or_default();
        Ok(Response::new(VerifyAuditEventsResponse {
            valid: found.broken.is_none(),
            first_sequence: found.first,
            last_sequence,
            last_mac: last_mac.to_vec().into(),
            broken_sequence: found.broken.unwrap_or(0),
        }))
    }

    async fn get_organization_settings(
        &self,
        request: Request<GetOrganizationSettingsRequest>,
    ) -> Result<Response<GetOrganizationSettingsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let organization = caller.organization(&request.into_inner().organization_id)?;
        let settings = settings::to_wire(&self.0.settings(&organization).await?);
        Ok(Response::new(GetOrganizationSettingsResponse { settings: Some(settings) }))
    }

    async fn update_organization_settings(
        &self,
        request: Request<UpdateOrganizationSettingsRequest>,
    ) -> Result<Response<UpdateOrganizationSettingsResponse>, Status> {
        let (caller, actor) = (Caller::of(&request)?, Actor::of(&request));
        let UpdateOrganizationSettingsRequest { organization_id, settings } = request.into_inner();
        let organization = caller.organization(&organization_id)?;
        let settings = settings::from_wire(&required("settings", settings)?)?;
        let outcome = self.0.set_settings(&organization, settings.clone()).await;
        let about = ("settings".to_owned(), String::new());
        self.0.account(Some(&organization), "settings.updated", &actor, about, outcome).await?;
        Ok(Response::new(UpdateOrganizationSettingsResponse { settings: Some(settings::to_wire(&settings)) }))
    }
}

impl CredentialApi {
    /// A key that the caller may touch.
    async fn own_key(&self, caller: &Caller, id: &str) -> Result<store::ApiKey, Fault> {
        let id = parse("api_key", id)?;
        let key = self.0.api_key(&id).await?.ok_or_else(|| Fault::not_found("API key"))?;
        caller.organization(key.organization.as_str()).map_err(|_| Fault::not_found("API key"))?;
        Ok(key)
    }
}

/// Scopes of a key: known ones, and never everything.
fn scopes(texts: &[String]) -> Result<ScopeSet, Fault> {
    if texts.is_empty() {
        return Err(Fault::field("scopes", "must not be empty"));
    }
    let each = texts.iter().enumerate().map(|(index, text)| {
        let field = format!("scopes[{index}]");
        let scope: Scope = parse(&field, text)?;
        if scope == Scope::AdminAll {
            return Err(Fault::field(&field, "is for operators only"));
        }
        Ok(scope)
    });
    each.collect()
}

fn chain(caller: &Caller, organization: &str, log: i32) -> Result<Chain, Fault> {
    let log = match AuditLog::try_from(log) {
        Ok(AuditLog::Unspecified | AuditLog::Changes) => store_audit::AuditLog::Changes,
        Ok(AuditLog::Logins) => store_audit::AuditLog::Logins,
        Err(_) => return Err(Fault::field("log", "is not known")),
    };
    Ok(Chain { organization: caller.any_organization(organization)?, log })
}

fn event_to(record: AuditRecord) -> AuditEvent {
    AuditEvent {
        sequence: record.sequence,
        time: Some(timestamp_to(record.time)),
        action: record.action,
        actor: record.actor,
        target: record.target,
        request_id: record.request,
        result: record.result,
        detail: record.detail,
        mac: record.mac.to_vec().into(),
    }
}

fn key_to(key: &store::ApiKey, now: Timestamp) -> ApiKey {
    let valid = key.secrets.iter().filter(|secret| secret.until.is_none_or(|until| until > now));
    let older = key.secrets.iter().filter_map(|secret| secret.until).find(|until| *until > now);
    ApiKey {
        api_key: key.id.to_string(),
        orchestrator_id: key.orchestrator.as_ref().map(ToString::to_string).unwrap_or_default(),
        scopes: key.scopes.to_strings(),
        expire_time: key.expires.map(timestamp_to),
        networks: key.networks.iter().map(ToString::to_string).collect(),
        stable_refresh_token: key.stable_refresh,
        revoked: key.revoked,
        valid_secrets: u32::try_from(valid.count()).unwrap_or(u32::MAX),
        older_secret_expire_time: older.map(timestamp_to),
    }
}

fn signing_keys_to(keys: &SigningKeys, now: Timestamp) -> Vec<SigningKeyInfo> {
    let each = keys.phases(now).map(|(key, phase)| SigningKeyInfo {
        key_id: key.id.clone(),
        algorithm: key.algorithm.to_string(),
        phase: match phase {
            KeyPhase::Next => SigningKeyPhase::Next,
            KeyPhase::Active => SigningKeyPhase::Active,
            KeyPhase::Retiring => SigningKeyPhase::Retiring,
        }
        .into(),
        active_time: Some(timestamp_to(key.active)),
        gone_time: key.gone.map(timestamp_to),
    });
    each.collect()
}

pub(crate) fn profile_to(profile: Profile) -> OrchestratorProfile {
    let Profile { organization, orchestrator, state } = profile;
    let OrchestratorState { status, created, updated } = state;
    let Display { discipline, role, user_name, user_email } = orchestrator.display;
    OrchestratorProfile {
        orchestrator_id: orchestrator.id.to_string(),
        organization_id: organization.id.to_string(),
        organization_name: organization.name,
        organization_slug: organization.slug,
        display: Some(OrchestratorDisplay { discipline, role, user_name, user_email }),
        status: match status {
            store::OrchestratorStatus::Active => OrchestratorStatus::Active,
            store::OrchestratorStatus::Offline => OrchestratorStatus::Offline,
            store::OrchestratorStatus::Disabled => OrchestratorStatus::Disabled,
        }
        .into(),
        create_time: created.map(timestamp_to),
        update_time: updated.map(timestamp_to),
    }
}
