//! What a token says.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waystation_domain::policy::Identity;
use waystation_domain::{
    ApiKeyId, DaemonId, LoginId, Network, OrchestratorId, OrganizationId, Scope, ScopeSet, Timestamp, TokenClass,
    TokenId,
};

/// `iss` of every token.
pub const ISSUER: &str = "waystation";
/// `aud` of every token.
pub const AUDIENCE: &str = "waystation";

/// `typ` of the header of each class.
pub(crate) fn header_type(class: TokenClass) -> &'static str {
    match class {
        TokenClass::Access => "at+jwt",
        TokenClass::Service => "ws-service+jwt",
        TokenClass::Operator => "ws-operator+jwt",
        TokenClass::User => "ws-user+jwt",
    }
}

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Another issuer; `None`: it is ours.
    pub issuer: Option<Arc<str>>,
    /// Its `kid`; empty: the shared secret of the older platform.
    pub kid: Arc<str>,
}

/// A valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `jti`
    pub id: TokenId,
    /// Its kind.
    pub class: TokenClass,
    /// `sub`: orchestrator, service, operator or person.
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
    /// From where it may be used; empty: from everywhere.
    pub networks: Vec<Network>,
    /// The key that signed it, once that is verified.
    pub signer: Option<Signer>,
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

    /// Whether it is a person's of an organization.
    pub fn is_user(&self) -> bool {
        self.class == TokenClass::User && self.organization.is_some()
    }

    /// Of somebody who has shown nothing, where an organization lets anybody watch its events: as a person's, for a day.
    pub fn of_anybody(id: TokenId, organization: OrganizationId, now: Timestamp) -> Claims {
        Claims {
            id,
            class: TokenClass::User,
            subject: "anybody".to_owned(),
            organization: Some(organization),
            orchestrator: None,
            daemon: None,
            login: None,
            key: None,
            scopes: [Scope::EventsRead].into_iter().collect(),
            networks: Vec::new(),
            signer: None,
            issued: now,
            expires: now.after(Duration::from_secs(24 * 3600)),
        }
    }

    /// What an internal service may do that has proved its name by a certificate: as much as by its token.
    ///
    /// # Panics
    /// Never: the id is well-formed.
    pub fn of_certificate(service: &str, now: Timestamp) -> Claims {
        Claims {
            id: "certificate".parse().unwrap_or_else(|error| unreachable!("an id: {error}")),
            class: TokenClass::Service,
            subject: service.to_owned(),
            organization: None,
            orchestrator: None,
            daemon: None,
            login: None,
            key: None,
            scopes: ScopeSet::default(),
            networks: Vec::new(),
            signer: None,
            issued: now,
            expires: now.after(Duration::from_secs(60)),
        }
    }

    /// Whether the holder is an internal service: it has no scopes, only its name.
    pub fn is_internal(&self) -> bool {
        self.class == TokenClass::Service && self.scopes.is_empty()
    }

    /// Who that is, as the policy asks.
    pub fn identity(&self) -> Identity<'_> {
        Identity { class: self.class, name: &self.subject, scopes: self.scopes }
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    networks: Vec<Network>,
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
            networks: claims.networks.clone(),
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
            networks: self.networks,
            signer: None,
            issued: Timestamp::from_millis(self.iat.saturating_mul(1_000)),
            expires: Timestamp::from_millis(self.exp.saturating_mul(1_000)),
        }
    }
}
