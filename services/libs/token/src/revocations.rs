//! What has been revoked, as every verifier keeps it.

use std::collections::HashMap;
use std::hash::Hash;

use waystation_domain::{ApiKeyId, LoginId, OrchestratorId, OrganizationId, Revocation, Revoked, Timestamp, TokenId};

use crate::{Claims, LONGEST_LIFE};

/// All revocations that still matter, each with its moment.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    newest: Timestamp,
    tokens: HashMap<TokenId, Timestamp>,
    logins: HashMap<LoginId, Timestamp>,
    keys: HashMap<ApiKeyId, Timestamp>,
    orchestrators: HashMap<(OrganizationId, OrchestratorId), Timestamp>,
    organizations: HashMap<OrganizationId, Timestamp>,
}

/// Keeps the later moment.
fn note<K: Eq + Hash>(known: &mut HashMap<K, Timestamp>, key: K, at: Timestamp) {
    known.entry(key).and_modify(|known| *known = (*known).max(at)).or_insert(at);
}

impl Revocations {
    /// Adds one.
    pub fn add(&mut self, revocation: Revocation) {
        let Revocation { organization, revoked, at } = revocation;
        self.newest = self.newest.max(at);
        match revoked {
            Revoked::Token(id) => note(&mut self.tokens, id, at),
            Revoked::Login(id) => note(&mut self.logins, id, at),
            Revoked::ApiKey(id) => note(&mut self.keys, id, at),
            Revoked::Orchestrator(id) => note(&mut self.orchestrators, (organization, id), at),
            Revoked::Organization => note(&mut self.organizations, organization, at),
        }
    }

    /// Forgets those that no token can outlive.
    pub fn forget(&mut self) {
        let newest = self.newest;
        let matters = |at: &Timestamp| newest.since(*at) <= LONGEST_LIFE;
        self.tokens.retain(|_, at| matters(at));
        self.logins.retain(|_, at| matters(at));
        self.keys.retain(|_, at| matters(at));
        self.orchestrators.retain(|_, at| matters(at));
        self.organizations.retain(|_, at| matters(at));
    }

    /// Whether a token is revoked.
    pub fn cover(&self, claims: &Claims) -> bool {
        let by_now = |at: Option<&Timestamp>| at.is_some_and(|at| claims.issued <= *at);
        let organization = claims.organization.as_ref();
        let orchestrator = organization.cloned().zip(claims.orchestrator.clone());
        self.tokens.contains_key(&claims.id)
            || claims.login.as_ref().is_some_and(|login| self.covers_login(claims, login))
            || claims.key.as_ref().is_some_and(|key| self.keys.contains_key(key))
            || orchestrator.is_some_and(|of| by_now(self.orchestrators.get(&of)))
            || organization.is_some_and(|of| by_now(self.organizations.get(of)))
    }

    /// A login of ours ends for good. That of another issuer's subject begins again with its next token.
    fn covers_login(&self, claims: &Claims, login: &LoginId) -> bool {
        let foreign = claims.key.is_none();
        self.logins.get(login).is_some_and(|at| !foreign || claims.issued <= *at)
    }
}
