//! Who holds the mailbox (rules 8 and 9).

use waystation_domain::{SessionId, Timestamp};

use super::Session;
use crate::embedded::mailbox::Mailbox;
use crate::limits;
use crate::mailbox::{Activation, ActivationNotice, HolderRef, Liveness, OpenSession, ReportedStatus, SessionReport};

impl Mailbox {
    /// A newcomer holds the mailbox if nobody does and the role does not wait for another daemon.
    pub(super) fn activate_first(&mut self, open: &OpenSession, now: Timestamp) {
        let reserved = self.reservation.as_ref().is_some_and(|r| r.until > now && r.daemon != open.daemon);
        let eligible = self.sessions.get(&open.session).is_some_and(|s| s.is_eligible(&open.liveness));
        if self.sessions.holder.is_none() && eligible && !reserved {
            self.activate(&open.session, now);
        }
    }

    fn activate(&mut self, session: &SessionId, now: Timestamp) {
        let Some(session) = self.sessions.get(session).cloned() else { return };
        self.expire(now);
        if let Some(last) = self.last_holder.take() {
            let both = last.instance.as_ref().zip(session.instance.as_ref());
            let another = last.daemon != session.daemon || both.is_some_and(|(last, new)| last != new);
            if another && !last.drained {
                self.charge_oldest(now);
            }
        }
        self.reservation = None;
        self.marks = self.lanes.map(|lane| lane.sent);
        self.sessions.fence += 1;
        self.sessions.holder = Some(session.session);
    }

    /// The newest eligible session holds the mailbox next, if nobody does.
    pub(in crate::embedded::mailbox) fn activate_next(
        &mut self,
        liveness: &Liveness,
        now: Timestamp,
    ) -> Option<ActivationNotice> {
        if self.sessions.holder.is_some() {
            return None;
        }
        let reserved = self.reservation.as_ref().filter(|reservation| reservation.until > now);
        let may = |s: &&Session| s.is_eligible(liveness) && reserved.is_none_or(|r| r.daemon == s.daemon);
        let next = self.sessions.open.iter().rev().find(may)?.session.clone();
        self.activate(&next, now);
        self.notice(now)
    }

    fn notice(&self, now: Timestamp) -> Option<ActivationNotice> {
        let holder = self.sessions.holder_ref(self.sessions.holder()?);
        Some(ActivationNotice { holder, activation: self.activation(now)? })
    }

    pub(super) fn activation(&self, now: Timestamp) -> Option<Activation> {
        Some(Activation {
            fence: self.sessions.fence,
            epoch: self.epoch()?,
            marks: self.marks,
            heads: self.heads(now),
            gap_mark: self.gap_mark,
        })
    }

    pub(in crate::embedded::mailbox) fn live_holder(&self, liveness: &Liveness) -> Option<HolderRef> {
        let holder = self.sessions.holder().filter(|holder| !liveness.is_gone(&holder.incarnation))?;
        Some(self.sessions.holder_ref(holder))
    }

    /// A silent or paused holder yields to another that lives; a session that wakes up may find the role free.
    pub(super) fn yield_or_activate(
        &mut self,
        report: &SessionReport,
        liveness: &Liveness,
        now: Timestamp,
    ) -> Option<ActivationNotice> {
        let Some(holder) = self.sessions.holder() else { return self.activate_next(liveness, now) };
        let paused = holder.status == Some(ReportedStatus::Paused);
        if holder.session != report.session || !(paused || report.idle >= limits::YIELD_AFTER) {
            return None;
        }
        let other =
            |s: &&Session| s.session != report.session && s.is_eligible(liveness) && s.idle < limits::YIELD_AFTER;
        let next = self.sessions.open.iter().rev().find(other).map(|other| other.session.clone());
        match next {
            Some(next) => {
                self.release(now);
                self.activate(&next, now);
                self.notice(now)
            }
            None if paused => {
                self.release(now);
                None
            }
            None => None,
        }
    }

    /// Nobody holds the mailbox: nothing is in flight, so what has expired may go.
    pub(super) fn release(&mut self, now: Timestamp) {
        self.sessions.holder = None;
        self.due_by(now);
    }
}
