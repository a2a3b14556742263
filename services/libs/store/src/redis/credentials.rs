//! Organizations, keys, logins and revocations. All live in one slot: there are few, and they belong together.

use async_trait::async_trait;
use redis::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use waystation_domain::{ApiKeyId, LoginId, OrchestratorId, OrganizationId, Timestamp};

use super::keys::{CREDENTIALS, Place};
use super::reply::{self, odd};
use super::scripts::Script;
use super::{Args, Redis};
use crate::credential::*;
use crate::mailbox::Now;
use crate::{Unavailable, limits};

const ORGANIZATIONS: &str = "organizations";
const SETTINGS: &str = "settings";
const ORCHESTRATORS: &str = "orchestrators";
const KEYS: &str = "keys";
const SIGNING: &str = "signing_keys";
/// The one record of its kind.
const ALL: &str = "all";

/// A record as it was found.
struct Found<T> {
    record: Option<T>,
    /// As it stands in the store; empty if it is not there.
    text: String,
    revoked: bool,
    /// By the store's clock.
    now: Timestamp,
}

/// A revocation as the log keeps it; its moment stands beside it.
#[derive(Serialize, Deserialize)]
struct Entry {
    organization: OrganizationId,
    revoked: Revoked,
}

fn key_mark(id: &ApiKeyId) -> String {
    format!("k:{id}")
}

fn orchestrator_mark(organization: &OrganizationId, id: &OrchestratorId) -> String {
    format!("o:{organization}/{id}")
}

fn organization_mark(id: &OrganizationId) -> String {
    format!("t:{id}")
}

fn record_text(record: &impl Serialize) -> Result<String, Unavailable> {
    serde_json::to_string(record).map_err(odd)
}

fn record_of<T: DeserializeOwned>(value: Value) -> Result<T, Unavailable> {
    record_of_text(&reply::text(value)?)
}

/// A record of now, or of an earlier form: keys had one secret.
fn record_of_text<T: DeserializeOwned>(text: &str) -> Result<T, Unavailable> {
    let error = match serde_json::from_str(text) {
        Ok(record) => return Ok(record),
        Err(error) => error,
    };
    let mut record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).map_err(odd)?;
    let mac = record.remove("mac").ok_or_else(|| odd(error))?;
    record.insert("secrets".to_owned(), serde_json::json!([{"mac": mac, "until": null}]));
    record.insert("networks".to_owned(), serde_json::json!([]));
    record.insert("stable_refresh".to_owned(), serde_json::json!(false));
    serde_json::from_value(record.into()).map_err(odd)
}

fn created(answer: Value) -> Result<Created, Unavailable> {
    match reply::number(answer)? {
        1 => Ok(Created::Yes),
        2 => Ok(Created::NoParent),
        _ => Ok(Created::Conflict),
    }
}

fn login_kept() -> u128 {
    limits::LOGIN_AGE.as_millis()
}

/// The login with what has changed since it began.
fn login_of(mut fields: impl Iterator<Item = Value>) -> Result<Login, Unavailable> {
    let mut login: Login = record_of(reply::next(&mut fields)?)?;
    login.counter = u32::try_from(reply::number(reply::next(&mut fields)?)?).map_err(odd)?;
    login.rotated = Timestamp::from_millis(reply::number(reply::next(&mut fields)?)?);
    Ok(login)
}

impl Redis {
    async fn credential(&self, script: Script, args: Args, now: Now) -> Result<Value, Unavailable> {
        Ok(self.run(Place::Credentials, script, &[CREDENTIALS], args, now).await?)
    }

    async fn create(
        &self,
        (kind, id): (&str, &str),
        record: &(impl Serialize + Sync),
        listed: Option<(&OrganizationId, &str)>,
        now: Now,
    ) -> Result<Created, Unavailable> {
        let mut args = Args::default();
        args.text(kind).text(id).push(record_text(record)?);
        let (parent, member) = listed.map_or(("", ""), |(parent, member)| (parent.as_str(), member));
        args.text(parent).text(member);
        created(self.credential(Script::CreateRecord, args, now).await?)
    }

