//! Acks, nacks, rejects and charges.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{FromRedisValue as _, Value};
use waystation_domain::{MessageId, Position};

use super::reply::{self, odd};
use super::scripts::Script;
use super::{Args, Redis, keys};
use crate::Unavailable;
use crate::mailbox::*;

impl Redis {
    pub(super) async fn settle_all(&self, settle: Settle, now: Now) -> Result<Vec<Settled>, Unavailable> {
        let mut partitions: BTreeMap<usize, (Vec<usize>, Args)> = BTreeMap::new();
        for (place, settlement) in settle.settlements.iter().enumerate() {
            let partition = self.places.partition_of(&settlement.mailbox);
            let (places, args) = partitions.entry(partition).or_default();
            places.push(place);
            push_settlement(args, settlement);
        }
        let each = partitions.into_iter().map(|(partition, (places, args))| async move {
            let answers = reply::list(self.run_in(partition, Script::Settle, args, now).await?)?;
            let each = places.into_iter().zip(answers).map(|(place, answer)| Ok((place, settled(answer)?)));
            each.collect::<Result<Vec<(usize, Settled)>, Unavailable>>()
        });
        let each = try_join_all(each).await?;
        let mut all: Vec<(usize, Settled)> = each.into_iter().flatten().collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        Ok(all.into_iter().map(|(_, settled)| settled).collect())
    }
}

/// See `settle.lua` for the form.
fn push_settlement(args: &mut Args, settlement: &Settlement) {
    let Settlement { mailbox, session, fence, acks, ack_ids, nacks, rejects, charges, gap_mark, confirm } = settlement;
    args.push(keys::name_of(mailbox)).text(session.as_str()).number(fence).number(gap_mark);
    args.number(acks.len() + ack_ids.len() + nacks.len() + charges.len() + rejects.len() + confirm.len());
    for AckRange { epoch, lane, from, to } in acks {
        args.push(format!("a{epoch} {} {from} {to}", lane.letter()));
    }
    for id in ack_ids {
        args.push(named('i', id));
    }
    for Nack { position, attempt, delay } in nacks {
        args.push(format!("n{} {attempt} {}", at(position), delay.as_millis()));
    }
    for Charge { position, attempt } in charges {
        args.push(format!("n{} {attempt} 0", at(position)));
    }
    for Reject { position, reason } in rejects {
        args.push(format!("r{} {reason}", at(position)));
    }
    for which in confirm {
        args.push(match which {
            MessageRef::Position(position) => format!("p{}", at(position)),
            MessageRef::Id(id) => named('c', id),
        });
    }
}

fn at(Position { epoch, lane, sequence }: &Position) -> String {
    format!("{epoch} {} {sequence}", lane.letter())
}

fn named(kind: char, id: &MessageId) -> String {
    match id.position() {
        Some(position) => format!("{kind}{id} {}", at(&position)),
        None => format!("{kind}{id}"),
    }
}

fn settled(answer: Value) -> Result<Settled, Unavailable> {
    let Value::Array(parts) = answer else { return Err(odd(reply::text(answer)?)) };
    let mut parts = parts.into_iter();
    let acknowledged = reply::number(reply::next(&mut parts)?)?;
    let fenced = reply::number(reply::next(&mut parts)?)? == 1;
    let heads = Vec::<i64>::from_redis_value(reply::next(&mut parts)?).map_err(odd)?;
    let dead = reply::number(reply::next(&mut parts)?)?;
    // The clock of another node may have been ahead when the entry was accepted.
    let took = Vec::<i64>::from_redis_value(reply::next(&mut parts)?).map_err(odd)?;
    let took = took.into_iter().map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0))).collect();
    let confirmed = Vec::<bool>::from_redis_value(reply::next(&mut parts)?).map_err(odd)?;
    Ok(Settled { acknowledged, took, dead, fenced, heads: reply::heads(&heads)?, confirmed })
}
