//! What a token says.

use serde::{Deserialize, Serialize};
use waystation_domain::{
    ApiKeyId, DaemonId, LoginId, OrchestratorId, OrganizationId, Scope, ScopeSet, Timestamp, TokenId,
};

/// `iss` of every token.
pub const ISSUER: &str = "waystation";
/// `aud` of every token.
pub const AUDIENCE: &str = "waystation";

/// What kind of holder a token is for. Each has a `typ` of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenClass {
    /// A daemon's access token.
    Access,
    /// A backend's or an internal service's.
    Service,
    /// An operator's.
    Operator,
}

impl TokenClass {
    /// `typ` of the header.
    pub fn header_type(self) -> &'static str {
        match self {
            TokenClass::Access => "at+jwt",
            TokenClass::Service => "ws-service+jwt",
            TokenClass::Operator => "ws-operator+jwt",
        }
    }

    /// `type` of the claims.
    pub fn name(self) -> &'static str {
        match self {
            TokenClass::Access => "access",
            TokenClass::Service => "service",
            TokenClass::Operator => "operator",
        }
    }
}

/// A valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `jti`
    pub id: TokenId,
    /// Its kind.
    pub class: TokenClass,
    /// `sub`: orchestrator, service or operator.
    pub subject: String,
    /// Tenant; `None`: all.
    pub organization: Option<OrganizationId>,
    /// Of a daemon's token.
    pub orchestrator: Option<OrchestratorId>,
    /// If bound to one.
    pub daemon: Option<DaemonId>,
    /// The token family.
    pub login: Option<LoginId>,
    /// The key that the login used.
    pub key: Option<ApiKeyId>,
    /// Granted.
    pub scopes: ScopeSet,
    /// `iat`
    pub issued: Timestamp,
    /// `exp`
    pub expires: Timestamp,
}

/// What every daemon's token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonClaims {
    /// Tenant.
    pub organization: OrganizationId,
    /// Whom it serves.
    pub orchestrator: OrchestratorId,
    /// If bound to one.
    pub daemon: Option<DaemonId>,
    /// The token family.
    pub login: LoginId,
}

impl Claims {
    /// What a daemon's token says; `None` for others.
    pub fn as_daemon(&self) -> Option<DaemonClaims> {
        if self.class != TokenClass::Access {
            return None;
        }
        Some(DaemonClaims {
            organization: self.organization.clone()?,
            orchestrator: self.orchestrator.clone()?,
            daemon: self.daemon.clone(),
            login: self.login.clone()?,
        })
    }

    /// Whether the holder may act in any organization.
    pub fn is_multi_organization(&self) -> bool {
        self.organization.is_none() && self.class != TokenClass::Access || self.scopes.contains(Scope::AdminAll)
    }
}

/// Claims on the wire; names that old clients and backends read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireClaims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: TokenId,
    #[serde(rename = "type")]
    class: TokenClass,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<OrganizationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orchestrator_id: Option<OrchestratorId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_id: Option<DaemonId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<LoginId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<ApiKeyId>,
    scopes: Vec<String>,
}

impl From<&Claims> for WireClaims {
    fn from(claims: &Claims) -> WireClaims {
        WireClaims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: claims.subject.clone(),
            iat: claims.issued.as_seconds(),
            nbf: claims.issued.as_seconds(),
            exp: claims.expires.as_seconds(),
            jti: claims.id.clone(),
            class: claims.class,
            organization_id: claims.organization.clone(),
            orchestrator_id: claims.orchestrator.clone(),
            daemon_id: claims.daemon.clone(),
            session_id: claims.login.clone(),
            key_id: claims.key.clone(),
            scopes: claims.scopes.to_strings(),
        }
    }
}

impl WireClaims {
    pub(crate) fn not_before(&self) -> Timestamp {
        Timestamp::from_millis(self.nbf.saturating_mul(1_000))
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.iss == ISSUER && self.aud == AUDIENCE
    }

    pub(crate) fn into_claims(self) -> Claims {
        Claims {
            id: self.jti,
            class: self.class,
            subject: self.sub,
            organization: self.organization_id,
            orchestrator: self.orchestrator_id,
            daemon: self.daemon_id,
            login: self.session_id,
            key: self.key_id,
            scopes: ScopeSet::from_known(self.scopes.iter().map(String::as_str)),
            issued: Timestamp::from_millis(self.iat.saturating_mul(1_000)),
            expires: Timestamp::from_millis(self.exp.saturating_mul(1_000)),
        }
    }
}
