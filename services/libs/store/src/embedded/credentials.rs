//! Organizations, keys, logins and revocations.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use waystation_domain::{ApiKeyId, LoginId, OrchestratorId, OrganizationId, Timestamp};

use crate::credential::{
    ApiKey, Created, Login, NewSecret, NewSigningKey, Orchestrator, OrchestratorState, OrchestratorStatus,
    Organization, OrganizationSettings, Revocation, Revoked, Rotation, SigningKeys, Subject,
};
use crate::limits;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Credentials {
    organizations: BTreeMap<OrganizationId, Organization>,
    settings: BTreeMap<OrganizationId, OrganizationSettings>,
    orchestrators: BTreeMap<(OrganizationId, OrchestratorId), Orchestrator>,
    /// What changes of them, and of those that were never made.
    states: BTreeMap<(OrganizationId, OrchestratorId), OrchestratorState>,
    keys: BTreeMap<ApiKeyId, ApiKey>,
    logins: HashMap<LoginId, Login>,
    signing_keys: SigningKeys,
    revocations: VecDeque<(u64, Revocation)>,
    /// Cursor of the last revocation.
    cursor: u64,
    /// When logins were last looked through for forgotten ones.
    swept: Timestamp,
}

/// Makes a record, unless there is one.
fn create<K: Ord, V: PartialEq>(records: &mut BTreeMap<K, V>, key: K, record: V) -> Created {
    match records.get(&key) {
        Some(known) if *known == record => Created::Yes,
        Some(_) => Created::Conflict,
        None => {
            records.insert(key, record);
            Created::Yes
        }
    }
}

impl Credentials {
    pub(super) fn create_organization(&mut self, record: Organization) -> Created {
        create(&mut self.organizations, record.id.clone(), record)
    }

    pub(super) fn set_settings(&mut self, organization: OrganizationId, settings: OrganizationSettings) -> bool {
        let known = self.organizations.contains_key(&organization);
        if known {
            self.settings.insert(organization, settings);
        }
        known
    }

    pub(super) fn settings(&self, organization: &OrganizationId) -> OrganizationSettings {
        self.settings.get(organization).cloned().unwrap_or_default()
    }

    pub(super) fn create_orchestrator(&mut self, record: Orchestrator, now: Timestamp) -> Created {
        if !self.organizations.contains_key(&record.organization) {
            return Created::NoParent;
        }
        let key = (record.organization.clone(), record.id.clone());
        let created = create(&mut self.orchestrators, key.clone(), record);
        if created == Created::Yes {
            self.states.entry(key).or_default().created.get_or_insert(now);
        }
        created
    }

    pub(super) fn set_orchestrator_status(
        &mut self,
        key: (OrganizationId, OrchestratorId),
        status: OrchestratorStatus,
        now: Timestamp,
    ) -> bool {
        if !self.organizations.contains_key(&key.0) {
            return false;
        }
        let state = self.states.entry(key).or_default();
        (state.status, state.updated) = (status, Some(now));
        true
    }

    pub(super) fn create_api_key(&mut self, record: ApiKey) -> Created {
        if !self.organizations.contains_key(&record.organization) {
            return Created::NoParent;
        }
        create(&mut self.keys, record.id.clone(), record)
    }

    pub(super) fn create_login(&mut self, record: Login) -> Created {
        match self.logins.get(&record.id) {
            Some(known) if *known == record => Created::Yes,
            Some(_) => Created::Conflict,
            None => {
                self.logins.insert(record.id.clone(), record);
                Created::Yes
            }
        }
    }

    pub(super) fn take_secret(&mut self, id: &ApiKeyId, mac: [u8; 32], until: Timestamp, now: Timestamp) -> NewSecret {
        let key = self.keys.get_mut(id).filter(|key| !key.revoked);
        key.map_or(NewSecret::Unknown, |key| key.take_secret(mac, until, now))
    }

    pub(super) fn first_signing_key(&mut self, new: NewSigningKey, now: Timestamp) -> SigningKeys {
        if self.signing_keys.0.is_empty() {
            self.signing_keys.take(new, now);
        }
        self.signing_keys.clone()
    }

    pub(super) fn rotate_signing_key(&mut self, new: NewSigningKey, now: Timestamp) -> bool {
        self.signing_keys.take(new, now)
    }

    pub(super) fn signing_keys(&self) -> &SigningKeys {
        &self.signing_keys
    }

