//! Brings mail about tasks to whoever is concerned.

use std::collections::HashMap;

use async_channel::Receiver;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::delegation::Heard;
use crate::delivery::Delivery;
use crate::error::Stopped;

/// What the desk is told.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A delegation is being made: what is not known may be about it.
    Delegating,
    /// It was made, or not.
    Delegated(Option<(String, mpsc::Sender<Heard>)>),
    /// Offers go there.
    Works(mpsc::Sender<Delivery>),
}

/// Who works, who waits, and what has come too early.
pub(crate) struct Desk {
    mail: Receiver<Delivery>,
    notices: mpsc::Receiver<Notice>,
    /// Where mail goes that concerns nobody here.
    others: async_channel::Sender<Result<Delivery, Stopped>>,
    worker: Option<mpsc::Sender<Delivery>>,
    delegators: HashMap<String, mpsc::Sender<Heard>>,
    delegating: usize,
    early: Vec<Delivery>,
}

impl Desk {
    pub(crate) fn new(
        mail: Receiver<Delivery>,
        notices: mpsc::Receiver<Notice>,
        others: async_channel::Sender<Result<Delivery, Stopped>>,
    ) -> Desk {
        let delegators = HashMap::new();
        Desk { mail, notices, others, worker: None, delegators, delegating: 0, early: Vec::new() }
    }

    /// Until the client ends.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                mail = self.mail.recv() => match mail {
                    Ok(delivery) => self.bring(delivery).await,
                    Err(_) => return,
                },
                Some(notice) = self.notices.recv() => self.note(notice).await,
            }
        }
    }

    async fn note(&mut self, notice: Notice) {
        match notice {
            Notice::Delegating => self.delegating += 1,
            Notice::Works(worker) => self.worker = Some(worker),
            Notice::Delegated(made) => {
                self.delegating = self.delegating.saturating_sub(1);
                self.delegators.retain(|_, delegator| !delegator.is_closed());
                self.delegators.extend(made);
                for delivery in std::mem::take(&mut self.early) {
                    self.bring(delivery).await;
                }
            }
        }
    }

    async fn bring(&mut self, delivery: Delivery) {
        let Ok(about) = delivery.json::<About>() else { return self.pass_on(delivery).await };
        if about.is_for_worker(delivery.event_type.as_str()) {
            match &self.worker {
                // What does not go through is dropped, and so given back.
                Some(worker) => drop(worker.send(delivery).await),
                None => self.pass_on(delivery).await,
            }
        } else if let Some(delegator) = self.delegators.get(&about.delegation_id) {
            match Heard::read(&delivery) {
                // Where there is no room the next word of progress says more.
                Some(heard) if heard.is_progress() => drop(delegator.try_send(heard)),
                // Everything else waits for room. A delegation that nobody looks at any more is let go.
                Some(heard) => drop(delegator.send(heard).await),
                None => {}
            }
            delivery.ack().await.ok();
        } else if self.delegating > 0 {
            self.early.push(delivery);
        } else {
            self.pass_on(delivery).await;
        }
    }

    async fn pass_on(&self, delivery: Delivery) {
        drop(self.others.send(Ok(delivery)).await);
    }
}

/// Whom mail about a task concerns.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    delegation_id: String,
    /// What a delegator is told of the next attempt.
    retry: Option<serde::de::IgnoredAny>,
    /// What a delegator is told of the end.
    error: Option<serde::de::IgnoredAny>,
}

impl About {
    fn is_for_worker(&self, event_type: &str) -> bool {
        match event_type {
            "delegation.offered" => true,
            "delegation.reassigned" => self.retry.is_none(),
            "delegation.cancelled" => self.error.is_none(),
            _ => false,
        }
    }
}
