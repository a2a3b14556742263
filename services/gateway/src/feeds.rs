//! Feeds as this gateway follows them: one tap for each organization with subscribers, shared by all of them.
//!
//! **Invariants:** an event is matched and encoded once, however many get it; a subscriber that does not keep up is let
//! go of and reads the log at its own pace; what came by a push and what was read meet in the tap, which is in order.

mod feed;
mod index;
mod keeper;
mod pieces;
mod tap;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use waystation_domain::{DaemonId, FeedEvent, OrchestratorId, OrganizationId, ScopeSet, Subscriptions};
use waystation_runtime::Context;
use waystation_token::Claims;

use crate::registry::Handle;
use crate::upstream::FeedCalls;
use feed::Feed;
pub(crate) use feed::Seat;
use pieces::Pieces;

/// After a call failed.
const AGAIN: Duration = Duration::from_millis(500);

/// Who looks at a feed, and what it wants to see.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    /// If it is a daemon.
    pub(crate) orchestrator: Option<OrchestratorId>,
    pub(crate) daemon: Option<DaemonId>,
    pub(crate) scopes: ScopeSet,
    pub(crate) subscriptions: Subscriptions,
}

impl Viewer {
    /// What the holder of a token may see of what it wants.
    pub(crate) fn of(claims: &Claims, subscriptions: Subscriptions) -> Viewer {
        Viewer {
            orchestrator: claims.orchestrator.clone(),
            daemon: claims.daemon.clone(),
            scopes: claims.scopes,
            subscriptions,
        }
    }
}

/// All feeds with subscribers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Feeds(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    feeds: Mutex<HashMap<OrganizationId, Arc<Feed>>>,
    doubt: Notify,
}

/// What every feed needs.
struct Shared {
    calls: FeedCalls,
    pieces: Pieces,
    context: Context,
}

impl Feeds {
    pub(crate) fn start(calls: FeedCalls, context: &Context) -> Feeds {
        let shared = Shared { pieces: Pieces::new(calls.clone()), calls, context: context.clone() };
        let inner = Inner { shared: Arc::new(shared), feeds: Mutex::default(), doubt: Notify::new() };
        let feeds = Feeds(Arc::new(inner));
        keeper::start(&feeds);
        feeds
    }

    /// Takes a place at the feed of an organization. Nothing comes before it is asked for.
    pub(crate) fn sit(&self, organization: &OrganizationId, handle: Arc<Handle>, viewer: Viewer) -> Seat {
        let mut feeds = self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = feeds.entry(organization.clone());
        let feed = feed.or_insert_with(|| Feed::new(organization.clone(), self.0.shared.clone()));
        // Under the lock of the table, so that the feed is not taken for one that nobody wants.
        feed.clone().sit(handle, viewer)
    }

    /// Events came from a router.
    pub(crate) fn push(&self, organization: &str, events: Vec<FeedEvent>) {
        let feed = self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner).get(organization).cloned();
        if let Some(feed) = feed {
            feed.push(events);
        }
    }

    /// Events may have been lost on their way: every feed is compared with the store.
    pub(crate) fn note_loss(&self) {
        self.0.doubt.notify_one();
    }

    fn all(&self) -> Vec<Arc<Feed>> {
        self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Takes out feeds that nobody has wanted for a while.
    fn take_unwanted(&self) -> Vec<OrganizationId> {
        let mut feeds = self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let unwanted: Vec<_> =
            feeds.iter().filter(|(_, feed)| feed.is_unwanted()).map(|(organization, _)| organization.clone()).collect();
        for organization in &unwanted {
            feeds.remove(organization);
        }
        unwanted
    }
}
