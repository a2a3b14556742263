//! Several messages at once: each judged, the good ones appended together, each answered in its place.

use waystation_domain::MessageId;
use waystation_proto::router::v1::RouteMessageResult;
use waystation_proto::router::v1::route_message_result::Outcome;
use waystation_rpc::Fault;
use waystation_store::mailbox::{AppendMessage, MailboxKey};

use crate::appender::Appending;
use crate::{Parts, metrics};

/// A message's mailbox and id, or why it goes no further.
type Verdict = Result<(MailboxKey, Option<MessageId>), Fault>;

/// Messages that are being judged.
pub(crate) struct Judged {
    /// One for each message.
    verdicts: Vec<Verdict>,
    /// Those that go on.
    messages: Vec<AppendMessage>,
}

impl Judged {
    pub(crate) fn with_capacity(count: usize) -> Judged {
        Judged { verdicts: Vec::with_capacity(count), messages: Vec::with_capacity(count) }
    }

    pub(crate) fn push(&mut self, judged: Result<AppendMessage, Fault>) {
        self.verdicts.push(judged.map(|message| {
            let of_answer = (message.mailbox.clone(), message.id.clone());
            self.messages.push(message);
            of_answer
        }));
    }

    /// Asks for the append; what is asked for after this comes after it in each mailbox.
    pub(crate) fn append(self, parts: &Parts) -> Batch {
        Batch { verdicts: self.verdicts, appending: parts.appender.append(self.messages) }
    }
}

/// Messages on their way to the store.
pub(crate) struct Batch {
    verdicts: Vec<Verdict>,
    appending: Appending,
}

impl Batch {
    /// One result for each message, in their order, once the store has answered.
    pub(crate) async fn results(self, parts: &Parts) -> Vec<RouteMessageResult> {
        let mut outcomes = self.appending.wait().await.into_iter();
        let unanswered = || Fault::unavailable("the store gave no answer");
        let results = self.verdicts.into_iter().map(|verdict| {
            let outcome = verdict.and_then(|(key, id)| {
                let appended = outcomes.next().ok_or_else(unanswered)?;
                let appended = appended.inspect_err(|_| parts.stats.refused(&key.organization))?;
                Ok(parts.answer(&key, id.as_ref(), appended))
            });
            let outcome = match outcome {
                Ok(routed) => Outcome::Routed(routed),
                Err(fault) => {
                    parts.metrics.routed(metrics::Outcome::Refused);
                    Outcome::Error(fault.into())
                }
            };
            RouteMessageResult { outcome: Some(outcome) }
        });
        results.collect()
    }
}
