//! Callers' message ids: idempotency (rule 2).

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};
use waystation_domain::{Lane, MessageId, Timestamp};

use crate::limits;
use crate::mailbox::ContentDigest;

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
