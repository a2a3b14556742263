//! Works on tasks that are offered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Notice, Offer, WorkOptions, delegation};
use crate::client::Client;
use crate::delivery::Delivery;
use crate::error::CallError;

/// Whoever has no connection for so long stops: after 60 s the task is given to somebody else.
const UNCERTAIN: Duration = Duration::from_secs(45);
/// After which a call that was not answered is made again.
const AGAIN: Duration = Duration::from_secs(2);
/// Offers that may wait; each is answered at once.
const OFFERS: usize = 64;

/// Why a task was not done: told to the delegator, after as many retries as it wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TaskFailed(pub String);

/// A task that this daemon works on.
#[derive(Clone, Debug)]
pub struct Task {
    /// As it was offered.
    pub offer: Arc<Offer>,
    /// Cancelled when the task is not wanted any more, has been given to somebody else, or the line has been down for 45 s.
    /// Whatever the handler answers then is not told.
    pub cancelled: CancellationToken,
    client: Client,
    percent: Arc<AtomicU64>,
}

impl Task {
    /// Tells how far it is, from 0 to 100.
    ///
    /// # Errors
    /// If the call fails; the work may go on all the same.
    pub async fn progress(&self, percent: u8, message: &str) -> Result<(), CallError> {
        self.percent.store(percent.into(), Ordering::Relaxed);
        self.say("delegation_progress", json!({"progress": percent.min(100), "message": message})).await.map(drop)
    }

    /// Writes an entry of the context that it shares with the delegator; answers its version.
    ///
    /// # Errors
    /// If the call fails, or the entry has another version.
    pub async fn put_context(&self, name: &str, value: &Value, version: Option<u64>) -> Result<u64, CallError> {
        delegation::put_context(&self.client, &self.offer.delegation_id, name, value, version).await
    }

    /// The context that it shares with the delegator, or some entries of it.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn context(&self, names: &[&str]) -> Result<Value, CallError> {
        let payload = json!({"delegationId": self.offer.delegation_id, "names": names});
        self.client.call("context_get", &payload).await
    }

    /// Says something of this attempt; answers whether it counts.
    async fn say(&self, kind: &'static str, mut payload: Value) -> Result<bool, CallError> {
        #[derive(Deserialize)]
        struct Taken {
            outcome: String,
        }
        payload["delegationId"] = self.offer.delegation_id.clone().into();
        payload["attempt"] = self.offer.attempt.into();
        let taken: Taken = self.client.call(kind, &payload).await?;
        Ok(taken.outcome != "LATE")
    }

    /// Says it until it is heard or refused.
    async fn insist(&self, kind: &'static str, payload: Value) -> Result<bool, CallError> {
        loop {
            match self.say(kind, payload.clone()).await {
                Err(CallError::TimedOut | CallError::RateLimited(_)) => tokio::time::sleep(AGAIN).await,
                answered => return answered,
            }
        }
    }

    /// Signs of progress, as often as the delegator wants them.
    async fn beat(&self) {
        let Some(every) = self.offer.heartbeat_ms else { return std::future::pending().await };
        loop {
            tokio::time::sleep(Duration::from_millis((every / 2).max(100))).await;
            let percent = self.percent.load(Ordering::Relaxed);
            // One that is lost is followed by the next.
            self.say("delegation_progress", json!({"progress": percent})).await.ok();
        }
    }
}

type Handler = Arc<dyn Fn(Task) -> BoxFuture<'static, Result<Value, TaskFailed>> + Send + Sync>;
type Judge = Arc<dyn Fn(&Offer) -> Result<(), String> + Send + Sync>;

