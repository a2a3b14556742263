//! waystation.router.v1.SessionService: what gateways call.

mod channels;
mod convert;
mod outgoing;
mod words;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waystation_domain::{FeedExtent, IncarnationId, Scope, Subscriptions, TraceParent, Window, allows_address};
use waystation_proto::common::v1::{ActivityKind, ErrorReason, FeedPosition};
use waystation_proto::router::v1::session_service_server::SessionService;
use waystation_proto::router::v1::*;
use waystation_rpc::convert::{
    activation_to, entry_to, feed_position_to, gap_to, heads_to, lanes_to, parse, required, subscriptions_from,
    subscriptions_to,
};
use waystation_rpc::{About, Fault};
use waystation_store::Unavailable;
use waystation_store::limits::LEASE;
use waystation_store::mailbox::{
    CloseSession, Compare, ComparedSession, MailboxKey, OpenRefused, OpenSession, RenewIncarnation, Renewed, Settle,
    Settled as StoreSettled, Subscribe,
};
use waystation_store::report::Report;
use waystation_telemetry::traces::Span;
use waystation_token::Claims;

use crate::directory::Rules;
use crate::routing::about;
use crate::{Parts, feeds, news, traces};
use convert::{MOST, refused, session_ref};

pub(crate) struct SessionApi(pub(crate) Parts);

