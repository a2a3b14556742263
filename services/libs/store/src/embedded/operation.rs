//! What changes the state: each operation is journaled as it was asked.

mod federation;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use waystation_domain::{ApiKeyId, InstanceId, LoginId, OrchestratorId, OrganizationId, Timestamp};

use super::state::{State, bounded_lease};
use crate::audit::{AuditRecord, Chain};
use crate::credential::{
    ApiKey, Created, Login, NewSecret, NewSigningKey, Orchestrator, OrchestratorStatus, Organization,
    OrganizationSettings, Revoked, Rotation, SigningKeys,
};
use crate::feed::{FeedExtent, Interest, Publication, Publish};
use crate::mailbox::*;
use crate::report::{Changed, Registered, Report};
pub(super) use federation::{
    DeregisterOrchestrator, ForgetDelegation, NoteStanding, RegisterOrchestrator, ReportOrchestrator,
};

/// Is among those that the journal can repeat. Only its list makes an operation so: one that is missing there does not
/// compile, instead of being written and never read again.
pub(super) trait Repeatable {}

/// A change of the state that gives the same answer whenever it is repeated from the same state.
pub(super) trait Operation: Serialize + DeserializeOwned + Repeatable {
    /// Names the operation in the journal.
    const TAG: u8;
    type Answer: Serialize;

    fn apply(self, state: &mut State, now: Timestamp) -> Self::Answer;

    /// Need not be journaled.
    fn changed_nothing(_: &Self::Answer) -> bool {
        false
    }
}

impl Operation for Append {
    const TAG: u8 = 1;
    type Answer = Vec<Result<Appended, AppendRefused>>;

    fn apply(self, state: &mut State, now: Timestamp) -> Self::Answer {
        let Append { messages, liveness } = self;
        let epoch = state.epoch();
        let each = messages.into_iter().map(|message| {
            let key = message.mailbox.clone();
            state.change(&key, |mailbox| mailbox.append(message, &liveness, epoch, now))
        });
        each.collect()
    }

    fn changed_nothing(answer: &Self::Answer) -> bool {
        answer.iter().all(Result::is_err)
    }
}

impl Operation for OpenSession {
    const TAG: u8 = 2;
    type Answer = Result<Opened, OpenRefused>;

    fn apply(self, state: &mut State, now: Timestamp) -> Self::Answer {
        if !state.is_live(&self.incarnation, now) {
            return Err(OpenRefused::IncarnationExpired);
        }
        let (key, session, incarnation) = (self.mailbox.clone(), self.session.clone(), self.incarnation.clone());
        let epoch = state.epoch();
        let answer = state.change(&key, |mailbox| mailbox.open(self, epoch, now));
        let displaced = match &answer {
            Ok(opened) => &opened.displaced[..],
            Err(OpenRefused::DuplicateIdentity(displaced)) => displaced,
            Err(OpenRefused::TooManySessions | OpenRefused::IncarnationExpired | OpenRefused::Superseded) => &[],
        };
        for displaced in displaced {
            state.note_closed(&key, &displaced.session);
        }
        if answer.is_ok() {
            state.note_opened(&key, &session, &incarnation);
        }
        answer
    }
}

impl Operation for CloseSession {
    const TAG: u8 = 3;
    type Answer = Option<ActivationNotice>;

    fn apply(self, state: &mut State, now: Timestamp) -> Self::Answer {
        let answer = state.change_known(&self.mailbox, |mailbox| mailbox.close(&self, now)).flatten();
        state.note_closed(&self.mailbox, &self.session);
        answer
    }
}

impl Operation for ReadMailbox {
    const TAG: u8 = 4;
    type Answer = Result<ReadAnswer, Refused>;

    fn apply(self, state: &mut State, now: Timestamp) -> Self::Answer {
        state.change_known(&self.mailbox, |mailbox| mailbox.read(&self, now)).unwrap_or(Err(Refused::SessionUnknown))
    }

    fn changed_nothing(answer: &Self::Answer) -> bool {
        answer.is_err()
    }
}

impl Operation for Settle {
    const TAG: u8 = 5;
    type Answer = Vec<Settled>;

