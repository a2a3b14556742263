//! What operators and tools find: health, readiness, metrics, reflection, the policy table.

use std::collections::BTreeMap;

use http::Request;
use prost::Message as _;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use waystation_tests::{Cell, eventually, http};

#[tokio::test]
async fn admin_pages_tell_health_and_metrics() {
    let cell = Cell::start().await;
    cell.backend().route("orla", 1).await;
    for base in [&cell.dev.admin.gateway, &cell.dev.admin.router, &cell.dev.admin.auth] {
        for path in ["/livez", "/readyz", "/metrics"] {
            let response = http(base, Request::get(path).body(String::new()).unwrap()).await;
            assert_eq!(response.status(), 200, "{base}{path}");
        }
    }
    eventually("the metrics count it", async || {
        let text = metrics(&cell.dev.admin.router, "application/openmetrics-text;version=1.0.0").await;
        let counted = text.contains("waystation_messages_routed_total{outcome=\"Queued\"} 1");
        (counted && text.contains("waystation_conservation_delta 0") && text.ends_with("# EOF\n")).then_some(())
    })
    .await;
}

async fn metrics(base: &str, accept: &str) -> String {
    let request = Request::get("/metrics").header("accept", accept).body(String::new()).unwrap();
    String::from_utf8(http(base, request).await.into_body()).unwrap()
}

/// Dashboards and alerts are built on these names: docs/operations.md has each, with its kind and its labels' values.
#[tokio::test]
async fn every_metric_is_documented_and_has_few_labels() {
    let cell = Cell::start().await;
    let mut daemon = cell.daemon("orla", "d1").await;
    cell.backend().route("orla", 1).await;
    let events = daemon.events(1).await;
    daemon.ack(&events).await;
    let page = include_str!("../../docs/operations.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `waystation_"));
    let documented: BTreeMap<String, String> = rows
        .map(|row| {
            let mut cells = row.split(" | ");
            let (name, kind) = (cells.next().unwrap(), cells.next().unwrap());
            let name = name.split(['`', '{']).next().unwrap();
            (format!("waystation_{name}"), kind.to_owned())
        })
        .collect();
    let mut found = BTreeMap::new();
    // The embedded store makes no calls, and there is no certificate.
    for name in ["store_calls", "store_failures", "store_seconds", "certificate_ends_seconds"] {
        let name = format!("waystation_{name}");
        found.insert(name.clone(), documented[&name].clone());
    }
    let admin = &cell.dev.admin;
    for base in [&admin.gateway, &admin.router, &admin.auth, &admin.federation] {
        for line in metrics(base, "text/plain").await.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                found.insert(name.to_owned(), kind.to_owned());
            }
            let labels =
                line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
            for tenant in ["orla", "d1", cell.dev.organization_id.as_str()] {
                assert!(!labels.split('"').any(|value| value == tenant), "a tenant is a label: {line}");
            }
        }
    }
    assert_eq!(found, documented);
}

#[tokio::test]
async fn health_and_reflection_need_no_bearer() {
    let cell = Cell::start().await;
    for (address, service) in [
        (&cell.dev.router, "waystation.router.v1.RouterService"),
        (&cell.dev.auth, "waystation.auth.v1.AuthService"),
        (&cell.dev.gateway, "waystation.gateway.v1.GatewayService"),
    ] {
        let channel = waystation_rpc::channel(address, &Default::default()).unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
        assert!(waystation_tests::wants_traffic(address).await);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(service.into())),
        };
        let mut client = ServerReflectionClient::new(channel);
        let answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
        let answer: ServerReflectionResponse = answers.into_inner().message().await.unwrap().unwrap();
        let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
            panic!("{answer:?}")
        };
        let file = prost_types::FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).unwrap();
        assert!(file.service.iter().any(|found| service.ends_with(found.name())));
    }
}

#[test]
fn every_method_of_the_contract_has_a_row_in_the_policy() {
    let files = prost_types::FileDescriptorSet::decode(waystation_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut contract: Vec<String> = Vec::new();
    for file in &files.file {
        for service in &file.service {
            let methods = service.method.iter().map(|method| method.name());
            contract.extend(methods.map(|method| format!("/{}.{}/{method}", file.package(), service.name())));
        }
    }
    contract.sort();
    let mut policy: Vec<&str> =
        waystation_domain::policy::methods().filter(|name| name.starts_with("/waystation.")).collect();
    policy.sort_unstable();
    assert_eq!(contract, policy);
}
