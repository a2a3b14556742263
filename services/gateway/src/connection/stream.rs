//! Server-sent events: a response that does not end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use waystation_domain::FeedPoint;
use waystation_runtime::Clock;
use waystation_wire::{CloseCode, Cursor, ServerFrame, json};

use super::outlet::{Incoming, Outlet};
use super::progress::Progress;

/// Frames wait in the log rather than here beyond so many bytes.
const BUFFERED: usize = 16 * 1024;
/// A comment shows that the line stands, to both ends and to whoever is in between.
const BEAT: Duration = Duration::from_secs(15);

/// The end that writes.
pub(super) struct EventStream {
    body: mpsc::Sender<Bytes>,
    out: Vec<u8>,
    progress: Progress,
    beat_at: Instant,
    clock: Clock,
    written: u64,
    sent: u64,
}

/// Where the response reads.
pub(super) type Body = mpsc::Receiver<Bytes>;

impl EventStream {
    /// A stream for a client that remembers so much.
    pub(super) fn new(cursor: Cursor, clock: Clock) -> (EventStream, Body) {
        let (body, receiver) = mpsc::channel(1);
        let beat_at = clock.instant() + BEAT;
        let progress = Progress::new(cursor);
        (EventStream { body, out: Vec::new(), progress, beat_at, clock, written: 0, sent: 0 }, receiver)
    }

    /// Data never holds a line feed: JSON escapes it, but between members a sender may have put some.
    fn put(&mut self, event: Option<&str>, id: Option<Cursor>, data: &str) {
        if let Some(event) = event {
            self.out.extend_from_slice(format!("event: {event}\n").as_bytes());
        }
        if let Some(id) = id {
            self.out.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        for line in data.split(['\n', '\r']) {
            self.out.extend_from_slice(b"data: ");
            self.out.extend_from_slice(line.as_bytes());
            self.out.push(b'\n');
        }
        self.out.push(b'\n');
    }
}

impl Outlet for EventStream {
    fn has_room(&self, _: &ServerFrame) -> bool {
        self.out.len() < BUFFERED
    }

    fn queue(&mut self, frame: &ServerFrame) {
        self.sent += 1;
        self.progress.note(frame);
        let (now, id) = (self.clock.now(), Some(self.progress.cursor()));
        #[expect(clippy::wildcard_enum_match_arm, reason = "all others inform, and are told by their type")]
        match frame {
            ServerFrame::Event(event) => self.put(None, id, &json::encode_entry_item(event)),
            ServerFrame::FeedEvent(event) => self.put(None, id, &String::from_utf8_lossy(event.item())),
            ServerFrame::Gap { gap, .. } => self.put(Some("gap"), id, &json::encode_gap_item(gap, now)),
            ServerFrame::FeedGap { gap, .. } => self.put(Some("gap"), id, &json::encode_feed_gap_item(gap, now)),
            other => {
                if let Some((kind, payload)) = json::encode_payload(other, now) {
                    self.put(Some(kind), id, &payload);
                }
            }
        }
    }

    fn note_point(&mut self, point: FeedPoint) {
        if self.progress.reach(point) {
            // Where it began, so that nothing is missed if the line breaks before the first event.
            self.put(Some("ready"), Some(self.progress.cursor()), "{}");
        }
    }

    async fn next(&mut self, _: bool) -> Incoming {
        if self.out.is_empty() {
            tokio::select! {
                () = tokio::time::sleep_until(self.beat_at.into()) => {
                    self.out.extend_from_slice(b": still here\n\n");
                    self.beat_at = self.clock.instant() + BEAT;
                }
                () = self.body.closed() => return Incoming::Broken(None),
            }
        }
        let Ok(permit) = self.body.reserve().await else { return Incoming::Broken(None) };
        self.written += self.out.len() as u64;
        permit.send(Bytes::from(std::mem::take(&mut self.out)));
        Incoming::Alive
    }

    fn is_dirty(&self) -> bool {
        !self.out.is_empty()
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    async fn close(&mut self, code: CloseCode) {
        let (number, name, _) = code.row();
        self.put(Some("close"), None, &format!(r#"{{"code":{number},"reason":"{name}"}}"#));
        let last = Bytes::from(std::mem::take(&mut self.out));
        if tokio::time::timeout(super::CLOSING, self.body.send(last)).await.is_err() {
            tracing::debug!("a stream did not take its end");
        }
    }
}
