//! What scripts answer, read back. An answer of another form means that something else wrote the keys.

use redis::{FromRedisValue, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use waystation_domain::{Epoch, MessageId, PerLane, Position};

use crate::Unavailable;
use crate::mailbox::{Activation, ActivationNotice, ExitReason, Heads, HolderRef};

pub(super) fn odd(what: impl std::fmt::Display) -> Unavailable {
    Unavailable(format!("Redis holds something else than a script wrote: {what}"))
}

/// The elements of an array.
pub(super) fn list(value: Value) -> Result<std::vec::IntoIter<Value>, Unavailable> {
    Ok(Vec::<Value>::from_redis_value(value).map_err(odd)?.into_iter())
}

pub(super) fn next(values: &mut impl Iterator<Item = Value>) -> Result<Value, Unavailable> {
    values.next().ok_or_else(|| odd("an answer is too short"))
}

pub(super) fn text(value: Value) -> Result<String, Unavailable> {
    String::from_redis_value(value).map_err(odd)
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, Unavailable> {
    let Value::BulkString(bytes) = value else { return Err(odd(format!("{value:?}"))) };
    Ok(bytes)
}

pub(super) fn number(value: Value) -> Result<u64, Unavailable> {
    u64::from_redis_value(value).map_err(odd)
}

pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Unavailable> {
    text.parse().map_err(|_| odd(text))
}

/// An id of a message.
pub(super) fn parse_id(bytes: &[u8]) -> Result<MessageId, Unavailable> {
    let text = std::str::from_utf8(bytes).map_err(odd)?;
    MessageId::naming(text).map_err(odd)
}

/// The id of the message at a position: the caller's, or else composed of the position.
pub(super) fn id_at(position: Position, given: Option<Value>) -> Result<MessageId, Unavailable> {
    match given {
        Some(Value::BulkString(id)) => parse_id(&id),
        _ => Ok(MessageId::composed(position)),
    }
}

/// A JSON answer.
pub(super) fn json<T: DeserializeOwned>(value: Value) -> Result<T, Unavailable> {
    serde_json::from_slice(&bytes(value)?).map_err(odd)
}

/// Four numbers, one for each lane.
pub(super) fn lanes(values: &[u64]) -> Result<PerLane<u64>, Unavailable> {
    let [c, h, n, l] = *values else { return Err(odd("lanes")) };
    let mut each = [c, h, n, l].into_iter();
    Ok(PerLane::from_fn(|_| each.next().unwrap_or(0)))
}

/// Heads as scripts write them: lanes, exits, and milliseconds until a nacked entry is due or -1.
pub(super) fn heads(values: &[i64]) -> Result<Heads, Unavailable> {
    let [c, h, n, l, exits, due] = *values else { return Err(odd("heads")) };
    let positive: Vec<u64> = [c, h, n, l].into_iter().map(i64::cast_unsigned).collect();
    let next_due = u64::try_from(due).ok().map(std::time::Duration::from_millis);
    Ok(Heads { lanes: lanes(&positive)?, exits: exits.cast_unsigned(), next_due })
}

/// A holder as `h` keeps it: session, fence, incarnation, window entries and bytes, address.
pub(super) fn holder(text: &str) -> Result<HolderRef, Unavailable> {
    let mut parts = text.splitn(6, ' ');
    let mut part = || parts.next().ok_or_else(|| odd(text));
    let (session, fence, incarnation) = (part()?, part()?, part()?);
    let (_, _, address) = (part()?, part()?, part()?);
    Ok(HolderRef {
        session: parse(session)?,
        fence: parse(fence)?,
        incarnation: parse(incarnation)?,
        address: address.to_owned(),
    })
}

pub(super) fn exit_reason(name: &str) -> Result<ExitReason, Unavailable> {
    match name {
        "expired" => Ok(ExitReason::Expired),
        "dead" => Ok(ExitReason::Dead),
        "overflowed" => Ok(ExitReason::Overflowed),
        "purged" => Ok(ExitReason::Purged),
        other => Err(odd(other)),
    }
}

/// An activation as scripts write it.
#[derive(Deserialize)]
pub(super) struct ActivationText {
    fence: u64,
    epoch: String,
    marks: Vec<u64>,
    heads: Vec<i64>,
    gap_mark: u64,
}

impl ActivationText {
    pub(super) fn read(self) -> Result<Activation, Unavailable> {
        Ok(Activation {
            fence: self.fence,
            epoch: parse(&self.epoch)?,
            marks: lanes(&self.marks)?,
            heads: heads(&self.heads)?,
            gap_mark: self.gap_mark,
        })
    }
}

/// A notice as scripts write it.
#[derive(Deserialize)]
pub(super) struct NoticeText {
    holder: String,
    activation: ActivationText,
}

impl NoticeText {
    pub(super) fn read(self) -> Result<ActivationNotice, Unavailable> {
        Ok(ActivationNotice { holder: holder(&self.holder)?, activation: self.activation.read()? })
    }
}

/// The epochs of a mailbox with the first sequences that they own.
pub(super) struct Epochs(Vec<(Epoch, PerLane<u64>)>);

impl Epochs {
    pub(super) fn read(text: &str) -> Result<Epochs, Unavailable> {
        let each = text.split(';').filter(|one| !one.is_empty()).map(|one| {
            let mut parts = one.split(' ');
            let epoch = parse(parts.next().unwrap_or_default())?;
            let first = parts.map(parse).collect::<Result<Vec<u64>, _>>()?;
            Ok((epoch, lanes(&first)?))
        });
        Ok(Epochs(each.collect::<Result<_, Unavailable>>()?))
    }

    pub(super) fn current(&self) -> Result<Epoch, Unavailable> {
        self.0.last().map(|(epoch, _)| *epoch).ok_or_else(|| odd("no epoch"))
    }

    /// The epoch that owns a sequence. What is older than all that are remembered belongs to the oldest.
    pub(super) fn owner(&self, lane: waystation_domain::Lane, sequence: u64) -> Result<Epoch, Unavailable> {
        let owner = self.0.iter().rev().find(|(_, first)| first[lane] <= sequence);
        owner.or(self.0.first()).map(|(epoch, _)| *epoch).ok_or_else(|| odd("no epoch"))
    }
}
