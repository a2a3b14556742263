//! The combining appender: while one append is under way, the next one collects.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use waystation_domain::{Entry, MessageId};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::gateway::v1::push::Hint;
use waystation_rpc::Fault;
use waystation_rpc::convert::{entry_to, heads_to};
use waystation_runtime::Context;
use waystation_store::MailboxStore;
use waystation_store::mailbox::{Append, AppendMessage, AppendRefused, Appended, Heads, Route};

use crate::gateways::Gateways;

/// Callers that may wait; more are refused at once, with a delay to come back after.
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
pub(crate) struct Appender(mpsc::Sender<Waiting>);

/// Answers once the store has answered.
pub(crate) struct Appending(oneshot::Receiver<Outcome>);

impl Appending {
    pub(crate) async fn wait(self) -> Outcome {
        self.0.await.unwrap_or_else(|_| Err(Fault::unavailable("the router is stopping")))
    }
}

impl Appender {
    pub(crate) fn start(store: Arc<dyn MailboxStore>, gateways: Gateways, context: &Context) -> Appender {
        let (sender, receiver) = mpsc::channel(QUEUE);
        context.lifecycle.spawn(run(store, gateways, receiver));
        Appender(sender)
    }

    /// Takes messages in; they are appended in the order of these calls.
    pub(crate) fn append(&self, messages: Vec<AppendMessage>) -> Result<Appending, Fault> {
        let (answer, receiver) = oneshot::channel();
        self.0.try_send(Waiting { messages, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Fault::new(ErrorReason::Overloaded, "too many messages at once")
                .retry(std::time::Duration::from_millis(200)),
            mpsc::error::TrySendError::Closed(_) => Fault::unavailable("the router is stopping"),
        })?;
        Ok(Appending(receiver))
    }
}

/// Runs until every caller is gone.
async fn run(store: Arc<dyn MailboxStore>, gateways: Gateways, mut receiver: mpsc::Receiver<Waiting>) {
    let mut together = Vec::with_capacity(TOGETHER);
    while receiver.recv_many(&mut together, TOGETHER).await > 0 {
        let (mut messages, mut answers) = (Vec::new(), Vec::with_capacity(together.len()));
        for waiting in together.drain(..) {
            answers.push((waiting.messages.len(), waiting.answer));
            messages.extend(waiting.messages);
        }
        let append = Append { messages: messages.clone(), liveness: gateways.liveness() };
        match store.append(append, None).await {
            Ok(outcomes) => {
                push_all(&gateways, messages, &outcomes);
                let mut outcomes = outcomes.into_iter();
                for (count, answer) in answers {
                    // A caller that has gone needs no answer; what it routed is routed.
                    answer.send(Ok(outcomes.by_ref().take(count).collect())).ok();
                }
            }
            Err(unavailable) => {
                for (_, answer) in answers {
                    answer.send(Err(Fault::unavailable(&unavailable))).ok();
                }
            }
        }
    }
}

/// Tells gateways, in the order of the store's answers.
fn push_all(gateways: &Gateways, messages: Vec<AppendMessage>, outcomes: &[Result<Appended, AppendRefused>]) {
    for (message, outcome) in messages.into_iter().zip(outcomes) {
        let Ok(Appended { position, duplicate: false, holder: Some(holder), route, .. }) = outcome else { continue };
        let hint = match route {
            Route::Push => Hint::Entry(entry_to(Entry {
                position: *position,
                id: message.id.unwrap_or_else(|| MessageId::composed(*position)),
                event_type: message.event_type,
                channel: message.channel,
                data: message.data,
                attempt: 1,
                trace: message.trace,
            })),
            Route::Behind => {
                let mut heads = Heads::default();
                heads.lanes[position.lane] = position.sequence;
                Hint::Heads(heads_to(&heads))
            }
        };
        gateways.push(holder, hint);
    }
}
