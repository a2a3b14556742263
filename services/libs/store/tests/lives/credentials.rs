//! Lives of credentials.

use std::time::Duration;

use proptest::prelude::*;
use waystation_domain::{ScopeSet, SigningAlgorithm, Timestamp};
use waystation_store::audit::{AuditLog, AuditRecord, Chain};
use waystation_store::credential::*;

use super::pair::Pair;

#[derive(Clone, Debug)]
pub enum Step {
    Organization { number: u8, name: u8 },
    Orchestrator { organization: u8, number: u8 },
    Key { organization: u8, number: u8 },
    Login { organization: u8, number: u8, key: u8, counter: u32 },
    Rotate { login: u8, counter: u32 },
    Revoke { organization: u8, what: u8, number: u8 },
    SigningKey { number: u8, lead: u64, retiring: u64 },
    Status { organization: u8, number: u8, status: u8 },
    Secret { key: u8, mac: u8, until: u64 },
    Audit { organization: u8, after: u64, count: u64 },
    Settings { organization: u8, frames: u32 },
    Pass { seconds: u64 },
    Sweep,
}

pub fn step() -> impl Strategy<Value = Step> {
    let small = || 0..2u8;
    prop_oneof![
        2 => (small(), small()).prop_map(|(number, name)| Step::Organization { number, name }),
        2 => (small(), small()).prop_map(|(organization, number)| Step::Orchestrator { organization, number }),
        2 => (small(), small()).prop_map(|(organization, number)| Step::Key { organization, number }),
        4 => (small(), 0..3u8, small(), 0..2u32)
            .prop_map(|(organization, number, key, counter)| Step::Login { organization, number, key, counter }),
        6 => (0..3u8, 0..4u32).prop_map(|(login, counter)| Step::Rotate { login, counter }),
        3 => (small(), 0..5u8, 0..3u8).prop_map(|(organization, what, number)| Step::Revoke { organization, what, number }),
        2 => (0..3u8, 1..3u32).prop_map(|(organization, frames)| Step::Settings { organization, frames }),
        2 => (0..6u8, prop_oneof![Just(0), 1..30u64], 0..60u64)
            .prop_map(|(number, lead, retiring)| Step::SigningKey { number, lead, retiring }),
        1 => (small(), small(), 0..3u8)
            .prop_map(|(organization, number, status)| Step::Status { organization, number, status }),
        2 => (small(), 0..4u8, 0..60u64).prop_map(|(key, mac, until)| Step::Secret { key, mac, until }),
        2 => (0..3u8, 0..4u64, 1..3u64)
            .prop_map(|(organization, after, count)| Step::Audit { organization, after, count }),
        3 => prop_oneof![4 => 1..20u64, 1 => Just(90_000)].prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Sweep),
    ]
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(kind: &str, number: u8) -> T {
    format!("{kind}-{number}").parse().unwrap()
}

fn key(organization: u8, number: u8) -> ApiKey {
    ApiKey {
        id: parsed("key", number),
        organization: parsed("org", organization),
        orchestrator: None,
        scopes: ScopeSet::default(),
        secrets: vec![KeySecret { mac: [number; 32], until: None }],
        expires: None,
        networks: Vec::new(),
        stable_refresh: false,
        revoked: false,
    }
}

fn login(organization: u8, number: u8, key: u8, counter: u32) -> Login {
    Login {
        id: parsed("login", number),
        organization: parsed("org", organization),
        orchestrator: parsed("orch", number),
        daemon: None,
        key: parsed("key", key),
        scopes: ScopeSet::default(),
        counter,
        rotated: Timestamp::from_millis(1_700_000_000_000),
        stable: number == 2,
        networks: Vec::new(),
        revoked: false,
    }
}

fn chain(number: u8) -> Chain {
    Chain { organization: (number < 2).then(|| parsed("org", number)), log: AuditLog::Changes }
}

fn audit(sequence: u64, time: Timestamp) -> AuditRecord {
    let text = |what: &str| format!("{what} {sequence}");
    AuditRecord {
        sequence,
        time,
        action: text("action"),
        actor: text("actor"),
        target: text("target"),
        request: String::new(),
        result: "ok".into(),
        detail: String::new(),
        mac: [1; 32],
    }
}

pub async fn live(steps: Vec<Step>, mut pair: Pair) {
    for step in steps {
        take(&mut pair, &step).await;
        compare_views(&pair, &step).await;
    }
}

