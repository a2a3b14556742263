//! The daemon protocol without I/O: what frames mean, and what a session does next.
//!
//! Everything here is driven by a caller that owns the socket and the clock:
//! `handle_*(…, now)`, [`Session::poll_timeout`], [`Session::next_command`].
//!
//! **Invariants:** no I/O, no clock, no randomness. Close codes are made only here.

pub mod binary;
pub mod client;
mod close;
mod conductor;
mod cursor;
mod feed;
mod follow;
mod frame;
mod handshake;
pub mod json;
mod payload;
mod peer;
mod rate;
mod session;
mod stamp;
mod watching;
mod words;

pub use close::{CloseCode, Verdict};
pub use conductor::{Conductor, ConductorCommand, ConductorFrame};
pub use cursor::{Cursor, CursorError};
pub use feed::SharedEvent;
pub use follow::{FeedNews, FollowRequest, Followed};
pub use frame::{
    Ack, AckStatus, Addressee, AuthRejection, AuthRequest, ClientFrame, ErrorCode, EventFrame, FrameError, Heartbeat,
    LossNotice, Outgoing, Received, Sent, ServerFrame, TaskCall,
};
pub use handshake::{Handshake, HandshakeStep};
pub use payload::read_task;
pub use peer::{Peer, PeerSaid, PeerTask};
pub use session::{
    Allowance, CallFailed, CallOutcome, ClientProfile, Command, CompareAnswer, Ending, Health, Hint, Note, Opening,
    Push, ReadRequest, ReadResult, Renewed, SendOutcome, SendRefused, Session, SessionConfig, SettleAnswer,
    SettleRequest,
};
pub use stamp::FrameStamp;
pub use watching::{WatchCommand, Watching};
