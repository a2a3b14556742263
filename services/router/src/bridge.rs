//! Publishers and readers that speak only Redis (daemon protocol, section 5): what they publish on channels becomes events,
//! and heartbeats are told on channels. Off unless configured.
//!
//! A channel is at most once: what is said while no router listens is lost. More than one may listen: the id of an event
//! makes one of what each of them publishes.

mod older;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;
use waystation_rpc::{Caller, Fault, retry_after_of};
use waystation_store::report::Report;
use waystation_store::{Channels, Said};
use waystation_token::Claims;

use crate::metrics::EventOutcome;
use crate::{Parts, feeds};

/// After a connection broke.
const AGAIN: Duration = Duration::from_secs(1);
/// An event that finds the store busy is tried so often.
const TRIES: usize = 5;
/// Heartbeats that wait to be told; more are let go of.
const QUEUE: usize = 1_024;
/// Heartbeats that are told at once.
const TOGETHER: usize = 256;

/// Where heartbeats are told, if anywhere. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Bridge(Option<mpsc::Sender<Said>>);

impl Bridge {
    /// A bridge, and what it has to tell.
    pub(crate) fn open() -> (Bridge, mpsc::Receiver<Said>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Bridge(Some(sender)), receiver)
    }

    /// Tells what daemons have said.
    pub(crate) fn tell(&self, said: &[Report], now: waystation_domain::Timestamp) {
        let Some(sender) = &self.0 else { return };
        for Report { mailbox, status, metrics, .. } in said {
            let metrics = metrics.as_ref().and_then(|json| serde_json::from_slice::<serde_json::Value>(json).ok());
            let payload = json!({
                "orchestratorId": mailbox.orchestrator, "status": status, "metrics": metrics, "timestamp": now.to_string(),
            });
            let channel = format!("daemon:heartbeats:{}", mailbox.organization);
            // Whoever does not keep up hears the next one.
            sender.try_send(Said { channel, payload: payload.to_string().into() }).ok();
        }
    }
}

/// Runs until the process stops.
pub(crate) fn start(parts: &Parts, channels: Channels, heartbeats: mpsc::Receiver<Said>) {
    let lifecycle = parts.context.lifecycle.clone();
    let (parts, speaking) = (parts.clone(), speak(channels.clone(), heartbeats));
    lifecycle.clone().spawn(async move {
        tokio::select! {
            () = listen(parts, channels) => {}
            () = speaking => {}
            () = lifecycle.stopping() => {}
        }
    });
}

async fn listen(parts: Parts, channels: Channels) {
    let per_organization = format!("{}:*", older::CHANNEL);
    // A router that has proved its name by a certificate may publish for every organization.
    let caller = Caller(Arc::new(Claims::of_certificate("router", parts.context.clock.now())));
    loop {
        match channels.listen(&[older::CHANNEL, &per_organization]).await {
            Ok(mut listener) => {
                while let Some(Said { channel, payload }) = listener.next().await {
                    let published = publish(&parts, &caller, &channel, &payload).await;
                    parts.metrics.bridged(match &published {
                        Ok(true) => EventOutcome::Duplicate,
                        Ok(false) => EventOutcome::Published,
                        Err(_) => EventOutcome::Refused,
                    });
                    if let Err(fault) = published {
                        tracing::warn!(channel, "an event of a publisher by Redis is refused: {fault:?}");
                    }
                }
                tracing::warn!("channels of Redis are not heard: the connection broke");
            }
            Err(unavailable) => tracing::warn!("channels of Redis are not heard: {unavailable}"),
        }
        sleep(AGAIN).await;
    }
}

/// Publishes what was said; answers whether it was known already.
async fn publish(parts: &Parts, caller: &Caller, channel: &str, payload: &[u8]) -> Result<bool, Fault> {
    let request = older::read(channel, payload)?;
    let mut tries = TRIES;
    loop {
        let wanted = feeds::read_request(parts, caller, request.clone(), None).await;
        let published = match wanted {
            Ok(wanted) => feeds::publish(parts, wanted).await,
            Err(fault) => Err(fault),
        };
        tries -= 1;
        match published {
            Ok(answer) => return Ok(answer.duplicate),
            Err(fault) => match retry_after_of(&tonic::Status::from(fault.clone())) {
                Some(wait) if tries > 0 => sleep(wait.min(AGAIN)).await,
                Some(_) | None => return Err(fault),
            },
        }
    }
}

async fn speak(channels: Channels, mut heartbeats: mpsc::Receiver<Said>) {
    let mut together = Vec::new();
    loop {
        match channels.speak().await {
            Ok(mut speaker) => loop {
                if heartbeats.recv_many(&mut together, TOGETHER).await == 0 {
                    return;
                }
                if let Err(unavailable) = speaker.say(&together).await {
                    tracing::warn!("heartbeats are not told: {unavailable}");
                    break;
                }
                together.clear();
            },
            Err(unavailable) => tracing::warn!("heartbeats are not told: {unavailable}"),
        }
        together.clear();
        sleep(AGAIN).await;
    }
}
