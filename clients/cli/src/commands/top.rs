//! What goes on, every second.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use waystation_proto::router::v1::{GetMailboxRequest, GetStatsRequest, GetStatsResponse};

use super::Done;
use crate::failure::Failure;
use crate::place::Place;
use crate::show::{Show, or_dash, table};

/// Moves the cursor home and clears what is below.
const HOME: &str = "\x1b[H\x1b[J";

pub(super) async fn run(
    place: &Place,
    show: Show,
    orchestrators: Vec<String>,
    count: Option<u64>,
    interval: f64,
) -> Done {
    let interval = Duration::try_from_secs_f64(interval).ok().filter(|interval| !interval.is_zero());
    let interval = interval.ok_or_else(|| Failure::Usage("--interval must be a positive number of seconds".into()))?;
    let mut router = place.call_router().await?;
    let mut before: Option<GetStatsResponse> = None;
    let mut ticks = tokio::time::interval(interval);
    for _ in 0..count.unwrap_or(u64::MAX) {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        let organization_id = place.organization.clone();
        let now = router.get_stats(GetStatsRequest { organization_id: organization_id.clone() }).await?.into_inner();
        let mut rows = Vec::new();
        for orchestrator_id in &orchestrators {
            let request = GetMailboxRequest {
                organization_id: organization_id.clone(),
                orchestrator_id: orchestrator_id.clone(),
            };
            let mailbox = router.get_mailbox(request).await?.into_inner();
            let depth: u64 = mailbox.lanes.iter().map(|lane| lane.depth).sum();
            rows.push((orchestrator_id.clone(), depth, mailbox.dead_letters, mailbox.session_id));
        }
        let rate = |of: fn(&GetStatsResponse) -> u64| {
            let earlier = before.as_ref().map_or(of(&now), of);
            of(&now).saturating_sub(earlier) as f64 / interval.as_secs_f64()
        };
        let rates = [rate(|stats| stats.accepted), rate(|stats| stats.acknowledged), rate(|stats| stats.refused)];
        let delivery = now.delivery_time.unwrap_or_default();
        let mailboxes: Vec<_> = rows
            .iter()
            .map(|(name, depth, dead, session)| json!({"orchestrator": name, "depth": depth, "deadLetters": dead, "session": session}))
            .collect();
        let machine = json!({
            "accepted": now.accepted, "acknowledged": now.acknowledged, "refused": now.refused, "dead": now.dead,
            "acceptedPerSecond": rates[0], "acknowledgedPerSecond": rates[1], "queueDepth": now.queue_depth,
            "mailboxes": now.mailboxes, "deliveryMs": {"p50": delivery.p50_ms, "p99": delivery.p99_ms}, "of": mailboxes,
        });
        show.say(&machine, || {
            let home = if std::io::stdout().is_terminal() { HOME } else { "" };
            let rows = rows.iter().map(|(name, depth, dead, session)| {
                vec![name.clone(), depth.to_string(), dead.to_string(), or_dash(session)]
            });
            let list = if orchestrators.is_empty() {
                String::new()
            } else {
                format!("\n{}", table(&["orchestrator", "waiting", "dead letters", "session"], rows))
            };
            format!(
                "{home}accepted     {:>12} {:>10.1}/s\nacknowledged {:>12} {:>10.1}/s\nrefused      {:>12} {:>10.1}/s\ndead         {:>12}\nwaiting      {:>12} in {} mailboxes\ndelivery     p50 {} ms, p99 {} ms{list}",
                now.accepted, rates[0], now.acknowledged, rates[1], now.refused, rates[2], now.dead, now.queue_depth,
                now.mailboxes, delivery.p50_ms, delivery.p99_ms,
            )
        });
        std::io::stdout().flush().ok();
        before = Some(now);
    }
    Ok(ExitCode::SUCCESS)
}
