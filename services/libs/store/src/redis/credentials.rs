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
    reply::json(value)
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
        parent: Option<&OrganizationId>,
        now: Now,
    ) -> Result<Created, Unavailable> {
        let mut args = Args::default();
        args.text(kind).text(id).push(record_text(record)?);
        args.text(parent.map_or("", |parent| parent.as_str()));
        created(self.credential(Script::CreateRecord, args, now).await?)
    }

    /// A record, and whether it has been revoked.
    async fn record<T: DeserializeOwned>(&self, kind: &str, id: &str) -> Result<Option<(T, bool)>, Unavailable> {
        let mut args = Args::default();
        args.text(kind).text(id);
        let mut answer = reply::list(self.credential(Script::GetRecord, args, None).await?)?;
        let Some(record) = answer.next() else { return Ok(None) };
        Ok(Some((record_of(record)?, reply::number(reply::next(&mut answer)?)? == 1)))
    }
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
        self.create((ORCHESTRATORS, &id), &orchestrator, Some(&orchestrator.organization), now).await
    }

    async fn create_api_key(&self, key: ApiKey, now: Now) -> Result<Created, Unavailable> {
        self.create((KEYS, key.id.as_str()), &key, Some(&key.organization), now).await
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

    async fn signing_key(&self, unless_any: SigningKey, now: Now) -> Result<SigningKey, Unavailable> {
        let mut args = Args::default();
        args.push(record_text(&unless_any)?);
        record_of(self.credential(Script::SigningKey, args, now).await?)
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
        Ok(self.record(ORGANIZATIONS, id.as_str()).await?.map(|(record, _)| record))
    }

    async fn settings(&self, organization: &OrganizationId) -> Result<OrganizationSettings, Unavailable> {
        Ok(self.record(SETTINGS, organization.as_str()).await?.map(|(record, _)| record).unwrap_or_default())
    }

    async fn orchestrator(
        &self,
        organization: &OrganizationId,
        id: &OrchestratorId,
    ) -> Result<Option<Orchestrator>, Unavailable> {
        Ok(self.record(ORCHESTRATORS, &format!("{organization}/{id}")).await?.map(|(record, _)| record))
    }

    async fn api_key(&self, id: &ApiKeyId) -> Result<Option<ApiKey>, Unavailable> {
        let found = self.record::<ApiKey>(KEYS, id.as_str()).await?;
        Ok(found.map(|(key, revoked)| ApiKey { revoked: key.revoked || revoked, ..key }))
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
