//! Registries and delegations. They are kept in the partition of their organization.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use redis::{FromRedisValue as _, Value};
use waystation_domain::federation::{Delegation, Registration, Report, Told};
use waystation_domain::{DelegationId, EntryName, OrchestratorId, OrganizationId, Timestamp};

use super::node::CallError;
use super::reply::{self, odd};
use super::scripts::Script;
use super::{Args, Redis};
use crate::Unavailable;
use crate::federation::{Commit, Committed, Entry, FederationStore, Kept, Listed, RegistryPiece};
use crate::mailbox::Now;

/// Where a delegation is in the order in which they were made: texts that are sorted as they are.
fn place_of(created: Timestamp, id: &DelegationId) -> String {
    format!("{:016x}.{id}", created.as_millis())
}

fn kept_of(mut fields: impl Iterator<Item = Value>) -> Result<Kept, Unavailable> {
    let version = reply::number(reply::next(&mut fields)?)?;
    Ok(Kept { version, delegation: reply::json::<Delegation>(reply::next(&mut fields)?)? })
}

fn listed_of(value: Value) -> Result<(OrchestratorId, Option<Listed>), Unavailable> {
    let mut fields = reply::list(value)?;
    let id = reply::parse(&reply::text(reply::next(&mut fields)?)?)?;
    let registered = reply::text(reply::next(&mut fields)?)?;
    let reserved = u32::try_from(reply::number(reply::next(&mut fields)?)?).map_err(odd)?;
    let (report, told) = (reply::text(reply::next(&mut fields)?)?, reply::text(reply::next(&mut fields)?)?);
    let Some((_, json)) = registered.split_once(' ') else { return Ok((id, None)) };
    let registration: Registration = serde_json::from_str(json).map_err(odd)?;
    let report = (!report.is_empty()).then(|| serde_json::from_str::<Report>(&report)).transpose().map_err(odd)?;
    let told = serde_json::from_str::<Told>(&told).map_err(odd)?;
    Ok((id, Some(Listed { registration, reserved, report, told })))
}

impl Redis {
    async fn of_organization(
        &self,
        organization: &OrganizationId,
        script: Script,
        mut args: Args,
        now: Now,
    ) -> Result<Value, CallError> {
        args.0.insert(0, organization.to_string().into());
        self.run_in(self.places.partition_of_organization(organization), script, args, now).await
    }
}

#[async_trait]
impl FederationStore for Redis {
    async fn register_orchestrator(
        &self,
        organization: &OrganizationId,
        registration: Registration,
        told: Told,
        now: Now,
    ) -> Result<(), Unavailable> {
        let json = serde_json::to_string(&registration).map_err(odd)?;
        let mut args = Args::default();
        args.text(registration.id.as_str()).number(registration.max_concurrent).push(json);
        args.push(serde_json::to_string(&told).map_err(odd)?);
        self.of_organization(organization, Script::RegisterOrchestrator, args, now).await?;
        Ok(())
    }

