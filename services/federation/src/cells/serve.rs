//! What this cell does for others.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};
use waystation_domain::federation::{Delegation, DelegationRequest, Summary, ToldSummary};
use waystation_domain::{DelegationId, OrchestratorId, OrganizationId};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::federation::v1::exchange_response::What;
use waystation_proto::federation::v1::peer_service_server::PeerService;
use waystation_proto::federation::v1::{
    ExchangeRequest, ExchangeResponse, OfferTaskRequest, OfferTaskResponse, PeerTask, TaskReport, TaskView,
    WithdrawTaskRequest, WithdrawTaskResponse,
};
use waystation_rpc::convert::{parse, required, timestamp_from};
use waystation_rpc::{Caller, Fault};
use waystation_store::federation::Kept;

use super::{PeerConfig, Serve};
use crate::{Parts, desk, request, views};

/// How often what this cell can do is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks after which it is said that the cell lives.
const ALIVE: u32 = 5;
/// What another replica made of a task is found by looking.
const LOOK_AT_TASK: Duration = Duration::from_millis(500);
/// Answers that wait for the caller.
const WAITING: usize = 64;
/// Tasks of one stream.
const MOST_TASKS: usize = 10_000;
/// Characters of a task's name.
const NAME: usize = 128;

pub(super) struct PeerApi(pub(super) Parts);

/// A cell that calls.
struct Visitor {
    id: OrchestratorId,
    config: PeerConfig,
}

/// A task of another cell, as it is called here.
struct Matter {
    organization: OrganizationId,
    id: DelegationId,
}

impl Visitor {
    fn served(&self, organization: &str) -> Result<&Serve, Fault> {
        let named: OrganizationId = parse("organization_id", organization)?;
        let served = self.config.serves.iter().find(|served| served.organization == named);
        served.ok_or_else(|| Fault::new(ErrorReason::PermissionDenied, "nothing is granted to this organization"))
    }

    fn matter(&self, task: Option<PeerTask>) -> Result<(Matter, &Serve), Fault> {
        let task = required("id", task)?;
        let served = self.served(&task.organization_id)?;
        if task.task_id.is_empty() || task.task_id.len() > NAME {
            return Err(Fault::field("id.task_id", format!("must have 1 to {NAME} characters")));
        }
        let named = format!("{}/{}", task.organization_id, task.task_id);
        let organization = served.ours().clone();
        let id = parse("id", &request::name_of(&organization, Some(&self.id), &named))?;
        Ok((Matter { organization, id }, served))
    }
}

impl PeerApi {
    fn visitor<T>(&self, request: &Request<T>) -> Result<Visitor, Fault> {
        let id: OrchestratorId = parse("certificate", &Caller::of(request)?.0.subject)?;
        let unknown = || Fault::new(ErrorReason::PermissionDenied, "this cell is not known");
        let peer = self.0.cells.peer(&id).ok_or_else(unknown)?;
        Ok(Visitor { config: peer.config.clone(), id })
    }

    async fn offer(&self, visitor: Visitor, offered: OfferTaskRequest) -> Result<OfferTaskResponse, Fault> {
        let (Matter { organization, id }, served) = visitor.matter(offered.id.clone())?;
        // Once for each id: what is shared about it may have changed since it was said first.
        if let Some(view) = self.known(&organization, &id).await? {
            return Ok(OfferTaskResponse { view: Some(view) });
        }
        let needed = request::capabilities("required_capabilities", &offered.required_capabilities)?;
        let is_granted = served.capabilities.is_empty()
            || !needed.is_empty() && needed.iter().all(|one| served.capabilities.contains(&one.name));
        if !is_granted {
            let message = "required_capabilities are not among those that are granted";
            return Err(Fault::new(ErrorReason::PermissionDenied, message));
        }
        let now = self.0.context.clock.now();
        let expires = timestamp_from(Some(&required("expire_time", offered.expire_time)?));
        if expires <= now {
            return Err(Fault::new(ErrorReason::DelegationState, "its time is over"));
        }
        let (written, entries) = request::entries(&offered.context)?;
        let asked = request::of_cell(visitor.id, offered, expires.since(now))?;
        request::check_hops(&asked)?;
        let asked = DelegationRequest { context: written, ..asked };
        let begun = desk::begin(&self.0, &organization, Delegation::new(id.clone(), asked, now), entries).await;
        let view = match begun {
            Ok((kept, _)) => Some(views::task_view(&kept.delegation)),
            // Somebody was faster, perhaps with other words.
            Err(fault) if fault.reason() == ErrorReason::AlreadyExists => self.known(&organization, &id).await?,
            Err(fault) => return Err(fault),
        };
        Ok(OfferTaskResponse { view })
    }

    /// A task that is here.
    async fn known(&self, organization: &OrganizationId, id: &DelegationId) -> Result<Option<TaskView>, Fault> {
        let known = self.0.store.federation.delegation(organization, id, None).await.map_err(Fault::unavailable)?;
        Ok(known.map(|kept| views::task_view(&kept.delegation)))
    }

