//! A WebSocket with limits: what it reads is bounded before it is buffered, what it writes is merged.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Sink, Stream as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use waystation_runtime::{Accepted, Clock};
use waystation_wire::{CloseCode, FrameError, FrameStamp, ServerFrame, SharedEvent, binary, json};

use super::CLOSING;
use super::line::{Line, Opcode};
use super::outlet::{Incoming, Outlet};
use crate::Parts;

/// What the library keeps for each connection; what is read at once is the line's matter.
const READ_BUFFER: usize = 128;
/// Frames wait in the log rather than here beyond so many bytes.
const BUFFERED: usize = 64 * 1024;
const BUFFERED_EVENTS: usize = 16 * 1024;
/// Control frames are counted over this period.
const CONTROL_PERIOD: Duration = Duration::from_secs(10);

/// What a client has sent, not read yet.
pub(super) enum Raw {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A ping.
    Alive,
    /// A pong.
    Pong,
    /// All that was queued has been written.
    Flushed,
    /// The connection has ended, or must: then with this code.
    Broken(Option<CloseCode>),
}

/// How frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON in text frames.
    Json,
    /// Protobuf in binary frames: subprotocol `waystation.v1.proto`.
    Binary,
}

pub(super) struct Socket {
    format: Format,
    inner: WebSocketStream<Line>,
    clock: Clock,
    metrics: crate::metrics::Metrics,
    /// For the ids of frames.
    connection: u64,
    frames: u64,
    /// Something was queued and not flushed.
    dirty: bool,
    control: (Instant, u32),
    most_control: u32,
}

impl Socket {
    pub(super) async fn new(stream: Accepted, read: Vec<u8>, format: Format, parts: &Parts) -> Socket {
        let limits = parts.config.limits;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(limits.frame_bytes))
            .max_frame_size(Some(limits.frame_bytes));
        let inner = WebSocketStream::from_partially_read(Line::new(stream), read, Role::Server, Some(config)).await;
        Socket {
            format,
            inner,
            clock: parts.context.clock,
            metrics: parts.metrics.clone(),
            connection: parts.context.entropy.number(),
            frames: 0,
            dirty: false,
            control: (parts.context.clock.instant(), 0),
            most_control: limits.control_frames,
        }
    }

    /// Queues a frame and writes it, for as long as the client reads.
    pub(super) async fn send(&mut self, frame: &ServerFrame) {
        self.queue(frame);
        let flushed = poll_fn(|cx| Pin::new(&mut self.inner).poll_flush(cx));
        if tokio::time::timeout(CLOSING, flushed).await.is_ok() {
            self.dirty = false;
        }
    }

    /// Writes what is queued and, if asked to, reads on. Nothing is lost if it is dropped.
    pub(super) async fn next_raw(&mut self, read: bool) -> Raw {
        let found = poll_fn(|cx| {
            if self.dirty {
                match Pin::new(&mut self.inner).poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        self.dirty = false;
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Some(Err(error)))),
                    Poll::Pending => {}
                }
            }
            if read { Pin::new(&mut self.inner).poll_next(cx).map(Some) } else { Poll::Pending }
        });
        match found.await {
            None => Raw::Flushed,
            Some(message) => self.judge(message),
        }
    }

    /// Queues a text; [`Socket::next_raw`] writes it.
    pub(super) fn queue_text(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        self.frames += 1;
        self.inner.get_mut().queue(Opcode::Text, fill);
        self.metrics.frames_out.inc();
        self.dirty = true;
    }

    /// Asks for a sign of life.
    pub(super) fn queue_ping(&mut self) {
        self.inner.get_mut().queue(Opcode::Ping, |_| {});
        self.dirty = true;
    }

    /// Whether little waits to be written.
    pub(super) fn has_room_for_events(&self) -> bool {
        self.inner.get_ref().waiting() < BUFFERED_EVENTS
    }

    fn judge(&mut self, message: Option<Result<Message, Error>>) -> Raw {
        match message {
            Some(Ok(Message::Text(text))) => {
                self.metrics.frames_in.inc();
                Raw::Text(text)
            }
            Some(Ok(Message::Binary(bytes))) => {
                self.metrics.frames_in.inc();
                Raw::Binary(bytes)
            }
            Some(Ok(Message::Ping(_))) => self.count_control(Raw::Alive),
            Some(Ok(Message::Pong(_))) => self.count_control(Raw::Pong),
            Some(Ok(Message::Close(_) | Message::Frame(_))) | None => Raw::Broken(None),
            Some(Err(error)) => Raw::Broken(code_of(&error)),
        }
    }

    fn count_control(&mut self, control: Raw) -> Raw {
        let now = self.clock.instant();
        if now - self.control.0 > CONTROL_PERIOD {
            self.control = (now, 0);
        }
        self.control.1 += 1;
        // The library has queued a pong.
        self.dirty = true;
        if self.control.1 > self.most_control { Raw::Broken(Some(CloseCode::RateLimited)) } else { control }
    }
}

