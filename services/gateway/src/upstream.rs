//! Calls to routers and auth, in the words of sessions.

mod combiner;
mod daemon;
mod feeds;
mod outgoing;
mod settle_line;
mod tasks;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Code, Status};
use waystation_domain::{
    DaemonId, FeedPoint, IncarnationId, InstanceId, MessageId, MessageRef, OrchestratorId, OrganizationId,
    ReportedStatus, ResumePoint, ResumeVerdict, SessionId, Subscriptions, Window,
};
use waystation_proto::auth::v1::auth_service_client::AuthServiceClient;
use waystation_proto::auth::v1::{IssueTokenRequest, IssueTokenResponse, RefreshTokenRequest, RefreshTokenResponse};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1 as wire;
use waystation_proto::router::v1::router_service_client::RouterServiceClient;
use waystation_proto::router::v1::session_service_client::SessionServiceClient;
use waystation_rpc::convert::{
    activation_from, entry_from, feed_point_from, gap_from, heads_from, lane_to, lanes_from, lanes_to, position_to,
    subscriptions_from, subscriptions_to,
};
use waystation_rpc::{About, Authorized, Balanced, Bearer, Fault, reason_of};
use waystation_runtime::Context;
use waystation_telemetry::traces::Span;
use waystation_wire::{
    Allowance, AuthRejection, CallFailed, CloseCode, CompareAnswer, Ending, Opening, Outgoing, ReadRequest, ReadResult,
    SendOutcome, SettleAnswer, SettleRequest,
};

use combiner::Combiner;
pub(crate) use feeds::{FeedCalls, FeedUnread, Witness};
use settle_line::SettleLine;
pub(crate) use tasks::{ClusterQuery, OrchestratorQuery, StatusQuery, Tasks};

/// Longest wait for an answer; after it the outcome is unknown.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the public keys are not asked for again.
const KEYS_FOR: Duration = Duration::from_secs(5);
/// Replicas that a call is tried at.
const ATTEMPTS: usize = 3;

/// Other services, as connections need them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upstream {
    sessions: SessionServiceClient<Authorized>,
    /// For those who bring a bearer of their own.
    routers: RouterServiceClient<Balanced>,
    auth: AuthServiceClient<Authorized>,
    /// The public keys, for a moment.
    jwks: Cache<(), Bytes>,
    settle: Combiner<wire::Settlement, wire::Settled>,
    compare: Combiner<wire::SessionReport, wire::ComparedHeads>,
    send: Combiner<wire::SendMessage, wire::SendMessageResult>,
}

/// Which session of which mailbox.
#[derive(Clone, Debug)]
pub(crate) struct SessionKey {
    pub(crate) organization: OrganizationId,
    pub(crate) orchestrator: OrchestratorId,
    pub(crate) session: SessionId,
}

impl SessionKey {
    /// Whom an activity is about.
    pub(crate) fn about(&self) -> About<'_> {
        About {
            organization: self.organization.as_str(),
            orchestrator: self.orchestrator.as_str(),
            session: self.session.as_str(),
            daemon: "",
        }
    }

    fn to_wire(&self) -> Option<wire::SessionRef> {
        Some(wire::SessionRef {
            organization_id: self.organization.to_string(),
            orchestrator_id: self.orchestrator.to_string(),
            session_id: self.session.to_string(),
        })
    }
}

/// What a router must know to open a session.
#[derive(Clone)]
pub(crate) struct OpenRequest {
    pub(crate) session: SessionId,
    pub(crate) token: SecretString,
    pub(crate) daemon: DaemonId,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) window: Window,
    pub(crate) resume: Option<ResumePoint>,
    pub(crate) subscriptions: Option<Subscriptions>,
    /// Where the client is.
    pub(crate) address: IpAddr,
    /// Of an earlier answer, if the connection is opened again.
    pub(crate) born: u64,
}

/// An open session.
pub(crate) struct OpenAnswer {
    pub(crate) organization: OrganizationId,
    pub(crate) born: u64,
    pub(crate) opening: Opening,
}

/// Why a session was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenFailed {
    /// For a reason that the client is told.
    Rejected(AuthRejection),
    /// Two instances keep displacing each other.
    DuplicateIdentity,
    /// A newer connection of the daemon lives.
    Superseded,
    /// Nobody could tell now.
    Unavailable,
    /// This gateway stops.
    Draining,
}

impl OpenFailed {
    /// What to close with.
    pub(crate) fn close_code(&self) -> CloseCode {
        match self {
            OpenFailed::Rejected(rejection) => rejection.close_code(),
            OpenFailed::DuplicateIdentity => CloseCode::DuplicateIdentity,
            OpenFailed::Superseded => CloseCode::Superseded,
            OpenFailed::Unavailable => CloseCode::Overloaded,
            OpenFailed::Draining => CloseCode::Restarting,
        }
    }

