//! What every process of Waystation shares: its clock, its life from start to stop, its admin page.

mod admin;
mod clock;
mod entropy;
mod lifecycle;
mod neighbours;
mod service;
pub mod settings;

pub use admin::{Admin, Readiness};
pub use clock::Clock;
pub use entropy::Entropy;
pub use lifecycle::{Lifecycle, shutdown_signal};
pub use neighbours::Neighbours;
pub use service::{Service, StartError, bind, run};

/// What a service is given to run with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// Reads time.
    pub clock: Clock,
    /// Makes ids and keys.
    pub entropy: Entropy,
    /// Owns tasks and tells when to stop.
    pub lifecycle: Lifecycle,
    /// Services in this process.
    pub neighbours: Neighbours,
}

impl Context {
    /// The clock and randomness of this host.
    pub fn of_host() -> Context {
        Context {
            clock: Clock::of_host(),
            entropy: Entropy::of_host(),
            lifecycle: Lifecycle::default(),
            neighbours: Neighbours::default(),
        }
    }

    /// For another service in the same process: with a life of its own.
    #[must_use]
    pub fn neighbour(&self) -> Context {
        Context { neighbours: self.neighbours.clone(), ..Context::of_host() }
    }
}
