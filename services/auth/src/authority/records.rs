//! Organizations, orchestrators, keys and settings.

use std::time::Duration;

use waystation_domain::{
    ApiKeyId, Network, OrchestratorId, OrganizationId, Revoked, ScopeSet, SigningAlgorithm, Timestamp,
};
use waystation_proto::common::v1::ErrorReason;
use waystation_rpc::Fault;
use waystation_store::credential::{
    ApiKey, Created, KeySecret, NewSecret, NewSigningKey, Orchestrator, OrchestratorState, OrchestratorStatus,
    Organization, OrganizationSettings, SigningKeys,
};
use waystation_token::ApiKeySecret;

use super::Authority;

/// A key to make.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// Tenant.
    pub organization: OrganizationId,
    /// `None`: for every orchestrator.
    pub orchestrator: Option<OrchestratorId>,
    /// What its logins may have.
    pub scopes: ScopeSet,
    /// `None`: never.
    pub expires: Option<Timestamp>,
    /// From where it may be used; empty: from everywhere.
    pub networks: Vec<Network>,
    /// Its clients keep one refresh token for the whole login.
    pub stable_refresh: bool,
}

/// A new secret for a key.
pub(crate) struct Rotation {
    pub(crate) overlap: Duration,
    /// `None`: another secret each time.
    pub(crate) request: Option<String>,
}

/// A new key that signs.
pub(crate) struct SigningRotation {
    /// `None`: as configured.
    pub(crate) algorithm: Option<SigningAlgorithm>,
    pub(crate) lead: Duration,
    pub(crate) compromised: bool,
    /// `None`: another key each time.
    pub(crate) request: Option<String>,
}

/// Characters of a key's id.
const KEY_ID: usize = 20;

fn judge_created(created: Created, what: &str) -> Result<(), Fault> {
    match created {
        Created::Yes => Ok(()),
        Created::Conflict => {
            Err(Fault::new(ErrorReason::AlreadyExists, format!("this {what} exists with other content")))
        }
        Created::NoParent => Err(Fault::not_found("organization")),
    }
}

impl Authority {
    /// Makes a tenant.
    ///
    /// # Errors
    /// If one of that id is there with other content.
    pub async fn create_organization(&self, organization: Organization) -> Result<(), Fault> {
        let created = self.credentials().create_organization(organization, None).await.map_err(Fault::unavailable)?;
        judge_created(created, "organization")
    }

    /// Makes an addressee.
    ///
    /// # Errors
    /// If one of that id is there with other content, or its organization is not.
    pub async fn create_orchestrator(&self, orchestrator: Orchestrator) -> Result<(), Fault> {
        let created = self.credentials().create_orchestrator(orchestrator, None).await.map_err(Fault::unavailable)?;
        judge_created(created, "orchestrator")
    }

    /// Addressees of a tenant, with what it is called.
    pub(crate) async fn orchestrators(
        &self,
        organization: &OrganizationId,
        after: &str,
        most: usize,
    ) -> Result<(Organization, Vec<(Orchestrator, OrchestratorState)>), Fault> {
        let tenant = self.organization(organization).await?;
        let found = self.credentials().orchestrators(organization, after, most).await.map_err(Fault::unavailable)?;
        Ok((tenant, found))
    }

    /// Says whether an orchestrator may be used. One that may not loses its logins and connections.
    pub(crate) async fn set_orchestrator_status(
        &self,
        organization: &OrganizationId,
        id: &OrchestratorId,
        status: OrchestratorStatus,
    ) -> Result<(), Fault> {
        let subject = self.credentials().subject(organization, id).await.map_err(Fault::unavailable)?;
        let tenant = subject.organization.ok_or_else(|| Fault::not_found("orchestrator"))?;
        let is_open = subject.settings.auto_create_orchestrators.unwrap_or(tenant.auto_create_orchestrators);
        if subject.orchestrator.is_none() && !is_open {
            return Err(Fault::not_found("orchestrator"));
        }
        let known = self.credentials().set_orchestrator_status(organization, id, status, None).await;
        if !known.map_err(Fault::unavailable)? {
            return Err(Fault::not_found("orchestrator"));
        }
        // After it, so that no login can slip in between.
        if status == OrchestratorStatus::Disabled {
            self.revoke(organization, Revoked::Orchestrator(id.clone())).await?;
        }
        Ok(())
    }

    async fn organization(&self, id: &OrganizationId) -> Result<Organization, Fault> {
        let found = self.credentials().organization(id).await.map_err(Fault::unavailable)?;
        found.ok_or_else(|| Fault::not_found("organization"))
    }

    /// What an organization has chosen.
    ///
    /// # Errors
    /// NOT_FOUND if there is no such organization.
    pub async fn settings(&self, id: &OrganizationId) -> Result<OrganizationSettings, Fault> {
        let organization = self.organization(id).await?;
        let settings = self.credentials().settings(id).await.map_err(Fault::unavailable)?;
        let open = settings.auto_create_orchestrators.or(Some(organization.auto_create_orchestrators));
        Ok(OrganizationSettings { auto_create_orchestrators: open, ..settings })
    }