    fn apply(self, state: &mut State, now: Timestamp) -> Self::Answer {
        let each = self.settlements.iter().map(|settlement| {
            let settled = state.change_known(&settlement.mailbox, |mailbox| mailbox.settle(settlement, now));
            settled.unwrap_or_else(|| Settled {
                fenced: true,
                confirmed: vec![false; settlement.confirm.len()],
                ..Settled::default()
            })
        });
        each.collect()
    }
}

impl Operation for Compare {
    const TAG: u8 = 6;
    type Answer = Compared;

    fn apply(self, state: &mut State, now: Timestamp) -> Self::Answer {
        let mut compared = Compared { results: Vec::new(), activated: Vec::new() };
        for report in &self.reports {
            let found = state.change_known(&report.mailbox, |mailbox| mailbox.compare(report, &self.liveness, now));
            let (result, activated) = found.unwrap_or((None, None));
            compared.results.push(result);
            compared.activated.extend(activated);
        }
        compared
    }
}

impl Operation for Subscribe {
    const TAG: u8 = 7;
    type Answer = Result<(), Refused>;

    fn apply(self, state: &mut State, _: Timestamp) -> Self::Answer {
        state.change_known(&self.mailbox, |mailbox| mailbox.subscribe(&self)).unwrap_or(Err(Refused::SessionUnknown))
    }
}

impl Operation for RenewIncarnation {
    const TAG: u8 = 8;
    type Answer = Renewed;

    fn apply(mut self, state: &mut State, now: Timestamp) -> Self::Answer {
        self.lease = bounded_lease(self.lease);
        state.renew(self, now)
    }
}

impl Operation for Sweep {
    const TAG: u8 = 9;
    type Answer = Swept;

    fn apply(self, state: &mut State, now: Timestamp) -> Self::Answer {
        state.sweep(&self, now)
    }

    fn changed_nothing(answer: &Self::Answer) -> bool {
        answer.handled == 0
    }
}

impl Operation for Purge {
    const TAG: u8 = 10;
    type Answer = u64;

    fn apply(self, state: &mut State, now: Timestamp) -> Self::Answer {
        state.change_known(&self.mailbox, |mailbox| mailbox.purge(now)).unwrap_or(0)
    }
}

impl Operation for ForgetDeadLetters {
    const TAG: u8 = 11;
    type Answer = u64;

    fn apply(self, state: &mut State, _: Timestamp) -> Self::Answer {
        state.change_known(&self.mailbox, |mailbox| mailbox.forget_dead_letters(&self.numbers)).unwrap_or(0)
    }

    fn changed_nothing(answer: &Self::Answer) -> bool {
        *answer == 0
    }
}

impl Operation for NewsTold {
    const TAG: u8 = 12;
    type Answer = ();

    fn apply(self, state: &mut State, _: Timestamp) {
        state.change_known(&self.mailbox, |mailbox| mailbox.note_told(self.online, self.letters));
    }
}

macro_rules! credential_operation {
    ($name:ident { $($field:ident: $type:ty),* } = $tag:literal, $answer:ty, $apply:expr) => {
        #[derive(Serialize, serde::Deserialize)]
        pub(super) struct $name { $(pub(super) $field: $type),* }
        credential_operation!(@impl $name = $tag, $answer, $apply);
    };
    ($name:ident($type:ty) = $tag:literal, $answer:ty, $apply:expr) => {
        #[derive(Serialize, serde::Deserialize)]
        pub(super) struct $name(pub(super) $type);
        credential_operation!(@impl $name = $tag, $answer, $apply);
    };
    (@impl $name:ident = $tag:literal, $answer:ty, $apply:expr) => {
        impl Operation for $name {
            const TAG: u8 = $tag;
            type Answer = $answer;
            fn apply(self, state: &mut State, now: Timestamp) -> $answer {
                let apply: fn($name, &mut super::credentials::Credentials, Timestamp) -> $answer = $apply;
                apply(self, &mut state.credentials, now)
            }
        }
    };
}