    async fn found<T: DeserializeOwned>(&self, kind: &str, id: &str, now: Now) -> Result<Found<T>, Unavailable> {
        let mut args = Args::default();
        args.text(kind).text(id);
        let mut answer = reply::list(self.credential(Script::GetRecord, args, now).await?)?;
        let text = reply::text(reply::next(&mut answer)?)?;
        let record = if text.is_empty() { None } else { Some(record_of_text(&text)?) };
        let revoked = reply::number(reply::next(&mut answer)?)? == 1;
        Ok(Found { record, text, revoked, now: Timestamp::from_millis(reply::number(reply::next(&mut answer)?)?) })
    }

    /// Puts a record in the place of the one that was found; answers whether nobody was faster.
    async fn swap(
        &self,
        (kind, id): (&str, &str),
        found: &str,
        record: &(impl Serialize + Sync),
        now: Now,
    ) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.text(kind).text(id).text(found).push(record_text(record)?);
        Ok(reply::number(self.credential(Script::SwapRecord, args, now).await?)? == 1)
    }

    /// Changes the signing keys by a rule; answers them as they are then, and what the rule answered.
    async fn change_signing_keys<T: Send>(
        &self,
        change: impl Fn(&mut SigningKeys, Timestamp) -> T + Send + Sync,
        now: Now,
    ) -> Result<(SigningKeys, T), Unavailable> {
        loop {
            let found = self.found::<SigningKeys>(SIGNING, ALL, now).await?;
            let before = found.record.unwrap_or_default();
            let mut keys = before.clone();
            let answer = change(&mut keys, found.now);
            if keys == before || self.swap((SIGNING, ALL), &found.text, &keys, now).await? {
                return Ok((keys, answer));
            }
        }
    }

    async fn listed(
        &self,
        kind: &str,
        organization: &OrganizationId,
        (after, most): (&str, usize),
        prefix: &str,
    ) -> Result<impl Iterator<Item = Result<std::vec::IntoIter<Value>, Unavailable>>, Unavailable> {
        let mut args = Args::default();
        args.text(kind).text(organization.as_str()).text(after).number(most).text(prefix);
        Ok(reply::list(self.credential(Script::ListRecords, args, None).await?)?.map(reply::list))
    }
}

fn status_to(status: OrchestratorStatus) -> &'static str {
    match status {
        OrchestratorStatus::Active => "active",
        OrchestratorStatus::Offline => "offline",
        OrchestratorStatus::Disabled => "disabled",
    }
}

/// Status, creation and last change.
fn state_of(fields: &mut impl Iterator<Item = Value>) -> Result<OrchestratorState, Unavailable> {
    let status = match reply::text(reply::next(fields)?)?.as_str() {
        "" | "active" => OrchestratorStatus::Active,
        "offline" => OrchestratorStatus::Offline,
        "disabled" => OrchestratorStatus::Disabled,
        other => return Err(odd(other)),
    };
    let mut time = || -> Result<Option<Timestamp>, Unavailable> {
        let text = reply::text(reply::next(fields)?)?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Timestamp::from_millis).map(Some).map_err(odd) }
    };
    Ok(OrchestratorState { status, created: time()?, updated: time()? })
}

fn optional<T: DeserializeOwned>(value: Value) -> Result<Option<T>, Unavailable> {
    let text = reply::text(value)?;
    if text.is_empty() { Ok(None) } else { serde_json::from_str(&text).map(Some).map_err(odd) }
}

fn key_of(record: Value, revoked: Value) -> Result<ApiKey, Unavailable> {
    let key: ApiKey = record_of(record)?;
    let revoked = reply::number(revoked)? == 1;
    Ok(ApiKey { revoked: key.revoked || revoked, ..key })
}

#[async_trait]
impl CredentialStore for Redis {
    async fn create_organization(&self, organization: Organization, now: Now) -> Result<Created, Unavailable> {
        self.create((ORGANIZATIONS, organization.id.as_str()), &organization, None, now).await
    }

