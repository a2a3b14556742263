//! The feed of an organization: what its log is made of, and what a position in it is worth.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    ChannelId, DaemonId, Epoch, EventType, MessageId, OrchestratorId, ParseEpochError, Scope, ScopeSet, Timestamp,
    TraceParent,
};

/// Where an event stands in the feed of its organization. (epoch, sequence) is never given to another event.
///
/// Written as `<epoch>.<sequence>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FeedPosition {
    /// The epoch that owns the sequence.
    pub epoch: Epoch,
    /// From 1, without holes.
    pub sequence: u64,
}

impl fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

impl FromStr for FeedPosition {
    type Err = ParseEpochError;
    fn from_str(text: &str) -> Result<FeedPosition, ParseEpochError> {
        let (epoch, sequence) = text.split_once('.').ok_or(ParseEpochError)?;
        let digits = !sequence.is_empty() && sequence.bytes().all(|b| b.is_ascii_digit());
        let sequence = sequence.parse().ok().filter(|_| digits).ok_or(ParseEpochError)?;
        Ok(FeedPosition { epoch: epoch.parse()?, sequence })
    }
}

/// Whom an event is for, if not for every subscriber.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Audience {
    /// Sessions of these orchestrators; empty: of all.
    pub orchestrators: Vec<OrchestratorId>,
    /// Sessions of these daemons; empty: of all.
    pub daemons: Vec<DaemonId>,
}

impl Audience {
    /// Whether that is everybody.
    pub fn is_everybody(&self) -> bool {
        self.orchestrators.is_empty() && self.daemons.is_empty()
    }

    /// Whether a session belongs to it.
    pub fn includes(&self, orchestrator: Option<&OrchestratorId>, daemon: Option<&DaemonId>) -> bool {
        (self.orchestrators.is_empty() || orchestrator.is_some_and(|id| self.orchestrators.contains(id)))
            && (self.daemons.is_empty() || daemon.is_some_and(|id| self.daemons.contains(id)))
    }
}

/// An event of a feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedEvent {
    /// Where it stands.
    pub position: FeedPosition,
    /// The publisher's or the composed one.
    pub id: MessageId,
    /// What it is.
    pub event_type: EventType,
    /// Filters subscriptions that name channels.
    pub channel: Option<ChannelId>,
    /// The trace that the publisher named.
    pub trace: Option<TraceParent>,
    /// The orchestrator that sent it, as its token said; `None`: a backend, or Waystation itself.
    pub sender: Option<OrchestratorId>,
    /// Whom it is for.
    pub audience: Audience,
    /// When it was published.
    pub time: Timestamp,
    /// A JSON object as the publisher sent it.
    pub data: Bytes,
}

/// How far a feed reaches, both ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedExtent {
    /// Oldest first, each with the first sequence that it owns; empty if nothing was ever published.
    pub epochs: Vec<(Epoch, u64)>,
    /// Last sequence given.
    pub head: u64,
    /// Last sequence that is not kept any more.
    pub floor: u64,
}

/// What somebody remembers of a feed. `None`: an epoch that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedPoint {
    /// Of the sequence.
    pub epoch: Option<Epoch>,
    /// Last one seen; 0: the beginning.
    pub sequence: u64,
}

impl From<FeedPosition> for FeedPoint {
    fn from(position: FeedPosition) -> FeedPoint {
        FeedPoint { epoch: Some(position.epoch), sequence: position.sequence }
    }
}

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedStart {
    /// After this sequence: all that are kept follow.
    pub after: u64,
    /// What is not told before them, at most one of each kind.
    pub gaps: Vec<FeedGap>,
}

impl FeedExtent {
    /// The current epoch; `None` if nothing was ever published.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epochs.last().map(|(epoch, _)| *epoch)
    }

    /// The position of the head.
    pub fn head_position(&self) -> Option<FeedPosition> {
        self.epoch().map(|epoch| FeedPosition { epoch, sequence: self.head })
    }

    /// The epoch that owns a sequence. What is older than all that are remembered belongs to the oldest.
    pub fn owner(&self, sequence: u64) -> Option<Epoch> {
        let owner = self.epochs.iter().rev().find(|(_, first)| *first <= sequence);
        owner.or(self.epochs.first()).map(|(epoch, _)| *epoch)
    }

    /// Where somebody goes on who remembers a point. Never later than what it has seen, so nothing is skipped in silence.
    pub fn start(&self, point: FeedPoint) -> FeedStart {
        let known = self.epochs.iter().position(|(epoch, _)| Some(*epoch) == point.epoch);
        let (after, lost) = match known {
            _ if point.sequence == 0 => (0, None),
            // Nothing is known of that epoch: everything there is may be new.
            None => (self.floor, Some(0)),
            Some(index) => {
                let last = self.epochs.get(index + 1).map_or(self.head, |(_, first)| first - 1);
                (point.sequence.min(last), (point.sequence > last).then_some(last + 1))
            }
        };
        let (epoch, to) = (point.epoch, point.sequence);
        let lost = lost.map(|from| FeedGap { loss: FeedLoss::PossiblyLost, epoch, from, to });
        let trimmed = (after < self.floor).then(|| FeedGap {
            loss: FeedLoss::Trimmed,
            epoch: self.owner(self.floor),
            from: after + 1,
            to: self.floor,
        });
        FeedStart { after: after.max(self.floor), gaps: lost.into_iter().chain(trimmed).collect() }
    }
}

/// Why sequences of a feed are not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeedLoss {
    /// They are older or more than what is kept.
    Trimmed,
    /// The store may have lost what was seen before.
    PossiblyLost,
}