#[async_trait]
impl SessionService for SessionApi {
    async fn renew_gateway(
        &self,
        request: Request<RenewGatewayRequest>,
    ) -> Result<Response<RenewGatewayResponse>, Status> {
        let RenewGatewayRequest { incarnation_id, address, draining } = request.into_inner();
        let incarnation = parse("incarnation_id", &incarnation_id)?;
        let is_new = self.0.gateways.address(&incarnation).is_none();
        let renew = RenewIncarnation { incarnation, address, draining, lease: LEASE };
        let renewed = self.0.store.mailboxes.renew(renew, None).await.map_err(Fault::unavailable)?;
        if is_new || draining {
            self.0.gateways.refresh().await?;
        }
        Ok(Response::new(RenewGatewayResponse {
            expired: renewed == Renewed::Expired,
            lease_ms: u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        let (open, rules) = self.read_open(request.into_inner()).await?;
        let (key, window, most) = (open.mailbox.clone(), open.window, open.most);
        let (session, daemon) = (open.session.clone(), open.daemon.clone());
        match self.0.store.mailboxes.open(open, None).await.map_err(Fault::unavailable)? {
            Ok(opened) => {
                self.0.gateways.push_displaced(&opened.displaced);
                let about = About { session: session.as_str(), daemon: daemon.as_str(), ..about(&key) };
                self.0.activities.tell(ActivityKind::SessionRegistered, about, |_| {});
                self.0.session_changes.tell(&key);
                let feed_head = self.feed_head(&key, &opened.subscriptions).await?;
                Ok(Response::new(OpenSessionResponse {
                    feed_head,
                    organization_id: key.organization.to_string(),
                    fence: opened.activation.as_ref().map_or(0, |activation| activation.fence),
                    activation: opened.activation.as_ref().map(activation_to),
                    born: opened.born,
                    verdict: convert::verdict(opened.verdict).into(),
                    subscriptions: Some(subscriptions_to(&opened.subscriptions)),
                    max_in_flight: window.entries,
                    max_in_flight_bytes: window.bytes,
                    frames_per_minute: rules.settings.frames_per_minute.unwrap_or(0),
                    frames_per_minute_announced: rules.settings.frames_per_minute_announced.unwrap_or(0),
                }))
            }
            Err(refused) => Err(self.refuse_open(refused, most).into()),
        }
    }

    async fn compare_heads(
        &self,
        request: Request<CompareHeadsRequest>,
    ) -> Result<Response<CompareHeadsResponse>, Status> {
        let reports = request.into_inner().reports;
        if reports.len() > MOST {
            return Err(Fault::field("reports", format!("must have at most {MOST} elements")).into());
        }
        let reports = reports.into_iter().map(convert::report).collect::<Result<Vec<_>, _>>()?;
        let said: Vec<Report> = reports.iter().filter_map(convert::said).collect();
        let compare = Compare { reports, liveness: self.0.gateways.liveness() };
        let (compared, kept) = tokio::join!(self.0.store.mailboxes.compare(compare, None), self.keep_words(said));
        let compared = compared.map_err(Fault::unavailable)?;
        if let Err(unavailable) = kept {
            // Nothing is decided by them: the heartbeat is answered all the same.
            tracing::warn!("cannot keep what daemons report: {unavailable}");
        }
        for notice in &compared.activated {
            self.0.gateways.push_activation(notice);
        }
        let results = compared.results.into_iter().map(|known| match known {
            None => ComparedHeads { unknown: true, ..ComparedHeads::default() },
            Some(ComparedSession { heads, epoch, activation }) => ComparedHeads {
                unknown: false,
                heads: Some(heads_to(&heads)),
                fence: activation.as_ref().map_or(0, |activation| activation.fence),
                epoch: epoch.to_string(),
                activation: activation.as_ref().map(activation_to),
            },
        });
        Ok(Response::new(CompareHeadsResponse { results: results.collect() }))
    }

    async fn read_mailbox(
        &self,
        request: Request<ReadMailboxRequest>,
    ) -> Result<Response<ReadMailboxResponse>, Status> {
        let read = convert::read(request.into_inner())?;
        let answer = self.0.store.mailboxes.read(read, None).await.map_err(Fault::unavailable)?.map_err(refused)?;
        Ok(Response::new(ReadMailboxResponse {
            gaps: answer.gaps.iter().map(gap_to).collect(),
            exits_position: answer.exits_position,
            entries: answer.entries.into_iter().map(entry_to).collect(),
            heads: Some(heads_to(&answer.heads)),
            positions: Some(lanes_to(&answer.positions)),
            epoch: answer.epoch.to_string(),
        }))
    }

    type AcknowledgeStream = ReceiverStream<Result<AcknowledgeResponse, Status>>;

    async fn acknowledge(
        &self,
        request: Request<Streaming<AcknowledgeRequest>>,
    ) -> Result<Response<Self::AcknowledgeStream>, Status> {
        let (answers, receiver) = mpsc::channel(1);
        let (api, mut requests) = (SessionApi(self.0.clone()), request.into_inner());
        let lifecycle = self.0.context.lifecycle.clone();
        self.0.context.lifecycle.spawn(async move {
            let settling = async {
                while let Ok(Some(request)) = requests.message().await {
                    let settled = api.settle(request.settlements).await.map_err(Status::from);
                    let is_over = settled.is_err();
                    if answers.send(settled).await.is_err() || is_over {
                        return;
                    }
                }
            };
            tokio::select! {
                () = settling => {}
                () = lifecycle.stopping() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        let CloseSessionRequest { session, goodbye, drained } = request.into_inner();
        let (mailbox, session) = session_ref(session)?;
        let liveness = self.0.gateways.liveness();
        let about = About { session: session.as_str(), ..about(&mailbox) };
        self.0.activities.tell(ActivityKind::SessionUnregistered, about, |_| {});
        let key = mailbox.clone();
        let close = CloseSession { mailbox, session, goodbye, drained, liveness };
        if let Some(notice) = self.0.store.mailboxes.close(close, None).await.map_err(Fault::unavailable)? {
            self.0.gateways.push_activation(&notice);
        }
        self.0.session_changes.tell(&key);
        Ok(Response::new(CloseSessionResponse {}))
    }

    async fn update_interest(
        &self,
        request: Request<UpdateInterestRequest>,
    ) -> Result<Response<UpdateInterestResponse>, Status> {
        let UpdateInterestRequest { session, subscriptions } = request.into_inner();
        let (mailbox, session) = session_ref(session)?;
        let subscriptions = subscriptions_from(required("subscriptions", subscriptions)?)?;
        let (key, wanted) = (mailbox.clone(), subscriptions.clone());
        let subscribe = Subscribe { mailbox, session, subscriptions };
        let stored = self.0.store.mailboxes.subscribe(subscribe, None).await.map_err(Fault::unavailable)?;
        stored.map_err(refused)?;
        Ok(Response::new(UpdateInterestResponse { feed_head: self.feed_head(&key, &wanted).await? }))
    }

    async fn compare_feeds(
        &self,
        request: Request<CompareFeedsRequest>,
    ) -> Result<Response<CompareFeedsResponse>, Status> {
        let request = request.into_inner();
        let address = self.address(&parse("incarnation_id", &request.incarnation_id)?).await?;
        Ok(Response::new(feeds::compare(&self.0, request, address).await?))
    }

    async fn read_feed(&self, request: Request<ReadFeedRequest>) -> Result<Response<ReadFeedResponse>, Status> {
        Ok(Response::new(feeds::read(&self.0, request.into_inner()).await?))
    }

    async fn send_messages(
        &self,
        request: Request<SendMessagesRequest>,
    ) -> Result<Response<SendMessagesResponse>, Status> {
        let messages = request.into_inner().messages;
        if messages.len() > MOST {
            return Err(Fault::field("messages", format!("must have at most {MOST} elements")).into());
        }
        Ok(Response::new(SendMessagesResponse { results: outgoing::send(&self.0, messages).await }))
    }

    async fn list_channel_messages(
        &self,
        request: Request<ListChannelMessagesRequest>,
    ) -> Result<Response<ListChannelMessagesResponse>, Status> {
        Ok(Response::new(channels::list(&self.0, request.into_inner()).await?))
    }

    async fn report_daemon(
        &self,
        request: Request<ReportDaemonRequest>,
    ) -> Result<Response<ReportDaemonResponse>, Status> {
        Ok(Response::new(words::report(&self.0, request.into_inner()).await?))
    }

    async fn register_daemon(
        &self,
        request: Request<RegisterDaemonRequest>,
    ) -> Result<Response<RegisterDaemonResponse>, Status> {
        Ok(Response::new(words::register(&self.0, request.into_inner()).await?))
    }

    async fn unregister_daemon(
        &self,
        request: Request<UnregisterDaemonRequest>,
    ) -> Result<Response<UnregisterDaemonResponse>, Status> {
        Ok(Response::new(words::unregister(&self.0, request.into_inner()).await?))
    }

    async fn list_daemon_sessions(
        &self,
        request: Request<ListDaemonSessionsRequest>,
    ) -> Result<Response<ListDaemonSessionsResponse>, Status> {
        Ok(Response::new(words::list(&self.0, request.into_inner()).await?))
    }

    async fn end_daemon_sessions(
        &self,
        request: Request<EndDaemonSessionsRequest>,
    ) -> Result<Response<EndDaemonSessionsResponse>, Status> {
        Ok(Response::new(words::end(&self.0, request.into_inner()).await?))
    }
}

impl SessionApi {
    /// Where the feed is now, for somebody who has subscribed.
    async fn feed_head(&self, key: &MailboxKey, wanted: &Subscriptions) -> Result<Option<FeedPosition>, Fault> {
        if wanted.patterns.is_empty() {
            return Ok(None);
        }
        let organization = std::slice::from_ref(&key.organization);
        let extents = self.0.store.feeds.extents(organization, None).await.map_err(Fault::unavailable)?;
        let head = extents.first().and_then(FeedExtent::head_position);
        // Nothing was ever published: everything is to come.
        Ok(Some(head.map(feed_position_to).unwrap_or_default()))
    }

    async fn keep_words(&self, said: Vec<Report>) -> Result<(), Unavailable> {
        if !said.is_empty() {
            let changed = self.0.store.reports.report(said.clone(), None).await?;
            news::tell_reported(&self.0, &said, &changed);
            self.0.bridge.tell(&said, self.0.context.clock.now());
        }
        Ok(())
    }

    /// A login is verified here once more: a gateway alone cannot say whose session it is.
    async fn read_open(&self, request: OpenSessionRequest) -> Result<(OpenSession, Rules), Fault> {
        let claims = self.0.verifier.verify_once(&request.access_token, self.0.context.clock.now())?;
        let daemon_claims =
            claims.as_daemon().ok_or_else(|| Fault::new(ErrorReason::Unauthenticated, "not a daemon's token"))?;
        let daemon = parse("daemon_id", &request.daemon_id)?;
        if daemon_claims.daemon.as_ref().is_some_and(|bound| *bound != daemon) {
            return Err(Fault::new(ErrorReason::Unauthenticated, "the token is bound to another daemon"));
        }
        let mailbox = waystation_store::mailbox::MailboxKey {
            organization: daemon_claims.organization,
            orchestrator: daemon_claims.orchestrator,
        };
        let rules = self.0.directory.check(&mailbox).await?;
        if !rules.settings.networks.is_empty() {
            let address = parse("client_address", &request.client_address)?;
            if !allows_address(&rules.settings.networks, address) {
                let message = "the organization's daemons may not connect from this address";
                return Err(Fault::new(ErrorReason::AddressNotAllowed, message));
            }
        }
        let most = rules.settings.sessions.and_then(|most| usize::try_from(most).ok());
        let window = Window::within_limits(request.max_in_flight, request.max_in_flight_bytes);
        let incarnation = parse("incarnation_id", &request.incarnation_id)?;
        let address = self.address(&incarnation).await?;
        let open = OpenSession {
            mailbox,
            session: parse("session_id", &request.session_id)?,
            daemon,
            login: daemon_claims.login,
            instance: request.instance.as_deref().map(|text| parse("instance", text)).transpose()?,
            incarnation,
            address,
            reads_mail: reads_mail(&claims),
            window: window.at_most(rules.settings.window),
            resume: request.resume.map(convert::resume_point),
            subscriptions: request.subscriptions.map(subscriptions_from).transpose()?,
            born: (request.born > 0).then_some(request.born),
            most: most.unwrap_or(self.0.sessions_per_orchestrator),
            liveness: self.0.gateways.liveness(),
        };
        Ok((open, rules))
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<AcknowledgeResponse, Fault> {
        if settlements.len() > MOST {
            return Err(Fault::field("settlements", format!("must have at most {MOST} elements")));
        }
        let traces = settlements.iter().map(|settlement| traces::settle(&self.0.context.tracer, settlement));
        let traces: Vec<_> = traces.collect();
        let settlements: Vec<_> = settlements.into_iter().map(convert::settlement).collect::<Result<_, _>>()?;
        let mailboxes: Vec<_> = settlements.iter().map(|settlement| settlement.mailbox.clone()).collect();
        let settled = self.0.store.mailboxes.settle(Settle { settlements }, None).await.map_err(Fault::unavailable)?;
        let acknowledged: u64 = settled.iter().map(|one| one.acknowledged).sum();
        if acknowledged > 0 {
            self.0.metrics.acknowledged.inc_by(acknowledged);
        }
        for ((mailbox, settled), (spans, trace)) in mailboxes.iter().zip(&settled).zip(traces) {
            self.note_settled(mailbox, settled, trace.as_ref());
            spans.into_iter().for_each(Span::end);
        }
        let results = settled.into_iter().map(|one| Settled {
            acknowledged: one.acknowledged,
            fenced: one.fenced,
            heads: Some(heads_to(&one.heads)),
            confirmed: one.confirmed,
        });
        Ok(AcknowledgeResponse { results: results.collect() })
    }

    /// Counts a settlement, and tells those who wait for it or watch.
    fn note_settled(&self, mailbox: &MailboxKey, settled: &StoreSettled, trace: Option<&TraceParent>) {
        if settled.acknowledged == 0 && settled.dead == 0 {
            return;
        }
        self.0.stats.settled(&mailbox.organization, &settled.took, settled.dead);
        self.0.metrics.settled(&settled.took, settled.dead, trace);
        let tell = |kind, count| {
            if count > 0 {
                self.0.activities.tell(kind, about(mailbox), |activity| activity.count = count);
            }
        };
        tell(ActivityKind::MessageAcknowledged, settled.acknowledged);
        tell(ActivityKind::MessageDeadLettered, settled.dead);
        if settled.acknowledged > 0 {
            self.0.acknowledged.of(mailbox).notify_waiters();
        }
    }

    /// The address of a gateway that lives. One that came to another router is not in the table yet.
    async fn address(&self, incarnation: &IncarnationId) -> Result<String, Fault> {
        if let Some(address) = self.0.gateways.address(incarnation) {
            return Ok(address);
        }
        self.0.gateways.refresh().await?;
        self.0.gateways.address(incarnation).ok_or_else(expired)
    }

    fn refuse_open(&self, refused: OpenRefused, most: usize) -> Fault {
        match refused {
            OpenRefused::TooManySessions => {
                Fault::new(ErrorReason::MaxConnections, format!("{most} daemons of this orchestrator are connected"))
                    .retry(std::time::Duration::from_secs(60))
            }
            OpenRefused::IncarnationExpired => expired(),
            OpenRefused::Superseded => Fault::new(ErrorReason::Superseded, "a newer connection of this daemon lives"),
            OpenRefused::DuplicateIdentity(displaced) => {
                self.0.gateways.push_displaced(&displaced);
                Fault::new(ErrorReason::DuplicateIdentity, "two instances of this daemon keep displacing each other")
            }
        }
    }
}

fn reads_mail(claims: &Claims) -> bool {
    claims.scopes.allows(Scope::MessagesRead)
}

fn expired() -> Fault {
    Fault::new(ErrorReason::GatewayExpired, "the lease of this gateway has ended")
}
