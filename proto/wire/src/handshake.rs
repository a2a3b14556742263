//! Before the login: the only thing a client can do is to log in.

use std::time::Instant;

use crate::close::CloseCode;
use crate::frame::{AuthRequest, ClientFrame, ErrorCode, FrameError, Received, ServerFrame};

/// Malformed frames in a row that end a connection.
pub(crate) const STRIKES: u8 = 3;
/// Well-formed frames other than `auth` that are answered before the login.
const PATIENCE: u8 = 10;

/// Waits for the `auth` frame.
#[derive(Debug)]
pub struct Handshake {
    deadline: Instant,
    strikes: u8,
    premature: u8,
}

/// What to do after a frame.
#[derive(Debug)]
pub enum HandshakeStep {
    /// Send this and wait on.
    Reply(ServerFrame),
    /// Send this, if anything, and close.
    Close(Option<ServerFrame>, CloseCode),
    /// Verify this login; the text is the frame's id.
    Login(Option<String>, Box<AuthRequest>),
}

impl Handshake {
    /// A connection that must log in before the deadline.
    pub fn new(deadline: Instant) -> Handshake {
        Handshake { deadline, strikes: 0, premature: 0 }
    }

    /// When to close with [`CloseCode::AuthTimeout`].
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes a frame.
    pub fn handle_frame(&mut self, received: Result<Received, FrameError>) -> HandshakeStep {
        let received = match received {
            Ok(received) => received,
            Err(error) => {
                self.strikes += 1;
                let reply = ServerFrame::invalid(error);
                return match self.strikes {
                    STRIKES.. => HandshakeStep::Close(Some(reply), CloseCode::ProtocolError),
                    _ => HandshakeStep::Reply(reply),
                };
            }
        };
        self.strikes = 0;
        if let ClientFrame::Auth(auth) = received.frame {
            return HandshakeStep::Login(received.id, auth);
        }
        let reply = ServerFrame::Error {
            reply_to: received.id,
            code: ErrorCode::NotAuthenticated,
            message: "the first frame must be auth".into(),
            field: None,
            reason: None,
        };
        self.premature += 1;
        match self.premature {
            PATIENCE.. => HandshakeStep::Close(Some(reply), CloseCode::RateLimited),
            _ => HandshakeStep::Reply(reply),
        }
    }
}

impl ServerFrame {
    /// Answers a frame that cannot be taken.
    pub(crate) fn invalid(error: FrameError) -> ServerFrame {
        ServerFrame::Error {
            reply_to: error.reply_to,
            code: ErrorCode::InvalidMessage,
            message: error.message,
            field: error.field,
            reason: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::decode;

    fn handshake() -> Handshake {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        Handshake::new(Instant::now())
    }

    #[test]
    fn other_frames_are_told_to_log_in_first() {
        let step = handshake().handle_frame(decode(r#"{"type":"heartbeat","id":"1"}"#));
        assert!(matches!(step, HandshakeStep::Reply(ServerFrame::Error { code: ErrorCode::NotAuthenticated, .. })));
    }

    #[test]
    fn three_malformed_frames_in_a_row_end_it() {
        let mut handshake = handshake();
        for _ in 0..2 {
            assert!(matches!(handshake.handle_frame(decode("{")), HandshakeStep::Reply(_)));
        }
        handshake.handle_frame(decode(r#"{"type":"heartbeat"}"#));
        for _ in 0..2 {
            assert!(matches!(handshake.handle_frame(decode("{")), HandshakeStep::Reply(_)));
        }
        assert!(matches!(handshake.handle_frame(decode("{")), HandshakeStep::Close(_, CloseCode::ProtocolError)));
    }
}
