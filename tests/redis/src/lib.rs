//! Real Redis servers for tests: found or fetched, started on ports of their own, ended with the test.
//!
//! **Invariant:** a test that needs a Redis never runs without one: what cannot be had is a failure with a reason.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::missing_panics_doc)]

mod binary;
mod cluster;
mod ports;
mod server;
mod trio;

pub use cluster::RedisCluster;
pub use ports::free_port;
pub use server::{RedisOptions, RedisServer};
pub use trio::{MASTER, RedisTrio};