impl Outlet for Socket {
    fn sent(&self) -> u64 {
        self.frames
    }

    fn has_room(&self, frame: &ServerFrame) -> bool {
        let most = if matches!(frame, ServerFrame::FeedEvent(_)) { BUFFERED_EVENTS } else { BUFFERED };
        self.inner.get_ref().waiting() < most
    }

    fn is_dirty(&self) -> bool {
        self.dirty
    }

    fn written(&self) -> u64 {
        self.inner.get_ref().written()
    }

    fn queue(&mut self, frame: &ServerFrame) {
        self.frames += 1;
        let stamp = FrameStamp { connection: self.connection, number: self.frames, now: self.clock.now() };
        let line = self.inner.get_mut();
        match self.format {
            Format::Json => line.queue(Opcode::Text, |out| json::encode(frame, stamp, out)),
            Format::Binary => line.queue(Opcode::Binary, |out| binary::encode(frame, stamp, out)),
        }
        self.metrics.frames_out.inc();
        self.dirty = true;
    }

    fn takes_events(&self) -> bool {
        self.has_room_for_events()
    }

    fn queue_event(&mut self, event: &Arc<SharedEvent>) {
        self.frames += 1;
        let now = || self.clock.now();
        let (opcode, payload) = match self.format {
            Format::Json => (Opcode::Text, event.json(now)),
            Format::Binary => (Opcode::Binary, event.binary(now)),
        };
        self.inner.get_mut().queue_payload(opcode, payload);
        self.metrics.frames_out.inc();
        self.dirty = true;
    }

    async fn flush(&mut self) {
        if self.dirty {
            // What is left, or an error, is found by the next round.
            let flushed = poll_fn(|cx| Poll::Ready(Pin::new(&mut self.inner).poll_flush(cx))).await;
            self.dirty = !matches!(flushed, Poll::Ready(Ok(())));
        }
    }

    async fn next(&mut self, read: bool) -> Incoming {
        match (self.next_raw(read).await, self.format) {
            (Raw::Text(text), Format::Json) => Incoming::Frame(json::decode(&text)),
            (Raw::Text(_), Format::Binary) => Incoming::Frame(Err(foreign("this connection speaks binary frames"))),
            (Raw::Binary(bytes), Format::Binary) => Incoming::Frame(binary::decode(bytes)),
            (Raw::Binary(_), Format::Json) => Incoming::Frame(Err(foreign("this connection speaks JSON text frames"))),
            (Raw::Alive | Raw::Pong, _) => Incoming::Alive,
            (Raw::Flushed, _) => Incoming::Flushed,
            (Raw::Broken(code), _) => Incoming::Broken(code),
        }
    }

    async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame { code: WireCode::from(code.number()), reason: code.name().into() };
        let closing = async {
            if self.inner.close(Some(frame)).await.is_err() {
                return;
            }
            while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut self.inner).poll_next(cx)).await {}
        };
        if tokio::time::timeout(CLOSING, closing).await.is_err() {
            tracing::debug!("a client did not answer a close");
        }
    }
}

/// A frame of the other format.
fn foreign(message: &str) -> FrameError {
    FrameError { reply_to: None, message: message.to_owned(), field: None }
}

/// What to close with after an error of the WebSocket; `None`: nobody is there to be told.
#[expect(clippy::wildcard_enum_match_arm, reason = "a library's errors: what is not named here ends the line")]
fn code_of(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. } | CapacityError::TooManyHeaders) => {
            Some(CloseCode::TooBig)
        }
        // The line broke, or the client went without saying so.
        Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake
            | ProtocolError::SendAfterClosing
            | ProtocolError::ReceivedAfterClosing,
        ) => None,
        Error::Protocol(_) => Some(CloseCode::ProtocolError),
        Error::Utf8(_) => Some(CloseCode::InvalidText),
        Error::WriteBufferFull(_) => Some(CloseCode::SlowConsumer),
        _ => None,
    }
}
