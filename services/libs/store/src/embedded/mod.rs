//! The store in one process: the model of the rules, kept by a journal of operations.

mod audit;
mod credentials;
mod federation;
mod feeds;
mod identities;
mod journal;
mod mailbox;
mod operation;
mod reports;
mod state;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use waystation_domain::federation::{Registration, Report, Told};
use waystation_domain::{
    DelegationId, EntryName, Lane, MessageId, OrchestratorId, OrganizationId, SessionId, Timestamp,
};

use crate::federation::{Commit, Committed, Entry, FederationStore, Kept, RegistryPiece};
use crate::feed::{FeedExtent, FeedPiece, FeedStore, Interest, Publication, Publish, ReadFeed};
use crate::mailbox::*;
use crate::quota::{Bucket, QuotaStore, Slice};
use crate::{Config, Durability, OpenError, Unavailable};
use journal::Journal;
use operation::{
    DeregisterOrchestrator, ForgetDelegation, NoteStanding, Operation, RegisterOrchestrator, ReportOrchestrator,
    SweepFeeds,
};
use state::State;

pub(crate) struct Embedded {
    inner: Mutex<Inner>,
    durability: Durability,
    /// Not journaled: a restart forgets them.
    quotas: Mutex<HashMap<OrganizationId, Bucket>>,
}

struct Inner {
    state: State,
    /// `None`: in memory only.
    journal: Option<Journal>,
}

