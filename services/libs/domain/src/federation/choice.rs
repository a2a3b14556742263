//! Who gets a task, and why the others do not: hard conditions first, then a score by strategy. All of it is kept, so that
//! anybody may ask.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Capability, Registration, Standing};
use crate::{OrchestratorId, Timestamp};

/// Names that are kept of those who were dismissed for one reason.
const NAMED: usize = 5;
/// Scores that are kept, the best first.
const SCORED: usize = 10;

/// How those are compared who could do it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// One after the other.
    RoundRobin,
    /// Most of its slots are free.
    LeastLoaded,
    /// Free slots 40 %, weight 30 %, health 20 %, few tasks 10 %, less the rate of errors.
    Weighted,
    /// Fewest capabilities beside those that are needed: generalists stay free.
    CapabilityAware,
    /// The less loaded of two that are drawn: good, and cheap among many.
    #[default]
    PowerOfTwo,
    /// The same for the same affinity key, as long as it is there.
    Sticky,
}

/// Somebody who might do it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What it says of itself.
    pub registration: &'a Registration,
    /// Slots that are taken.
    pub reserved: u32,
    /// What is seen of it.
    pub standing: Standing,
    /// Tokens that it has used up.
    pub tokens_used: u64,
    /// Tasks that failed of the last ones, in thousandths.
    pub errors: u32,
}

impl Candidate<'_> {
    fn free(&self) -> u32 {
        self.registration.max_concurrent.saturating_sub(self.reserved)
    }

    /// Free slots in thousandths of all.
    fn room(&self) -> u32 {
        let share = u64::from(self.free()) * 1_000 / u64::from(self.registration.max_concurrent.max(1));
        u32::try_from(share).unwrap_or(1_000)
    }
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Nobody else will do.
    pub to: Option<&'a OrchestratorId>,
    /// All of these.
    pub capabilities: &'a [Capability],
    /// Empty: anywhere.
    pub region: &'a str,
    /// Tokens that the task may take.
    pub tokens: u64,
    /// These come first, if they can.
    pub preferred: &'a [OrchestratorId],
    /// These are not asked.
    pub excluded: &'a [OrchestratorId],
    /// These have refused.
    pub refused: &'a [OrchestratorId],
    /// These have handed it on.
    pub hops: &'a [OrchestratorId],
    /// These come last: they were tried.
    pub tried: &'a [OrchestratorId],
    /// How to compare.
    pub strategy: Strategy,
    /// For [`Strategy::Sticky`].
    pub affinity: &'a str,
}

/// Why somebody was not considered. In this order: the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Dismissal {
    /// Somebody else was named.
    NotNamed,
    /// It lacks a capability, or has too little of it.
    Incapable,
    /// It was excluded.
    Excluded,
    /// It has handed the task on: it would come back to it.
    HandedOn,
    /// It has refused.
    Refused,
    /// It is elsewhere.
    OtherRegion,
    /// It is not there.
    Offline,
    /// It takes nothing new.
    Draining,
    /// It has not enough tokens left.
    TooFewTokens,
    /// All its slots are taken.
    Full,
}

impl Dismissal {
    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            Dismissal::NotNamed => "not_named",
            Dismissal::Incapable => "incapable",
            Dismissal::Excluded => "excluded",
            Dismissal::HandedOn => "handed_on",
            Dismissal::Refused => "refused",
            Dismissal::OtherRegion => "other_region",
            Dismissal::Offline => "offline",
            Dismissal::Draining => "draining",
            Dismissal::TooFewTokens => "too_few_tokens",
            Dismissal::Full => "full",
        }
    }

    fn phrase(self) -> &'static str {
        match self {
            Dismissal::NotNamed => "not named",
            Dismissal::Incapable => "without the capabilities",
            Dismissal::Excluded => "excluded",
            Dismissal::HandedOn => "handed it on already",
            Dismissal::Refused => "refused",
            Dismissal::OtherRegion => "in another region",
            Dismissal::Offline => "offline",
            Dismissal::Draining => "draining",
            Dismissal::TooFewTokens => "online without enough tokens",
            Dismissal::Full => "online but full",
        }
    }

    /// Whether it may be otherwise in a moment.
    fn passes(self) -> bool {
        matches!(self, Dismissal::Offline | Dismissal::Draining | Dismissal::TooFewTokens | Dismissal::Full)
    }
}

/// Those who were dismissed for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dismissed {
    /// Which.
    pub why: Dismissal,
    /// How many.
    pub count: u32,
    /// Some of them: at most five.
    pub some: Vec<OrchestratorId>,
}

