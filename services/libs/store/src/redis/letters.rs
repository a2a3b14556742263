//! What operators may look into: resident entries and dead letters.

use bytes::Bytes;
use redis::Value;
use waystation_domain::{Lane, Position, Timestamp};

use super::read::Meta;
use super::reply::{self, Epochs, odd};
use super::scripts::Script;
use super::{Args, Redis};
use crate::Unavailable;
use crate::mailbox::{DeadLetterView, ForgetDeadLetters, MailboxKey, Now, ResidentView};

impl Redis {
    pub(super) async fn resident_views(
        &self,
        key: &MailboxKey,
        (lane, sequence): (Lane, u64),
        most: usize,
        now: Now,
    ) -> Result<Vec<ResidentView>, Unavailable> {
        let mut args = Args::default();
        args.number(lane.letter()).number(sequence).number(most);
        let mut answer = reply::list(self.run_on(key, Script::Residents, args, now).await?)?;
        let epochs = Epochs::read(&reply::text(reply::next(&mut answer)?)?)?;
        let found = reply::list(reply::next(&mut answer)?)?;
        found.map(|entry| resident_of(entry, &epochs)).collect()
    }

    pub(super) async fn dead_letter_views(
        &self,
        key: &MailboxKey,
        after: u64,
        most: usize,
        now: Now,
    ) -> Result<Vec<DeadLetterView>, Unavailable> {
        let mut args = Args::default();
        args.number(after).number(most);
        reply::list(self.run_on(key, Script::DeadLetters, args, now).await?)?.map(letter_of).collect()
    }

    pub(super) async fn forget_letters(&self, forget: ForgetDeadLetters, now: Now) -> Result<u64, Unavailable> {
        let mut args = Args::default();
        for number in &forget.numbers {
            args.number(number);
        }
        reply::number(self.run_on(&forget.mailbox, Script::ForgetDeadLetters, args, now).await?)
    }
}

/// See `residents.lua`.
fn resident_of(entry: Value, epochs: &Epochs) -> Result<ResidentView, Unavailable> {
    let mut parts = reply::list(entry)?;
    let lane = lane_of(&reply::text(reply::next(&mut parts)?)?)?;
    let sequence = reply::number(reply::next(&mut parts)?)?;
    let meta = Meta::read(&reply::text(reply::next(&mut parts)?)?)?;
    let data = Bytes::from(reply::bytes(reply::next(&mut parts)?)?);
    let attempt = u32::try_from(reply::number(reply::next(&mut parts)?)?).map_err(odd)?;
    let in_flight = reply::number(reply::next(&mut parts)?)? == 1;
    let position = Position { epoch: epochs.owner(lane, sequence)?, lane, sequence };
    let id = reply::id_at(position, parts.next())?;
    let (accepted, expires) = (meta.accepted, meta.expires);
    Ok(ResidentView { entry: meta.entry(position, id, data, attempt), accepted, expires, in_flight })
}

/// See `dead_letters.lua`.
fn letter_of(letter: Value) -> Result<DeadLetterView, Unavailable> {
    let mut parts = reply::list(letter)?;
    let number = reply::number(reply::next(&mut parts)?)?;
    let about = reply::text(reply::next(&mut parts)?)?;
    let data = Bytes::from(reply::bytes(reply::next(&mut parts)?)?);
    let id = reply::parse_id(&reply::bytes(reply::next(&mut parts)?)?)?;
    let meta = Meta::read(&reply::text(reply::next(&mut parts)?)?)?;
    let reason = reply::text(reply::next(&mut parts)?)?;
    let fields: Vec<&str> = about.split(' ').collect();
    let [at, epoch, lane, sequence, attempts] = fields[..] else { return Err(odd(about)) };
    let position = Position { epoch: reply::parse(epoch)?, lane: lane_of(lane)?, sequence: reply::parse(sequence)? };
    let entry = meta.entry(position, id, data, reply::parse(attempts)?);
    Ok(DeadLetterView { number, entry, reason, at: Timestamp::from_millis(reply::parse(at)?) })
}

fn lane_of(letter: &str) -> Result<Lane, Unavailable> {
    Lane::from_letter(letter).ok_or_else(|| odd(letter))
}
