//! The combining appender: while one append of a partition is under way, the next one collects.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use waystation_domain::{Entry, MessageId, Timestamp};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::gateway::v1::push::Hint;
use waystation_rpc::Fault;
use waystation_rpc::convert::{entry_to, heads_to};
use waystation_runtime::{Clock, Context};
use waystation_store::MailboxStore;
use waystation_store::mailbox::{Append, AppendMessage, AppendRefused, Appended, Heads, Route};
use waystation_telemetry::traces::{Span, SpanKind, Tracer};

use crate::announcer::Announcer;
use crate::gateways::Gateways;
use crate::traces;

/// Callers that may wait for a partition; more are refused at once, with a delay to come back after.
const QUEUE: usize = 8_192;
/// Callers whose messages go into one append.
const TOGETHER: usize = 256;

type Outcome = Result<Vec<Result<Appended, AppendRefused>>, Fault>;

struct Waiting {
    messages: Vec<AppendMessage>,
    answer: oneshot::Sender<Outcome>,
}

/// Appends in the order of asking. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Appender {
    store: Arc<dyn MailboxStore>,
    /// By partition.
    queues: Arc<[mpsc::Sender<Waiting>]>,
}

/// Messages on their way.
pub(crate) struct Appending {
    parts: Vec<Part>,
    count: usize,
}

/// Messages for one partition: their places among those asked for, and where their outcome comes in.
struct Part {
    places: Vec<usize>,
    outcome: Result<oneshot::Receiver<Outcome>, Fault>,
}

impl Appending {
    /// Resolves once the store has answered for each message.
    pub(crate) async fn wait(self) -> Vec<Result<Appended, Fault>> {
        let unanswered = || Err(Fault::new(ErrorReason::Internal, "the store gave no answer"));
        let mut outcomes: Vec<Result<Appended, Fault>> = Vec::with_capacity(self.count);
        outcomes.resize_with(self.count, unanswered);
        for Part { places, outcome } in self.parts {
            let answered = match outcome {
                Ok(receiver) => receiver.await.unwrap_or_else(|_| Err(Fault::unavailable("the router is stopping"))),
                Err(fault) => Err(fault),
            };
            match answered {
                Ok(answers) => {
                    for (place, answer) in places.into_iter().zip(answers) {
                        outcomes[place] = answer.map_err(refusal);
                    }
                }
                Err(fault) => places.into_iter().for_each(|place| outcomes[place] = Err(fault.clone())),
            }
        }
        outcomes
    }
}

/// Why the store refused, in the words of callers.
fn refusal(refused: AppendRefused) -> Fault {
    let soon = Duration::from_secs(5);
    match refused {
        AppendRefused::Offline => Fault::new(ErrorReason::OrchestratorOffline, "no live session holds the mailbox"),
        AppendRefused::Full => Fault::new(ErrorReason::MailboxFull, "1,000 messages or 8 MiB wait already").retry(soon),
        AppendRefused::StoreFull => Fault::new(ErrorReason::StoreFull, "the store's memory is full").retry(soon),
        AppendRefused::Damaged => Fault::unavailable("the store cannot use this mailbox"),
        AppendRefused::IdReused => Fault::new(ErrorReason::MessageIdReused, "message_id was used for another message"),
    }
}

