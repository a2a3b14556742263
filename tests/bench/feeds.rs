//! What an event costs that many get: one is published, each subscriber has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::iter;
use hdrhistogram::Histogram;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use waystation_proto::auth::v1::{CreateApiKeyRequest, CreateOrganizationRequest, IssueTokenRequest};
use waystation_proto::router::v1::PublishEventRequest;
use waystation_test_redis::RedisOptions;
use waystation_tests::fleet::Size;
use waystation_tests::{Backend, Fleet};

use crate::clients::{Server, number_of, payload, subscribed};
use crate::usage::{cpu_seconds, resident_kib};

const EVENT_TYPE: &str = "bench.event";
const SUBSCRIBERS: usize = 1_000;
const SECONDS: u64 = 5;
/// Events to [`SUBSCRIBERS`] in a second, and for so many seconds.
const STEADY_RATE: u64 = 20;
const STEADY_SECONDS: u64 = 15;
/// Readers that never read, events that they do not read, and bytes of each.
const FROZEN: usize = 1_000;
const UNREAD: u64 = 2_000;
const UNREAD_BYTES: usize = 8_000;
/// Of a large fleet.
const WIDE: usize = 10_000;
const GATEWAYS: usize = 5;

fn event(organization: &str, data: String) -> PublishEventRequest {
    PublishEventRequest {
        organization_id: organization.into(),
        event_type: EVENT_TYPE.into(),
        data: data.into(),
        ..Default::default()
    }
}

/// A subscriber that reads frames and looks at nothing but their lengths, unless it is asked to.
struct Subscriber {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Subscriber {
    async fn connect(url: &str, orchestrator: &str, token: &str) -> Subscriber {
        Subscriber { stream: subscribed(url, orchestrator, token, EVENT_TYPE).await, buffer: Vec::new() }
    }

    /// Reads once; gives each frame's payload.
    async fn read(&mut self, mut see: impl FnMut(&[u8])) {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "the server stays");
        self.buffer.extend_from_slice(&piece[..count]);
        let mut at = 0;
        while let Some((begin, end)) = frame_at(&self.buffer[at..]) {
            see(&self.buffer[at + begin..at + end]);
            at += end;
        }
        self.buffer.drain(..at);
    }
}

/// Where the payload of the first frame of a server begins and ends, if it is all there.
fn frame_at(bytes: &[u8]) -> Option<(usize, usize)> {
    let (begin, length) = match bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(*short)),
    };
    (bytes.len() >= begin + length).then_some((begin, begin + length))
}

/// How many events have come to all.
#[derive(Default)]
struct Count {
    all: AtomicU64,
    each: u64,
    whole: Notify,
}

impl Count {
    fn add(&self, events: u64) {
        let before = self.all.fetch_add(events, Ordering::AcqRel);
        if (before + events) / self.each > before / self.each {
            self.whole.notify_one();
        }
    }

    async fn reaches(&self, events: u64) {
        while self.all.load(Ordering::Acquire) < events * self.each {
            self.whole.notified().await;
        }
    }
}

async fn connect_all(targets: Vec<(String, String, String)>) -> Vec<Subscriber> {
    let connecting = iter(targets).map(async |(url, name, token)| Subscriber::connect(&url, &name, &token).await);
    connecting.buffered(64).collect().await
}

fn count_all(tasks: &mut JoinSet<()>, subscribers: Vec<Subscriber>) -> Arc<Count> {
    let count = Arc::new(Count { each: subscribers.len() as u64, ..Count::default() });
    for mut subscriber in subscribers {
        let count = count.clone();
        tasks.spawn(async move {
            loop {
                let mut events = 0;
                subscriber.read(|_| events += 1).await;
                count.add(events);
            }
        });
    }
    count
}

async fn of_server(server: &Server, count: usize) -> Vec<(String, String, String)> {
    let names: Vec<String> = (0..count).map(|n| format!("orla-{n}")).collect();
    let tokens = server.tokens(&names).await;
    let url = &server.process.dev.gateway_url;
    names.into_iter().zip(tokens).map(|(name, token)| (url.clone(), name, token)).collect()
}