    /// Replaces what an organization has chosen.
    ///
    /// # Errors
    /// NOT_FOUND if there is no such organization.
    pub async fn set_settings(&self, id: &OrganizationId, settings: OrganizationSettings) -> Result<(), Fault> {
        let known = self.credentials().set_settings(id, settings, None).await.map_err(Fault::unavailable)?;
        known.then_some(()).ok_or_else(|| Fault::not_found("organization"))
    }

    /// Makes a key with a new id and secret, which is shown here and never again. A request that is named and repeated
    /// makes the same one.
    pub(crate) async fn create_api_key(&self, new: NewApiKey, request: Option<&str>) -> Result<ApiKeySecret, Fault> {
        let tenant = new.organization.as_str().as_bytes();
        let (id, secret) = match request {
            None => (self.0.context.entropy.id(), self.0.context.entropy.secret()),
            Some(request) => {
                let derived = |purpose| self.0.pepper.derived_secret(purpose, &[tenant, request.as_bytes()]);
                (hex(&derived("key id")), derived("key secret"))
            }
        };
        let id = id[..KEY_ID].parse().map_err(|error| Fault::field("key", error))?;
        let secret = ApiKeySecret::new(id, secret);
        self.keep_api_key(new, &secret).await?;
        Ok(secret)
    }

    /// Keeps a key whose secret is known already.
    ///
    /// # Errors
    /// If one of that id is there with other content, or its organization is not.
    pub async fn keep_api_key(&self, new: NewApiKey, secret: &ApiKeySecret) -> Result<(), Fault> {
        let key = ApiKey {
            id: secret.id().clone(),
            organization: new.organization,
            orchestrator: new.orchestrator,
            scopes: new.scopes,
            secrets: vec![KeySecret { mac: secret.mac(&self.0.pepper), until: None }],
            expires: new.expires,
            networks: new.networks,
            stable_refresh: new.stable_refresh,
            revoked: false,
        };
        let created = self.credentials().create_api_key(key, None).await.map_err(Fault::unavailable)?;
        judge_created(created, "API key")
    }

    /// Gives a key a new secret beside the present one, which ends after the overlap.
    pub(crate) async fn rotate_api_key(&self, id: &ApiKeyId, rotation: Rotation) -> Result<ApiKeySecret, Fault> {
        let random = match &rotation.request {
            None => self.0.context.entropy.secret(),
            Some(request) => self.0.pepper.derived_secret("rotation", &[id.as_str().as_bytes(), request.as_bytes()]),
        };
        let secret = ApiKeySecret::new(id.clone(), random);
        let until = self.now().after(rotation.overlap);
        let taken = self.credentials().take_secret(id, secret.mac(&self.0.pepper), until, None).await;
        match taken.map_err(Fault::unavailable)? {
            NewSecret::Taken => Ok(secret),
            NewSecret::TwoAreValid(until) => {
                let when = until.map(|until| format!(" until {until}")).unwrap_or_default();
                let message = format!("two secrets are valid{when}; an overlap of 0 ends both now");
                Err(Fault::new(ErrorReason::RotationPending, message))
            }
            NewSecret::Unknown => Err(Fault::not_found("API key")),
        }
    }

    pub(crate) async fn api_keys(
        &self,
        organization: &OrganizationId,
        after: &str,
        most: usize,
    ) -> Result<Vec<ApiKey>, Fault> {
        self.organization(organization).await?;
        self.credentials().api_keys(organization, after, most).await.map_err(Fault::unavailable)
    }

    /// Makes the next signing key; answers all of them.
    pub(crate) async fn rotate_signing_key(&self, rotation: SigningRotation) -> Result<SigningKeys, Fault> {
        let id = match &rotation.request {
            None => self.0.context.entropy.id(),
            Some(request) => hex(&self.0.pepper.derived_secret("signing key id", &[request.as_bytes()])),
        };
        let (lead, retiring) =
            if rotation.compromised { (Duration::ZERO, Duration::ZERO) } else { (rotation.lead, self.0.longest_life) };
        let new = NewSigningKey {
            id: id[..KEY_ID].to_owned(),
            algorithm: rotation.algorithm.unwrap_or(self.0.algorithm),
            seed: self.0.context.entropy.secret(),
            lead,
            retiring,
        };
        if !self.credentials().rotate_signing_key(new, None).await.map_err(Fault::unavailable)? {
            let message = "a key waits to sign already; wait until it does";
            return Err(Fault::new(ErrorReason::RotationPending, message));
        }
        self.0.ring.take(self.credentials().signing_keys().await.map_err(Fault::unavailable)?)?;
        self.publish()?;
        Ok(self.0.ring.stored())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
