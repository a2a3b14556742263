//! gRPC as Waystation speaks it: errors, identities, policy, servers and clients.
//!
//! **Invariants:** a `Status` is made only here, from a [`Fault`]. No method can be called that the
//! policy table does not name.

mod activity;
mod balance;
mod client;
pub mod convert;
mod fault;
mod identity;
mod incoming;
mod keeper;
mod server;

pub use activity::{About, Activities, Watch};
pub use balance::Balanced;
pub use client::{Authorized, Bearer, ServiceLogin, channel};
pub use fault::{Fault, field_of, limit_of, reason_of, retry_after_of, status_of_element};
pub use identity::{Caller, Gate};
pub use incoming::Peer;
pub use keeper::{Heard, KeyKeeper};
pub use server::{GrpcServer, READINESS, Services};
