//! Names of events.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A dotted lower-case name such as `message.received`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventType(Arc<str>);

/// Families of events that no daemon sends.
const RESERVED: [&str; 7] = ["system.", "presence.", "vp.", "dlq.", "error-recovery.", "scheduler.", "webhook."];

/// The text is not an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a dotted lower-case name of at most 64 characters, such as message.received")]
pub struct EventTypeError;

impl EventType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether daemons may not send it: what Waystation and the platform say of themselves must be believed.
    pub fn is_reserved(&self) -> bool {
        RESERVED.iter().any(|family| self.0.starts_with(family))
    }
}

pub(crate) fn is_dotted_name(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    let part = |p: &str| !p.is_empty() && p.bytes().all(letter);
    text.len() <= 64 && text.split('.').all(part)
}

impl FromStr for EventType {
    type Err = EventTypeError;
    fn from_str(text: &str) -> Result<Self, EventTypeError> {
        if is_dotted_name(text) { Ok(EventType(text.into())) } else { Err(EventTypeError) }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_are_dotted_lower_case_names() {
        for good in ["message.received", "system.gap", "custom", "a-b.c_d.e9"] {
            assert!(good.parse::<EventType>().is_ok(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "A.b", "a b", "a.*", &"a".repeat(65)] {
            assert!(bad.parse::<EventType>().is_err(), "{bad}");
        }
    }
}
