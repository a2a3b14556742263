//! What daemons say and ask by REST. Their token says who they are: a gateway alone cannot.

use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use waystation_domain::{ReportedStatus, SessionId, check_object};
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::*;
use waystation_rpc::Fault;
use waystation_rpc::convert::{parse, parse_optional};
use waystation_store::mailbox::{Compare, MailboxKey, SessionReport, SessionView};
use waystation_store::report::{Registered, Report};
use waystation_token::DaemonClaims;

use crate::{Parts, news, views};

/// Largest metrics, in bytes.
const MAX_METRICS: usize = 8 * 1024;
/// Largest words of a registration, in bytes.
const MAX_INFO: usize = 16 * 1024;
/// Longest text, in bytes.
const MAX_TEXT: usize = 256;

/// Who speaks, and whose mailbox is theirs.
fn speaker(parts: &Parts, token: &str) -> Result<(DaemonClaims, MailboxKey), Fault> {
    let claims = parts.verifier.verify(token, parts.context.clock.now())?;
    let daemon = claims.as_daemon().ok_or_else(|| Fault::new(ErrorReason::Unauthenticated, "not a daemon's token"))?;
    let key = MailboxKey { organization: daemon.organization.clone(), orchestrator: daemon.orchestrator.clone() };
    Ok((daemon, key))
}

/// One of a few words; empty: none.
fn word<T: DeserializeOwned>(field: &str, text: &str) -> Result<Option<T>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = serde_json::from_value(serde_json::Value::from(text));
    read.map(Some).map_err(|_| Fault::field(field, "is not known"))
}

fn words(field: &str, text: String) -> Result<Option<String>, Fault> {
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(Fault::field(field, format!("must have at most {MAX_TEXT} bytes and no control characters")));
    }
    Ok(Some(text))
}

fn object(field: &str, json: Bytes, most: usize) -> Result<Option<Bytes>, Fault> {
    if json.is_empty() {
        return Ok(None);
    }
    check_object(&json).map_err(|error| Fault::field(field, error))?;
    if json.len() > most {
        return Err(Fault::field(field, format!("must have at most {most} bytes")));
    }
    Ok(Some(json))
}

pub(super) async fn report(parts: &Parts, request: ReportDaemonRequest) -> Result<ReportDaemonResponse, Fault> {
    let (daemon, mailbox) = speaker(parts, &request.access_token)?;
    let status = word::<ReportedStatus>("status", &request.status)?;
    let report = Report {
        mailbox: mailbox.clone(),
        heartbeat: request.heartbeat,
        status,
        message: words("message", request.message)?,
        presence: word("presence", &request.presence)?,
        presence_text: words("statusText", request.presence_text)?,
        metrics: object("metrics", request.metrics, MAX_METRICS)?,
    };
    parts.directory.check(&mailbox).await?;
    let reports = vec![report];
    let changed = parts.store.reports.report(reports.clone(), None).await.map_err(Fault::unavailable)?;
    news::tell_reported(parts, &reports, &changed);
    if request.heartbeat {
        parts.bridge.tell(&reports, parts.context.clock.now());
    }
    if status.is_some() {
        // Whether one is paused decides who holds the mailbox.
        let sessions = sessions_of(parts, &mailbox).await?.into_iter().filter(|session| session.login == daemon.login);
        let one = |session: SessionView| SessionReport {
            mailbox: mailbox.clone(),
            session: session.session,
            status,
            metrics: None,
            idle: Duration::ZERO,
        };
        let compare = Compare { reports: sessions.map(one).collect(), liveness: parts.gateways.liveness() };
        let compared = parts.store.mailboxes.compare(compare, None).await.map_err(Fault::unavailable)?;
        for notice in &compared.activated {
            parts.gateways.push_activation(notice);
        }
    }
    Ok(ReportDaemonResponse {})
}

pub(super) async fn register(parts: &Parts, request: RegisterDaemonRequest) -> Result<RegisterDaemonResponse, Fault> {
    let (_, mailbox) = speaker(parts, &request.access_token)?;
    let instance = parse("instance_id", &request.instance_id)?;
    let info = object("info", request.info, MAX_INFO)?.unwrap_or_else(|| Bytes::from_static(b"{}"));
    parts.directory.check(&mailbox).await?;
    match parts.store.reports.register(&mailbox, instance, info, None).await.map_err(Fault::unavailable)? {
        Registered::Yes => Ok(RegisterDaemonResponse {}),
        Registered::Another => {
            let message = "another instance is registered and was heard in the last 90 s";
            Err(Fault::new(ErrorReason::DaemonAlreadyRegistered, message))
        }
    }
}

pub(super) async fn unregister(
    parts: &Parts,
    request: UnregisterDaemonRequest,
) -> Result<UnregisterDaemonResponse, Fault> {
    let (_, mailbox) = speaker(parts, &request.access_token)?;
    let instance = parse("instance_id", &request.instance_id)?;
    let known = parts.store.reports.unregister(&mailbox, &instance, None).await.map_err(Fault::unavailable)?;
    if known { Ok(UnregisterDaemonResponse {}) } else { Err(Fault::not_found("registration")) }
}

async fn sessions_of(parts: &Parts, mailbox: &MailboxKey) -> Result<Vec<SessionView>, Fault> {
    let liveness = parts.gateways.liveness();
    parts.store.mailboxes.sessions(mailbox, &liveness, None).await.map_err(Fault::unavailable)
}

pub(super) async fn list(
    parts: &Parts,
    request: ListDaemonSessionsRequest,
) -> Result<ListDaemonSessionsResponse, Fault> {
    let (_, mailbox) = speaker(parts, &request.access_token)?;
    let sessions = sessions_of(parts, &mailbox).await?.into_iter().map(|session| views::session(&mailbox, session));
    Ok(ListDaemonSessionsResponse { sessions: sessions.collect() })
}

pub(super) async fn end(parts: &Parts, request: EndDaemonSessionsRequest) -> Result<EndDaemonSessionsResponse, Fault> {
    let (daemon, mailbox) = speaker(parts, &request.access_token)?;
    let named: Option<SessionId> = parse_optional("session_id", &request.session_id)?;
    let is_meant = |session: &SessionView| match &named {
        Some(named) => session.session == *named,
        None => session.login == daemon.login,
    };
    let mut ended = 0;
    for session in sessions_of(parts, &mailbox).await?.into_iter().filter(is_meant) {
        parts.gateways.close_session(&session.incarnation, &session.session).await?;
        ended += 1;
    }
    if ended == 0 { Err(Fault::not_found("session")) } else { Ok(EndDaemonSessionsResponse { ended }) }
}
