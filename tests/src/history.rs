//! What was accepted, delivered and acknowledged, and the judge of it.
//!
//! Every check is linear: ids are unique, and sequences give the order. The checker knows nothing of Waystation but the
//! promises: R1 (nothing lost), R2 (order, repeats flagged), R3 and R11 (a position is one message).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where a message stands, as the answers and events say it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub epoch: String,
    pub lane: String,
    pub sequence: u64,
}

/// One thing that was seen, in the order of seeing.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A caller was answered OK.
    Accepted { mailbox: String, id: String, at: At },
    /// A daemon got an event on a connection.
    Delivered { mailbox: String, connection: u64, id: String, at: At, redelivered: bool },
    /// A daemon sent an ack.
    Acknowledged { mailbox: String, id: String },
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Seen>);

/// What the judge found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub accepted: usize,
    pub delivered: usize,
    pub acknowledged: usize,
    /// Repeats that said so.
    pub repeats: usize,
    pub epochs: usize,
    /// Accepted and never delivered.
    pub lost: Vec<String>,
    /// First deliveries of a lane that did not come in order on their connection.
    pub reordered: Vec<String>,
    /// Repeats that did not say so.
    pub unflagged: Vec<String>,
    /// Positions that stood for two messages, or messages with two positions in one epoch.
    pub ambiguous: Vec<String>,
}

impl History {
    pub fn note(&mut self, seen: Seen) {
        self.0.push(seen);
    }

    /// Judges everything that was seen.
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let mut positions: BTreeMap<(&str, &At), &str> = BTreeMap::new();
        let mut of_ids: BTreeMap<(&str, &str, &str), &At> = BTreeMap::new();
        let mut accepted: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut delivered: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut acknowledged: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut on_connection: BTreeSet<(u64, &str)> = BTreeSet::new();
        let mut last: BTreeMap<(u64, &str), u64> = BTreeMap::new();
        let mut epochs: BTreeSet<(&str, &str)> = BTreeSet::new();
        for seen in &self.0 {
            let (mailbox, id) = match seen {
                Seen::Accepted { mailbox, id, .. }
                | Seen::Delivered { mailbox, id, .. }
                | Seen::Acknowledged { mailbox, id } => (mailbox.as_str(), id.as_str()),
            };
            if let Seen::Accepted { at, .. } | Seen::Delivered { at, .. } = seen {
                epochs.insert((mailbox, &at.epoch));
                let other = positions.insert((mailbox, at), id).filter(|other| *other != id);
                let elsewhere = of_ids.insert((mailbox, id, &at.epoch), at).filter(|other| *other != at);
                if other.is_some() || elsewhere.is_some() {
                    verdict.ambiguous.push(format!("{mailbox} {id} {at:?} {other:?} {elsewhere:?}"));
                }
            }
            match seen {
                Seen::Accepted { .. } => drop(accepted.insert((mailbox, id))),
                Seen::Acknowledged { .. } => drop(acknowledged.insert((mailbox, id))),
                Seen::Delivered { connection, at, redelivered, .. } => {
                    if !delivered.insert((mailbox, id)) {
                        verdict.repeats += usize::from(*redelivered);
                        if !redelivered {
                            verdict.unflagged.push(format!("{mailbox} {id} on connection {connection}"));
                        }
                    }
                    if on_connection.insert((*connection, id)) {
                        let before = last.insert((*connection, at.lane.as_str()), at.sequence);
                        if before.is_some_and(|before| before >= at.sequence) {
                            verdict.reordered.push(format!("{mailbox} {at:?} after {before:?} on {connection}"));
                        }
                    }
                }
            }
        }
        verdict.lost = accepted.difference(&delivered).map(|(mailbox, id)| format!("{mailbox} {id}")).collect();
        verdict.accepted = accepted.len();
        verdict.delivered = delivered.len();
        verdict.acknowledged = acknowledged.len();
        verdict.epochs = epochs.iter().map(|(_, epoch)| epoch).collect::<BTreeSet<_>>().len();
        verdict
    }

    /// Accepted messages that no daemon has got yet.
    pub fn outstanding(&self) -> usize {
        self.judge().lost.len()
    }
}

impl Verdict {
    /// Fails unless every promise was kept.
    pub fn assert_kept(&self) {
        assert!(self.lost.is_empty(), "lost: {:?}", self.lost);
        self.assert_consistent();
        assert!(self.unflagged.is_empty(), "repeats without a flag: {:?}", self.unflagged);
    }

    /// Fails unless order and positions were kept, whatever was lost.
    pub fn assert_consistent(&self) {
        assert!(self.reordered.is_empty(), "out of order: {:?}", self.reordered);
        assert!(self.ambiguous.is_empty(), "positions that were given twice: {:?}", self.ambiguous);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "accepted {} · delivered {} · acknowledged {} · repeated with flag {} · epochs {} · lost {} · reordered {} \
             · repeated without flag {} · positions given twice {}",
            self.accepted,
            self.delivered,
            self.acknowledged,
            self.repeats,
            self.epochs,
            self.lost.len(),
            self.reordered.len(),
            self.unflagged.len(),
            self.ambiguous.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: &str, sequence: u64) -> At {
        At { epoch: epoch.into(), lane: "normal".into(), sequence }
    }

    fn accepted(id: &str, at: At) -> Seen {
        Seen::Accepted { mailbox: "orla".into(), id: id.into(), at }
    }

    fn delivered(connection: u64, id: &str, at: At, redelivered: bool) -> Seen {
        Seen::Delivered { mailbox: "orla".into(), connection, id: id.into(), at, redelivered }
    }

    fn judge(seen: &[Seen]) -> Verdict {
        History(seen.to_vec()).judge()
    }

    #[test]
    fn a_good_history_is_acquitted() {
        let verdict = judge(&[
            accepted("a", at("e", 1)),
            delivered(1, "a", at("e", 1), false),
            accepted("b", at("e", 2)),
            delivered(2, "a", at("e", 1), true),
            delivered(2, "b", at("e", 2), false),
            delivered(2, "a", at("e", 1), true),
        ]);
        verdict.assert_kept();
        assert_eq!((verdict.accepted, verdict.delivered, verdict.repeats), (2, 2, 2));
    }

    #[test]
    fn each_broken_promise_is_found() {
        let lost = judge(&[accepted("a", at("e", 1))]);
        assert_eq!(lost.lost.len(), 1);
        let reordered = judge(&[delivered(1, "b", at("e", 2), false), delivered(1, "a", at("e", 1), false)]);
        assert_eq!(reordered.reordered.len(), 1);
        let unflagged = judge(&[delivered(1, "a", at("e", 1), false), delivered(2, "a", at("e", 1), false)]);
        assert_eq!(unflagged.unflagged.len(), 1);
        let reused = judge(&[accepted("a", at("e", 1)), accepted("b", at("e", 1))]);
        assert_eq!(reused.ambiguous.len(), 1);
        let twice = judge(&[accepted("a", at("e", 1)), accepted("a", at("e", 2))]);
        assert_eq!(twice.ambiguous.len(), 1, "one id became two entries");
        let other_epoch = judge(&[accepted("a", at("e", 1)), accepted("b", at("f", 1))]);
        other_epoch.assert_consistent();
    }
}
