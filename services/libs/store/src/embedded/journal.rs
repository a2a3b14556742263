//! The journal: operations in the order in which they took place, each with a digest of its answer.
//!
//! A file is a header and records. The first record is a snapshot of the state. A record is
//! `MARK · length · crc32c · payload`; the payload of an operation is
//! `tag · now · digest of the answer · the operation`.
//!
//! **Invariants:** nothing is answered before its record is written. A tail that was not written whole
//! is cut; anything else that cannot be read, and any operation that answers otherwise when repeated,
//! refuses to start. A failed write or flush ends the process: what was promised is then unknown.

mod file;
mod record;
mod sync;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::operation::Operation;
use super::state::State;
use crate::OpenError;
pub(super) use record::Pending;
use sync::{Synced, Syncer};

/// An open journal.
pub(super) struct Journal {
    dir: PathBuf,
    /// Holds the lock on the directory.
    _lock: File,
    file: File,
    number: u64,
    /// Bytes written to the file since its snapshot.
    written: u64,
    /// A new file is begun after so many.
    file_bytes: u64,
    /// Present if answers wait for the disk.
    syncer: Option<Syncer>,
}

impl Journal {
    /// Opens the journal of a directory and repeats what it holds.
    pub(super) fn open(
        dir: &Path,
        fsync: bool,
        file_bytes: u64,
        generation: u64,
    ) -> Result<(Journal, State), OpenError> {
        let lock = file::lock(dir)?;
        let (mut state, last) = file::replay(dir, fsync, generation)?;
        state.end_all_incarnations();
        let number = last + 1;
        let file = file::begin(dir, number, &state)?;
        let syncer = fsync.then(|| Syncer::start(&file, dir.into())).transpose();
        let syncer = syncer.map_err(|source| OpenError::Io { action: "flush", path: dir.into(), source })?;
        let journal = Journal { dir: dir.into(), _lock: lock, file, number, written: 0, file_bytes, syncer };
        Ok((journal, state))
    }

    /// Writes a record. Answers what to wait for before anything may be told.
    pub(super) fn write<O: Operation>(&mut self, record: Pending, answer: &O::Answer, state: &State) -> Option<Synced> {
        let bytes = record.finish(record::digest(answer));
        if let Err(error) = self.file.write_all(&bytes) {
            die("write to", &self.dir, &error);
        }
        self.written += bytes.len() as u64;
        let synced = self.syncer.as_ref().map(|syncer| syncer.wrote(bytes.len() as u64));
        if self.written >= self.file_bytes {
            self.begin_next(state);
        }
        synced
    }

    /// Begins a new file with a snapshot. The snapshot is flushed, and with it all that came before.
    fn begin_next(&mut self, state: &State) {
        self.number += 1;
        match file::begin(&self.dir, self.number, state) {
            Ok(file) => self.file = file,
            Err(error) => die("begin a file in", &self.dir, &error),
        }
        // A large state is written less often, so that snapshots cost no more than the records do.
        let snapshot = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.file_bytes = self.file_bytes.max(snapshot);
        self.written = 0;
        if let Some(syncer) = &self.syncer
            && let Err(error) = syncer.follow(&self.file)
        {
            die("flush", &self.dir, &error);
        }
    }
}

/// What was promised is unknown from here on: no answer may follow.
fn die(action: &str, path: &Path, error: &dyn std::fmt::Display) -> ! {
    tracing::error!("cannot {action} the journal {}: {error}; ending", path.display());
    std::process::exit(74) // EX_IOERR
}
