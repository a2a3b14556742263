//! Several messages at once: each judged, the good ones appended together, each answered in its place.

use waystation_domain::MessageId;
use waystation_proto::router::v1::RouteMessageResult;
use waystation_proto::router::v1::route_message_result::Outcome;
use waystation_rpc::Fault;
use waystation_store::mailbox::{AppendMessage, MailboxKey};
use waystation_telemetry::traces::{Span, Tracer};

use crate::appender::Appending;
use crate::{Parts, metrics, traces};

/// A message that goes on, or why it goes no further.
type Verdict = Result<Accepted, Fault>;

/// What its answer needs.
struct Accepted {
    key: MailboxKey,
    id: Option<MessageId>,
    span: Option<Span>,
}

/// Messages that are being judged.
pub(crate) struct Judged {
    tracer: Tracer,
    /// What their caller has called.
    call: &'static str,
    /// One for each message.
    verdicts: Vec<Verdict>,
    /// Those that go on.
    messages: Vec<AppendMessage>,
}

impl Judged {
    /// So many messages of a call.
    pub(crate) fn of(parts: &Parts, call: &'static str, count: usize) -> Judged {
        let tracer = parts.context.tracer.clone();
        Judged { tracer, call, verdicts: Vec::with_capacity(count), messages: Vec::with_capacity(count) }
    }

    pub(crate) fn push(&mut self, judged: Result<AppendMessage, Fault>) {
        self.verdicts.push(judged.map(|mut message| {
            let span = traces::begin(&self.tracer, self.call, &mut message);
            let accepted = Accepted { key: message.mailbox.clone(), id: message.id.clone(), span };
            self.messages.push(message);
            accepted
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
            let outcome = verdict.and_then(|Accepted { key, id, span }| {
                let appended = outcomes.next().unwrap_or_else(|| Err(unanswered()));
                let routed = appended
                    .inspect_err(|_| parts.stats.refused(&key.organization))
                    .map(|appended| parts.answer(&key, id.as_ref(), appended));
                traces::end(span, routed.as_ref());
                routed
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
