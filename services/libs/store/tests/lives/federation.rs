//! Lives of registries and delegations. Slots always sum up: those that are taken are those of open attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use waystation_domain::federation::{Delegation, Registration, Report, Standing, Told, Verdict, Written};
use waystation_domain::{DelegationId, OrchestratorId, OrganizationId, Timestamp};
use waystation_store::conformance::federation::{delegation, offer, registration};
use waystation_store::federation::*;

use super::pair::Pair;

#[derive(Clone, Debug)]
pub enum Step {
    Register(u8, u32),
    Deregister(u8),
    Report(u8, u32),
    Tell(u8, u64),
    /// Reads a delegation, or makes it, does something with it and keeps it; perhaps as a version that it has not.
    Change(u8, Change, bool),
    Forget(u8),
    Registry(u64),
    List(usize),
    Due,
    Pass(u64),
}

#[derive(Clone, Copy, Debug)]
pub enum Change {
    Offer(u8),
    Accept,
    Refuse,
    Complete,
    Cancel,
    Tick,
    Sent,
    /// Writes into the context, as a backend.
    Put(u8),
}

pub fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        4 => (0..3u8).prop_map(Change::Offer),
        2 => Just(Change::Accept),
        1 => Just(Change::Refuse),
        1 => Just(Change::Complete),
        1 => Just(Change::Cancel),
        1 => Just(Change::Tick),
        1 => Just(Change::Sent),
        1 => (0..3u8).prop_map(Change::Put),
    ];
    prop_oneof![
        2 => (0..3u8, 1..3u32).prop_map(|(name, slots)| Step::Register(name, slots)),
        1 => (0..3u8).prop_map(Step::Deregister),
        1 => (0..3u8, 0..9u32).prop_map(|(name, load)| Step::Report(name, load)),
        1 => (0..3u8, 0..9u64).prop_map(|(name, since)| Step::Tell(name, since)),
        9 => (0..5u8, change, prop::bool::weighted(0.1)).prop_map(|(d, change, stale)| Step::Change(d, change, stale)),
        1 => (0..5u8).prop_map(Step::Forget),
        2 => (0..20u64).prop_map(Step::Registry),
        1 => (0..6usize).prop_map(Step::List),
        1 => Just(Step::Due),
        1 => (1..200u64).prop_map(Step::Pass),
    ]
}

fn organization() -> OrganizationId {
    "acme".parse().unwrap()
}

fn name(number: u8) -> OrchestratorId {
    format!("o-{number}").parse().unwrap()
}

fn id(number: u8) -> DelegationId {
    format!("d-{number}").parse().unwrap()
}

fn changed(pair: &Pair, number: u8, known: Option<Kept>, change: Change) -> (u64, Delegation, Vec<Entry>) {
    let now = pair.now;
    let kept = known.unwrap_or_else(|| Kept { version: 0, delegation: delegation(id(number).as_str(), now) });
    let Kept { version, delegation: mut d } = kept;
    let current = d.current().map(|attempt| (attempt.assignee.clone(), attempt.number));
    match (change, current) {
        (Change::Offer(to), _) => offer(&mut d, name(to).as_str(), now),
        (Change::Accept, Some((by, attempt))) => drop(d.respond(&by, attempt, Ok(String::new()), now)),
        (Change::Refuse, Some((by, attempt))) => drop(d.respond(&by, attempt, Err("no".into()), now)),
        (Change::Complete, Some((by, attempt))) => drop(d.complete(&by, attempt, Verdict::Completed("{}".into()), now)),
        (Change::Cancel, _) => drop(d.cancel("no", now)),
        (Change::Put(value), _) => {
            let entry = Written { name: "e".parse().unwrap(), bytes: 1, digest: value.to_string() };
            let put = d.put(None, entry.clone(), None).ok();
            let entries = put.map(|version| Entry { name: entry.name, version, value: value.to_string() });
            return (version, d, entries.into_iter().collect());
        }
        (Change::Sent, _) => d.note_sent(&(1..=d.notes).collect::<Vec<_>>()),
        (Change::Tick | Change::Accept | Change::Refuse | Change::Complete, _) => drop(d.tick(now)),
    }
    (version, d, Vec::new())
}

