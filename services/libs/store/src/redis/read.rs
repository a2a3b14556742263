//! Reading the log.

use std::str::FromStr;

use bytes::Bytes;
use redis::{FromRedisValue as _, Value};
use waystation_domain::{
    ChannelId, Entry, EventType, Gap, GapRange, MessageId, OrchestratorId, Position, Timestamp, TraceParent,
};

use super::append::{NONE, place};
use super::reply::{self, Epochs, odd};
use super::scripts::Script;
use super::{Args, Redis};
use crate::Unavailable;
use crate::mailbox::{Now, ReadAnswer, ReadMailbox, Refused};

impl Redis {
    pub(super) async fn read_log(
        &self,
        read: ReadMailbox,
        now: Now,
    ) -> Result<Result<ReadAnswer, Refused>, Unavailable> {
        let mut args = Args::default();
        args.text(read.session.as_str()).number(read.fence).number(read.read_id);
        for (_, position) in read.positions.iter() {
            args.number(position);
        }
        args.number(read.exits_position).number(read.max_entries).number(read.max_critical).number(read.max_bytes);
        args.number(u8::from(read.window_empty));
        let answer = self.run_on(&read.mailbox, Script::Read, args, now).await?;
        if let Value::Array(answer) = answer {
            return answer_of(answer).map(Ok);
        }
        match reply::text(answer)?.as_str() {
            "u" => Ok(Err(Refused::SessionUnknown)),
            "n" => Ok(Err(Refused::NotHolder)),
            other => Err(odd(other)),
        }
    }
}

fn answer_of(answer: Vec<Value>) -> Result<ReadAnswer, Unavailable> {
    let mut parts = answer.into_iter();
    let heads = reply::heads(&Vec::<i64>::from_redis_value(reply::next(&mut parts)?).map_err(odd)?)?;
    let positions = reply::lanes(&Vec::<u64>::from_redis_value(reply::next(&mut parts)?).map_err(odd)?)?;
    let epochs = Epochs::read(&reply::text(reply::next(&mut parts)?)?)?;
    let (after, trimmed) = (reply::number(reply::next(&mut parts)?)?, reply::number(reply::next(&mut parts)?)?);
    let exits = Vec::<String>::from_redis_value(reply::next(&mut parts)?).map_err(odd)?;
    let entries = reply::list(reply::next(&mut parts)?)?.map(|entry| entry_of(entry, &epochs));
    Ok(ReadAnswer {
        gaps: gaps(after, trimmed, &exits, &epochs)?,
        exits_position: heads.exits,
        entries: entries.collect::<Result<_, _>>()?,
        heads,
        positions,
        epoch: epochs.current()?,
    })
}

/// Lane, sequence, meta, data, attempt, and the caller's id if it gave one.
fn entry_of(entry: Value, epochs: &Epochs) -> Result<Entry, Unavailable> {
    let mut parts = reply::list(entry)?;
    let (lane, sequence) = (reply::text(reply::next(&mut parts)?)?, reply::text(reply::next(&mut parts)?)?);
    let (lane, sequence) = place(&(lane + &sequence))?;
    let meta = reply::text(reply::next(&mut parts)?)?;
    let data = Bytes::from(reply::bytes(reply::next(&mut parts)?)?);
    let attempt = reply::number(reply::next(&mut parts)?)?;
    let position = Position { epoch: epochs.owner(lane, sequence)?, lane, sequence };
    let id = reply::id_at(position, parts.next())?;
    Ok(Meta::read(&meta)?.entry(position, id, data, u32::try_from(attempt).map_err(odd)?))
}

/// What the log keeps of an entry beside its data.
pub(super) struct Meta {
    pub(super) accepted: Timestamp,
    pub(super) expires: Timestamp,
    event_type: EventType,
    channel: Option<ChannelId>,
    trace: Option<TraceParent>,
    sender: Option<OrchestratorId>,
}

impl Meta {
    /// See `log.lua` for the form.
    pub(super) fn read(text: &str) -> Result<Meta, Unavailable> {
        let fields: Vec<&str> = text.split(' ').collect();
        let [accepted, expires, _, event_type, channel, trace, sender] = fields[..] else { return Err(odd(text)) };
        Ok(Meta {
            accepted: Timestamp::from_millis(reply::parse(accepted)?),
            expires: Timestamp::from_millis(reply::parse(expires)?),
            event_type: reply::parse(event_type)?,
            channel: optional(channel)?,
            trace: optional(trace)?,
            sender: optional(sender)?,
        })
    }

    pub(super) fn entry(self, position: Position, id: MessageId, data: Bytes, attempt: u32) -> Entry {
        let Meta { event_type, channel, trace, sender, accepted, .. } = self;
        Entry { position, id, event_type, channel, data, attempt, trace, sender, accepted }
    }
}

pub(super) fn optional<T: FromStr>(text: &str) -> Result<Option<T>, Unavailable> {
    (text != NONE).then(|| reply::parse(text)).transpose()
}

/// Exits after a position, consecutive ones of a lane and reason as one gap.
fn gaps(after: u64, trimmed: u64, exits: &[String], epochs: &Epochs) -> Result<Vec<Gap>, Unavailable> {
    let mut gaps: Vec<Gap> = Vec::new();
    if trimmed > 0 {
        gaps.push(Gap { position: after + trimmed, left: None, count: trimmed });
    }
    for (position, exit) in (after + trimmed + 1..).zip(exits) {
        let fields: Vec<&str> = exit.split(' ').collect();
        let [lane, sequence, reason, _] = fields[..] else { return Err(odd(exit)) };
        let (lane, sequence) = place(&format!("{lane}{sequence}"))?;
        let (reason, epoch) = (reply::exit_reason(reason)?, epochs.owner(lane, sequence)?);
        let range = GapRange { reason, lane, from: sequence, to: sequence, epoch };
        if let Some(last) = gaps.last_mut()
            && let Some(known) = &mut last.left
            && range == (GapRange { from: known.to + 1, to: known.to + 1, ..*known })
        {
            known.to = sequence;
            last.count += 1;
            last.position = position;
        } else {
            gaps.push(Gap { position, left: Some(range), count: 1 });
        }
    }
    Ok(gaps)
}
