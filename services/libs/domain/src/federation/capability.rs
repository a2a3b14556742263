//! What an orchestrator can do.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
const MAX_LEN: usize = 64;

/// Why a text is no capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// Names of capabilities are compared as they are written, so there is one way to write them.
    #[error("must have 1 to {MAX_LEN} of a-z, 0-9, '.', '_' and '-'")]
    Name,
    /// A version has one to three numbers.
    #[error("must be a version such as 1, 1.2 or 1.2.3")]
    Version,
}

/// A name such as `code-generation`: 1 to 64 of `[a-z0-9._-]`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct CapabilityName(Arc<str>);

impl CapabilityName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<Arc<str>> for CapabilityName {
    type Error = CapabilityError;

    fn try_from(text: Arc<str>) -> Result<Self, CapabilityError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let fits = (1..=MAX_LEN).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(CapabilityName(text)) } else { Err(CapabilityError::Name) }
    }
}

impl FromStr for CapabilityName {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        CapabilityName::try_from(Arc::from(text))
    }
}

impl From<CapabilityName> for Arc<str> {
    fn from(name: CapabilityName) -> Arc<str> {
        name.0
    }
}

impl fmt::Display for CapabilityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CapabilityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One to three numbers; what is not said is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version([u32; 3]);

impl FromStr for Version {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Version, CapabilityError> {
        let mut numbers = [0; 3];
        for (at, part) in text.split('.').enumerate() {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let number = if digits { part.parse().ok() } else { None };
            *numbers.get_mut(at).ok_or(CapabilityError::Version)? = number.ok_or(CapabilityError::Version)?;
        }
        Ok(Version(numbers))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// Something that an orchestrator can do, or that a task needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// What.
    pub name: CapabilityName,
    /// Of an orchestrator: which it has. Of a task: the least that will do.
    pub version: Option<Version>,
    /// How well, by the platform's own measure; of a task: the least that will do.
    pub level: Option<u32>,
}

impl Capability {
    /// Whether it is enough for what a task needs.
    pub fn meets(&self, needed: &Capability) -> bool {
        self.name == needed.name
            && needed.version.is_none_or(|least| self.version.is_some_and(|version| version >= least))
            && needed.level.is_none_or(|least| self.level.is_some_and(|level| level >= least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(version: Option<&str>, level: Option<u32>) -> Capability {
        let version = version.map(|version| version.parse().unwrap());
        Capability { name: "research".parse().unwrap(), version, level }
    }

    #[test]
    fn names_have_one_spelling() {
        for bad in ["", "Research", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert_eq!(bad.parse::<CapabilityName>(), Err(CapabilityError::Name), "{bad:?}");
        }
        assert!("ml-training.v2".parse::<CapabilityName>().is_ok());
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("1.10") > version("1.9.3"));
        assert_eq!(version("2"), version("2.0.0"));
        for bad in ["", "1.", ".1", "1.2.3.4", "v1", "-1", "1.+2", "4294967296"] {
            assert_eq!(bad.parse::<Version>(), Err(CapabilityError::Version), "{bad:?}");
        }
    }

    #[test]
    fn what_is_asked_for_must_be_there() {
        let has = capability(Some("1.2"), Some(3));
        assert!(has.meets(&capability(None, None)));
        assert!(has.meets(&capability(Some("1.1"), Some(3))));
        assert!(!has.meets(&capability(Some("1.3"), None)));
        assert!(!has.meets(&capability(None, Some(4))));
        assert!(!capability(None, None).meets(&capability(Some("0"), None)), "no version is none");
    }
}
