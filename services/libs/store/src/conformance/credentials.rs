//! Organizations, keys, logins and revocations.

use waystation_domain::{Scope, SigningAlgorithm};

use super::World;
use crate::audit::{AuditLog, AuditRecord, Chain};
use crate::credential::*;
use crate::limits;
use crate::mailbox::{MailboxLimits, Overflow};

fn organization() -> Organization {
    Organization {
        id: "acme".parse().unwrap(),
        name: "Acme".into(),
        slug: "acme".into(),
        auto_create_orchestrators: false,
    }
}

pub async fn settings_replace_those_before(world: World) {
    let store = &world.store.credentials;
    let id = organization().id;
    let few = OrganizationSettings { frames_per_minute: Some(7), ..OrganizationSettings::default() };
    assert!(!store.set_settings(&id, few.clone(), world.at()).await.unwrap(), "there is no such organization");
    store.create_organization(organization(), world.at()).await.unwrap();
    assert_eq!(store.settings(&id).await.unwrap(), OrganizationSettings::default());
    assert!(store.set_settings(&id, few.clone(), world.at()).await.unwrap());
    assert_eq!(store.settings(&id).await.unwrap(), few);
    let mailbox = MailboxLimits { entries: 5, bytes: 99, overflow: Overflow::ReplaceOldest };
    let others = OrganizationSettings {
        mailbox,
        sessions: Some(2),
        messages_per_second: Some(9),
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        ..OrganizationSettings::default()
    };
    assert!(store.set_settings(&id, others.clone(), world.at()).await.unwrap());
    assert_eq!(store.settings(&id).await.unwrap(), others);
    // Making it once more is still harmless.
    assert_eq!(store.create_organization(organization(), world.at()).await.unwrap(), Created::Yes);
}

fn key() -> ApiKey {
    ApiKey {
        id: "k1".parse().unwrap(),
        organization: "acme".parse().unwrap(),
        orchestrator: None,
        scopes: [Scope::MessagesRead].into_iter().collect(),
        secrets: vec![KeySecret { mac: [7; 32], until: None }],
        expires: None,
        networks: Vec::new(),
        stable_refresh: false,
        revoked: false,
    }
}

fn login(world: &World) -> Login {
    Login {
        id: "l1".parse().unwrap(),
        organization: "acme".parse().unwrap(),
        orchestrator: "orla".parse().unwrap(),
        daemon: None,
        key: "k1".parse().unwrap(),
        scopes: key().scopes,
        counter: 1,
        rotated: world.now,
        stable: false,
        networks: Vec::new(),
        revoked: false,
    }
}

async fn logged_in(world: &World) -> Login {
    let store = &world.store.credentials;
    store.create_organization(organization(), world.at()).await.unwrap();
    store.create_api_key(key(), world.at()).await.unwrap();
    assert_eq!(store.create_login(login(world), world.at()).await.unwrap(), Created::Yes);
    login(world)
}

pub async fn records_are_made_once(world: World) {
    let store = &world.store.credentials;
    assert_eq!(store.create_api_key(key(), world.at()).await.unwrap(), Created::NoParent);
    for _ in 0..2 {
        assert_eq!(store.create_organization(organization(), world.at()).await.unwrap(), Created::Yes);
    }
    let other = Organization { name: "Other".into(), ..organization() };
    assert_eq!(store.create_organization(other, world.at()).await.unwrap(), Created::Conflict);
    assert_eq!(store.organization(&organization().id).await.unwrap(), Some(organization()));
    let orchestrator =
        Orchestrator { organization: organization().id, id: "orla".parse().unwrap(), display: Display::default() };
    assert_eq!(store.create_orchestrator(orchestrator.clone(), world.at()).await.unwrap(), Created::Yes);
    let found = store.subject(&orchestrator.organization, &orchestrator.id).await.unwrap();
    assert_eq!((found.organization, found.orchestrator), (Some(organization()), Some(orchestrator.clone())));
    let elsewhere = store.subject(&"other".parse().unwrap(), &orchestrator.id).await.unwrap();
    assert_eq!((elsewhere.organization, elsewhere.orchestrator), (None, None));
}

