//! Services that share a process reach each other without the kernel: the same bytes, through a pipe in memory.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;

/// Bytes that a pipe holds in each direction before its writer waits.
const PIPE: usize = 256 * 1024;
/// Connections that may wait to be accepted.
const BACKLOG: usize = 64;

/// Listeners of this process, by the address that they also serve on the network. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Neighbours(Arc<Mutex<HashMap<SocketAddr, mpsc::Sender<DuplexStream>>>>);

impl Neighbours {
    /// Takes connections of neighbours for an address, for as long as the receiver lives.
    pub fn listen(&self, address: SocketAddr) -> mpsc::Receiver<DuplexStream> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, sender);
        receiver
    }

    /// A connection to a listener of this process; `None` if nobody here listens at the address.
    pub async fn dial(&self, address: SocketAddr) -> Option<DuplexStream> {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()?;
        let (here, there) = duplex(PIPE);
        listener.send(there).await.ok()?;
        Some(here)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_neighbour_is_reached_while_it_listens() {
        let neighbours = Neighbours::default();
        let address = SocketAddr::from(([127, 0, 0, 1], 8782));
        assert!(neighbours.dial(address).await.is_none());
        let mut listener = neighbours.listen(address);
        let mut here = neighbours.dial(address).await.unwrap();
        let mut there = listener.recv().await.unwrap();
        here.write_all(b"hello").await.unwrap();
        let mut read = [0; 5];
        there.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
        drop(listener);
        assert!(neighbours.dial(address).await.is_none());
    }
}
