//! Trace context: which trace a message belongs to, carried from the caller's request to the daemon's event.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where the parts of the text begin, and its length: `00-<32>-<16>-<2>`.
const TRACE: usize = 3;
const PARENT: usize = 36;
const FLAGS: usize = 53;
const LENGTH: usize = 55;
/// The flag that says that whoever began the trace records it.
const SAMPLED: u8 = 1;

/// A W3C `traceparent` of version 00: `00-<trace id>-<parent id>-<flags>`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceParent(Arc<str>);

/// The text is not a traceparent of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a traceparent of version 00")]
pub struct ParseTraceParentError;

impl TraceParent {
    /// That of a span that is recorded. Neither id is 0.
    pub fn sampled(trace: u128, parent: u64) -> TraceParent {
        TraceParent(format!("00-{trace:032x}-{parent:016x}-{SAMPLED:02x}").into())
    }

    /// The same, but not recorded.
    #[must_use]
    pub fn unsampled(&self) -> TraceParent {
        let flags = u8::from_str_radix(self.part(FLAGS, LENGTH), 16).unwrap_or_default() & !SAMPLED;
        TraceParent(format!("00-{:032x}-{:016x}-{flags:02x}", self.trace(), self.parent()).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trace.
    pub fn trace(&self) -> u128 {
        u128::from_str_radix(self.part(TRACE, PARENT - 1), 16).unwrap_or_default()
    }

    /// The span that whatever follows belongs to.
    pub fn parent(&self) -> u64 {
        u64::from_str_radix(self.part(PARENT, FLAGS - 1), 16).unwrap_or_default()
    }

    /// Whether it is recorded.
    pub fn is_sampled(&self) -> bool {
        u8::from_str_radix(self.part(FLAGS, LENGTH), 16).unwrap_or_default() & SAMPLED == SAMPLED
    }

    /// Ids and flags stand at fixed places.
    fn part(&self, from: usize, to: usize) -> &str {
        self.0.get(from..to).unwrap_or_default()
    }
}

impl FromStr for TraceParent {
    type Err = ParseTraceParentError;
    fn from_str(text: &str) -> Result<Self, ParseTraceParentError> {
        let hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let id = |part: &str, length: usize| hex(part, length) && part.bytes().any(|b| b != b'0');
        let parts: Vec<&str> = text.split('-').collect();
        match parts[..] {
            ["00", trace, parent, flags] if id(trace, 32) && id(parent, 16) && hex(flags, 2) => {
                Ok(TraceParent(text.into()))
            }
            _ => Err(ParseTraceParentError),
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_the_form_of_the_standard_is_taken() {
        assert_eq!(GOOD.parse::<TraceParent>().unwrap().as_str(), GOOD);
        for bad in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(ParseTraceParentError), "{bad}");
        }
    }

    #[test]
    fn its_parts_are_read_and_written() {
        let read: TraceParent = GOOD.parse().unwrap();
        assert_eq!((read.trace(), read.parent()), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7));
        assert_eq!(TraceParent::sampled(read.trace(), read.parent()), read);
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let read: TraceParent = format!("{}{flags}", &GOOD[..FLAGS]).parse().unwrap();
            assert_eq!(read.is_sampled(), sampled, "{flags}");
            let silent = read.unsampled();
            assert!(!silent.is_sampled() && silent.parent() == read.parent(), "{silent}");
        }
    }
}
