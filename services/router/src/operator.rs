//! The mailbox in an operator's hands: look into it, empty it, look at its dead letters.

use waystation_domain::{Entry, Lane, Timestamp};
use waystation_proto::router::v1::*;
use waystation_rpc::Fault;
use waystation_rpc::convert::{position_to, timestamp_to};
use waystation_store::mailbox::{DeadLetterView, MailboxKey, Purge, ResidentView};

use crate::Parts;

/// Elements of a page.
const PAGE: usize = 100;
/// A page also ends at so many bytes of data.
const PAGE_BYTES: usize = 2 << 20;

fn page_size(wanted: u32) -> Result<usize, Fault> {
    match usize::try_from(wanted).unwrap_or(usize::MAX) {
        0 => Ok(PAGE),
        size if size <= PAGE => Ok(size),
        _ => Err(Fault::field("page_size", format!("must be at most {PAGE}"))),
    }
}

/// How many elements make a page: all, or those before it has too many bytes, and at least one.
fn page_length(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = sizes.take_while(|size| {
        let first = bytes == 0;
        bytes += size;
        first || bytes <= PAGE_BYTES
    });
    fits.count()
}

fn stored(entry: Entry) -> StoredMessage {
    StoredMessage {
        message_id: entry.id.as_str().to_owned(),
        position: Some(position_to(entry.position)),
        event_type: entry.event_type.as_str().to_owned(),
        channel_id: entry.channel.map(|channel| channel.to_string()).unwrap_or_default(),
        data: entry.data,
        accept_time: None,
        expire_time: None,
        attempt: entry.attempt,
        in_flight: false,
        traceparent: entry.trace.map(|trace| trace.as_str().to_owned()).unwrap_or_default(),
        sender_orchestrator_id: entry.sender.map(|sender| sender.to_string()).unwrap_or_default(),
    }
}

/// A place in a mailbox: a lane's letter and a sequence.
fn read_place(token: &str) -> Result<(Lane, u64), Fault> {
    let place = token
        .split_at_checked(1)
        .and_then(|(letter, sequence)| Some((Lane::from_letter(letter)?, sequence.parse::<u64>().ok()?)));
    place.ok_or_else(|| Fault::field("page_token", "is not one of an answer"))
}

pub(crate) async fn list_messages(
    parts: &Parts,
    key: &MailboxKey,
    request: &ListMessagesRequest,
) -> Result<ListMessagesResponse, Fault> {
    let after = match request.page_token.as_str() {
        "" => (Lane::Critical, 0),
        token => read_place(token)?,
    };
    let size = page_size(request.page_size)?;
    // One more than wanted shows whether another page follows.
    let found = parts.store.mailboxes.residents(key, after, size + 1, None).await.map_err(Fault::unavailable)?;
    let length = page_length(found.iter().take(size).map(|one| one.entry.data.len()));
    let last = found[..length].last().filter(|_| length < found.len()).map(|one| one.entry.position);
    let messages = found.into_iter().take(length).map(|ResidentView { entry, accepted, expires, in_flight }| {
        let time = |at: Timestamp| Some(timestamp_to(at));
        StoredMessage { accept_time: time(accepted), expire_time: time(expires), in_flight, ..stored(entry) }
    });
    Ok(ListMessagesResponse {
        messages: messages.collect(),
        next_page_token: last.map(|at| format!("{}{}", at.lane.letter(), at.sequence)).unwrap_or_default(),
    })
}

pub(crate) async fn purge(parts: &Parts, key: MailboxKey) -> Result<u64, Fault> {
    let purge = Purge { mailbox: key.clone() };
    let purged = parts.store.mailboxes.purge(purge, None).await.map_err(Fault::unavailable)?;
    if purged > 0 {
        // The daemon is told of the gap now, not when it next compares.
        parts.announcer.announce(std::iter::once(key));
    }
    Ok(purged)
}

pub(crate) async fn list_dead_letters(
    parts: &Parts,
    key: &MailboxKey,
    request: &ListDeadLettersRequest,
) -> Result<ListDeadLettersResponse, Fault> {
    let after = match request.page_token.as_str() {
        "" => 0,
        token => token.parse().map_err(|_| Fault::field("page_token", "is not one of an answer"))?,
    };
    let size = page_size(request.page_size)?;
    let found = parts.store.mailboxes.dead_letters(key, after, size + 1, None).await.map_err(Fault::unavailable)?;
    let length = page_length(found.iter().take(size).map(|one| one.entry.data.len()));
    let last = found[..length].last().filter(|_| length < found.len()).map(|letter| letter.number);
    let letters = found.into_iter().take(length).map(|DeadLetterView { number, entry, reason, at }| DeadLetter {
        number,
        message: Some(stored(entry)),
        reason,
        dead_time: Some(timestamp_to(at)),
    });
    Ok(ListDeadLettersResponse {
        dead_letters: letters.collect(),
        next_page_token: last.map(|number| number.to_string()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_at_least_one_element_and_not_too_many_bytes() {
        assert_eq!(page_length([PAGE_BYTES * 2, 1].into_iter()), 1);
        assert_eq!(page_length([1, PAGE_BYTES - 1, 1].into_iter()), 2);
        assert_eq!(page_length([0, 0, 0].into_iter()), 3);
        assert_eq!(page_length(std::iter::empty()), 0);
    }

    #[test]
    fn a_page_token_is_a_place_or_is_refused() {
        assert_eq!(read_place("h42").ok(), Some((Lane::High, 42)));
        for bad in ["x1", "h", "h-1", "42", "é1"] {
            assert!(read_place(bad).is_err(), "{bad}");
        }
    }
}
