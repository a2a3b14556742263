//! What ends tokens before their time.

use serde::{Deserialize, Serialize};

use crate::{ApiKeyId, LoginId, OrchestratorId, OrganizationId, Timestamp, TokenId};

/// What a revocation names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Revoked {
    /// One access token.
    Token(TokenId),
    /// A login.
    Login(LoginId),
    /// A key and its logins.
    ApiKey(ApiKeyId),
    /// All logins until now.
    Orchestrator(OrchestratorId),
    /// All logins until now.
    Organization,
}

/// Tokens issued at or before a moment are not valid any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Tenant of what is named.
    pub organization: OrganizationId,
    /// What.
    pub revoked: Revoked,
    /// Until when.
    pub at: Timestamp,
}
