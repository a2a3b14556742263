//! What is known of an orchestrator that takes tasks.

use serde::{Deserialize, Serialize};

use super::Capability;
use crate::OrchestratorId;

/// Capabilities of one orchestrator.
const MOST_CAPABILITIES: usize = 64;
/// Tasks of one orchestrator at a time.
const MOST_SLOTS: u32 = 10_000;
/// Longest name, region and tier, in bytes.
const MOST_TEXT: usize = 128;
/// Largest weight.
const MOST_WEIGHT: u32 = 1_000;

/// What an orchestrator says that it can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Who.
    pub id: OrchestratorId,
    /// For people; may be empty.
    pub name: String,
    /// Where it runs; empty: nobody said.
    pub region: String,
    /// As its platform sorts them; may be empty.
    pub tier: String,
    /// What it can do, by name.
    pub capabilities: Vec<Capability>,
    /// Tasks that it takes at a time, at least 1.
    pub max_concurrent: u32,
    /// How much it should get beside others, by the strategy `weighted`: 1 to 1,000, usually 100.
    pub weight: u32,
    /// Tokens that it may use up; `None`: nobody counts.
    pub token_limit: Option<u64>,
}

/// Which field of a registration cannot be taken, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct RegistrationError {
    /// As the contract calls it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Registration {
    /// Looks whether it can be taken.
    ///
    /// # Errors
    /// The first field that cannot.
    pub fn check(&self) -> Result<(), RegistrationError> {
        let problem = |field, problem| Err(RegistrationError { field, problem });
        for (field, text) in [("name", &self.name), ("region", &self.region), ("tier", &self.tier)] {
            if text.len() > MOST_TEXT {
                return problem(field, "must have at most 128 bytes");
            }
        }
        if self.capabilities.len() > MOST_CAPABILITIES {
            return problem("capabilities", "must have at most 64 elements");
        }
        let twice =
            |(at, one): (usize, &Capability)| self.capabilities[..at].iter().any(|known| known.name == one.name);
        if self.capabilities.iter().enumerate().any(twice) {
            return problem("capabilities", "must name each capability once");
        }
        if !(1..=MOST_SLOTS).contains(&self.max_concurrent) {
            return problem("max_concurrent", "must be 1 to 10,000");
        }
        if !(1..=MOST_WEIGHT).contains(&self.weight) {
            return problem("weight", "must be 1 to 1,000");
        }
        Ok(())
    }
}

/// Whether tasks go to an orchestrator, by what is seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// Connected, heard not long ago.
    Online,
    /// It says that it has much to do: others come first.
    Busy,
    /// Reconnecting, or not heard for a while: others come first.
    Degraded,
    /// It finishes what it has, and takes nothing new.
    Draining,
    /// It has had no session for a minute.
    Offline,
}

impl Standing {
    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Online => "online",
            Standing::Busy => "busy",
            Standing::Degraded => "degraded",
            Standing::Draining => "draining",
            Standing::Offline => "offline",
        }
    }

    /// How healthy that is, in thousandths.
    pub(super) fn health(self) -> u32 {
        match self {
            Standing::Online => 1_000,
            Standing::Busy => 500,
            Standing::Degraded => 250,
            Standing::Draining | Standing::Offline => 0,
        }
    }
}
