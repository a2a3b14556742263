//! Accepting messages.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::try_join_all;
use redis::Value;
use waystation_domain::{Epoch, IncarnationId, Lane, Position};

use super::node::CallError;
use super::reply::{self, odd};
use super::scripts::Script;
use super::{Args, Redis, keys};
use crate::mailbox::*;
use crate::{Unavailable, limits};

type Outcome = Result<Appended, AppendRefused>;

/// The messages of one mailbox by their places in the batch, in their order.
type Groups = Vec<(String, Vec<usize>)>;

impl Redis {
    pub(super) async fn append_messages(&self, append: Append, now: Now) -> Result<Vec<Outcome>, Unavailable> {
        let Append { messages, liveness } = append;
        let partitions = self.group(&messages);
        let each = partitions.into_iter().map(|(partition, groups)| {
            let args = self.append_args(&messages, &groups, &liveness);
            async move {
                match self.run_in(partition, Script::Append, args, now).await {
                    Ok(answer) => outcomes(answer, &groups),
                    // The node refused the whole script: nothing was kept.
                    Err(CallError::Full) => {
                        let refused = groups.iter().flat_map(|(_, places)| places);
                        Ok(refused.map(|place| (*place, Err(AppendRefused::StoreFull))).collect())
                    }
                    Err(CallError::Link(error)) => Err(CallError::Link(error).into()),
                }
            }
        });
        let mut answers: Vec<(usize, Outcome)> = try_join_all(each).await?.into_iter().flatten().collect();
        answers.sort_unstable_by_key(|(place, _)| *place);
        Ok(answers.into_iter().map(|(_, outcome)| outcome).collect())
    }

    fn group(&self, messages: &[AppendMessage]) -> BTreeMap<usize, Groups> {
        let mut partitions: BTreeMap<usize, Groups> = BTreeMap::new();
        let mut known: HashMap<&MailboxKey, (usize, usize)> = HashMap::new();
        for (place, message) in messages.iter().enumerate() {
            let (partition, group) = *known.entry(&message.mailbox).or_insert_with(|| {
                let partition = self.places.partition_of(&message.mailbox);
                let groups = partitions.entry(partition).or_default();
                groups.push((keys::name_of(&message.mailbox), Vec::new()));
                (partition, groups.len() - 1)
            });
            if let Some(groups) = partitions.get_mut(&partition) {
                groups[group].1.push(place);
            }
        }
        partitions
    }

    fn append_args(&self, messages: &[AppendMessage], groups: &Groups, liveness: &Liveness) -> Args {
        let mut args = Args::default();
        args.number(self.fresh_epochs.next()).push(spaced(&liveness.gone)).push(spaced(&liveness.draining));
        for (name, places) in groups {
            let messages: Vec<(String, &AppendMessage)> =
                places.iter().map(|place| (options(&messages[*place]), &messages[*place])).collect();
            let runs: Vec<_> = messages.chunk_by(|a, b| a.0 == b.0).collect();
            args.text(name).number(runs.len());
            for run in runs {
                args.text(&run[0].0).number(run.len());
                run.iter().for_each(|(_, message)| push_message(&mut args, message));
            }
        }
        args
    }
}

/// Incarnations as scripts look them up: each between spaces.
pub(super) fn spaced(incarnations: &[IncarnationId]) -> String {
    incarnations.iter().fold(String::from(" "), |all, one| all + one.as_str() + " ")
}

/// What messages of a run have in common; see `append.lua`.
fn options(message: &AppendMessage) -> String {
    let ttl = message.time_to_live.min(limits::TIME_TO_LIVE).as_millis();
    let kind = if message.time_to_live < limits::TIME_TO_LIVE { "own" } else { "cap" };
    let named = if message.id.is_some() { "#" } else { "" };
    let fail = if message.if_offline == IfOffline::Fail { "!" } else { "" };
    let caps = if message.limits == MailboxLimits::default() {
        String::new()
    } else {
        let MailboxLimits { entries, bytes, overflow } = message.limits;
        let replace = if overflow == Overflow::ReplaceOldest { "+" } else { "" };
        format!(" {entries} {bytes}{replace}")
    };
    format!("{}{ttl} {kind}{named}{fail}{caps}", message.lane.letter())
}

