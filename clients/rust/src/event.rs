//! What a client tells of itself.

use std::time::Duration;

use waystation_domain::{SessionId, Timestamp};
use waystation_wire::client::{GapNotice, Refused};

use crate::error::{Disconnect, Stopped};
use crate::retry::Breaker;

/// What has happened to the connection. New kinds may come.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Logged in.
    Connected {
        /// This connection.
        session: SessionId,
        /// The mailbox goes on where the client stopped.
        resumed: bool,
        /// Another session of the orchestrator receives the mailbox.
        standby: bool,
    },
    /// The connection has ended; the client comes back.
    Disconnected {
        /// Why.
        reason: Disconnect,
        /// When it tries again.
        after: Duration,
        /// How many attempts have failed in a row.
        failures: u32,
    },
    /// The breaker has opened, tries, or is closed again.
    Breaker(Breaker),
    /// All that waited in the mailbox has been received.
    Replayed,
    /// Something left the mailbox or the feed otherwise than by an ack.
    Gap(GapNotice),
    /// The store may have lost what this client has seen. It is delivered again, or gone.
    PossiblyLost,
    /// The gateway will stop: the client moves to another (async-nats calls this lame duck mode).
    LameDuck {
        /// As the gateway said.
        reason: String,
        /// When the client connects again.
        after: Duration,
    },
    /// A subscription's reader is too slow: it will read what it missed once it has read what it has.
    SlowConsumer,
    /// The token was renewed.
    TokenRenewed,
    /// No new token could be had; the present one is still good.
    TokenNotRenewed(String),
    /// The clock of this host is wrong by so much, or the gateway's is.
    ClockSkew {
        /// Of the gateway.
        gateway: Timestamp,
        /// Of this host.
        here: Timestamp,
    },
    /// The gateway refused a frame that nobody waits for.
    Refused(Refused),
    /// The gateway takes no more for a while.
    RateLimited {
        /// Type of the frame.
        action: String,
        /// Until it takes them again.
        after: Duration,
    },
    /// The gateway said something that this version does not know.
    Unknown {
        /// Type of the frame.
        kind: String,
    },
    /// The client has ended.
    Stopped(Stopped),
}