async fn take(pair: &mut Pair, step: &Step) {
    let (now, model, redis) = (Some(pair.now), pair.model.credentials.clone(), pair.redis.credentials.clone());
    macro_rules! both {
        ($method:ident($($argument:expr),*)) => {{
            let answers = (model.$method($($argument,)* now).await.unwrap(), redis.$method($($argument,)* now).await.unwrap());
            pair.same(step, answers.0, answers.1);
        }};
    }
    match step {
        Step::Organization { number, name } => {
            let record = Organization {
                id: parsed("org", *number),
                name: format!("name {name}"),
                slug: "slug".into(),
                auto_create_orchestrators: *name == 0,
            };
            both!(create_organization(record.clone()));
        }
        Step::Orchestrator { organization, number } => {
            let (organization, id) = (parsed("org", *organization), parsed("orch", *number));
            let record = Orchestrator { organization, id, display: Display::default() };
            both!(create_orchestrator(record.clone()));
        }
        Step::Key { organization, number } => both!(create_api_key(key(*organization, *number))),
        Step::Login { organization, number, key, counter } => {
            both!(create_login(login(*organization, *number, *key, *counter)));
        }
        Step::Rotate { login, counter } => both!(rotate(&parsed("login", *login), *counter)),
        Step::Revoke { organization, what, number } => {
            let revoked = match what {
                0 => Revoked::Token(parsed("token", *number)),
                1 => Revoked::Login(parsed("login", *number)),
                2 => Revoked::ApiKey(parsed("key", *number)),
                3 => Revoked::Orchestrator(parsed("orch", *number)),
                _ => Revoked::Organization,
            };
            both!(revoke(&parsed("org", *organization), revoked.clone()));
        }
        Step::SigningKey { number, lead, retiring } => {
            let new = NewSigningKey {
                id: format!("kid-{number}"),
                algorithm: SigningAlgorithm::Es256,
                seed: [*number; 32],
                lead: Duration::from_secs(*lead),
                retiring: Duration::from_secs(*retiring),
            };
            both!(first_signing_key(new.clone()));
            both!(rotate_signing_key(new.clone()));
        }
        Step::Status { organization, number, status } => {
            let status = match status {
                0 => OrchestratorStatus::Active,
                1 => OrchestratorStatus::Offline,
                _ => OrchestratorStatus::Disabled,
            };
            both!(set_orchestrator_status(&parsed("org", *organization), &parsed("orch", *number), status));
        }
        Step::Secret { key, mac, until } => {
            let until = pair.now.after(Duration::from_secs(*until));
            both!(take_secret(&parsed("key", *key), [*mac; 32], until));
        }
        Step::Audit { organization, after, count } => {
            let chain = chain(*organization);
            let records: Vec<_> = (after + 1..=after + count).map(|sequence| audit(sequence, pair.now)).collect();
            let model = pair.model.audit.append_audit(&chain, *after, records.clone(), now).await.unwrap();
            let redis = pair.redis.audit.append_audit(&chain, *after, records, now).await.unwrap();
            pair.same(step, model, redis);
        }
        Step::Settings { organization, frames } => {
            let settings = OrganizationSettings { frames_per_minute: Some(*frames), ..OrganizationSettings::default() };
            both!(set_settings(&parsed("org", *organization), settings.clone()));
        }
        Step::Pass { seconds } => pair.now = pair.now.after(Duration::from_secs(*seconds)),
        Step::Sweep => {
            let sweep = waystation_store::mailbox::Sweep { limit: 1_000 };
            pair.model.mailboxes.sweep(sweep.clone(), now).await.unwrap();
            pair.redis.mailboxes.sweep(sweep, now).await.unwrap();
        }
    }
}

/// Whatever can be seen is the same after each step.
async fn compare_views(pair: &Pair, step: &Step) {
    let (model, redis) = (&pair.model.credentials, &pair.redis.credentials);
    macro_rules! both {
        ($method:ident($($argument:expr),*)) => {{
            let answers = (model.$method($($argument),*).await.unwrap(), redis.$method($($argument),*).await.unwrap());
            pair.same(step, answers.0, answers.1);
        }};
    }
    for number in 0..3 {
        both!(organization(&parsed("org", number)));
        both!(settings(&parsed("org", number)));
        both!(subject(&parsed("org", 0), &parsed("orch", number)));
        both!(orchestrators(&parsed("org", number), "orch-0", 2));
        both!(api_keys(&parsed("org", number), "", 2));
        both!(api_key(&parsed("key", number)));
        both!(login(&parsed("login", number)));
    }
    both!(signing_keys());
    for number in 0..3 {
        let (model, redis, chain) = (&pair.model.audit, &pair.redis.audit, &chain(number));
        pair.same(step, model.audit_head(chain).await.unwrap(), redis.audit_head(chain).await.unwrap());
        pair.same(step, model.audit(chain, 1, 2).await.unwrap(), redis.audit(chain, 1, 2).await.unwrap());
    }
    both!(revocations(0));
    both!(revocations(2));
}
