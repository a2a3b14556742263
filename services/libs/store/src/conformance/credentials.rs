//! Organizations, keys, logins and revocations.

use waystation_domain::{Scope, Timestamp};

use super::World;
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
    assert!(!store.set_settings(&id, few, world.at()).await.unwrap(), "there is no such organization");
    store.create_organization(organization(), world.at()).await.unwrap();
    assert_eq!(store.settings(&id).await.unwrap(), OrganizationSettings::default());
    assert!(store.set_settings(&id, few, world.at()).await.unwrap());
    assert_eq!(store.settings(&id).await.unwrap(), few);
    let mailbox = MailboxLimits { entries: 5, bytes: 99, overflow: Overflow::ReplaceOldest };
    let others = OrganizationSettings { mailbox, sessions: Some(2), ..OrganizationSettings::default() };
    assert!(store.set_settings(&id, others, world.at()).await.unwrap());
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
        mac: [7; 32],
        expires: None,
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
    let found = store.orchestrator(&orchestrator.organization, &orchestrator.id).await.unwrap();
    assert_eq!(found, Some(orchestrator.clone()));
    assert_eq!(store.orchestrator(&"other".parse().unwrap(), &orchestrator.id).await.unwrap(), None);
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

pub async fn the_first_signing_key_stays(world: World) {
    let key = |n: u8| SigningKey { id: format!("key{n}"), seed: [n; 32], created: Timestamp::from_millis(1) };
    let store = &world.store.credentials;
    assert_eq!(store.signing_key(key(1), world.at()).await.unwrap(), key(1));
    assert_eq!(store.signing_key(key(2), world.at()).await.unwrap(), key(1));
}
