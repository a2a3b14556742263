//! Ports for servers that are killed and come back on the same one.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that outgoing connections get (`ip_local_port_range`, usually from 32,768): a port of those may be
/// taken while its server is away. The bus of a Redis cluster is 10,000 above.
const FIRST: u16 = 11_000;
const COUNT: u16 = 11_000;
const BUS: u16 = 10_000;

/// A port that is free, with the one of its bus, and is given once by this process.
///
/// # Panics
/// If none is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let candidates = (0..u32::from(COUNT)).map(|_| {
        // Processes of tests begin at different places.
        let place = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        FIRST + u16::try_from(place % u32::from(COUNT)).unwrap()
    });
    candidates.into_iter().find(|port| is_free(*port) && is_free(port + BUS)).expect("a free port")
}
