//! What gateways send, as the store takes it.

use std::time::Duration;

use waystation_domain::{Epoch, MessageId, ReportedStatus, SessionId};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1 as wire;
use waystation_rpc::Fault;
use waystation_rpc::convert::{lane_from, lanes_from, parse, position_from, required};
use waystation_store::mailbox::{
    AckRange, Charge, MailboxKey, MessageRef, Nack, ReadMailbox, Refused, Reject, ResumePoint, ResumeVerdict,
    SessionReport, Settlement,
};
use waystation_store::report::Report;

/// Elements of one call.
pub(super) const MOST: usize = 1_024;
/// Messages that one settlement may want confirmed.
const MAX_CONFIRM: usize = 65_536;
/// Bytes of a rejection's reason that are kept.
const MAX_REASON: usize = 256;

pub(super) fn session_ref(session: Option<wire::SessionRef>) -> Result<(MailboxKey, SessionId), Fault> {
    let session = required("session", session)?;
    let mailbox = MailboxKey {
        organization: parse("session.organization_id", &session.organization_id)?,
        orchestrator: parse("session.orchestrator_id", &session.orchestrator_id)?,
    };
    Ok((mailbox, parse("session.session_id", &session.session_id)?))
}

pub(super) fn refused(refused: Refused) -> Fault {
    match refused {
        Refused::SessionUnknown => Fault::new(ErrorReason::SessionUnknown, "the session is not known: open it again"),
        Refused::NotHolder => Fault::new(ErrorReason::Fenced, "another session holds the mailbox"),
    }
}

pub(super) fn verdict(verdict: ResumeVerdict) -> wire::ResumeVerdict {
    match verdict {
        ResumeVerdict::Fresh => wire::ResumeVerdict::Unspecified,
        ResumeVerdict::Resumed => wire::ResumeVerdict::Resumed,
        ResumeVerdict::StoreRestarted => wire::ResumeVerdict::StoreRestarted,
        ResumeVerdict::PossiblyLost => wire::ResumeVerdict::PossiblyLost,
    }
}

/// A text that is no epoch is one that this store never gave: a doubt, not a fault.
pub(super) fn resume_point(resume: wire::ResumePoint) -> ResumePoint {
    ResumePoint { epoch: resume.epoch.parse::<Epoch>().ok(), positions: lanes_from(resume.positions) }
}

/// What a heartbeat says of its daemon; `None`: the gateway only compares.
pub(super) fn said(report: &SessionReport) -> Option<Report> {
    (report.status.is_some() || report.metrics.is_some()).then(|| Report {
        mailbox: report.mailbox.clone(),
        heartbeat: true,
        status: report.status,
        message: None,
        presence: None,
        presence_text: None,
        metrics: report.metrics.clone(),
    })
}

pub(super) fn report(report: wire::SessionReport) -> Result<SessionReport, Fault> {
    let (mailbox, session) = session_ref(report.session)?;
    let status = match report.status.as_str() {
        "" => None,
        name => Some(ReportedStatus::from_name(name).ok_or_else(|| Fault::field("status", "is not known"))?),
    };
    let metrics = (!report.metrics.is_empty()).then_some(report.metrics);
    Ok(SessionReport { mailbox, session, status, metrics, idle: Duration::from_millis(report.idle_ms) })
}

pub(super) fn read(read: wire::ReadMailboxRequest) -> Result<ReadMailbox, Fault> {
    let (mailbox, session) = session_ref(read.session)?;
    Ok(ReadMailbox {
        mailbox,
        session,
        fence: read.fence,
        read_id: read.read_id,
        positions: lanes_from(read.positions),
        exits_position: read.exits_position,
        max_entries: read.max_entries as usize,
        max_critical: read.max_critical as usize,
        max_bytes: read.max_bytes,
        window_empty: read.window_empty,
    })
}

fn message_ref(which: wire::MessageRef) -> Result<MessageRef, Fault> {
    Ok(match required("confirm", which.which)? {
        wire::message_ref::Which::Position(position) => {
            MessageRef::Position(position_from("confirm.position", Some(position))?)
        }
        wire::message_ref::Which::MessageId(id) => {
            MessageRef::Id(MessageId::naming(&id).map_err(|error| Fault::field("confirm.message_id", error))?)
        }
    })
}

pub(super) fn settlement(settlement: wire::Settlement) -> Result<Settlement, Fault> {
    if settlement.confirm.len() > MAX_CONFIRM {
        return Err(Fault::field("confirm", format!("must have at most {MAX_CONFIRM} elements")));
    }
    let (mailbox, session) = session_ref(settlement.session)?;
    let acks = settlement.acks.into_iter().map(|ack| -> Result<AckRange, Fault> {
        Ok(AckRange {
            epoch: parse("acks.epoch", &ack.epoch)?,
            lane: lane_from("acks.lane", ack.lane)?,
            from: ack.from,
            to: ack.to,
        })
    });
    let ack_ids =
        settlement.ack_ids.iter().map(|id| MessageId::naming(id).map_err(|error| Fault::field("ack_ids", error)));
    let nacks = settlement.nacks.into_iter().map(|nack| -> Result<Nack, Fault> {
        Ok(Nack {
            position: position_from("nacks.position", nack.position)?,
            attempt: nack.attempt,
            delay: Duration::from_millis(nack.delay_ms),
        })
    });
    let rejects = settlement.rejects.into_iter().map(|reject| -> Result<Reject, Fault> {
        if reject.reason.len() > MAX_REASON {
            return Err(Fault::field("rejects.reason", format!("must have at most {MAX_REASON} bytes")));
        }
        Ok(Reject { position: position_from("rejects.position", reject.position)?, reason: reject.reason })
    });
    let charges = settlement.charges.into_iter().map(|charge| -> Result<Charge, Fault> {
        Ok(Charge { position: position_from("charges.position", charge.position)?, attempt: charge.attempt })
    });
    Ok(Settlement {
        mailbox,
        session,
        fence: settlement.fence,
        acks: acks.collect::<Result<_, _>>()?,
        ack_ids: ack_ids.collect::<Result<_, _>>()?,
        nacks: nacks.collect::<Result<_, _>>()?,
        rejects: rejects.collect::<Result<_, _>>()?,
        charges: charges.collect::<Result<_, _>>()?,
        gap_mark: settlement.gap_mark,
        confirm: settlement.confirm.into_iter().map(message_ref).collect::<Result<_, _>>()?,
    })
}
