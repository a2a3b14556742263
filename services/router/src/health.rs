//! How an orchestrator's daemons are.

use std::time::Duration;

use waystation_domain::{ReportedPresence, ReportedStatus, Timestamp};
use waystation_proto::router::v1::{DaemonRegistration, GetHealthResponse, MetricsRecord, Presence};
use waystation_rpc::Fault;
use waystation_rpc::convert::timestamp_to;
use waystation_store::mailbox::MailboxKey;

use crate::{Parts, views};

/// How often daemons are expected to be heard.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// So many may be missed.
const MISSED: u64 = 3;

fn missed(last: Timestamp, now: Timestamp) -> u64 {
    now.since(last).as_secs() / HEARTBEAT.as_secs()
}

pub(crate) async fn of(parts: &Parts, key: &MailboxKey) -> Result<GetHealthResponse, Fault> {
    let liveness = parts.gateways.liveness();
    let observed = parts.store.mailboxes.presence(key, &liveness, None).await.map_err(Fault::unavailable)?;
    let observed = views::presence(&observed);
    let said = parts.store.reports.reported(key, None).await.map_err(Fault::unavailable)?;
    let missed = said.heartbeat.map(|last| missed(last, parts.context.clock.now()));
    let online = observed.presence() == Presence::Online;
    Ok(GetHealthResponse {
        healthy: online || missed.is_some_and(|missed| missed < MISSED),
        presence: observed.presence,
        reported_status: said.status.map_or("", ReportedStatus::name).to_owned(),
        message: said.message,
        reported_presence: said.presence.map_or("", ReportedPresence::name).to_owned(),
        presence_text: said.presence_text,
        last_heartbeat_time: said.heartbeat.map(timestamp_to),
        missed_heartbeats: missed.map_or(0, |missed| u32::try_from(missed).unwrap_or(u32::MAX)),
        metrics: (said.metrics.into_iter())
            .map(|(time, metrics)| MetricsRecord { time: Some(timestamp_to(time)), metrics })
            .collect(),
        sessions: observed.sessions,
        registration: said.registration.map(|registration| DaemonRegistration {
            instance_id: registration.instance.to_string(),
            info: registration.info,
            register_time: Some(timestamp_to(registration.at)),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_missed_when_its_time_is_over() {
        let last = Timestamp::from_millis(1_000_000);
        let after = |seconds| missed(last, last.after(Duration::from_secs(seconds)));
        assert_eq!([after(0), after(29), after(30), after(95)], [0, 0, 1, 3]);
        assert_eq!(missed(last, Timestamp::default()), 0, "clocks differ");
    }
}
