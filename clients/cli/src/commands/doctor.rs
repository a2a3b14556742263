//! Looks for what is wrong, and says what to do.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use waystation_client::{Event, RetryPolicy};
use waystation_proto::auth::v1::GetKeySetRequest;
use waystation_proto::federation::v1::ListOrchestratorsRequest;
use waystation_proto::router::v1::{GetMailboxRequest, GetStatsRequest};

use super::Done;
use super::daemon::options;
use super::redis::Redis;
use crate::failure::Failure;
use crate::place::Place;
use crate::show::Show;

const PATIENCE: Duration = Duration::from_secs(10);
/// The daemon that looks. Nobody else is called so.
const NAME: &str = "waystation-doctor";
/// Oldest Redis whose scripts do all that is needed.
const OLDEST_REDIS: (u32, u32) = (7, 0);

/// What was found.
struct Finding {
    what: &'static str,
    result: Result<String, (String, &'static str)>,
}

struct Findings(Vec<Finding>);

impl Findings {
    fn note(&mut self, what: &'static str, result: Result<String, (String, &'static str)>) {
        self.0.push(Finding { what, result });
    }
}

pub(super) async fn run(place: &Place, show: Show, redis: Option<String>) -> Done {
    let mut findings = Findings(Vec::new());
    configuration(place, &mut findings);
    services(place, &mut findings).await;
    daemon(place, &mut findings).await;
    if let Some(url) = redis {
        look_at_redis(&url, &mut findings).await;
    }
    let healthy = findings.0.iter().all(|finding| finding.result.is_ok());
    for Finding { what, result } in &findings.0 {
        let machine = match result {
            Ok(found) => json!({"check": what, "ok": true, "found": found}),
            Err((problem, advice)) => json!({"check": what, "ok": false, "found": problem, "advice": advice}),
        };
        show.say(&machine, || match result {
            Ok(found) => format!("ok     {what}: {found}"),
            Err((problem, advice)) => format!("WRONG  {what}: {problem}\n       {advice}"),
        });
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn configuration(place: &Place, findings: &mut Findings) {
    let missing = [place.gateway_url(), place.router(), place.auth(), place.federation(), place.token()];
    let missing: Vec<String> = missing.into_iter().filter_map(Result::err).map(|failure| failure.to_string()).collect();
    let result = match (missing.first(), place.dev_found) {
        (None, true) => Ok(format!("{} and what was said", place.dev.display())),
        (None, false) => Ok("all was said".to_owned()),
        (Some(problem), _) => {
            Err((problem.clone(), "Start one with `waystation up`, or say where it is: `waystation help`."))
        }
    };
    findings.note("configuration", result);
}

const NOT_THERE: &str = "Does it run, is the address right, and does a firewall let you through?";
const NOT_LET_IN: &str = "Get another token: `waystation token --service … --secret …`, and say it with --token.";

fn judged<T>(result: Result<T, Failure>, found: impl FnOnce(T) -> String) -> Result<String, (String, &'static str)> {
    result.map(found).map_err(|failure| {
        let advice = if failure.exit_code() == Failure::NOT_ALLOWED { NOT_LET_IN } else { NOT_THERE };
        (failure.to_string(), advice)
    })
}

async fn services(place: &Place, findings: &mut Findings) {
    let organization_id = place.organization.clone();
    let router = async {
        let mut router = place.call_router().await?;
        let stats = router.get_stats(GetStatsRequest { organization_id: organization_id.clone() }).await?.into_inner();
        // The books of a mailbox must balance; any will do.
        let request = GetMailboxRequest { organization_id: organization_id.clone(), orchestrator_id: NAME.into() };
        let delta = router.get_mailbox(request).await.map_or(0, |mailbox| mailbox.into_inner().conservation_delta);
        Ok::<_, Failure>((stats, delta))
    };
    let router = judged(router.await, |(stats, delta)| {
        format!(
            "{} accepted, {} wait in {} mailboxes, the books differ by {delta}",
            stats.accepted, stats.queue_depth, stats.mailboxes
        )
    });
    findings.note("router", router);
    let auth = async {
        let keys = place.call_auth().await?.get_key_set(GetKeySetRequest::default()).await?.into_inner();
        let keys: serde_json::Value = serde_json::from_slice(&keys.jwks).unwrap_or_default();
        Ok::<_, Failure>(keys["keys"].as_array().map_or(0, Vec::len))
    };
    findings.note("auth", judged(auth.await, |keys| format!("{keys} keys sign tokens")));
    let federation = async {
        let request = ListOrchestratorsRequest { organization_id: organization_id.clone(), ..Default::default() };
        let listed = place.call_federation().await?.list_orchestrators(request).await?.into_inner();
        Ok::<_, Failure>(listed.orchestrators.len())
    };
    findings.note("federation", judged(federation.await, |known| format!("{known} orchestrators take tasks")));
}

/// Connects as a daemon would.
async fn daemon(place: &Place, findings: &mut Findings) {
    let said = Arc::new(Mutex::new((None, None)));
    let noting = said.clone();
    let note = move |event: &Event| {
        let mut said = noting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::ClockSkew { gateway, here } = event {
            said.0 = Some(format!("the gateway says {gateway}, this host {here}"));
        }
        if let Event::Disconnected { reason, .. } = event {
            said.1 = Some(reason.to_string());
        }
    };
    let once = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let connecting = match options(place, NAME, NAME) {
        Ok(options) => {
            options.on_event(note).retry(once).connect_timeout(PATIENCE).connect().await.map_err(Failure::from)
        }
        Err(failure) => Err(failure),
    };
    let client = match connecting {
        Ok(client) => client,
        Err(failure) => {
            return findings.note("gateway", Err((failure.to_string(), "Say the gateway's address and an API key.")));
        }
    };
    let connected = tokio::time::timeout(PATIENCE, client.connected()).await;
    let (skew, problem) = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let result = match connected {
        Ok(Ok(session)) => Ok(format!("logged in, session {session}")),
        Ok(Err(stopped)) => Err((stopped.to_string(), "Is the API key of this organization, and not revoked?")),
        Err(_) => Err((problem.unwrap_or_else(|| "no answer".into()), NOT_THERE)),
    };
    let is_connected = result.is_ok();
    findings.note("gateway", result);
    if is_connected {
        let clocks = skew.map_or_else(
            || Ok("they agree to a minute".to_owned()),
            |skew| Err((skew, "Set both by NTP: tokens end and messages expire by these clocks.")),
        );
        findings.note("clocks", clocks);
    }
    client.drain().await;
}

async fn look_at_redis(url: &str, findings: &mut Findings) {
    let mut redis = match Redis::connect(url).await {
        Ok(redis) => redis,
        Err(problem) => return findings.note("Redis", Err((problem, NOT_THERE))),
    };
    let version = redis.ask("INFO server").await.unwrap_or_default().concat();
    let version = version.lines().find_map(|line| line.trim().strip_prefix("redis_version:")).unwrap_or("?").to_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let is_new = (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST_REDIS;
    findings.note("Redis version", if is_new { Ok(version) } else { Err((version, "Waystation needs 7.0 or later.")) });
    for (setting, good, advice) in [
        ("maxmemory-policy", &["noeviction"][..], "Set noeviction: any other policy throws messages away in silence."),
        (
            "appendonly",
            &["yes"],
            "Set appendonly yes, or a kill loses what was answered; services refuse page_cache without it.",
        ),
        ("appendfsync", &["everysec", "always"], "Set everysec, or always to survive a power cut."),
    ] {
        let result = match redis.setting(setting).await {
            Some(value) if good.contains(&value.as_str()) => Ok(value),
            Some(value) => Err((value, advice)),
            None => {
                Err(("it may not be asked".into(), "Ask as a user who may CONFIG GET, or look into its configuration."))
            }
        };
        findings.note(setting, result);
    }
}
