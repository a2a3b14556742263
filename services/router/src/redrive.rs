//! Dead letters, routed once more. Each is a new acceptance under an id that names its lineage; only then is the letter
//! dropped, so that a crash in between leaves a duplicate that is known as one, and never a loss.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use waystation_domain::{MessageId, OrganizationId};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::redriven_message::Outcome;
use waystation_proto::router::v1::{
    RedriveDeadLettersRequest, RedriveDeadLettersResponse, RedrivenMessage, RouteMessageResponse,
};
use waystation_rpc::Fault;
use waystation_store::mailbox::{AppendMessage, DeadLetterView, ForgetDeadLetters, IfOffline, MailboxKey};

use crate::directory::Rules;
use crate::{Parts, news};

/// Dead letters of one call: at most, and unless it says otherwise.
const MOST: usize = 1_000;
const USUAL: usize = 100;
/// Dead letters that are read from the store at once.
const PIECE: usize = 50;
/// Redriven messages of an organization in a second, and at once after a pause.
const PER_SECOND: f64 = 200.0;
const BURST: f64 = 1_000.0;

/// How much each organization may redrive now.
#[derive(Default)]
pub(crate) struct Pace(Mutex<HashMap<OrganizationId, Bucket>>);

struct Bucket {
    left: f64,
    at: Instant,
}

impl Pace {
    /// Takes room for as many as there is, at most so many; none: how long to wait for some.
    fn take(&self, organization: &OrganizationId, wanted: usize, now: Instant) -> Result<usize, Duration> {
        let filled = |bucket: &Bucket| {
            let since = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.left + since * PER_SECOND).min(BURST)
        };
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A full one says no more than none.
        buckets.retain(|_, bucket| filled(bucket) < BURST);
        let bucket = buckets.entry(organization.clone()).or_insert(Bucket { left: BURST, at: now });
        (bucket.left, bucket.at) = (filled(bucket), now);
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / PER_SECOND).max(Duration::from_millis(100)));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and BURST")]
        let taken = wanted.min(bucket.left as usize);
        bucket.left -= taken as f64;
        Ok(taken)
    }
}

/// Which letters are still to come.
struct Wanted {
    /// Sorted; empty: the oldest.
    numbers: Vec<u64>,
    after: u64,
    left: usize,
}

impl Wanted {
    fn read(request: &RedriveDeadLettersRequest) -> Result<Wanted, Fault> {
        let mut numbers = request.numbers.clone();
        if numbers.len() > MOST {
            return Err(Fault::field("numbers", format!("must have at most {MOST} elements")));
        }
        numbers.sort_unstable();
        numbers.dedup();
        let left = match usize::try_from(request.limit).unwrap_or(usize::MAX) {
            0 if numbers.is_empty() => USUAL,
            0 => numbers.len(),
            limit if limit <= MOST => limit,
            _ => return Err(Fault::field("limit", format!("must be at most {MOST}"))),
        };
        Ok(Wanted { numbers, after: 0, left })
    }

    fn wants(&self, number: u64) -> bool {
        self.numbers.is_empty() || self.numbers.binary_search(&number).is_ok()
    }

    /// Whether any that is wanted can come after what has been read.
    fn is_over(&self) -> bool {
        self.left == 0 || self.numbers.last().is_some_and(|last| *last <= self.after)
    }
}

pub(crate) async fn redrive(
    parts: &Parts,
    key: MailboxKey,
    rules: &Rules,
    request: &RedriveDeadLettersRequest,
) -> Result<RedriveDeadLettersResponse, Fault> {
    let store = &parts.store.mailboxes;
    let mut wanted = Wanted::read(request)?;
    let mut messages = Vec::new();
    while !wanted.is_over() {
        let piece = store.dead_letters(&key, wanted.after, PIECE, None).await.map_err(Fault::unavailable)?;
        let Some(last) = piece.last().map(|letter| letter.number) else { break };
        let chosen: Vec<_> = piece.into_iter().filter(|l| wanted.wants(l.number)).take(wanted.left).collect();
        wanted.after = if chosen.len() == wanted.left { chosen.last().map_or(last, |l| l.number) } else { last };
        if chosen.is_empty() {
            continue;
        }
        let count = chosen.len();
        let room = match parts.pace.take(&key.organization, count, parts.context.clock.instant()) {
            Ok(room) => room,
            // What has been done is told; the caller comes back for the rest.
            Err(_) if !messages.is_empty() => break,
            Err(wait) => {
                let message = format!("{PER_SECOND} dead letters of an organization go in a second");
                return Err(Fault::new(ErrorReason::Overloaded, message).retry(wait));
            }
        };
        let routed = route(parts, &key, rules, chosen.into_iter().take(room).collect()).await?;
        let is_full = routed.iter().any(|one| matches!(one.outcome, Some(Outcome::Error(_))));
        wanted.left -= routed.len();
        messages.extend(routed);
        if is_full || room < count {
            break;
        }
    }
    let view = store.mailbox(&key, None).await.map_err(Fault::unavailable)?;
    Ok(RedriveDeadLettersResponse { messages, remaining: view.map_or(0, |view| view.dead_letters) })
}

