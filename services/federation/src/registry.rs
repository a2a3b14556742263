//! Registries as this process knows them: read once, then only what has changed, so that a choice among ten thousand costs
//! one small call to the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use waystation_domain::federation::{Candidate, Capability, CapabilityName, Decision, Delegation, Standing, choose};
use waystation_domain::{OrchestratorId, OrganizationId, Timestamp};
use waystation_rpc::Fault;
use waystation_runtime::Context;
use waystation_store::FederationStore;
use waystation_store::federation::Listed;

/// All registries that somebody has asked for. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registries(Arc<Inner>);

struct Inner {
    store: Arc<dyn FederationStore>,
    known: Mutex<HashMap<OrganizationId, Arc<OneRegistry>>>,
    /// Counts choices, so that turns are taken.
    turn: AtomicU64,
    context: Context,
    /// Rung when a registry is known that was not.
    met: Notify,
}

/// The registry of one organization.
#[derive(Default)]
pub(crate) struct OneRegistry {
    mirror: Mutex<Mirror>,
    /// Rung when somebody has come or gone.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct Mirror {
    version: u64,
    listed: BTreeMap<OrchestratorId, Listed>,
    by_capability: HashMap<CapabilityName, BTreeSet<OrchestratorId>>,
    /// What was seen last; it stays so while nothing is seen.
    standing: HashMap<OrchestratorId, Standing>,
}

impl Mirror {
    fn take_out(&mut self, id: &OrchestratorId) -> bool {
        let Some(listed) = self.listed.remove(id) else { return false };
        for Capability { name, .. } in &listed.registration.capabilities {
            if let Some(ids) = self.by_capability.get_mut(name) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_capability.remove(name);
                }
            }
        }
        true
    }

    fn put(&mut self, id: OrchestratorId, listed: Listed) {
        for Capability { name, .. } in &listed.registration.capabilities {
            self.by_capability.entry(name.clone()).or_default().insert(id.clone());
        }
        self.listed.insert(id, listed);
    }

    fn candidate<'a>(&self, listed: &'a Listed) -> Candidate<'a> {
        Candidate {
            registration: &listed.registration,
            reserved: listed.reserved,
            standing: self.standing_of(&listed.registration.id),
            tokens_used: 0,
            errors: 0,
        }
    }

    fn standing_of(&self, id: &OrchestratorId) -> Standing {
        self.standing.get(id).copied().unwrap_or(Standing::Offline)
    }

    /// Those who have the rarest of the capabilities, or all.
    fn possible(&self, needed: &[Capability]) -> Vec<&Listed> {
        let sets = needed.iter().map(|needed| self.by_capability.get(&needed.name));
        match sets.min_by_key(|ids| ids.map_or(0, BTreeSet::len)) {
            None => self.listed.values().collect(),
            Some(ids) => ids.into_iter().flatten().filter_map(|id| self.listed.get(id)).collect(),
        }
    }
}

impl OneRegistry {
    fn lock(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is registered.
    pub(crate) fn ids(&self) -> Vec<OrchestratorId> {
        self.lock().listed.keys().cloned().collect()
    }

    /// Slots of somebody that are taken.
    pub(crate) fn reserved(&self, id: &OrchestratorId) -> u32 {
        self.lock().listed.get(id).map_or(0, |listed| listed.reserved)
    }

    /// Notes what is seen of somebody.
    pub(crate) fn note_standing(&self, id: OrchestratorId, standing: Standing) {
        self.lock().standing.insert(id, standing);
    }

    /// One of them, with what is seen of it.
    pub(crate) fn one(&self, id: &OrchestratorId) -> Option<(Listed, Standing)> {
        let mirror = self.lock();
        mirror.listed.get(id).map(|listed| (listed.clone(), mirror.standing_of(id)))
    }

    /// Those who are registered with what is seen of them, after one, in the order of their ids.
    pub(crate) fn listed(&self, after: Option<&OrchestratorId>) -> Vec<(Listed, Standing)> {
        let mirror = self.lock();
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let range = mirror.listed.range::<OrchestratorId, _>((from, std::ops::Bound::Unbounded));
        range.map(|(id, listed)| (listed.clone(), mirror.standing_of(id))).collect()
    }
}

impl Registries {
    pub(crate) fn new(store: Arc<dyn FederationStore>, context: &Context) -> Registries {
        Registries(Arc::new(Inner {
            store,
            known: Mutex::default(),
            turn: AtomicU64::new(0),
            context: context.clone(),
            met: Notify::new(),
        }))
    }

    /// The registry of an organization as it is now.
    pub(crate) async fn fresh(&self, organization: &OrganizationId) -> Result<Arc<OneRegistry>, Fault> {
        let registry = self.of(organization);
        let after = registry.lock().version;
        let piece = self.0.store.registry(organization, after, None).await.map_err(Fault::unavailable)?;
        let mut mirror = registry.lock();
        // What was read by somebody else in the meantime may be newer; it comes again with the next piece.
        if mirror.version != after {
            drop(mirror);
            return Ok(registry);
        }
        let mut come_or_gone = false;
        if piece.version < after {
            mirror.listed.clear();
            mirror.by_capability.clear();
            come_or_gone = true;
        }
        mirror.version = piece.version;
        for (id, listed) in piece.changed {
            let was = mirror.take_out(&id);
            come_or_gone |= was != listed.is_some();
            match listed {
                Some(listed) => mirror.put(id, listed),
                None => drop(mirror.standing.remove(&id)),
            }
        }
        drop(mirror);
        if come_or_gone {
            registry.changed.notify_one();
        }
        Ok(registry)
    }

    fn of(&self, organization: &OrganizationId) -> Arc<OneRegistry> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(registry) = known.get(organization) {
            return registry.clone();
        }
        let registry = Arc::<OneRegistry>::default();
        known.insert(organization.clone(), registry.clone());
        self.0.met.notify_one();
        registry
    }

    /// All that are known.
    pub(crate) fn known(&self) -> Vec<(OrganizationId, Arc<OneRegistry>)> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(organization, registry)| (organization.clone(), registry.clone())).collect()
    }

    /// Resolves when another registry is known.
    pub(crate) async fn met(&self) {
        self.0.met.notified().await;
    }

    /// Looks for somebody.
    pub(crate) async fn choose(
        &self,
        organization: &OrganizationId,
        delegation: &Delegation,
        now: Timestamp,
    ) -> Result<Decision, Fault> {
        let registry = self.fresh(organization).await?;
        let draw = (self.0.context.entropy.number(), self.0.turn.fetch_add(1, Ordering::Relaxed));
        let mirror = registry.lock();
        let asked = delegation.asked();
        let possible = mirror.possible(&delegation.request.required);
        let others = mirror.listed.len() - possible.len();
        let candidates = possible.into_iter().map(|listed| mirror.candidate(listed));
        let decision = choose(&delegation.wanted(&asked), candidates, draw, now);
        Ok(decision.with_incapable(u32::try_from(others).unwrap_or(u32::MAX)))
    }
}
