//! What Kubernetes asks.

use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use waystation_rpc::READINESS;

/// Whether a service says by gRPC that it wants traffic.
pub async fn wants_traffic(address: &str) -> bool {
    let mut health = HealthClient::new(waystation_rpc::channel(address, &Default::default()).unwrap());
    let answer = health.check(HealthCheckRequest { service: READINESS.into() }).await.unwrap();
    answer.into_inner().status == ServingStatus::Serving as i32
}
