//! While one call is under way, the next one collects: no timer, and never two calls at once.

use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use waystation_runtime::Context;

/// Requests that may wait.
const QUEUE: usize = 32_768;
/// Requests of one call.
const TOGETHER: usize = 1_024;

type Waiting<Q, A> = (Q, oneshot::Sender<Result<A, Status>>);

/// Joins requests of many connections into calls. Cheap to clone.
pub(crate) struct Combiner<Q, A>(mpsc::Sender<Waiting<Q, A>>);

impl<Q, A> Clone for Combiner<Q, A> {
    fn clone(&self) -> Self {
        Combiner(self.0.clone())
    }
}

impl<Q: Send + 'static, A: Send + 'static> Combiner<Q, A> {
    /// `call` answers one for each request, in their order.
    pub(crate) fn start<F>(context: &Context, call: impl Fn(Vec<Q>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Vec<A>, Status>> + Send + 'static,
    {
        let (sender, mut receiver) = mpsc::channel::<Waiting<Q, A>>(QUEUE);
        context.lifecycle.spawn(async move {
            let mut together = Vec::new();
            while receiver.recv_many(&mut together, TOGETHER).await > 0 {
                let (requests, waiting): (Vec<Q>, Vec<_>) = together.drain(..).unzip();
                let answers = call(requests).await;
                // Who does not wait any more has ended.
                match answers {
                    Ok(answers) => answers.into_iter().zip(waiting).for_each(|(answer, to)| drop(to.send(Ok(answer)))),
                    Err(status) => waiting.into_iter().for_each(|to| drop(to.send(Err(status.clone())))),
                }
            }
        });
        Combiner(sender)
    }

    pub(crate) async fn call(&self, request: Q) -> Result<A, Status> {
        let (answer, receiver) = oneshot::channel();
        let full = |_| Status::resource_exhausted("too many calls wait");
        self.0.try_send((request, answer)).map_err(full)?;
        receiver.await.unwrap_or_else(|_| Err(Status::unavailable("no answer")))
    }
}