    pub(super) fn rotate(&mut self, id: &LoginId, counter: u32, now: Timestamp) -> Rotation {
        let Some(login) = self.logins.get_mut(id) else { return Rotation::Unknown };
        if login.revoked {
            return Rotation::Revoked;
        }
        if counter == login.counter {
            login.counter += u32::from(!login.stable);
            login.rotated = now;
            return Rotation::Valid(login.clone());
        }
        // Two requests of one client raced, or the first answer was lost: the same successor again.
        if counter + 1 == login.counter && now.since(login.rotated) <= limits::REFRESH_GRACE {
            return Rotation::Valid(login.clone());
        }
        let organization = login.organization.clone();
        self.revoke(organization, Revoked::Login(id.clone()), now);
        Rotation::Reused
    }

    pub(super) fn revoke(&mut self, organization: OrganizationId, revoked: Revoked, now: Timestamp) {
        match &revoked {
            Revoked::Login(id) => self.end_logins(|login| login.id == *id),
            Revoked::ApiKey(id) => {
                if let Some(key) = self.keys.get_mut(id) {
                    key.revoked = true;
                }
                self.end_logins(|login| login.key == *id);
            }
            Revoked::Orchestrator(id) => {
                self.end_logins(|login| login.organization == organization && login.orchestrator == *id);
            }
            Revoked::Organization => self.end_logins(|login| login.organization == organization),
            Revoked::Token(_) => {}
        }
        // Time keeps the cursor ahead of what anybody has seen, even after a loss.
        self.cursor = (self.cursor + 1).max(now.as_millis());
        self.revocations.push_back((self.cursor, Revocation { organization, revoked, at: now }));
    }

    fn end_logins(&mut self, which: impl Fn(&Login) -> bool) {
        for login in self.logins.values_mut().filter(|login| which(login)) {
            login.revoked = true;
        }
    }

    /// Forgets what has no effect any more; answers how much. Logins are looked through once an hour.
    pub(super) fn sweep(&mut self, now: Timestamp) -> usize {
        let before = self.revocations.len() + self.logins.len();
        while self.revocations.front().is_some_and(|(_, old)| now.since(old.at) > limits::REVOCATION_AGE) {
            self.revocations.pop_front();
        }
        if now.since(self.swept).as_secs() < 3600 {
            return before - self.revocations.len() - self.logins.len();
        }
        self.swept = now;
        self.logins.retain(|_, login| now.since(login.rotated) <= limits::LOGIN_AGE);
        before - self.revocations.len() - self.logins.len() + 1
    }

    pub(super) fn organization(&self, id: &OrganizationId) -> Option<&Organization> {
        self.organizations.get(id)
    }

    pub(super) fn subject(&self, organization: &OrganizationId, id: &OrchestratorId) -> Subject {
        let key = (organization.clone(), id.clone());
        Subject {
            organization: self.organizations.get(organization).cloned(),
            settings: self.settings(organization),
            orchestrator: self.orchestrators.get(&key).cloned(),
            state: self.states.get(&key).copied().unwrap_or_default(),
        }
    }

    pub(super) fn orchestrators(
        &self,
        organization: &OrganizationId,
        after: &str,
        most: usize,
    ) -> Vec<(Orchestrator, OrchestratorState)> {
        let of_tenant = self.orchestrators.iter().filter(|((of, id), _)| of == organization && id.as_str() > after);
        let with_state = |(key, record): (&(OrganizationId, OrchestratorId), &Orchestrator)| {
            (record.clone(), self.states.get(key).copied().unwrap_or_default())
        };
        of_tenant.take(most).map(with_state).collect()
    }

    pub(super) fn api_keys(&self, organization: &OrganizationId, after: &str, most: usize) -> Vec<ApiKey> {
        let of_tenant = self.keys.values().filter(|key| key.organization == *organization && key.id.as_str() > after);
        of_tenant.take(most).cloned().collect()
    }

    pub(super) fn api_key(&self, id: &ApiKeyId) -> Option<&ApiKey> {
        self.keys.get(id)
    }

    pub(super) fn login(&self, id: &LoginId) -> Option<&Login> {
        self.logins.get(id)
    }

    pub(super) fn revocations(&self, after: u64) -> Vec<(u64, Revocation)> {
        self.revocations.iter().filter(|(cursor, _)| *cursor > after).cloned().collect()
    }
}
