//! Sessions and the one among them that holds the mailbox (rules 8, 9 and 12).

mod activation;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_domain::{DaemonId, Epoch, IncarnationId, InstanceId, LoginId, SessionId, Subscriptions, Timestamp};

use super::Mailbox;
use crate::limits;
use crate::mailbox::{
    ActivationNotice, CloseSession, ComparedSession, Displaced, DisplacedBecause, HolderRef, Liveness, OpenRefused,
    OpenSession, Opened, Refused, ReportedStatus, ResumePoint, ResumeVerdict, SessionReport, Subscribe, Window,
};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Sessions {
    /// In the order of opening.
    open: Vec<Session>,
    holder: Option<SessionId>,
    /// Counts activations.
    fence: u64,
    /// Counts new connections.
    born: u64,
    /// At most [`limits::DAEMONS`], usually one.
    daemons: Vec<(DaemonId, Daemon)>,
    /// When the first of those that are open was opened.
    began: Timestamp,
    ended: Option<Ended>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) session: SessionId,
    pub(super) daemon: DaemonId,
    pub(super) login: LoginId,
    pub(super) instance: Option<InstanceId>,
    pub(super) incarnation: IncarnationId,
    pub(super) address: String,
    pub(super) reads_mail: bool,
    pub(super) window: Window,
    pub(super) opened: Timestamp,
    born: u64,
    pub(super) status: Option<ReportedStatus>,
    pub(super) metrics: Option<Bytes>,
    pub(super) idle: Duration,
}

/// What outlives the sessions of a daemon.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Daemon {
    subscriptions: Subscriptions,
    last_used: Timestamp,
    /// Instances that were displaced, and when.
    displaced: Vec<(Timestamp, Instance)>,
    /// When an instance displaced the one that had displaced it.
    displaced_back: Vec<Timestamp>,
}

/// One running client: what it says, or else its login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Instance {
    Announced(InstanceId),
    Login(LoginId),
}

/// When the last session ended.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) at: Timestamp,
    pub(super) goodbye: bool,
}

/// Who held the mailbox last, while nobody does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LastHolder {
    daemon: DaemonId,
    instance: Option<InstanceId>,
    drained: bool,
}

/// After a drain the role waits for its daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Reservation {
    daemon: DaemonId,
    pub(super) until: Timestamp,
}

impl Session {
    fn identity(&self) -> Instance {
        match &self.instance {
            Some(instance) => Instance::Announced(instance.clone()),
            None => Instance::Login(self.login.clone()),
        }
    }

    fn is_eligible(&self, liveness: &Liveness) -> bool {
        self.reads_mail
            && self.status != Some(ReportedStatus::Paused)
            && !liveness.is_gone(&self.incarnation)
            && !liveness.is_draining(&self.incarnation)
    }

    fn displaced(&self, because: DisplacedBecause) -> Displaced {
        Displaced {
            session: self.session.clone(),
            incarnation: self.incarnation.clone(),
            address: self.address.clone(),
            because,
        }
    }
}

impl Sessions {
    pub(super) fn holder(&self) -> Option<&Session> {
        self.holder.as_ref().and_then(|id| self.get(id))
    }

    fn get(&self, id: &SessionId) -> Option<&Session> {
        self.open.iter().find(|session| session.session == *id)
    }

    pub(super) fn live(&self, liveness: &Liveness) -> impl DoubleEndedIterator<Item = &Session> {
        self.open.iter().filter(|session| !liveness.is_gone(&session.incarnation))
    }

