//! FederationService.

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use waystation_domain::federation::{Delegation, DelegationRequest, Refused, Reported, Told};
use waystation_domain::{DelegationId, OrchestratorId, OrganizationId, Timestamp, TokenClass};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::federation::v1::federation_service_server::FederationService;
use waystation_proto::federation::v1::*;
use waystation_rpc::convert::{parse, parse_optional};
use waystation_rpc::{Caller, Fault};
use waystation_store::federation::{Kept, Listed};

use crate::{Parts, broadcast, context, desk, herald, request, views, watch};

/// Elements of a page.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1_000;

pub(crate) struct FederationApi(pub(crate) Parts);

/// Who calls about which delegation.
struct Matter {
    caller: Caller,
    organization: OrganizationId,
    id: DelegationId,
}

fn matter(caller: Caller, organization: &str, id: &str) -> Result<Matter, Fault> {
    let organization = caller.organization(organization)?;
    Ok(Matter { caller, organization, id: parse("delegation_id", id)? })
}

fn page_size(wanted: u32) -> Result<usize, Fault> {
    match wanted {
        0 => Ok(PAGE as usize),
        1..=LARGEST_PAGE => Ok(wanted as usize),
        _ => Err(Fault::field("page_size", format!("must be 1 to {LARGEST_PAGE}"))),
    }
}

fn refused(refused: Refused) -> Fault {
    match refused {
        // As if there were none: whose it is, is nobody else's matter.
        Refused::NotYours => Fault::not_found("delegation"),
        Refused::OtherAttempt => Fault::field("attempt", "is none of yours"),
        Refused::NotAccepted => Fault::new(ErrorReason::DelegationState, refused.to_string()),
        Refused::Ended(state) => desk::ended(state),
    }
}

impl FederationApi {
    /// Takes what an assignee says.
    async fn report(
        &self,
        Matter { caller, organization, id }: Matter,
        orchestrator: &str,
        rule: impl Fn(&mut Delegation, &OrchestratorId, Timestamp) -> Result<Reported, Refused>,
    ) -> Result<ReportOutcome, Fault> {
        let by = request::one_speaker(&caller, "orchestrator_id", orchestrator)?;
        let reported =
            desk::change(&self.0, &organization, &id, |delegation, now| rule(delegation, &by, now).map_err(refused));
        let reported = reported.await?;
        self.0.metrics.reported(reported);
        Ok(views::outcome(reported))
    }

    /// A delegation that the caller may see.
    async fn seen(&self, Matter { caller, organization, id }: &Matter) -> Result<Kept, Fault> {
        let kept = desk::find(&self.0, organization, id).await?;
        request::check_view(caller, &kept)?;
        Ok(kept)
    }

    async fn delegate(&self, caller: Caller, wanted: DelegateTaskRequest) -> Result<DelegateTaskResponse, Fault> {
        let organization = caller.organization(&wanted.organization_id)?;
        let request_id = wanted.request_id.clone();
        let (written, entries) = request::entries(&wanted.context)?;
        let mut request = DelegationRequest { context: written, ..request::delegation(&caller, wanted)? };
        let now = self.0.context.clock.now();
        if let Some(parent) = request.parent.clone() {
            let unknown = |_| Fault::field("parent_delegation_id", "is not known");
            let parent = desk::find(&self.0, &organization, &parent).await.map_err(unknown)?;
            request::inherit(&mut request, &parent, now)?;
        }
        request::check_hops(&request)?;
        let fresh = self.0.context.entropy.id();
        let id = request::delegation_id(&organization, request.from.as_ref(), &request_id, fresh)?;
        let (kept, duplicate) = desk::begin(&self.0, &organization, Delegation::new(id, request, now), entries).await?;
        let delegation = kept.delegation;
        Ok(DelegateTaskResponse {
            delegation_id: delegation.id.to_string(),
            state: views::state(delegation.state).into(),
            assignee_id: delegation.holder().map_or(String::new(), ToString::to_string),
            duplicate,
        })
    }

