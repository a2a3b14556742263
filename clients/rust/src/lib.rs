//! Connects a daemon to Waystation. Write the handler; the rest is done here: connecting, logging in and renewing tokens,
//! coming back with jitter and a breaker, resuming where the mailbox and the feed stood, acknowledging, applying each message
//! once, queueing while offline, and showing how the connection is.
//!
//! - [`ConnectOptions`] make a [`Client`], a cheap handle.
//! - [`Client::messages`] are the mailbox: each [`Delivery`] is settled by ack, nack or reject.
//! - [`Client::subscribe`] reads events of the organization's feed.
//! - [`Client::send`] sends messages, online or not; [`Outgoing`] says what and to whom.
//! - [`Client::work`] takes tasks that orchestrators hand to each other, [`Client::delegate`] gives them away.
//! - [`ConnectOptions::state_file`] makes all of it survive the process.
//! - [`Event`]s, [`Client::health`] and [`Client::statistics`] tell how it goes; a client that ends says why: [`Stopped`].
//!
//! **Invariants:** the rules are in `core`, without I/O; one task owns the socket; every queue has a bound and a policy.

mod client;
mod core;
mod delivery;
mod driver;
mod error;
mod event;
mod health;
mod inbox;
mod journal;
mod options;
mod outbound;
mod outbox;
mod outgoing;
mod ranges;
mod retry;
mod subscription;
mod tasks;
mod token;
mod transport;

pub use client::{Client, Sending};
pub use delivery::{Delivery, Messages};
pub use error::{CallError, ConnectError, Disconnect, InvalidMessage, SendError, StateError, Stopped};
pub use event::Event;
pub use health::{Health, Statistics, Status};
pub use journal::Durability;
pub use options::{ConnectOptions, Overflow};
pub use outgoing::Outgoing;
pub use retry::{Breaker, RetryPolicy};
pub use subscription::{FeedNews, Subscription};
pub use tasks::{
    Capability, Delegation, DelegationEnd, Offer, Request, Task, TaskData, TaskFailed, Update, WorkOptions, Worker,
};
pub use token::{Occasion, Token, TokenError, TokenFuture, TokenSource};
pub use waystation_domain::{Lane, MessageId, Position, ReportedStatus, SessionId, Timestamp};
pub use waystation_wire::client::{FeedItem, GapNotice, GapSpan, Mail, Refused, SendAck};
