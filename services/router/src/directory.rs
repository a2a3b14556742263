//! Which orchestrators there are, remembered for a while so that routing need not ask each time.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use waystation_domain::OrganizationId;
use waystation_rpc::Fault;
use waystation_store::CredentialStore;
use waystation_store::mailbox::MailboxKey;

/// How long a known orchestrator is not asked for again.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Orchestrators that are remembered.
const CAPACITY: u64 = 100_000;

#[derive(Clone)]
pub(crate) struct Directory {
    credentials: Arc<dyn CredentialStore>,
    /// Organizations, and whether any well-formed id is an orchestrator of theirs.
    organizations: Cache<OrganizationId, bool>,
    known: Cache<MailboxKey, ()>,
}

impl Directory {
    pub(crate) fn new(credentials: Arc<dyn CredentialStore>) -> Directory {
        let organizations = Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED).build();
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED).build();
        Directory { credentials, organizations, known }
    }

    /// NOT_FOUND unless the orchestrator is there, or need not be made beforehand.
    pub(crate) async fn check(&self, key: &MailboxKey) -> Result<(), Fault> {
        if self.known.contains_key(key) || self.is_open(&key.organization).await? {
            return Ok(());
        }
        let found = self.credentials.orchestrator(&key.organization, &key.orchestrator).await;
        found.map_err(Fault::unavailable)?.ok_or_else(|| Fault::not_found("orchestrator"))?;
        self.known.insert(key.clone(), ());
        Ok(())
    }

    async fn is_open(&self, id: &OrganizationId) -> Result<bool, Fault> {
        if let Some(open) = self.organizations.get(id) {
            return Ok(open);
        }
        let organization = self.credentials.organization(id).await.map_err(Fault::unavailable)?;
        let organization = organization.ok_or_else(|| Fault::not_found("orchestrator"))?;
        self.organizations.insert(id.clone(), organization.auto_create_orchestrators);
        Ok(organization.auto_create_orchestrators)
    }
}
