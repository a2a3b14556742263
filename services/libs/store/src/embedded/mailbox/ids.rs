//! Callers' message ids: idempotency (rule 2).

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use waystation_domain::{Lane, MessageId, Timestamp};

use crate::limits;
use crate::mailbox::AppendMessage;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Ids {
    known: HashMap<MessageId, Known>,
    /// Those of settled messages, oldest first.
    settled: VecDeque<(Timestamp, MessageId)>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) lane: Lane,
    pub(super) sequence: u64,
    pub(super) content: ContentDigest,
}

/// The first half of SHA-256 over what makes two messages the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContentDigest([u8; 16]);

impl ContentDigest {
    pub(super) fn of(message: &AppendMessage) -> ContentDigest {
        let channel = message.channel.as_ref().map_or("", |channel| channel.as_str());
        let mut hash = Sha256::new();
        // Neither name can hold a NUL.
        for part in [message.event_type.as_str(), channel] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.update(&message.data);
        let whole: [u8; 32] = hash.finalize().into();
        ContentDigest(std::array::from_fn(|i| whole[i]))
    }
}

impl Ids {
    pub(super) fn get(&self, id: &MessageId) -> Option<Known> {
        self.known.get(id).copied()
    }

    pub(super) fn insert(&mut self, id: MessageId, known: Known) {
        self.known.insert(id, known);
    }

    /// The message of this id is not resident any more; from now on the id ages.
    pub(super) fn settled(&mut self, id: &MessageId, now: Timestamp) {
        self.settled.push_back((now, id.clone()));
    }

    pub(super) fn forget_old(&mut self, now: Timestamp) {
        while let Some((since, id)) = self.settled.front() {
            let age = now.since(*since);
            let kept = self.settled.len();
            let forget = kept > limits::IDS
                || kept > limits::IDS_NEWEST && age > limits::IDS_AGE_ALL
                || age > limits::IDS_AGE_NEWEST;
            if !forget {
                return;
            }
            self.known.remove(id);
            self.settled.pop_front();
        }
    }
}
