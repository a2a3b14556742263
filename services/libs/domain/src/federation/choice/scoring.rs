//! How those are compared who could do it.

use std::cmp::Reverse;

use super::{Candidate, SCORED, Score, ScorePart, Strategy, Wanted};

/// The best first.
pub(super) fn compare(wanted: &Wanted<'_>, mut able: Vec<Candidate<'_>>, random: u64, turn: u64) -> Vec<Score> {
    match wanted.strategy {
        Strategy::RoundRobin => {
            able.sort_by(|a, b| a.registration.id.cmp(&b.registration.id));
            let count = u64::try_from(able.len()).unwrap_or(u64::MAX);
            let next = turn.checked_rem(count).and_then(|next| usize::try_from(next).ok()).unwrap_or(0);
            able.rotate_left(next);
            able.truncate(SCORED);
            let place = |(at, candidate)| scored(candidate, &[("turn", 1_000 - i32::try_from(at).unwrap_or(1_000))]);
            able.iter().enumerate().map(place).collect()
        }
        Strategy::PowerOfTwo => {
            let drawn = draw_two(able.len(), random).into_iter().map(|at| able[at]);
            best(drawn.map(|candidate| scored(&candidate, &[("room", whole(candidate.room()))])).collect(), random)
        }
        Strategy::LeastLoaded => by(&able, random, |candidate| vec![("room", whole(candidate.room()))]),
        Strategy::CapabilityAware => by(&able, random, |candidate| {
            let spare = candidate.registration.capabilities.len().saturating_sub(wanted.capabilities.len());
            vec![("specialist", 1_000 / (1 + i32::try_from(spare).unwrap_or(1_000)))]
        }),
        Strategy::Sticky => by(&able, random, |candidate| {
            let affinity = mixed(wanted.affinity.as_bytes(), candidate.registration.id.as_str());
            vec![("affinity", i32::try_from(affinity % 1_000_000_007).unwrap_or(0))]
        }),
        Strategy::Weighted => {
            let heaviest = able.iter().map(|candidate| candidate.registration.weight).max().unwrap_or(1).max(1);
            by(&able, random, |candidate| {
                let weight = u64::from(candidate.registration.weight) * 300 / u64::from(heaviest);
                vec![
                    ("room", whole(candidate.room() * 4 / 10)),
                    ("weight", i32::try_from(weight).unwrap_or(300)),
                    ("health", whole(candidate.standing.health() / 5)),
                    ("few_tasks", whole(100 / (1 + candidate.reserved.min(1_000)))),
                    ("errors", -whole(candidate.errors.min(1_000))),
                ]
            })
        }
    }
}

fn whole(thousandths: u32) -> i32 {
    i32::try_from(thousandths).unwrap_or(i32::MAX)
}

fn scored(candidate: &Candidate<'_>, parts: &[(&str, i32)]) -> Score {
    Score {
        orchestrator: candidate.registration.id.clone(),
        total: parts.iter().map(|(_, value)| value).sum(),
        parts: parts.iter().map(|(name, value)| ScorePart { name: (*name).to_owned(), value: *value }).collect(),
    }
}

fn by(able: &[Candidate<'_>], random: u64, judge: impl Fn(&Candidate<'_>) -> Vec<(&'static str, i32)>) -> Vec<Score> {
    // Only the best are kept, so that ten thousand cost no ten thousand texts.
    let mut totals: Vec<(i32, u64, usize)> = able
        .iter()
        .enumerate()
        .map(|(at, candidate)| {
            let total = judge(candidate).iter().map(|(_, value)| value).sum();
            (total, tie(random, candidate.registration.id.as_str()), at)
        })
        .collect();
    let kept = totals.len().min(SCORED);
    if kept < totals.len() {
        totals.select_nth_unstable_by_key(kept, |(total, tie, _)| (Reverse(*total), *tie));
        totals.truncate(kept);
    }
    best(totals.into_iter().map(|(_, _, at)| scored(&able[at], &judge(&able[at]))).collect(), random)
}

/// Sorted, equal ones in an order that differs from choice to choice.
fn best(mut scores: Vec<Score>, random: u64) -> Vec<Score> {
    scores.sort_by_key(|score| (Reverse(score.total), tie(random, score.orchestrator.as_str())));
    scores
}

/// Two different places of so many, if there are two.
fn draw_two(count: usize, random: u64) -> Vec<usize> {
    if count <= 2 {
        return (0..count).collect();
    }
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let first = random % count;
    let second = (first + 1 + (random / count) % (count - 1)) % count;
    [first, second].into_iter().filter_map(|at| usize::try_from(at).ok()).collect()
}

fn tie(random: u64, id: &str) -> u64 {
    mixed(&random.to_le_bytes(), id)
}

/// FNV-1a of both texts, finished by a multiplication, so that similar names lie far apart.
fn mixed(first: &[u8], second: &str) -> u64 {
    let bytes = first.iter().copied().chain([0]).chain(second.bytes());
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (sum ^ (sum >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}
