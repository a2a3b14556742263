//! waystation.gateway.v1.GatewayService

mod connections;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waystation_domain::SessionId;
use waystation_proto::gateway::v1::gateway_service_server::GatewayService;
use waystation_proto::gateway::v1::*;
use waystation_rpc::Fault;
use waystation_rpc::convert::{parse, timestamp_to};
use waystation_wire::Ending;

use crate::{Parts, deliver, drain};

/// Sessions that one call may close.
const MOST_CLOSED: usize = 1_000;
/// Longest spread of a drain.
const LONGEST_SPREAD: Duration = Duration::from_secs(600);

pub(crate) struct GatewayApi(pub(crate) Parts);

#[async_trait]
impl GatewayService for GatewayApi {
    type DeliverStream = ReceiverStream<Result<DeliverResponse, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (answers, receiver) = mpsc::channel(deliver::ANSWERS);
        deliver::serve(&self.0, request.into_inner(), answers);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn close_sessions(
        &self,
        request: Request<CloseSessionsRequest>,
    ) -> Result<Response<CloseSessionsResponse>, Status> {
        let ids = request.into_inner().session_ids;
        if ids.len() > MOST_CLOSED {
            return Err(Fault::field("session_ids", format!("must have at most {MOST_CLOSED} elements")).into());
        }
        let parsed = ids.iter().enumerate().map(|(index, id)| parse(&format!("session_ids[{index}]"), id));
        let ids: Vec<SessionId> = parsed.collect::<Result<_, _>>()?;
        let closed = ids.iter().filter(|id| self.0.registry.end(id, Ending::Terminated)).count();
        Ok(Response::new(CloseSessionsResponse { closed: u32::try_from(closed).unwrap_or(u32::MAX) }))
    }

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        Ok(Response::new(connections::list(&self.0, request.into_inner()).await?))
    }

    async fn get_stats(&self, _: Request<GetStatsRequest>) -> Result<Response<GetStatsResponse>, Status> {
        let parts = &self.0;
        let count = |gauge: i64| u64::try_from(gauge).unwrap_or(0);
        Ok(Response::new(GetStatsResponse {
            incarnation_id: parts.lease.incarnation().to_string(),
            start_time: Some(timestamp_to(parts.started)),
            draining: parts.lease.is_draining(),
            leased: parts.lease.is_valid(parts.context.clock.instant()),
            connections: count(parts.metrics.connections.get()),
            sessions: count(parts.metrics.sessions.get()),
            received: parts.metrics.frames_in.get(),
            sent: parts.metrics.frames_out.get(),
            closes: parts.metrics.closes_by_name(),
        }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        let spread = match request.into_inner().spread {
            None => self.0.config.limits.drain_spread,
            Some(spread) => Duration::try_from(spread)
                .ok()
                .filter(|spread| *spread <= LONGEST_SPREAD)
                .ok_or_else(|| Fault::field("spread", "must be 0 to 10 minutes"))?,
        };
        let sessions = drain::begin(&self.0, spread).await;
        Ok(Response::new(DrainResponse { sessions: u32::try_from(sessions).unwrap_or(u32::MAX) }))
    }
}
