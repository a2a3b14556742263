//! Tasks that orchestrators hand to each other: the right one is asked, there is one end, and anybody may ask why.

use serde_json::json;
use tonic::Code;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::federation::v1::complete_delegation_request::Verdict;
use waystation_proto::federation::v1::*;
use waystation_tests::{Cell, code_and_reason, eventually, frame};

use super::worker::{Worker, ends, explain, look, reserved, seconds, task};

#[tokio::test]
async fn a_task_is_offered_done_and_explained() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 1).await;
    let _testing = Worker::start(&cell, "tess", &["testing"], 1).await;

    let id = boss.delegate(task("research")).await;
    let offer = anna.offer().await;
    assert_eq!(offer, (id.clone(), 1));
    assert_eq!(reserved(&cell).await, 1);
    assert_eq!(anna.answer(&offer, true).await, ReportOutcome::Taken);
    assert_eq!(boss.mail_of("delegation.accepted").await["assignee"], "anna");
    assert_eq!(anna.progress(&offer, 40).await, ReportOutcome::Taken);
    assert_eq!(boss.mail_of("delegation.progress").await["progress"], 40);
    assert_eq!(anna.complete(&offer, r#"{"found":42}"#).await, ReportOutcome::Taken);
    assert_eq!(boss.mail_of("delegation.completed").await["result"], json!({"found": 42}));
    assert_eq!(anna.complete(&offer, r#"{"found":42}"#).await, ReportOutcome::Known, "told twice");
    assert_eq!(anna.complete(&offer, r#"{"found":43}"#).await, ReportOutcome::Late, "another result");

    let explained = explain(&cell, &id).await;
    let delegation = explained.delegation.unwrap();
    assert_eq!(delegation.state(), DelegationState::Completed);
    assert_eq!(delegation.result, r#"{"found":42}"#);
    assert_eq!(delegation.late[0].result, r#"{"found":43}"#);
    let decision = &explained.decisions[0];
    assert_eq!((decision.chosen_id.as_str(), decision.seen), ("anna", 2));
    assert_eq!((decision.dismissed[0].reason.as_str(), decision.dismissed[0].count), ("incapable", 1));
    assert_eq!(decision.scores[0].parts[0].name, "room");
    assert_eq!(reserved(&cell).await, 0);
}

#[tokio::test]
async fn what_nobody_can_do_waits_with_a_reason_until_somebody_can() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let mut anna = Worker::start(&cell, "anna", &["testing"], 1).await;
    let soon = DelegationLimits { overall: seconds(1), ..Default::default() };
    let lost = boss.delegate(DelegateTaskRequest { limits: Some(soon), ..task("ml-training") }).await;
    let id = boss.delegate(task("research")).await;
    assert_eq!(look(&cell, &id).await.why_pending, "nobody of 1 registered has what it needs");
    let expired = ends(&cell, &lost).await;
    assert_eq!(expired.state(), DelegationState::Expired);
    assert!(expired.error.contains("nobody of 1 registered has what it needs"), "{}", expired.error);
    assert_eq!(boss.mail_of("delegation.failed").await["state"], "EXPIRED");
    anna.register(&["testing", "research"], 1).await;
    assert_eq!(anna.offer().await.0, id);
    // One slot, and it is taken: the next one is told so.
    let next = boss.delegate(task("testing")).await;
    assert_eq!(look(&cell, &next).await.why_pending, "0 free of those who have what it needs; 1 online but full");
}

#[tokio::test]
async fn who_did_not_answer_in_time_is_asked_again_where_there_is_nobody_else() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 1).await;
    let limits = DelegationLimits { offer: seconds(1), ..Default::default() };
    let id = boss.delegate(DelegateTaskRequest { limits: Some(limits), ..task("research") }).await;
    assert_eq!(anna.offer().await, (id.clone(), 1));
    let again = async || (look(&cell, &id).await.attempts.len() == 2).then_some(());
    eventually("she is asked again", again).await;
    let decisions = explain(&cell, &id).await.decisions;
    let chosen: Vec<_> = decisions.iter().map(|decision| decision.chosen_id.as_str()).collect();
    assert_eq!(chosen, ["anna", "anna"], "the slot that the task itself had is free for it: {decisions:?}");
}

#[tokio::test]
async fn when_everybody_refuses_it_is_rejected() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let mut workers =
        [Worker::start(&cell, "anna", &["research"], 1).await, Worker::start(&cell, "bert", &["research"], 1).await];
    let id = boss.delegate(DelegateTaskRequest { strategy: Strategy::RoundRobin.into(), ..task("research") }).await;
    let first = look(&cell, &id).await.attempts[0].assignee_id.clone();
    if workers[0].name != first {
        workers.reverse();
    }
    for worker in &mut workers {
        let offer = worker.offer().await;
        assert_eq!(worker.answer(&offer, false).await, ReportOutcome::Taken);
        assert_eq!(boss.mail_of("delegation.rejected").await["reason"], "I do not want to");
    }
    let ended = ends(&cell, &id).await;
    assert_eq!((ended.state(), ended.retries), (DelegationState::Rejected, 0));
    assert_eq!(boss.mail_of("delegation.failed").await["state"], "REJECTED");
    assert_eq!(reserved(&cell).await, 0);
}

#[tokio::test]
async fn what_is_told_at_once_is_heard_in_its_order() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 1).await;
    for _ in 0..20 {
        boss.delegate(task("research")).await;
        let (id, attempt) = anna.offer().await;
        for (kind, more) in [
            ("delegation_response", json!({"accepted": true})),
            ("delegation_progress", json!({"progress": 50})),
            ("delegation_result", json!({"status": "completed"})),
        ] {
            let mut payload = json!({"delegationId": id, "attempt": attempt});
            payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            anna.daemon.send(frame(kind, payload)).await;
        }
        for expected in ["delegation.accepted", "delegation.progress", "delegation.completed"] {
            assert_eq!(boss.mail_of(expected).await["delegationId"], id.as_str());
        }
    }
}

#[tokio::test]
async fn a_delegator_whose_mailbox_is_full_holds_nobody_up_and_hears_of_it_later() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    backend.fill("boss", 1_000).await;
    let mut workers =
        [Worker::start(&cell, "anna", &["research"], 1).await, Worker::start(&cell, "bert", &["research"], 1).await];
    let request = DelegateTaskRequest { from_orchestrator_id: "boss".into(), ..task("research") };
    let id = backend.federation.clone().delegate_task(request).await.unwrap().into_inner().delegation_id;
    if workers[0].name != look(&cell, &id).await.attempts[0].assignee_id {
        workers.reverse();
    }
    let offer = workers[0].offer().await;
    workers[0].answer(&offer, false).await;
    let offer = workers[1].offer().await;
    workers[1].answer(&offer, true).await;
    workers[1].complete(&offer, "{}").await;
    assert_eq!(ends(&cell, &id).await.state(), DelegationState::Completed);
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    for _ in 0..10 {
        let waiting = boss.daemon.events(100).await;
        boss.daemon.ack(&waiting).await;
    }
    for expected in ["delegation.rejected", "delegation.accepted", "delegation.completed"] {
        boss.mail_of(expected).await;
    }
}

