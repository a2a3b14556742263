//! The other end of the protocol: what a client writes and reads, as JSON text frames.
//!
//! A client is lenient where a gateway is strict: it ignores members and frame types that it does not know, so that an
//! older client understands a newer gateway.

mod inbound;
mod outbound;
mod payload;

pub use inbound::{
    AckResult, AuthRefreshed, AuthRefused, FeedItem, GapNotice, GapSpan, Garbage, HeartbeatAck, Inbound, Mail, Refused,
    SendAck, Subscribed, Told, Welcome, decode,
};
pub use outbound::{Announced, Outbound, Remembered, encode, encode_call};

#[cfg(test)]
mod tests;
