//! Files of the journal: begun with a snapshot, read back once.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::record;
use crate::OpenError;
use crate::embedded::state::State;

/// Magic and version of the format. A file of another version is refused and left as it is.
const HEADER: [u8; 8] = *b"WSJRNL\x00\x06";
/// Length of the boot id that follows the header.
const BOOT_ID: usize = 36;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}

/// Makes the directory if need be and takes it for this process.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))?;
    let path = dir.join("lock");
    let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.map_err(failed("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(dir.into())),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

fn name(number: u64) -> String {
    format!("journal.{number:010}")
}

fn numbers(dir: &Path) -> Result<Vec<u64>, OpenError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let entry = entry.map_err(failed("list", dir))?;
        let name = entry.file_name();
        let suffix = name.to_str().and_then(|name| name.strip_prefix("journal."));
        let number: Option<u64> = suffix.and_then(|number| number.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Identifies this boot of the machine: what was only in its page cache is lost with it.
fn boot_id() -> [u8; BOOT_ID] {
    let mut id = [b'-'; BOOT_ID];
    if let Ok(text) = fs::read("/proc/sys/kernel/random/boot_id")
        && let Some(text) = text.get(..BOOT_ID)
    {
        id.copy_from_slice(text);
    }
    id
}

/// Reads the newest file back. Answers the state and the file's number.
pub(super) fn replay(dir: &Path, fsync: bool, generation: u64) -> Result<(State, u64), OpenError> {
    let Some(&number) = numbers(dir)?.last() else { return Ok((State::new(generation), 0)) };
    let path = dir.join(name(number));
    let bytes = fs::read(&path).map_err(failed("read", &path))?;
    let mut reader = Reader { path: &path, bytes: &bytes, at: HEADER.len() + BOOT_ID };
    if !bytes.starts_with(&HEADER) {
        return Err(reader.damaged(0, "a header of another version"));
    }
    let same_boot = bytes.get(HEADER.len()..reader.at) == Some(&boot_id()[..]);
    let mut state = reader.snapshot()?;
    reader.operations(&mut state)?;
    if !fsync && !same_boot {
        // The machine went down: what the page cache held may be missing from the end.
        state.generation = generation;
    }
    Ok((state, number))
}

struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn damaged(&self, offset: usize, problem: impl Into<String>) -> OpenError {
        OpenError::Damaged { path: self.path.into(), offset: offset as u64, problem: problem.into() }
    }

    /// The next whole record; `None` at the end or at a tail that was not written whole.
    fn next(&mut self) -> Result<Option<&'a [u8]>, OpenError> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        if let Some(payload) = record::payload(rest) {
            self.at += record::FRAME + payload.len();
            return Ok(Some(payload));
        }
        if record::any_whole(rest) {
            return Err(self.damaged(self.at, "a damaged record with whole ones behind it"));
        }
        if !rest.is_empty() {
            tracing::warn!("cutting {} bytes that were not written whole from {}", rest.len(), self.path.display());
        }
        Ok(None)
    }

    fn snapshot(&mut self) -> Result<State, OpenError> {
        let at = self.at;
        let payload = self.next()?.ok_or_else(|| self.damaged(at, "no snapshot"))?;
        let (tag, state) = payload.split_first().ok_or_else(|| self.damaged(at, "no snapshot"))?;
        if *tag != record::SNAPSHOT {
            return Err(self.damaged(at, "no snapshot"));
        }
        postcard::from_bytes(state).map_err(|error| self.damaged(at, format!("an unreadable snapshot ({error})")))
    }

    fn operations(&mut self, state: &mut State) -> Result<(), OpenError> {
        loop {
            let at = self.at;
            let Some(payload) = self.next()? else { return Ok(()) };
            record::repeat(payload, state).map_err(|problem| self.damaged(at, problem))?;
        }
    }
}

/// Begins file `number` with a snapshot, whole on the disk before it takes its name, and removes older ones.
pub(super) fn begin(dir: &Path, number: u64, state: &State) -> Result<File, OpenError> {
    let temporary: PathBuf = dir.join("snapshot.tmp");
    let path = dir.join(name(number));
    let mut file = OpenOptions::new();
    let file = file.create(true).write(true).truncate(true).mode(0o600).open(&temporary);
    let mut file = file.map_err(failed("create", &temporary))?;
    let mut bytes = HEADER.to_vec();
    bytes.extend_from_slice(&boot_id());
    bytes.extend_from_slice(&record::snapshot(state));
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(failed("rename", &temporary))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("flush", dir))?;
    for older in numbers(dir)?.into_iter().filter(|older| *older < number) {
        let older = dir.join(name(older));
        fs::remove_file(&older).map_err(failed("remove", &older))?;
    }
    Ok(file)
}
