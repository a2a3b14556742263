//! Gateways: which live, and a standing stream to each.

mod breaker;
mod links;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use waystation_domain::{IncarnationId, SessionId};
use waystation_proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use waystation_proto::gateway::v1::push::Hint;
use waystation_proto::gateway::v1::termination::Reason;
use waystation_proto::gateway::v1::{CloseSessionsRequest, FeedPush, Push, Termination};
use waystation_rpc::convert::{activation_to, heads_to};
use waystation_rpc::{Activities, Bearer, Fault, channel};
use waystation_runtime::Context;
use waystation_store::MailboxStore;
use waystation_store::mailbox::{
    ActivationNotice, Displaced, DisplacedBecause, Heads, HolderRef, IncarnationInfo, Liveness,
};
use waystation_telemetry::traces::Span;

use crate::metrics::Metrics;
#[cfg(test)]
pub(crate) use breaker::BreakerState;
pub(crate) use breaker::{LinkChange, LinkNews};
pub(crate) use links::Links;
use stream::{Drops, Stream};

/// Hints that wait for a gateway; what comes beyond is dropped, and the gateway is told to compare.
const QUEUE: usize = 1_024;
/// How long a gateway may take to answer a call.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Pushes to gateways. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateways(Arc<Inner>);

struct Inner {
    store: Arc<dyn MailboxStore>,
    table: ArcSwap<Table>,
    streams: Mutex<HashMap<IncarnationId, Outlet>>,
    bearer: Bearer,
    metrics: Metrics,
    activities: Activities,
    links: Links,
    context: Context,
}

/// What the store lists.
#[derive(Default)]
struct Table {
    liveness: Liveness,
    addresses: HashMap<IncarnationId, String>,
}

/// Something for a gateway. All of it are hints: what is lost is read from a log.
enum Hinted {
    /// For one session; the span of an entry that is traced ends when it is on its way.
    Session(Push, Option<Span>),
    /// For whoever has subscribed in an organization.
    Feed(FeedPush),
}

/// Where hints for one gateway go in.
#[derive(Clone)]
struct Outlet {
    queue: mpsc::Sender<Hinted>,
    drops: Drops,
}

impl Gateways {
    pub(crate) fn new(
        store: Arc<dyn MailboxStore>,
        bearer: Bearer,
        metrics: Metrics,
        activities: &Activities,
        links: Links,
        context: &Context,
    ) -> Gateways {
        Gateways(Arc::new(Inner {
            store,
            table: ArcSwap::default(),
            streams: Mutex::default(),
            bearer,
            metrics,
            activities: activities.clone(),
            links,
            context: context.clone(),
        }))
    }

    /// Reads the store's table anew. Streams to gateways that are gone end.
    pub(crate) async fn refresh(&self) -> Result<(), Fault> {
        let listed = self.0.store.incarnations(None).await.map_err(Fault::unavailable)?;
        let which = |wanted: fn(&IncarnationInfo) -> bool| {
            listed.iter().filter(|info| wanted(info)).map(|info| info.incarnation.clone()).collect()
        };
        let liveness = Liveness { gone: which(|info| info.gone), draining: which(|info| info.draining) };
        let live = listed.into_iter().filter(|info| !info.gone);
        let addresses: HashMap<_, _> = live.map(|info| (info.incarnation, info.address)).collect();
        let mut streams = self.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropping its queue ends a stream.
        streams.retain(|incarnation, _| addresses.contains_key(incarnation));
        drop(streams);
        // A stream stands before there is anything to push, so that a loss can be told to every gateway.
        for (incarnation, address) in &addresses {
            self.outlet(incarnation, address);
        }
        self.0.table.store(Arc::new(Table { liveness, addresses }));
        Ok(())
    }

    pub(crate) fn liveness(&self) -> Liveness {
        self.0.table.load().liveness.clone()
    }

    /// The address of a live incarnation.
    pub(crate) fn address(&self, incarnation: &IncarnationId) -> Option<String> {
        self.0.table.load().addresses.get(incarnation).cloned()
    }

