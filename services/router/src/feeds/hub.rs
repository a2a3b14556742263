//! Which feeds have grown, for those who watch them through this router.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use waystation_domain::{FeedPosition, OrganizationId};
use waystation_runtime::Context;
use waystation_store::FeedStore;

/// What other routers published is found by looking so often.
const LOOK: Duration = Duration::from_millis(100);
/// Organizations that are looked at together.
const TOGETHER: usize = 1_000;

type Heads = HashMap<OrganizationId, watch::Sender<Option<FeedPosition>>>;

/// Heads of the feeds that are watched. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct FeedHub(Arc<Mutex<Heads>>);

impl FeedHub {
    /// Looks for what others publish until the process stops.
    pub(crate) fn start(&self, store: Arc<dyn FeedStore>, context: &Context) {
        let (hub, lifecycle) = (self.clone(), context.lifecycle.clone());
        context.lifecycle.spawn(async move {
            let mut ticks = interval(LOOK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = lifecycle.stopping() => return,
                }
                for organizations in hub.watched().chunks(TOGETHER) {
                    // A store that is away has not grown for anybody.
                    let extents = store.extents(organizations, None).await.unwrap_or_default();
                    for (organization, extent) in organizations.iter().zip(extents) {
                        hub.note(organization, extent.head_position());
                    }
                }
            }
        });
    }

    /// Tells when the feed of an organization may have grown.
    pub(crate) fn watch(&self, organization: &OrganizationId) -> watch::Receiver<Option<FeedPosition>> {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heads.entry(organization.clone()).or_insert_with(|| watch::Sender::new(None)).subscribe()
    }

    /// This router has published.
    pub(crate) fn grown(&self, organization: &OrganizationId, head: FeedPosition) {
        self.note(organization, Some(head));
    }

    fn note(&self, organization: &OrganizationId, head: Option<FeedPosition>) {
        let heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = heads.get(organization) {
            known.send_if_modified(|known| std::mem::replace(known, head) != head);
        }
    }

    fn watched(&self) -> Vec<OrganizationId> {
        let mut heads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heads.retain(|_, head| head.receiver_count() > 0);
        heads.keys().cloned().collect()
    }
}
