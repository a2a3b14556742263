//! The daemon protocol without I/O: what frames mean, and what a session does next.
//!
//! Everything here is driven by a caller that owns the socket and the clock:
//! `handle_*(…, now)`, [`Session::poll_timeout`], [`Session::next_command`].
//!
//! **Invariants:** no I/O, no clock, no randomness. Close codes are made only here.

mod close;
mod frame;
mod handshake;
mod json;
mod rate;
mod session;

pub use close::{CloseCode, Verdict};
pub use frame::{
    AuthRejection, AuthRequest, ClientFrame, ErrorCode, EventFrame, FrameError, Heartbeat, LossNotice, Received,
    ServerFrame,
};
pub use handshake::{Handshake, HandshakeStep};
pub use json::{FrameStamp, decode, encode};
pub use session::{
    CallFailed, ClientProfile, Command, CompareAnswer, Ending, Hint, Opening, Push, ReadRequest, ReadResult, Session,
    SessionConfig, SettleAnswer, SettleRequest,
};
