//! Registries and delegations.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use waystation_domain::federation::{Registration, Report, Told};
use waystation_domain::{DelegationId, EntryName, OrchestratorId, OrganizationId, Timestamp};

use crate::federation::{Commit, Committed, Entry, Kept, Listed, RegistryPiece};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Federation {
    by_organization: HashMap<OrganizationId, Cell>,
    due: BTreeSet<(Timestamp, OrganizationId, DelegationId)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Registered {
    registration: Registration,
    report: Option<Report>,
    told: Told,
}

/// What belongs to one organization.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cell {
    /// Counts changes of the registry.
    version: u64,
    registered: HashMap<OrchestratorId, Registered>,
    /// When each of them was changed last, those who are gone too.
    changed: BTreeMap<OrchestratorId, u64>,
    /// Whose slots are taken, by what.
    held: HashMap<OrchestratorId, BTreeSet<DelegationId>>,
    delegations: HashMap<DelegationId, (Kept, Timestamp)>,
    /// What is shared about them.
    contexts: HashMap<DelegationId, BTreeMap<EntryName, Entry>>,
    /// In the order in which they were made.
    order: BTreeSet<(Timestamp, DelegationId)>,
}

impl Cell {
    fn note(&mut self, orchestrator: &OrchestratorId) {
        self.version += 1;
        self.changed.insert(orchestrator.clone(), self.version);
    }

    fn reserved(&self, orchestrator: &OrchestratorId) -> u32 {
        self.held.get(orchestrator).map_or(0, |held| u32::try_from(held.len()).unwrap_or(u32::MAX))
    }

    fn has_slot(&self, orchestrator: &OrchestratorId) -> bool {
        let registered = self.registered.get(orchestrator);
        registered.is_some_and(|known| self.reserved(orchestrator) < known.registration.max_concurrent)
    }

    fn release(&mut self, orchestrator: &OrchestratorId, id: &DelegationId) {
        if let Some(held) = self.held.get_mut(orchestrator) {
            held.remove(id);
            if held.is_empty() {
                self.held.remove(orchestrator);
            }
        }
        self.note(orchestrator);
    }

    fn listed(&self, orchestrator: &OrchestratorId) -> Option<Listed> {
        let Registered { registration, report, told } = self.registered.get(orchestrator)?;
        let reserved = self.reserved(orchestrator);
        Some(Listed { registration: registration.clone(), reserved, report: report.clone(), told: *told })
    }
}

impl Federation {
    pub(super) fn register(&mut self, organization: OrganizationId, registration: Registration, told: Told) {
        let cell = self.by_organization.entry(organization).or_default();
        cell.note(&registration.id);
        if let Some(known) = cell.registered.get_mut(&registration.id) {
            known.registration = registration;
            return;
        }
        cell.registered.insert(registration.id.clone(), Registered { registration, report: None, told });
    }

    pub(super) fn report(
        &mut self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        report: Report,
    ) -> bool {
        let Some(cell) = self.by_organization.get_mut(organization) else { return false };
        let Some(known) = cell.registered.get_mut(orchestrator) else { return false };
        known.report = Some(report);
        cell.note(orchestrator);
        true
    }

    pub(super) fn note_standing(
        &mut self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        (was, is): (Told, Told),
    ) -> bool {
        let Some(cell) = self.by_organization.get_mut(organization) else { return false };
        let known = cell.registered.get_mut(orchestrator).filter(|known| known.told == was);
        let Some(known) = known else { return false };
        known.told = is;
        cell.note(orchestrator);
        true
    }

    pub(super) fn deregister(&mut self, organization: &OrganizationId, orchestrator: &OrchestratorId) -> bool {
        let Some(cell) = self.by_organization.get_mut(organization) else { return false };
        let was = cell.registered.remove(orchestrator).is_some();
        if was {
            cell.note(orchestrator);
        }
        was
    }

    pub(super) fn registries(&self) -> Vec<OrganizationId> {
        let with_some = self.by_organization.iter().filter(|(_, cell)| !cell.registered.is_empty());
        let mut organizations: Vec<_> = with_some.map(|(organization, _)| organization.clone()).collect();
        organizations.sort();
        organizations
    }