    async fn deregister_orchestrator(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        now: Now,
    ) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.text(orchestrator.as_str());
        Ok(reply::number(self.of_organization(organization, Script::DeregisterOrchestrator, args, now).await?)? == 1)
    }

    async fn report_orchestrator(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        report: Report,
        now: Now,
    ) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.text(orchestrator.as_str()).push(serde_json::to_string(&report).map_err(odd)?);
        Ok(reply::number(self.of_organization(organization, Script::ReportOrchestrator, args, now).await?)? == 1)
    }

    async fn note_standing(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        (was, is): (Told, Told),
        now: Now,
    ) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.text(orchestrator.as_str());
        for told in [was, is] {
            args.push(serde_json::to_string(&told).map_err(odd)?);
        }
        Ok(reply::number(self.of_organization(organization, Script::NoteStanding, args, now).await?)? == 1)
    }

    async fn registries(&self, now: Now) -> Result<Vec<OrganizationId>, Unavailable> {
        let each = (0..self.places.partitions).map(async |partition| {
            reply::list(self.run_in(partition, Script::Registries, Args::default(), now).await?)
        });
        let mut all = Vec::new();
        for answer in try_join_all(each).await? {
            for organization in answer {
                all.push(reply::parse(&reply::text(organization)?)?);
            }
        }
        all.sort();
        Ok(all)
    }

    async fn registry(
        &self,
        organization: &OrganizationId,
        after: u64,
        now: Now,
    ) -> Result<RegistryPiece, Unavailable> {
        let mut args = Args::default();
        args.number(after);
        let mut answer = reply::list(self.of_organization(organization, Script::Registry, args, now).await?)?;
        let version = reply::number(reply::next(&mut answer)?)?;
        let mut changed = answer.map(listed_of).collect::<Result<Vec<_>, _>>()?;
        changed.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(RegistryPiece { version, changed })
    }

    async fn commit(&self, commit: Commit, now: Now) -> Result<Committed, Unavailable> {
        let Commit { organization, expected, delegation, due, entries } = commit;
        let mut args = Args::default();
        args.text(delegation.id.as_str()).number(expected);
        args.text(delegation.holder().map_or("", |holder| holder.as_str())).number(due.as_millis());
        args.push(place_of(delegation.created, &delegation.id));
        args.push(serde_json::to_string(&delegation).map_err(odd)?);
        let grows = expected == 0 || !entries.is_empty();
        for Entry { name, version, value } in entries {
            args.text(name.as_str()).push(format!("{version} {value}"));
        }
        let script = if grows { Script::GrowDelegation } else { Script::CommitDelegation };
        let answer = match self.of_organization(&organization, script, args, now).await {
            Err(CallError::Full) => return Ok(Committed::Full),
            answer => i64::from_redis_value(answer?).map_err(odd)?,
        };
        Ok(match u64::try_from(answer) {
            Ok(0) => Committed::Conflict,
            Ok(version) => Committed::Stored(version),
            Err(_) => Committed::NoSlot,
        })
    }

    async fn delegation(
        &self,
        organization: &OrganizationId,
        id: &DelegationId,
        now: Now,
    ) -> Result<Option<Kept>, Unavailable> {
        let mut args = Args::default();
        args.text(id.as_str());
        let fields = reply::list(self.of_organization(organization, Script::Delegation, args, now).await?)?;
        if fields.len() == 0 { Ok(None) } else { kept_of(fields).map(Some) }
    }

    async fn entries(
        &self,
        organization: &OrganizationId,
        id: &DelegationId,
        names: &[EntryName],
        now: Now,
    ) -> Result<Vec<Entry>, Unavailable> {
        let names: BTreeSet<&EntryName> = names.iter().collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut args = Args::default();
        args.text(id.as_str());
        for name in &names {
            args.text(name.as_str());
        }
        let values = reply::list(self.of_organization(organization, Script::Entries, args, now).await?)?;
        let entry = |(name, value): (&EntryName, Value)| {
            let value = reply::text(value)?;
            let Some((version, value)) = value.split_once(' ') else { return Ok(None) };
            let version = version.parse().map_err(odd)?;
            Ok(Some(Entry { name: name.clone(), version, value: value.to_owned() }))
        };
        let found = names.into_iter().zip(values).map(entry);
        found.filter_map(Result::transpose).collect()
    }

    async fn delegations(
        &self,
        organization: &OrganizationId,
        after: Option<(Timestamp, DelegationId)>,
        most: usize,
        now: Now,
    ) -> Result<Vec<Kept>, Unavailable> {
        let mut args = Args::default();
        args.push(after.map_or(String::new(), |(created, id)| place_of(created, &id))).number(most);
        let answer = reply::list(self.of_organization(organization, Script::Delegations, args, now).await?)?;
        answer.map(|each| kept_of(reply::list(each)?)).collect()
    }

    async fn held_delegations(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        now: Now,
    ) -> Result<Vec<DelegationId>, Unavailable> {
        let mut args = Args::default();
        args.text(orchestrator.as_str());
        let answer = reply::list(self.of_organization(organization, Script::HeldDelegations, args, now).await?)?;
        let ids = answer.map(|id| reply::parse(&reply::text(id)?)).collect::<Result<Vec<DelegationId>, _>>();
        ids.map(|mut ids| {
            ids.sort();
            ids
        })
    }

    async fn due_delegations(&self, most: usize, now: Now) -> Result<Vec<(OrganizationId, DelegationId)>, Unavailable> {
        let each = (0..self.places.partitions).map(async |partition| {
            let mut args = Args::default();
            args.number(most);
            reply::list(self.run_in(partition, Script::DueDelegations, args, now).await?)
        });
        let mut all: Vec<(u64, OrganizationId, DelegationId)> = Vec::new();
        for mut answer in try_join_all(each).await? {
            while let Some(name) = answer.next() {
                let name = reply::text(name)?;
                let at = reply::number(reply::next(&mut answer)?)?;
                let (organization, id) = name.split_once('/').ok_or_else(|| odd(&name))?;
                all.push((at, reply::parse(organization)?, reply::parse(id)?));
            }
        }
        all.sort();
        all.truncate(most);
        Ok(all.into_iter().map(|(_, organization, id)| (organization, id)).collect())
    }

    async fn forget_delegation(
        &self,
        organization: &OrganizationId,
        id: &DelegationId,
        version: u64,
        now: Now,
    ) -> Result<bool, Unavailable> {
        let mut args = Args::default();
        args.text(id.as_str()).number(version);
        Ok(reply::number(self.of_organization(organization, Script::ForgetDelegation, args, now).await?)? == 1)
    }
}