    async fn list_orchestrators(
        &self,
        organization: &OrganizationId,
        wanted: &ListOrchestratorsRequest,
    ) -> Result<ListOrchestratorsResponse, Fault> {
        let most = page_size(wanted.page_size)?;
        let capabilities = request::capabilities("capabilities", &wanted.capabilities)?;
        let after = parse_optional("page_token", &wanted.page_token)?;
        let registry = self.0.registries.fresh(organization).await?;
        let fits = |listed: &Listed, standing| {
            let Listed { registration, reserved, report, .. } = listed;
            let has = |needed| registration.capabilities.iter().any(|capability| capability.meets(needed));
            let used = report.as_ref().map_or(0, |report| report.tokens_used);
            capabilities.iter().all(has)
                && (wanted.region.is_empty() || wanted.region == registration.region)
                && (wanted.standing() == Standing::Unspecified || wanted.standing() == views::standing(standing))
                && registration.max_concurrent.saturating_sub(*reserved) >= wanted.free
                && registration.token_limit.is_none_or(|limit| limit.saturating_sub(used) >= wanted.free_tokens)
        };
        let skip = usize::try_from(wanted.offset).unwrap_or(usize::MAX);
        let now = self.0.context.clock.now();
        let mut page = registry.listed(after.as_ref(), skip.saturating_add(most + 1), now, fits);
        page.drain(..skip.min(page.len()));
        let is_more = page.len() > most;
        page.truncate(most);
        let last = page.last().filter(|_| is_more);
        let next_page_token = last.map_or(String::new(), |(listed, _)| listed.registration.id.to_string());
        let total = u32::try_from(registry.count(now, fits)).unwrap_or(u32::MAX);
        let orchestrators = page.into_iter().map(|(listed, standing)| views::orchestrator(listed, standing)).collect();
        Ok(ListOrchestratorsResponse { orchestrators, next_page_token, total })
    }

    /// Delegations whose open attempt is somebody's.
    async fn held(&self, organization: &OrganizationId, assignee: &OrchestratorId) -> Result<Vec<Kept>, Fault> {
        let held = self.0.store.federation.held_delegations(organization, assignee, None).await;
        let finding = held
            .map_err(Fault::unavailable)?
            .into_iter()
            .map(async |id| self.0.store.federation.delegation(organization, &id, None).await);
        let found = try_join_all(finding).await.map_err(Fault::unavailable)?;
        let is_theirs = |kept: &Kept| kept.delegation.holder() == Some(assignee);
        Ok(found.into_iter().flatten().filter(is_theirs).collect())
    }

    async fn list_delegations(
        &self,
        caller: &Caller,
        wanted: &ListDelegationsRequest,
    ) -> Result<ListDelegationsResponse, Fault> {
        let organization = caller.organization(&wanted.organization_id)?;
        let most = page_size(wanted.page_size)?;
        let after = match wanted.page_token.split_once('.') {
            None if wanted.page_token.is_empty() => None,
            Some((created, id)) => {
                let created = created.parse().map_err(|_| Fault::field("page_token", "is not one of ours"))?;
                Some((Timestamp::from_millis(created), parse("page_token", id)?))
            }
            None => return Err(Fault::field("page_token", "is not one of ours")),
        };
        let assignee: Option<OrchestratorId> = parse_optional("assignee_id", &wanted.assignee_id)?;
        let page = match &assignee {
            Some(assignee) => self.held(&organization, assignee).await?,
            None => {
                let page = self.0.store.federation.delegations(&organization, after, most, None).await;
                page.map_err(Fault::unavailable)?
            }
        };
        let last = page.last().filter(|_| page.len() == most && assignee.is_none());
        let next_page_token = last.map_or(String::new(), |Kept { delegation, .. }| {
            format!("{}.{}", delegation.created.as_millis(), delegation.id)
        });
        let wants = |kept: &Kept| {
            let of_state =
                wanted.state() == DelegationState::Unspecified || wanted.state() == views::state(kept.delegation.state);
            of_state && request::check_view(caller, kept).is_ok()
        };
        let delegations = page.into_iter().filter(wants).map(views::delegation).collect();
        Ok(ListDelegationsResponse { delegations, next_page_token })
    }
}

