//! The frames of the older federation peers (daemon protocol, section 4): another dialect of the same session. What a peer
//! says becomes frames of the daemon protocol, and what it is told becomes its own; the session knows nothing of it.
//!
//! Peers know tasks by the names that delegators gave them, and acknowledge nothing: a message has arrived when the peer has
//! answered a ping that was written after it.

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use waystation_domain::{MessageId, OrchestratorId};

use crate::frame::{Ack, ClientFrame, Received};

/// Tasks that a peer works on, and that it has asked for; more have no room in any registration.
const MOST_TASKS: usize = 10_000;

/// A task that a peer has been offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTask {
    /// As its delegator named it.
    pub task: String,
    /// Which delegation it is.
    pub delegation: String,
    /// Which attempt.
    pub attempt: u32,
    /// Whether the peer has said yes.
    pub accepted: bool,
}

/// What a peer has sent.
#[derive(Debug, PartialEq)]
pub enum PeerSaid {
    /// These frames, in this order.
    Frames(Vec<Received>),
    /// It is alive.
    Alive,
}

/// What a frame about a task was, by the name that the peer knows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum About {
    /// It is to be handed on.
    Asked(String),
    /// It goes on.
    Going(String),
    /// It has ended for the peer.
    Ended(String),
}

/// One connection of a peer.
#[derive(Debug)]
pub struct Peer {
    own: OrchestratorId,
    /// Payloads are JSON in a text, as the peer's were last.
    is_text: bool,
    /// What it may report on, by the name that it knows.
    offered: HashMap<String, PeerTask>,
    /// Its frames about tasks that were not answered yet.
    under_way: HashMap<String, About>,
    /// Counts the frames that it has sent.
    frames: u64,
    /// Messages that were written since the last ping, and before it.
    written: Vec<MessageId>,
    pinged: Vec<MessageId>,
    /// What follows of itself from what was written.
    follows: VecDeque<Received>,
}

impl Peer {
    /// A peer that has shown who it is, and works on these tasks from an earlier connection.
    pub fn new(own: OrchestratorId, tasks: Vec<PeerTask>) -> Peer {
        let offered = tasks.into_iter().map(|task| (task.task.clone(), task)).collect();
        Peer {
            own,
            is_text: true,
            offered,
            under_way: HashMap::new(),
            frames: 0,
            written: Vec::new(),
            pinged: Vec::new(),
            follows: VecDeque::new(),
        }
    }

    /// Whether a ping is to be written now: what was written before it arrives before it.
    pub fn wants_ping(&mut self) -> bool {
        if self.written.is_empty() || !self.pinged.is_empty() {
            return false;
        }
        self.pinged = std::mem::take(&mut self.written);
        true
    }

    /// The peer has answered the ping.
    pub fn handle_pong(&mut self) {
        let ids = std::mem::take(&mut self.pinged);
        if !ids.is_empty() {
            let frame = ClientFrame::Ack(Ack { ids, ..Ack::default() });
            self.follows.push_back(Received { id: None, frame });
        }
    }

    /// A frame that follows of itself, as if the peer had sent it.
    pub fn next_frame(&mut self) -> Option<Received> {
        self.follows.pop_front()
    }

    fn frame_id(&mut self) -> String {
        self.frames += 1;
        format!("p{}", self.frames)
    }
}