pub async fn a_refresh_token_is_used_once(mut world: World) {
    let login = logged_in(&world).await;
    let store = world.store.credentials.clone();
    let Rotation::Valid(next) = store.rotate(&login.id, 1, world.at()).await.unwrap() else { panic!("valid") };
    assert_eq!(next.counter, 2);
    world.pass(limits::REFRESH_GRACE);
    let Rotation::Valid(again) = store.rotate(&login.id, 1, world.at()).await.unwrap() else { panic!("in grace") };
    assert_eq!(again.counter, 2, "the same successor");
    assert_eq!(store.rotate(&"l9".parse().unwrap(), 1, world.at()).await.unwrap(), Rotation::Unknown);
}

pub async fn a_reused_refresh_token_ends_the_login(mut world: World) {
    let login = logged_in(&world).await;
    let store = world.store.credentials.clone();
    store.rotate(&login.id, 1, world.at()).await.unwrap();
    world.pass(limits::REFRESH_GRACE * 2);
    assert_eq!(store.rotate(&login.id, 1, world.at()).await.unwrap(), Rotation::Reused);
    assert_eq!(store.rotate(&login.id, 2, world.at()).await.unwrap(), Rotation::Revoked);
    let revocations = store.revocations(0).await.unwrap();
    assert_eq!(revocations[0].1.revoked, Revoked::Login(login.id));
}

pub async fn a_revoked_key_ends_its_logins(world: World) {
    let login = logged_in(&world).await;
    let store = &world.store.credentials;
    store.revoke(&login.organization, Revoked::ApiKey(key().id), world.at()).await.unwrap();
    assert!(store.api_key(&key().id).await.unwrap().unwrap().revoked);
    assert!(store.login(&login.id).await.unwrap().unwrap().revoked);
    assert_eq!(store.rotate(&login.id, 1, world.at()).await.unwrap(), Rotation::Revoked);
}

pub async fn revocations_are_read_from_a_cursor(mut world: World) {
    let store = world.store.credentials.clone();
    let organization = organization().id;
    for n in 1..=3 {
        let token = Revoked::Token(format!("t{n}").parse().unwrap());
        store.revoke(&organization, token, world.at()).await.unwrap();
    }
    let all = store.revocations(0).await.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(store.revocations(all[1].0).await.unwrap(), all[2..]);
    world.pass(limits::REVOCATION_AGE * 2);
    world.sweep().await;
    assert!(store.revocations(0).await.unwrap().is_empty());
}

pub async fn a_stable_login_keeps_its_refresh_token(mut world: World) {
    logged_in(&world).await;
    let store = world.store.credentials.clone();
    let stable = Login { id: "l2".parse().unwrap(), stable: true, ..login(&world) };
    store.create_login(stable.clone(), world.at()).await.unwrap();
    for _ in 0..3 {
        world.pass(limits::REFRESH_GRACE * 2);
        let Rotation::Valid(next) = store.rotate(&stable.id, 1, world.at()).await.unwrap() else { panic!("valid") };
        assert_eq!((next.counter, next.rotated), (1, world.now));
    }
    store.revoke(&stable.organization, Revoked::ApiKey(key().id), world.at()).await.unwrap();
    assert_eq!(store.rotate(&stable.id, 1, world.at()).await.unwrap(), Rotation::Revoked);
}

pub async fn the_status_of_an_orchestrator_is_set_apart(mut world: World) {
    let store = world.store.credentials.clone();
    let (tenant, id) = (organization().id, "orla".parse().unwrap());
    let set = async |world: &World, status| {
        world.store.credentials.set_orchestrator_status(&tenant, &id, status, world.at()).await.unwrap()
    };
    assert!(!set(&world, OrchestratorStatus::Disabled).await, "there is no such organization");
    store.create_organization(organization(), world.at()).await.unwrap();
    let state = async || store.subject(&tenant, &id).await.unwrap().state;
    assert_eq!(state().await, OrchestratorState::default());
    assert!(set(&world, OrchestratorStatus::Disabled).await, "it need not have been made");
    let disabled = world.now;
    world.pass(std::time::Duration::from_secs(5));
    let record = Orchestrator { organization: tenant.clone(), id: id.clone(), display: Display::default() };
    for _ in 0..2 {
        assert_eq!(store.create_orchestrator(record.clone(), world.at()).await.unwrap(), Created::Yes);
    }
    let now =
        OrchestratorState { status: OrchestratorStatus::Disabled, created: Some(world.now), updated: Some(disabled) };
    assert_eq!(state().await, now);
    world.pass(std::time::Duration::from_secs(5));
    assert_eq!(store.create_orchestrator(record.clone(), world.at()).await.unwrap(), Created::Yes);
    assert!(set(&world, OrchestratorStatus::Offline).await);
    let now = OrchestratorState { status: OrchestratorStatus::Offline, updated: Some(world.now), ..now };
    assert_eq!(store.orchestrators(&tenant, "", 10).await.unwrap(), [(record, now)]);
}