/// A part of a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScorePart {
    /// What was judged.
    pub name: String,
    /// What it gave, in thousandths of a whole score; negative if it took something.
    pub value: i32,
}

/// How somebody was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Who.
    pub orchestrator: OrchestratorId,
    /// The sum of its parts.
    pub total: i32,
    /// What it is made of.
    pub parts: Vec<ScorePart>,
}

/// One choice, with all that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// How those were compared who could do it.
    pub strategy: Strategy,
    /// Who was registered.
    pub seen: u32,
    /// Who was not considered.
    pub dismissed: Vec<Dismissed>,
    /// Who could do it but waits behind others: somebody preferred, healthier, or not tried yet.
    pub behind: u32,
    /// The best of those who were compared, at most ten.
    pub scores: Vec<Score>,
    /// Who it is.
    pub chosen: Option<OrchestratorId>,
}

impl Decision {
    /// How many were dismissed for a reason.
    pub fn count(&self, why: Dismissal) -> u32 {
        self.dismissed.iter().find(|dismissed| dismissed.why == why).map_or(0, |dismissed| dismissed.count)
    }

    /// Counts those too who need not be looked at: an index says that they lack a capability.
    #[must_use]
    pub fn with_incapable(mut self, others: u32) -> Decision {
        if others == 0 {
            return self;
        }
        self.seen += others;
        match self.dismissed.iter_mut().find(|dismissed| dismissed.why == Dismissal::Incapable) {
            Some(dismissed) => dismissed.count += others,
            None => {
                self.dismissed.push(Dismissed { why: Dismissal::Incapable, count: others, some: Vec::new() });
                self.dismissed.sort_by_key(|dismissed| dismissed.why);
            }
        }
        self
    }

    /// Whether somebody was asked and nobody is left who could be.
    pub fn is_exhausted(&self) -> bool {
        self.chosen.is_none()
            && self.count(Dismissal::Refused) > 0
            && !self.dismissed.iter().any(|dismissed| dismissed.why.passes())
    }
}

/// In words, as people ask for it.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(chosen) = &self.chosen {
            return write!(f, "{chosen} was chosen");
        }
        let capable = self.seen - self.count(Dismissal::NotNamed) - self.count(Dismissal::Incapable);
        if capable == 0 {
            return write!(f, "nobody of {} registered has what it needs", self.seen);
        }
        f.write_str("0 free of those who have what it needs")?;
        let told = self.dismissed.iter().filter(|d| !matches!(d.why, Dismissal::NotNamed | Dismissal::Incapable));
        for Dismissed { why, count, .. } in told {
            write!(f, "; {count} {}", why.phrase())?;
        }
        Ok(())
    }
}

/// Chooses among all who are registered. `random` draws and breaks ties; `turn` counts choices.
pub fn choose<'a>(
    wanted: &Wanted<'_>,
    candidates: impl IntoIterator<Item = Candidate<'a>>,
    (random, turn): (u64, u64),
    at: Timestamp,
) -> Decision {
    let (mut seen, mut able, mut dismissed) = (0, Vec::new(), Vec::<Dismissed>::new());
    for candidate in candidates {
        seen += 1;
        match dismissal(wanted, &candidate) {
            None => able.push(candidate),
            Some(why) => note(&mut dismissed, why, &candidate.registration.id),
        }
    }
    dismissed.sort_by_key(|dismissed| dismissed.why);
    let all = able.len();
    narrow(&mut able, |candidate| wanted.preferred.contains(&candidate.registration.id));
    narrow(&mut able, |candidate| !wanted.tried.contains(&candidate.registration.id));
    if wanted.strategy != Strategy::Weighted
        && let Some(best) = able.iter().map(|candidate| candidate.standing).min()
    {
        narrow(&mut able, |candidate| candidate.standing == best);
    }
    let behind = u32::try_from(all - able.len()).unwrap_or(u32::MAX);
    let scores = compare(wanted, able, random, turn);
    let chosen = scores.first().map(|score| score.orchestrator.clone());
    Decision { at, strategy: wanted.strategy, seen, dismissed, behind, scores, chosen }
}

