//! Five ways to receive a feed, each over lines that break: whatever happens, each sees the same events in the same order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use waystation_proto::common::v1::FeedPosition;
use waystation_proto::router::v1::watch_events_response::What;
use waystation_proto::router::v1::{PublishEventRequest, PublishEventsRequest, WatchEventsRequest};

use crate::daemon::Received;
use crate::{Backend, Conductor, Daemon, Fleet, Sse, try_http};

/// Typed, so that clients of the conductor see it too.
const EVENT_TYPE: &str = "scheduler.execution-completed";
/// After something did not work.
const AGAIN: Duration = Duration::from_millis(100);
/// A connection that says nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// How to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Socket,
    Stream,
    Poll,
    Conductor,
    Backend,
}

impl Way {
    pub const ALL: [Way; 5] = [Way::Socket, Way::Stream, Way::Poll, Way::Conductor, Way::Backend];
}

/// Where everything is.
struct Places {
    /// For WebSockets and for REST.
    gateways: Vec<(String, String)>,
    routers: Vec<Backend>,
    tokens: Vec<String>,
}

/// How far each has come; shared with whoever disturbs them.
pub struct Subscribers {
    places: Arc<Places>,
    tasks: JoinSet<(Way, u64)>,
    seen: Arc<[AtomicU64; Way::ALL.len()]>,
    total: u64,
}

fn event(number: u64) -> PublishEventRequest {
    let data = json!({"executionId": "x", "scheduleId": "s", "status": "success", "duration": number});
    PublishEventRequest {
        event_id: format!("e-{number}"),
        event_type: EVENT_TYPE.into(),
        data: data.to_string().into(),
        ..Default::default()
    }
}

impl Subscribers {
    /// Receivers of `total` events, each of which breaks its line `breaks` times.
    pub async fn start(fleet: &Fleet, total: u64, breaks: u64) -> Subscribers {
        let mut tokens = Vec::new();
        for way in Way::ALL {
            tokens.push(fleet.token(&format!("{way:?}").to_lowercase()).await);
        }
        let places = Arc::new(Places {
            gateways: (0..fleet.gateways.len()).map(|n| (fleet.url(n), fleet.http_url(n))).collect(),
            routers: (0..fleet.routers.len()).map(|n| fleet.backend(n)).collect(),
            tokens,
        });
        let seen: Arc<[AtomicU64; Way::ALL.len()]> = Arc::default();
        let mut tasks = JoinSet::new();
        for (index, way) in Way::ALL.into_iter().enumerate() {
            let receiver = Receiver {
                way,
                places: places.clone(),
                token: places.tokens[index].clone(),
                seen: seen.clone(),
                index,
                next: 0,
                total,
                each: total / (breaks + 1) + 1,
                turn: index,
                position: None,
            };
            tasks.spawn(async move { (way, receiver.run().await) });
        }
        Subscribers { places, tasks, seen, total }
    }

    /// Publishes everything, each event until it is answered. Calls `at` with the number of each batch.
    pub async fn publish(&self, mut at: impl AsyncFnMut(u64)) {
        let mut number = 0;
        let mut turn = 0;
        while number < self.total {
            at(number).await;
            let until = (number + 50).min(self.total);
            let events: Vec<_> = (number..until).map(event).collect();
            while !published(&self.places.routers[turn % self.places.routers.len()], events.clone()).await {
                turn += 1;
                tokio::time::sleep(AGAIN).await;
            }
            turn += 1;
            number = until;
        }
    }