pub async fn records_are_listed_in_pages(world: World) {
    let store = &world.store.credentials;
    let other = Organization { id: "acme2".parse().unwrap(), ..organization() };
    store.create_organization(organization(), world.at()).await.unwrap();
    store.create_organization(other.clone(), world.at()).await.unwrap();
    for (n, tenant) in [(3, &other), (1, &organization()), (10, &organization()), (2, &organization())] {
        let made = ApiKey { id: format!("k{n}").parse().unwrap(), organization: tenant.id.clone(), ..key() };
        store.create_api_key(made, world.at()).await.unwrap();
        let id = format!("orla-{n}").parse().unwrap();
        let record = Orchestrator { organization: tenant.id.clone(), id, display: Display::default() };
        store.create_orchestrator(record, world.at()).await.unwrap();
    }
    store.revoke(&organization().id, Revoked::ApiKey("k10".parse().unwrap()), world.at()).await.unwrap();
    let keys = async |after: &str, most| {
        let found = store.api_keys(&organization().id, after, most).await.unwrap();
        found.iter().map(|key| format!("{}{}", key.id, if key.revoked { " revoked" } else { "" })).collect::<Vec<_>>()
    };
    assert_eq!(keys("", 2).await, ["k1", "k10 revoked"]);
    assert_eq!(keys("k10", 2).await, ["k2"]);
    assert!(keys("k2", 2).await.is_empty());
    let found = store.orchestrators(&other.id, "", 5).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.id.as_str(), "orla-3");
    assert!(store.orchestrators(&other.id, "orla-3", 5).await.unwrap().is_empty());
}

pub async fn a_key_has_two_secrets_at_most(mut world: World) {
    logged_in(&world).await;
    let store = world.store.credentials.clone();
    let id = key().id;
    let hour = std::time::Duration::from_secs(3_600);
    let later = world.now.after(hour);
    let take = async |world: &World, mac: u8, until| {
        world.store.credentials.take_secret(&id, [mac; 32], until, world.at()).await.unwrap()
    };
    let secrets = async || {
        let key = store.api_key(&id).await.unwrap().unwrap();
        key.secrets.iter().map(|secret| (secret.mac[0], secret.until)).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(take(&world, 8, later).await, NewSecret::Taken, "a repeat changes nothing");
        assert_eq!(secrets().await, [(8, None), (7, Some(later))]);
    }
    assert_eq!(take(&world, 9, later).await, NewSecret::TwoAreValid(Some(later)));
    assert_eq!(secrets().await, [(8, None), (7, Some(later))]);
    world.pass(hour);
    let much_later = world.now.after(hour);
    assert_eq!(take(&world, 9, much_later).await, NewSecret::Taken);
    assert_eq!(secrets().await, [(9, None), (8, Some(much_later))]);
    assert_eq!(take(&world, 10, world.now).await, NewSecret::Taken, "those before end at once");
    assert_eq!(secrets().await, [(10, None)]);
    let unknown = store.take_secret(&"k9".parse().unwrap(), [1; 32], later, world.at()).await.unwrap();
    assert_eq!(unknown, NewSecret::Unknown);
    store.revoke(&organization().id, Revoked::ApiKey(id.clone()), world.at()).await.unwrap();
    assert_eq!(take(&world, 11, later).await, NewSecret::Unknown);
}

fn signing_key(n: u8, lead: u64, retiring: u64) -> NewSigningKey {
    NewSigningKey {
        id: format!("key{n}"),
        algorithm: SigningAlgorithm::EdDsa,
        seed: [n; 32],
        lead: std::time::Duration::from_secs(lead),
        retiring: std::time::Duration::from_secs(retiring),
    }
}

