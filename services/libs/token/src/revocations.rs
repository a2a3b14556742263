//! What has been revoked, as every verifier keeps it.

use std::collections::{HashMap, HashSet};

use waystation_domain::{ApiKeyId, LoginId, OrchestratorId, OrganizationId, Revocation, Revoked, Timestamp, TokenId};

use crate::Claims;

/// All revocations that still matter.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    tokens: HashSet<TokenId>,
    logins: HashSet<LoginId>,
    keys: HashSet<ApiKeyId>,
    orchestrators: HashMap<(OrganizationId, OrchestratorId), Timestamp>,
    organizations: HashMap<OrganizationId, Timestamp>,
}

impl Revocations {
    /// Adds one.
    pub fn add(&mut self, revocation: Revocation) {
        let Revocation { organization, revoked, at } = revocation;
        let later = |known: &mut Timestamp| *known = (*known).max(at);
        match revoked {
            Revoked::Token(id) => drop(self.tokens.insert(id)),
            Revoked::Login(id) => drop(self.logins.insert(id)),
            Revoked::ApiKey(id) => drop(self.keys.insert(id)),
            Revoked::Orchestrator(id) => {
                self.orchestrators.entry((organization, id)).and_modify(later).or_insert(at);
            }
            Revoked::Organization => {
                self.organizations.entry(organization).and_modify(later).or_insert(at);
            }
        }
    }

    /// Whether a token is revoked.
    pub fn cover(&self, claims: &Claims) -> bool {
        let by_now = |at: Option<&Timestamp>| at.is_some_and(|at| claims.issued <= *at);
        let organization = claims.organization.as_ref();
        let orchestrator = organization.cloned().zip(claims.orchestrator.clone());
        self.tokens.contains(&claims.id)
            || claims.login.as_ref().is_some_and(|login| self.logins.contains(login))
            || claims.key.as_ref().is_some_and(|key| self.keys.contains(key))
            || orchestrator.is_some_and(|of| by_now(self.orchestrators.get(&of)))
            || organization.is_some_and(|of| by_now(self.organizations.get(of)))
    }
}
