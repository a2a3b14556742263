//! What a delegator and those who work on its task share: what there is, in which version, and how much it may be. The
//! values themselves are kept elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DelegationState;
use crate::{EntryName, OrchestratorId};

/// Bytes of an entry.
pub const MAX_ENTRY: usize = 64 * 1024;
/// Bytes of all entries of a task.
pub const MAX_CONTEXT: usize = 1024 * 1024;
/// Entries of a task.
const MAX_ENTRIES: usize = 64;

/// An entry as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Which.
    pub name: EntryName,
    /// Bytes of its value.
    pub bytes: usize,
    /// Two values that are alike have the same.
    pub digest: String,
}

/// What is known of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// From 1, one more with each change.
    pub version: u64,
    /// Who wrote it; `None`: a backend.
    pub by: Option<OrchestratorId>,
    bytes: usize,
    digest: String,
}

/// Why an entry is not changed, or not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotShared {
    /// It is neither the delegator nor works on the task.
    #[error("the context is not yours")]
    NotYours,
    /// The task is over.
    #[error("the delegation has ended: {0}")]
    Ended(DelegationState),
    /// It has changed since.
    #[error("the entry has version {0}")]
    OtherVersion(u64),
    /// One value is too large.
    #[error("must have at most {MAX_ENTRY} bytes")]
    EntryTooLarge,
    /// All values together are too large.
    #[error("would make the context larger than {MAX_CONTEXT} bytes")]
    TooLarge,
    /// There are too many.
    #[error("would be one of more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// The entries of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue(BTreeMap<EntryName, Fact>);

impl Catalogue {
    /// What is shared at first.
    pub(super) fn first(entries: &[Written], by: Option<&OrchestratorId>) -> Catalogue {
        let fact =
            |Written { name, bytes, digest }: Written| (name, Fact { version: 1, by: by.cloned(), bytes, digest });
        Catalogue(entries.iter().cloned().map(fact).collect())
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &EntryName> {
        self.0.keys()
    }

    /// Bytes of an entry; 0 if there is none.
    pub fn bytes_of(&self, name: &EntryName) -> usize {
        self.0.get(name).map_or(0, |fact| fact.bytes)
    }

    /// Whether these fit.
    ///
    /// # Errors
    /// The place of the first that does not.
    pub fn check(entries: &[Written]) -> Result<(), (usize, NotShared)> {
        let mut catalogue = Catalogue::default();
        for (at, entry) in entries.iter().enumerate() {
            catalogue.put(None, entry.clone(), Some(0)).map_err(|error| (at, error))?;
        }
        Ok(())
    }

    /// Takes an entry; answers its version, and whether that is new. `expected` is the version that the writer has seen,
    /// 0 if there was none; `None`: whatever is there is replaced. The same once more changes nothing.
    pub(super) fn put(
        &mut self,
        by: Option<&OrchestratorId>,
        Written { name, bytes, digest }: Written,
        expected: Option<u64>,
    ) -> Result<(u64, bool), NotShared> {
        let known = self.0.get(&name);
        let version = known.map_or(0, |fact| fact.version);
        let is_repeat = known.is_some_and(|fact| fact.by.as_ref() == by && fact.digest == digest)
            && expected.is_none_or(|expected| expected + 1 == version);
        if is_repeat {
            return Ok((version, false));
        }
        if expected.is_some_and(|expected| expected != version) {
            return Err(NotShared::OtherVersion(version));
        }
        if bytes > MAX_ENTRY {
            return Err(NotShared::EntryTooLarge);
        }
        let others: usize = self.0.iter().filter(|(other, _)| **other != name).map(|(_, fact)| fact.bytes).sum();
        if others + bytes > MAX_CONTEXT {
            return Err(NotShared::TooLarge);
        }
        if version == 0 && self.0.len() == MAX_ENTRIES {
            return Err(NotShared::TooMany);
        }
        self.0.insert(name, Fact { version: version + 1, by: by.cloned(), bytes, digest });
        Ok((version + 1, true))
    }
}
