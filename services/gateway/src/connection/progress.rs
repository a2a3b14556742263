//! How far a client has been given its mailbox and the feed, as its cursor tells it.

use waystation_domain::{FeedPoint, PerLane, ResumePoint};
use waystation_wire::{Cursor, ServerFrame};

#[derive(Debug, Default)]
pub(super) struct Progress(Cursor);

impl Progress {
    /// From what the client remembers.
    pub(super) fn new(cursor: Cursor) -> Progress {
        Progress(cursor)
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.0
    }

    /// All of the feed up to here is given, or is not wanted; answers whether nothing was known of it before.
    pub(super) fn reach(&mut self, point: FeedPoint) -> bool {
        self.0.feed.replace(point).is_none()
    }

    /// A frame is given.
    pub(super) fn note(&mut self, frame: &ServerFrame) {
        let Progress(Cursor { mailbox, feed }) = self;
        #[expect(clippy::wildcard_enum_match_arm, reason = "no other frame moves the client")]
        match frame {
            ServerFrame::AuthSuccess { epoch, feed: begin, .. } => {
                if let Some(epoch) = epoch {
                    let positions = mailbox.map_or_else(PerLane::default, |known| known.positions);
                    *mailbox = Some(ResumePoint { epoch: Some(*epoch), positions });
                }
                *feed = begin.or(*feed);
            }
            ServerFrame::Event(event) => {
                let position = event.entry.position;
                let known =
                    mailbox.get_or_insert(ResumePoint { epoch: Some(position.epoch), positions: PerLane::default() });
                known.epoch = Some(position.epoch);
                let sequence = &mut known.positions[position.lane];
                *sequence = position.sequence.max(*sequence);
            }
            ServerFrame::FeedEvent(event) => *feed = Some(event.event.position.into()),
            _ => {}
        }
    }
}
