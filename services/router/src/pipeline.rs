//! Streams of requests: many in flight, answered in their order.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use waystation_rpc::Fault;
use waystation_runtime::Context;

/// Requests of one stream that may be in flight; then its reader waits, and with it the caller.
const IN_FLIGHT: usize = 64;

/// How one kind of request is answered.
pub(crate) trait Pipeline: Send + Sync + 'static {
    type Request: Send + 'static;
    /// What has been asked of the store.
    type Begun: Send + 'static;
    type Answer: Send + 'static;

    /// Asks the store, and does not wait for it. A fault ends the stream.
    fn begin(&self, request: Self::Request) -> impl Future<Output = Result<Self::Begun, Fault>> + Send;

    /// Waits for the store.
    fn finish(&self, begun: Self::Begun) -> impl Future<Output = Self::Answer> + Send;
}

/// Answers a stream until its caller goes or the process stops.
pub(crate) fn serve<P: Pipeline>(
    pipeline: P,
    mut requests: Streaming<P::Request>,
    context: &Context,
) -> ReceiverStream<Result<P::Answer, Status>> {
    let (answers, receiver) = mpsc::channel(IN_FLIGHT);
    let (begun, mut waiting) = mpsc::channel(IN_FLIGHT);
    let (reader, faults) = (Arc::new(pipeline), answers.clone());
    let writer = reader.clone();
    let reading = async move {
        // What a caller asked for before it went is done.
        while let Some(Ok(request)) = requests.next().await {
            match reader.begin(request).await {
                Ok(asked) => {
                    if begun.send(asked).await.is_err() {
                        return;
                    }
                }
                Err(fault) => return drop(faults.send(Err(fault.into())).await),
            }
        }
    };
    let answering = async move {
        while let Some(asked) = waiting.recv().await {
            if answers.send(Ok(writer.finish(asked).await)).await.is_err() {
                return;
            }
        }
    };
    let lifecycle = context.lifecycle.clone();
    context.lifecycle.spawn(async move {
        tokio::select! {
            ((), ()) = async { tokio::join!(reading, answering) } => {}
            () = lifecycle.stopping() => {}
        }
    });
    ReceiverStream::new(receiver)
}
