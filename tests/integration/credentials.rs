//! Organizations, orchestrators, keys and who did what with them.

use serde_json::{Value, json};
use tonic::Code;
use waystation_proto::auth::v1::*;
use waystation_proto::common::v1::ErrorReason;
use waystation_store::audit as store_audit;
use waystation_tests::{Backend, Cell, Daemon, code_and_reason, eventually, http, post};

fn bound_key(orchestrator: &str) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        orchestrator_id: orchestrator.into(),
        scopes: vec!["messages:read".into(), "messages:write".into()],
        ..Default::default()
    }
}

async fn log_in(cell: &Cell, key: &str, secret: &str) -> (u16, Value) {
    let answer = http(&cell.dev.http_url, post("/api/daemon/auth", &json!({"apiKey": key, "apiSecret": secret}))).await;
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
}

#[tokio::test]
async fn a_key_is_rotated_without_a_moment_in_which_none_is_valid() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let named = CreateApiKeyRequest { request_id: "make-1".into(), ..bound_key("orla") };
    let key = backend.credentials.create_api_key(named.clone()).await.unwrap().into_inner();
    let again = backend.credentials.create_api_key(named).await.unwrap().into_inner();
    assert_eq!(key, again, "a repeat makes no second key");
    let rotate = |request: &str, overlap: Option<i64>| RotateApiKeyRequest {
        api_key: key.api_key.clone(),
        overlap: overlap.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        request_id: request.into(),
    };
    let second = backend.credentials.rotate_api_key(rotate("r1", None)).await.unwrap().into_inner().api_secret;
    let repeated = backend.credentials.rotate_api_key(rotate("r1", None)).await.unwrap().into_inner().api_secret;
    assert_eq!(second, repeated);
    for secret in [&key.api_secret, &second] {
        assert_eq!(log_in(&cell, &key.api_key, secret).await.0, 200);
    }
    let third = backend.credentials.rotate_api_key(rotate("r2", None)).await.unwrap_err();
    assert_eq!(code_and_reason(&third), (Code::FailedPrecondition, Some(ErrorReason::RotationPending)));
    let listed = backend.credentials.list_api_keys(ListApiKeysRequest::default()).await.unwrap().into_inner();
    let found = listed.api_keys.iter().find(|found| found.api_key == key.api_key).unwrap();
    assert_eq!((found.valid_secrets, found.older_secret_expire_time.is_some(), found.revoked), (2, true, false));
    let third = backend.credentials.rotate_api_key(rotate("r2", Some(0))).await.unwrap().into_inner().api_secret;
    for secret in [&key.api_secret, &second] {
        assert_eq!(log_in(&cell, &key.api_key, secret).await.0, 401, "they ended at once");
    }
    let (status, login) = log_in(&cell, &key.api_key, &third).await;
    assert_eq!(status, 200);
    let token = login["accessToken"].as_str().unwrap();
    let mut daemon = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", token).await;
    let revoke = RevokeApiKeyRequest { api_key: key.api_key.clone() };
    backend.credentials.revoke_api_key(revoke).await.unwrap();
    assert_eq!(daemon.close_code().await, 4006);
    assert_eq!(log_in(&cell, &key.api_key, &third).await.0, 401);
    let gone = backend.credentials.rotate_api_key(rotate("r3", None)).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let bad = backend.credentials.rotate_api_key(rotate("a/b", None)).await.unwrap_err();
    assert!(bad.message().contains("request_id"), "{bad:?}");
    let bad = backend.credentials.rotate_api_key(rotate("r4", Some(31 * 24 * 3_600))).await.unwrap_err();
    assert!(bad.message().contains("overlap"), "{bad:?}");
}

#[tokio::test]
async fn a_key_ends_when_its_time_is_over() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let until = |seconds: i64| {
        let now = i64::try_from(waystation_runtime::Clock::of_host().now().as_seconds()).unwrap();
        Some(prost_types::Timestamp { seconds: now + seconds, nanos: 0 })
    };
    for (expire_time, expected) in [(until(-1), 401), (until(600), 200), (None, 200)] {
        let key = CreateApiKeyRequest { expire_time, ..bound_key("orla") };
        let key = backend.credentials.create_api_key(key).await.unwrap().into_inner();
        assert_eq!(log_in(&cell, &key.api_key, &key.api_secret).await.0, expected);
    }
}

