//! waystation.auth.v1.CredentialService

use async_trait::async_trait;
use tonic::{Request, Response, Status};
use waystation_domain::{Scope, ScopeSet};
use waystation_proto::auth::v1::credential_service_server::CredentialService;
use waystation_proto::auth::v1::*;
use waystation_rpc::convert::{parse, parse_optional, required, timestamp_from};
use waystation_rpc::{Caller, Fault};
use waystation_store::credential::{Display, Orchestrator, Organization};

use crate::authority::{Authority, NewApiKey};
use crate::settings;

/// Longest text that is shown to people.
const MAX_DISPLAY: usize = 256;

pub(crate) struct CredentialApi(pub(crate) Authority);

fn shown(field: &str, text: String) -> Result<String, Fault> {
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

#[async_trait]
impl CredentialService for CredentialApi {
    async fn create_organization(
        &self,
        request: Request<CreateOrganizationRequest>,
    ) -> Result<Response<CreateOrganizationResponse>, Status> {
        let request = request.into_inner();
        let slug = if request.slug.is_empty() { request.organization_id.clone() } else { request.slug };
        let organization = Organization {
            id: parse("organization_id", &request.organization_id)?,
            name: shown("name", request.name)?,
            slug: shown("slug", slug)?,
            auto_create_orchestrators: request.auto_create_orchestrators,
        };
        self.0.create_organization(organization).await?;
        Ok(Response::new(CreateOrganizationResponse { organization_id: request.organization_id }))
    }

    async fn create_orchestrator(
        &self,
        request: Request<CreateOrchestratorRequest>,
    ) -> Result<Response<CreateOrchestratorResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let orchestrator = Orchestrator {
            organization: caller.organization(&request.organization_id)?,
            id: parse("orchestrator_id", &request.orchestrator_id)?,
            display: display(request.display)?,
        };
        self.0.create_orchestrator(orchestrator).await?;
        Ok(Response::new(CreateOrchestratorResponse { orchestrator_id: request.orchestrator_id }))
    }

    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let key = NewApiKey {
            organization: caller.organization(&request.organization_id)?,
            orchestrator: parse_optional("orchestrator_id", &request.orchestrator_id)?,
            scopes: scopes(&request.scopes)?,
            expires: request.expire_time.as_ref().map(|time| timestamp_from(Some(time))),
        };
        let secret = self.0.create_api_key(key).await?;
        Ok(Response::new(CreateApiKeyResponse { api_key: secret.id().to_string(), api_secret: secret.expose() }))
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
        let caller = Caller::of(&request)?;
        let UpdateOrganizationSettingsRequest { organization_id, settings } = request.into_inner();
        let organization = caller.organization(&organization_id)?;
        let settings = settings::from_wire(&required("settings", settings)?)?;
        self.0.set_settings(&organization, settings).await?;
        Ok(Response::new(UpdateOrganizationSettingsResponse { settings: Some(settings::to_wire(&settings)) }))
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
