//! Whatever comes in whatever order: what always holds.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::{at, completed, delegation, id, offer, request};
use super::{AttemptState, Delegation, DelegationRequest, DelegationState, RemoteView};
use crate::Timestamp;
use crate::federation::{Note, NoteKind, Verdict};

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Choose(Vec<usize>),
    Respond(usize, u32, bool),
    Progress(usize, u32),
    Complete(usize, u32, bool),
    Lose(usize),
    /// A cell says how it does.
    Adopt(u32, DelegationState, u32),
    Cancel,
    Wait(u64),
    Send,
}

const NAMES: [&str; 5] = ["anna", "bert", "cleo", "boss", CELL];
const CELL: &str = "cell.b";

fn step() -> impl Strategy<Value = Step> {
    let who = 0..NAMES.len();
    prop_oneof![
        4 => proptest::collection::vec(who.clone(), 0..4).prop_map(Step::Choose),
        4 => (who.clone(), 1..5_u32, any::<bool>()).prop_map(|(who, number, yes)| Step::Respond(who, number, yes)),
        2 => (who.clone(), 1..5_u32).prop_map(|(who, number)| Step::Progress(who, number)),
        2 => (who.clone(), 1..5_u32, any::<bool>()).prop_map(|(who, number, well)| Step::Complete(who, number, well)),
        1 => who.prop_map(Step::Lose),
        3 => (1..5_u32, prop::sample::select(&DelegationState::ALL[..]), 0..100_u32)
            .prop_map(|(number, state, progress)| Step::Adopt(number, state, progress)),
        1 => Just(Step::Cancel),
        4 => (0..120_u64).prop_map(Step::Wait),
        2 => Just(Step::Send),
    ]
}

fn take(d: &mut Delegation, step: &Step, now: Timestamp) {
    // Refused or not: what always holds is looked at afterwards.
    let _reported = match step {
        Step::Choose(names) => {
            let names: Vec<_> = names.iter().map(|name| NAMES[*name]).collect();
            return offer(d, &names, now);
        }
        Step::Respond(who, number, true) => d.respond(&id(NAMES[*who]), *number, Ok(String::new()), now),
        Step::Respond(who, number, false) => d.respond(&id(NAMES[*who]), *number, Err("no".into()), now),
        Step::Progress(who, number) => d.progress(&id(NAMES[*who]), *number, (5, ""), now),
        Step::Complete(who, number, true) => d.complete(&id(NAMES[*who]), *number, completed("{}"), now),
        Step::Complete(who, number, false) => d.complete(&id(NAMES[*who]), *number, Verdict::Failed("no".into()), now),
        Step::Adopt(number, state, progress) => {
            let view = RemoteView {
                state: *state,
                progress: *progress,
                estimate: String::new(),
                result: "{}".into(),
                error: "no".into(),
            };
            d.adopt(&id(CELL), *number, view, now)
        }
        Step::Lose(who) => return d.lose(&id(NAMES[*who]), "gone", now),
        Step::Cancel => return d.cancel("no", now).unwrap_or_default(),
        Step::Wait(_) => {
            d.tick(now);
            return;
        }
        Step::Send => return d.note_sent(&(1..=d.notes).collect::<Vec<_>>()),
    };
}

/// What always holds.
fn check(before: &Delegation, after: &Delegation) {
    assert!(before.state.may_become(after.state), "{} to {}", before.state, after.state);
    if before.state.is_terminal() {
        assert_eq!((before.ended, &before.outcome, before.notes), (after.ended, &after.outcome, after.notes));
        assert_eq!(before.attempts, after.attempts, "an end is an end");
    }
    assert_eq!(after.state.is_terminal(), after.ended.is_some() && after.outcome.is_some());
    let open = after.attempts.iter().filter(|attempt| attempt.state.is_open()).count();
    assert!(open <= usize::from(!after.state.is_terminal()), "one slot at most, and none at the end");
    assert_eq!(after.holder().is_some(), open == 1, "only the last attempt can be open");
    let accepted = after.attempts.iter().filter(|attempt| attempt.accepted.is_some()).count();
    assert!(accepted <= 1 + after.retries as usize, "it runs once more for each retry");
    assert!(after.retries <= after.request.max_retries);
    assert!(after.attempts.iter().all(|attempt| attempt.assignee != id("boss")), "no cycle");
    let numbers: Vec<_> = after.outbox.iter().map(|note| note.number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b) && numbers.iter().all(|number| *number <= after.notes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn whatever_happens_there_is_one_end(
        steps in proptest::collection::vec(step(), 0..60),
        max_retries in 0..4_u32,
    ) {
        let mut d = delegation(DelegationRequest { max_retries, ..request() });
        let (mut now, mut ends) = (at(0), 0);
        for step in &steps {
            if let Step::Wait(seconds) = step {
                now = now.after(Duration::from_secs(*seconds));
            }
            let before = d.clone();
            take(&mut d, step, now);
            check(&before, &d);
            if let Some(attempt) = before.current().filter(|attempt| attempt.assignee == id(CELL)) {
                let was_taken = !d.state.is_terminal()
                    && d.attempts.iter().any(|after| after.number == attempt.number && after.state == AttemptState::Lost);
                prop_assert!(
                    !was_taken || matches!(step, Step::Adopt(..)) || now >= before.lease_end(attempt),
                    "what a cell may still work on is nobody else's"
                );
            }
            let final_note = |note: &&Note| note.number > before.notes && note.to == id("boss")
                && matches!(note.kind, NoteKind::Completed | NoteKind::Failed | NoteKind::Cancelled);
            ends += d.outbox.iter().filter(final_note).count();
        }
        d.tick(d.deadline().max(now));
        prop_assert!(d.state.is_terminal(), "the overall limit ends it");
        prop_assert!(ends <= 1, "the delegator hears of one end");
    }

    #[test]
    fn what_was_done_when_it_was_due_is_not_due_at_once(
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let mut d = delegation(request());
        let mut now = at(0);
        for step in &steps {
            take(&mut d, step, now);
            if d.state.is_terminal() {
                break;
            }
            now = now.max(d.due(now));
            // What a sweeper does.
            let mut rounds = 0;
            while d.tick(now) || d.wants_choice(now) {
                offer(&mut d, &["anna", "bert", "cleo"], now);
                rounds += 1;
                prop_assert!(rounds < 5, "{d:?}");
            }
            d.note_sent(&(1..=d.notes).collect::<Vec<_>>());
            prop_assert!(d.due(now) > now, "{d:?}");
        }
    }
}