#[tokio::test]
async fn strangers_and_the_late_change_nothing() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let mut mallory = Worker::start(&cell, "mallory", &[], 0).await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 1).await;
    let id = boss.delegate(task("research")).await;
    let offer = anna.offer().await;
    let early = anna.try_complete(&offer, Verdict::Result("{}".into())).await.unwrap_err();
    assert_eq!(code_and_reason(&early), (Code::FailedPrecondition, Some(ErrorReason::DelegationState)));
    let stranger = mallory.try_complete(&offer, Verdict::Result("{}".into())).await.unwrap_err();
    assert_eq!(stranger.code(), Code::NotFound);
    let request = GetDelegationRequest { delegation_id: id.clone(), ..Default::default() };
    assert_eq!(mallory.calls.federation.get_delegation(request).await.unwrap_err().code(), Code::NotFound);
    let other = (id.clone(), 2);
    assert_eq!(
        anna.try_complete(&other, Verdict::Result("{}".into())).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    anna.answer(&offer, true).await;
    boss.mail_of("delegation.accepted").await;

    let cancel = CancelDelegationRequest { delegation_id: id.clone(), reason: "enough".into(), ..Default::default() };
    let refused = anna.calls.federation.cancel_delegation(cancel.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "who works on it does not cancel it");
    boss.calls.federation.cancel_delegation(cancel.clone()).await.unwrap();
    boss.calls.federation.cancel_delegation(cancel).await.unwrap();
    assert_eq!(anna.mail_of("delegation.cancelled").await["reason"], "enough");
    assert_eq!(boss.mail_of("delegation.cancelled").await["state"], "CANCELLED");
    assert_eq!(anna.progress(&offer, 50).await, ReportOutcome::Late);
    assert_eq!(anna.complete(&offer, "{}").await, ReportOutcome::Late);
    let found = look(&cell, &id).await;
    assert_eq!((found.state(), found.late.len()), (DelegationState::Cancelled, 1));
    assert_eq!(reserved(&cell).await, 0);
}

