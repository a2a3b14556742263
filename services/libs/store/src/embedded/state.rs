//! All that the embedded store keeps.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use waystation_domain::{Epoch, IncarnationId, SessionId, Timestamp};

use super::audit::Audit;
use super::credentials::Credentials;
use super::federation::Federation;
use super::feeds::Feeds;
use super::mailbox::Mailbox;
use super::reports::Reports;
use crate::mailbox::{
    IncarnationInfo, Liveness, MailboxKey, RenewIncarnation, Renewed, SessionView, Sweep, Swept, Totals,
};

/// Changed only by operations, so that the journal can repeat them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// Names this life of the store in epochs.
    pub(super) generation: u64,
    pub(super) credentials: Credentials,
    pub(super) audit: Audit,
    pub(super) reports: Reports,
    pub(super) feeds: Feeds,
    pub(super) federation: Federation,
    /// Boxed, so that the table's free places cost little.
    mailboxes: HashMap<MailboxKey, Box<Mailbox>>,
    /// Mailboxes by the moment at which a sweep should look at them.
    due: BTreeSet<(Timestamp, MailboxKey)>,
    /// Live sessions by their id alone.
    sessions: HashMap<SessionId, MailboxKey>,
    incarnations: BTreeMap<IncarnationId, Incarnation>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Incarnation {
    address: String,
    draining: bool,
    lease_until: Timestamp,
    /// Mailboxes in which it has held sessions.
    mailboxes: BTreeSet<MailboxKey>,
}

