//! Close codes: one table.

use std::time::Duration;

/// Why a WebSocket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// The client said goodbye.
    Normal,
    /// Three malformed frames in a row, or a violation of WebSocket itself.
    ProtocolError,
    /// Text that is no UTF-8.
    InvalidText,
    /// A frame over the limit.
    TooBig,
    /// Unknown, forged or foreign token.
    AuthFailed,
    /// No login in time.
    AuthTimeout,
    /// The token has ended.
    TokenExpired,
    /// Too many frames, or too many connections.
    RateLimited,
    /// The token does not allow it.
    InsufficientScope,
    /// Ended by an operator or a revocation.
    SessionTerminated,
    /// The client does not read.
    SlowConsumer,
    /// Another connection of this daemon took over.
    Superseded,
    /// The client was silent for three heartbeats.
    HeartbeatTimeout,
    /// Two instances of one daemon keep displacing each other.
    DuplicateIdentity,
    /// This gateway stops.
    Restarting,
    /// This gateway or what is behind it cannot serve now.
    Overloaded,
}

/// What a client does after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Connect again, not earlier than after this time.
    RetryAfter(Duration),
    /// Get a new token first, then connect at once.
    RenewToken,
    /// Somebody must change something first.
    Stop,
}

impl CloseCode {
    /// Every code.
    pub const ALL: [CloseCode; 16] = [
        CloseCode::Normal,
        CloseCode::ProtocolError,
        CloseCode::InvalidText,
        CloseCode::TooBig,
        CloseCode::AuthFailed,
        CloseCode::AuthTimeout,
        CloseCode::TokenExpired,
        CloseCode::RateLimited,
        CloseCode::InsufficientScope,
        CloseCode::SessionTerminated,
        CloseCode::SlowConsumer,
        CloseCode::Superseded,
        CloseCode::HeartbeatTimeout,
        CloseCode::DuplicateIdentity,
        CloseCode::Restarting,
        CloseCode::Overloaded,
    ];

    /// Number and name on the wire, and what the client does next.
    pub fn row(self) -> (u16, &'static str, Verdict) {
        let after = |seconds| Verdict::RetryAfter(Duration::from_secs(seconds));
        match self {
            CloseCode::Normal => (1000, "NORMAL", Verdict::Stop),
            CloseCode::ProtocolError => (1002, "PROTOCOL_ERROR", Verdict::Stop),
            CloseCode::InvalidText => (1007, "INVALID_TEXT", Verdict::Stop),
            CloseCode::TooBig => (1009, "TOO_BIG", Verdict::Stop),
            CloseCode::AuthFailed => (4001, "AUTH_FAILED", Verdict::Stop),
            CloseCode::AuthTimeout => (4002, "AUTH_TIMEOUT", after(1)),
            CloseCode::TokenExpired => (4003, "TOKEN_EXPIRED", Verdict::RenewToken),
            CloseCode::RateLimited => (4004, "RATE_LIMITED", after(60)),
            CloseCode::InsufficientScope => (4005, "INSUFFICIENT_SCOPE", Verdict::Stop),
            CloseCode::SessionTerminated => (4006, "SESSION_TERMINATED", Verdict::Stop),
            CloseCode::SlowConsumer => (4008, "SLOW_CONSUMER", after(1)),
            CloseCode::Superseded => (4009, "SUPERSEDED", Verdict::Stop),
            CloseCode::HeartbeatTimeout => (4010, "HEARTBEAT_TIMEOUT", after(1)),
            CloseCode::DuplicateIdentity => (4011, "DUPLICATE_IDENTITY", after(60)),
            CloseCode::Restarting => (4012, "RESTARTING", after(1)),
            CloseCode::Overloaded => (4013, "OVERLOADED", after(5)),
        }
    }

    /// The code of a number, if it is one of Waystation's.
    pub fn of_number(number: u16) -> Option<CloseCode> {
        CloseCode::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The number on the wire.
    pub fn number(self) -> u16 {
        self.row().0
    }

    /// The reason on the wire.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What the client does next.
    pub fn verdict(self) -> Verdict {
        self.row().2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_number_of_its_own() {
        let mut numbers = CloseCode::ALL.map(CloseCode::number);
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