#[async_trait]
impl FederationService for FederationApi {
    async fn register_orchestrator(
        &self,
        request: Request<RegisterOrchestratorRequest>,
    ) -> Result<Response<RegisterOrchestratorResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let organization = caller.organization(&wanted.organization_id)?;
        let registration = request::registration(&caller, wanted.orchestrator)?;
        let new = Told::of_new(self.0.context.clock.now());
        let kept = self.0.store.federation.register_orchestrator(&organization, registration.clone(), new, None).await;
        kept.map_err(Fault::unavailable)?;
        self.0.registries.fresh(&organization).await?;
        herald::registered(&self.0, &organization, &registration).await?;
        Ok(Response::new(RegisterOrchestratorResponse {}))
    }

    async fn deregister_orchestrator(
        &self,
        request: Request<DeregisterOrchestratorRequest>,
    ) -> Result<Response<DeregisterOrchestratorResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let organization = caller.organization(&wanted.organization_id)?;
        let id = request::one_speaker(&caller, "orchestrator_id", &wanted.orchestrator_id)?;
        let was_registered = herald::deregister(&self.0, &organization, &id, "asked").await?;
        Ok(Response::new(DeregisterOrchestratorResponse { was_registered }))
    }

    async fn report_heartbeat(
        &self,
        request: Request<ReportHeartbeatRequest>,
    ) -> Result<Response<ReportHeartbeatResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let organization = caller.organization(&wanted.organization_id)?;
        let id = request::one_speaker(&caller, "orchestrator_id", &wanted.orchestrator_id)?;
        let report = request::report(wanted.report, self.0.context.clock.now())?;
        let known = self.0.store.federation.report_orchestrator(&organization, &id, report, None).await;
        if !known.map_err(Fault::unavailable)? {
            return Err(Fault::not_found("orchestrator").into());
        }
        self.0.registries.fresh(&organization).await?;
        Ok(Response::new(ReportHeartbeatResponse {}))
    }

    async fn get_orchestrator(
        &self,
        request: Request<GetOrchestratorRequest>,
    ) -> Result<Response<GetOrchestratorResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let organization = caller.organization(&wanted.organization_id)?;
        let id: OrchestratorId = parse("orchestrator_id", &wanted.orchestrator_id)?;
        let found = self.0.registries.fresh(&organization).await?.one(&id, self.0.context.clock.now());
        let (listed, standing) = found.ok_or_else(|| Fault::not_found("orchestrator"))?;
        Ok(Response::new(GetOrchestratorResponse { orchestrator: Some(views::orchestrator(listed, standing)) }))
    }

    async fn list_orchestrators(
        &self,
        request: Request<ListOrchestratorsRequest>,
    ) -> Result<Response<ListOrchestratorsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let organization = caller.organization(&wanted.organization_id)?;
        Ok(Response::new(self.list_orchestrators(&organization, &wanted).await?))
    }

    async fn delegate_task(
        &self,
        request: Request<DelegateTaskRequest>,
    ) -> Result<Response<DelegateTaskResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.delegate(caller, request.into_inner()).await?))
    }

    async fn respond_to_delegation(
        &self,
        request: Request<RespondToDelegationRequest>,
    ) -> Result<Response<RespondToDelegationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let said = request.into_inner();
        let matter = matter(caller, &said.organization_id, &said.delegation_id)?;
        let reason = request::words("reason", said.reason)?;
        let estimate = request::estimate(said.estimated_completion)?;
        let outcome = self.report(matter, &said.orchestrator_id, |delegation, by, now| {
            let answer = if said.accepted { Ok(estimate.clone()) } else { Err(reason.clone()) };
            delegation.respond(by, said.attempt, answer, now)
        });
        Ok(Response::new(RespondToDelegationResponse { outcome: outcome.await?.into() }))
    }

    async fn report_progress(
        &self,
        request: Request<ReportProgressRequest>,
    ) -> Result<Response<ReportProgressResponse>, Status> {
        let caller = Caller::of(&request)?;
        let said = request.into_inner();
        let matter = matter(caller, &said.organization_id, &said.delegation_id)?;
        if said.progress > 100 {
            return Err(Fault::field("progress", "must be 0 to 100").into());
        }
        let message = request::words("message", said.message)?;
        let outcome = self.report(matter, &said.orchestrator_id, |delegation, by, now| {
            delegation.progress(by, said.attempt, (said.progress, &message), now)
        });
        Ok(Response::new(ReportProgressResponse { outcome: outcome.await?.into() }))
    }

    async fn complete_delegation(
        &self,
        request: Request<CompleteDelegationRequest>,
    ) -> Result<Response<CompleteDelegationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let said = request.into_inner();
        let matter = matter(caller, &said.organization_id, &said.delegation_id)?;
        let verdict = request::verdict(said.verdict)?;
        let outcome = self.report(matter, &said.orchestrator_id, |delegation, by, now| {
            delegation.complete(by, said.attempt, verdict.clone(), now)
        });
        Ok(Response::new(CompleteDelegationResponse { outcome: outcome.await?.into() }))
    }

    async fn cancel_delegation(
        &self,
        request: Request<CancelDelegationRequest>,
    ) -> Result<Response<CancelDelegationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let said = request.into_inner();
        let reason = request::words("reason", said.reason)?;
        let matter = matter(caller, &said.organization_id, &said.delegation_id)?;
        let kept = self.seen(&matter).await?;
        let is_daemon = matter.caller.0.class == TokenClass::Access;
        if is_daemon && kept.delegation.request.from != matter.caller.0.orchestrator {
            return Err(Fault::new(ErrorReason::PermissionDenied, "only its delegator may cancel it").into());
        }
        let cancelled = desk::change(&self.0, &matter.organization, &matter.id, |delegation, now| {
            delegation.cancel(&reason, now).map_err(refused)
        });
        cancelled.await?;
        Ok(Response::new(CancelDelegationResponse {}))
    }

    async fn get_delegation(
        &self,
        request: Request<GetDelegationRequest>,
    ) -> Result<Response<GetDelegationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let kept = self.seen(&matter(caller, &wanted.organization_id, &wanted.delegation_id)?).await?;
        Ok(Response::new(GetDelegationResponse { delegation: Some(views::delegation(kept)) }))
    }

    async fn list_delegations(
        &self,
        request: Request<ListDelegationsRequest>,
    ) -> Result<Response<ListDelegationsResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.list_delegations(&caller, &request.into_inner()).await?))
    }

    type WatchDelegationStream = ReceiverStream<Result<WatchDelegationResponse, Status>>;

    async fn watch_delegation(
        &self,
        request: Request<WatchDelegationRequest>,
    ) -> Result<Response<Self::WatchDelegationStream>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let matter = matter(caller, &wanted.organization_id, &wanted.delegation_id)?;
        self.seen(&matter).await?;
        Ok(Response::new(watch::serve(&self.0, matter.organization, matter.id, wanted.after_version)))
    }

    async fn explain_delegation(
        &self,
        request: Request<ExplainDelegationRequest>,
    ) -> Result<Response<ExplainDelegationResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let kept = self.seen(&matter(caller, &wanted.organization_id, &wanted.delegation_id)?).await?;
        let decisions = kept.delegation.decisions.iter().cloned().map(views::decision).collect();
        Ok(Response::new(ExplainDelegationResponse { delegation: Some(views::delegation(kept)), decisions }))
    }

    async fn get_context(&self, request: Request<GetContextRequest>) -> Result<Response<GetContextResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let Matter { caller, organization, id } = matter(caller, &wanted.organization_id, &wanted.delegation_id)?;
        Ok(Response::new(context::get(&self.0, &caller, &organization, &id, &wanted).await?))
    }

    async fn put_context(&self, request: Request<PutContextRequest>) -> Result<Response<PutContextResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let Matter { caller, organization, id } = matter(caller, &wanted.organization_id, &wanted.delegation_id)?;
        Ok(Response::new(context::put(&self.0, &caller, &organization, &id, wanted).await?))
    }

    async fn broadcast(&self, request: Request<BroadcastRequest>) -> Result<Response<BroadcastResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.into_inner();
        let organization = caller.organization(&wanted.organization_id)?;
        Ok(Response::new(broadcast::say(&self.0, &caller, &organization, wanted).await?))
    }

    async fn list_peers(&self, request: Request<ListPeersRequest>) -> Result<Response<ListPeersResponse>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(self.0.cells.list(&caller, self.0.context.clock.now())))
    }
}