/// Routes letters in their order, then drops those that were accepted.
async fn route(
    parts: &Parts,
    key: &MailboxKey,
    rules: &Rules,
    letters: Vec<DeadLetterView>,
) -> Result<Vec<RedrivenMessage>, Fault> {
    let routing = letters.into_iter().map(|letter| {
        // Taken in here, in their order; waited for below.
        let appending = message(key, rules, &letter).map(|(id, message)| (id, parts.appender.append(vec![message])));
        (letter, appending)
    });
    let (mut redriven, mut accepted) = (Vec::new(), Vec::new());
    for (letter, appending) in routing.collect::<Vec<_>>() {
        let outcome: Result<(MessageId, RouteMessageResponse), Fault> = async {
            let (id, appending) = appending?;
            let outcome = appending.wait().await.pop();
            let appended = outcome.ok_or_else(|| Fault::new(ErrorReason::Internal, "the store gave no answer"))??;
            let routed = parts.answer(key, Some(&id), appended);
            Ok((id, routed))
        }
        .await;
        let (number, message_id) = (letter.number, letter.entry.id.to_string());
        let outcome = match outcome {
            Ok((id, routed)) => {
                accepted.push((letter, id));
                Outcome::Routed(routed)
            }
            Err(fault) => Outcome::Error(fault.into()),
        };
        redriven.push(RedrivenMessage { number, message_id, outcome: Some(outcome) });
    }
    // Before they are dropped: who asks again after a crash has it told again, as the same events.
    news::tell_redriven(parts, key, &accepted).await?;
    let numbers = accepted.iter().map(|(letter, _)| letter.number).collect();
    let forget = ForgetDeadLetters { mailbox: key.clone(), numbers };
    parts.store.mailboxes.forget_dead_letters(forget, None).await.map_err(Fault::unavailable)?;
    Ok(redriven)
}

fn message(key: &MailboxKey, rules: &Rules, letter: &DeadLetterView) -> Result<(MessageId, AppendMessage), Fault> {
    let entry = letter.entry.clone();
    let id = entry.id.redriven().ok_or_else(|| Fault::field("numbers", "one was redriven too often"))?;
    let message = AppendMessage {
        mailbox: key.clone(),
        id: Some(id.clone()),
        event_type: entry.event_type,
        channel: entry.channel,
        trace: entry.trace,
        sender: entry.sender,
        data: entry.data,
        lane: entry.position.lane,
        time_to_live: rules.settings.time_to_live.min(rules.settings.longest_time_to_live),
        if_offline: IfOffline::Queue,
        limits: rules.settings.mailbox,
    };
    Ok((id, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_organization_has_a_pace_of_its_own() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        let pace = Pace::default();
        assert_eq!(pace.take(&one, 700, start), Ok(700));
        assert_eq!(pace.take(&one, 700, start), Ok(300), "as many as there is room for");
        assert!(pace.take(&one, 1, start).is_err());
        assert_eq!(pace.take(&other, 700, start), Ok(700));
        let later = start + Duration::from_secs(1);
        assert_eq!(pace.take(&one, 700, later), Ok(200));
        let long_after = start + Duration::from_secs(60);
        assert_eq!(pace.take(&one, 5_000, long_after), Ok(1_000));
        assert_eq!(pace.0.lock().unwrap().len(), 1, "who has paused long enough is forgotten");
    }
}
