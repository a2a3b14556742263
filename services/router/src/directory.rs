//! Which orchestrators there are and what their organizations have chosen, remembered for a while so that routing need
//! not ask each time.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use waystation_domain::OrganizationId;
use waystation_rpc::Fault;
use waystation_store::CredentialStore;
use waystation_store::credential::{OrganizationSettings, Subject};
use waystation_store::mailbox::MailboxKey;

/// How long what is known is not asked for again.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Orchestrators that are remembered.
const CAPACITY: u64 = 100_000;

#[derive(Clone)]
pub(crate) struct Directory {
    credentials: Arc<dyn CredentialStore>,
    organizations: Cache<OrganizationId, Rules>,
    known: Cache<MailboxKey, ()>,
}

/// What an organization has chosen.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) settings: Arc<OrganizationSettings>,
    /// Any well-formed id is an orchestrator of theirs.
    is_open: bool,
}

impl Directory {
    pub(crate) fn new(credentials: Arc<dyn CredentialStore>) -> Directory {
        let organizations = Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED).build();
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED).build();
        Directory { credentials, organizations, known }
    }

    /// What an organization has chosen; NOT_FOUND unless it is there.
    pub(crate) async fn organization(&self, id: &OrganizationId) -> Result<Rules, Fault> {
        if let Some(rules) = self.organizations.get(id) {
            return Ok(rules);
        }
        let organization = self.credentials.organization(id).await.map_err(Fault::unavailable)?;
        let organization = organization.ok_or_else(|| Fault::not_found("organization"))?;
        let settings = self.credentials.settings(id).await.map_err(Fault::unavailable)?;
        let is_open = settings.auto_create_orchestrators.unwrap_or(organization.auto_create_orchestrators);
        let rules = Rules { settings: Arc::new(settings), is_open };
        self.organizations.insert(id.clone(), rules.clone());
        Ok(rules)
    }

    /// What holds for a mailbox; NOT_FOUND unless its orchestrator is there, or need not be made beforehand.
    pub(crate) async fn check(&self, key: &MailboxKey) -> Result<Rules, Fault> {
        if let Some(rules) = self.organizations.get(&key.organization)
            && (rules.is_open || self.known.contains_key(key))
        {
            return Ok(rules);
        }
        let subject = self.credentials.subject(&key.organization, &key.orchestrator).await;
        let Subject { organization, settings, orchestrator, .. } = subject.map_err(Fault::unavailable)?;
        let organization = organization.ok_or_else(|| Fault::not_found("orchestrator"))?;
        let is_open = settings.auto_create_orchestrators.unwrap_or(organization.auto_create_orchestrators);
        let rules = Rules { settings: Arc::new(settings), is_open };
        self.organizations.insert(key.organization.clone(), rules.clone());
        if !is_open {
            orchestrator.ok_or_else(|| Fault::not_found("orchestrator"))?;
            self.known.insert(key.clone(), ());
        }
        Ok(rules)
    }
}
