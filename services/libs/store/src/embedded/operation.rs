//! What changes the state: each operation is journaled as it was asked.

use serde::Serialize;
use serde::de::DeserializeOwned;
use waystation_domain::{LoginId, OrganizationId, Timestamp};

use super::state::{State, bounded_lease};
use crate::credential::{
    ApiKey, Created, Login, Orchestrator, Organization, OrganizationSettings, Revoked, Rotation, SigningKey,
};
use crate::mailbox::*;

/// A change of the state that gives the same answer whenever it is repeated from the same state.
pub(super) trait Operation: Serialize + DeserializeOwned {
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
credential_operation!(CreateOrchestrator(Orchestrator) = 21, Created, |op, kept, _| kept.create_orchestrator(op.0));
credential_operation!(CreateApiKey(ApiKey) = 22, Created, |op, kept, _| kept.create_api_key(op.0));
credential_operation!(CreateLogin(Login) = 23, Created, |op, kept, _| kept.create_login(op.0));
credential_operation!(KeepSigningKey(SigningKey) = 24, SigningKey, |op, kept, _| kept.keep_signing_key(op.0));
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