credential_operation!(CreateOrganization(Organization) = 20, Created, |op, kept, _| kept.create_organization(op.0));
credential_operation!(CreateOrchestrator(Orchestrator) = 21, Created, |op, kept, now| {
    kept.create_orchestrator(op.0, now)
});
credential_operation!(CreateApiKey(ApiKey) = 22, Created, |op, kept, _| kept.create_api_key(op.0));
credential_operation!(CreateLogin(Login) = 23, Created, |op, kept, _| kept.create_login(op.0));
credential_operation!(FirstSigningKey(NewSigningKey) = 24, SigningKeys, |op, kept, now| {
    kept.first_signing_key(op.0, now)
});
credential_operation!(RotateLogin { login: LoginId, counter: u32 } = 25, Rotation, |op, kept, now| {
    kept.rotate(&op.login, op.counter, now)
});
credential_operation!(Revoke { organization: OrganizationId, revoked: Revoked } = 26, (), |op, kept, now| {
    kept.revoke(op.organization, op.revoked, now);
});
credential_operation!(
    SetSettings { organization: OrganizationId, settings: OrganizationSettings } = 27,
    bool,
    |op, kept, _| { kept.set_settings(op.organization, op.settings) }
);
credential_operation!(
    SetOrchestratorStatus { of: (OrganizationId, OrchestratorId), status: OrchestratorStatus } = 28,
    bool,
    |op, kept, now| { kept.set_orchestrator_status(op.of, op.status, now) }
);
credential_operation!(TakeSecret { id: ApiKeyId, mac: [u8; 32], until: Timestamp } = 29, NewSecret, |op, kept, now| {
    kept.take_secret(&op.id, op.mac, op.until, now)
});
credential_operation!(RotateSigningKey(NewSigningKey) = 30, bool, |op, kept, now| kept.rotate_signing_key(op.0, now));

#[derive(Serialize, serde::Deserialize)]
pub(super) struct AppendAudit {
    pub(super) chain: Chain,
    pub(super) after: u64,
    pub(super) records: Vec<AuditRecord>,
}

impl Operation for AppendAudit {
    const TAG: u8 = 31;
    type Answer = bool;

    fn apply(self, state: &mut State, _: Timestamp) -> bool {
        state.audit.append(self.chain, self.after, self.records)
    }

    fn changed_nothing(answer: &bool) -> bool {
        !answer
    }
}

impl Operation for Publish {
    const TAG: u8 = 50;
    type Answer = Publication;

    fn apply(self, state: &mut State, now: Timestamp) -> Publication {
        let epoch = state.epoch();
        state.feeds.publish(self, epoch, now)
    }
}

impl Operation for Interest {
    const TAG: u8 = 51;
    type Answer = Vec<FeedExtent>;

    fn apply(self, state: &mut State, _: Timestamp) -> Vec<FeedExtent> {
        state.feeds.set_interest(self)
    }
}

#[derive(Serialize, serde::Deserialize)]
pub(super) struct SweepFeeds;

impl Operation for SweepFeeds {
    const TAG: u8 = 52;
    type Answer = u64;

    fn apply(self, state: &mut State, now: Timestamp) -> u64 {
        state.feeds.sweep(now)
    }

    fn changed_nothing(answer: &u64) -> bool {
        *answer == 0
    }
}

#[derive(Serialize, serde::Deserialize)]
pub(super) struct TakeReports(pub(super) Vec<Report>);

impl Operation for TakeReports {
    const TAG: u8 = 40;
    type Answer = Vec<Changed>;

    fn apply(self, state: &mut State, now: Timestamp) -> Vec<Changed> {
        self.0.into_iter().map(|report| state.reports.take(report, now)).collect()
    }
}

#[derive(Serialize, serde::Deserialize)]
pub(super) struct Register {
    pub(super) mailbox: MailboxKey,
    pub(super) instance: InstanceId,
    pub(super) info: Bytes,
}

impl Operation for Register {
    const TAG: u8 = 41;
    type Answer = Registered;

    fn apply(self, state: &mut State, now: Timestamp) -> Registered {
        state.reports.register(self.mailbox, self.instance, self.info, now)
    }
}

#[derive(Serialize, serde::Deserialize)]
pub(super) struct Unregister {
    pub(super) mailbox: MailboxKey,
    pub(super) instance: InstanceId,
}

impl Operation for Unregister {
    const TAG: u8 = 42;
    type Answer = bool;

    fn apply(self, state: &mut State, _: Timestamp) -> bool {
        state.reports.unregister(&self.mailbox, &self.instance)
    }

    fn changed_nothing(answer: &bool) -> bool {
        !answer
    }
}
