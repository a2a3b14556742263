//! Organizations, orchestrators, keys, logins, revocations and signing keys.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use waystation_domain::{ApiKeyId, DaemonId, LoginId, OrchestratorId, OrganizationId, ScopeSet, Timestamp, Window};
pub use waystation_domain::{Revocation, Revoked};

use crate::mailbox::{MailboxLimits, Now};
use crate::{Unavailable, limits};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Id.
    pub id: OrganizationId,
    /// Display name.
    pub name: String,
    /// Short name.
    pub slug: String,
    /// Any well-formed orchestrator id may log in and be routed to.
    pub auto_create_orchestrators: bool,
}

/// What an organization may choose. Whatever it does not choose has its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationSettings {
    /// Caps of its mailboxes.
    pub mailbox: MailboxLimits,
    /// Time to live of a message whose caller names none.
    pub time_to_live: Duration,
    /// Longest that a caller may name; at most [`limits::TIME_TO_LIVE`].
    pub longest_time_to_live: Duration,
    /// Counted frames that a client may send in a minute; `None`: as the gateway is configured.
    pub frames_per_minute: Option<u32>,
    /// The same for a client that announces itself.
    pub frames_per_minute_announced: Option<u32>,
    /// Largest window that a client gets.
    pub window: Window,
    /// Live sessions of an orchestrator; `None`: as the router is configured.
    pub sessions: Option<u32>,
    /// Whether any well-formed orchestrator id may log in and be routed to; `None`: as it was created.
    pub auto_create_orchestrators: Option<bool>,
}

impl Default for OrganizationSettings {
    fn default() -> Self {
        OrganizationSettings {
            mailbox: MailboxLimits::default(),
            time_to_live: limits::TIME_TO_LIVE,
            longest_time_to_live: limits::TIME_TO_LIVE,
            frames_per_minute: None,
            frames_per_minute_announced: None,
            window: Window::LARGEST,
            sessions: None,
            auto_create_orchestrators: None,
        }
    }
}

/// An addressee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orchestrator {
    /// Tenant.
    pub organization: OrganizationId,
    /// Id within it.
    pub id: OrchestratorId,
    /// Shown to people.
    pub display: Display,
}

/// Shown to people, never judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Display {
    /// Field of work.
    pub discipline: String,
    /// Role.
    pub role: String,
    /// Name.
    pub user_name: String,
    /// E-mail.
    pub user_email: String,
}

/// What is kept of an API key: never its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Id.
    pub id: ApiKeyId,
    /// Tenant.
    pub organization: OrganizationId,
    /// `None`: every orchestrator of the organization.
    pub orchestrator: Option<OrchestratorId>,
    /// What its logins may have.
    pub scopes: ScopeSet,
    /// HMAC of the secret.
    pub mac: [u8; 32],
    /// `None`: never.
    pub expires: Option<Timestamp>,
    /// No login any more.
    pub revoked: bool,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("organization", &self.organization).finish_non_exhaustive()
    }
}

/// A token family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Id.
    pub id: LoginId,
    /// Tenant.
    pub organization: OrganizationId,
    /// Whose login.
    pub orchestrator: OrchestratorId,
    /// If bound to one.
    pub daemon: Option<DaemonId>,
    /// The key that was used.
    pub key: ApiKeyId,
    /// Granted.
    pub scopes: ScopeSet,
    /// Number of the refresh token that is valid now.
    pub counter: u32,
    /// When it became so.
    pub rotated: Timestamp,
    /// No token any more.
    pub revoked: bool,
}

/// What a presented refresh token gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Rotation {
    /// The token with the login's new number. Within the grace also for the one before.
    Valid(Login),
    /// An old one was used again: the login has been revoked.
    Reused,
    /// The login had been revoked.
    Revoked,
    /// No such login.
    Unknown,
}

/// A private key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// `kid` of its tokens.
    pub id: String,
    /// Ed25519 seed.
    pub seed: [u8; 32],
    /// Since when.
    pub created: Timestamp,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whether a record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Created {
    /// It is there, now or since before with the same content.
    Yes,
    /// One of that id is there with other content.
    Conflict,
    /// What it belongs to is not there.
    NoParent,
}

/// Credentials. Every method is one atomic step and may be repeated.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// Makes a tenant.
    async fn create_organization(&self, organization: Organization, now: Now) -> Result<Created, Unavailable>;
    /// Replaces the settings of a tenant; answers whether there is such a tenant.
    async fn set_settings(
        &self,
        organization: &OrganizationId,
        settings: OrganizationSettings,
        now: Now,
    ) -> Result<bool, Unavailable>;
    /// Makes an addressee.
    async fn create_orchestrator(&self, orchestrator: Orchestrator, now: Now) -> Result<Created, Unavailable>;
    /// Makes a key.
    async fn create_api_key(&self, key: ApiKey, now: Now) -> Result<Created, Unavailable>;
    /// Begins a login.
    async fn create_login(&self, login: Login, now: Now) -> Result<Created, Unavailable>;
    /// Keeps the key unless there is one; answers the one that is kept.
    async fn signing_key(&self, unless_any: SigningKey, now: Now) -> Result<SigningKey, Unavailable>;
    /// Presents refresh token number `counter` of a login.
    async fn rotate(&self, login: &LoginId, counter: u32, now: Now) -> Result<Rotation, Unavailable>;
    /// Revokes; the moment of the revocation is the store's.
    async fn revoke(&self, organization: &OrganizationId, revoked: Revoked, now: Now) -> Result<(), Unavailable>;
    /// A tenant.
    async fn organization(&self, id: &OrganizationId) -> Result<Option<Organization>, Unavailable>;
    /// The settings of a tenant, or the defaults.
    async fn settings(&self, organization: &OrganizationId) -> Result<OrganizationSettings, Unavailable>;
    /// An addressee.
    async fn orchestrator(
        &self,
        organization: &OrganizationId,
        id: &OrchestratorId,
    ) -> Result<Option<Orchestrator>, Unavailable>;
    /// A key.
    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, Unavailable>;
    /// A login.
    async fn login(&self, id: &LoginId) -> Result<Option<Login>, Unavailable>;
    /// Revocations after a cursor, oldest first, each with its cursor.
    async fn revocations(&self, after: u64) -> Result<Vec<(u64, Revocation)>, Unavailable>;
}
