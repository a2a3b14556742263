//! What daemons say of themselves, kept by orchestrator. Nothing is decided by it but what is shown; whether a session is
//! paused is the session's matter.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_domain::{InstanceId, ReportedPresence, ReportedStatus, Timestamp};

use crate::mailbox::{MailboxKey, Now};
use crate::{Unavailable, limits};

/// A word from a daemon. What is `None` stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of which orchestrator.
    pub mailbox: MailboxKey,
    /// It is a heartbeat.
    pub heartbeat: bool,
    /// What it is doing.
    pub status: Option<ReportedStatus>,
    /// In words; with a status.
    pub message: Option<String>,
    /// How it wants to be seen.
    pub presence: Option<ReportedPresence>,
    /// In words; with a presence.
    pub presence_text: Option<String>,
    /// Numbers, a JSON object.
    pub metrics: Option<Bytes>,
}

/// What a report has changed; one that says again what was known changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What it is doing, or the words for it.
    pub status: bool,
    /// How it wants to be seen, or the words for it.
    pub presence: bool,
}

/// The process that says it serves an orchestrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Which run of it.
    pub instance: InstanceId,
    /// What it says of itself, a JSON object.
    pub info: Bytes,
    /// Since when.
    pub at: Timestamp,
}

/// Whether a process was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Registered {
    /// It is, now or since before.
    Yes,
    /// Another is, and lives.
    Another,
}

/// All that is kept of an orchestrator's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportView {
    /// What it is doing.
    pub status: Option<ReportedStatus>,
    /// In words.
    pub message: String,
    /// How it wants to be seen.
    pub presence: Option<ReportedPresence>,
    /// In words.
    pub presence_text: String,
    /// The last one.
    pub heartbeat: Option<Timestamp>,
    /// Oldest first: the last [`limits::METRICS`] of the last [`limits::METRICS_AGE`].
    pub metrics: Vec<(Timestamp, Bytes)>,
    /// Who serves it.
    pub registration: Option<Registration>,
}

impl ReportView {
    /// Whether what is registered is still there: it was heard not long ago.
    pub(crate) fn lives(&self, now: Timestamp) -> bool {
        let heard = self.registration.as_ref().map(|registration| registration.at).max(self.heartbeat);
        self.registration.is_some() && heard.is_some_and(|heard| now.since(heard) <= limits::REGISTRATION_SILENCE)
    }
}

/// How old metrics may be.
pub(crate) fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.since(at) <= limits::METRICS_AGE
}

/// How long an orchestrator that says nothing is remembered.
pub(crate) const REMEMBERED: Duration = limits::TIME_TO_LIVE;

/// What daemons say of themselves.
#[async_trait]
pub trait ReportStore: Send + Sync {
    /// Takes reports in; answers what each has changed.
    async fn report(&self, reports: Vec<Report>, now: Now) -> Result<Vec<Changed>, Unavailable>;
    /// Says which process serves an orchestrator.
    async fn register(
        &self,
        mailbox: &MailboxKey,
        instance: InstanceId,
        info: Bytes,
        now: Now,
    ) -> Result<Registered, Unavailable>;
    /// That it does not any more; answers whether it did.
    async fn unregister(&self, mailbox: &MailboxKey, instance: &InstanceId, now: Now) -> Result<bool, Unavailable>;
    /// What is kept of an orchestrator's words.
    async fn reported(&self, mailbox: &MailboxKey, now: Now) -> Result<ReportView, Unavailable>;
}
