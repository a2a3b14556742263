//! Connections from other services: plain, or secured, with the name that the other side can prove.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;
use waystation_runtime::{Accepted, Context};

/// Connections whose handshake is done and that nobody has taken yet.
const WAITING: usize = 64;
/// After a failure to accept, such as no more file descriptors.
const AGAIN: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection. An extension of every request that comes by it.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Where from.
    pub address: Option<SocketAddr>,
    /// The internal service that its certificate names, or `cell.` and another cell.
    pub service: Option<Arc<str>>,
}

/// A connection.
pub(crate) struct Incoming {
    stream: Accepted,
    peer: Peer,
}

impl Connected for Incoming {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts connections until the process stops. Handshakes go on beside each other.
pub(crate) fn accept(listener: TcpListener, context: &Context) -> ReceiverStream<io::Result<Incoming>> {
    let (ready, incoming) = mpsc::channel(WAITING);
    let context = context.clone();
    context.lifecycle.clone().spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = context.lifecycle.stopping() => return,
                () = ready.closed() => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    let (ready, of_task) = (ready.clone(), context.clone());
                    context.lifecycle.spawn(async move {
                        tokio::select! {
                            () = greet(stream, address, &of_task, ready) => {}
                            () = of_task.lifecycle.stopping() => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept: {error}");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    });
    ReceiverStream::new(incoming)
}

async fn greet(stream: TcpStream, address: SocketAddr, context: &Context, ready: mpsc::Sender<io::Result<Incoming>>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("cannot tune a socket: {error}");
    }
    let (stream, service) = match &context.reach.tls {
        None => (Either::Left(stream), None),
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => {
                let service = tls.name_of(stream.get_ref().1.peer_certificates().unwrap_or_default()).map(Arc::from);
                (Either::Right(Box::new(stream)), service)
            }
            Err(error) => return tracing::debug!(%address, "no handshake: {error}"),
        },
    };
    let incoming = Incoming { stream, peer: Peer { address: Some(address), service } };
    // The server has stopped: nobody is there for it.
    drop(ready.send(Ok(incoming)).await);
}

impl AsyncRead for Incoming {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