impl Appender {
    pub(crate) fn start(
        store: Arc<dyn MailboxStore>,
        gateways: &Gateways,
        announcer: &Announcer,
        context: &Context,
    ) -> Appender {
        let start = |_| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let (store, gateways, announcer) = (store.clone(), gateways.clone(), announcer.clone());
            let lane = Lane { store, gateways, announcer, tracer: context.tracer.clone(), clock: context.clock };
            context.lifecycle.spawn(lane.run(receiver));
            sender
        };
        Appender { queues: (0..store.partitions()).map(start).collect(), store }
    }

    /// Takes messages in; those of one mailbox are appended in the order of these calls.
    pub(crate) fn append(&self, messages: Vec<AppendMessage>) -> Appending {
        let count = messages.len();
        let mut partitions: Vec<(usize, Vec<usize>, Vec<AppendMessage>)> = Vec::new();
        for (place, message) in messages.into_iter().enumerate() {
            let partition = self.store.partition_of(&message.mailbox);
            // A batch is mostly for one mailbox, or for few.
            let known = partitions.iter_mut().find(|(number, ..)| *number == partition);
            match known {
                Some((_, places, together)) => {
                    places.push(place);
                    together.push(message);
                }
                None => partitions.push((partition, vec![place], vec![message])),
            }
        }
        let parts = partitions
            .into_iter()
            .map(|(partition, places, messages)| Part { places, outcome: self.send(partition, messages) });
        Appending { parts: parts.collect(), count }
    }

    fn send(&self, partition: usize, messages: Vec<AppendMessage>) -> Result<oneshot::Receiver<Outcome>, Fault> {
        let (answer, receiver) = oneshot::channel();
        self.queues[partition].try_send(Waiting { messages, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Fault::new(ErrorReason::Overloaded, "too many messages at once").retry(Duration::from_millis(200))
            }
            mpsc::error::TrySendError::Closed(_) => Fault::unavailable("the router is stopping"),
        })?;
        Ok(receiver)
    }
}

/// The appends of one partition, one after the other.
struct Lane {
    store: Arc<dyn MailboxStore>,
    gateways: Gateways,
    announcer: Announcer,
    tracer: Tracer,
    clock: Clock,
}

impl Lane {
    /// Runs until every caller is gone.
    async fn run(self, mut receiver: mpsc::Receiver<Waiting>) {
        let mut together = Vec::with_capacity(TOGETHER);
        while receiver.recv_many(&mut together, TOGETHER).await > 0 {
            let (mut messages, mut answers) = (Vec::new(), Vec::with_capacity(together.len()));
            for waiting in together.drain(..) {
                answers.push((waiting.messages.len(), waiting.answer));
                messages.extend(waiting.messages);
            }
            let spans = traces::append(&self.tracer, &mut messages);
            let append = Append { messages: messages.clone(), liveness: self.gateways.liveness() };
            match self.store.append(append, None).await {
                Ok(outcomes) => {
                    traces::appended(spans, &outcomes);
                    push_all(&self.gateways, &self.tracer, self.clock.now(), messages, &outcomes);
                    let mut outcomes = outcomes.into_iter();
                    for (count, answer) in answers {
                        // A caller that has gone needs no answer; what it routed is routed.
                        answer.send(Ok(outcomes.by_ref().take(count).collect())).ok();
                    }
                }
                Err(unavailable) => {
                    traces::failed(spans, &unavailable);
                    self.announcer.announce(messages.into_iter().map(|message| message.mailbox));
                    for (_, answer) in answers {
                        answer.send(Err(Fault::unavailable(&unavailable))).ok();
                    }
                }
            }
        }
    }
}

/// Tells gateways, in the order of the store's answers.
fn push_all(
    gateways: &Gateways,
    tracer: &Tracer,
    now: Timestamp,
    messages: Vec<AppendMessage>,
    outcomes: &[Result<Appended, AppendRefused>],
) {
    for (message, outcome) in messages.into_iter().zip(outcomes) {
        let Ok(Appended { position, duplicate: false, holder: Some(holder), route, .. }) = outcome else { continue };
        let (hint, span) = match route {
            Route::Push => {
                let span = tracer.follow(SpanKind::Producer, "push", message.trace.as_ref());
                let trace = span.as_ref().map(Span::context).or(message.trace);
                let entry = Entry {
                    position: *position,
                    id: message.id.unwrap_or_else(|| MessageId::composed(*position)),
                    event_type: message.event_type,
                    channel: message.channel,
                    data: message.data,
                    attempt: 1,
                    trace,
                    sender: message.sender,
                    accepted: now,
                };
                (Hint::Entry(entry_to(entry)), span)
            }
            Route::Behind => {
                let mut heads = Heads::default();
                heads.lanes[position.lane] = position.sequence;
                (Hint::Heads(heads_to(&heads)), None)
            }
        };
        gateways.push(holder, hint, span);
    }
}