/// Whose slots are taken, by the delegations that there are.
async fn check_slots(store: &waystation_store::Store) {
    let kept = store.federation.delegations(&organization(), None, 100, None).await.unwrap();
    let mut taken: BTreeMap<OrchestratorId, u32> = BTreeMap::new();
    for kept in kept {
        if let Some(holder) = kept.delegation.holder() {
            *taken.entry(holder.clone()).or_default() += 1;
        }
    }
    let registry = store.federation.registry(&organization(), 0, None).await.unwrap();
    for (id, listed) in registry.changed {
        let reserved = listed.unwrap().reserved;
        assert_eq!(reserved, taken.get(&id).copied().unwrap_or(0), "{id}");
    }
}

pub async fn live(steps: Vec<Step>, mut pair: Pair) {
    let acme = organization();
    for step in steps {
        let (model, redis, now) = (&pair.model.federation, &pair.redis.federation, Some(pair.now));
        match &step {
            Step::Register(number, slots) => {
                let registration = Registration { id: name(*number), ..registration("x", *slots) };
                let told = Told::of_new(pair.now);
                model.register_orchestrator(&acme, registration.clone(), told, now).await.unwrap();
                redis.register_orchestrator(&acme, registration, told, now).await.unwrap();
            }
            Step::Deregister(number) => {
                let of = name(*number);
                let answers = (
                    model.deregister_orchestrator(&acme, &of, now).await,
                    redis.deregister_orchestrator(&acme, &of, now).await,
                );
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::Report(number, load) => {
                let report =
                    Report { standing: Standing::Online, load: *load, tokens_used: 0, errors: 0, at: pair.now };
                let of = name(*number);
                let answers = (
                    model.report_orchestrator(&acme, &of, report.clone(), now).await,
                    redis.report_orchestrator(&acme, &of, report, now).await,
                );
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::Tell(number, since) => {
                let of = name(*number);
                let listed = model.registry(&acme, 0, now).await.unwrap().changed;
                let known = listed.into_iter().find(|(id, _)| *id == of).and_then(|(_, listed)| listed);
                let was = known.map_or(Told::of_new(pair.now), |known| known.told);
                let is = Told { standing: Standing::Online, since: Timestamp::from_millis(*since), ..was };
                let answers = (
                    model.note_standing(&acme, &of, (was, is), now).await,
                    redis.note_standing(&acme, &of, (was, is), now).await,
                );
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::Change(number, change, stale) => {
                let known = (
                    model.delegation(&acme, &id(*number), now).await,
                    redis.delegation(&acme, &id(*number), now).await,
                );
                let known = pair.same(&step, known.0, known.1).unwrap();
                let (version, delegation, entries) = changed(&pair, *number, known, *change);
                let (expected, due) = (version + u64::from(*stale), delegation.due(pair.now));
                let commit = Commit { organization: acme.clone(), expected, delegation, due, entries };
                let answers = (model.commit(commit.clone(), now).await, redis.commit(commit, now).await);
                let committed = pair.same(&step, answers.0, answers.1).unwrap();
                assert!(!stale || committed == Committed::Conflict);
                let names = ["e".parse().unwrap()];
                let entries = (
                    model.entries(&acme, &id(*number), &names, now).await,
                    redis.entries(&acme, &id(*number), &names, now).await,
                );
                pair.same(&step, entries.0, entries.1).unwrap();
            }
            Step::Forget(number) => {
                let known = model.delegation(&acme, &id(*number), now).await.unwrap();
                let version = known.map_or(1, |kept| kept.version);
                let answers = (
                    model.forget_delegation(&acme, &id(*number), version, now).await,
                    redis.forget_delegation(&acme, &id(*number), version, now).await,
                );
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::Registry(after) => {
                let answers = (model.registry(&acme, *after, now).await, redis.registry(&acme, *after, now).await);
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::List(most) => {
                let answers = (
                    model.delegations(&acme, None, *most, now).await,
                    redis.delegations(&acme, None, *most, now).await,
                );
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::Due => {
                let answers = (model.due_delegations(4, now).await, redis.due_delegations(4, now).await);
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::Pass(seconds) => pair.now = pair.now.after(Duration::from_secs(*seconds)),
        }
        check_slots(&pair.model).await;
        check_slots(&pair.redis).await;
    }
}
