//! Lives of credentials.

use std::time::Duration;

use proptest::prelude::*;
use waystation_domain::{ScopeSet, Timestamp};
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
    SigningKey { number: u8 },
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
        1 => small().prop_map(|number| Step::SigningKey { number }),
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
        mac: [number; 32],
        expires: None,
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
        revoked: false,
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
        Step::SigningKey { number } => {
            let kept = SigningKey { id: format!("kid-{number}"), seed: [*number; 32], created: pair.now };
            both!(signing_key(kept.clone()));
        }
        Step::Settings { organization, frames } => {
            let settings = OrganizationSettings { frames_per_minute: Some(*frames), ..OrganizationSettings::default() };
            both!(set_settings(&parsed("org", *organization), settings));
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
        both!(orchestrator(&parsed("org", 0), &parsed("orch", number)));
        both!(api_key(&parsed("key", number)));
        both!(login(&parsed("login", number)));
    }
    both!(revocations(0));
    both!(revocations(2));
}
