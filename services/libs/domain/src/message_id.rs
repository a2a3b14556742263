//! Message ids: given by callers, or composed from the position.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{self, IdError};
use crate::{FeedPosition, Lane, Position};

/// Longest id that a caller may give; leaves room for the suffix of a redrive.
const MAX_CALLERS: usize = 58;
/// How the id of an event of Waystation's own begins.
const OWN: &str = "own.";

/// Identifies a message within its mailbox.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(Arc<str>);

/// Why a caller's message id is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageIdError {
    /// Not an id at all.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Longer than 58 characters.
    #[error("must have at most {MAX_CALLERS} characters")]
    TooLong,
    /// Looks like one that Waystation makes: `<epoch>.<lane>.<sequence>`, `<epoch>.f.<sequence>`, `gap.<n>`, `own.<digest>`, or
    /// ends in `.r<n>`.
    #[error("has a form that is reserved for ids made by Waystation")]
    Reserved,
}

impl MessageId {
    /// Takes an id from a caller.
    ///
    /// # Errors
    /// If it is malformed, too long or of a reserved form.
    pub fn from_caller(text: &str) -> Result<MessageId, MessageIdError> {
        id::check(text, usize::MAX)?;
        if text.len() > MAX_CALLERS {
            return Err(MessageIdError::TooLong);
        }
        let id = MessageId(text.into());
        let suffix = text.rsplit_once('.').map(|(_, suffix)| suffix);
        let redriven = suffix.and_then(|s| s.strip_prefix('r')).is_some_and(is_number);
        if redriven || id.is_own() || id.position().is_some() || id.feed_position().is_some() || id.gap().is_some() {
            return Err(MessageIdError::Reserved);
        }
        Ok(id)
    }

    /// Takes an id in any form, as clients and callers name existing messages.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn naming(text: &str) -> Result<MessageId, IdError> {
        id::check(text, 64)?;
        Ok(MessageId(text.into()))
    }

    /// The id of a message whose caller gave none.
    pub fn composed(position: Position) -> MessageId {
        let Position { epoch, lane, sequence } = position;
        MessageId(format!("{epoch}.{}.{sequence}", lane.letter()).into())
    }

    /// The id of an event whose publisher gave none.
    pub fn of_feed(position: FeedPosition) -> MessageId {
        MessageId(format!("{}.f.{}", position.epoch, position.sequence).into())
    }

    /// The position in a feed that a composed id names.
    pub fn feed_position(&self) -> Option<FeedPosition> {
        let (epoch, sequence) = self.0.split_once(".f.").filter(|(_, sequence)| is_number(sequence))?;
        Some(FeedPosition { epoch: epoch.parse().ok()?, sequence: sequence.parse().ok()? })
    }

    /// An id for a message whose sender gave none, from random bits.
    pub fn minted(random: u128) -> MessageId {
        MessageId(format!("{random:032x}").into())
    }

    /// The id of an event that Waystation itself publishes; `digest` is of what it tells, so that whoever tells the same
    /// uses the same id.
    pub fn own(digest: u128) -> MessageId {
        MessageId(format!("{OWN}{digest:032x}").into())
    }

    fn is_own(&self) -> bool {
        let is_digest = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        self.0.strip_prefix(OWN).is_some_and(is_digest)
    }

    /// The id of a gap, from the position of its last exit.
    pub fn of_gap(position: u64) -> MessageId {
        MessageId(format!("gap.{position}").into())
    }

    /// The id under which a dead letter is routed once more: `x`, `x.r1`, `x.r2` and so on. `None` after the last of them.
    pub fn redriven(&self) -> Option<MessageId> {
        let again = self.0.rsplit_once(".r").filter(|(_, count)| is_number(count));
        let (first, count) = again.map_or((&*self.0, "0"), |(first, count)| (first, count));
        let next: u64 = count.parse::<u64>().ok()? + 1;
        MessageId::naming(&format!("{first}.r{next}")).ok()
    }

    /// The position that a composed id names.
    pub fn position(&self) -> Option<Position> {
        let mut parts = self.0.split('.');
        let (epoch, lane, sequence) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !is_number(sequence) {
            return None;
        }
        Some(Position { epoch: epoch.parse().ok()?, lane: Lane::from_letter(lane)?, sequence: sequence.parse().ok()? })
    }

    /// The exits position that the id of a gap names.
    pub fn gap(&self) -> Option<u64> {
        self.0.strip_prefix("gap.").filter(|n| is_number(n)).and_then(|n| n.parse().ok())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;

    #[test]
    fn a_composed_id_leads_back_to_its_position() {
        let position = Position { epoch: Epoch::from_raw(0xab), lane: Lane::High, sequence: 42 };
        let id = MessageId::composed(position);
        assert_eq!(id.as_str(), "00000000000000ab.h.42");
        assert_eq!(id.position(), Some(position));
        assert_eq!(MessageId::of_gap(7).gap(), Some(7));
        let position = FeedPosition { epoch: Epoch::from_raw(0xab), sequence: 42 };
        assert_eq!(MessageId::of_feed(position).as_str(), "00000000000000ab.f.42");
        assert_eq!(MessageId::of_feed(position).feed_position(), Some(position));
    }

    #[test]
    fn a_redriven_id_keeps_its_lineage() {
        let next = |id: &str| MessageId::naming(id).unwrap().redriven().map(|id| id.as_str().to_owned());
        assert_eq!(next("order-1").as_deref(), Some("order-1.r1"));
        assert_eq!(next("order-1.r1").as_deref(), Some("order-1.r2"));
        assert_eq!(next("00000000000000ab.n.1.r9").as_deref(), Some("00000000000000ab.n.1.r10"));
        assert_eq!(next("a.rx").as_deref(), Some("a.rx.r1"));
        assert_eq!(next(&format!("{}.r99999", "a".repeat(57))), None, "no room is left");
        assert_eq!(next("a.r18446744073709551616"), None);
    }

    #[test]
    fn callers_cannot_take_reserved_ids() {
        let own = MessageId::own(7);
        for id in ["00000000000000ab.n.1", "00000000000000ab.f.1", "gap.5", "order.r1", own.as_str()] {
            assert_eq!(MessageId::from_caller(id), Err(MessageIdError::Reserved), "{id}");
        }
        assert_eq!(MessageId::from_caller(&"a".repeat(59)), Err(MessageIdError::TooLong));
        for id in ["order-1", "a.n.1", "a.f.1", "gap.x", "gap", "own.x", "x.r", "x.rr1", "r1"] {
            assert!(MessageId::from_caller(id).is_ok(), "{id}");
        }
    }
}