async fn phases(world: &World) -> Vec<(String, KeyPhase)> {
    let keys = world.store.credentials.signing_keys().await.unwrap();
    keys.phases(world.now).map(|(key, phase)| (key.id.clone(), phase)).collect()
}

fn named(phases: &[(u8, KeyPhase)]) -> Vec<(String, KeyPhase)> {
    phases.iter().map(|(n, phase)| (format!("key{n}"), *phase)).collect()
}

pub async fn signing_keys_follow_each_other(mut world: World) {
    let store = world.store.credentials.clone();
    let seconds = std::time::Duration::from_secs;
    for n in 1..=2 {
        let kept = store.first_signing_key(signing_key(n, 0, 0), world.at()).await.unwrap();
        assert_eq!((kept.0.len(), kept.0[0].id.as_str()), (1, "key1"), "the first one stays");
    }
    for _ in 0..2 {
        assert!(store.rotate_signing_key(signing_key(2, 60, 600), world.at()).await.unwrap());
    }
    assert!(!store.rotate_signing_key(signing_key(3, 60, 600), world.at()).await.unwrap(), "one waits already");
    assert_eq!(phases(&world).await, named(&[(1, KeyPhase::Active), (2, KeyPhase::Next)]));
    world.pass(seconds(60));
    assert_eq!(phases(&world).await, named(&[(1, KeyPhase::Retiring), (2, KeyPhase::Active)]));
    assert!(store.rotate_signing_key(signing_key(3, 60, 600), world.at()).await.unwrap());
    world.pass(seconds(599));
    let three = [(1, KeyPhase::Retiring), (2, KeyPhase::Retiring), (3, KeyPhase::Active)];
    assert_eq!(phases(&world).await, named(&three));
    world.pass(seconds(1));
    assert_eq!(phases(&world).await, named(&three[1..]));
    world.pass(seconds(60));
    assert_eq!(phases(&world).await, named(&three[2..]));
}

pub async fn a_signing_key_that_is_known_to_others_ends_at_once(world: World) {
    let store = &world.store.credentials;
    store.first_signing_key(signing_key(1, 0, 0), world.at()).await.unwrap();
    assert!(store.rotate_signing_key(signing_key(2, 60, 600), world.at()).await.unwrap());
    assert!(store.rotate_signing_key(signing_key(3, 0, 0), world.at()).await.unwrap());
    assert_eq!(phases(&world).await, named(&[(3, KeyPhase::Active)]), "nor does the one that waited ever sign");
}

pub async fn an_audit_chain_is_continued_only_from_its_end(world: World) {
    let store = &world.store.audit;
    let tenant = organization().id;
    let record = |sequence| AuditRecord {
        sequence,
        time: world.now,
        action: "api_key.created".into(),
        actor: "service:platform".into(),
        target: "api_key:k1".into(),
        request: String::new(),
        result: "ok".into(),
        detail: "ä \" \n".into(),
        mac: [7; 32],
    };
    let chain = &Chain { organization: Some(tenant), log: AuditLog::Changes };
    assert_eq!(store.audit_head(chain).await.unwrap(), None);
    assert!(!store.append_audit(chain, 3, vec![record(4)], world.at()).await.unwrap());
    assert!(store.append_audit(chain, 0, vec![record(1), record(2)], world.at()).await.unwrap());
    assert!(!store.append_audit(chain, 0, vec![record(1)], world.at()).await.unwrap(), "somebody was faster");
    assert!(store.append_audit(chain, 2, vec![record(3)], world.at()).await.unwrap());
    assert_eq!(store.audit_head(chain).await.unwrap(), Some(record(3)));
    assert_eq!(store.audit(chain, 0, 2).await.unwrap(), [record(1), record(2)]);
    assert_eq!(store.audit(chain, 2, 2).await.unwrap(), [record(3)]);
    for others in [Chain { organization: None, ..chain.clone() }, Chain { log: AuditLog::Logins, ..chain.clone() }] {
        assert_eq!(store.audit_head(&others).await.unwrap(), None);
    }
    let many: Vec<_> = (4..=limits::AUDIT_EVENTS as u64 + 2).map(record).collect();
    assert!(store.append_audit(chain, 3, many, world.at()).await.unwrap());
    assert_eq!(store.audit(chain, 0, 1).await.unwrap(), [record(3)], "the oldest have left");
}
