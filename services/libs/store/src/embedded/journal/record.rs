//! Records: how they are framed, and how operations are repeated from them.

use std::io;

use serde::Serialize;
use waystation_domain::Timestamp;

use crate::embedded::operation::{
    AppendAudit, CreateApiKey, CreateLogin, CreateOrchestrator, CreateOrganization, DeregisterOrchestrator,
    FirstSigningKey, ForgetDelegation, NoteStanding, Operation, Register, RegisterOrchestrator, Repeatable,
    ReportOrchestrator, Revoke, RotateLogin, RotateSigningKey, SetOrchestratorStatus, SetSettings, SweepFeeds,
    TakeReports, TakeSecret, Unregister,
};
use crate::embedded::state::State;
use crate::federation::Commit;
use crate::feed::{Interest, Publish};
use crate::mailbox::{
    Append, CloseSession, Compare, ForgetDeadLetters, NewsTold, OpenSession, Purge, ReadMailbox, RenewIncarnation,
    Settle, Subscribe, Sweep,
};

/// Begins every record, so that whole ones can be found behind a damaged one.
pub(super) const MARK: [u8; 4] = *b"\xd7WSr";
/// MARK, length, checksum.
pub(super) const FRAME: usize = 12;
/// Tag of the snapshot that begins a file.
pub(super) const SNAPSHOT: u8 = 0;
/// Tag, now, digest.
const PREFIX: usize = 13;

/// A record whose answer is not known yet.
pub(in crate::embedded) struct Pending(Vec<u8>);

impl Pending {
    pub(in crate::embedded) fn new<O: Operation>(operation: &O, now: Timestamp) -> Pending {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(&[0; FRAME]);
        bytes.push(O::TAG);
        bytes.extend_from_slice(&now.as_millis().to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        Pending(encode(operation, bytes))
    }

    pub(super) fn finish(self, digest: u32) -> Vec<u8> {
        let mut bytes = self.0;
        bytes[FRAME + 9..FRAME + PREFIX].copy_from_slice(&digest.to_le_bytes());
        seal(&mut bytes);
        bytes
    }
}

/// A snapshot of the state.
pub(super) fn snapshot(state: &State) -> Vec<u8> {
    let mut bytes = vec![0; FRAME];
    bytes.push(SNAPSHOT);
    let mut bytes = encode(state, bytes);
    seal(&mut bytes);
    bytes
}

fn encode<T: Serialize>(value: &T, into: Vec<u8>) -> Vec<u8> {
    // Vectors do not refuse bytes, and every type here knows its length.
    postcard::to_extend(value, into).unwrap_or_else(|error| unreachable!("encoding: {error}"))
}

fn seal(bytes: &mut [u8]) {
    let length = u32::try_from(bytes.len() - FRAME).unwrap_or_else(|_| unreachable!("a record over 4 GiB"));
    let checksum = crc32c::crc32c(&bytes[FRAME..]);
    bytes[..4].copy_from_slice(&MARK);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..FRAME].copy_from_slice(&checksum.to_le_bytes());
}

/// The payload of the record at the beginning of `bytes`, if it is whole.
pub(super) fn payload(bytes: &[u8]) -> Option<&[u8]> {
    let frame = bytes.get(..FRAME)?;
    if frame[..4] != MARK {
        return None;
    }
    let number = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
    let payload = bytes.get(FRAME..FRAME.checked_add(number(4) as usize)?)?;
    (crc32c::crc32c(payload) == number(8)).then_some(payload)
}

/// Whether a whole record begins anywhere in `bytes`.
pub(super) fn any_whole(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| bytes[at..].starts_with(&MARK) && payload(&bytes[at..]).is_some())
}

/// Digest of an answer, payloads left out: equal answers have equal digests.
pub(super) fn digest<T: Serialize>(answer: &T) -> u32 {
    struct Checksum(u32);
    impl io::Write for Checksum {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = crc32c::crc32c_append(self.0, bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    match postcard::to_io(answer, Checksum(0)) {
        Ok(Checksum(digest)) => digest,
        Err(error) => unreachable!("encoding: {error}"),
    }
}

macro_rules! repeatable {
    ($($operation:ident),* $(,)?) => {
        $(impl Repeatable for $operation {})*

        fn repeat_tagged(tag: u8, record: &Recorded<'_>, state: &mut State) -> Result<(), String> {
            match tag {
                $($operation::TAG => record.repeat::<$operation>(state),)*
                tag => Err(format!("an unknown operation ({tag})")),
            }
        }
    };
}

repeatable! {
    Append, OpenSession, CloseSession, ReadMailbox, Settle, Compare, Subscribe, RenewIncarnation, Sweep, Purge,
    ForgetDeadLetters, NewsTold, CreateOrganization, CreateOrchestrator, CreateApiKey, CreateLogin, FirstSigningKey, RotateLogin,
    Revoke, SetSettings, SetOrchestratorStatus, TakeSecret, RotateSigningKey, AppendAudit,
    TakeReports, Register, Unregister, Publish, Interest, SweepFeeds, RegisterOrchestrator,
    DeregisterOrchestrator, Commit, ForgetDelegation, ReportOrchestrator, NoteStanding,
}

/// Repeats the operation of a payload.
pub(super) fn repeat(payload: &[u8], state: &mut State) -> Result<(), String> {
    let (prefix, body) = payload.split_at_checked(PREFIX).ok_or("a record without its prefix")?;
    let mut millis = [0; 8];
    millis.copy_from_slice(&prefix[1..9]);
    let mut digest = [0; 4];
    digest.copy_from_slice(&prefix[9..]);
    let record =
        Recorded { now: Timestamp::from_millis(u64::from_le_bytes(millis)), digest: u32::from_le_bytes(digest), body };
    repeat_tagged(prefix[0], &record, state)
}

struct Recorded<'a> {
    now: Timestamp,
    digest: u32,
    body: &'a [u8],
}

impl Recorded<'_> {
    fn repeat<O: Operation>(&self, state: &mut State) -> Result<(), String> {
        let operation: O =
            postcard::from_bytes(self.body).map_err(|error| format!("an unreadable operation ({error})"))?;
        let answer = operation.apply(state, self.now);
        if digest(&answer) == self.digest {
            Ok(())
        } else {
            Err(format!("an operation ({}) that answers otherwise than it did", O::TAG))
        }
    }
}
