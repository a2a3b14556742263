//! Calls to routers about feeds. Whose feed it is a subscriber's token says.

use secrecy::{ExposeSecret as _, SecretString};
use tonic::Status;
use waystation_domain::{FeedEvent, FeedExtent, OrganizationId};
use waystation_proto::router::v1 as wire;
use waystation_rpc::Fault;
use waystation_rpc::convert::{extent_from, feed_event_from};
use waystation_runtime::Context;

use super::combiner::Combiner;
use super::{SessionServiceClient, Upstream, answered};
use crate::lease::Lease;

/// The feed could not be read now.
#[derive(Clone, Debug)]
pub(crate) struct FeedUnread;

impl From<Status> for FeedUnread {
    fn from(status: Status) -> FeedUnread {
        tracing::debug!("a router did not answer about a feed: {}", status.message());
        FeedUnread
    }
}

impl From<Fault> for FeedUnread {
    fn from(fault: Fault) -> FeedUnread {
        tracing::error!("a router gave an answer that cannot be read: {fault:?}");
        FeedUnread
    }
}

/// Why a gateway may have a feed: a gateway alone may not.
#[derive(Clone)]
pub(crate) enum Witness {
    /// The token of a subscriber.
    Token(SecretString),
    /// The organization lets anybody watch.
    Anybody(OrganizationId),
}

impl Witness {
    /// The token, and whose feed anybody may have; one of them is empty.
    fn words(&self) -> (String, String) {
        match self {
            Witness::Token(token) => (token.expose_secret().to_owned(), String::new()),
            Witness::Anybody(organization) => (String::new(), organization.to_string()),
        }
    }
}

/// Feeds, as gateways ask for them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct FeedCalls {
    sessions: SessionServiceClient<waystation_rpc::Authorized>,
    compare: Combiner<wire::FeedInterest, wire::ComparedFeed>,
}

impl Upstream {
    /// Calls in the name of whoever this gateway is then.
    pub(crate) fn feeds(&self, lease: &Lease, context: &Context) -> FeedCalls {
        let (client, lease) = (self.sessions.clone(), lease.clone());
        let compare = Combiner::start(context, move |feeds| {
            let (client, incarnation_id) = (client.clone(), lease.incarnation().to_string());
            async move {
                let request = wire::CompareFeedsRequest { incarnation_id, feeds };
                let answer =
                    answered(&client, request, |mut client, q| async move { client.compare_feeds(q).await }).await;
                answer.map(|answer| answer.results)
            }
        });
        FeedCalls { sessions: self.sessions.clone(), compare }
    }
}

impl FeedCalls {
    /// Has routers push what is published from now on; answers how far the feed reaches.
    pub(crate) async fn compare(&self, witness: &Witness) -> Result<FeedExtent, FeedUnread> {
        let (access_token, anonymous_organization_id) = witness.words();
        let interest = wire::FeedInterest { access_token, organization_id: String::new(), anonymous_organization_id };
        let compared = self.compare.call(interest).await?;
        if compared.refused {
            return Err(FeedUnread);
        }
        Ok(extent_from(compared.extent)?)
    }

    /// Nobody is here any more.
    pub(crate) async fn lose_interest(&self, organization: OrganizationId) {
        let organization_id = organization.to_string();
        let interest = wire::FeedInterest { organization_id, ..wire::FeedInterest::default() };
        if let Err(status) = self.compare.call(interest).await {
            // Pushes that nobody wants are let go by.
            tracing::debug!("a router did not hear that nobody is here: {}", status.message());
        }
    }

    /// Reads on.
    pub(crate) async fn read(
        &self,
        witness: &Witness,
        after: u64,
        most: u64,
        bytes: u64,
    ) -> Result<(FeedExtent, Vec<FeedEvent>), FeedUnread> {
        let (access_token, anonymous_organization_id) = witness.words();
        let request = wire::ReadFeedRequest {
            access_token,
            anonymous_organization_id,
            after,
            max_events: u32::try_from(most).unwrap_or(u32::MAX),
            max_bytes: bytes,
        };
        let answer = answered(&self.sessions, request, |mut client, q| async move { client.read_feed(q).await });
        let wire::ReadFeedResponse { extent, events } = answer.await?;
        let events = events.into_iter().map(feed_event_from).collect::<Result<_, _>>()?;
        Ok((extent_from(extent)?, events))
    }
}
