//! What daemons say of themselves.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_domain::{InstanceId, Timestamp};

use crate::limits;
use crate::mailbox::MailboxKey;
use crate::report::{Changed, REMEMBERED, Registered, Registration, Report, ReportView, is_recent};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Reports {
    by_mailbox: HashMap<MailboxKey, (Timestamp, ReportView)>,
    /// When they were last looked through for forgotten ones.
    swept: Timestamp,
}

impl Reports {
    /// What is kept of an orchestrator; whatever it says, it is remembered from now on.
    fn of(&mut self, mailbox: MailboxKey, now: Timestamp) -> &mut ReportView {
        let (said, view) = self.by_mailbox.entry(mailbox).or_default();
        if now.since(*said) > REMEMBERED {
            *view = ReportView::default();
        }
        *said = now;
        view
    }

    pub(super) fn take(&mut self, report: Report, now: Timestamp) -> Changed {
        let mut changed = Changed::default();
        let view = self.of(report.mailbox, now);
        if report.heartbeat {
            view.heartbeat = Some(now);
        }
        if report.status.is_some() {
            let new = (report.status, report.message.unwrap_or_default());
            let old = (view.status, std::mem::take(&mut view.message));
            changed.status = new != old;
            (view.status, view.message) = new;
        }
        if report.presence.is_some() {
            let new = (report.presence, report.presence_text.unwrap_or_default());
            let old = (view.presence, std::mem::take(&mut view.presence_text));
            changed.presence = new != old;
            (view.presence, view.presence_text) = new;
        }
        if let Some(metrics) = report.metrics {
            let beyond = (view.metrics.len() + 1).saturating_sub(limits::METRICS);
            view.metrics.drain(..beyond);
            view.metrics.push((now, metrics));
        }
        changed
    }

    pub(super) fn register(
        &mut self,
        key: MailboxKey,
        instance: InstanceId,
        info: Bytes,
        now: Timestamp,
    ) -> Registered {
        let view = self.of(key, now);
        let another = view.registration.as_ref().is_some_and(|known| known.instance != instance);
        if another && view.lives(now) {
            return Registered::Another;
        }
        view.registration = Some(Registration { instance, info, at: now });
        Registered::Yes
    }

    pub(super) fn unregister(&mut self, key: &MailboxKey, instance: &InstanceId) -> bool {
        let Some((_, view)) = self.by_mailbox.get_mut(key) else { return false };
        let known = view.registration.as_ref().is_some_and(|known| known.instance == *instance);
        if known {
            view.registration = None;
        }
        known
    }

    pub(super) fn view(&self, key: &MailboxKey, now: Timestamp) -> ReportView {
        let found = self.by_mailbox.get(key).filter(|(said, _)| now.since(*said) <= REMEMBERED);
        let mut view = found.map(|(_, view)| view.clone()).unwrap_or_default();
        view.metrics.retain(|(at, _)| is_recent(*at, now));
        view
    }

    /// Forgets, once an hour, those who have been silent for long; answers how many.
    pub(super) fn sweep(&mut self, now: Timestamp) -> usize {
        if now.since(self.swept).as_secs() < 3600 {
            return 0;
        }
        self.swept = now;
        let before = self.by_mailbox.len();
        self.by_mailbox.retain(|_, (said, _)| now.since(*said) <= REMEMBERED);
        before - self.by_mailbox.len() + 1
    }
}
