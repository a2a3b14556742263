//! Group commit: one thread flushes for all that wait.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::watch;

use crate::Unavailable;

/// Flushes what has been written while anybody waits. The thread ends with the journal.
pub(super) struct Syncer {
    shared: Arc<Shared>,
    /// One request that has not begun covers all that was written before it begins.
    wake: SyncSender<()>,
    synced: watch::Receiver<u64>,
}

struct Shared {
    /// The file that is written now. All before it is on the disk as its snapshot.
    file: Mutex<File>,
    /// Bytes written, over all files.
    written: AtomicU64,
}

/// Waits until the disk has what was written.
pub(in crate::embedded) struct Synced {
    synced: watch::Receiver<u64>,
    target: u64,
}

impl Synced {
    pub(in crate::embedded) async fn wait(mut self) -> Result<(), Unavailable> {
        let reached = self.synced.wait_for(|synced| *synced >= self.target).await;
        reached.map(|_| ()).map_err(|_| Unavailable("the journal is closed".into()))
    }
}

impl Syncer {
    pub(super) fn start(file: &File, dir: PathBuf) -> io::Result<Syncer> {
        let shared = Arc::new(Shared { file: Mutex::new(file.try_clone()?), written: AtomicU64::new(0) });
        let (wake, woken) = mpsc::sync_channel(1);
        let (publish, synced) = watch::channel(0);
        let of_thread = shared.clone();
        thread::Builder::new().name("journal-sync".into()).spawn(move || {
            while woken.recv().is_ok() {
                let written = of_thread.written.load(Ordering::Acquire);
                let flushed = of_thread.file.lock().unwrap_or_else(PoisonError::into_inner).sync_data();
                if let Err(error) = flushed {
                    super::die("flush", &dir, &error);
                }
                publish.send_replace(written);
            }
        })?;
        Ok(Syncer { shared, wake, synced })
    }

    /// Notes that so many bytes were written to the file, and asks for a flush.
    pub(super) fn wrote(&self, bytes: u64) -> Synced {
        let target = self.shared.written.fetch_add(bytes, Ordering::Release) + bytes;
        // Full: a flush that has not begun yet will cover these bytes too.
        self.wake.try_send(()).ok();
        Synced { synced: self.synced.clone(), target }
    }

    /// Goes on with a new file.
    pub(super) fn follow(&self, file: &File) -> io::Result<()> {
        *self.shared.file.lock().unwrap_or_else(PoisonError::into_inner) = file.try_clone()?;
        Ok(())
    }
}