    /// What the slowest has seen.
    pub fn slowest(&self) -> u64 {
        self.seen.iter().map(|seen| seen.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// Waits until each has seen everything; answers how often each has connected.
    pub async fn finish(mut self, patience: Duration) -> Vec<(Way, u64)> {
        let all = async {
            let mut ended = Vec::new();
            while let Some(done) = self.tasks.join_next().await {
                ended.push(done.unwrap());
            }
            ended
        };
        let ended = tokio::time::timeout(patience, all).await;
        let seen: Vec<u64> = self.seen.iter().map(|seen| seen.load(Ordering::Acquire)).collect();
        ended.unwrap_or_else(|_| panic!("of {} events they have seen {seen:?}", self.total))
    }
}

/// Whether every event of a batch was published, now or before.
async fn published(backend: &Backend, events: Vec<PublishEventRequest>) -> bool {
    let request = PublishEventsRequest { events };
    let publish = async {
        let answers = backend.router.clone().publish_events(tokio_stream::iter([request])).await.ok()?;
        answers.into_inner().message().await.ok()?
    };
    let Ok(Some(answer)) = tokio::time::timeout(SILENCE, publish).await else { return false };
    use waystation_proto::router::v1::publish_event_result::Outcome;
    answer.results.iter().all(|result| matches!(result.outcome, Some(Outcome::Published(_))))
}

struct Receiver {
    way: Way,
    places: Arc<Places>,
    token: String,
    seen: Arc<[AtomicU64; Way::ALL.len()]>,
    index: usize,
    /// Number of the next event.
    next: u64,
    total: u64,
    /// Events on one connection.
    each: u64,
    turn: usize,
    /// As its way of receiving tells it.
    position: Option<String>,
}

impl Receiver {
    async fn run(mut self) -> u64 {
        let mut connections = 0;
        while self.next < self.total {
            self.turn += 1;
            let until = (self.next / self.each + 1) * self.each;
            let begun = self.next;
            match self.way {
                Way::Socket => self.by_socket(until).await,
                Way::Stream => self.by_stream(until).await,
                Way::Poll => self.by_poll(until).await,
                Way::Conductor => self.as_conductor(until).await,
                Way::Backend => self.as_backend(until).await,
            };
            connections += u64::from(self.next > begun);
            tokio::time::sleep(AGAIN).await;
        }
        connections
    }

    /// Takes what follows; what was seen before must not come again, and nothing may be missing.
    fn take(&mut self, data: &Value, position: String) {
        assert_eq!(data["duration"], self.next, "{:?} after {:?}", self.way, self.position);
        self.next += 1;
        self.position = Some(position);
        self.seen[self.index].store(self.next, Ordering::Release);
    }

    fn gateway(&self) -> (String, String) {
        self.places.gateways[self.turn % self.places.gateways.len()].clone()
    }

    async fn by_socket(&mut self, until: u64) -> Option<()> {
        let at = self.position.clone().unwrap_or_else(|| "0.0".into());
        let (epoch, sequence) = at.split_once('.')?;
        let feed = json!({"epoch": epoch, "position": sequence.parse::<u64>().ok()?});
        let more = json!({"subscriptions": ["scheduler.*"], "resume": {"feed": feed}});
        let mut daemon = Daemon::try_connect_with(&self.gateway().0, "socket", "d1", &self.token, more).await?;
        while self.next < until.min(self.total) {
            let Received::Frame(frame) = daemon.receive(SILENCE).await else { return None };
            assert_ne!(frame["type"], "gap", "{frame}");
            if frame["type"] == "event" {
                let payload = &frame["payload"];
                let position = format!("{}.{}", payload["epoch"].as_str()?, payload["sequence"]);
                self.take(&payload["data"], position);
            }
        }
        Some(())
    }

    async fn by_stream(&mut self, until: u64) -> Option<()> {
        let path = "/api/daemon/events?types=scheduler.*&cursor=~0-0";
        let last = self.position.clone();
        let mut stream = Sse::try_open(&self.gateway().1, path, &self.token, last.as_deref()).await?.ok()?;
        while self.next < until.min(self.total) {
            let event = tokio::time::timeout(SILENCE, stream.try_next()).await.ok()??;
            assert_ne!(event.event, "gap", "{event:?}");
            if event.event == "message" {
                self.take(&event.data["payload"], event.id);
            }
        }
        Some(())
    }

    async fn by_poll(&mut self, until: u64) -> Option<()> {
        while self.next < until.min(self.total) {
            let cursor = self.position.clone().unwrap_or_else(|| "~0-0".into());
            let path = format!("/api/daemon/events?types=scheduler.*&wait=2&limit=50&cursor={cursor}");
            let request = Request::get(path).header("authorization", format!("Bearer {}", self.token));
            let request = request.body(String::new()).unwrap();
            let (status, answer) = try_http(&self.gateway().1, request, Duration::from_secs(10)).await?;
            if status != 200 {
                return None;
            }
            let after = answer["cursor"].as_str()?.to_owned();
            for item in answer["events"].as_array()? {
                assert_eq!(item["type"], EVENT_TYPE, "{item}");
                self.take(&item["payload"], after.clone());
            }
            self.position = Some(after);
        }
        Some(())
    }

    async fn as_conductor(&mut self, until: u64) -> Option<()> {
        let protocols = format!("waystation.events.v1, bearer.{}", self.token);
        let mut conductor = Conductor::try_connect(&self.gateway().1, &protocols).await?.ok()?;
        let position = self.position.clone().unwrap_or_else(|| "0000000000000000.0".into());
        let subscribe = json!({"type": "subscribe", "categories": ["scheduler"], "position": position});
        if !conductor.try_send(subscribe).await {
            return None;
        }
        while self.next < until.min(self.total) {
            let frame = tokio::time::timeout(SILENCE, conductor.try_next()).await.ok()??;
            assert_ne!(frame["type"], "gap", "{frame}");
            if frame["type"] == "event" {
                let position = frame["position"].as_str()?.to_owned();
                self.take(&frame["data"], position);
            }
        }
        Some(())
    }

    async fn as_backend(&mut self, until: u64) -> Option<()> {
        let at = self.position.clone().unwrap_or_else(|| ".0".into());
        let (epoch, sequence) = at.split_once('.')?;
        let position = FeedPosition { epoch: epoch.into(), sequence: sequence.parse().ok()? };
        let event_types = vec!["scheduler.*".into()];
        let request = WatchEventsRequest { position: Some(position), event_types, ..Default::default() };
        let mut router = self.places.routers[self.turn % self.places.routers.len()].router.clone();
        let watch = tokio::time::timeout(SILENCE, router.watch_events(request)).await.ok()?;
        let mut watch = watch.ok()?.into_inner();
        while self.next < until.min(self.total) {
            let told = tokio::time::timeout(2 * SILENCE, watch.message()).await.ok()?.ok()??;
            match told.what? {
                What::Event(event) => {
                    let position = event.position.clone()?;
                    let position = format!("{}.{}", position.epoch, position.sequence);
                    self.take(&serde_json::from_slice(&event.data).unwrap(), position);
                }
                What::Gap(gap) => panic!("{gap:?}"),
                What::KeepAlive(_) => {}
            }
        }
        Some(())
    }
}