    async fn withdraw(&self, visitor: Visitor, said: WithdrawTaskRequest) -> Result<WithdrawTaskResponse, Fault> {
        let (Matter { organization, id }, _) = visitor.matter(said.id)?;
        let reason = request::words("reason", said.reason)?;
        if self.known(&organization, &id).await?.is_none() {
            // It may still be on its way: it has ended before it comes.
            let now = self.0.context.clock.now();
            let nothing = OfferTaskRequest { task: Some(Default::default()), ..Default::default() };
            let mut never = Delegation::new(id.clone(), request::of_cell(visitor.id, nothing, Duration::ZERO)?, now);
            let cancelled = never.cancel(&reason, now);
            debug_assert!(cancelled.is_ok(), "it is new");
            let (kept, _) = desk::begin(&self.0, &organization, never, Vec::new()).await?;
            return Ok(WithdrawTaskResponse { view: Some(views::task_view(&kept.delegation)) });
        }
        desk::change(&self.0, &organization, &id, |delegation, now| {
            let is_accepted = delegation.current().is_some_and(|attempt| attempt.accepted.is_some());
            if !(said.unless_accepted && is_accepted) {
                // One that has ended stays as it is.
                delegation.cancel(&reason, now).unwrap_or_default();
            }
            Ok(())
        })
        .await?;
        let Kept { delegation, .. } = desk::find(&self.0, &organization, &id).await?;
        Ok(WithdrawTaskResponse { view: Some(views::task_view(&delegation)) })
    }
}

#[async_trait]
impl PeerService for PeerApi {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<ExchangeResponse, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let visitor = self.visitor(&request)?;
        let (answers, receiver) = mpsc::channel(WAITING);
        let (parts, asking) = (self.0.clone(), request.into_inner());
        let lifecycle = parts.context.lifecycle.clone();
        lifecycle.clone().spawn(async move {
            let gone = answers.clone();
            tokio::select! {
                () = serve(&parts, &visitor, asking, answers) => {}
                () = gone.closed() => {}
                () = lifecycle.stopping() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(Ok))))
    }

    async fn offer_task(&self, request: Request<OfferTaskRequest>) -> Result<Response<OfferTaskResponse>, Status> {
        let visitor = self.visitor(&request)?;
        Ok(Response::new(self.offer(visitor, request.into_inner()).await?))
    }

    async fn withdraw_task(
        &self,
        request: Request<WithdrawTaskRequest>,
    ) -> Result<Response<WithdrawTaskResponse>, Status> {
        let visitor = self.visitor(&request)?;
        Ok(Response::new(self.withdraw(visitor, request.into_inner()).await?))
    }
}

type Answers = mpsc::Sender<ExchangeResponse>;

/// Tells a cell all that it may know, until it goes.
async fn serve(parts: &Parts, visitor: &Visitor, mut asking: Streaming<ExchangeRequest>, answers: Answers) {
    let mut told: Vec<(&Serve, ToldSummary)> = Vec::new();
    for served in &visitor.config.serves {
        // Another stream has other numbers.
        told.push((served, ToldSummary { epoch: parts.context.entropy.number(), ..ToldSummary::default() }));
    }
    let mut following = tokio::task::JoinSet::new();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent_for = 0;
    loop {
        tokio::select! {
            asked = asking.next() => {
                let Some(Ok(ExchangeRequest { watch })) = asked else { return };
                let Some(task) = watch else { continue };
                if following.len() >= MOST_TASKS {
                    return tracing::warn!(cell = %visitor.id, "too many tasks are watched");
                }
                if let Ok((matter, _)) = visitor.matter(Some(task.clone())) {
                    let (parts, answers) = (parts.clone(), answers.clone());
                    following.spawn(async move { follow(&parts, matter, task, answers).await });
                }
            }
            Some(_) = following.join_next(), if !following.is_empty() => {}
            _ = looks.tick() => {
                silent_for += 1;
                for (served, told) in &mut told {
                    match summary(parts, served).await {
                        Ok(now) => {
                            let Some(update) = told.tell(now) else { continue };
                            let summary = views::update(&served.organization, update);
                            if answers.send(ExchangeResponse { what: Some(What::Summary(summary)) }).await.is_err() {
                                return;
                            }
                            silent_for = 0;
                        }
                        Err(fault) => tracing::warn!(cell = %visitor.id, "cannot tell what we can do: {fault}"),
                    }
                }
                if silent_for >= ALIVE {
                    silent_for = 0;
                    if answers.send(ExchangeResponse { what: None }).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// What we can do for an organization of another cell. What others do for us is not ours to give.
async fn summary(parts: &Parts, served: &Serve) -> Result<Summary, Fault> {
    let registry = parts.registries.fresh(served.ours()).await?;
    let mut summary = Summary::default();
    registry.each(parts.context.clock.now(), |listed, standing| {
        let free = listed.registration.max_concurrent.saturating_sub(listed.reserved);
        summary.count(&listed.registration, standing, free, &served.capabilities);
    });
    Ok(summary)
}

/// Tells how a task does, now and whenever that has changed, until it has ended.
async fn follow(parts: &Parts, Matter { organization, id }: Matter, task: PeerTask, answers: Answers) {
    let mut changes = parts.changes.subscribe();
    let mut known = None;
    loop {
        let found = parts.store.federation.delegation(&organization, &id, None).await;
        let mut has_ended = false;
        if let Ok(kept) = found {
            has_ended = kept.as_ref().is_some_and(|kept| kept.delegation.state.is_terminal());
            let version = kept.as_ref().map_or(0, |kept| kept.version);
            if known != Some(version) {
                known = Some(version);
                let view = kept.map(|kept| views::task_view(&kept.delegation));
                let report = TaskReport { task: Some(task.clone()), view };
                if answers.send(ExchangeResponse { what: Some(What::Report(report)) }).await.is_err() {
                    return;
                }
            }
        }
        if has_ended {
            return;
        }
        let changed = async { while changes.recv().await.is_ok_and(|changed| changed != id) {} };
        timeout(LOOK_AT_TASK, changed).await.ok();
    }
}
