//! The stream under a WebSocket. It holds memory only while something is under way: most connections are idle for hours.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use waystation_runtime::Accepted;

/// Read at once, into a buffer that all connections of a thread share.
const READ: usize = 64 * 1024;
/// Longest header of a server's frame.
const HEADER: usize = 10;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// Opcodes of frames that carry data.
#[derive(Clone, Copy)]
pub(super) enum Opcode {
    Text = 1,
    Binary = 2,
    Ping = 9,
}

/// A stream whose reads are shared and whose writes are merged. What the WebSocket itself writes, pongs and closes, goes
/// into the same buffer as frames, between them and never into one.
pub(super) struct Line {
    stream: Accepted,
    /// Read, and not asked for yet.
    left: Vec<u8>,
    left_at: usize,
    /// To be written.
    out: Vec<u8>,
    out_at: usize,
    written: u64,
}

impl Line {
    pub(super) fn new(stream: Accepted) -> Line {
        Line { stream, left: Vec::new(), left_at: 0, out: Vec::new(), out_at: 0, written: 0 }
    }

    /// Bytes that the kernel has taken.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() - self.out_at
    }

    /// Queues a frame whose payload is written by `fill`.
    pub(super) fn queue(&mut self, opcode: Opcode, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        // Most frames have a length of two bytes; the payload of others is moved.
        const USUAL: usize = 4;
        self.out.extend_from_slice(&[0; USUAL]);
        fill(&mut self.out);
        let length = self.out.len() - start - USUAL;
        let (header, size) = header(opcode, length);
        if size != USUAL {
            let payload = start + USUAL..self.out.len();
            self.out.resize(start + size.max(USUAL) + length, 0);
            self.out.copy_within(payload, start + size);
            self.out.truncate(start + size + length);
        }
        self.out[start..start + size].copy_from_slice(&header[..size]);
    }

    /// Queues a frame whose payload is there.
    pub(super) fn queue_payload(&mut self, opcode: Opcode, payload: &[u8]) {
        let (header, size) = header(opcode, payload.len());
        self.out.reserve(size + payload.len());
        self.out.extend_from_slice(&header[..size]);
        self.out.extend_from_slice(payload);
    }

    /// Writes what waits; afterwards nothing is held.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out_at < self.out.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.out_at..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out_at += count;
            self.written += count as u64;
        }
        (self.out, self.out_at) = (Vec::new(), 0);
        // TLS holds records back until it is flushed.
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// The header of a whole frame of a server, and how many of its bytes count.
fn header(opcode: Opcode, length: usize) -> ([u8; HEADER], usize) {
    let mut header = [0; HEADER];
    header[0] = 0x80 | opcode as u8;
    let size = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => {
            header[1] = short;
            2
        }
        (_, Ok(medium)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    (header, size)
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left.is_empty() {
            let rest = SHARED.with_borrow_mut(|shared| {
                let mut read = ReadBuf::new(shared);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
                let (now, later) = read.filled().split_at(into.remaining().min(read.filled().len()));
                into.put_slice(now);
                Poll::Ready(Ok::<_, io::Error>(later.to_vec()))
            });
            (self.left, self.left_at) = (ready!(rest)?, 0);
            return Poll::Ready(Ok(()));
        }
        let count = into.remaining().min(self.left.len() - self.left_at);
        into.put_slice(&self.left[self.left_at..self.left_at + count]);
        self.left_at += count;
        if self.left_at == self.left.len() {
            self.left = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.drive(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drive(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    async fn pair() -> (Line, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Line::new(Accepted::Left(listener.accept().await.unwrap().0)), client)
    }

    #[tokio::test]
    async fn frames_of_every_length_arrive_whole_and_in_order() {
        let (mut line, client) = pair().await;
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 200_000];
        let writing = async {
            for length in lengths {
                line.queue(Opcode::Text, |out| out.extend(std::iter::repeat_n(b'x', length)));
                line.queue_payload(Opcode::Text, &vec![b'x'; length]);
            }
            line.flush().await.unwrap();
            line
        };
        let reading = async {
            let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
            let mut found = Vec::new();
            while found.len() < 2 * lengths.len() {
                let text = client.next().await.unwrap().unwrap().into_text().unwrap();
                assert!(text.bytes().all(|byte| byte == b'x'));
                found.push(text.len());
            }
            found
        };
        let (line, found) = tokio::join!(writing, reading);
        assert_eq!(found, lengths.map(|length| [length, length]).concat());
        assert_eq!((line.out.capacity(), line.waiting()), (0, 0), "nothing is held");
    }

    #[tokio::test]
    async fn a_small_reader_gets_everything_and_nothing_is_held_afterwards() {
        let (mut line, mut client) = pair().await;
        let sent: Vec<u8> = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
        client.write_all(&sent).await.unwrap();
        let mut read = Vec::new();
        while read.len() < sent.len() {
            let mut piece = [0; 100];
            let count = line.read(&mut piece).await.unwrap();
            read.extend_from_slice(&piece[..count]);
        }
        assert!(read == sent);
        assert_eq!(line.left.capacity(), 0);
        client.shutdown().await.unwrap();
        assert_eq!(line.read(&mut [0; 9]).await.unwrap(), 0, "the end is the end");
    }
}