    /// How a session ends that could not be opened again; `None`: it is tried again.
    pub(crate) fn ending(self) -> Option<Ending> {
        match self {
            OpenFailed::Rejected(AuthRejection::TokenExpired) => Some(Ending::TokenExpired),
            OpenFailed::Rejected(AuthRejection::MaxConnections) => Some(Ending::RateLimited),
            OpenFailed::Rejected(AuthRejection::AuthFailed | AuthRejection::InsufficientScope) => Some(Ending::Revoked),
            OpenFailed::DuplicateIdentity => Some(Ending::DuplicateIdentity),
            OpenFailed::Superseded => Some(Ending::Superseded),
            OpenFailed::Unavailable | OpenFailed::Draining => None,
        }
    }
}

fn call_failed(status: &Status) -> CallFailed {
    match reason_of(status) {
        Some(ErrorReason::SessionUnknown | ErrorReason::GatewayExpired) => CallFailed::SessionUnknown,
        Some(ErrorReason::Fenced) => CallFailed::NotHolder,
        _ => CallFailed::Unavailable,
    }
}

/// Asks, and asks another replica if one could not be reached or did not answer. Every call may be repeated: the
/// store takes a repeat for what it is.
async fn answered<C: Clone, Q: Clone, T, F>(client: &C, request: Q, call: impl Fn(C, Q) -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let mut attempts = 0;
    loop {
        attempts += 1;
        let answer = tokio::time::timeout(PATIENCE, call(client.clone(), request.clone())).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        match answer {
            Err(status) if attempts < ATTEMPTS && is_of_transport(&status) => {}
            answer => return answer.map(tonic::Response::into_inner),
        }
    }
}

/// No service has judged the call: a connection broke, or nothing came.
fn is_of_transport(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::DeadlineExceeded, Code::Unknown, Code::Cancelled, Code::Internal];
    codes.contains(&status.code()) && reason_of(status).is_none()
}

impl Upstream {
    pub(crate) fn new(routers: Balanced, auth: Balanced, bearer: Bearer, context: &Context) -> Upstream {
        // A read may bring a whole window.
        let sessions =
            SessionServiceClient::with_interceptor(routers.clone(), bearer.clone()).max_decoding_message_size(64 << 20);
        let auth = AuthServiceClient::with_interceptor(auth, bearer);
        let line = SettleLine::new(sessions.clone());
        let settle = Combiner::start(context, move |settlements| {
            let line = line.clone();
            async move { line.settle(settlements).await }
        });
        let of_compare = sessions.clone();
        let compare = Combiner::start(context, move |reports| {
            let client = of_compare.clone();
            async move {
                let request = wire::CompareHeadsRequest { reports };
                let answer =
                    answered(&client, request, |mut client, q| async move { client.compare_heads(q).await }).await;
                answer.map(|answer| answer.results)
            }
        });
        let of_send = sessions.clone();
        let send = Combiner::start(context, move |messages| {
            let client = of_send.clone();
            async move {
                let request = wire::SendMessagesRequest { messages };
                let answer =
                    answered(&client, request, |mut client, q| async move { client.send_messages(q).await }).await;
                answer.map(|answer| answer.results)
            }
        });
        let jwks = Cache::builder().time_to_live(KEYS_FOR).build();
        Upstream { sessions, routers: RouterServiceClient::new(routers), auth, jwks, settle, compare, send }
    }

    /// Renews the lease; answers whether it had ended.
    pub(crate) async fn renew(&self, id: &IncarnationId, address: String, draining: bool) -> Result<bool, Fault> {
        let request = wire::RenewGatewayRequest { incarnation_id: id.to_string(), address, draining };
        let answer =
            answered(&self.sessions, request, |mut client, q| async move { client.renew_gateway(q).await }).await;
        answer.map(|answer| answer.expired).map_err(|status| Fault::unavailable(status.message()))
    }

