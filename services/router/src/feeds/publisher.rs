//! The combining publisher: while events of an organization are on their way to the store, the next ones collect.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use waystation_domain::{FeedEvent, IncarnationId, MessageId, OrganizationId};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::gateway::v1::FeedPush;
use waystation_rpc::Fault;
use waystation_rpc::convert::feed_event_to;
use waystation_runtime::{Clock, Context};
use waystation_store::FeedStore;
use waystation_store::feed::{Interested, NewEvent, Publication, Publish, PublishRefused, Published, Retention};

use super::FeedHub;
use crate::gateways::Gateways;

/// Organizations share so many lanes; those of one lane wait for each other.
const LANES: u64 = 64;
/// Callers that may wait in a lane; more are refused at once, with a delay to come back after.
const QUEUE: usize = 2_048;
/// Callers whose events are published together.
const TOGETHER: usize = 64;
/// The table of gateways is at most a second old: one that is not in it for so long is no more.
const STRANGE_FOR: Duration = Duration::from_secs(10);

/// What became of events of one organization.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) outcomes: Vec<Result<Published, PublishRefused>>,
    /// Gateways with subscribers.
    pub(crate) gateways: u32,
}

type Outcome = Result<Told, Fault>;

struct Waiting {
    organization: OrganizationId,
    events: Vec<NewEvent>,
    answer: oneshot::Sender<Outcome>,
}

/// Publishes in the order of asking. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    lanes: Arc<[mpsc::Sender<Waiting>]>,
    doubt: Arc<AtomicBool>,
}

/// Events on their way.
pub(crate) struct Publishing(oneshot::Receiver<Outcome>);

impl Publishing {
    /// Resolves once the store has answered.
    pub(crate) async fn wait(self) -> Outcome {
        self.0.await.unwrap_or_else(|_| Err(Fault::unavailable("the router is stopping")))
    }
}

impl Publisher {
    pub(crate) fn start(store: Arc<dyn FeedStore>, gateways: &Gateways, hub: &FeedHub, context: &Context) -> Publisher {
        let (strangers, doubt) = (Arc::<Mutex<_>>::default(), Arc::<AtomicBool>::default());
        let start = |_| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let lane = Lane {
                store: store.clone(),
                gateways: gateways.clone(),
                hub: hub.clone(),
                strangers: Arc::clone(&strangers),
                doubt: doubt.clone(),
                clock: context.clock,
            };
            context.lifecycle.spawn(lane.run(receiver));
            sender
        };
        Publisher { lanes: (0..LANES).map(start).collect(), doubt: doubt.clone() }
    }

    /// Takes events in; those of one organization are published in the order of these calls.
    pub(crate) fn publish(&self, organization: OrganizationId, events: Vec<NewEvent>) -> Result<Publishing, Fault> {
        let mut hasher = DefaultHasher::new();
        organization.hash(&mut hasher);
        let lane = usize::try_from(hasher.finish() % LANES).unwrap_or(0);
        let (answer, receiver) = oneshot::channel();
        self.lanes[lane].try_send(Waiting { organization, events, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Fault::new(ErrorReason::Overloaded, "too many events at once").retry(Duration::from_millis(200))
            }
            mpsc::error::TrySendError::Closed(_) => Fault::unavailable("the router is stopping"),
        })?;
        Ok(Publishing(receiver))
    }

    /// Whether events may have been published of which no gateway was told, since it was last asked.
    pub(crate) fn take_doubt(&self) -> bool {
        self.doubt.swap(false, Ordering::AcqRel)
    }
}

/// Some organizations, one round after the other.
struct Lane {
    store: Arc<dyn FeedStore>,
    gateways: Gateways,
    hub: FeedHub,
    /// Interested incarnations that no table lists, and since when.
    strangers: Arc<Mutex<HashMap<IncarnationId, Instant>>>,
    doubt: Arc<AtomicBool>,
    clock: Clock,
}

