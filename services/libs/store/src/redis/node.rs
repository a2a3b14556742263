//! One node and the link to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{ConnectionInfo, ErrorKind, RedisError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::link::{Link, LinkError, Wanted};
use super::sentinel::Sentinels;
use super::settings::Unfit;
use crate::limits;

/// A node that could not be reached is not dialled again for this long; callers get the error at once.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

const NOT_YET: &str = "sentinels name a master that is still a replica";

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The node's memory is full; nothing was done.
    #[error("Redis is full")]
    Full,
    /// Whether anything was done is not known.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl From<RedisError> for CallError {
    fn from(error: RedisError) -> Self {
        CallError::Link(LinkError::Redis(error))
    }
}

/// Where a node is.
pub(super) enum Address {
    Fixed(Box<ConnectionInfo>),
    /// Where these say that the master is.
    Watched(Arc<Sentinels>),
}

/// One node and the link to it.
pub(super) struct Node {
    address: Address,
    pub(super) link: ArcSwapOption<Link>,
    /// When sentinels were last asked.
    looked: Mutex<Option<Instant>>,
    /// Counts the processes that were met at all nodes.
    lives: Arc<AtomicU64>,
    /// Held while a link is opened; remembers the last failure.
    opening: Mutex<Option<(Instant, String)>>,
}

impl Node {
    pub(super) fn new(address: Address, lives: &Arc<AtomicU64>) -> Arc<Node> {
        let (link, looked, opening) = (ArcSwapOption::empty(), Mutex::default(), Mutex::default());
        Arc::new(Node { address, link, looked, lives: lives.clone(), opening })
    }

    pub(super) async fn link(&self, wanted: Wanted) -> Result<Arc<Link>, CallError> {
        let standing = || self.link.load_full().filter(|link| !link.is_broken());
        if let Some(link) = standing() {
            self.look_again(&link).await;
        }
        if let Some(link) = standing() {
            return Ok(link);
        }
        let mut failed = self.opening.lock().await;
        if let Some(link) = standing() {
            return Ok(link);
        }
        if let Some((when, why)) = &*failed
            && when.elapsed() < PAUSE
        {
            return Err(RedisError::from((ErrorKind::Io, "cannot connect", why.clone())).into());
        }
        match self.open(wanted).await {
            Ok(link) => {
                *failed = None;
                let link = Arc::new(link);
                let before = self.link.swap(Some(link.clone()));
                if before.is_none_or(|before| before.info.run_id != link.info.run_id) {
                    self.lives.fetch_add(1, Ordering::AcqRel);
                }
                Ok(link)
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.to_string()));
                Err(error.into())
            }
        }
    }

    async fn open(&self, wanted: Wanted) -> Result<Link, LinkError> {
        match &self.address {
            Address::Fixed(address) => Link::open(address, wanted).await,
            Address::Watched(sentinels) => match Link::open(&sentinels.master().await?, wanted).await {
                // The next master may be named before it knows.
                Err(LinkError::Unfit(Unfit::Replica)) => Err(RedisError::from((ErrorKind::Io, NOT_YET)).into()),
                opened => opened,
            },
        }
    }

    /// A master that was cut off still answers, and what it takes is lost when it comes back as a replica. So sentinels
    /// are asked now and then whether it is still the one; by one caller, while the others go on.
    async fn look_again(&self, link: &Link) {
        let Address::Watched(sentinels) = &self.address else { return };
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if looked.is_some_and(|when| when.elapsed() < limits::SENTINEL_LOOK) {
            return;
        }
        // Without sentinels nobody replaces a master either.
        if let Ok(master) = sentinels.master().await
            && master.addr().to_string() != link.address
        {
            link.give_up();
        }
        *looked = Some(Instant::now());
    }
}