#[tokio::test]
async fn who_is_disabled_is_out_and_who_is_offline_is_not() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let key = backend.credentials.create_api_key(bound_key("orla")).await.unwrap().into_inner();
    let set = |status: OrchestratorStatus| SetOrchestratorStatusRequest {
        orchestrator_id: "orla".into(),
        status: status.into(),
        ..Default::default()
    };
    backend.credentials.set_orchestrator_status(set(OrchestratorStatus::Offline)).await.unwrap();
    let (status, login) = log_in(&cell, &key.api_key, &key.api_secret).await;
    assert_eq!((status, &login["orchestrator"]["status"]), (200, &json!("offline")));
    let token = login["accessToken"].as_str().unwrap();
    let mut daemon = Daemon::connect(&cell.dev.gateway_url, "orla", "d1", token).await;
    backend.credentials.set_orchestrator_status(set(OrchestratorStatus::Disabled)).await.unwrap();
    assert_eq!(daemon.close_code().await, 4006);
    let (status, refused) = log_in(&cell, &key.api_key, &key.api_secret).await;
    assert_eq!((status, &refused["code"]), (403, &json!("DAEMON_DISABLED")));
    let refresh = json!({"refreshToken": login["refreshToken"]});
    let refreshed = http(&cell.dev.http_url, post("/api/daemon/auth/refresh", &refresh)).await;
    assert_eq!(refreshed.status(), 401);
    backend.route("orla", 1).await;
    assert_eq!(backend.depth("orla").await, 1, "its mail waits");
    backend.credentials.set_orchestrator_status(set(OrchestratorStatus::Active)).await.unwrap();
    eventually("it may again", async || (log_in(&cell, &key.api_key, &key.api_secret).await.0 == 200).then_some(()))
        .await;
    let unknown = SetOrchestratorStatusRequest { status: 9, ..set(OrchestratorStatus::Active) };
    let refused = backend.credentials.set_orchestrator_status(unknown).await.unwrap_err();
    assert!(refused.message().contains("status"), "{refused:?}");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    for n in 0..5 {
        let create = CreateOrchestratorRequest { orchestrator_id: format!("o{n}"), ..Default::default() };
        backend.credentials.create_orchestrator(create).await.unwrap();
    }
    let (mut token, mut found) = (String::new(), Vec::new());
    loop {
        let list = ListOrchestratorsRequest { page_size: 2, page_token: token, ..Default::default() };
        let page = backend.credentials.list_orchestrators(list).await.unwrap().into_inner();
        assert!(page.orchestrators.len() <= 2);
        assert!(page.orchestrators.iter().all(|one| one.create_time.is_some()));
        found.extend(page.orchestrators.into_iter().map(|one| one.orchestrator_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ["o0", "o1", "o2", "o3", "o4"]);
    let large = ListOrchestratorsRequest { page_size: 1_001, ..Default::default() };
    assert!(backend.credentials.list_orchestrators(large).await.unwrap_err().message().contains("page_size"));
}

async fn events(backend: &mut Backend, log: AuditLog) -> Vec<AuditEvent> {
    let list = ListAuditEventsRequest { organization_id: "dev".into(), log: log.into(), ..Default::default() };
    backend.credentials.list_audit_events(list).await.unwrap().into_inner().events
}

#[tokio::test]
async fn who_did_what_is_written_down_and_cannot_be_changed_unnoticed() {
    let cell = Cell::start().await;
    let (mut backend, mut operator) = (cell.backend(), Backend::operator(&cell.dev));
    let mut create = tonic::Request::new(bound_key("orla"));
    create.metadata_mut().insert("x-request-id", "ticket-7".parse().unwrap());
    let key = backend.credentials.create_api_key(create).await.unwrap().into_inner();
    let everything =
        UpdateOrganizationSettingsRequest { organization_id: "dev".into(), settings: Some(Default::default()) };
    operator.credentials.update_organization_settings(everything).await.unwrap();
    log_in(&cell, &key.api_key, &key.api_secret).await;
    let mut wrong = key.api_secret.clone();
    wrong.replace_range(wrong.len() - 9..wrong.len() - 8, "_");
    for _ in 0..3 {
        assert_eq!(log_in(&cell, &key.api_key, &wrong).await.0, 401);
    }
    let changes = events(&mut operator, AuditLog::Changes).await;
    let created = changes.iter().find(|event| event.request_id == "ticket-7").unwrap();
    assert_eq!(
        (created.action.as_str(), created.actor.as_str(), created.target.as_str(), created.result.as_str()),
        ("api_key.created", "service:backend", format!("api_key:{}", key.api_key).as_str(), "ok")
    );
    let updated = changes.iter().find(|event| event.action == "settings.updated").unwrap();
    assert_eq!(updated.actor, "operator:dev-operator");
    let logins = eventually("logins are written down", async || {
        let found = events(&mut operator, AuditLog::Logins).await;
        found.iter().any(|event| event.actor == format!("api_key:{}", key.api_key)).then_some(found)
    })
    .await;
    assert!(logins.iter().all(|event| !event.detail.contains(&key.api_secret)), "no secrets");

    let verify = |known_sequence, known_mac: &[u8]| VerifyAuditEventsRequest {
        organization_id: "dev".into(),
        log: AuditLog::Changes.into(),
        known_sequence,
        known_mac: known_mac.to_vec().into(),
    };
    let good = operator.credentials.verify_audit_events(verify(0, b"")).await.unwrap().into_inner();
    assert!(good.valid && good.last_sequence >= 2, "{good:?}");
    let noted = verify(good.last_sequence, &good.last_mac);
    assert!(operator.credentials.verify_audit_events(noted.clone()).await.unwrap().into_inner().valid);
    // Somebody who can write to the store adds an event.
    let store = &cell.standalone.as_ref().unwrap().store.audit;
    let chain = store_audit::Chain { organization: Some("dev".parse().unwrap()), log: store_audit::AuditLog::Changes };
    let head = store.audit_head(&chain).await.unwrap().unwrap();
    let forged = store_audit::AuditRecord { sequence: head.sequence + 1, actor: "operator:nobody".into(), ..head };
    assert!(store.append_audit(&chain, forged.sequence - 1, vec![forged.clone()], None).await.unwrap());
    let bad = operator.credentials.verify_audit_events(verify(0, b"")).await.unwrap().into_inner();
    assert_eq!((bad.valid, bad.broken_sequence), (false, forged.sequence));
    let cut = verify(good.last_sequence + 5, &good.last_mac);
    assert!(!operator.credentials.verify_audit_events(cut).await.unwrap().into_inner().valid, "events were cut off");
    let short = verify(1, b"short");
    assert!(operator.credentials.verify_audit_events(short).await.unwrap_err().message().contains("known_mac"));
}

#[tokio::test]
async fn the_cell_has_a_chain_of_its_own_that_tenants_do_not_see() {
    let cell = Cell::start().await;
    let (mut backend, mut operator) = (cell.backend(), Backend::operator(&cell.dev));
    let create =
        CreateOrganizationRequest { organization_id: "acme".into(), name: "Acme".into(), ..Default::default() };
    operator.credentials.create_organization(create).await.unwrap();
    let of_cell = operator.credentials.list_audit_events(ListAuditEventsRequest::default()).await.unwrap().into_inner();
    assert!(of_cell.events.iter().any(|event| event.target == "organization:acme"));
    let of_tenant =
        backend.credentials.list_audit_events(ListAuditEventsRequest::default()).await.unwrap().into_inner();
    assert!(of_tenant.events.iter().all(|event| event.target != "organization:acme"));
}

#[tokio::test]
async fn a_stable_refresh_token_serves_clients_that_cannot_store_another() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let key = CreateApiKeyRequest { stable_refresh_token: true, ..bound_key("orla") };
    let key = backend.credentials.create_api_key(key).await.unwrap().into_inner();
    let (_, login) = log_in(&cell, &key.api_key, &key.api_secret).await;
    for _ in 0..3 {
        let next = cell.refresh(login["refreshToken"].as_str().unwrap()).await;
        assert_eq!(next["refreshToken"], login["refreshToken"], "{next}");
        assert_ne!(next["accessToken"], login["accessToken"]);
    }
}

#[tokio::test]
async fn racing_refreshes_have_one_winner() {
    let cell = Cell::start().await;
    for racers in [2, 7, 50] {
        let login = cell.log_in("orla").await;
        let token = login["refreshToken"].as_str().unwrap();
        let races = (0..racers).map(|_| cell.refresh(token));
        let answers = futures_util::future::join_all(races).await;
        let successors: std::collections::BTreeSet<&str> =
            answers.iter().map(|answer| answer["refreshToken"].as_str().unwrap()).collect();
        assert_eq!(successors.len(), 1, "all get the same successor");
        let next = cell.refresh(successors.first().unwrap()).await;
        assert!(next["accessToken"].is_string(), "the login goes on: {next}");
    }
}
