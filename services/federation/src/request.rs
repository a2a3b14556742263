//! Requests, read and judged.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use waystation_domain::federation::{
    Capability, Catalogue, DelegationRequest, Limits, MAX_DEPTH, MAX_ENTRY, NotShared, Priority, Registration, Report,
    Standing, Strategy, SummaryUpdate, Task, Verdict, Written,
};
use waystation_domain::{
    DelegationId, OrchestratorId, OrganizationId, Timestamp, TokenClass, check_document, check_object,
};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::federation::v1::complete_delegation_request::Verdict as WireVerdict;
use waystation_proto::federation::v1::{self as wire, DelegateTaskRequest, DelegationLimits};
use waystation_rpc::convert::{parse, parse_optional, required};
use waystation_rpc::{Caller, Fault};
use waystation_store::federation::{Entry, Kept};

use crate::cells;

/// Bytes of a payload and of a result.
const DATA: usize = 64 * 1024;
/// Bytes of a description.
const DESCRIPTION: usize = 16 * 1024;
/// Bytes of a reason or a word of progress.
const REASON: usize = 1_024;
/// Bytes of names.
const NAME: usize = 128;
/// Capabilities that a task needs.
const CAPABILITIES: usize = 16;
/// Orchestrators that are preferred or excluded.
const ORCHESTRATORS: usize = 64;
/// Further attempts.
const RETRIES: u32 = 16;
const USUAL_RETRIES: u32 = 3;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const USUAL_OFFER: Duration = Duration::from_secs(10);
const USUAL_RUN: Duration = Duration::from_secs(300);

/// The orchestrator of a daemon; `None`: a backend calls.
pub(crate) fn own(caller: &Caller) -> Option<&OrchestratorId> {
    caller.0.orchestrator.as_ref().filter(|_| caller.0.class == TokenClass::Access)
}

/// For whom a caller speaks: a daemon for its own orchestrator, a backend for whom it names.
pub(crate) fn speaker(caller: &Caller, field: &str, named: &str) -> Result<Option<OrchestratorId>, Fault> {
    let named: Option<OrchestratorId> = parse_optional(field, named)?;
    if caller.0.class != TokenClass::Access {
        return Ok(named);
    }
    let own = caller.0.orchestrator.clone();
    match named {
        Some(named) if Some(&named) != own.as_ref() => {
            Err(Fault::new(ErrorReason::PermissionDenied, format!("{field} is not your orchestrator")))
        }
        Some(_) | None => Ok(own),
    }
}

/// The same where somebody must be named.
pub(crate) fn one_speaker(caller: &Caller, field: &str, named: &str) -> Result<OrchestratorId, Fault> {
    speaker(caller, field, named)?.ok_or_else(|| Fault::field(field, "must not be empty"))
}

/// Whether a caller may see a delegation: backends all, daemons those that concern their orchestrator. Others are answered
/// as if it were not there.
pub(crate) fn check_view(caller: &Caller, kept: &Kept) -> Result<(), Fault> {
    let Some(own) = own(caller) else { return Ok(()) };
    let delegation = &kept.delegation;
    let concerns = delegation.request.from.as_ref() == Some(own)
        || delegation.attempts.iter().any(|attempt| attempt.assignee == *own);
    if concerns { Ok(()) } else { Err(Fault::not_found("delegation")) }
}

pub(crate) fn text(field: &str, text: String, most: usize) -> Result<String, Fault> {
    if text.len() > most {
        return Err(Fault::field(field, format!("must have at most {most} bytes")));
    }
    Ok(text)
}

/// Why, how it goes, and such.
pub(crate) fn words(field: &str, words: String) -> Result<String, Fault> {
    text(field, words, REASON)
}

/// When it will be done.
pub(crate) fn estimate(estimate: String) -> Result<String, Fault> {
    text("estimated_completion", estimate, NAME)
}

pub(crate) fn capability(field: &str, wanted: &wire::Capability) -> Result<Capability, Fault> {
    Ok(Capability {
        name: parse(&format!("{field}.name"), &wanted.name)?,
        version: parse_optional(&format!("{field}.version"), &wanted.version)?,
        level: wanted.level,
    })
}

