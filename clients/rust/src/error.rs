//! What can go wrong, as types.

use std::time::Duration;

use waystation_domain::MessageId;
use waystation_wire::client::{Garbage, Refused};

/// A message that cannot be sent as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidMessage {
    /// Of the message.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
}

/// Options that do not make a client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An option is wrong.
    #[error("{option}: {problem}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The state file cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The first connection was refused for good.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A state file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read or written; a full disk comes here.
    #[error("the state file cannot be used: {0}")]
    Io(#[from] std::io::Error),
    /// Another process uses it.
    #[error("the state file is used by another process")]
    InUse,
    /// It is damaged in its middle: nothing after it can be trusted.
    #[error("the state file is damaged at byte {0}")]
    Damaged(u64),
    /// It was written by another version, or is no state file.
    #[error("the file is no state file of this version")]
    Foreign,
}

/// Why a client has ended for good. Somebody must change something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The program closed or drained it.
    #[error("the client was closed")]
    Closed,
    /// The gateway closed the connection in a way that says not to come back.
    #[error("the gateway closed the connection: {code} {reason}")]
    Gateway {
        /// Close code.
        code: u16,
        /// As the gateway said.
        reason: String,
    },
    /// No valid token is to be had.
    #[error("no valid token: {0}")]
    Token(String),
    /// What must be kept cannot be kept.
    #[error("the state file cannot be written: {0}")]
    State(String),
    /// A part of the client has failed.
    #[error("the client has failed")]
    Failed,
}

/// Why a connection ended. The client comes back by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// It could not be made.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The other end closed it.
    #[error("closed by the gateway: {code} {reason}")]
    Closed {
        /// Close code; 1005 if there was none, 1006 if there was no close.
        code: u16,
        /// As the gateway said.
        reason: String,
    },
    /// Nothing came for too long.
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    /// What came is no frame of the protocol.
    #[error("the gateway sent garbage: {0}")]
    Garbage(#[from] Garbage),
    /// What came contradicts what came before.
    #[error("the gateway contradicts itself: {0}")]
    Contradiction(String),
    /// The login was refused.
    #[error("not logged in: {code}: {message}")]
    Refused {
        /// AUTH_FAILED, TOKEN_EXPIRED, INSUFFICIENT_SCOPE or MAX_CONNECTIONS.
        code: String,
        /// For people.
        message: String,
    },
    /// The gateway asked to connect elsewhere.
    #[error("the gateway leaves: {0}")]
    Leaving(String),
    /// No token could be had for now.
    #[error("no token: {0}")]
    Token(String),
    /// A slow reader of events goes on from where it is.
    #[error("events are read again")]
    Resync,
}

/// A message that was not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SendError {
    /// So many wait already, and the policy is to refuse.
    #[error("{0} messages wait already")]
    QueueFull(usize),
    /// A more urgent or newer one took its place in the queue, as the policy says.
    #[error("{0} was displaced in the queue")]
    Displaced(MessageId),
    /// One with this id waits already.
    #[error("a message with the id {0} waits already")]
    AlreadyWaiting(MessageId),
    /// The gateway refused it for good.
    #[error("refused: {}: {}", .0.code, .0.message)]
    Refused(Refused),
    /// The client has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A call that was not answered as hoped.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// It was refused.
    #[error("refused: {}: {}", .0.code, .0.message)]
    Refused(Refused),
    /// Too many calls: again after this time.
    #[error("too many calls: again after {0:?}")]
    RateLimited(Duration),
    /// The payload or the answer is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// No answer came in time. It may have been done.
    #[error("no answer in time")]
    TimedOut,
    /// The client has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
