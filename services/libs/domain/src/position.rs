//! Where an entry stands.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Lane;

/// Marks a stretch of a mailbox's life in which the store lost nothing. Opaque to clients.
///
/// Written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch from the store's generation.
    pub fn from_raw(raw: u64) -> Epoch {
        Epoch(raw)
    }

    /// The number behind it.
    pub fn as_raw(self) -> u64 {
        self.0
    }
}

/// The text is not an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an epoch")]
pub struct ParseEpochError;

impl FromStr for Epoch {
    type Err = ParseEpochError;
    fn from_str(text: &str) -> Result<Self, ParseEpochError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 16 || !text.bytes().all(hex) {
            return Err(ParseEpochError);
        }
        u64::from_str_radix(text, 16).map(Epoch).map_err(|_| ParseEpochError)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One entry of one mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The epoch that owns the sequence.
    pub epoch: Epoch,
    /// The lane.
    pub lane: Lane,
    /// From 1, without holes.
    pub sequence: u64,
}