    pub(crate) async fn open(&self, incarnation: IncarnationId, open: OpenRequest) -> Result<OpenAnswer, OpenFailed> {
        let request = wire::OpenSessionRequest {
            incarnation_id: incarnation.to_string(),
            session_id: open.session.to_string(),
            access_token: open.token.expose_secret().to_owned(),
            daemon_id: open.daemon.to_string(),
            instance: open.instance.map(|instance| instance.to_string()),
            max_in_flight: open.window.entries,
            max_in_flight_bytes: open.window.bytes,
            resume: open.resume.map(|resume| wire::ResumePoint {
                epoch: resume.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
                positions: Some(lanes_to(&resume.positions)),
            }),
            subscriptions: open.subscriptions.as_ref().map(subscriptions_to),
            born: open.born,
            client_address: open.address.to_string(),
        };
        let answer =
            answered(&self.sessions, request, |mut client, q| async move { client.open_session(q).await }).await;
        let answer = answer.map_err(|status| match reason_of(&status) {
            Some(ErrorReason::MaxConnections) => OpenFailed::Rejected(AuthRejection::MaxConnections),
            Some(ErrorReason::DuplicateIdentity) => OpenFailed::DuplicateIdentity,
            Some(ErrorReason::Superseded) => OpenFailed::Superseded,
            Some(ErrorReason::TokenExpired) => OpenFailed::Rejected(AuthRejection::TokenExpired),
            Some(
                ErrorReason::Unauthenticated
                | ErrorReason::TokenRevoked
                | ErrorReason::NotFound
                | ErrorReason::AddressNotAllowed
                | ErrorReason::InvalidField,
            ) => OpenFailed::Rejected(AuthRejection::AuthFailed),
            _ => OpenFailed::Unavailable,
        })?;
        read_opening(answer).map_err(|fault| {
            tracing::error!("a router gave an answer that cannot be read: {fault:?}");
            OpenFailed::Unavailable
        })
    }

    pub(crate) async fn read(&self, key: &SessionKey, read: ReadRequest) -> Result<ReadResult, CallFailed> {
        let request = wire::ReadMailboxRequest {
            session: key.to_wire(),
            fence: read.fence,
            read_id: read.read_id,
            positions: Some(lanes_to(&read.positions)),
            exits_position: read.exits_position,
            max_entries: read.max_entries,
            max_critical: read.max_critical,
            max_bytes: read.max_bytes,
            window_empty: read.window_empty,
        };
        let answer =
            answered(&self.sessions, request, |mut client, q| async move { client.read_mailbox(q).await }).await;
        let answer = answer.map_err(|status| call_failed(&status))?;
        read_result(read.read_id, answer).map_err(unreadable)
    }

    /// Brings acks to the store. `spans` are of those that are traced.
    pub(crate) async fn settle(
        &self,
        key: &SessionKey,
        settle: SettleRequest,
        mut spans: Vec<Span>,
    ) -> Result<SettleAnswer, CallFailed> {
        let settlement = wire::Settlement {
            session: key.to_wire(),
            fence: settle.fence,
            acks: (settle.acks.iter())
                .map(|ack| wire::AckRange {
                    epoch: ack.epoch.to_string(),
                    lane: lane_to(ack.lane).into(),
                    from: ack.from,
                    to: ack.to,
                })
                .collect(),
            ack_ids: settle.ack_ids.iter().map(|id| id.as_str().to_owned()).collect(),
            nacks: (settle.nacks.iter())
                .map(|nack| wire::Nack {
                    position: Some(position_to(nack.position)),
                    attempt: nack.attempt,
                    delay_ms: u64::try_from(nack.delay.as_millis()).unwrap_or(u64::MAX),
                })
                .collect(),
            rejects: (settle.rejects.into_iter())
                .map(|reject| wire::Reject { position: Some(position_to(reject.position)), reason: reject.reason })
                .collect(),
            charges: (settle.charges.iter())
                .map(|charge| wire::Charge { position: Some(position_to(charge.position)), attempt: charge.attempt })
                .collect(),
            gap_mark: settle.gap_mark,
            confirm: settle.confirm.into_iter().map(message_ref).collect(),
            traceparents: spans.iter().map(|span| span.context().to_string()).collect(),
        };
        let settled = self.settle.call(settlement).await;
        if let Err(status) = &settled {
            spans.iter_mut().for_each(|span| span.fail(status.message()));
        }
        spans.into_iter().for_each(Span::end);
        let settled = settled.map_err(|status| call_failed(&status))?;
        let heads = heads_from(settled.heads);
        Ok(SettleAnswer { fenced: settled.fenced, heads, confirmed: settled.confirmed })
    }

    /// Routes a message of a daemon. Its id makes it safe to ask a second router.
    pub(crate) async fn send(&self, token: &SecretString, id: MessageId, message: Outgoing) -> SendOutcome {
        let request = outgoing::request(token, &id, message);
        let answered = self.send.call(request).await;
        outgoing::outcome(id, answered)
    }

