//! Who gets a task, and why the others do not: hard conditions first, then a score by strategy. All of it is kept, so that
//! anybody may ask.

mod scoring;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Capability, Registration, Standing, cell_of};
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
    /// Who could do it but waits behind others: somebody preferred, not tried yet, of this cell, or healthier.
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
    // Other cells have what nobody here has.
    narrow(&mut able, |candidate| cell_of(&candidate.registration.id).is_none());
    if wanted.strategy != Strategy::Weighted
        && let Some(best) = able.iter().map(|candidate| candidate.standing).min()
    {
        narrow(&mut able, |candidate| candidate.standing == best);
    }
    let behind = u32::try_from(all - able.len()).unwrap_or(u32::MAX);
    let scores = scoring::compare(wanted, able, random, turn);
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

#[cfg(test)]
mod tests;
