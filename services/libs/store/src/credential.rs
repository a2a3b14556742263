//! Organizations, orchestrators, keys, logins, revocations and signing keys.

use std::cmp::Ordering;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use waystation_domain::{
    ApiKeyId, DaemonId, LoginId, Network, OrchestratorId, OrganizationId, ScopeSet, SigningAlgorithm, Timestamp, Window,
};
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Messages that the organization may send in a second, over all routers; `None`: as routers are configured.
    pub messages_per_second: Option<u32>,
    /// From where its daemons may log in and connect; empty: from everywhere.
    #[serde(default)]
    pub networks: Vec<Network>,
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
            messages_per_second: None,
            networks: Vec::new(),
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

/// Whether an orchestrator may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrchestratorStatus {
    /// It may.
    #[default]
    Active,
    /// It may, and is shown as away.
    Offline,
    /// Nobody logs in as it.
    Disabled,
}

/// What changes of an orchestrator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrchestratorState {
    /// Whether it may be used.
    pub status: OrchestratorStatus,
    /// Since when it is known; `None`: it was never made.
    pub created: Option<Timestamp>,
    /// When its status was last set.
    pub updated: Option<Timestamp>,
}

/// All that a login or a message asks about its addressee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Its tenant, if there is one.
    pub organization: Option<Organization>,
    /// What the tenant has chosen, or the defaults.
    pub settings: OrganizationSettings,
    /// Its record; one that need not be made beforehand may have none.
    pub orchestrator: Option<Orchestrator>,
    /// What changes of it.
    pub state: OrchestratorState,
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

/// Secrets of a key that are valid at once.
const SECRETS: usize = 2;

/// One secret of a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySecret {
    /// Its HMAC.
    pub mac: [u8; 32],
    /// Not valid from then on; `None`: as long as the key.
    pub until: Option<Timestamp>,
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
    /// Newest first; at most two.
    pub secrets: Vec<KeySecret>,
    /// `None`: never.
    pub expires: Option<Timestamp>,
    /// From where it may be used; empty: from everywhere.
    pub networks: Vec<Network>,
    /// Its clients keep one refresh token for the whole login: they cannot store the next one.
    pub stable_refresh: bool,
    /// No login any more.
    pub revoked: bool,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("organization", &self.organization).finish_non_exhaustive()
    }
}

/// What became of a new secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NewSecret {
    /// It is the key's, now or since before.
    Taken,
    /// Two are valid already; the older one ends then.
    TwoAreValid(Option<Timestamp>),
    /// There is no such key, or it has been revoked.
    Unknown,
}

impl ApiKey {
    /// Takes a new secret; the one before ends at `until`. A repeat changes nothing.
    pub(crate) fn take_secret(&mut self, mac: [u8; 32], until: Timestamp, now: Timestamp) -> NewSecret {
        if self.secrets.first().is_some_and(|newest| newest.mac == mac) {
            return NewSecret::Taken;
        }
        let is_valid = |secret: &KeySecret| secret.until.is_none_or(|until| until > now);
        let mut secrets: Vec<KeySecret> = self.secrets.iter().filter(|secret| is_valid(secret)).cloned().collect();
        for secret in &mut secrets {
            secret.until = Some(secret.until.map_or(until, |ends| ends.min(until)));
        }
        secrets.retain(is_valid);
        if secrets.len() >= SECRETS {
            return NewSecret::TwoAreValid(self.secrets.last().and_then(|older| older.until));
        }
        secrets.insert(0, KeySecret { mac, until: None });
        self.secrets = secrets;
        NewSecret::Taken
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
    /// The refresh token stays the same.
    #[serde(default)]
    pub stable: bool,
    /// From where its tokens may be used; empty: from everywhere.
    #[serde(default)]
    pub networks: Vec<Network>,
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
    /// How it signs.
    pub algorithm: SigningAlgorithm,
    /// What the key is made from, together with the pepper: whoever reads the store alone cannot sign.
    pub seed: [u8; 32],
    /// It signs from then on, until another does.
    pub active: Timestamp,
    /// Its tokens are not valid from then on; `None`: no other has taken its place yet.
    pub gone: Option<Timestamp>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where a signing key stands in its life. It is published in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum KeyPhase {
    /// Published, so that all verifiers know it before it signs.
    Next,
    /// Signs.
    Active,
    /// Its tokens are still valid.
    Retiring,
}

/// A key that shall sign from now on, or a little later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSigningKey {
    /// `kid`.
    pub id: String,
    /// How it signs.
    pub algorithm: SigningAlgorithm,
    /// What it is made from.
    pub seed: [u8; 32],
    /// How long it is published before it signs.
    pub lead: Duration,
    /// How long tokens of the one before stay valid after that.
    pub retiring: Duration,
}

/// The signing keys of a cell, the one that signs latest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKeys(pub Vec<SigningKey>);

impl SigningKeys {
    /// Where each key stands; keys that are gone are left out.
    pub fn phases(&self, now: Timestamp) -> impl Iterator<Item = (&SigningKey, KeyPhase)> {
        let active = self.0.iter().rposition(|key| key.active <= now).unwrap_or(0);
        self.0.iter().enumerate().filter(move |(_, key)| key.gone.is_none_or(|gone| gone > now)).map(
            move |(at, key)| {
                let phase = match at.cmp(&active) {
                    Ordering::Less => KeyPhase::Retiring,
                    Ordering::Equal => KeyPhase::Active,
                    Ordering::Greater => KeyPhase::Next,
                };
                (key, phase)
            },
        )
    }