/// Takes tasks until it is stopped or dropped.
#[derive(Debug)]
pub struct Worker {
    client: Client,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Worker {
    pub(crate) async fn start(
        client: &Client,
        options: WorkOptions,
        judge: Judge,
        handler: Handler,
    ) -> Result<Worker, CallError> {
        let (offers, incoming) = mpsc::channel(OFFERS);
        client.desk().send(Notice::Works(offers)).await.map_err(|_| crate::Stopped::Closed)?;
        client.call::<Value>("register", &options).await?;
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let shop = Shop {
            client: client.clone(),
            options,
            judge,
            handler,
            running: HashMap::new(),
            tasks: tasks.clone(),
            stopping: stopping.clone(),
        };
        tasks.spawn(shop.run(incoming));
        Ok(Worker { client: client.clone(), stopping, tasks })
    }

    /// Takes no more tasks, and waits until those that run have ended.
    ///
    /// # Errors
    /// If the call fails that says so.
    pub async fn stop(self) -> Result<(), CallError> {
        let said = self.client.call::<Value>("deregister", &json!({})).await.map(drop);
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        said
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// What a worker's own task holds.
struct Shop {
    client: Client,
    options: WorkOptions,
    judge: Judge,
    handler: Handler,
    /// By delegation: the attempt, and how to end it.
    running: HashMap<String, (u32, CancellationToken)>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Shop {
    async fn run(mut self, mut incoming: mpsc::Receiver<Delivery>) {
        let (ended, mut ends) = mpsc::channel::<(String, u32)>(OFFERS);
        let mut sessions = self.client.sessions();
        let mut session = self.client.session();
        loop {
            let is_down = session.is_none() && !self.running.is_empty();
            tokio::select! {
                () = self.stopping.cancelled() => return,
                delivery = incoming.recv() => match delivery {
                    Some(delivery) => self.take(delivery, &ended).await,
                    None => return,
                },
                Some((id, attempt)) = ends.recv() => {
                    if self.running.get(&id).is_some_and(|(running, _)| *running == attempt) {
                        self.running.remove(&id);
                    }
                }
                changed = sessions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let next = self.client.session();
                    // A registry forgets who has been away for long.
                    if next.is_some() && next != session {
                        self.register_again();
                    }
                    session = next;
                }
                () = tokio::time::sleep(UNCERTAIN), if is_down => {
                    self.running.drain().for_each(|(_, (_, cancelled))| cancelled.cancel());
                }
            }
        }
    }

    fn register_again(&self) {
        let (client, options) = (self.client.clone(), self.options.clone());
        self.tasks.spawn(async move {
            // The next connection tries again.
            client.call::<Value>("register", &options).await.ok();
        });
    }

    async fn take(&mut self, delivery: Delivery, ended: &mpsc::Sender<(String, u32)>) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Ended {
            delegation_id: String,
        }
        if delivery.event_type.as_str() != "delegation.offered" {
            if let Ok(Ended { delegation_id }) = delivery.json()
                && let Some((_, cancelled)) = self.running.remove(&delegation_id)
            {
                cancelled.cancel();
            }
            delivery.ack().await.ok();
            return;
        }
        let offer: Offer = match delivery.json() {
            Ok(offer) => offer,
            Err(error) => {
                delivery.reject(&format!("not an offer: {error}")).await.ok();
                return;
            }
        };
        let is_full = self.running.len() >= self.options.max_concurrent as usize;
        let judged = if is_full { Err("full".to_owned()) } else { (self.judge)(&offer) };
        let (id, attempt) = (offer.delegation_id.clone(), offer.attempt);
        let task = Task {
            offer: Arc::new(offer),
            cancelled: CancellationToken::new(),
            client: self.client.clone(),
            percent: Arc::new(AtomicU64::new(0)),
        };
        if judged.is_ok() {
            self.running.insert(id.clone(), (attempt, task.cancelled.clone()));
        }
        let (handler, ended) = (self.handler.clone(), ended.clone());
        self.tasks.spawn(async move {
            match judged {
                Ok(()) => work(&task, &handler, delivery).await,
                Err(reason) => {
                    let refusal = json!({"accepted": false, "reason": reason});
                    if task.insist("delegation_response", refusal).await.is_ok() {
                        delivery.ack().await.ok();
                    }
                }
            }
            // A shop that is closed does not count.
            ended.send((id, attempt)).await.ok();
        });
    }
}

/// Accepts, works, and tells the result.
async fn work(task: &Task, handler: &Handler, delivery: Delivery) {
    let accepted = task.insist("delegation_response", json!({"accepted": true})).await;
    // An offer whose answer was not heard comes again; one that was refused is over.
    delivery.ack().await.ok();
    if !matches!(accepted, Ok(true)) {
        return;
    }
    let result = tokio::select! {
        result = handler(task.clone()) => result,
        () = task.cancelled.cancelled() => return,
        () = task.beat() => return,
    };
    let told = match result {
        Ok(result) => json!({"status": "completed", "result": result}),
        Err(TaskFailed(error)) => {
            json!({"status": "failed", "error": if error.is_empty() { "failed" } else { &error }})
        }
    };
    // A task that is somebody else's by now has its result elsewhere.
    task.insist("delegation_result", told).await.ok();
}