/// The first reason why it is not considered.
fn dismissal(wanted: &Wanted<'_>, candidate: &Candidate<'_>) -> Option<Dismissal> {
    let Registration { id, region, capabilities, token_limit, .. } = candidate.registration;
    let can = |needed: &Capability| capabilities.iter().any(|capability| capability.meets(needed));
    let has_tokens = token_limit.is_none_or(|limit| limit.saturating_sub(candidate.tokens_used) >= wanted.tokens);
    let reasons = [
        (Dismissal::NotNamed, wanted.to.is_some_and(|to| to != id)),
        (Dismissal::Incapable, !wanted.capabilities.iter().all(can)),
        (Dismissal::Excluded, wanted.excluded.contains(id)),
        (Dismissal::HandedOn, wanted.hops.contains(id)),
        (Dismissal::Refused, wanted.refused.contains(id)),
        (Dismissal::OtherRegion, !wanted.region.is_empty() && wanted.region != region),
        (Dismissal::Offline, candidate.standing == Standing::Offline),
        (Dismissal::Draining, candidate.standing == Standing::Draining),
        (Dismissal::TooFewTokens, !has_tokens),
        (Dismissal::Full, candidate.free() == 0),
    ];
    reasons.into_iter().find(|(_, holds)| *holds).map(|(why, _)| why)
}

fn note(dismissed: &mut Vec<Dismissed>, why: Dismissal, id: &OrchestratorId) {
    let place = dismissed.iter().position(|known| known.why == why).unwrap_or_else(|| {
        dismissed.push(Dismissed { why, count: 0, some: Vec::new() });
        dismissed.len() - 1
    });
    let known = &mut dismissed[place];
    known.count += 1;
    if known.some.len() < NAMED {
        known.some.push(id.clone());
    }
}

/// Leaves those for whom it holds, if there are any.
fn narrow(able: &mut Vec<Candidate<'_>>, holds: impl Fn(&Candidate<'_>) -> bool) {
    if able.iter().any(&holds) {
        able.retain(holds);
    }
}

