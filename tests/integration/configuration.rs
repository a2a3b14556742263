//! The example files in deploy/config say every key, with the default that is in force.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use waystation_auth::process::AuthProcess;
use waystation_federation::process::FederationProcess;
use waystation_gateway::process::GatewayProcess;
use waystation_router::process::RouterProcess;
use waystation_runtime::Service;
use waystation_runtime::settings::Sources;

fn example(service: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/config/{service}.toml"))
}

fn read<S: Service>(file: Option<PathBuf>, environment: &[(String, String)]) -> Result<S::Settings, String> {
    let environment: HashMap<String, String> = environment.iter().cloned().collect();
    let sources = Sources { service: S::NAME, file, older: S::OLDER, environment, lists: S::LISTS };
    sources.read().map_err(|error| error.to_string())
}

/// The keys of a table, which the refusal of an unknown one lists.
fn keys<S: Service>(table: &str) -> Vec<String> {
    let name = format!("WAYSTATION_{}__{table}NO_SUCH_KEY", S::NAME.to_uppercase());
    let refusal = read::<S>(None, &[(name, "1".into())]).err().unwrap();
    assert!(refusal.contains("no_such_key"), "{refusal}");
    let quoted = refusal.split('`').skip(3).step_by(2);
    // The table is named too.
    quoted.filter(|key| !key.contains('.')).map(str::to_owned).collect()
}

fn check<S: Service<Settings: std::fmt::Debug>>(tables: &[&str]) {
    let text = std::fs::read_to_string(example(S::NAME)).unwrap();
    let settings = read::<S>(Some(example(S::NAME)), &[]).unwrap();
    let mut defaults = format!("{:?}", read::<S>(None, &[]).unwrap());
    // The one value that an example must have and that has no default.
    defaults = defaults.replace("urls: []", r#"urls: ["redis://127.0.0.1:6379"]"#);
    assert_eq!(format!("{settings:?}"), defaults, "{}: the values are the defaults", S::NAME);
    for table in tables {
        let keys = keys::<S>(table);
        assert!(keys.len() > 2, "{keys:?}");
        for key in keys {
            let said = |line: &str| {
                let line = line.trim_start_matches("# ");
                let table = line.trim_matches(['[', ']']);
                line.starts_with(&format!("{key} = "))
                    || line.starts_with('[') && table.rsplit('.').next() == Some(key.as_str())
            };
            assert!(text.lines().any(said), "{}: {table}{key} is not there", S::NAME);
        }
    }
}

#[test]
fn every_key_is_in_the_example_with_its_default() {
    check::<GatewayProcess>(&["", "LIMITS__", "PROCESS__", "PROCESS__TRACES__"]);
    check::<RouterProcess>(&["", "REDIS__", "PROCESS__", "PROCESS__TRACES__"]);
    check::<FederationProcess>(&["", "REDIS__", "PROCESS__", "PROCESS__TRACES__"]);
    check::<AuthProcess>(&["", "REDIS__", "PROCESS__", "PROCESS__TRACES__"]);
}

#[test]
fn older_names_stand_for_their_keys() {
    let with = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
    let gateway = |name, value| format!("{:?}", read::<GatewayProcess>(None, &with(name, value)).unwrap());
    assert!(gateway("WS_HEARTBEAT_INTERVAL", "15000").contains("heartbeat_interval_ms: 15000"));
    assert!(gateway("WS_AUTH_TIMEOUT", "5000").contains("auth_timeout_ms: 5000"));
    assert!(gateway("WS_PATH", "/older/ws").contains(r#"path: "/older/ws""#));
    let secret = gateway("DAEMON_JWT_SECRET", "do-not-show-this-secret-to-anybody");
    assert!(secret.contains("jwt_secret: Some(") && !secret.contains("do-not-show"), "{secret}");
    let router = read::<RouterProcess>(None, &with("WS_MAX_CONNECTIONS_PER_VP", "7")).unwrap();
    assert!(format!("{router:?}").contains("sessions_per_orchestrator: 7"));
    let several = with("WAYSTATION_ROUTER__REDIS__URLS", "redis://u:secret@a:1,redis://u:secret@b:2");
    let router = format!("{:?}", read::<RouterProcess>(None, &several).unwrap());
    assert!(router.contains("b:2") && !router.contains("secret@"), "{router}");
}