#[tokio::test]
async fn who_goes_between_accept_and_result_loses_the_task() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 2).await;
    let once = boss.delegate(DelegateTaskRequest { max_retries: Some(0), ..task("research") }).await;
    let offer = anna.offer().await;
    anna.answer(&offer, true).await;
    boss.mail_of("delegation.accepted").await;
    let again = boss.delegate(DelegateTaskRequest { max_retries: Some(1), ..task("research") }).await;
    let second = anna.offer().await;
    anna.answer(&second, true).await;
    boss.mail_of("delegation.accepted").await;
    let mut bert = Worker::start(&cell, "bert", &["research"], 2).await;
    // Whoever says goodbye is gone at once; a line that breaks is waited for.
    anna.daemon.send(frame("goodbye", json!({}))).await;
    let failed = ends(&cell, &once).await;
    assert_eq!(failed.state(), DelegationState::Failed, "0 retries: it never runs twice");
    assert_eq!(bert.offer().await, (again.clone(), 2));
    let (mut states, mut reassigned) = (Vec::new(), 0);
    while states.is_empty() || reassigned == 0 {
        match boss.mail().await {
            (kind, data) if kind == "delegation.failed" => states.push(data["state"].clone()),
            (kind, data) if kind == "delegation.reassigned" => {
                assert_eq!(data["delegationId"], again.as_str());
                reassigned += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(states, ["FAILED"]);
    assert_eq!(anna.complete(&second, "{}").await, ReportOutcome::Late, "it is somebody else's");
    let mut anna = Worker::start(&cell, "anna", &["research"], 2).await;
    let mut told = [anna.mail_of("delegation.reassigned").await, anna.mail_of("delegation.reassigned").await]
        .map(|data| data["delegationId"].as_str().unwrap().to_owned());
    told.sort();
    let mut expected = [once, again];
    expected.sort();
    assert_eq!(told, expected, "on its return it hears which tasks are no longer its");
}

#[tokio::test]
async fn a_task_neither_comes_back_nor_goes_on_for_ever() {
    const NAMES: [&str; 9] = ["o-0", "o-1", "o-2", "o-3", "o-4", "o-5", "o-6", "o-7", "o-8"];
    let cell = Cell::start().await;
    let mut workers = Vec::new();
    for name in NAMES {
        workers.push(Worker::start(&cell, name, &["research"], 4).await);
    }
    let mut parent = String::new();
    for n in 0..8 {
        let to = |name: &str| DelegateTaskRequest {
            to_orchestrator_id: name.into(),
            parent_delegation_id: parent.clone(),
            ..task("research")
        };
        if n > 0 {
            let back = workers[n].calls.federation.delegate_task(to(NAMES[n - 1])).await.unwrap_err();
            let cycle = (Code::FailedPrecondition, Some(ErrorReason::DelegationCycle));
            assert_eq!(code_and_reason(&back), cycle, "{}", back.message());
        }
        let id = workers[n].delegate(to(NAMES[n + 1])).await;
        let offer = workers[n + 1].offer().await;
        assert_eq!(workers[n + 1].answer(&offer, true).await, ReportOutcome::Taken);
        parent = id;
    }
    assert_eq!(look(&cell, &parent).await.hops.len(), 7);
    let request = DelegateTaskRequest { parent_delegation_id: parent.clone(), ..task("research") };
    let ninth = workers[8].calls.federation.delegate_task(request).await.unwrap_err();
    assert_eq!(code_and_reason(&ninth).1, Some(ErrorReason::DelegationCycle), "{}", ninth.message());
    let request = DelegateTaskRequest { parent_delegation_id: parent, ..task("research") };
    let foreign = workers[0].calls.federation.delegate_task(request).await.unwrap_err();
    assert_eq!(foreign.code(), Code::InvalidArgument, "only who works on it hands a part of it on");
}

#[tokio::test]
async fn the_same_request_is_one_delegation_and_a_watch_tells_its_changes() {
    let cell = Cell::start().await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 1).await;
    let mut backend = cell.backend();
    let request = DelegateTaskRequest { request_id: "r-1".into(), ..task("research") };
    let first = backend.federation.delegate_task(request.clone()).await.unwrap().into_inner();
    let again = backend.federation.delegate_task(request.clone()).await.unwrap().into_inner();
    assert_eq!((&again.delegation_id, again.duplicate, first.duplicate), (&first.delegation_id, true, false));
    let different = DelegateTaskRequest { region: "eu".into(), ..request };
    let refused = backend.federation.delegate_task(different).await.unwrap_err();
    assert_eq!(code_and_reason(&refused), (Code::AlreadyExists, Some(ErrorReason::AlreadyExists)));

    let watch = |after_version| WatchDelegationRequest {
        delegation_id: first.delegation_id.clone(),
        after_version,
        ..Default::default()
    };
    let mut changes = backend.federation.watch_delegation(watch(0)).await.unwrap().into_inner();
    let mut next = async || changes.message().await.unwrap().and_then(|answer| answer.delegation);
    let seen = next().await.unwrap();
    assert_eq!(seen.state(), DelegationState::Pending);
    let offer = anna.offer().await;
    anna.answer(&offer, true).await;
    let mut seen = seen;
    while seen.state() == DelegationState::Pending {
        seen = next().await.unwrap();
    }
    let mut resumed = cell.backend().federation.watch_delegation(watch(seen.version)).await.unwrap().into_inner();
    anna.complete(&offer, "{}").await;
    let mut last = None;
    while let Some(seen) = next().await {
        last = Some(seen);
    }
    assert_eq!(last.unwrap().state(), DelegationState::Completed, "and then it ends");
    let mut last = None;
    while let Some(answer) = resumed.message().await.unwrap() {
        let seen = answer.delegation.unwrap();
        assert!(seen.version > last.as_ref().map_or(0, |last: &Delegation| last.version));
        last = Some(seen);
    }
    assert_eq!(last.unwrap().state(), DelegationState::Completed);
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let required =
        |name: &str, version: &str| vec![Capability { name: name.into(), version: version.into(), level: None }];
    let limits = |offer| Some(DelegationLimits { offer: seconds(offer), ..Default::default() });
    let payload = |payload: &str| Some(Task { payload: payload.to_owned().into(), ..Default::default() });
    let cases = [
        ("task", DelegateTaskRequest { task: None, ..task("research") }),
        ("task.payload", DelegateTaskRequest { task: payload("[1]"), ..task("research") }),
        ("task.payload", DelegateTaskRequest { task: payload(&"x".repeat(70_000)), ..task("research") }),
        ("required_capabilities[0].name", task("Research!")),
        (
            "required_capabilities[0].version",
            DelegateTaskRequest { required_capabilities: required("research", "new"), ..task("research") },
        ),
        ("limits.offer", DelegateTaskRequest { limits: limits(0), ..task("research") }),
        ("max_retries", DelegateTaskRequest { max_retries: Some(17), ..task("research") }),
        ("strategy", DelegateTaskRequest { strategy: 99, ..task("research") }),
        ("to_orchestrator_id", DelegateTaskRequest { to_orchestrator_id: "a/b".into(), ..task("research") }),
        ("parent_delegation_id", DelegateTaskRequest { parent_delegation_id: "none".into(), ..task("research") }),
        ("request_id", DelegateTaskRequest { request_id: "a b".into(), ..task("research") }),
    ];
    for (field, request) in cases {
        let refused = boss.calls.federation.delegate_task(request).await.unwrap_err();
        assert_eq!(waystation_rpc::field_of(&refused).as_deref(), Some(field), "{}", refused.message());
    }
    let forged = DelegateTaskRequest { from_orchestrator_id: "anna".into(), ..task("research") };
    let refused = boss.calls.federation.delegate_task(forged).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "nobody speaks for another");
}