    /// Since when there have been any, if there are.
    pub(super) fn online_since(&self) -> Option<Timestamp> {
        (!self.open.is_empty()).then_some(self.began)
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    pub(super) fn subscriptions(&self, daemon: &DaemonId) -> Subscriptions {
        self.daemons
            .iter()
            .find(|(id, _)| id == daemon)
            .map(|(_, daemon)| daemon.subscriptions.clone())
            .unwrap_or_default()
    }

    fn holder_ref(&self, session: &Session) -> HolderRef {
        HolderRef {
            session: session.session.clone(),
            fence: self.fence,
            incarnation: session.incarnation.clone(),
            address: session.address.clone(),
        }
    }

    /// What is kept of a daemon.
    fn daemon(&mut self, id: &DaemonId) -> &mut Daemon {
        let known = self.daemons.iter().position(|(known, _)| known == id);
        let index = known.unwrap_or_else(|| {
            self.daemons.reserve_exact(1);
            self.daemons.push((id.clone(), Daemon::default()));
            self.daemons.len() - 1
        });
        &mut self.daemons[index].1
    }

    /// Keeps what is known of the most recently used daemons.
    fn forget_daemons(&mut self, now: Timestamp) {
        let Sessions { open, daemons, .. } = self;
        let connected = |id: &DaemonId| open.iter().any(|session| session.daemon == *id);
        daemons.retain(|(id, daemon)| connected(id) || now.since(daemon.last_used) < limits::TIME_TO_LIVE);
        while daemons.len() > limits::DAEMONS {
            let idle = daemons.iter().filter(|(id, _)| !connected(id));
            let Some(oldest) = idle.min_by_key(|(_, daemon)| daemon.last_used).map(|(id, _)| id.clone()) else {
                return;
            };
            daemons.retain(|(id, _)| *id != oldest);
        }
    }
}

impl Daemon {
    /// Notes that `new` takes the place of `old`; answers whether the two keep doing so.
    fn displace(&mut self, old: Instance, new: &Instance, now: Timestamp) -> bool {
        let recent = |time: &Timestamp| now.since(*time) < limits::DISPLACEMENT_PERIOD;
        self.displaced.retain(|(time, _)| recent(time));
        self.displaced_back.retain(recent);
        if old == *new {
            return false;
        }
        if self.displaced.iter().any(|(_, instance)| instance == new) {
            self.displaced_back.push(now);
        }
        self.displaced.push((now, old));
        self.displaced_back.len() >= limits::DISPLACEMENTS
    }
}

impl Mailbox {
    pub(in crate::embedded) fn open(
        &mut self,
        open: OpenSession,
        generation: Epoch,
        now: Timestamp,
    ) -> Result<Opened, OpenRefused> {
        self.ensure_epoch(generation);
        self.expire(now);
        self.end_sessions_of_the_gone(&open.liveness, now);
        let verdict = self.judge(open.resume.as_ref(), generation);
        if let Some(known) = self.sessions.get(&open.session) {
            let born = known.born;
            return Ok(self.opened(&open, verdict, Vec::new(), born, now));
        }
        let of_daemon = |other: &&Session| other.daemon == open.daemon;
        if self.sessions.open.iter().filter(of_daemon).any(|other| open.born.is_some_and(|born| other.born > born)) {
            return Err(OpenRefused::Superseded);
        }
        let born = open.born.unwrap_or(self.sessions.born + 1);
        self.sessions.born = self.sessions.born.max(born);
        let session = Session {
            session: open.session.clone(),
            daemon: open.daemon.clone(),
            login: open.login.clone(),
            instance: open.instance.clone(),
            incarnation: open.incarnation.clone(),
            address: open.address.clone(),
            reads_mail: open.reads_mail,
            window: open.window,
            opened: now,
            born,
            status: None,
            metrics: None,
            idle: Duration::ZERO,
        };
        let displaced = self.displace(&session, &open.liveness, now)?;
        if self.sessions.open.len() >= open.most {
            return Err(OpenRefused::TooManySessions);
        }
        self.sessions.ended = None;
        if self.sessions.open.is_empty() {
            self.sessions.began = now;
        }
        // Most orchestrators have one daemon.
        self.sessions.open.reserve_exact(1);
        self.sessions.open.push(session);
        self.presence_may_change(now);
        let daemon = self.sessions.daemon(&open.daemon);
        daemon.last_used = now;
        if let Some(subscriptions) = &open.subscriptions {
            daemon.subscriptions = subscriptions.clone();
        }
        self.sessions.forget_daemons(now);
        self.activate_first(&open, now);
        Ok(self.opened(&open, verdict, displaced, born, now))
    }

    fn opened(
        &self,
        open: &OpenSession,
        verdict: ResumeVerdict,
        displaced: Vec<Displaced>,
        born: u64,
        now: Timestamp,
    ) -> Opened {
        let active = self.sessions.holder.as_ref() == Some(&open.session);
        let activation = if active { self.activation(now) } else { None };
        Opened { activation, verdict, subscriptions: self.sessions.subscriptions(&open.daemon), displaced, born }
    }

    /// Takes the place of the daemon's other sessions.
    fn displace(&mut self, new: &Session, liveness: &Liveness, now: Timestamp) -> Result<Vec<Displaced>, OpenRefused> {
        let old: Vec<Session> = self.sessions.open.iter().filter(|s| s.daemon == new.daemon).cloned().collect();
        let mut thrashing = false;
        for old in &old {
            let daemon = self.sessions.daemon(&old.daemon);
            thrashing |= daemon.displace(old.identity(), &new.identity(), now);
            self.remove_session(&old.session, liveness.is_draining(&old.incarnation), now);
        }
        if thrashing {
            self.note_end(false, now);
            return Err(OpenRefused::DuplicateIdentity(
                old.iter().map(|old| old.displaced(DisplacedBecause::DuplicateIdentity)).collect(),
            ));
        }
        Ok(old.iter().map(|old| old.displaced(DisplacedBecause::Superseded)).collect())
    }

