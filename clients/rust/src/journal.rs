//! The state file: what must survive the process, as a log of records.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use waystation_domain::{EventType, FeedPoint, Lane, MessageId, OrchestratorId, Position};
use waystation_wire::Addressee;
use waystation_wire::client::GapSpan;

use crate::error::StateError;
use crate::inbox::Memory;
use crate::outgoing::Outgoing;

/// How the file begins.
const HEADER: &[u8] = b"waystation-client state 1\n";
/// Length and checksum before each record.
const PREFIX: usize = 8;
/// The file is written anew when it has grown to this, or to four times what is needed.
const WORTHWHILE: u64 = 1 << 20;

/// How much a record survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process.
    #[default]
    PageCache,
    /// The end of the machine. Each batch of records is forced to the disk.
    Fsync,
}

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// A message was handed out.
    Begun(Position),
    /// It was applied.
    Applied(Position),
    /// It was given back.
    GivenBack(Position),
    /// Sequences of a lane are gone.
    Skipped { first: Position, last: u64 },
    /// An epoch is the present one.
    Entered(waystation_domain::Epoch),
    /// Events up to here have been processed.
    Feed(FeedPoint),
    /// A message waits to be sent.
    Queued(Kept),
    /// It was accepted, or never will be.
    Settled(MessageId),
    /// All of it.
    Snapshot(Memory, Vec<Kept>),
}

impl Record {
    pub(crate) fn skipped(span: GapSpan) -> Option<Record> {
        let GapSpan { epoch, lane, from, to } = span;
        lane.map(|lane| Record::Skipped { first: Position { epoch, lane, sequence: from }, last: to })
    }
}

/// A message that waits, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    id: MessageId,
    to: Result<OrchestratorId, waystation_domain::ChannelId>,
    event_type: Option<EventType>,
    data: String,
    lane: Lane,
    time_to_live: Option<std::time::Duration>,
}

impl Kept {
    pub(crate) fn new(id: &MessageId, outgoing: &Outgoing) -> Kept {
        let to = match &outgoing.to {
            Addressee::Orchestrator(id) => Ok(id.clone()),
            Addressee::Channel(id) => Err(id.clone()),
        };
        let data = outgoing.data.get().to_owned();
        let Outgoing { event_type, lane, time_to_live, .. } = outgoing.clone();
        Kept { id: id.clone(), to, event_type, data, lane, time_to_live }
    }

    /// `None` if its data are no JSON, which the checksum has ruled out.
    pub(crate) fn into_outgoing(self) -> Option<(MessageId, Outgoing)> {
        let to = self.to.map_or_else(Addressee::Channel, Addressee::Orchestrator);
        let data = RawValue::from_string(self.data).ok()?;
        let Kept { id, event_type, lane, time_to_live, .. } = self;
        Some((id.clone(), Outgoing { to, event_type, data, lane, id: Some(id), time_to_live }))
    }
}

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) memory: Memory,
    pub(crate) queued: Vec<Kept>,
}

impl Restored {
    fn replay(&mut self, record: Record) {
        match record {
            Record::Begun(position) => self.memory.begin(position),
            Record::Applied(position) => self.memory.apply(position),
            Record::GivenBack(position) => self.memory.give_back(position),
            Record::Skipped { first: Position { epoch, lane, sequence }, last } => {
                self.memory.skip(GapSpan { epoch, lane: Some(lane), from: sequence, to: last });
            }
            Record::Entered(epoch) => self.memory.enter(epoch),
            Record::Feed(point) => self.memory.feed = Some(point),
            Record::Queued(kept) => self.queued.push(kept),
            Record::Settled(id) => self.queued.retain(|kept| kept.id != id),
            Record::Snapshot(memory, queued) => *self = Restored { memory, queued },
        }
    }
}

/// An open state file, which no other process may use.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    durability: Durability,
    /// Bytes in the file, and after it was last written anew.
    size: u64,
    base: u64,
    /// Holds the lock; the file itself is replaced.
    _lock: File,
}

impl Journal {
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<(Journal, Restored), StateError> {
        let lock_path = path.with_added_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock_path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateError::InUse,
            TryLockError::Error(error) => StateError::Io(error),
        })?;
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (restored, valid) = read(&bytes)?;
        // What the end of the process cut off never counted.
        file.set_len(valid as u64)?;
        file.seek(SeekFrom::Start(valid as u64))?;
        let mut journal =
            Journal { path: path.to_owned(), file, durability, size: valid as u64, base: valid as u64, _lock: lock };
        journal.rewrite(&restored.memory, restored.queued.clone())?;
        Ok((journal, restored))
    }

    /// Writes records; once it is back they survive.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), StateError> {
        let mut bytes = Vec::with_capacity(records.len() * 32);
        for record in records {
            put(record, &mut bytes);
        }
        self.file.write_all(&bytes)?;
        if self.durability == Durability::Fsync {
            self.file.sync_data()?;
        }
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Whether the file should be written anew.
    pub(crate) fn is_long(&self) -> bool {
        self.size > WORTHWHILE.max(self.base * 4)
    }

    /// Writes the file anew; a crash leaves the old one.
    pub(crate) fn rewrite(&mut self, memory: &Memory, queued: Vec<Kept>) -> Result<(), StateError> {
        let mut bytes = HEADER.to_vec();
        put(&Record::Snapshot(memory.clone(), queued), &mut bytes);
        let next = self.path.with_added_extension("new");
        let mut file = File::create(&next)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        std::fs::rename(&next, &self.path)?;
        (self.file, self.size, self.base) = (file, bytes.len() as u64, bytes.len() as u64);
        Ok(())
    }
}