/// Consecutive sequences of a feed that are not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedGap {
    /// Why.
    pub loss: FeedLoss,
    /// Of the sequences; `None` if what was remembered names none.
    pub epoch: Option<Epoch>,
    /// First; 0 if not known.
    pub from: u64,
    /// Last.
    pub to: u64,
}

impl FeedGap {
    /// How many; 0 if not known.
    pub fn count(&self) -> u64 {
        if self.from == 0 { 0 } else { self.to - self.from + 1 }
    }
}

/// Families of events that a scope of their own opens, beside `events:read`, which opens all.
const FAMILIES: [(&str, Scope); 5] = [
    ("message.", Scope::MessagesRead),
    ("channel.", Scope::ChannelsRead),
    ("presence.", Scope::PresenceRead),
    ("vp.", Scope::VpStatus),
    ("call.", Scope::CallsJoin),
];

/// Whether a token lets its holder see events of a type. What concerns the connection itself, everybody sees.
pub fn may_see(scopes: ScopeSet, event_type: &EventType) -> bool {
    let name = event_type.as_str();
    let family = FAMILIES.iter().find(|(prefix, _)| name.starts_with(prefix));
    scopes.allows(Scope::EventsRead)
        || name.starts_with("system.")
        || family.is_some_and(|(_, scope)| scopes.allows(*scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(raw: u64) -> Epoch {
        Epoch::from_raw(raw)
    }

    fn extent() -> FeedExtent {
        FeedExtent { epochs: vec![(epoch(1), 1), (epoch(2), 11)], head: 20, floor: 5 }
    }

    /// Where reading begins, and the sequences of the gaps.
    fn start(epoch: u64, sequence: u64) -> (u64, Vec<(FeedLoss, u64, u64)>) {
        let start = extent().start(FeedPoint { epoch: Some(Epoch::from_raw(epoch)), sequence });
        (start.after, start.gaps.iter().map(|gap| (gap.loss, gap.from, gap.to)).collect())
    }

    #[test]
    fn a_position_is_judged_by_what_its_epoch_owns() {
        let lost = |from, to| (FeedLoss::PossiblyLost, from, to);
        assert_eq!(start(2, 20), (20, vec![]));
        assert_eq!(start(2, 21), (20, vec![lost(21, 21)]), "the future");
        assert_eq!(start(1, 10), (10, vec![]), "nothing was lost at the end of the epoch");
        assert_eq!(start(1, 12), (10, vec![lost(11, 12)]), "what came after 10 was lost");
        assert_eq!(start(3, 7), (5, vec![lost(0, 7)]), "an epoch that is not known: everything there is");
        let trimmed = |from| (FeedLoss::Trimmed, from, 5);
        assert_eq!(start(1, 3), (5, vec![trimmed(4)]));
        assert_eq!(start(3, 0), (5, vec![trimmed(1)]), "the beginning");
        let empty = FeedExtent::default().start(FeedPoint { epoch: Some(epoch(9)), sequence: 4 });
        assert_eq!((empty.after, empty.gaps.len()), (0, 1));
        let short = FeedExtent { head: 8, floor: 6, ..FeedExtent { epochs: vec![(epoch(1), 1)], ..extent() } };
        let both = FeedExtent { epochs: vec![(epoch(1), 1), (epoch(2), 4)], ..short };
        let start = both.start(FeedPoint { epoch: Some(epoch(1)), sequence: 9 });
        assert_eq!((start.after, start.gaps[0].from, start.gaps[1].from), (6, 4, 4));
    }

    #[test]
    fn sequences_have_owners() {
        let owners: Vec<_> = [1, 10, 11, 20].map(|sequence| extent().owner(sequence)).into();
        assert_eq!(owners, [Some(epoch(1)), Some(epoch(1)), Some(epoch(2)), Some(epoch(2))]);
        assert_eq!(FeedExtent::default().owner(1), None);
    }

    #[test]
    fn positions_are_written_and_read() {
        let position = FeedPosition { epoch: epoch(0xab), sequence: 42 };
        assert_eq!(position.to_string(), "00000000000000ab.42");
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "00000000000000ab", "00000000000000ab.", "ab.1", "00000000000000ab.+1", "00000000000000ab.1.2"]
        {
            assert_eq!(bad.parse::<FeedPosition>(), Err(ParseEpochError), "{bad}");
        }
    }

    #[test]
    fn an_audience_is_an_intersection() {
        let id = |text: &str| text.parse().unwrap();
        let some = Audience { orchestrators: vec![id("orla")], daemons: vec!["d1".parse().unwrap()] };
        let includes = |o: &str, d: &str| some.includes(Some(&o.parse().unwrap()), Some(&d.parse().unwrap()));
        assert!(includes("orla", "d1"));
        assert!(!includes("orla", "d2") && !includes("otto", "d1"));
        assert!(!some.includes(None, None), "whoever is nobody's daemon");
        assert!(Audience::default().includes(None, None));
    }

    #[test]
    fn scopes_open_families() {
        let scopes: ScopeSet = [Scope::MessagesRead].into_iter().collect();
        let sees = |scopes, name: &str| may_see(scopes, &name.parse().unwrap());
        assert!(sees(scopes, "message.received") && sees(scopes, "system.maintenance"));
        assert!(!sees(scopes, "presence.updated") && !sees(scopes, "invoice.paid"));
        assert!(sees([Scope::EventsRead].into_iter().collect(), "invoice.paid"));
    }
}