impl State {
    pub(super) fn new(generation: u64) -> State {
        State {
            generation,
            credentials: Credentials::default(),
            audit: Audit::default(),
            reports: Reports::default(),
            feeds: Feeds::default(),
            federation: Federation::default(),
            mailboxes: HashMap::new(),
            due: BTreeSet::new(),
            sessions: HashMap::new(),
            incarnations: BTreeMap::new(),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch::from_raw(self.generation)
    }

    /// After a start: nobody is connected to this process yet, so no lease holds.
    pub(super) fn end_all_incarnations(&mut self) {
        for incarnation in self.incarnations.values_mut() {
            incarnation.lease_until = Timestamp::default();
        }
    }

    pub(super) fn mailbox(&self, key: &MailboxKey) -> Option<&Mailbox> {
        self.mailboxes.get(key).map(|mailbox| &**mailbox)
    }

    /// Changes a mailbox, making it if need be, and keeps the index of what is due.
    pub(super) fn change<T>(&mut self, key: &MailboxKey, change: impl FnOnce(&mut Mailbox) -> T) -> T {
        if !self.mailboxes.contains_key(key) {
            self.mailboxes.insert(key.clone(), Box::default());
        }
        self.change_known(key, change).unwrap_or_else(|| unreachable!("inserted above"))
    }

    /// Changes a mailbox if there is one.
    pub(super) fn change_known<T>(&mut self, key: &MailboxKey, change: impl FnOnce(&mut Mailbox) -> T) -> Option<T> {
        let mailbox = self.mailboxes.get_mut(key)?;
        let before = mailbox.due();
        let answer = change(mailbox);
        let after = mailbox.due();
        if before != after {
            if let Some(time) = before {
                self.due.remove(&(time, key.clone()));
            }
            if let Some(time) = after {
                self.due.insert((time, key.clone()));
            }
        }
        Some(answer)
    }

    pub(super) fn note_opened(&mut self, key: &MailboxKey, session: &SessionId, incarnation: &IncarnationId) {
        self.sessions.insert(session.clone(), key.clone());
        if let Some(incarnation) = self.incarnations.get_mut(incarnation) {
            incarnation.mailboxes.insert(key.clone());
        }
    }

    pub(super) fn note_closed(&mut self, key: &MailboxKey, session: &SessionId) {
        self.sessions.remove(session);
        for (id, incarnation) in &mut self.incarnations {
            let still = self.mailboxes.get(key).is_some_and(|mailbox| mailbox.has_session_of(id));
            if !still {
                incarnation.mailboxes.remove(key);
            }
        }
    }

    pub(super) fn is_live(&self, incarnation: &IncarnationId, now: Timestamp) -> bool {
        self.incarnations.get(incarnation).is_some_and(|incarnation| incarnation.lease_until > now)
    }

    pub(super) fn renew(&mut self, renew: RenewIncarnation, now: Timestamp) -> Renewed {
        let lease_until = now.after(renew.lease);
        match self.incarnations.get_mut(&renew.incarnation) {
            Some(known) if known.lease_until <= now => Renewed::Expired,
            Some(known) => {
                known.lease_until = lease_until;
                known.draining = renew.draining;
                Renewed::Live
            }
            None => {
                let incarnation = Incarnation {
                    address: renew.address,
                    draining: renew.draining,
                    lease_until,
                    mailboxes: BTreeSet::new(),
                };
                self.incarnations.insert(renew.incarnation, incarnation);
                Renewed::Live
            }
        }
    }

    pub(super) fn incarnations(&self, now: Timestamp) -> Vec<IncarnationInfo> {
        let info = |(id, incarnation): (&IncarnationId, &Incarnation)| IncarnationInfo {
            incarnation: id.clone(),
            address: incarnation.address.clone(),
            gone: incarnation.lease_until <= now,
            draining: incarnation.draining,
            lease_until: incarnation.lease_until,
        };
        self.incarnations.iter().map(info).collect()
    }

    fn liveness(&self, now: Timestamp) -> Liveness {
        let of = |wanted: &dyn Fn(&Incarnation) -> bool| {
            self.incarnations.iter().filter(|(_, i)| wanted(i)).map(|(id, _)| id.clone()).collect()
        };
        Liveness { gone: of(&|i| i.lease_until <= now), draining: of(&|i| i.draining) }
    }

    pub(super) fn sweep(&mut self, sweep: &Sweep, now: Timestamp) -> Swept {
        let liveness = self.liveness(now);
        let mut swept = Swept::default();
        self.bury_incarnations(&liveness, sweep.limit, now, &mut swept);
        let due = self.due.iter().take_while(|(time, _)| *time <= now).map(|(_, key)| key.clone());
        let due: Vec<MailboxKey> = due.take(sweep.limit.saturating_sub(swept.handled)).collect();
        for key in due {
            let found = self.change_known(&key, |mailbox| (mailbox.sweep(&liveness, now), mailbox.due()));
            if let Some((found, due)) = found {
                swept.activated.extend(found.activated);
                swept.grown.extend(found.grown);
                swept.news.extend(found.news.map(|news| (key.clone(), news)));
                swept.more |= due.is_some_and(|due| due <= now);
            }
            swept.handled += 1;
        }
        swept.handled += self.credentials.sweep(now) + self.reports.sweep(now);
        swept
    }

    /// Ends the sessions of incarnations whose lease has ended, and forgets those that have none left.
    fn bury_incarnations(&mut self, liveness: &Liveness, limit: usize, now: Timestamp, swept: &mut Swept) {
        for gone in &liveness.gone {
            while swept.handled < limit {
                let Some(incarnation) = self.incarnations.get_mut(gone) else { break };
                let Some(key) = incarnation.mailboxes.pop_first() else { break };
                let activated = self.change_known(&key, |mailbox| mailbox.bereave(liveness, now)).flatten();
                swept.activated.extend(activated);
                swept.handled += 1;
            }
            if self.incarnations.get(gone).is_some_and(|incarnation| incarnation.mailboxes.is_empty()) {
                self.incarnations.remove(gone);
                swept.handled += 1;
            }
        }
        if !liveness.gone.is_empty() {
            let State { sessions, mailboxes, .. } = self;
            sessions.retain(|session, key| mailboxes.get(key).is_some_and(|mailbox| mailbox.has_session(session)));
        }
    }

    pub(super) fn totals(&self, wanted: impl Fn(&MailboxKey) -> bool) -> Totals {
        let wanted = self.mailboxes.iter().filter(|(key, _)| wanted(key));
        wanted.map(|(_, mailbox)| mailbox.totals()).sum()
    }

    pub(super) fn locate(&self, session: &SessionId) -> Option<(MailboxKey, SessionView)> {
        let key = self.sessions.get(session)?;
        let views = self.mailboxes.get(key)?.session_views(&Liveness::default());
        views.into_iter().find(|view| view.session == *session).map(|view| (key.clone(), view))
    }
}

/// The lease that a renewal asks for is bounded, so that no gateway can outlive its own fence.
pub(super) fn bounded_lease(lease: Duration) -> Duration {
    lease.min(crate::limits::LEASE)
}