    /// Tells every gateway that hints may have been lost: each compares its heads with the store.
    pub(crate) fn note_loss(&self) {
        for outlet in self.0.streams.lock().unwrap_or_else(PoisonError::into_inner).values() {
            outlet.drops.note();
        }
    }

    /// Somebody began to watch activities, or went: gateways are told whether theirs are wanted.
    pub(crate) fn note_watcher(&self) {
        for outlet in self.0.streams.lock().unwrap_or_else(PoisonError::into_inner).values() {
            outlet.drops.wake();
        }
    }

    /// Has a connection closed. A gateway that is gone has no connections.
    pub(crate) async fn close_session(&self, incarnation: &IncarnationId, session: &SessionId) -> Result<(), Fault> {
        let Some(address) = self.address(incarnation) else { return Ok(()) };
        let mut client =
            GatewayServiceClient::with_interceptor(channel(&address, &self.0.context.reach)?, self.0.bearer.clone());
        let request = CloseSessionsRequest { session_ids: vec![session.to_string()] };
        let closed = tokio::time::timeout(PATIENCE, client.close_sessions(request)).await;
        let closed = closed.map_err(|_| Fault::unavailable("the gateway does not answer"))?;
        closed.map(drop).map_err(|status| Fault::unavailable(status.message()))
    }

    /// Sends a hint to the session that holds a mailbox.
    pub(crate) fn push(&self, holder: &HolderRef, hint: Hint, span: Option<Span>) {
        let push = Push { session_id: holder.session.to_string(), hint: Some(hint), fence: holder.fence };
        self.send(&holder.incarnation, &holder.address, Hinted::Session(push, span));
    }

    /// Sends events to a gateway with subscribers.
    pub(crate) fn push_feed(&self, incarnation: &IncarnationId, address: &str, push: FeedPush) {
        self.send(incarnation, address, Hinted::Feed(push));
    }

    pub(crate) fn push_heads(&self, holder: &HolderRef, heads: &Heads) {
        self.push(holder, Hint::Heads(heads_to(heads)), None);
    }

    pub(crate) fn push_activation(&self, notice: &ActivationNotice) {
        self.push(&notice.holder, Hint::Activation(activation_to(&notice.activation)), None);
    }

    /// Tells sessions that they are over.
    pub(crate) fn push_displaced(&self, displaced: &[Displaced]) {
        for Displaced { session, incarnation, address, because } in displaced {
            let reason = match because {
                DisplacedBecause::Superseded => Reason::Superseded,
                DisplacedBecause::DuplicateIdentity => Reason::DuplicateIdentity,
            };
            let hint = Hint::Termination(Termination { reason: reason.into() });
            let push = Push { session_id: session.to_string(), hint: Some(hint), fence: 0 };
            self.send(incarnation, address, Hinted::Session(push, None));
        }
    }

    fn send(&self, incarnation: &IncarnationId, address: &str, push: Hinted) {
        let outlet = self.outlet(incarnation, address);
        match outlet.queue.try_send(push) {
            Ok(()) => drop(self.0.metrics.pushes.inc()),
            Err(TrySendError::Full(hint) | TrySendError::Closed(hint)) => {
                if let Hinted::Session(_, Some(mut span)) = hint {
                    span.fail("too many hints wait for the gateway: it reads the mailbox");
                }
                self.0.metrics.dropped_pushes.inc();
                outlet.drops.note();
            }
        }
    }

    /// The stream to an incarnation, opened if need be.
    fn outlet(&self, incarnation: &IncarnationId, address: &str) -> Outlet {
        let mut streams = self.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outlet) = streams.get(incarnation) {
            return outlet.clone();
        }
        let (queue, receiver) = mpsc::channel(QUEUE);
        let outlet = Outlet { queue, drops: Drops::default() };
        let stream = Stream {
            incarnation: incarnation.clone(),
            address: address.to_owned(),
            bearer: self.0.bearer.clone(),
            drops: outlet.drops.clone(),
            activities: self.0.activities.clone(),
            links: self.0.links.clone(),
            context: self.0.context.clone(),
        };
        self.0.context.lifecycle.spawn(stream.run(receiver));
        streams.insert(incarnation.clone(), outlet.clone());
        outlet
    }
}