    pub(crate) async fn compare(
        &self,
        key: &SessionKey,
        status: Option<ReportedStatus>,
        metrics: Option<Bytes>,
        idle: Duration,
    ) -> Result<CompareAnswer, CallFailed> {
        let report = wire::SessionReport {
            session: key.to_wire(),
            status: status.map_or("", ReportedStatus::name).to_owned(),
            metrics: metrics.unwrap_or_default(),
            idle_ms: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
        };
        let found = self.compare.call(report).await.map_err(|status| call_failed(&status))?;
        if found.unknown {
            return Err(CallFailed::SessionUnknown);
        }
        let activation = found.activation.map(|activation| activation_from(found.fence, activation));
        Ok(CompareAnswer { heads: heads_from(found.heads), activation: activation.transpose().map_err(unreadable)? })
    }

    /// Replaces the subscriptions of a session's daemon; answers where the feed was then.
    pub(crate) async fn subscribe(
        &self,
        key: &SessionKey,
        wanted: &Subscriptions,
    ) -> Result<Option<FeedPoint>, CallFailed> {
        let request =
            wire::UpdateInterestRequest { session: key.to_wire(), subscriptions: Some(subscriptions_to(wanted)) };
        let answer =
            answered(&self.sessions, request, |mut client, q| async move { client.update_interest(q).await }).await;
        let head = answer.map_err(|status| call_failed(&status))?.feed_head;
        head.map(|head| feed_point_from("feed_head", head)).transpose().map_err(unreadable)
    }

    pub(crate) async fn close(&self, key: &SessionKey, goodbye: bool, drained: bool) -> Result<(), CallFailed> {
        let request = wire::CloseSessionRequest { session: key.to_wire(), goodbye, drained };
        let answer =
            answered(&self.sessions, request, |mut client, q| async move { client.close_session(q).await }).await;
        answer.map(|_| ()).map_err(|status| call_failed(&status))
    }

    pub(crate) async fn log_in(&self, request: IssueTokenRequest) -> Result<IssueTokenResponse, Status> {
        answered(&self.auth, request, |mut client, q| async move { client.issue_token(q).await }).await
    }

    pub(crate) async fn refresh(&self, request: RefreshTokenRequest) -> Result<RefreshTokenResponse, Status> {
        answered(&self.auth, request, |mut client, q| async move { client.refresh_token(q).await }).await
    }
}

fn message_ref(which: MessageRef) -> wire::MessageRef {
    let which = match which {
        MessageRef::Position(position) => wire::message_ref::Which::Position(position_to(position)),
        MessageRef::Id(id) => wire::message_ref::Which::MessageId(id.as_str().to_owned()),
    };
    wire::MessageRef { which: Some(which) }
}

fn unreadable(fault: Fault) -> CallFailed {
    tracing::error!("a router gave an answer that cannot be read: {fault:?}");
    CallFailed::Unavailable
}

fn read_opening(answer: wire::OpenSessionResponse) -> Result<OpenAnswer, Fault> {
    let organization = waystation_rpc::convert::parse("organization_id", &answer.organization_id)?;
    let verdict = match answer.verdict() {
        wire::ResumeVerdict::Unspecified => ResumeVerdict::Fresh,
        wire::ResumeVerdict::Resumed => ResumeVerdict::Resumed,
        wire::ResumeVerdict::StoreRestarted => ResumeVerdict::StoreRestarted,
        wire::ResumeVerdict::PossiblyLost => ResumeVerdict::PossiblyLost,
    };
    let activation = answer.activation.map(|activation| activation_from(answer.fence, activation)).transpose()?;
    let subscriptions = subscriptions_from(answer.subscriptions.unwrap_or_default())?;
    let allowance = Allowance {
        window: Window::within_limits(answer.max_in_flight, answer.max_in_flight_bytes),
        messages: (answer.frames_per_minute > 0).then_some(answer.frames_per_minute),
        messages_announced: (answer.frames_per_minute_announced > 0).then_some(answer.frames_per_minute_announced),
    };
    let feed_head = answer.feed_head.map(|head| feed_point_from("feed_head", head)).transpose()?;
    let opening = Opening { activation, verdict, subscriptions, allowance, feed_head };
    Ok(OpenAnswer { organization, born: answer.born, opening })
}

fn read_result(read_id: u64, answer: wire::ReadMailboxResponse) -> Result<ReadResult, Fault> {
    Ok(ReadResult {
        read_id,
        gaps: answer.gaps.into_iter().map(gap_from).collect::<Result<_, _>>()?,
        exits_position: answer.exits_position,
        entries: answer.entries.into_iter().map(entry_from).collect::<Result<_, _>>()?,
        heads: heads_from(answer.heads),
        positions: lanes_from(answer.positions),
    })
}
