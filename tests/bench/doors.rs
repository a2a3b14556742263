//! Logins, and what one tenant feels of another.

use std::time::Duration;

use hdrhistogram::Histogram;
use http::Request;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use waystation_proto::auth::v1::revoke_token_request::Target;
use waystation_proto::auth::v1::*;
use waystation_proto::router::v1::RouteMessageRequest;
use waystation_tests::{Backend, http, post};

use crate::clients::{Receiver, Server, payload};

/// Calls at once.
const AT_ONCE: usize = 64;
const SECONDS: Duration = Duration::from_secs(4);
const STORM: usize = 10_000;
/// Daemons that come back at the same moment; the others follow as fast as these are through.
const COMING: usize = 200;

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap()
}

/// Calls a second and their p99 in µs.
async fn hammer<F, C>(call: F) -> [f64; 2]
where
    F: Fn() -> C + Clone + Send + 'static,
    C: Future<Output = ()> + Send,
{
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..AT_ONCE {
        let call = call.clone();
        tasks.spawn(async move {
            let mut seen = histogram();
            while begun.elapsed() < SECONDS {
                let since = Instant::now();
                call().await;
                seen.record(micros(since)).unwrap();
            }
            seen
        });
    }
    let mut all = histogram();
    while let Some(seen) = tasks.join_next().await {
        all.add(seen.unwrap()).unwrap();
    }
    [all.len() as f64 / begun.elapsed().as_secs_f64(), all.value_at_quantile(0.99) as f64]
}

pub async fn validate(server: Server) -> [f64; 2] {
    let token = server.tokens(&["orla".to_owned()]).await.remove(0);
    let auth = server.backend().auth;
    hammer(move || {
        let (mut auth, token) = (auth.clone(), token.clone());
        async move {
            auth.validate_token(ValidateTokenRequest { token }).await.unwrap();
        }
    })
    .await
}

pub async fn logins(server: Server) -> [f64; 2] {
    let (auth, dev) = (server.backend().auth, server.process.dev.clone());
    hammer(move || {
        let mut auth = auth.clone();
        let request = IssueTokenRequest {
            api_key: dev.api_key.clone(),
            api_secret: dev.api_secret.clone(),
            orchestrator_id: "orla".into(),
            ..Default::default()
        };
        async move {
            auth.issue_token(request).await.unwrap();
        }
    })
    .await
}

/// Logs in by REST, as daemons do.
async fn log_in(server: &Server, orchestrator: &str) -> Option<String> {
    let dev = &server.process.dev;
    let body = json!({"apiKey": dev.api_key, "apiSecret": dev.api_secret, "orchestratorId": orchestrator});
    let request: Request<String> = post("/api/daemon/auth", &body);
    let answer = http(&dev.http_url, request).await;
    let answer: Value = serde_json::from_slice(answer.body()).ok()?;
    answer["accessToken"].as_str().map(str::to_owned)
}

async fn come(server: &Server, orchestrator: &str) -> Receiver {
    loop {
        if let Some(token) = log_in(server, orchestrator).await
            && let Some(receiver) = Receiver::try_connect(server, orchestrator, &token).await
        {
            return receiver;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Seconds until all daemons are back after every token and connection was dropped, and the CPU µs of the server for each.
pub async fn storm(server: Server) -> [f64; 2] {
    let server = &server;
    let names: Vec<String> = (0..STORM).map(|n| format!("orla-{n}")).collect();
    let mut open = Vec::new();
    for chunk in names.chunks(COMING) {
        open.extend(futures_util::future::join_all(chunk.iter().map(|name| come(server, name))).await);
    }
    let mut operator = Backend::operator(&server.process.dev);
    let revoke =
        RevokeTokenRequest { target: Some(Target::OrganizationId("dev".into())), ..RevokeTokenRequest::default() };
    operator.auth.revoke_token(revoke).await.unwrap();
    for receiver in &mut open {
        receiver.ended().await;
    }
    drop(open);
    // Tokens count seconds: those of the second of the revocation are revoked too.
    sleep(Duration::from_secs(1)).await;
    let (begun, cpu) = (Instant::now(), crate::usage::cpu_seconds(&server.pids()));
    let mut back = Vec::new();
    for chunk in names.chunks(COMING) {
        back.extend(futures_util::future::join_all(chunk.iter().map(|name| come(server, name))).await);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = crate::usage::cpu_seconds(&server.pids()) - cpu;
    assert_eq!(back.len(), STORM);
    [seconds, cpu * 1e6 / STORM as f64]
}

/// p99 in µs of a tenant's calls at a steady pace.
async fn paced(backend: &Backend, organization: &str) -> f64 {
    let mut seen = histogram();
    let begun = Instant::now();
    for n in 0..1_000_u32 {
        let due = begun + Duration::from_millis(5) * n;
        tokio::time::sleep_until(due).await;
        let message = RouteMessageRequest {
            organization_id: organization.into(),
            orchestrator_id: format!("sink-{}", n % 50),
            data: payload(u64::from(n)).into(),
            ..RouteMessageRequest::default()
        };
        backend.try_route(message).await.unwrap();
        seen.record(micros(due)).unwrap();
    }
    seen.value_at_quantile(0.99) as f64
}

/// Sends as fast as it may; told to wait, it waits.
async fn flood(backend: Backend, orchestrator: String, time_to_live: Option<prost_types::Duration>) {
    loop {
        let routed = backend.try_route(RouteMessageRequest {
            orchestrator_id: orchestrator.clone(),
            data: payload(1).into(),
            time_to_live,
            ..RouteMessageRequest::default()
        });
        if let Err(status) = routed.await {
            sleep(waystation_rpc::retry_after_of(&status).unwrap_or(Duration::from_millis(10))).await;
        }
    }
}

/// p99 in µs of one tenant alone, beside one that sends as fast as it can and is allowed 2,000 a second, and beside one
/// whose messages expire as soon as they can.
pub async fn neighbours(server: Server) -> [f64; 3] {
    let mut operator = Backend::operator(&server.process.dev);
    let quiet = CreateOrganizationRequest {
        organization_id: "quiet".into(),
        name: "Quiet".into(),
        auto_create_orchestrators: true,
        ..Default::default()
    };
    operator.credentials.create_organization(quiet).await.unwrap();
    let settings = OrganizationSettings { messages_per_second: 2_000, mailbox_messages: 100_000, ..Default::default() };
    let update = UpdateOrganizationSettingsRequest { organization_id: "dev".into(), settings: Some(settings) };
    operator.credentials.update_organization_settings(update).await.unwrap();
    let alone = paced(&operator, "quiet").await;
    let mut beside = Vec::new();
    for time_to_live in [None, Some(prost_types::Duration { seconds: 1, nanos: 0 })] {
        let mut tasks = JoinSet::new();
        for n in 0..8 {
            tasks.spawn(flood(server.backend(), format!("sink-{n}"), time_to_live));
        }
        // The burst is over.
        sleep(Duration::from_secs(3)).await;
        beside.push(paced(&operator, "quiet").await);
        tasks.shutdown().await;
    }
    [alone, beside[0], beside[1]]
}
