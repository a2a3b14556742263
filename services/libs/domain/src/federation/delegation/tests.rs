use super::*;
use crate::federation::{
    Candidate, Capability, Catalogue, MAX_ENTRY, NotShared, Registration, Standing, Strategy, Written, choose,
};

pub(super) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

pub(super) fn id(name: &str) -> OrchestratorId {
    name.parse().unwrap()
}

pub(super) fn request() -> DelegationRequest {
    DelegationRequest {
        from: Some(id("boss")),
        to: None,
        task: Task { id: "t-1".into(), payload: r#"{"n":1}"#.into(), ..Task::default() },
        required: vec![Capability { name: "research".parse().unwrap(), version: None, level: None }],
        region: String::new(),
        preferred: Vec::new(),
        excluded: Vec::new(),
        strategy: Strategy::RoundRobin,
        affinity: String::new(),
        tokens: 0,
        limits: Limits {
            offer: Duration::from_secs(10),
            start: Duration::from_secs(60),
            run: Duration::from_secs(300),
            overall: Duration::from_secs(3_600),
            heartbeat: None,
        },
        max_retries: 3,
        parent: None,
        hops: Vec::new(),
        context: Vec::new(),
    }
}

pub(super) fn delegation(request: DelegationRequest) -> Delegation {
    Delegation::new("d-1".parse().unwrap(), request, at(0))
}

fn registration(name: &str) -> Registration {
    let research = Capability { name: "research".parse().unwrap(), version: None, level: None };
    Registration {
        id: id(name),
        name: String::new(),
        region: String::new(),
        tier: String::new(),
        capabilities: vec![research],
        max_concurrent: 1,
        weight: 100,
        token_limit: None,
    }
}

/// Chooses among these, all online and free.
pub(super) fn offer(delegation: &mut Delegation, names: &[&str], now: Timestamp) {
    let registrations: Vec<_> = names.iter().map(|name| registration(name)).collect();
    let candidates = registrations.iter().map(|registration| Candidate {
        registration,
        reserved: 0,
        standing: Standing::Online,
        tokens_used: 0,
        errors: 0,
    });
    let asked = delegation.asked();
    let decision = choose(&delegation.wanted(&asked), candidates, (0, 0), now);
    delegation.decide(decision, now);
}

fn kinds(delegation: &Delegation, to: &str) -> Vec<NoteKind> {
    delegation.outbox.iter().filter(|note| note.to == id(to)).map(|note| note.kind).collect()
}

pub(super) fn completed(result: &str) -> Verdict {
    Verdict::Completed(result.into())
}

#[test]
fn a_task_is_offered_accepted_worked_on_and_done() {
    let mut d = delegation(request());
    offer(&mut d, &["anna", "boss"], at(0));
    assert_eq!(d.holder(), Some(&id("anna")), "not the one who hands it on");
    assert_eq!(d.due(at(2)), at(2), "mail is to be sent");
    d.note_sent(&(1..=d.notes).collect::<Vec<_>>());
    assert_eq!(d.due(at(0)), at(10));
    assert_eq!(d.progress(&id("anna"), 1, (1, ""), at(1)), Err(Refused::NotAccepted));
    assert_eq!(d.respond(&id("anna"), 1, Ok("soon".into()), at(1)), Ok(Reported::Taken));
    assert_eq!(d.respond(&id("anna"), 1, Ok("soon".into()), at(1)), Ok(Reported::Known));
    assert_eq!(d.state, DelegationState::Active);
    assert_eq!(d.progress(&id("anna"), 1, (50, "half"), at(2)), Ok(Reported::Taken));
    assert_eq!(d.complete(&id("anna"), 1, completed(r#"{"ok":true}"#), at(3)), Ok(Reported::Taken));
    assert_eq!((d.state, d.holder()), (DelegationState::Completed, None));
    assert_eq!(kinds(&d, "boss"), [NoteKind::Accepted, NoteKind::Progress, NoteKind::Completed]);
    assert_eq!(d.complete(&id("anna"), 1, completed(r#"{"ok":true}"#), at(4)), Ok(Reported::Known), "a repeat");
    assert_eq!(d.complete(&id("anna"), 1, completed(r#"{"ok":1}"#), at(4)), Ok(Reported::Late), "something else");
    assert_eq!(d.late.len(), 1);
    assert_eq!(d.outcome.as_ref().unwrap().result, r#"{"ok":true}"#);
    assert_eq!(d.cancel("no", at(5)), Err(Refused::Ended(DelegationState::Completed)));
}

#[test]
fn whoever_refuses_is_not_asked_again_and_when_all_have_it_ends() {
    let mut d = delegation(request());
    offer(&mut d, &["anna", "bert"], at(0));
    d.respond(&id("anna"), 1, Err("busy".into()), at(1)).unwrap();
    offer(&mut d, &["anna", "bert"], at(1));
    assert_eq!(d.holder(), Some(&id("bert")));
    d.respond(&id("bert"), 2, Err("tired".into()), at(2)).unwrap();
    offer(&mut d, &["anna", "bert"], at(2));
    assert_eq!(d.state, DelegationState::Rejected);
    assert_eq!(d.retries, 0, "nothing has run");
    assert_eq!(kinds(&d, "boss"), [NoteKind::Rejected, NoteKind::Rejected, NoteKind::Failed]);
}

#[test]
fn nobody_who_can_is_waited_for_and_that_is_said() {
    let mut d = delegation(request());
    offer(&mut d, &[], at(0));
    assert_eq!(d.why_pending(), "nobody of 0 registered has what it needs");
    assert!(!d.wants_choice(at(1)) && d.wants_choice(at(2)));
    assert!(d.tick(at(3_600)));
    assert_eq!(d.state, DelegationState::Expired);
    assert!(d.outcome.as_ref().unwrap().error.contains("nobody of 0 registered"), "{:?}", d.outcome);
}

#[test]
fn an_offer_that_is_not_answered_goes_to_the_next_and_costs_no_retry() {
    let mut d = delegation(DelegationRequest { max_retries: 0, ..request() });
    offer(&mut d, &["anna", "bert"], at(0));
    assert!(!d.tick(at(9)));
    assert!(d.tick(at(10)));
    offer(&mut d, &["anna", "bert"], at(10));
    assert_eq!(d.holder(), Some(&id("bert")), "the one that was not tried");
    assert_eq!(d.respond(&id("anna"), 1, Ok(String::new()), at(11)), Ok(Reported::Late));
    assert_eq!(kinds(&d, "anna"), [NoteKind::Offered, NoteKind::Reassigned], "it is told that it is not its any more");
    assert_eq!(d.complete(&id("anna"), 1, completed(""), at(11)), Ok(Reported::Late));
    assert_eq!(d.complete(&id("anna"), 2, completed(""), at(11)), Err(Refused::OtherAttempt));
    assert_eq!(d.complete(&id("mallory"), 2, completed(""), at(11)), Err(Refused::NotYours));
}

#[test]
fn progress_extends_the_heartbeat_and_never_the_run() {
    let limits = Limits { heartbeat: Some(Duration::from_secs(30)), ..request().limits };
    let mut d = delegation(DelegationRequest { limits, max_retries: 0, ..request() });
    offer(&mut d, &["anna"], at(0));
    d.respond(&id("anna"), 1, Ok(String::new()), at(0)).unwrap();
    for now in (20..300).step_by(20) {
        assert!(!d.tick(at(now)));
        d.progress(&id("anna"), 1, (0, ""), at(now)).unwrap();
    }
    assert!(d.tick(at(300)));
    assert_eq!(d.outcome.as_ref().unwrap().error, "it ran for too long");
    assert_eq!(d.state, DelegationState::Failed, "0 retries: it never runs twice");
}

#[test]
fn failures_are_tried_again_after_pauses_that_grow() {
    let mut d = delegation(request());
    let mut now = at(0);
    for (number, pause) in [(1, 5), (2, 10), (3, 20)] {
        offer(&mut d, &["anna"], now);
        d.respond(&id("anna"), number, Ok(String::new()), now).unwrap();
        d.complete(&id("anna"), number, Verdict::Failed("no".into()), now).unwrap();
        assert_eq!(d.look_at, now.after(Duration::from_secs(pause)));
        now = d.look_at;
    }
    offer(&mut d, &["anna"], now);
    d.respond(&id("anna"), 4, Ok(String::new()), now).unwrap();
    d.lose(&id("bert"), "gone", now);
    assert_eq!(d.state, DelegationState::Active, "somebody else's absence is nothing");
    d.lose(&id("anna"), "gone", now);
    assert_eq!((d.state, d.outcome.as_ref().unwrap().error.as_str()), (DelegationState::Failed, "gone"));
}

#[test]
fn who_works_on_it_hears_that_it_is_not_wanted() {
    let mut d = delegation(request());
    offer(&mut d, &["anna"], at(0));
    d.respond(&id("anna"), 1, Ok(String::new()), at(0)).unwrap();
    d.cancel("changed my mind", at(1)).unwrap();
    d.cancel("again", at(2)).unwrap();
    assert_eq!(kinds(&d, "anna"), [NoteKind::Offered, NoteKind::Cancelled]);
    assert_eq!(kinds(&d, "boss"), [NoteKind::Accepted, NoteKind::Cancelled]);
    assert_eq!(d.progress(&id("anna"), 1, (9, ""), at(3)), Ok(Reported::Late));
}

fn written(name: &str, value: &str) -> Written {
    Written { name: name.parse().unwrap(), bytes: value.len(), digest: value.to_owned() }
}

#[test]
fn a_context_is_its_delegators_and_its_workers() {
    let mut d = delegation(DelegationRequest { context: vec![written("plan", "1")], ..request() });
    assert_eq!(d.put(Some(&id("anna")), written("plan", "2"), None), Err(NotShared::NotYours));
    offer(&mut d, &["anna", "bert"], at(1));
    let (anna, boss) = (d.holder().cloned().unwrap(), id("boss"));
    assert!(d.may_read(&anna), "what is asked for is judged by what is known");
    assert_eq!(
        d.put(Some(&anna), written("plan", "2"), None),
        Err(NotShared::NotYours),
        "but not written before a yes"
    );
    d.respond(&anna, 1, Ok(String::new()), at(2)).unwrap();
    assert_eq!(d.put(Some(&anna), written("plan", "2"), Some(1)), Ok(2));
    assert_eq!(d.put(Some(&anna), written("plan", "2"), Some(1)), Ok(2), "said once more");
    assert_eq!(d.put(Some(&boss), written("plan", "3"), Some(1)), Err(NotShared::OtherVersion(2)));
    assert_eq!(d.put(Some(&boss), written("new", "3"), Some(1)), Err(NotShared::OtherVersion(0)));
    assert_eq!(d.put(Some(&boss), written("plan", "3"), None), Ok(3), "whatever is there");
    let told = |to: &OrchestratorId| {
        let notes = d.outbox.iter().filter(|note| note.kind == NoteKind::Context && note.to == *to);
        notes.map(|note| note.data.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(&boss).len(), 1, "the repeat is no news");
    assert!(told(&anna)[0].contains(r#""version":3"#), "{:?}", told(&anna));
    d.lose(&anna, "gone", at(3));
    assert!(!d.may_read(&anna), "it is somebody else's now");
    assert_eq!(d.put(Some(&anna), written("plan", "4"), None), Err(NotShared::NotYours));
    d.cancel("no", at(4)).unwrap();
    assert_eq!(d.put(Some(&boss), written("plan", "4"), None), Err(NotShared::Ended(DelegationState::Cancelled)));
    assert!(d.may_read(&boss));
}

#[test]
fn a_context_has_limits_and_only_the_newest_change_is_told() {
    let mut d = delegation(request());
    let large = |name: &str, bytes| Written { bytes, ..written(name, name) };
    assert_eq!(d.put(None, large("a", MAX_ENTRY + 1), None), Err(NotShared::EntryTooLarge));
    for n in 0..16 {
        d.put(None, large(&format!("e{n}"), MAX_ENTRY), None).unwrap();
    }
    assert_eq!(d.put(None, large("more", 1), None), Err(NotShared::TooLarge));
    d.put(None, Written { bytes: 0, ..written("e0", "less") }, None).unwrap();
    d.put(None, large("more", 1), None).unwrap();
    let mut many = delegation(request());
    for n in 0..64 {
        many.put(None, written(&format!("e{n}"), "1"), None).unwrap();
    }
    assert_eq!(many.put(None, written("more", "1"), None), Err(NotShared::TooMany));
    many.put(None, written("e0", "2"), None).unwrap();
    many.put(None, written("e0", "3"), None).unwrap();
    assert_eq!(many.outbox.len(), 64, "one for each entry");
    assert!(many.outbox.last().unwrap().data.contains(r#""version":3"#));
    let twice = [written("a", "1"), written("a", "2")];
    assert_eq!(Catalogue::check(&twice), Err((1, NotShared::OtherVersion(1))));
}

fn view(state: DelegationState) -> RemoteView {
    let (estimate, result, error) = ("soon".to_owned(), r#"{"n":1}"#.to_owned(), "it broke".to_owned());
    RemoteView { state, progress: 30, estimate, result, error }
}

/// A task that a cell has.
fn abroad_with(max_retries: u32) -> (Delegation, OrchestratorId) {
    let mut d = delegation(DelegationRequest { max_retries, ..request() });
    offer(&mut d, &["cell.b"], at(1));
    (d, id("cell.b"))
}

#[test]
fn what_a_cell_says_of_a_task_is_what_becomes_of_it() {
    let (mut d, cell) = abroad_with(0);
    assert_eq!(d.adopt(&cell, 1, view(DelegationState::Pending), at(2)), Ok(Reported::Known));
    assert_eq!(d.adopt(&cell, 1, view(DelegationState::Active), at(3)), Ok(Reported::Taken));
    assert_eq!(
        (d.state, d.attempts[0].state, d.attempts[0].progress),
        (DelegationState::Active, AttemptState::Running, 30)
    );
    assert_eq!(d.adopt(&cell, 1, view(DelegationState::Active), at(4)), Ok(Reported::Known), "nothing new");
    assert_eq!(d.adopt(&cell, 1, view(DelegationState::Completed), at(5)), Ok(Reported::Taken));
    assert_eq!(d.adopt(&cell, 1, view(DelegationState::Completed), at(6)), Ok(Reported::Known));
    assert_eq!(d.outcome.as_ref().map(|outcome| outcome.result.as_str()), Some(r#"{"n":1}"#));
    // Done there before anybody here heard that it was accepted.
    let (mut d, cell) = abroad_with(0);
    assert_eq!(d.adopt(&cell, 1, view(DelegationState::Completed), at(5)), Ok(Reported::Taken));
    assert_eq!(kinds(&d, "boss"), [NoteKind::Accepted, NoteKind::Completed]);
    // Nobody there wanted it: others are asked, and it cost no retry.
    let (mut d, cell) = abroad_with(0);
    assert_eq!(d.adopt(&cell, 1, view(DelegationState::Rejected), at(5)), Ok(Reported::Taken));
    assert_eq!((d.state, d.attempts[0].state), (DelegationState::Pending, AttemptState::Rejected));
    let (mut d, cell) = abroad_with(0);
    d.adopt(&cell, 1, view(DelegationState::Active), at(3)).unwrap();
    d.adopt(&cell, 1, view(DelegationState::Failed), at(5)).unwrap();
    assert_eq!(
        (d.state, d.outcome.map(|outcome| outcome.error)),
        (DelegationState::Failed, Some("it broke".to_owned()))
    );
    assert_eq!(d.ended, Some(at(5)));
}

#[test]
fn a_cell_gives_a_task_back_before_anybody_else_has_it() {
    let (mut d, cell) = abroad_with(1);
    assert!(d.tick(at(11)), "no answer to the offer");
    assert_eq!(d.holder(), Some(&cell), "it may have it, and work on it");
    assert_eq!(kinds(&d, "cell.b"), [NoteKind::Offered, NoteKind::Withdrawn]);
    assert!(d.due(at(12)) >= at(12));
    d.note_sent(&[1, 2]);
    assert_eq!(d.due(at(12)), at(1 + 10 + 300 + 5), "then its lease has ended");
    d.adopt(&cell, 1, view(DelegationState::Cancelled), at(13)).unwrap();
    assert_eq!((d.holder(), d.retries, d.look_at), (None, 0, at(13)), "nothing ran");
    // It was accepted there, and nobody here had heard it: it goes on.
    let (mut d, cell) = abroad_with(1);
    d.tick(at(11));
    d.adopt(&cell, 1, view(DelegationState::Active), at(12)).unwrap();
    assert!(!d.tick(at(300)));
    assert_eq!((d.state, d.attempts[0].withdrawn.clone()), (DelegationState::Active, None));
    // It was done meanwhile: that counts.
    let (mut d, cell) = abroad_with(1);
    d.tick(at(11));
    d.adopt(&cell, 1, view(DelegationState::Completed), at(13)).unwrap();
    assert_eq!(d.state, DelegationState::Completed);
    // Nobody hears of it any more: the lease ends.
    let (mut d, cell) = abroad_with(1);
    d.adopt(&cell, 1, view(DelegationState::Active), at(5)).unwrap();
    d.tick(at(305));
    assert_eq!(d.holder(), Some(&cell));
    d.tick(at(315));
    assert_eq!(d.holder(), Some(&cell));
    d.tick(at(316));
    assert_eq!((d.holder(), d.retries), (None, 1));
    assert_eq!(d.adopt(&cell, 1, view(DelegationState::Completed), at(320)), Ok(Reported::Late));
}

#[test]
fn ours_come_before_other_cells() {
    let mut d = delegation(request());
    offer(&mut d, &["cell.b", "anna"], at(1));
    assert_eq!(d.holder(), Some(&id("anna")));
    assert_eq!(d.decisions[0].behind, 1);
    let mut d = delegation(DelegationRequest { preferred: vec![id("cell.b")], ..request() });
    offer(&mut d, &["anna", "cell.b"], at(1));
    assert_eq!(d.holder(), Some(&id("cell.b")), "but for those who want it so");
    let mut d = delegation(DelegationRequest { hops: vec![id("cell.b")], ..request() });
    offer(&mut d, &["cell.b"], at(1));
    assert_eq!(d.holder(), None, "it came from there");
}