/// What callers of one organization want published together.
#[derive(Default)]
struct Round {
    events: Vec<NewEvent>,
    /// How many events each brought.
    callers: Vec<(usize, oneshot::Sender<Outcome>)>,
}

impl Lane {
    /// Runs until every caller is gone.
    async fn run(self, mut receiver: mpsc::Receiver<Waiting>) {
        let mut together = Vec::with_capacity(TOGETHER);
        while receiver.recv_many(&mut together, TOGETHER).await > 0 {
            let mut rounds: HashMap<OrganizationId, Round> = HashMap::new();
            for Waiting { organization, events, answer } in together.drain(..) {
                let round = rounds.entry(organization).or_default();
                round.callers.push((events.len(), answer));
                round.events.extend(events);
            }
            join_all(rounds.into_iter().map(|(organization, round)| self.publish(organization, round))).await;
        }
    }

    async fn publish(&self, organization: OrganizationId, Round { events, callers }: Round) {
        let publish = Publish {
            organization: organization.clone(),
            events: events.clone(),
            retention: Retention::default(),
            gone: self.gone(),
        };
        match self.store.publish(publish, None).await {
            Ok(publication) => {
                self.tell(&organization, events, &publication);
                let gateways = u32::try_from(publication.interested.len()).unwrap_or(u32::MAX);
                let mut outcomes = publication.outcomes.into_iter();
                for (count, answer) in callers {
                    let told = Told { outcomes: outcomes.by_ref().take(count).collect(), gateways };
                    // A caller that has gone needs no answer; what it published is published.
                    answer.send(Ok(told)).ok();
                }
            }
            Err(unavailable) => {
                self.doubt.store(true, Ordering::Release);
                for (_, answer) in callers {
                    answer.send(Err(Fault::unavailable(&unavailable))).ok();
                }
            }
        }
    }

    /// Tells gateways and watchers, in the order of the store's answers.
    fn tell(&self, organization: &OrganizationId, events: Vec<NewEvent>, publication: &Publication) {
        let published: Vec<FeedEvent> = (events.into_iter().zip(&publication.outcomes))
            .filter_map(|(event, outcome)| match outcome {
                Ok(Published { position, duplicate: false }) => Some(placed(event, *position, publication.time)),
                Ok(_) | Err(_) => None,
            })
            .collect();
        let Some(last) = published.last() else { return };
        self.hub.grown(organization, last.position);
        if publication.interested.is_empty() {
            return;
        }
        self.note_strangers(&publication.interested);
        let push = FeedPush {
            organization_id: organization.to_string(),
            events: published.into_iter().map(feed_event_to).collect(),
        };
        for Interested { incarnation, address } in &publication.interested {
            self.gateways.push_feed(incarnation, address, push.clone());
        }
    }

    fn note_strangers(&self, interested: &[Interested]) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        for Interested { incarnation, .. } in interested {
            if self.gateways.address(incarnation).is_some() {
                strangers.remove(incarnation);
            } else {
                strangers.entry(incarnation.clone()).or_insert_with(|| self.clock.instant());
            }
        }
    }

    /// Incarnations that are no more, as far as this router knows.
    fn gone(&self) -> Vec<IncarnationId> {
        let now = self.clock.instant();
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever comes back later is met as a stranger again.
        strangers.retain(|_, since| now.saturating_duration_since(*since) < STRANGE_FOR * 60);
        let strange = strangers.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= STRANGE_FOR);
        let mut gone: Vec<IncarnationId> = strange.map(|(incarnation, _)| incarnation.clone()).collect();
        drop(strangers);
        gone.extend(self.gateways.liveness().gone);
        gone
    }
}

/// An event where the store has put it.
fn placed(event: NewEvent, position: waystation_domain::FeedPosition, time: waystation_domain::Timestamp) -> FeedEvent {
    let NewEvent { id, event_type, channel, trace, sender, audience, data } = event;
    let id = id.unwrap_or_else(|| MessageId::of_feed(position));
    FeedEvent { position, id, event_type, channel, trace, sender, audience, time, data }
}