    async fn set_settings(
        &self,
        organization: &OrganizationId,
        settings: OrganizationSettings,
        now: Now,
    ) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.text(SETTINGS).text(organization.as_str()).push(record_text(&settings)?).text(organization.as_str());
        Ok(reply::number(self.credential(Script::ReplaceRecord, args, now).await?)? == 1)
    }

    async fn create_orchestrator(&self, orchestrator: Orchestrator, now: Now) -> Result<Created, Unavailable> {
        let id = format!("{}/{}", orchestrator.organization, orchestrator.id);
        let listed = (&orchestrator.organization, orchestrator.id.as_str());
        self.create((ORCHESTRATORS, &id), &orchestrator, Some(listed), now).await
    }

    async fn create_api_key(&self, key: ApiKey, now: Now) -> Result<Created, Unavailable> {
        self.create((KEYS, key.id.as_str()), &key, Some((&key.organization, key.id.as_str())), now).await
    }

    async fn create_login(&self, login: Login, now: Now) -> Result<Created, Unavailable> {
        let marks = [
            key_mark(&login.key),
            orchestrator_mark(&login.organization, &login.orchestrator),
            organization_mark(&login.organization),
        ];
        // What changes later is compared by itself.
        let unchanging = Login { counter: 0, rotated: Timestamp::default(), revoked: false, ..login.clone() };
        let mut args = Args::default();
        args.text(login.id.as_str()).push(record_text(&unchanging)?).number(login.counter);
        args.number(login.rotated.as_millis()).number(u8::from(login.revoked)).push(marks.join(" "));
        args.number(login_kept());
        created(self.credential(Script::CreateLogin, args, now).await?)
    }

    async fn set_orchestrator_status(
        &self,
        organization: &OrganizationId,
        id: &OrchestratorId,
        status: OrchestratorStatus,
        now: Now,
    ) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.text(organization.as_str()).text(id.as_str()).text(status_to(status));
        Ok(reply::number(self.credential(Script::SetStatus, args, now).await?)? == 1)
    }

    async fn take_secret(
        &self,
        id: &ApiKeyId,
        mac: [u8; 32],
        until: Timestamp,
        now: Now,
    ) -> Result<NewSecret, Unavailable> {
        loop {
            let found = self.found::<ApiKey>(KEYS, id.as_str(), now).await?;
            let Some(before) = found.record.filter(|key| !key.revoked && !found.revoked) else {
                return Ok(NewSecret::Unknown);
            };
            let mut key = before.clone();
            let answer = key.take_secret(mac, until, found.now);
            if key == before || self.swap((KEYS, id.as_str()), &found.text, &key, now).await? {
                return Ok(answer);
            }
        }
    }

    async fn signing_keys(&self) -> Result<SigningKeys, Unavailable> {
        Ok(self.found(SIGNING, ALL, None).await?.record.unwrap_or_default())
    }

    async fn first_signing_key(&self, new: NewSigningKey, now: Now) -> Result<SigningKeys, Unavailable> {
        let take = |keys: &mut SigningKeys, now| keys.0.is_empty() && keys.take(new.clone(), now);
        self.change_signing_keys(take, now).await.map(|(keys, _)| keys)
    }

    async fn rotate_signing_key(&self, new: NewSigningKey, now: Now) -> Result<bool, Unavailable> {
        let take = |keys: &mut SigningKeys, now| keys.take(new.clone(), now);
        self.change_signing_keys(take, now).await.map(|(_, taken)| taken)
    }

    async fn rotate(&self, login: &LoginId, counter: u32, now: Now) -> Result<Rotation, Unavailable> {
        let mut args = Args::default();
        args.text(login.as_str()).number(counter).number(login_kept());
        let mut answer = reply::list(self.credential(Script::Rotate, args, now).await?)?;
        match reply::text(reply::next(&mut answer)?)?.as_str() {
            "valid" => Ok(Rotation::Valid(login_of(answer)?)),
            "reused" => Ok(Rotation::Reused),
            "revoked" => Ok(Rotation::Revoked),
            "unknown" => Ok(Rotation::Unknown),
            other => Err(odd(other)),
        }
    }

    async fn revoke(&self, organization: &OrganizationId, revoked: Revoked, now: Now) -> Result<(), Unavailable> {
        let (mark, login, key) = match &revoked {
            Revoked::Token(_) => (String::new(), "", ""),
            Revoked::Login(id) => (String::new(), id.as_str(), ""),
            Revoked::ApiKey(id) => (key_mark(id), "", id.as_str()),
            Revoked::Orchestrator(id) => (orchestrator_mark(organization, id), "", ""),
            Revoked::Organization => (organization_mark(organization), "", ""),
        };
        let entry = Entry { organization: organization.clone(), revoked: revoked.clone() };
        let mut args = Args::default();
        args.push(record_text(&entry)?).push(mark).text(login).text(key);
        self.credential(Script::Revoke, args, now).await.map(drop)
    }

    async fn organization(&self, id: &OrganizationId) -> Result<Option<Organization>, Unavailable> {
        Ok(self.found(ORGANIZATIONS, id.as_str(), None).await?.record)
    }

    async fn settings(&self, organization: &OrganizationId) -> Result<OrganizationSettings, Unavailable> {
        Ok(self.found(SETTINGS, organization.as_str(), None).await?.record.unwrap_or_default())
    }

    async fn subject(&self, organization: &OrganizationId, id: &OrchestratorId) -> Result<Subject, Unavailable> {
        let mut args = Args::default();
        args.text(organization.as_str()).text(id.as_str());
        let mut fields = reply::list(self.credential(Script::Subject, args, None).await?)?;
        Ok(Subject {
            organization: optional(reply::next(&mut fields)?)?,
            settings: optional(reply::next(&mut fields)?)?.unwrap_or_default(),
            orchestrator: optional(reply::next(&mut fields)?)?,
            state: state_of(&mut fields)?,
        })
    }

    async fn orchestrators(
        &self,
        organization: &OrganizationId,
        after: &str,
        most: usize,
    ) -> Result<Vec<(Orchestrator, OrchestratorState)>, Unavailable> {
        let prefix = format!("{organization}/");
        let each = self.listed(ORCHESTRATORS, organization, (after, most), &prefix).await?;
        each.map(|fields| {
            let mut fields = fields?;
            let record = record_of(reply::next(&mut fields)?)?;
            reply::next(&mut fields)?;
            Ok((record, state_of(&mut fields)?))
        })
        .collect()
    }

    async fn api_keys(
        &self,
        organization: &OrganizationId,
        after: &str,
        most: usize,
    ) -> Result<Vec<ApiKey>, Unavailable> {
        let each = self.listed(KEYS, organization, (after, most), "").await?;
        each.map(|fields| {
            let mut fields = fields?;
            key_of(reply::next(&mut fields)?, reply::next(&mut fields)?)
        })
        .collect()
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, Unavailable> {
        let found = self.found::<ApiKey>(KEYS, id.as_str(), None).await?;
        Ok(found.record.map(|key| ApiKey { revoked: key.revoked || found.revoked, ..key }))
    }

    async fn login(&self, id: &LoginId) -> Result<Option<Login>, Unavailable> {
        let mut args = Args::default();
        args.text(id.as_str());
        let mut answer: Vec<Value> = reply::list(self.credential(Script::GetLogin, args, None).await?)?.collect();
        let Some(ended) = answer.pop() else { return Ok(None) };
        let login = login_of(answer.into_iter())?;
        Ok(Some(Login { revoked: reply::number(ended)? == 1, ..login }))
    }

    async fn revocations(&self, after: u64) -> Result<Vec<(u64, Revocation)>, Unavailable> {
        let mut args = Args::default();
        args.number(after);
        let each = reply::list(self.credential(Script::Revocations, args, None).await?)?.map(|one| {
            let mut fields = reply::list(one)?;
            let cursor = reply::number(reply::next(&mut fields)?)?;
            let Entry { organization, revoked } = record_of(reply::next(&mut fields)?)?;
            let at = Timestamp::from_millis(reply::number(reply::next(&mut fields)?)?);
            Ok((cursor, Revocation { organization, revoked, at }))
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_earlier_forms_are_read() {
        let mac: Vec<u8> = vec![7; 32];
        let key = serde_json::json!({
            "id": "k1", "organization": "acme", "orchestrator": null, "scopes": 3, "mac": mac, "expires": null,
            "revoked": false,
        });
        let key: ApiKey = record_of_text(&key.to_string()).unwrap();
        assert_eq!((key.secrets.len(), key.secrets[0].mac, key.secrets[0].until), (1, [7; 32], None));
        assert!(key.networks.is_empty() && !key.stable_refresh);
        let login = serde_json::json!({
            "id": "l1", "organization": "acme", "orchestrator": "orla", "daemon": null, "key": "k1", "scopes": 3,
            "counter": 1, "rotated": 5, "revoked": false,
        });
        let login: Login = record_of_text(&login.to_string()).unwrap();
        assert!(!login.stable && login.networks.is_empty());
        let mut settings = serde_json::to_value(OrganizationSettings::default()).unwrap();
        settings.as_object_mut().unwrap().retain(|name, _| name != "networks" && name != "messages_per_second");
        let settings: OrganizationSettings = record_of_text(&settings.to_string()).unwrap();
        assert_eq!(settings, OrganizationSettings::default());
        assert!(record_of_text::<ApiKey>("{}").is_err());
    }
}
