//! Calls to a service with several replicas: found by DNS or listed, taken in turn, avoided while they fail.
//!
//! The transport's own balancer keeps offering a replica that refuses connections, so that with two replicas of which
//! one is dead every other call would fail. This one leaves it alone until its health service answers again: no call
//! of a user finds out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::Service;
use waystation_runtime::Context;

use crate::client::{Target, run_until_stop};
use crate::fault::Fault;

/// How often names are resolved: a new replica gets calls after this time at the latest.
const RESOLVE_EVERY: Duration = Duration::from_secs(3);
/// A replica that failed is asked for its health after so long, again and again.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// How long it may take to answer.
const PROBE_ANSWER: Duration = Duration::from_secs(1);
/// A call that its caller gave up after so long makes its replica one to avoid.
const HANGS: Duration = Duration::from_secs(1);

/// A channel to all replicas of a service. Cheap to clone.
#[derive(Clone)]
pub struct Balanced(Arc<Inner>);

struct Inner {
    targets: Vec<Target>,
    replicas: ArcSwap<BTreeMap<SocketAddr, Replica>>,
    turn: AtomicUsize,
    context: Context,
}

#[derive(Clone)]
struct Replica {
    channel: Channel,
    /// It failed, and its health service has not answered since.
    failing: Arc<AtomicBool>,
}

impl Balanced {
    /// Replicas behind addresses such as `http://router:8782`; a name stands for everything that it resolves to.
    /// Resolves when names have been looked up once.
    ///
    /// # Errors
    /// If there is no address, or one is no URI with a host.
    pub async fn new(addresses: &[String], context: &Context) -> Result<Balanced, Fault> {
        if addresses.is_empty() {
            return Err(Fault::field("address", "at least one is needed"));
        }
        let targets = addresses.iter().map(|address| Target::read(address)).collect::<Result<Vec<_>, _>>()?;
        let names = targets.iter().any(|target| target.host.parse::<std::net::IpAddr>().is_err());
        let balanced = Balanced(Arc::new(Inner {
            targets,
            replicas: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            context: context.clone(),
        }));
        balanced.resolve().await;
        if names {
            let (of_task, task_context) = (Arc::downgrade(&balanced.0), context.clone());
            context.lifecycle.spawn(async move {
                while run_until_stop(&task_context, tokio::time::sleep(RESOLVE_EVERY)).await.is_some() {
                    let Some(inner) = of_task.upgrade() else { return };
                    Balanced(inner).resolve().await;
                }
            });
        }
        Ok(balanced)
    }

    /// Looks names up. If one cannot be looked up, everything known stays.
    async fn resolve(&self) {
        let known = self.0.replicas.load_full();
        let mut replicas = BTreeMap::new();
        for target in &self.0.targets {
            let Target { host, port, .. } = target;
            let found = match tokio::net::lookup_host((host.as_str(), *port)).await {
                Ok(found) => found.collect::<Vec<_>>(),
                Err(error) => {
                    tracing::warn!("cannot look up {host}: {error}");
                    known.keys().copied().collect()
                }
            };
            for address in found {
                let known = known.get(&address).cloned();
                replicas.insert(address, known.unwrap_or_else(|| self.replica(target, address)));
            }
        }
        self.0.replicas.store(Arc::new(replicas));
    }

    /// The next one that is not failing; if all are, the next one.
    fn pick(&self) -> Option<Replica> {
        let replicas = self.0.replicas.load();
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed) % replicas.len().max(1);
        let in_turn = replicas.values().cycle().skip(turn).take(replicas.len());
        in_turn.min_by_key(|replica| replica.failing.load(Ordering::Relaxed)).cloned()
    }

    /// Leaves a replica alone until it says that it serves.
    fn avoid(&self, replica: &Replica) {
        if replica.failing.swap(true, Ordering::AcqRel) {
            return;
        }
        // Weak: what no name stands for any more is not asked for ever.
        let (channel, failing) = (replica.channel.clone(), Arc::downgrade(&replica.failing));
        let context = self.0.context.clone();
        context.lifecycle.clone().spawn(async move {
            while run_until_stop(&context, tokio::time::sleep(PROBE_EVERY)).await.is_some() {
                let Some(failing) = failing.upgrade() else { return };
                let mut health = HealthClient::new(channel.clone());
                let probe = health.check(HealthCheckRequest::default());
                if tokio::time::timeout(PROBE_ANSWER, probe).await.is_ok_and(|answer| answer.is_ok()) {
                    return failing.store(false, Ordering::Release);
                }
            }
        });
    }
}

impl Balanced {
    fn replica(&self, target: &Target, address: SocketAddr) -> Replica {
        Replica { channel: target.connect(address, &self.0.context.reach), failing: Arc::default() }
    }
}

/// Notices calls that were given up.
struct Watched<'a> {
    balanced: &'a Balanced,
    replica: &'a Replica,
    since: Instant,
    answered: bool,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if !self.answered && self.balanced.0.context.clock.instant().saturating_duration_since(self.since) >= HANGS {
            self.balanced.avoid(self.replica);
        }
    }
}

impl Service<http::Request<Body>> for Balanced {
    type Response = http::Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    /// The replica is chosen by the call; readiness of one says nothing of another.
    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let balanced = self.clone();
        Box::pin(async move {
            let Some(replica) = balanced.pick() else {
                return Err(tonic::Status::from(Fault::unavailable("no replica is known")).into());
            };
            let since = balanced.0.context.clock.instant();
            let mut channel = replica.channel.clone();
            let mut watched = Watched { balanced: &balanced, replica: &replica, since, answered: false };
            let called: Result<_, Error> = async {
                std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
                channel.call(request).await
            }
            .await;
            watched.answered = true;
            drop(watched);
            if called.is_err() {
                balanced.avoid(&replica);
            }
            called.map_err(Into::into)
        })
    }
}