    pub(super) fn check_fence(&self, session: &SessionId, fence: u64) -> Result<(), Refused> {
        let session = self.sessions.get(session).ok_or(Refused::SessionUnknown)?;
        let holds = self.sessions.holder.as_ref() == Some(&session.session) && self.sessions.fence == fence;
        if holds { Ok(()) } else { Err(Refused::NotHolder) }
    }

    /// Takes a session out; the role is then free.
    fn remove_session(&mut self, id: &SessionId, drained: bool, now: Timestamp) -> bool {
        let Some(index) = self.sessions.open.iter().position(|session| session.session == *id) else { return false };
        let session = self.sessions.open.remove(index);
        self.sessions.daemon(&session.daemon).last_used = now;
        if self.sessions.holder.as_ref() == Some(id) {
            self.release(now);
            if drained {
                let until = now.after(limits::DRAIN_RESERVATION);
                self.reservation = Some(Reservation { daemon: session.daemon.clone(), until });
            }
            self.last_holder = Some(LastHolder { daemon: session.daemon, instance: session.instance, drained });
        }
        true
    }

    fn note_end(&mut self, goodbye: bool, now: Timestamp) {
        if self.sessions.open.is_empty() {
            self.sessions.ended = Some(Ended { at: now, goodbye });
            self.presence_may_change(now);
        }
    }

    fn end_sessions_of_the_gone(&mut self, liveness: &Liveness, now: Timestamp) {
        let gone: Vec<SessionId> = (self.sessions.open.iter())
            .filter(|session| liveness.is_gone(&session.incarnation))
            .map(|session| session.session.clone())
            .collect();
        for session in &gone {
            self.remove_session(session, false, now);
            self.note_end(false, now);
        }
    }

    pub(in crate::embedded) fn close(&mut self, close: &CloseSession, now: Timestamp) -> Option<ActivationNotice> {
        if !self.remove_session(&close.session, close.drained, now) {
            return None;
        }
        self.note_end(close.goodbye, now);
        self.activate_next(&close.liveness, now)
    }

    /// Ends the sessions of an incarnation whose lease has ended.
    pub(in crate::embedded) fn bereave(&mut self, liveness: &Liveness, now: Timestamp) -> Option<ActivationNotice> {
        self.end_sessions_of_the_gone(liveness, now);
        self.activate_next(liveness, now)
    }

    pub(in crate::embedded) fn compare(
        &mut self,
        report: &SessionReport,
        liveness: &Liveness,
        now: Timestamp,
    ) -> (Option<ComparedSession>, Option<ActivationNotice>) {
        let known = self.sessions.open.iter_mut().find(|session| session.session == report.session);
        let (Some(session), Some(epoch)) = (known, self.epochs.back().map(|last| last.epoch)) else {
            return (None, None);
        };
        session.idle = report.idle;
        session.status = report.status.or(session.status);
        if let Some(metrics) = &report.metrics {
            session.metrics = Some(metrics.clone());
        }
        let activated = self.yield_or_activate(report, liveness, now);
        let active = self.sessions.holder.as_ref() == Some(&report.session);
        let activation = if active { self.activation(now) } else { None };
        (Some(ComparedSession { heads: self.heads(now), epoch, activation }), activated)
    }

    pub(in crate::embedded) fn subscribe(&mut self, subscribe: &Subscribe) -> Result<(), Refused> {
        let session = self.sessions.get(&subscribe.session).ok_or(Refused::SessionUnknown)?;
        let daemon = session.daemon.clone();
        let daemon = self.sessions.daemon(&daemon);
        daemon.subscriptions = subscribe.subscriptions.clone();
        Ok(())
    }

    /// Rule 12.
    fn judge(&self, resume: Option<&ResumePoint>, current: Epoch) -> ResumeVerdict {
        let Some(resume) = resume else { return ResumeVerdict::Fresh };
        let beyond = resume.positions.iter().any(|(lane, position)| {
            let owned = resume.epoch.and_then(|epoch| self.last_owned(epoch, lane)).unwrap_or(0);
            *position > owned
        });
        if beyond {
            ResumeVerdict::PossiblyLost
        } else if resume.epoch == Some(current) {
            ResumeVerdict::Resumed
        } else {
            ResumeVerdict::StoreRestarted
        }
    }

    pub(in crate::embedded) fn has_session(&self, session: &SessionId) -> bool {
        self.sessions.get(session).is_some()
    }

    pub(in crate::embedded) fn has_session_of(&self, incarnation: &IncarnationId) -> bool {
        self.sessions.open.iter().any(|session| session.incarnation == *incarnation)
    }
}
