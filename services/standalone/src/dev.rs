//! The organization `dev`, and the file that says how to reach it.

use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use waystation_auth::{Authority, NewApiKey, ServiceAccount};
use waystation_domain::{OrganizationId, Scope, ScopeSet};
use waystation_runtime::Entropy;
use waystation_store::credential::Organization;

use crate::listeners::Endpoints;
use crate::secrets::{Secrets, write_private};
use crate::{StartError, io};

/// Name of the backend that may act in any organization.
pub const BACKEND: &str = "backend";
/// The organization that standalone seeds.
const ORGANIZATION: &str = "dev";
/// Tokens in dev.json live so long; each start writes new ones.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What `dev.json` says. No Debug: it holds secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct DevFile {
    /// Where daemons connect.
    pub gateway_url: String,
    /// REST for daemons.
    pub http_url: String,
    /// gRPC of router.
    pub router: String,
    /// gRPC of auth.
    pub auth: String,
    /// gRPC of federation.
    pub federation: String,
    /// gRPC of gateway.
    pub gateway: String,
    /// Admin pages.
    pub admin: AdminPages,
    /// The seeded organization.
    pub organization_id: String,
    /// Lets a daemon log in as any orchestrator of the organization.
    pub api_key: String,
    /// Its secret.
    pub api_secret: String,
    /// A backend's bearer for the organization.
    pub service_token: String,
    /// With [`BACKEND`] as name: gets tokens for other organizations by IssueServiceToken.
    pub service_secret: String,
    /// An operator's bearer: makes organizations.
    pub operator_token: String,
}

/// Where the admin pages are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdminPages {
    /// gateway
    pub gateway: String,
    /// router
    pub router: String,
    /// auth
    pub auth: String,
    /// federation
    pub federation: String,
}

/// What a backend may do.
fn backend_scopes() -> ScopeSet {
    let daemons_only = [Scope::AdminAll, Scope::VpStatus, Scope::VpConfig, Scope::PresenceWrite];
    Scope::ALL.iter().copied().filter(|scope| !daemons_only.contains(scope)).collect()
}

/// What a daemon may do.
fn daemon_scopes() -> ScopeSet {
    let operators_only = [Scope::AdminAll, Scope::AdminRead, Scope::AdminWrite];
    Scope::ALL.iter().copied().filter(|scope| !operators_only.contains(scope)).collect()
}

pub(crate) fn backend_account(secrets: &Secrets) -> ServiceAccount {
    ServiceAccount {
        name: BACKEND.to_owned(),
        secret: SecretString::from(secrets.service_secret()),
        organization: None,
        scopes: backend_scopes(),
        operator: false,
    }
}

/// Makes the organization and its key, unless they are there.
pub(crate) async fn seed(
    authority: &Authority,
    secrets: &mut Secrets,
    dir: &Path,
    endpoints: &Endpoints,
    entropy: &Entropy,
) -> Result<DevFile, StartError> {
    let organization: OrganizationId =
        ORGANIZATION.parse().map_err(|error| StartError::Options(format!("{ORGANIZATION} {error}")))?;
    let record = Organization {
        id: organization.clone(),
        name: "Development".to_owned(),
        slug: ORGANIZATION.to_owned(),
        auto_create_orchestrators: true,
    };
    authority.create_organization(record).await?;
    let new_key = || NewApiKey {
        organization: organization.clone(),
        orchestrator: None,
        scopes: daemon_scopes(),
        expires: None,
        networks: Vec::new(),
        stable_refresh: false,
    };
    let mut key = secrets.api_key()?;
    if authority.keep_api_key(new_key(), &key).await.is_err() {
        key = secrets.renew_api_key(dir, entropy)?;
        authority.keep_api_key(new_key(), &key).await?;
    }
    let backend = authority.service_token(BACKEND, Some(organization.clone()), backend_scopes(), TOKEN_LIFE)?;
    let operator = authority.operator_token("dev-operator", TOKEN_LIFE)?;
    Ok(DevFile {
        gateway_url: format!("ws://{}/daemon/ws", endpoints.public),
        http_url: format!("http://{}", endpoints.public),
        router: endpoints.router.clone(),
        auth: endpoints.auth.clone(),
        federation: endpoints.federation.clone(),
        gateway: endpoints.gateway_grpc.clone(),
        admin: AdminPages {
            gateway: endpoints.gateway_admin.clone(),
            router: endpoints.router_admin.clone(),
            auth: endpoints.auth_admin.clone(),
            federation: endpoints.federation_admin.clone(),
        },
        organization_id: ORGANIZATION.to_owned(),
        api_key: key.id().to_string(),
        api_secret: key.expose(),
        service_token: backend.token,
        service_secret: secrets.service_secret().to_owned(),
        operator_token: operator.token,
    })
}

impl DevFile {
    /// Name of the file in the state directory.
    pub const NAME: &str = "dev.json";

    pub(crate) fn write(&self, dir: &Path) -> Result<(), StartError> {
        write_private(&dir.join(Self::NAME), self)
    }

    /// Reads the file of a state directory.
    ///
    /// # Errors
    /// If it is not there or malformed.
    pub fn read(dir: &Path) -> Result<DevFile, StartError> {
        let path = dir.join(Self::NAME);
        let bytes = std::fs::read(&path).map_err(io(format!("read {}", path.display())))?;
        serde_json::from_slice(&bytes).map_err(|error| StartError::Options(format!("{}: {error}", path.display())))
    }
}