/// The best first.
fn compare(wanted: &Wanted<'_>, mut able: Vec<Candidate<'_>>, random: u64, turn: u64) -> Vec<Score> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(name: &str) -> Capability {
        Capability { name: name.parse().unwrap(), version: None, level: None }
    }

    fn registration(name: &str, capabilities: &[&str]) -> Registration {
        Registration {
            id: name.parse().unwrap(),
            name: String::new(),
            region: "eu".into(),
            tier: String::new(),
            capabilities: capabilities.iter().map(|name| capability(name)).collect(),
            max_concurrent: 4,
            weight: 100,
            token_limit: Some(1_000),
        }
    }

    fn candidate(registration: &Registration) -> Candidate<'_> {
        Candidate { registration, reserved: 0, standing: Standing::Online, tokens_used: 0, errors: 0 }
    }

    const ANYBODY: Wanted<'static> = Wanted {
        to: None,
        capabilities: &[],
        region: "",
        tokens: 0,
        preferred: &[],
        excluded: &[],
        refused: &[],
        hops: &[],
        tried: &[],
        strategy: Strategy::LeastLoaded,
        affinity: "",
    };

    fn chosen(wanted: &Wanted<'_>, candidates: &[Candidate<'_>], turn: u64) -> String {
        let decision =
            choose(wanted, candidates.iter().copied(), (turn.wrapping_mul(7_919), turn), Timestamp::default());
        decision.chosen.map_or(String::new(), |chosen| chosen.to_string())
    }

    #[test]
    fn each_reason_is_counted_and_told() {
        let registrations: Vec<_> = (0..9).map(|n| registration(&format!("o-{n}"), &["research"])).collect();
        let incapable = registration("o-x", &["testing"]);
        let mut all: Vec<_> = registrations.iter().map(candidate).collect();
        all[0].standing = Standing::Offline;
        all[1].standing = Standing::Draining;
        all[2].reserved = 4;
        all[3].tokens_used = 950;
        all.push(candidate(&incapable));
        let ids: Vec<_> = registrations.iter().map(|registration| registration.id.clone()).collect();
        let research = [capability("research")];
        let wanted = Wanted {
            capabilities: &research,
            tokens: 100,
            excluded: &ids[4..6],
            hops: &ids[6..7],
            refused: &ids[7..9],
            ..ANYBODY
        };
        let decision = choose(&wanted, all.iter().copied(), (0, 0), Timestamp::default());
        assert_eq!((decision.seen, &decision.chosen), (10, &None));
        assert_eq!(
            decision.to_string(),
            "0 free of those who have what it needs; 2 excluded; 1 handed it on already; 2 refused; 1 offline; \
             1 draining; 1 online without enough tokens; 1 online but full"
        );
        assert!(!decision.is_exhausted(), "some may come back");
        let elsewhere = Wanted { region: "us", ..ANYBODY };
        let decision = choose(&elsewhere, all.iter().copied(), (0, 0), Timestamp::default());
        assert_eq!(decision.count(Dismissal::OtherRegion), 10);
        assert_eq!(decision.dismissed[0].some.len(), NAMED);
        let nothing = [capability("ml-training")];
        let decision = choose(&Wanted { capabilities: &nothing, ..ANYBODY }, all, (0, 0), Timestamp::default());
        assert_eq!(decision.to_string(), "nobody of 10 registered has what it needs");
    }

    #[test]
    fn strategies_differ_in_whom_they_take() {
        let specialist = registration("spec", &["research"]);
        let generalist = registration("gene", &["research", "testing", "analysis"]);
        let heavy = Registration { weight: 900, ..registration("heavy", &["research", "testing"]) };
        let mut all = [candidate(&specialist), candidate(&generalist), candidate(&heavy)];
        (all[0].reserved, all[1].reserved, all[2].reserved) = (2, 1, 3);
        let by = |strategy| Wanted { strategy, affinity: "customer-7", ..ANYBODY };
        assert_eq!(chosen(&by(Strategy::LeastLoaded), &all, 1), "gene");
        assert_eq!(chosen(&by(Strategy::CapabilityAware), &all, 1), "spec");
        assert_eq!(chosen(&by(Strategy::Weighted), &all, 1), "heavy");
        let turns: Vec<_> = (0..4).map(|turn| chosen(&by(Strategy::RoundRobin), &all, turn)).collect();
        assert_eq!(turns, ["gene", "heavy", "spec", "gene"]);
        let sticky = chosen(&by(Strategy::Sticky), &all, 1);
        assert!((0..50).all(|turn| chosen(&by(Strategy::Sticky), &all, turn) == sticky));
        let drawn: std::collections::BTreeSet<_> =
            (0..50).map(|turn| chosen(&by(Strategy::PowerOfTwo), &all, turn)).collect();
        assert!(!drawn.contains("heavy"), "the fullest of three never wins against another: {drawn:?}");
        assert_eq!(drawn.len(), 2, "{drawn:?}");
    }

    #[test]
    fn an_unreliable_one_loses_by_weight() {
        let (good, bad) = (registration("good", &[]), registration("bad", &[]));
        let failing = Candidate { errors: 200, ..candidate(&bad) };
        let wanted = Wanted { strategy: Strategy::Weighted, ..ANYBODY };
        assert!((0..20).all(|turn| chosen(&wanted, &[candidate(&good), failing], turn) == "good"));
    }

    #[test]
    fn the_preferred_the_untried_and_the_healthy_come_first_and_the_others_if_need_be() {
        let (anna, bert) = (registration("anna", &[]), registration("bert", &[]));
        let all = [candidate(&anna), Candidate { standing: Standing::Degraded, ..candidate(&bert) }];
        assert_eq!(chosen(&ANYBODY, &all, 3), "anna");
        let tried = [anna.id.clone()];
        assert_eq!(chosen(&Wanted { tried: &tried, ..ANYBODY }, &all, 3), "bert");
        assert_eq!(chosen(&Wanted { tried: &tried, ..ANYBODY }, &all[..1], 3), "anna", "there is nobody else");
        let preferred = [bert.id.clone()];
        assert_eq!(chosen(&Wanted { preferred: &preferred, ..ANYBODY }, &all, 3), "bert");
        let decision = choose(&ANYBODY, all, (0, 0), Timestamp::default());
        assert_eq!(decision.behind, 1, "who waits behind others is told too");
    }

    #[test]
    fn ten_thousand_keep_ten_scores_and_equal_ones_share_the_work() {
        let registrations: Vec<_> = (0..10_000).map(|n| registration(&format!("o-{n}"), &["research"])).collect();
        for strategy in [Strategy::LeastLoaded, Strategy::PowerOfTwo, Strategy::Weighted, Strategy::RoundRobin] {
            let wanted = Wanted { strategy, ..ANYBODY };
            let drawn: std::collections::BTreeSet<_> = (0..20)
                .map(|turn| {
                    let all = registrations.iter().map(candidate);
                    let decision = choose(&wanted, all, (turn * 1_000_003, turn), Timestamp::default());
                    assert!(decision.scores.len() <= SCORED);
                    decision.chosen.unwrap()
                })
                .collect();
            assert!(drawn.len() > 15, "{strategy:?}: {drawn:?}");
        }
    }
}