fn push_message(args: &mut Args, message: &AppendMessage) {
    let channel = message.channel.as_ref().map_or(NONE, |channel| channel.as_str());
    let trace = message.trace.as_ref().map_or(NONE, |trace| trace.as_str());
    let sender = message.sender.as_ref().map_or(NONE, |sender| sender.as_str());
    args.push(format!("{} {channel} {trace} {sender}", message.event_type));
    args.push(message.data.clone());
    if let Some(id) = &message.id {
        args.text(id.as_str()).number(ContentDigest::of(message));
    }
}

/// Stands where there is nothing; no id can be it.
pub(super) const NONE: &str = "*";

/// What became of each message, with its place in the batch.
fn outcomes(answer: Value, groups: &Groups) -> Result<Vec<(usize, Outcome)>, Unavailable> {
    let mut answers = reply::list(answer)?;
    let mut outcomes = Vec::new();
    for (name, places) in groups {
        let mut group = reply::list(reply::next(&mut answers)?)?;
        let epoch: Epoch = reply::parse(&reply::text(reply::next(&mut group)?)?)?;
        let holder = match reply::text(reply::next(&mut group)?)?.as_str() {
            "" => None,
            text => Some(reply::holder(text)?),
        };
        for place in places {
            let text = reply::text(reply::next(&mut group)?)?;
            if let Some(problem) = text.strip_prefix('!') {
                tracing::error!(mailbox = name, "cannot append: {problem}");
            }
            outcomes.push((*place, outcome(&text, epoch, holder.as_ref())?));
        }
    }
    Ok(outcomes)
}

fn outcome(text: &str, epoch: Epoch, holder: Option<&HolderRef>) -> Result<Outcome, Unavailable> {
    let (kind, rest) = text.split_at_checked(1).ok_or_else(|| odd(text))?;
    let route = match kind {
        "P" => Route::Push,
        "B" => Route::Behind,
        "D" => return repeated(rest, holder),
        "O" => return Ok(Err(AppendRefused::Offline)),
        "F" => return Ok(Err(AppendRefused::Full)),
        "R" => return Ok(Err(AppendRefused::IdReused)),
        "!" => return Ok(Err(AppendRefused::Damaged)),
        _ => return Err(odd(text)),
    };
    let (lane, sequence) = place(rest)?;
    let state = match holder {
        Some(_) => MessageState::Dispatched { attempt: 1 },
        None => MessageState::Queued,
    };
    let position = Position { epoch, lane, sequence };
    Ok(Ok(Appended { position, state, duplicate: false, holder: holder.cloned(), route }))
}

/// `<lane> <sequence> <epoch> <state>`
fn repeated(text: &str, holder: Option<&HolderRef>) -> Result<Outcome, Unavailable> {
    let parts: Vec<&str> = text.split(' ').collect();
    let [lane, sequence, epoch, now] = parts[..] else { return Err(odd(text)) };
    let lane = Lane::from_letter(lane).ok_or_else(|| odd(text))?;
    let position = Position { epoch: reply::parse(epoch)?, lane, sequence: reply::parse(sequence)? };
    let (state, holder) = (state(now)?, holder.cloned());
    Ok(Ok(Appended { position, state, duplicate: true, holder, route: Route::Behind }))
}

/// A lane's letter and a sequence.
pub(super) fn place(text: &str) -> Result<(Lane, u64), Unavailable> {
    let (lane, sequence) = text.split_at_checked(1).ok_or_else(|| odd(text))?;
    Ok((Lane::from_letter(lane).ok_or_else(|| odd(text))?, reply::parse(sequence)?))
}

/// The state of a message as `state` in `log.lua` writes it.
pub(super) fn state(text: &str) -> Result<MessageState, Unavailable> {
    let (kind, rest) = text.split_at_checked(1).ok_or_else(|| odd(text))?;
    match kind {
        "q" => Ok(MessageState::Queued),
        "d" => Ok(MessageState::Dispatched { attempt: reply::parse(rest)? }),
        "a" => Ok(MessageState::Acknowledged),
        "x" => Ok(MessageState::Exited(reply::exit_reason(rest)?)),
        "u" => Ok(MessageState::Unknown),
        _ => Err(odd(text)),
    }
}
