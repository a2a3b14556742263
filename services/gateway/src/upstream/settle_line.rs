//! The standing stream for acks. A call of its own for each batch would cost several times what the batch costs.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use waystation_proto::router::v1::session_service_client::SessionServiceClient;
use waystation_proto::router::v1::{AcknowledgeRequest, AcknowledgeResponse, Settled, Settlement};
use waystation_rpc::Authorized;

use super::{ATTEMPTS, PATIENCE, is_of_transport};

/// One request at a time. Cheap to clone.
#[derive(Clone)]
pub(super) struct SettleLine {
    client: SessionServiceClient<Authorized>,
    /// `None`: the next request opens one, at the replica whose turn it is.
    open: Arc<Mutex<Option<Open>>>,
}

struct Open {
    requests: mpsc::Sender<AcknowledgeRequest>,
    answers: Streaming<AcknowledgeResponse>,
}

impl SettleLine {
    pub(super) fn new(client: SessionServiceClient<Authorized>) -> SettleLine {
        SettleLine { client, open: Arc::default() }
    }

    /// Settles; a stream that breaks is replaced and asked again: a settlement may be repeated.
    pub(super) async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, Status> {
        let request = AcknowledgeRequest { settlements };
        // The combiner asks for one after the other; were there two at once, the second would open another stream.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut attempts = 0;
        let answered = loop {
            attempts += 1;
            let asked = tokio::time::timeout(PATIENCE, self.ask(&mut open, request.clone())).await;
            match asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer"))) {
                Ok(answer) => break Ok(answer.results),
                Err(status) => {
                    open = None;
                    if attempts == ATTEMPTS || !is_of_transport(&status) {
                        break Err(status);
                    }
                }
            }
        };
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        answered
    }

    async fn ask(&self, open: &mut Option<Open>, request: AcknowledgeRequest) -> Result<AcknowledgeResponse, Status> {
        let ended = || Status::unavailable("the stream has ended");
        if open.is_none() {
            let (requests, receiver) = mpsc::channel(1);
            let answers = self.client.clone().acknowledge(ReceiverStream::new(receiver)).await?.into_inner();
            *open = Some(Open { requests, answers });
        }
        let Some(Open { requests, answers }) = open else { return Err(ended()) };
        requests.send(request).await.map_err(|_| ended())?;
        answers.message().await?.ok_or_else(ended)
    }
}
