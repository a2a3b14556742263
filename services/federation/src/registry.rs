//! Registries as this process knows them: read once, then only what has changed, so that a choice among ten thousand costs
//! one small call to the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use waystation_domain::federation::{
    Candidate, Capability, CapabilityName, Decision, Delegation, Registration, Seen, Standing, cell_of, choose,
    standing,
};
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
    /// Whether routers tell who is there: while they do not, nobody is given up.
    pub(crate) is_seen: AtomicBool,
}

#[derive(Default)]
struct Mirror {
    version: u64,
    listed: BTreeMap<OrchestratorId, Listed>,
    by_capability: HashMap<CapabilityName, BTreeSet<OrchestratorId>>,
    /// What was seen last; it stays so while nothing is seen.
    seen: HashMap<OrchestratorId, Seen>,
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

    fn candidate<'a>(&self, listed: &'a Listed, now: Timestamp) -> Candidate<'a> {
        let report = listed.report.as_ref();
        let standing = self.standing_of(listed, now);
        // Whoever is away a moment is asked after those who are there.
        let is_away = self.seen_of(listed).is_away();
        Candidate {
            registration: &listed.registration,
            reserved: listed.reserved,
            standing: if is_away { standing.max(Standing::Degraded) } else { standing },
            tokens_used: report.map_or(0, |report| report.tokens_used),
            errors: report.map_or(0, |report| report.errors),
        }
    }

    fn seen_of(&self, listed: &Listed) -> Seen {
        self.seen.get(&listed.registration.id).copied().unwrap_or(Seen::Gone)
    }

    fn standing_of(&self, listed: &Listed, now: Timestamp) -> Standing {
        standing(self.seen_of(listed), listed.report.as_ref(), now)
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

    /// Who of this cell is registered.
    pub(crate) fn ids(&self) -> Vec<OrchestratorId> {
        self.ids_of(|_| true)
    }

    /// Slots of somebody that are taken.
    pub(crate) fn reserved(&self, id: &OrchestratorId) -> u32 {
        self.lock().listed.get(id).map_or(0, |listed| listed.reserved)
    }

    /// Notes what is seen of somebody, from what was seen before.
    pub(crate) fn note_seen(&self, id: OrchestratorId, see: impl FnOnce(Seen) -> Seen) {
        let mut mirror = self.lock();
        let before = mirror.seen.get(&id).copied().unwrap_or(Seen::Gone);
        mirror.seen.insert(id, see(before));
    }

    /// Those of this cell whose registration fits.
    pub(crate) fn ids_of(&self, fits: impl Fn(&Registration) -> bool) -> Vec<OrchestratorId> {
        let mirror = self.lock();
        let own = mirror.listed.iter().filter(|(id, _)| cell_of(id).is_none());
        let fitting = own.filter(|(_, listed)| fits(&listed.registration));
        fitting.map(|(id, _)| id.clone()).collect()
    }

    /// One of them, with how it is.
    pub(crate) fn one(&self, id: &OrchestratorId, now: Timestamp) -> Option<(Listed, Standing)> {
        let mirror = self.lock();
        mirror.listed.get(id).map(|listed| (listed.clone(), mirror.standing_of(listed, now)))
    }

    /// Those of whom everybody thinks otherwise than they are, or who are gone since before a moment; at most so many.
    pub(crate) fn untold(&self, most: usize, gone_since: Timestamp, now: Timestamp) -> Vec<(Listed, Standing)> {
        let mirror = self.lock();
        // How other cells are, each replica sees for itself.
        let is_seen = |id: &OrchestratorId| mirror.seen.contains_key(id) && cell_of(id).is_none();
        let seen = mirror.listed.values().filter(|listed| is_seen(&listed.registration.id));
        let all = seen.map(|listed| (listed, mirror.standing_of(listed, now)));
        let untold = all.filter(|(listed, standing)| {
            *standing != listed.told.standing || *standing == Standing::Offline && listed.told.since <= gone_since
        });
        untold.take(most).map(|(listed, standing)| (listed.clone(), standing)).collect()
    }

    /// Looks at all who are registered, and how they are.
    pub(crate) fn each(&self, now: Timestamp, mut look: impl FnMut(&Listed, Standing)) {
        let mirror = self.lock();
        for listed in mirror.listed.values() {
            look(listed, mirror.standing_of(listed, now));
        }
    }

    /// How many of those who are registered fit.
    pub(crate) fn count(&self, now: Timestamp, fits: impl Fn(&Listed, Standing) -> bool) -> usize {
        let mirror = self.lock();
        mirror.listed.values().filter(|listed| fits(listed, mirror.standing_of(listed, now))).count()
    }

    /// Those who are registered, fit, and come after one in the order of their ids, with how they are; at most so many.
    pub(crate) fn listed(
        &self,
        after: Option<&OrchestratorId>,
        most: usize,
        now: Timestamp,
        fits: impl Fn(&Listed, Standing) -> bool,
    ) -> Vec<(Listed, Standing)> {
        let mirror = self.lock();
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let range = mirror.listed.range::<OrchestratorId, _>((from, std::ops::Bound::Unbounded));
        let all = range.map(|(_, listed)| (listed, mirror.standing_of(listed, now)));
        let fitting = all.filter(|(listed, standing)| fits(listed, *standing)).take(most);
        fitting.map(|(listed, standing)| (listed.clone(), standing)).collect()
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
                None => drop(mirror.seen.remove(&id)),
            }
        }
        drop(mirror);
        if come_or_gone {
            registry.changed.notify_one();
        }
        Ok(registry)
    }

    /// Learns of what others have brought into the store, registries that this process does not know included.
    pub(crate) async fn catch_up(&self) -> Result<(), Fault> {
        for organization in self.0.store.registries(None).await.map_err(Fault::unavailable)? {
            self.fresh(&organization).await?;
        }
        Ok(())
    }

    /// The registry of an organization as it was seen last.
    pub(crate) fn of(&self, organization: &OrganizationId) -> Arc<OneRegistry> {
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

    /// Looks for somebody. Whoever had it until now has its slot free.
    pub(crate) async fn choose(
        &self,
        organization: &OrganizationId,
        delegation: &Delegation,
        had_it: Option<&OrchestratorId>,
        now: Timestamp,
    ) -> Result<Decision, Fault> {
        let registry = self.fresh(organization).await?;
        let draw = (self.0.context.entropy.number(), self.0.turn.fetch_add(1, Ordering::Relaxed));
        let mirror = registry.lock();
        let asked = delegation.asked();
        let possible = mirror.possible(&delegation.request.required);
        let others = mirror.listed.len() - possible.len();
        let candidates = possible.into_iter().map(|listed| {
            let candidate = mirror.candidate(listed, now);
            let own = u32::from(had_it == Some(&listed.registration.id));
            Candidate { reserved: candidate.reserved.saturating_sub(own), ..candidate }
        });
        let decision = choose(&delegation.wanted(&asked), candidates, draw, now);
        Ok(decision.with_incapable(u32::try_from(others).unwrap_or(u32::MAX)))
    }
}