pub(crate) fn capabilities(field: &str, wanted: &[wire::Capability]) -> Result<Vec<Capability>, Fault> {
    let read = |(at, wanted): (usize, &wire::Capability)| capability(&format!("{field}[{at}]"), wanted);
    wanted.iter().enumerate().map(read).collect()
}

/// How an orchestrator does, as it says.
pub(crate) fn report(report: Option<wire::OrchestratorReport>, now: Timestamp) -> Result<Report, Fault> {
    let said = required("report", report)?;
    let standing = match said.standing() {
        wire::Standing::Unspecified | wire::Standing::Online => Standing::Online,
        wire::Standing::Busy => Standing::Busy,
        wire::Standing::Degraded => Standing::Degraded,
        wire::Standing::Draining => Standing::Draining,
        wire::Standing::Offline => return Err(Fault::field("report.standing", "must not be OFFLINE: that is seen")),
    };
    if said.errors > 1_000 {
        return Err(Fault::field("report.errors", "must be 0 to 1,000"));
    }
    Ok(Report { standing, load: said.load, tokens_used: said.tokens_used, errors: said.errors, at: now })
}

pub(crate) fn registration(caller: &Caller, orchestrator: Option<wire::Orchestrator>) -> Result<Registration, Fault> {
    let wanted = required("orchestrator", orchestrator)?;
    let registration = Registration {
        id: one_speaker(caller, "orchestrator.orchestrator_id", &wanted.orchestrator_id)?,
        capabilities: capabilities("orchestrator.capabilities", &wanted.capabilities)?,
        name: wanted.name,
        region: wanted.region,
        tier: wanted.tier,
        max_concurrent: wanted.max_concurrent.max(1),
        weight: if wanted.weight == 0 { 100 } else { wanted.weight },
        token_limit: wanted.token_limit,
    };
    cells::check_own("orchestrator.orchestrator_id", &registration.id)?;
    registration.check().map_err(|error| Fault::field(&format!("orchestrator.{}", error.field), error.problem))?;
    Ok(registration)
}

/// A duration of a request within its bounds, or the usual one.
fn time(
    field: &str,
    wanted: Option<prost_types::Duration>,
    most: Duration,
    usual: Option<Duration>,
) -> Result<Option<Duration>, Fault> {
    let Some(wanted) = wanted else { return Ok(usual) };
    let time = Duration::try_from(wanted).ok().filter(|time| (SECOND..=most).contains(time));
    let time = time.ok_or_else(|| Fault::field(field, format!("must be 1 s to {} s", most.as_secs())))?;
    Ok(Some(time))
}

fn limits(wanted: Option<DelegationLimits>) -> Result<Limits, Fault> {
    let wanted = wanted.unwrap_or_default();
    let run = time("limits.run", wanted.run, DAY, None)?.unwrap_or(USUAL_RUN);
    Ok(Limits {
        offer: time("limits.offer", wanted.offer, HOUR, None)?.unwrap_or(USUAL_OFFER),
        start: time("limits.start", wanted.start, DAY, None)?.unwrap_or(run),
        run,
        overall: time("limits.overall", wanted.overall, 7 * DAY, None)?.unwrap_or(HOUR),
        heartbeat: time("limits.heartbeat", wanted.heartbeat, HOUR, None)?,
    })
}

