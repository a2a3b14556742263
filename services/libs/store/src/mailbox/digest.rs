//! What makes two messages of one id the same message.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::AppendMessage;

/// The first half of SHA-256 over event type, channel and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContentDigest([u8; 16]);

impl ContentDigest {
    pub(crate) fn of(message: &AppendMessage) -> ContentDigest {
        let channel = message.channel.as_ref().map_or("", |channel| channel.as_str());
        ContentDigest::of_parts(&[message.event_type.as_str(), channel], &message.data)
    }

    /// No part can hold a NUL.
    pub(crate) fn of_parts(parts: &[&str], data: &[u8]) -> ContentDigest {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update(data);
        let whole: [u8; 32] = hash.finalize().into();
        ContentDigest(std::array::from_fn(|i| whole[i]))
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
