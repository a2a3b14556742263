//! Everything over TLS: daemons, services among each other by certificates, and Redis with a user for each service.

use std::time::Duration;

use redis::Commands as _;
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;
use waystation_proto::federation::v1::{DelegateTaskRequest, Orchestrator, RegisterOrchestratorRequest, Task};
use waystation_proto::router::v1::RenewGatewayRequest;
use waystation_proto::router::v1::session_service_client::SessionServiceClient;
use waystation_test_redis::{RedisOptions, RedisServer};
use waystation_tests::fleet::Security;
use waystation_tests::tls::{Authority, from_secured};
use waystation_tests::{Backend, Daemon, Fleet, eventually};

/// As docs/security.md tells operators to make them.
const USERS: &[(&str, &str)] = &[
    ("auth", include_str!("../../deploy/redis/auth.acl")),
    ("router", include_str!("../../deploy/redis/router.acl")),
    ("federation", include_str!("../../deploy/redis/federation.acl")),
];

/// Makes the users; answers the URL's part before the host of each.
fn users(redis: &RedisServer) {
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    for (name, rules) in USERS {
        let rules = rules.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(name).arg("reset").arg("on").arg(format!(">{name}-password"));
        for rule in rules {
            command.arg(rule);
        }
        command.exec(&mut connection).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_runs_over_tls_with_certificates_that_are_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path());
    let mut tasks = JoinSet::new();
    let redis = RedisServer::start(RedisOptions { append_fsync: Some("always"), ..RedisOptions::default() });
    users(&redis);
    let plain = redis.url().strip_prefix("redis://").unwrap().parse().unwrap();
    let front = from_secured(plain, &authority.host("redis"), &mut tasks).await;
    let security = Security { authority: &authority, redis: front };
    let fleet = Fleet::start_secured(redis, &security, &mut tasks).await;

    let token = fleet.token("orla").await;
    let mut daemon = Daemon::connect(&fleet.url(1), "orla", "d1", &token).await;
    fleet.backend(0).route("orla", 1).await;
    let events = daemon.events(1).await;
    daemon.ack(&events).await;
    eventually("it is gone", async || (fleet.backend(1).depth("orla").await == 0).then_some(())).await;

    // federation keeps what it must with its own user, and has router bring the offer.
    let mut backend = fleet.federation(0, fleet.backend_token());
    let orchestrator = Orchestrator { orchestrator_id: "orla".into(), ..Default::default() };
    let register = RegisterOrchestratorRequest { orchestrator: Some(orchestrator), ..Default::default() };
    backend.federation.register_orchestrator(register).await.unwrap();
    let task = DelegateTaskRequest { task: Some(Task::default()), ..Default::default() };
    backend.federation.delegate_task(task).await.unwrap();
    let events = daemon.events(1).await;
    assert_eq!(events[0]["eventType"], "delegation.offered");
    daemon.ack(&events).await;

    // Nobody gets in without TLS, or with another authority's certificate.
    let router = &fleet.routers[0].address;
    let plain = Backend::at(&format!("http://{router}"), &format!("http://{router}"), "x");
    assert!(plain.try_route(Backend::message("orla", 2)).await.is_err());

    // A certificate stands for the service that it names, and for no other; a token of another one is refused with it.
    let elsewhere = tempfile::tempdir().unwrap();
    let renew = async |identity: Option<&str>, bearer: Option<&str>| {
        let issued = identity.map(|name| authority.service_in(elsewhere.path(), name));
        let mut tasks = JoinSet::new();
        let address = authority.to_secured(router, "h2", issued.as_ref(), &mut tasks).await;
        let channel = waystation_rpc::channel(&format!("http://{address}"), &Default::default()).unwrap();
        let mut request = tonic::Request::new(RenewGatewayRequest {
            incarnation_id: "g1".into(),
            address: "https://127.0.0.1:1".into(),
            draining: true,
        });
        if let Some(bearer) = bearer {
            request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
        }
        SessionServiceClient::new(channel).renew_gateway(request).await.map_err(|status| status.code())
    };
    assert_eq!(renew(None, None).await.unwrap_err(), Code::Unauthenticated);
    assert_eq!(renew(Some("router"), None).await.unwrap_err(), Code::PermissionDenied);
    assert!(renew(Some("gateway-1"), None).await.is_err());
    renew(Some("gateway"), None).await.unwrap();
    let of_gateway = fleet.service_token("gateway").await;
    renew(None, Some(&of_gateway)).await.unwrap();
    assert_eq!(renew(Some("federation"), Some(&of_gateway)).await.unwrap_err(), Code::Unauthenticated);

    // Operators see when certificates end: 2100 began 4,102,444,800 s after 1970.
    let page = fleet.gateways[0].text("/metrics").await;
    for settings in ["tls", "public_tls"] {
        let sample = format!(r#"waystation_certificate_ends_seconds{{settings="{settings}"}} 4102444800"#);
        assert!(page.contains(&sample), "{page}");
    }

    // Certificates are renewed while connections stand.
    let public = &fleet.gateways[0].address;
    let before = authority.shown_by(public).await;
    authority.host("public");
    let patience = tokio::time::Instant::now() + Duration::from_secs(15);
    while authority.shown_by(public).await == before {
        assert!(tokio::time::Instant::now() < patience, "the new certificate is shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    daemon.heartbeat().await;
    let again = Daemon::connect(&fleet.url(0), "other", "d1", &fleet.token("other").await).await;
    assert_eq!(again.welcome["type"], json!("auth_success"));
}

#[test]
fn a_service_of_waystation_can_do_with_redis_only_what_it_must() {
    let redis = RedisServer::start(RedisOptions::default());
    users(&redis);
    let connect = |user: &str| {
        let url = redis.url().replace("redis://", &format!("redis://{user}:{user}-password@"));
        redis::Client::open(url).unwrap().get_connection().unwrap()
    };
    let denied = |outcome: redis::RedisResult<redis::Value>, what: &str| {
        let error = outcome.expect_err(what);
        assert_eq!(error.code(), Some("NOPERM"), "{what}: {error}");
    };
    for user in ["auth", "router", "federation"] {
        let mut connection = connect(user);
        for command in
            ["FLUSHALL", "SHUTDOWN", "DEBUG SLEEP 0", "CONFIG SET maxmemory 1", "ACL LIST", "KEYS *", "MONITOR"]
        {
            let mut words = command.split(' ');
            let mut asked = redis::cmd(words.next().unwrap());
            for word in words {
                asked.arg(word);
            }
            denied(asked.query(&mut connection), command);
        }
        denied(connection.set("somebody-elses", 1), "keys of others");
        denied(redis::cmd("PUBLISH").arg("c").arg("m").query(&mut connection), "channels");
    }
    for user in ["auth", "router", "federation"] {
        let replicas: u32 = redis::cmd("WAIT").arg(0).arg(10).query(&mut connect(user)).unwrap();
        assert_eq!(replicas, 0, "{user} may wait for replicas");
    }
    let mut auth = connect("auth");
    denied(auth.hset("m:{p0000}:acme/orla:h", "n", 0), "auth writes no mailbox");
    denied(auth.get("m:{p0000}:acme/orla:h"), "and reads none");
    let mut federation = connect("federation");
    denied(federation.get("m:{p0000}:acme/orla:h"), "federation reads no mailbox");
    denied(federation.hget("a:{a}:keys", "k"), "and no credential");
    let written: redis::RedisResult<()> = auth.hset("a:{a}:organizations", "acme", "{}");
    written.unwrap();
}