fn task(task: Option<wire::Task>) -> Result<Task, Fault> {
    let task = required("task", task)?;
    let priority = match task.priority() {
        wire::TaskPriority::Low => Priority::Low,
        wire::TaskPriority::Unspecified | wire::TaskPriority::Medium => Priority::Medium,
        wire::TaskPriority::High => Priority::High,
        wire::TaskPriority::Critical => Priority::Critical,
    };
    if task.payload.len() > DATA {
        return Err(Fault::field("task.payload", format!("must have at most {DATA} bytes")));
    }
    if !task.payload.is_empty() {
        check_object(&task.payload).map_err(|error| Fault::field("task.payload", error))?;
    }
    Ok(Task {
        id: text("task.id", task.id, NAME)?,
        task_type: text("task.type", task.r#type, NAME)?,
        description: text("task.description", task.description, DESCRIPTION)?,
        priority,
        payload: json_text("task.payload", &task.payload)?,
    })
}

fn json_text(field: &str, json: &[u8]) -> Result<String, Fault> {
    let text = std::str::from_utf8(json).map_err(|_| Fault::field(field, "must be UTF-8"))?;
    Ok(text.to_owned())
}

fn strategy(strategy: wire::Strategy) -> Strategy {
    match strategy {
        wire::Strategy::RoundRobin => Strategy::RoundRobin,
        wire::Strategy::LeastLoaded => Strategy::LeastLoaded,
        wire::Strategy::Weighted => Strategy::Weighted,
        wire::Strategy::CapabilityAware => Strategy::CapabilityAware,
        wire::Strategy::Unspecified | wire::Strategy::PowerOfTwo => Strategy::PowerOfTwo,
        wire::Strategy::Sticky => Strategy::Sticky,
    }
}

fn orchestrators(field: &str, ids: &[String]) -> Result<Vec<OrchestratorId>, Fault> {
    if ids.len() > ORCHESTRATORS {
        return Err(Fault::field(field, format!("must have at most {ORCHESTRATORS} elements")));
    }
    ids.iter().enumerate().map(|(at, id)| parse(&format!("{field}[{at}]"), id)).collect()
}

/// The same for what is the same.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// An entry of a context, and its value; `field` says what its members are called.
pub(crate) fn entry(name: &str, value: &[u8], field: impl Fn(&str) -> String) -> Result<(Written, String), Fault> {
    let name = parse(&field("name"), name)?;
    if value.len() > MAX_ENTRY {
        return Err(Fault::field(&field("value"), NotShared::EntryTooLarge));
    }
    check_document(value).map_err(|error| Fault::field(&field("value"), error))?;
    let text = json_text(&field("value"), value)?;
    Ok((Written { name, bytes: value.len(), digest: digest(value) }, text))
}

/// What is shared from the beginning.
pub(crate) fn entries(wanted: &[wire::ContextEntry]) -> Result<(Vec<Written>, Vec<Entry>), Fault> {
    let read = |(at, wanted): (usize, &wire::ContextEntry)| {
        let (written, value) = entry(&wanted.name, &wanted.value, |member| format!("context[{at}].{member}"))?;
        let entry = Entry { name: written.name.clone(), version: 1, value };
        Ok((written, entry))
    };
    let (written, entries): (Vec<_>, Vec<_>) =
        wanted.iter().enumerate().map(read).collect::<Result<Vec<_>, Fault>>()?.into_iter().unzip();
    Catalogue::check(&written).map_err(|(at, refused)| {
        let is_second = matches!(refused, NotShared::OtherVersion(_));
        let (member, refused) =
            if is_second { ("name", "was named before".to_owned()) } else { ("value", refused.to_string()) };
        Fault::field(&format!("context[{at}].{member}"), refused)
    })?;
    Ok((written, entries))
}

/// A delegation that somebody asks for, but for what it has of its parent and what is shared about it.
pub(crate) fn delegation(caller: &Caller, request: DelegateTaskRequest) -> Result<DelegationRequest, Fault> {
    if request.required_capabilities.len() > CAPABILITIES {
        return Err(Fault::field("required_capabilities", format!("must have at most {CAPABILITIES} elements")));
    }
    let max_retries = request.max_retries.unwrap_or(USUAL_RETRIES);
    if max_retries > RETRIES {
        return Err(Fault::field("max_retries", format!("must be 0 to {RETRIES}")));
    }
    let strategy_named =
        wire::Strategy::try_from(request.strategy).map_err(|_| Fault::field("strategy", "is not known"))?;
    Ok(DelegationRequest {
        from: speaker(caller, "from_orchestrator_id", &request.from_orchestrator_id)?,
        to: parse_optional("to_orchestrator_id", &request.to_orchestrator_id)?,
        task: task(request.task)?,
        required: capabilities("required_capabilities", &request.required_capabilities)?,
        region: text("region", request.region, NAME)?,
        preferred: orchestrators("preferred_orchestrator_ids", &request.preferred_orchestrator_ids)?,
        excluded: orchestrators("excluded_orchestrator_ids", &request.excluded_orchestrator_ids)?,
        strategy: strategy(strategy_named),
        affinity: text("affinity", request.affinity, NAME)?,
        tokens: request.tokens,
        limits: limits(request.limits)?,
        max_retries,
        parent: parse_optional("parent_delegation_id", &request.parent_delegation_id)?,
        hops: Vec::new(),
        context: Vec::new(),
    })
}

/// A delegation that another cell asks for, and what is left of its time.
pub(crate) fn of_cell(
    cell: OrchestratorId,
    offered: wire::OfferTaskRequest,
    left: Duration,
) -> Result<DelegationRequest, Fault> {
    let hops = offered.hops.iter().enumerate().map(|(at, hop)| parse(&format!("hops[{at}]"), hop));
    let limits = limits(offered.limits)?;
    Ok(DelegationRequest {
        from: Some(cell),
        to: None,
        task: task(offered.task)?,
        required: capabilities("required_capabilities", &offered.required_capabilities)?,
        region: text("region", offered.region, NAME)?,
        preferred: Vec::new(),
        excluded: Vec::new(),
        strategy: Strategy::default(),
        affinity: String::new(),
        tokens: offered.tokens,
        limits: Limits { overall: left.max(SECOND), ..limits },
        // Its own cell decides whether it runs again.
        max_retries: 0,
        parent: None,
        hops: hops.collect::<Result<_, _>>()?,
        context: Vec::new(),
    })
}

/// What another cell says that it can do.
pub(crate) fn summary(said: wire::CapabilitySummary) -> Result<SummaryUpdate, Fault> {
    let removed = said.removed.iter().enumerate().map(|(at, name)| parse(&format!("removed[{at}]"), name));
    Ok(SummaryUpdate {
        epoch: said.epoch,
        sequence: said.sequence,
        is_full: said.full,
        changed: capabilities("changed", &said.changed)?,
        removed: removed.collect::<Result<_, _>>()?,
        free: said.free,
    })
}

/// Takes what a part of another task has of it: who handed it on before, and its deadline.
pub(crate) fn inherit(request: &mut DelegationRequest, parent: &Kept, now: Timestamp) -> Result<(), Fault> {
    let parent = &parent.delegation;
    if request.from.is_none() || parent.holder() != request.from.as_ref() {
        return Err(Fault::field("parent_delegation_id", "must name a delegation that the delegator works on"));
    }
    request.hops = parent.request.hops.iter().chain(&parent.request.from).cloned().collect();
    request.limits.overall = request.limits.overall.min(parent.deadline().since(now)).max(SECOND);
    Ok(())
}

/// A task must not come back to those who handed it on, nor go on for ever.
pub(crate) fn check_hops(request: &DelegationRequest) -> Result<(), Fault> {
    let cycle = |message: String| Err(Fault::new(ErrorReason::DelegationCycle, message));
    if request.hops.len() + 1 > MAX_DEPTH {
        return cycle(format!("it would be handed on more than {MAX_DEPTH} times"));
    }
    match &request.to {
        Some(to) if request.hops.contains(to) || request.from.as_ref() == Some(to) => {
            cycle(format!("{to} has handed it on"))
        }
        Some(_) | None => Ok(()),
    }
}

/// What callers name, as it is named among all that callers name.
pub(crate) fn name_of(organization: &OrganizationId, from: Option<&OrchestratorId>, id: &str) -> String {
    let from = from.map_or("", |from| from.as_str());
    digest(format!("{organization}\n{from}\n{id}").as_bytes())
}

/// How a delegation is named: by the caller's id, so that the same request is one delegation, or as nobody is yet.
pub(crate) fn delegation_id(
    organization: &OrganizationId,
    from: Option<&OrchestratorId>,
    request_id: &str,
    fresh: String,
) -> Result<DelegationId, Fault> {
    if request_id.is_empty() {
        return parse("request_id", &fresh);
    }
    parse::<DelegationId>("request_id", request_id)?;
    parse("request_id", &name_of(organization, from, request_id))
}

/// How an assignee says that it ended.
pub(crate) fn verdict(verdict: Option<WireVerdict>) -> Result<Verdict, Fault> {
    match required("verdict", verdict)? {
        WireVerdict::Result(result) => {
            if result.len() > DATA {
                return Err(Fault::field("result", format!("must have at most {DATA} bytes")));
            }
            if !result.is_empty() {
                check_document(&result).map_err(|error| Fault::field("result", error))?;
            }
            Ok(Verdict::Completed(json_text("result", &result)?))
        }
        WireVerdict::Error(error) if error.is_empty() => Err(Fault::field("error", "must not be empty")),
        WireVerdict::Error(error) => Ok(Verdict::Failed(words("error", error)?)),
    }
}