fn put(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    let bytes = postcard::to_stdvec(record).unwrap_or_else(|error| unreachable!("records can be written: {error}"));
    out.extend_from_slice(&bytes);
    // Messages have at most 192 KiB, and a queue some thousands of them.
    let length = u32::try_from(bytes.len()).unwrap_or_else(|_| unreachable!("records have less than 4 GiB"));
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + PREFIX].copy_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// What a file says, and how many of its bytes count.
fn read(bytes: &[u8]) -> Result<(Restored, usize), StateError> {
    let mut restored = Restored::default();
    if bytes.is_empty() {
        return Ok((restored, 0));
    }
    let mut at = HEADER.len();
    if !bytes.starts_with(HEADER) {
        return Err(StateError::Foreign);
    }
    while let Some(prefix) = bytes.get(at..at + PREFIX) {
        let (length, sum) = (number(&prefix[..4]) as usize, number(&prefix[4..]));
        let end = at + PREFIX + length;
        let Some(record) = bytes.get(at + PREFIX..end) else { break };
        let record = (crc32c::crc32c(record) == sum).then(|| postcard::from_bytes(record).ok()).flatten();
        match record {
            Some(record) => restored.replay(record),
            // The last one was cut off; one in the middle was not.
            None if end == bytes.len() => break,
            None => return Err(StateError::Damaged(at as u64)),
        }
        at = end;
    }
    Ok((restored, at))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use waystation_domain::Epoch;

    use super::*;

    fn at(sequence: u64) -> Position {
        Position { epoch: Epoch::from_raw(1), lane: Lane::Normal, sequence }
    }

    fn open(path: &Path) -> Result<(Journal, Restored), StateError> {
        Journal::open(path, Durability::PageCache)
    }

    fn kept(id: &str) -> Kept {
        let outgoing = Outgoing::to_channel("c", &json!({"n": 1})).unwrap();
        Kept::new(&MessageId::naming(id).unwrap(), &outgoing)
    }

    #[test]
    fn what_was_written_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (mut journal, restored) = open(&path).unwrap();
        assert_eq!((restored.memory, restored.queued.len()), (Memory::default(), 0));
        let first = at(3);
        let records = [
            Record::Begun(at(1)),
            Record::Applied(at(1)),
            Record::Begun(at(2)),
            Record::Skipped { first, last: 5 },
            Record::Queued(kept("a")),
            Record::Queued(kept("b")),
            Record::Settled(MessageId::naming("a").unwrap()),
            Record::Feed(FeedPoint { epoch: None, sequence: 4 }),
        ];
        journal.append(&records).unwrap();
        drop(journal);
        for _ in 0..2 {
            let (journal, restored) = open(&path).unwrap();
            assert_eq!(restored.memory.resume_point().unwrap().positions[Lane::Normal], 5);
            assert_eq!(restored.memory.feed.unwrap().sequence, 4);
            let (id, outgoing) = restored.queued[0].clone().into_outgoing().unwrap();
            assert_eq!((id.as_str(), outgoing.data.get(), restored.queued.len()), ("b", r#"{"n":1}"#, 1));
            drop(journal);
        }
    }

    #[test]
    fn a_torn_end_is_cut_and_damage_in_the_middle_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (mut journal, _) = open(&path).unwrap();
        journal.append(&[Record::Applied(at(1)), Record::Applied(at(2))]).unwrap();
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..12 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (_, restored) = open(&path).unwrap();
            assert_eq!(restored.memory.resume_point().unwrap().positions[Lane::Normal], 1, "{cut}");
        }
        let mut damaged = whole.clone();
        damaged[HEADER.len() + PREFIX] ^= 0xff;
        std::fs::write(&path, &damaged).unwrap();
        assert!(matches!(open(&path), Err(StateError::Damaged(_))));
        std::fs::write(&path, "something else").unwrap();
        assert!(matches!(open(&path), Err(StateError::Foreign)));
    }

    #[test]
    fn a_state_file_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let held = open(&path).unwrap();
        assert!(matches!(open(&path), Err(StateError::InUse)));
        drop(held);
        open(&path).unwrap();
    }

    #[test]
    fn a_long_file_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (mut journal, mut restored) = open(&path).unwrap();
        for sequence in 1.. {
            journal.append(&[Record::Applied(at(sequence))]).unwrap();
            restored.memory.apply(at(sequence));
            if journal.is_long() {
                break;
            }
        }
        journal.rewrite(&restored.memory, Vec::new()).unwrap();
        drop(journal);
        assert!(std::fs::metadata(&path).unwrap().len() < 200);
        assert_eq!(open(&path).unwrap().1.memory, restored.memory);
    }

    #[test]
    fn a_full_disk_is_told() {
        // What /dev/full is for.
        let (mut journal, _) = {
            let dir = tempfile::tempdir().unwrap();
            open(&dir.path().join("state")).unwrap()
        };
        journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let Err(StateError::Io(error)) = journal.append(&[Record::Applied(at(1))]) else { panic!("full") };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
}
