//! Nothing of one tenant is found by another (R6).

use tonic::{Code, Request};
use waystation_proto::auth::v1::*;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::router::v1::*;
use waystation_tests::{Backend, Cell, code_and_reason, http, post};

/// Another organization, with a backend of its own.
async fn other(cell: &Cell) -> Backend {
    let mut operator = Backend::with_token(&cell.dev, &cell.dev.operator_token);
    let organization =
        CreateOrganizationRequest { organization_id: "other".into(), name: "Other".into(), ..Default::default() };
    operator.credentials.create_organization(organization.clone()).await.unwrap();
    operator.credentials.create_organization(organization).await.unwrap();
    let login = IssueServiceTokenRequest {
        service: waystation_standalone::BACKEND.into(),
        secret: cell.dev.service_secret.clone(),
        organization_id: "other".into(),
        scopes: vec![],
    };
    let token = operator.auth.issue_service_token(login).await.unwrap().into_inner().access_token;
    Backend::with_token(&cell.dev, &token)
}

/// What an operator of another organization is told of a mailbox and a session.
async fn look_into(
    stranger: &mut Backend,
    organization_id: String,
    orchestrator_id: String,
    session_id: String,
) -> [tonic::Status; 7] {
    let (organization, orchestrator) = (|| organization_id.clone(), || orchestrator_id.clone());
    let list = ListMessagesRequest {
        organization_id: organization(),
        orchestrator_id: orchestrator(),
        ..ListMessagesRequest::default()
    };
    let letters = ListDeadLettersRequest {
        organization_id: organization(),
        orchestrator_id: orchestrator(),
        ..ListDeadLettersRequest::default()
    };
    let redrive = RedriveDeadLettersRequest {
        organization_id: organization(),
        orchestrator_id: orchestrator(),
        ..RedriveDeadLettersRequest::default()
    };
    let purge = PurgeMailboxRequest { organization_id: organization(), orchestrator_id: orchestrator() };
    let get = GetSessionRequest { organization_id: organization(), session_id: session_id.clone() };
    let end = TerminateSessionRequest { organization_id: organization(), session_id };
    let watch = WatchPresenceRequest {
        organization_id: organization(),
        orchestrator_ids: vec![orchestrator()],
        ..Default::default()
    };
    let router = &mut stranger.router;
    [
        router.list_messages(list).await.unwrap_err(),
        router.list_dead_letters(letters).await.unwrap_err(),
        router.redrive_dead_letters(redrive).await.unwrap_err(),
        router.purge_mailbox(purge).await.unwrap_err(),
        router.get_session(get).await.unwrap_err(),
        router.terminate_session(end).await.unwrap_err(),
        router.watch_presence(watch).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_token_of_another_organization_finds_nothing() {
    let cell = Cell::start().await;
    cell.backend().route("orla", 1).await;
    let session = cell.daemon("orla", "d1").await;
    let mut stranger = other(&cell).await;
    for organization_id in ["", "dev"].map(String::from) {
        let orchestrator_id = "orla".to_owned();
        let get =
            GetMailboxRequest { organization_id: organization_id.clone(), orchestrator_id: orchestrator_id.clone() };
        let presence =
            GetPresenceRequest { organization_id: organization_id.clone(), orchestrator_id: orchestrator_id.clone() };
        let list =
            ListSessionsRequest { organization_id: organization_id.clone(), orchestrator_id: orchestrator_id.clone() };
        let message = GetMessageRequest {
            organization_id: organization_id.clone(),
            orchestrator_id: orchestrator_id.clone(),
            message_id: "m".into(),
        };
        let route = RouteMessageRequest { organization_id, ..Backend::message("orla", 2) };
        let refused = [
            stranger.router.get_mailbox(get).await.unwrap_err(),
            stranger.router.get_presence(presence).await.unwrap_err(),
            stranger.router.list_sessions(list).await.unwrap_err(),
            stranger.router.get_message(message).await.unwrap_err(),
            stranger.router.route_message(route).await.unwrap_err(),
        ];
        for status in refused {
            assert_eq!(code_and_reason(&status), (Code::NotFound, Some(ErrorReason::NotFound)), "{status:?}");
        }
    }
    let session_id = session.welcome["payload"]["sessionId"].as_str().unwrap().to_owned();
    for organization_id in ["", "dev"].map(String::from) {
        let orchestrator_id = "orla".to_owned();
        let refused = look_into(&mut stranger, organization_id, orchestrator_id, session_id.clone()).await;
        for status in refused {
            assert_eq!(code_and_reason(&status), (Code::NotFound, Some(ErrorReason::NotFound)), "{status:?}");
        }
    }
    assert_eq!(cell.backend().depth("orla").await, 1, "nothing was purged");
    assert_eq!(cell.backend().sessions("orla").await.len(), 1, "nothing was ended");
    let targets = [
        revoke_token_request::Target::SessionId(session.welcome["payload"]["sessionId"].as_str().unwrap().into()),
        revoke_token_request::Target::ApiKeyId(cell.dev.api_key.clone()),
        revoke_token_request::Target::Family("unknown".into()),
    ];
    for target in targets {
        let request = RevokeTokenRequest { target: Some(target), ..Default::default() };
        assert_eq!(stranger.auth.revoke_token(request).await.unwrap_err().code(), Code::NotFound);
    }
    let token = cell.token("orla").await;
    let looked_at = stranger.auth.validate_token(ValidateTokenRequest { token }).await.unwrap_err();
    assert_eq!(looked_at.code(), Code::Unauthenticated);
    assert_eq!(cell.backend().depth("orla").await, 1);
}

#[tokio::test]
async fn an_organization_decides_who_is_in_it() {
    let cell = Cell::start().await;
    let mut backend = other(&cell).await;
    let create = CreateOrchestratorRequest { orchestrator_id: "known".into(), ..Default::default() };
    backend.credentials.create_orchestrator(create).await.unwrap();
    let key = CreateApiKeyRequest { scopes: vec!["messages:read".into()], ..Default::default() };
    let key = backend.credentials.create_api_key(key).await.unwrap().into_inner();
    backend.route("known", 1).await;
    assert_eq!(backend.try_route(Backend::message("unknown", 1)).await.unwrap_err().code(), Code::NotFound);
    let log_in = async |orchestrator: &str| {
        let body = serde_json::json!({"apiKey": key.api_key, "apiSecret": key.api_secret,
            "orchestratorId": orchestrator, "scopes": ["messages:read", "admin:write", "admin:*"]});
        http(&cell.dev.http_url, post("/api/daemon/auth", &body)).await
    };
    let answer = log_in("known").await;
    let answer: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!(answer["scopes"], serde_json::json!(["messages:read"]));
    assert_eq!(answer["orchestrator"]["organization"]["id"], "other");
    assert_eq!(log_in("unknown").await.status(), 404);
    let everything = CreateApiKeyRequest { scopes: vec!["admin:*".into()], ..Default::default() };
    assert_eq!(backend.credentials.create_api_key(everything).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn only_operators_make_organizations_and_only_gateways_speak_for_sessions() {
    let cell = Cell::start().await;
    let mut backend = cell.backend();
    let organization = CreateOrganizationRequest { organization_id: "x".into(), ..Default::default() };
    let refused = backend.credentials.create_organization(organization).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let operator = Backend::with_token(&cell.dev, &cell.dev.operator_token);
    for bearer in [&cell.dev.service_token, &cell.dev.operator_token, &cell.token("orla").await] {
        let mut request = Request::new(RenewGatewayRequest { incarnation_id: "g".into(), ..Default::default() });
        request.metadata_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
        let channel = waystation_rpc::channel(&cell.dev.router, &Default::default()).unwrap();
        let mut sessions = session_service_client::SessionServiceClient::new(channel);
        assert_eq!(sessions.renew_gateway(request).await.unwrap_err().code(), Code::PermissionDenied);
    }
    let named = RouteMessageRequest { organization_id: "dev".into(), ..Backend::message("orla", 1) };
    operator.try_route(named).await.unwrap();
    let unnamed = operator.try_route(Backend::message("orla", 1)).await.unwrap_err();
    assert_eq!(code_and_reason(&unnamed), (Code::InvalidArgument, Some(ErrorReason::InvalidField)));
}