impl Embedded {
    pub(crate) fn open(config: &Config, generation: u64) -> Result<Embedded, OpenError> {
        let inner = match config {
            Config::Memory => Inner { state: State::new(generation), journal: None },
            Config::Journal { dir, fsync, file_bytes } => {
                let (journal, state) = Journal::open(dir, *fsync, *file_bytes, generation)?;
                Inner { state, journal: Some(journal) }
            }
        };
        let durability = match config {
            Config::Memory => Durability::Process,
            Config::Journal { fsync: false, .. } => Durability::PageCache,
            Config::Journal { fsync: true, .. } => Durability::Fsync,
        };
        Ok(Embedded { inner: Mutex::new(inner), durability, quotas: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside an operation leaves a state that cannot be trusted, but also ends the task that
        // caused it, and with it the process; until then answers stay as they were journaled.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies an operation and journals it with its answer. Nothing is answered before it is written.
    async fn run<O: Operation>(&self, operation: O, now: Now) -> Result<O::Answer, Unavailable> {
        let (answer, synced) = {
            let Inner { state, journal } = &mut *self.lock();
            let now = now.unwrap_or_else(system_time);
            match journal {
                None => (operation.apply(state, now), None),
                Some(journal) => {
                    let record = journal::Pending::new(&operation, now);
                    let answer = operation.apply(state, now);
                    let synced =
                        if O::changed_nothing(&answer) { None } else { journal.write::<O>(record, &answer, state) };
                    (answer, synced)
                }
            }
        };
        if let Some(synced) = synced {
            synced.wait().await?;
        }
        Ok(answer)
    }

    fn look<T>(&self, now: Now, look: impl FnOnce(&State, Timestamp) -> T) -> Result<T, Unavailable> {
        Ok(look(&self.lock().state, now.unwrap_or_else(system_time)))
    }
}

/// The store's own clock.
#[expect(clippy::disallowed_methods, reason = "the one place where this store reads its clock")]
fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[async_trait]
impl MailboxStore for Embedded {
    fn durability(&self) -> Durability {
        self.durability
    }
    fn life(&self) -> u64 {
        0
    }
    fn calls(&self) -> Vec<Calls> {
        Vec::new()
    }
    // One lock, one journal: whatever comes at once waits for each other anyway.
    fn partitions(&self) -> usize {
        1
    }
    fn partition_of(&self, _: &MailboxKey) -> usize {
        0
    }
    async fn append(&self, append: Append, now: Now) -> Result<Vec<Result<Appended, AppendRefused>>, Unavailable> {
        self.run(append, now).await
    }
    async fn open(&self, open: OpenSession, now: Now) -> Result<Result<Opened, OpenRefused>, Unavailable> {
        self.run(open, now).await
    }
    async fn close(&self, close: CloseSession, now: Now) -> Result<Option<ActivationNotice>, Unavailable> {
        self.run(close, now).await
    }
    async fn read(&self, read: ReadMailbox, now: Now) -> Result<Result<ReadAnswer, Refused>, Unavailable> {
        self.run(read, now).await
    }
    async fn settle(&self, settle: Settle, now: Now) -> Result<Vec<Settled>, Unavailable> {
        self.run(settle, now).await
    }
    async fn compare(&self, compare: Compare, now: Now) -> Result<Compared, Unavailable> {
        self.run(compare, now).await
    }
    async fn subscribe(&self, subscribe: Subscribe, now: Now) -> Result<Result<(), Refused>, Unavailable> {
        self.run(subscribe, now).await
    }
    async fn renew(&self, renew: RenewIncarnation, now: Now) -> Result<Renewed, Unavailable> {
        self.run(renew, now).await
    }
    async fn sweep(&self, sweep: Sweep, now: Now) -> Result<Swept, Unavailable> {
        self.run(sweep, now).await
    }
    async fn note_told(&self, told: NewsTold, now: Now) -> Result<(), Unavailable> {
        self.run(told, now).await
    }
    async fn purge(&self, purge: Purge, now: Now) -> Result<u64, Unavailable> {
        self.run(purge, now).await
    }
    async fn forget_dead_letters(&self, forget: ForgetDeadLetters, now: Now) -> Result<u64, Unavailable> {
        self.run(forget, now).await
    }
    async fn incarnations(&self, now: Now) -> Result<Vec<IncarnationInfo>, Unavailable> {
        self.look(now, State::incarnations)
    }
    async fn mailbox(&self, key: &MailboxKey, now: Now) -> Result<Option<MailboxView>, Unavailable> {
        self.look(now, |state, _| state.mailbox(key).map(|mailbox| mailbox.view()))
    }
    async fn message(&self, key: &MailboxKey, id: &MessageId, now: Now) -> Result<MessageView, Unavailable> {
        let unknown = MessageView { state: MessageState::Unknown, position: None };
        self.look(now, |state, _| state.mailbox(key).map_or(unknown, |mailbox| mailbox.message(id)))
    }
    async fn residents(
        &self,
        key: &MailboxKey,
        after: (Lane, u64),
        most: usize,
        now: Now,
    ) -> Result<Vec<ResidentView>, Unavailable> {
        self.look(now, |state, _| state.mailbox(key).map(|m| m.residents(after, most)).unwrap_or_default())
    }
    async fn dead_letters(
        &self,
        key: &MailboxKey,
        after: u64,
        most: usize,
        now: Now,
    ) -> Result<Vec<DeadLetterView>, Unavailable> {
        self.look(now, |state, _| state.mailbox(key).map(|m| m.dead_letters(after, most)).unwrap_or_default())
    }
    async fn sessions(&self, key: &MailboxKey, liveness: &Liveness, now: Now) -> Result<Vec<SessionView>, Unavailable> {
        self.look(now, |state, _| state.mailbox(key).map(|m| m.session_views(liveness)).unwrap_or_default())
    }
    async fn presence(&self, key: &MailboxKey, liveness: &Liveness, now: Now) -> Result<PresenceView, Unavailable> {
        let never =
            PresenceView { presence: Presence::Offline, sessions: 0, last_seen: None, status: None, silent: false };
        self.look(now, |state, now| state.mailbox(key).map_or(never, |m| m.presence(liveness, now)))
    }
    async fn holder(
        &self,
        key: &MailboxKey,
        liveness: &Liveness,
        now: Now,
    ) -> Result<Option<(HolderRef, Heads)>, Unavailable> {
        self.look(now, |state, now| state.mailbox(key).and_then(|mailbox| mailbox.told(liveness, now)))
    }
    async fn totals(&self) -> Result<Totals, Unavailable> {
        self.look(None, |state, _| state.totals(|_| true))
    }
    async fn organization_totals(&self, organization: &OrganizationId) -> Result<Totals, Unavailable> {
        self.look(None, |state, _| state.totals(|key| key.organization == *organization))
    }
    async fn locate(&self, session: &SessionId) -> Result<Option<(MailboxKey, SessionView)>, Unavailable> {
        self.look(None, |state, _| state.locate(session))
    }
}

#[async_trait]
impl FeedStore for Embedded {
    async fn publish(&self, publish: Publish, now: Now) -> Result<Publication, Unavailable> {
        self.run(publish, now).await
    }
    async fn read_feed(&self, read: ReadFeed, now: Now) -> Result<FeedPiece, Unavailable> {
        self.look(now, |state, _| state.feeds.read(&read))
    }
    async fn set_interest(&self, interest: Interest, now: Now) -> Result<Vec<FeedExtent>, Unavailable> {
        self.run(interest, now).await
    }
    async fn extents(&self, organizations: &[OrganizationId], now: Now) -> Result<Vec<FeedExtent>, Unavailable> {
        self.look(now, |state, _| state.feeds.extents(organizations))
    }
    async fn sweep_feeds(&self, now: Now) -> Result<u64, Unavailable> {
        self.run(SweepFeeds, now).await
    }
}

#[async_trait]
impl FederationStore for Embedded {
    async fn register_orchestrator(
        &self,
        organization: &OrganizationId,
        registration: Registration,
        told: Told,
        now: Now,
    ) -> Result<(), Unavailable> {
        self.run(RegisterOrchestrator { organization: organization.clone(), registration, told }, now).await
    }
    async fn deregister_orchestrator(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        now: Now,
    ) -> Result<bool, Unavailable> {
        let (organization, orchestrator) = (organization.clone(), orchestrator.clone());
        self.run(DeregisterOrchestrator { organization, orchestrator }, now).await
    }
    async fn report_orchestrator(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        report: Report,
        now: Now,
    ) -> Result<bool, Unavailable> {
        let (organization, orchestrator) = (organization.clone(), orchestrator.clone());
        self.run(ReportOrchestrator { organization, orchestrator, report }, now).await
    }
    async fn note_standing(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        (was, is): (Told, Told),
        now: Now,
    ) -> Result<bool, Unavailable> {
        let (organization, orchestrator) = (organization.clone(), orchestrator.clone());
        self.run(NoteStanding { organization, orchestrator, was, is }, now).await
    }
    async fn registries(&self, now: Now) -> Result<Vec<OrganizationId>, Unavailable> {
        self.look(now, |state, _| state.federation.registries())
    }
    async fn registry(
        &self,
        organization: &OrganizationId,
        after: u64,
        now: Now,
    ) -> Result<RegistryPiece, Unavailable> {
        self.look(now, |state, _| state.federation.registry(organization, after))
    }
    async fn commit(&self, commit: Commit, now: Now) -> Result<Committed, Unavailable> {
        self.run(commit, now).await
    }
    async fn delegation(
        &self,
        organization: &OrganizationId,
        id: &DelegationId,
        now: Now,
    ) -> Result<Option<Kept>, Unavailable> {
        self.look(now, |state, _| state.federation.delegation(organization, id))
    }
    async fn entries(
        &self,
        organization: &OrganizationId,
        id: &DelegationId,
        names: &[EntryName],
        now: Now,
    ) -> Result<Vec<Entry>, Unavailable> {
        self.look(now, |state, _| state.federation.entries(organization, id, names))
    }
    async fn delegations(
        &self,
        organization: &OrganizationId,
        after: Option<(Timestamp, DelegationId)>,
        most: usize,
        now: Now,
    ) -> Result<Vec<Kept>, Unavailable> {
        self.look(now, |state, _| state.federation.delegations(organization, after, most))
    }
    async fn held_delegations(
        &self,
        organization: &OrganizationId,
        orchestrator: &OrchestratorId,
        now: Now,
    ) -> Result<Vec<DelegationId>, Unavailable> {
        self.look(now, |state, _| state.federation.held(organization, orchestrator))
    }
    async fn due_delegations(&self, most: usize, now: Now) -> Result<Vec<(OrganizationId, DelegationId)>, Unavailable> {
        self.look(now, |state, now| state.federation.due(most, now))
    }
    async fn forget_delegation(
        &self,
        organization: &OrganizationId,
        id: &DelegationId,
        version: u64,
        now: Now,
    ) -> Result<bool, Unavailable> {
        let (organization, id) = (organization.clone(), id.clone());
        self.run(ForgetDelegation { organization, id, version }, now).await
    }
}

#[async_trait]
impl QuotaStore for Embedded {
    async fn slice(
        &self,
        organization: &OrganizationId,
        a_second: u32,
        wanted: u32,
        now: Now,
    ) -> Result<Slice, Unavailable> {
        let now = now.unwrap_or_else(system_time);
        let mut quotas = self.quotas.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = quotas.entry(organization.clone()).or_insert_with(|| Bucket::full(a_second, now));
        Ok(bucket.take(a_second, wanted, now))
    }
}
