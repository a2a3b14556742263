//! wait_for = ACKNOWLEDGED (delivery, rule 16).

use std::time::Duration;

use tonic::metadata::MetadataMap;
use waystation_domain::MessageId;
use waystation_rpc::Fault;
use waystation_store::mailbox::{MailboxKey, MessageState};

use crate::Parts;

/// A caller without a deadline, or with a later one, waits so long.
const LONGEST: Duration = Duration::from_secs(30);
/// The answer leaves before the caller gives up: by a tenth of its deadline, at most by this.
const MARGIN: Duration = Duration::from_millis(100);
/// Looks at the store: the ack may have come through another router.
const FIRST_LOOK: Duration = Duration::from_millis(50);
const SLOWEST_LOOK: Duration = Duration::from_secs(1);

/// How long a caller can wait.
pub(super) fn patience(metadata: &MetadataMap) -> Duration {
    let deadline = metadata.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(timeout);
    let deadline = deadline.unwrap_or(LONGEST).min(LONGEST);
    deadline - MARGIN.min(deadline / 10)
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Waits until the message is acknowledged or has left otherwise; then, or when patience ends, its state.
pub(super) async fn acknowledged(
    parts: &Parts,
    key: &MailboxKey,
    id: &MessageId,
    first: MessageState,
    patience: Duration,
) -> Result<MessageState, Fault> {
    let mut state = first;
    let ends = parts.context.clock.instant() + patience;
    let mut look = FIRST_LOOK;
    while matches!(state, MessageState::Queued | MessageState::Dispatched { .. }) {
        let rung = parts.acknowledged.of(key).notified();
        tokio::pin!(rung);
        // Enabled before the look, so that an ack between the two is not missed.
        rung.as_mut().enable();
        state = parts.store.mailboxes.message(key, id, None).await.map_err(Fault::unavailable)?.state;
        let settled = !matches!(state, MessageState::Queued | MessageState::Dispatched { .. });
        if settled || parts.context.clock.instant() >= ends {
            break;
        }
        let left = ends - parts.context.clock.instant();
        tokio::select! {
            () = rung => {}
            () = tokio::time::sleep(look.min(left)) => look = (look * 2).min(SLOWEST_LOOK),
        }
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_leaves_before_the_deadline() {
        let with = |value: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", value.parse().unwrap());
            patience(&metadata)
        };
        assert_eq!(with("500m"), Duration::from_millis(450));
        assert_eq!(with("5S"), Duration::from_millis(4_900));
        assert_eq!(with("9H"), LONGEST - MARGIN);
        assert_eq!(with("soon"), LONGEST - MARGIN);
        assert_eq!(patience(&MetadataMap::new()), LONGEST - MARGIN);
    }
}