    pub(super) fn registry(&self, organization: &OrganizationId, after: u64) -> RegistryPiece {
        let Some(cell) = self.by_organization.get(organization) else { return RegistryPiece::default() };
        // A registry that has lost something is told anew.
        let after = if after > cell.version { 0 } else { after };
        let changed = cell.changed.iter().filter(|(_, version)| **version > after);
        let changed = changed.map(|(id, _)| (id.clone(), cell.listed(id)));
        let changed = changed.filter(|(_, listed)| after > 0 || listed.is_some()).collect();
        RegistryPiece { version: cell.version, changed }
    }

    pub(super) fn commit(&mut self, commit: Commit) -> Committed {
        let Commit { organization, expected, delegation, due, entries } = commit;
        let cell = self.by_organization.entry(organization.clone()).or_default();
        let id = delegation.id.clone();
        let known = cell.delegations.get(&id);
        let (version, was_due) = known.map_or((0, None), |(kept, due)| (kept.version, Some(*due)));
        if version != expected {
            return Committed::Conflict;
        }
        let before = known.and_then(|(kept, _)| kept.delegation.holder().cloned());
        let after = delegation.holder().cloned();
        if before != after {
            if after.as_ref().is_some_and(|after| !cell.has_slot(after)) {
                return Committed::NoSlot;
            }
            if let Some(before) = before {
                cell.release(&before, &id);
            }
            if let Some(after) = after {
                cell.held.entry(after.clone()).or_default().insert(id.clone());
                cell.note(&after);
            }
        }
        if let Some(was_due) = was_due {
            self.due.remove(&(was_due, organization.clone(), id.clone()));
        }
        self.due.insert((due, organization, id.clone()));
        cell.order.insert((delegation.created, id.clone()));
        if !entries.is_empty() {
            let named = entries.into_iter().map(|entry| (entry.name.clone(), entry));
            cell.contexts.entry(id.clone()).or_default().extend(named);
        }
        cell.delegations.insert(id, (Kept { version: version + 1, delegation }, due));
        Committed::Stored(version + 1)
    }

    pub(super) fn delegation(&self, organization: &OrganizationId, id: &DelegationId) -> Option<Kept> {
        self.by_organization.get(organization)?.delegations.get(id).map(|(kept, _)| kept.clone())
    }

    pub(super) fn entries(&self, organization: &OrganizationId, id: &DelegationId, names: &[EntryName]) -> Vec<Entry> {
        let context = self.by_organization.get(organization).and_then(|cell| cell.contexts.get(id));
        let entries = context.into_iter().flatten().filter(|(name, _)| names.contains(name));
        entries.map(|(_, entry)| entry.clone()).collect()
    }

    pub(super) fn delegations(
        &self,
        organization: &OrganizationId,
        after: Option<(Timestamp, DelegationId)>,
        most: usize,
    ) -> Vec<Kept> {
        let Some(cell) = self.by_organization.get(organization) else { return Vec::new() };
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let ids = cell.order.range((from, std::ops::Bound::Unbounded)).take(most);
        ids.filter_map(|(_, id)| cell.delegations.get(id)).map(|(kept, _)| kept.clone()).collect()
    }

    pub(super) fn held(&self, organization: &OrganizationId, orchestrator: &OrchestratorId) -> Vec<DelegationId> {
        let held = self.by_organization.get(organization).and_then(|cell| cell.held.get(orchestrator));
        held.into_iter().flatten().cloned().collect()
    }

    pub(super) fn due(&self, most: usize, now: Timestamp) -> Vec<(OrganizationId, DelegationId)> {
        let due = self.due.iter().take_while(|(at, ..)| *at <= now).take(most);
        due.map(|(_, organization, id)| (organization.clone(), id.clone())).collect()
    }

    pub(super) fn forget(&mut self, organization: &OrganizationId, id: &DelegationId, version: u64) -> bool {
        let Some(cell) = self.by_organization.get_mut(organization) else { return false };
        let Some((kept, due)) = cell.delegations.get(id).filter(|(kept, _)| kept.version == version) else {
            return false;
        };
        let (created, due) = (kept.delegation.created, *due);
        if let Some(holder) = kept.delegation.holder().cloned() {
            cell.release(&holder, id);
        }
        cell.order.remove(&(created, id.clone()));
        cell.delegations.remove(id);
        cell.contexts.remove(id);
        self.due.remove(&(due, organization.clone(), id.clone()));
        true
    }
}
