//! A line to somewhere that can break in every way a line breaks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of the connections that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Both ends are closed properly.
    Close,
    /// Both ends get a reset.
    Reset,
    /// They stay open, and nothing comes through any more.
    BlackHole,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    /// Counts breaks, with the last one.
    broken: watch::Sender<(u64, Option<Break>)>,
}

/// A listener that passes on what it gets.
#[derive(Debug)]
pub struct Line {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Line {
    pub async fn to(target: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { target: Mutex::new(target), broken: watch::channel((0, None)).0 });
        let mut tasks = JoinSet::new();
        let accepting = shared.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                connections.spawn(pass(near, accepting.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Line { address, shared, _tasks: tasks }
    }

    /// New connections go there.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Breaks all connections that are open; new ones pass.
    pub fn cut(&self, how: Break) {
        self.shared.broken.send_modify(|(count, last)| (*count, *last) = (*count + 1, Some(how)));
    }
}

/// How long a black hole stays open: longer than anybody waits who notices it.
const HOLE: Duration = Duration::from_secs(60);

async fn pass(mut near: TcpStream, shared: Arc<Shared>) {
    let target = *shared.target.lock().unwrap();
    let mut broken = shared.broken.subscribe();
    // Whoever is not there: the near end is closed.
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = broken.changed() => {}
    }
    let how = broken.borrow().1;
    match how {
        Some(Break::Reset) => {
            for stream in [&near, &far] {
                stream.set_zero_linger().ok();
            }
        }
        // The far end sees nothing of it, as on a real line; it finds out by its own means.
        Some(Break::BlackHole) => tokio::time::sleep(HOLE).await,
        Some(Break::Close) | None => {}
    }
}