/// Deliveries per second and per second of server CPU, with so many events under way.
pub async fn fanout(server: Server, window: u64) -> [f64; 2] {
    let mut tasks = JoinSet::new();
    let count = count_all(&mut tasks, connect_all(of_server(&server, SUBSCRIBERS).await).await);
    let backend = server.backend();
    let mut published = 0;
    let mut publish = async |until: Instant| {
        while Instant::now() < until {
            backend.try_publish(event("", payload(published))).await.unwrap();
            published += 1;
            count.reaches((published + 1).saturating_sub(window)).await;
        }
        published
    };
    let before = publish(Instant::now() + Duration::from_secs(1)).await;
    let (begun, cpu) = (Instant::now(), cpu_seconds(&server.pids()));
    let after = publish(begun + Duration::from_secs(SECONDS)).await;
    let deliveries = (after - before) as f64 * SUBSCRIBERS as f64;
    let seconds = begun.elapsed().as_secs_f64();
    [deliveries / seconds, deliveries / (cpu_seconds(&server.pids()) - cpu)]
}

/// KiB that a reader costs that never reads, while megabytes are published, and how many were.
pub async fn frozen(server: Server) -> [f64; 2] {
    let mut tasks = JoinSet::new();
    let mut all = connect_all(of_server(&server, FROZEN + 1).await).await;
    let reads = vec![all.pop().unwrap()];
    let count = count_all(&mut tasks, reads);
    let backend = server.backend();
    sleep(Duration::from_secs(1)).await;
    let before = resident_kib(&server.pids());
    let pad = "x".repeat(UNREAD_BYTES);
    for number in 0..UNREAD {
        backend.try_publish(event("", format!(r#"{{"n":{number},"pad":"{pad}"}}"#))).await.unwrap();
        count.reaches(number.saturating_sub(8)).await;
    }
    count.reaches(UNREAD).await;
    let grown = resident_kib(&server.pids()) - before;
    // What the feed itself keeps is no reader's.
    let kept = (UNREAD as usize * UNREAD_BYTES / 1024) as f64;
    drop(all);
    [(grown - kept) / FROZEN as f64, kept / 1024.0]
}

/// From the moment at which an event should be published until a subscriber has it: p50, p99, p99.9 in µs.
pub async fn told(server: Server) -> [f64; 3] {
    let subscribers = connect_all(of_server(&server, SUBSCRIBERS).await).await;
    let begin = Instant::now() + Duration::from_millis(500);
    let total = STEADY_RATE * STEADY_SECONDS;
    let due = move |number: u64| begin + Duration::from_secs(1) * u32::try_from(number).unwrap() / STEADY_RATE as u32;
    let mut tasks: JoinSet<Histogram<u64>> = JoinSet::new();
    for mut subscriber in subscribers {
        tasks.spawn(async move {
            let mut latencies = Histogram::new(3).unwrap();
            while latencies.len() < total {
                let mut late = Vec::new();
                subscriber.read(|frame| late.push(due(number_of(&String::from_utf8_lossy(frame))).elapsed())).await;
                late.iter().for_each(|late| latencies.record(late.as_micros().max(1) as u64).unwrap());
            }
            latencies
        });
    }
    let backend = server.backend();
    let mut publishing = JoinSet::new();
    for number in 0..total {
        sleep_until(due(number)).await;
        let backend = backend.clone();
        publishing.spawn(async move { backend.try_publish(event("", payload(number))).await.unwrap() });
    }
    let mut all: Histogram<u64> = Histogram::new(3).unwrap();
    while let Some(done) = tasks.join_next().await {
        all.add(done.unwrap()).unwrap();
    }
    [0.5, 0.99, 0.999].map(|quantile| all.value_at_quantile(quantile) as f64)
}

/// Real processes: an auth, two routers, five gateways, a Redis with appendfsync everysec.
async fn fleet() -> Fleet {
    let everysec = RedisOptions { append_fsync: Some("everysec"), ..RedisOptions::default() };
    Fleet::start_sized(everysec, Size { gateways: GATEWAYS, ..Size::default() }).await
}

/// One organization whose subscribers are all over the gateways: µs of CPU for each delivery, ms from an event's publication
/// until all have it, and KiB of each subscriber.
pub async fn wide() -> [f64; 3] {
    let fleet = fleet().await;
    let before = resident_kib(&fleet.pids());
    let names: Vec<String> = (0..WIDE).map(|n| format!("orla-{n}")).collect();
    let (dev, mut backend) = (fleet.dev(0, 0), fleet.backend(0));
    let mut targets = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let token = issue(&mut backend, &dev.api_key, &dev.api_secret, name).await;
        targets.push((fleet.url(n % GATEWAYS), name.clone(), token));
    }
    let mut tasks = JoinSet::new();
    let count = count_all(&mut tasks, connect_all(targets).await);
    sleep(Duration::from_secs(3)).await;
    let kib = (resident_kib(&fleet.pids()) - before) / WIDE as f64;
    let (begun, cpu) = (Instant::now(), cpu_seconds(&fleet.pids()));
    let events = 50;
    for number in 0..events {
        backend.try_publish(event("", payload(number))).await.unwrap();
        count.reaches(number + 1).await;
    }
    let each = 1e3 / events as f64;
    let seconds = begun.elapsed().as_secs_f64();
    [(cpu_seconds(&fleet.pids()) - cpu) * 1e6 / (events as f64 * WIDE as f64), seconds * each, kib]
}

/// As many organizations, with one subscriber each: µs of CPU for each event, events a second, and KiB of each organization
/// with its subscriber.
pub async fn many() -> [f64; 3] {
    let fleet = fleet().await;
    let before = resident_kib(&fleet.pids());
    let (dev, operator) = (fleet.dev(0, 0), fleet.operator_token().await);
    let operator = Backend::at(&dev.router, &dev.auth, &operator);
    let making = (0..WIDE).map(|n| {
        let (mut operator, url) = (operator.clone(), fleet.url(n % GATEWAYS));
        async move {
            let organization_id = format!("org-{n}");
            let organization = CreateOrganizationRequest {
                organization_id: organization_id.clone(),
                name: organization_id.clone(),
                auto_create_orchestrators: true,
                ..Default::default()
            };
            operator.credentials.create_organization(organization).await.unwrap();
            let scopes = vec!["events:read".to_owned()];
            let key = CreateApiKeyRequest { organization_id, scopes, ..Default::default() };
            let key = operator.credentials.create_api_key(key).await.unwrap().into_inner();
            let token = issue(&mut operator, &key.api_key, &key.api_secret, "orla").await;
            (url, "orla".to_owned(), token)
        }
    });
    let targets = iter(making).buffered(16).collect().await;
    let mut tasks = JoinSet::new();
    let count = count_all(&mut tasks, connect_all(targets).await);
    sleep(Duration::from_secs(3)).await;
    let kib = (resident_kib(&fleet.pids()) - before) / WIDE as f64;
    let (begun, cpu) = (Instant::now(), cpu_seconds(&fleet.pids()));
    for first in (0..WIDE).step_by(64) {
        let all = (first..WIDE.min(first + 64)).map(|n| {
            let (operator, event) = (operator.clone(), event(&format!("org-{n}"), payload(0)));
            async move { operator.try_publish(event).await.unwrap() }
        });
        join_all(all).await;
    }
    count.reaches(1).await;
    let seconds = begun.elapsed().as_secs_f64();
    [(cpu_seconds(&fleet.pids()) - cpu) * 1e6 / WIDE as f64, WIDE as f64 / seconds, kib]
}

async fn issue(backend: &mut Backend, api_key: &str, api_secret: &str, orchestrator: &str) -> String {
    let request = IssueTokenRequest {
        api_key: api_key.into(),
        api_secret: api_secret.into(),
        orchestrator_id: orchestrator.into(),
        ..Default::default()
    };
    backend.auth.issue_token(request).await.unwrap().into_inner().access_token
}
