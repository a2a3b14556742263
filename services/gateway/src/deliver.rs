//! waystation.gateway.v1.GatewayService: the standing streams of routers.

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waystation_domain::SessionId;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::gateway::v1::gateway_service_server::GatewayService;
use waystation_proto::gateway::v1::push::Hint as WireHint;
use waystation_proto::gateway::v1::termination::Reason;
use waystation_proto::gateway::v1::{DeliverRequest, DeliverResponse, Push as WirePush};
use waystation_rpc::Fault;
use waystation_rpc::convert::{activation_from, entry_from, heads_from, parse, required};
use waystation_runtime::Context;
use waystation_wire::{Ending, Hint, Push};

use crate::lease::Lease;
use crate::registry::{Event, Registry};

pub(crate) struct DeliverApi {
    pub(crate) registry: Registry,
    pub(crate) lease: Lease,
    pub(crate) context: Context,
}

#[async_trait]
impl GatewayService for DeliverApi {
    type DeliverStream = ReceiverStream<Result<DeliverResponse, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<DeliverRequest>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (answers, receiver) = mpsc::channel(4);
        let (registry, lease, lifecycle) = (self.registry.clone(), self.lease.clone(), self.context.lifecycle.clone());
        self.context.lifecycle.spawn(async move {
            tokio::select! {
                () = take_in(&registry, &lease, request.into_inner(), answers) => {}
                () = lifecycle.stopping() => {}
            }
            // What the router had in hand may be lost.
            registry.send_all(|| Event::PossibleLoss);
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn take_in(
    registry: &Registry,
    lease: &Lease,
    mut frames: Streaming<DeliverRequest>,
    answers: mpsc::Sender<Result<DeliverResponse, Status>>,
) {
    registry.send_all(|| Event::PossibleLoss);
    let mut received = 0;
    while let Ok(Some(frame)) = frames.message().await {
        if frame.incarnation_id != lease.incarnation().as_str() {
            let foreign = Fault::new(ErrorReason::GatewayExpired, "this gateway is another incarnation");
            return drop(answers.send(Err(foreign.into())).await);
        }
        received += frame.pushes.len() as u64;
        let is_ping = frame.pushes.is_empty();
        for push in frame.pushes {
            match read(push) {
                Ok((session, push)) => registry.push(&session, push),
                Err(fault) => tracing::error!("a router sent a hint that cannot be read: {fault:?}"),
            }
        }
        if frame.dropped {
            registry.send_all(|| Event::PossibleLoss);
        }
        if is_ping && answers.send(Ok(DeliverResponse { received })).await.is_err() {
            return;
        }
    }
}

fn read(push: WirePush) -> Result<(SessionId, Push), Fault> {
    let fence = push.fence;
    let hint = match required("hint", push.hint)? {
        WireHint::Entry(entry) => Hint::Entry(entry_from(entry)?),
        WireHint::Heads(heads) => Hint::Heads(heads_from(Some(heads))),
        WireHint::Activation(activation) => Hint::Activated(activation_from(fence, activation)?),
        WireHint::Termination(termination) => Hint::Terminated(match termination.reason() {
            Reason::Unspecified | Reason::Superseded => Ending::Superseded,
            Reason::DuplicateIdentity => Ending::DuplicateIdentity,
        }),
    };
    Ok((parse("session_id", &push.session_id)?, Push { fence, hint }))
}
