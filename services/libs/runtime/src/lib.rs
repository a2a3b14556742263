//! What every process of Waystation shares: its clock, its life from start to stop, its admin page.

mod admin;
mod clock;
mod entropy;
mod lifecycle;
mod neighbours;
mod service;
pub mod settings;
mod tls;
mod vitals;

use std::time::Duration;

use waystation_telemetry::traces::Tracer;

pub use admin::Readiness;
pub use clock::Clock;
pub use entropy::Entropy;
pub use lifecycle::{Lifecycle, shutdown_signal};
pub use neighbours::Neighbours;
pub use service::{Service, StartError, bind, run};
pub use tls::{Accepted, Certificates, KnownPeer, Tls, TlsSettings, service_of};

/// How long the last spans may take to the collector.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// What a service is given to run with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// Reads time.
    pub clock: Clock,
    /// Makes ids and keys.
    pub entropy: Entropy,
    /// Owns tasks and tells when to stop.
    pub lifecycle: Lifecycle,
    /// How other services are reached.
    pub reach: Reach,
    /// Whether the service wants traffic.
    pub readiness: Readiness,
    /// Those that were read.
    pub certificates: Certificates,
    /// Records what becomes of messages; usually nothing.
    pub tracer: Tracer,
}

/// How services reach each other. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Those in this process.
    pub neighbours: Neighbours,
    /// To others and from others; `None`: in the clear.
    pub tls: Option<Tls>,
    /// Callers are asked to connect anew after this time, so that replicas that came meanwhile get their share; what is
    /// under way is finished. `None`: never.
    pub connection_age: Option<Duration>,
}

impl Default for Reach {
    fn default() -> Reach {
        Reach { neighbours: Neighbours::default(), tls: None, connection_age: Some(settings::CONNECTION_AGE) }
    }
}

impl Context {
    /// The clock and randomness of this host.
    pub fn of_host() -> Context {
        Context {
            clock: Clock::of_host(),
            entropy: Entropy::of_host(),
            lifecycle: Lifecycle::default(),
            reach: Reach::default(),
            readiness: Readiness::default(),
            certificates: Certificates::default(),
            tracer: Tracer::default(),
        }
    }

    /// The same, with TLS to other services and from them.
    #[must_use]
    pub fn with_tls(&self, tls: Option<Tls>) -> Context {
        Context { reach: Reach { tls, ..self.reach.clone() }, ..self.clone() }
    }

    /// Sends the last spans, if the collector takes them soon.
    pub async fn close_traces(&self) {
        let tracer = self.tracer.clone();
        let closed = tokio::task::spawn_blocking(move || tracer.close(LAST_SPANS)).await;
        closed.unwrap_or_else(|error| tracing::warn!("the last spans were not sent: {error}"));
    }

    /// For another service in the same process: with a life of its own.
    #[must_use]
    pub fn neighbour(&self) -> Context {
        Context { reach: self.reach.clone(), ..Context::of_host() }
    }
}
