//! Orchestrators that take tasks, and the tasks.

use std::time::Duration;

use waystation_domain::federation::*;
use waystation_domain::{DelegationId, OrchestratorId, OrganizationId, Timestamp};

use super::World;
use crate::federation::*;

fn acme() -> OrganizationId {
    "acme".parse().unwrap()
}

fn id(name: &str) -> OrchestratorId {
    name.parse().unwrap()
}

fn named(name: &str) -> DelegationId {
    name.parse().unwrap()
}

/// An orchestrator with so many slots.
pub fn registration(name: &str, max_concurrent: u32) -> Registration {
    Registration {
        id: id(name),
        name: "A \"name\"".into(),
        region: "eu".into(),
        tier: String::new(),
        capabilities: vec![Capability {
            name: "research".parse().unwrap(),
            version: Some("1.2".parse().unwrap()),
            level: Some(3),
        }],
        max_concurrent,
        weight: 100,
        token_limit: None,
    }
}

/// A task that nobody has.
pub fn delegation(name: &str, now: Timestamp) -> Delegation {
    let limits = Limits {
        offer: Duration::from_secs(10),
        start: Duration::from_secs(60),
        run: Duration::from_secs(300),
        overall: Duration::from_secs(3_600),
        heartbeat: None,
    };
    let request = DelegationRequest {
        from: Some(id("boss")),
        to: None,
        task: Task { payload: r#"{"n":"ä"}"#.into(), ..Task::default() },
        required: Vec::new(),
        region: String::new(),
        preferred: Vec::new(),
        excluded: Vec::new(),
        strategy: Strategy::LeastLoaded,
        affinity: String::new(),
        tokens: 0,
        limits,
        max_retries: 3,
        parent: None,
        hops: Vec::new(),
        context: Vec::new(),
    };
    Delegation::new(named(name), request, now)
}

/// Has it offered to somebody.
pub fn offer(delegation: &mut Delegation, to: &str, now: Timestamp) {
    let chosen = Some(id(to));
    let strategy = Strategy::LeastLoaded;
    let decision =
        Decision { at: now, strategy, seen: 1, dismissed: Vec::new(), behind: 0, scores: Vec::new(), chosen };
    delegation.decide(decision, now);
}

async fn commit(world: &World, delegation: &Delegation, expected: u64) -> Committed {
    let due = delegation.due(world.now);
    let commit = Commit { organization: acme(), expected, delegation: delegation.clone(), due, entries: Vec::new() };
    world.store.federation.commit(commit, world.at()).await.unwrap()
}

async fn register(world: &World, name: &str, slots: u32) {
    let registration = registration(name, slots);
    world
        .store
        .federation
        .register_orchestrator(&acme(), registration, Told::of_new(world.now), world.at())
        .await
        .unwrap();
}

async fn registry(world: &World, after: u64) -> (u64, Vec<(String, Option<u32>)>) {
    let piece = world.store.federation.registry(&acme(), after, world.at()).await.unwrap();
    let told = |(id, listed): (OrchestratorId, Option<Listed>)| (id.to_string(), listed.map(|listed| listed.reserved));
    (piece.version, piece.changed.into_iter().map(told).collect())
}

fn is(name: &str, reserved: u32) -> (String, Option<u32>) {
    (name.to_owned(), Some(reserved))
}

pub async fn slots_are_given_and_taken_with_the_delegation(world: World) {
    register(&world, "anna", 2).await;
    let mut all: Vec<_> = (0..3).map(|n| delegation(&format!("d-{n}"), world.now)).collect();
    for (n, d) in all.iter_mut().enumerate() {
        assert_eq!(commit(&world, d, 0).await, Committed::Stored(1));
        offer(d, "anna", world.now);
        let expected = if n < 2 { Committed::Stored(2) } else { Committed::NoSlot };
        assert_eq!(commit(&world, d, 1).await, expected);
    }
    assert_eq!(registry(&world, 0).await.1, [is("anna", 2)]);
    let held =
        async |name: &str| world.store.federation.held_delegations(&acme(), &id(name), world.at()).await.unwrap();
    assert_eq!(held("anna").await, [named("d-0"), named("d-1")]);
    assert_eq!(held("bert").await, []);
    // What does not change the holder changes no slot.
    all[0].respond(&id("anna"), 1, Ok(String::new()), world.now).unwrap();
    assert_eq!(commit(&world, &all[0], 2).await, Committed::Stored(3));
    assert_eq!(registry(&world, 0).await.1, [is("anna", 2)]);
    all[0].cancel("no", world.now).unwrap();
    assert_eq!(commit(&world, &all[0], 3).await, Committed::Stored(4));
    assert_eq!(registry(&world, 0).await.1, [is("anna", 1)]);
    assert_eq!(commit(&world, &all[2], 1).await, Committed::Stored(2), "there is a slot again");
    let mut nobody = delegation("d-9", world.now);
    offer(&mut nobody, "nobody", world.now);
    assert_eq!(commit(&world, &nobody, 0).await, Committed::NoSlot, "who is not registered has no slots");
}

pub async fn a_delegation_is_what_the_first_made_of_it(world: World) {
    register(&world, "anna", 1).await;
    let mut first = delegation("d-1", world.now);
    assert_eq!(commit(&world, &first, 0).await, Committed::Stored(1));
    assert_eq!(commit(&world, &first, 0).await, Committed::Conflict);
    let mut second = first.clone();
    offer(&mut first, "anna", world.now);
    second.cancel("no", world.now).unwrap();
    assert_eq!(commit(&world, &first, 1).await, Committed::Stored(2));
    assert_eq!(commit(&world, &second, 1).await, Committed::Conflict);
    let kept = world.store.federation.delegation(&acme(), &first.id, world.at()).await.unwrap();
    assert_eq!(kept, Some(Kept { version: 2, delegation: first }));
    let unknown = world.store.federation.delegation(&acme(), &named("d-2"), world.at()).await.unwrap();
    assert_eq!(unknown, None);
    let other = "other".parse().unwrap();
    assert_eq!(world.store.federation.delegation(&other, &named("d-1"), world.at()).await.unwrap(), None);
}

pub async fn a_registry_tells_what_has_changed(world: World) {
    assert_eq!(registry(&world, 0).await, (0, Vec::new()));
    let registries = async || world.store.federation.registries(world.at()).await.unwrap();
    assert_eq!(registries().await, []);
    register(&world, "anna", 1).await;
    assert_eq!(registries().await, [acme()]);
    register(&world, "bert", 5).await;
    let (version, all) = registry(&world, 0).await;
    assert_eq!(all, [is("anna", 0), is("bert", 0)]);
    assert_eq!(registry(&world, version).await, (version, Vec::new()));
    let mut d = delegation("d-1", world.now);
    offer(&mut d, "bert", world.now);
    assert_eq!(commit(&world, &d, 0).await, Committed::Stored(1));
    let (version, changed) = registry(&world, version).await;
    assert_eq!(changed, [is("bert", 1)]);
    let federation = &world.store.federation;
    assert!(federation.deregister_orchestrator(&acme(), &id("bert"), world.at()).await.unwrap());
    assert!(!federation.deregister_orchestrator(&acme(), &id("bert"), world.at()).await.unwrap());
    assert_eq!(registry(&world, version).await.1, [("bert".to_owned(), None)]);
    assert_eq!(registry(&world, 0).await.1, [is("anna", 0)], "who is gone is nobody's news from the beginning");
    register(&world, "bert", 1).await;
    assert_eq!(registry(&world, 0).await.1, [is("anna", 0), is("bert", 1)], "it still works on what it has");
    assert_eq!(registry(&world, 1_000).await.1.len(), 2, "a version of another life: all is told");
    assert!(federation.deregister_orchestrator(&acme(), &id("anna"), world.at()).await.unwrap());
    assert_eq!(registries().await, [acme()]);
    assert!(federation.deregister_orchestrator(&acme(), &id("bert"), world.at()).await.unwrap());
    assert_eq!(registries().await, []);
}

pub async fn what_is_said_and_told_of_an_orchestrator_is_kept(mut world: World) {
    let federation = world.store.federation.clone();
    let report =
        |load| Report { standing: Standing::Busy, load, tokens_used: 7, errors: 3, at: Timestamp::from_millis(1) };
    let anna = id("anna");
    assert!(!federation.report_orchestrator(&acme(), &anna, report(1), world.at()).await.unwrap(), "not registered");
    let first = Told::of_new(world.now);
    let online = Told { standing: Standing::Online, since: Timestamp::from_millis(9), ..first };
    assert!(!federation.note_standing(&acme(), &anna, (first, online), world.at()).await.unwrap());
    register(&world, "anna", 1).await;
    let listed = async |world: &World, after| {
        let piece = federation.registry(&acme(), after, world.at()).await.unwrap();
        (piece.version, piece.changed.into_iter().next().and_then(|(_, listed)| listed))
    };
    let (version, known) = listed(&world, 0).await;
    assert_eq!(known.map(|known| (known.report, known.told)), Some((None, first)));
    assert!(federation.report_orchestrator(&acme(), &anna, report(1), world.at()).await.unwrap());
    assert!(federation.report_orchestrator(&acme(), &anna, report(2), world.at()).await.unwrap());
    assert!(federation.note_standing(&acme(), &anna, (first, online), world.at()).await.unwrap());
    assert!(!federation.note_standing(&acme(), &anna, (first, online), world.at()).await.unwrap(), "somebody did");
    let (_, known) = listed(&world, version).await;
    assert_eq!(
        known.map(|known| (known.report, known.told)),
        Some((Some(report(2)), online)),
        "it is told as a change"
    );
    world.pass(Duration::from_secs(1));
    register(&world, "anna", 2).await;
    let (_, known) = listed(&world, 0).await;
    assert_eq!(known.map(|known| (known.report, known.told)), Some((Some(report(2)), online)), "it was there before");
    assert!(federation.deregister_orchestrator(&acme(), &anna, world.at()).await.unwrap());
    register(&world, "anna", 1).await;
    let (_, known) = listed(&world, 0).await;
    assert_eq!(known.map(|known| (known.report, known.told)), Some((None, Told::of_new(world.now))), "it is new");
}

pub async fn a_context_is_kept_with_its_delegation(mut world: World) {
    let federation = world.store.federation.clone();
    let mut d = delegation("d-1", world.now);
    let entry = |name: &str, version, value: &str| Entry { name: name.parse().unwrap(), version, value: value.into() };
    let commit = |delegation: &Delegation, expected, entries| Commit {
        organization: acme(),
        expected,
        delegation: delegation.clone(),
        due: delegation.due(delegation.created),
        entries,
    };
    let first = vec![entry("plan", 1, r#"{"a b":[1, 2]}"#), entry("notes", 1, r#""ä""#)];
    let stored = federation.commit(commit(&d, 0, first.clone()), world.at()).await.unwrap();
    assert_eq!(stored, Committed::Stored(1));
    let entries = async |world: &World, names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
        federation.entries(&acme(), &named("d-1"), &names, world.at()).await.unwrap()
    };
    assert_eq!(entries(&world, &["plan", "other", "notes"]).await, [first[1].clone(), first[0].clone()]);
    assert_eq!(entries(&world, &[]).await, []);
    let second = vec![entry("plan", 2, "null")];
    let conflict = federation.commit(commit(&d, 0, second.clone()), world.at()).await.unwrap();
    assert_eq!(conflict, Committed::Conflict);
    assert_eq!(entries(&world, &["plan"]).await, [first[0].clone()], "nothing was changed");
    assert_eq!(federation.commit(commit(&d, 1, second.clone()), world.at()).await.unwrap(), Committed::Stored(2));
    assert_eq!(entries(&world, &["notes", "plan"]).await, [first[1].clone(), second[0].clone()]);
    let other = "other".parse().unwrap();
    let strangers = federation.entries(&other, &named("d-1"), &["plan".parse().unwrap()], world.at()).await.unwrap();
    assert_eq!(strangers, []);
    d.cancel("no", world.now).unwrap();
    assert_eq!(federation.commit(commit(&d, 2, Vec::new()), world.at()).await.unwrap(), Committed::Stored(3));
    world.pass(Duration::from_secs(1));
    assert!(federation.forget_delegation(&acme(), &named("d-1"), 3, world.at()).await.unwrap());
    assert_eq!(entries(&world, &["notes", "plan"]).await, []);
}

pub async fn delegations_are_due_listed_and_forgotten(mut world: World) {
    let mut early = delegation("d-2", world.now);
    assert_eq!(commit(&world, &early, 0).await, Committed::Stored(1));
    world.pass(Duration::from_secs(1));
    let late = delegation("d-1", world.now);
    assert_eq!(commit(&world, &late, 0).await, Committed::Stored(1));
    let federation = world.store.federation.clone();
    let due = async |world: &World| federation.due_delegations(10, world.at()).await.unwrap();
    assert_eq!(due(&world).await, [(acme(), named("d-2")), (acme(), named("d-1"))]);
    assert_eq!(federation.due_delegations(1, world.at()).await.unwrap(), [(acme(), named("d-2"))]);
    early.cancel("no", world.now).unwrap();
    early.note_sent(&(1..=early.notes).collect::<Vec<_>>());
    assert_eq!(commit(&world, &early, 1).await, Committed::Stored(2));
    assert_eq!(due(&world).await, [(acme(), named("d-1"))], "it is due when it can be forgotten");
    let listed = async |after| {
        let listed = federation.delegations(&acme(), after, 1, world.at()).await.unwrap();
        listed.into_iter().map(|kept| (kept.delegation.created, kept.delegation.id)).next()
    };
    let first = listed(None).await;
    assert_eq!(first.as_ref().map(|(_, id)| id.clone()), Some(named("d-2")), "in the order in which they were made");
    let second = listed(first).await;
    assert_eq!(second.as_ref().map(|(_, id)| id.clone()), Some(named("d-1")));
    assert_eq!(listed(second).await, None);
    assert!(!federation.forget_delegation(&acme(), &named("d-2"), 1, world.at()).await.unwrap(), "it has changed");
    assert!(federation.forget_delegation(&acme(), &named("d-2"), 2, world.at()).await.unwrap());
    assert!(!federation.forget_delegation(&acme(), &named("d-2"), 2, world.at()).await.unwrap());
    world.pass(Duration::from_secs(48 * 3_600));
    assert_eq!(due(&world).await, [(acme(), named("d-1"))]);
}