    /// Takes a key as the next one. While one waits already only a key that signs at once is taken, in place of all
    /// others. Answers whether it was taken, now or before.
    pub(crate) fn take(&mut self, new: NewSigningKey, now: Timestamp) -> bool {
        if self.0.iter().any(|key| key.id == new.id) {
            return true;
        }
        if !new.lead.is_zero() && self.phases(now).any(|(_, phase)| phase == KeyPhase::Next) {
            return false;
        }
        let NewSigningKey { id, algorithm, seed, lead, retiring } = new;
        let active = now.after(lead);
        // A key that waits behind one that signs at once never signs.
        self.0.retain(|key| key.active <= now && key.gone.is_none_or(|gone| gone > now));
        for key in &mut self.0 {
            let gone = active.after(retiring);
            key.gone = Some(key.gone.map_or(gone, |known| known.min(gone)));
        }
        self.0.retain(|key| key.gone.is_none_or(|gone| gone > now));
        self.0.push(SigningKey { id, algorithm, seed, active, gone: None });
        true
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
    /// Says whether an orchestrator may be used; answers whether there is such a tenant. It need not have been made.
    async fn set_orchestrator_status(
        &self,
        organization: &OrganizationId,
        id: &OrchestratorId,
        status: OrchestratorStatus,
        now: Now,
    ) -> Result<bool, Unavailable>;
    /// Gives a key a new secret; the one before is valid until `until`.
    async fn take_secret(
        &self,
        id: &ApiKeyId,
        mac: [u8; 32],
        until: Timestamp,
        now: Now,
    ) -> Result<NewSecret, Unavailable>;
    /// The signing keys.
    async fn signing_keys(&self) -> Result<SigningKeys, Unavailable>;
    /// Takes a signing key, see [`NewSigningKey`]; of one without lead only if there is none yet.
    async fn first_signing_key(&self, new: NewSigningKey, now: Now) -> Result<SigningKeys, Unavailable>;
    /// Takes the next signing key; answers whether it was taken: while one waits to sign, no other can.
    async fn rotate_signing_key(&self, new: NewSigningKey, now: Now) -> Result<bool, Unavailable>;
    /// Presents refresh token number `counter` of a login.
    async fn rotate(&self, login: &LoginId, counter: u32, now: Now) -> Result<Rotation, Unavailable>;
    /// Revokes; the moment of the revocation is the store's.
    async fn revoke(&self, organization: &OrganizationId, revoked: Revoked, now: Now) -> Result<(), Unavailable>;
    /// A tenant.
    async fn organization(&self, id: &OrganizationId) -> Result<Option<Organization>, Unavailable>;
    /// The settings of a tenant, or the defaults.
    async fn settings(&self, organization: &OrganizationId) -> Result<OrganizationSettings, Unavailable>;
    /// All that a login or a message asks about its addressee.
    async fn subject(&self, organization: &OrganizationId, id: &OrchestratorId) -> Result<Subject, Unavailable>;
    /// Addressees that were made, in the order of their ids, after one.
    async fn orchestrators(
        &self,
        organization: &OrganizationId,
        after: &str,
        most: usize,
    ) -> Result<Vec<(Orchestrator, OrchestratorState)>, Unavailable>;
    /// Keys of a tenant, in the order of their ids, after one.
    async fn api_keys(
        &self,
        organization: &OrganizationId,
        after: &str,
        most: usize,
    ) -> Result<Vec<ApiKey>, Unavailable>;
    /// A key.
    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, Unavailable>;
    /// A login.
    async fn login(&self, id: &LoginId) -> Result<Option<Login>, Unavailable>;
    /// Revocations after a cursor, oldest first, each with its cursor.
    async fn revocations(&self, after: u64) -> Result<Vec<(u64, Revocation)>, Unavailable>;
}
