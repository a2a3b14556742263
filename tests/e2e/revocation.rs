//! What is revoked is known everywhere, or nothing is delivered (R5).

use std::time::Duration;

use waystation_proto::auth::v1::{RevokeTokenRequest, revoke_token_request::Target};
use waystation_tests::{Backend, Daemon, Fleet, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_does_not_hear_auth_delivers_nothing_and_then_misses_nothing() {
    let mut fleet = Fleet::start().await;
    for gateway in &mut fleet.gateways {
        gateway.reconfigure("revocation_silence_seconds", "3").await;
    }
    let mut daemon = Daemon::connect(&fleet.url(0), "orla", "d1", &fleet.token("orla").await).await;
    let mut revoked = Daemon::connect(&fleet.url(1), "rena", "d1", &fleet.token("rena").await).await;
    let backend = fleet.backend(0);
    backend.route("orla", 1).await;
    let events = daemon.events(1).await;
    daemon.ack(&events).await;

    // The gateways lose sight of auth; a revocation is made in the meantime, as a second auth would make it.
    fleet.auths[0].signal("-STOP");
    eventually("the gateway wants no more traffic", async || {
        (fleet.gateways[0].page("/readyz").await != 200).then_some(())
    })
    .await;
    assert!(silence(&fleet).await >= 1, "alerts are built on this");
    backend.route("orla", 2).await;
    backend.route("rena", 3).await;
    assert!(daemon.is_silent(Duration::from_secs(1)).await, "whether it is revoked is not known");
    assert!(revoked.is_silent(Duration::from_millis(10)).await);

    fleet.auths[0].kill().await;
    fleet.auths[0].start().await;
    let operator = fleet.operator_token().await;
    let target = Target::OrchestratorId("rena".into());
    let revoke =
        RevokeTokenRequest { target: Some(target), orchestrator_organization_id: "acme".into(), ..Default::default() };
    let dev = fleet.dev(0, 0);
    Backend::with_token(&dev, &operator).auth.revoke_token(revoke).await.unwrap();
    let seen = daemon.events(1).await;
    assert_eq!(seen[0]["data"]["n"], 2, "nothing was lost");
    // What waited for it may come before the revocation does, but the connection ends.
    assert_eq!(revoked.close_code().await, 4006);
    eventually("it wants traffic again", async || (fleet.gateways[0].page("/readyz").await == 200).then_some(())).await;
}

/// For how long the first gateway has not heard auth, as it tells itself.
async fn silence(fleet: &Fleet) -> u64 {
    let request = http::Request::get("/metrics").body(String::new()).unwrap();
    let page = waystation_tests::http(&format!("http://{}", fleet.gateways[0].admin), request).await.into_body();
    let page = String::from_utf8(page).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix("waystation_auth_silence_seconds "));
    line.unwrap().parse().unwrap()
}
