//! What deploy/ holds: it renders, it is valid, and the services take the configurations that come out of it.

use std::path::Path;
use std::process::Command;

use waystation_tests::fleet::service_binary;

const SERVICES: [&str; 4] = ["gateway", "router", "auth", "federation"];

/// Has the service's own binary judge a configuration.
fn judge(service: &str, file: Option<&Path>, environment: &[(String, String)]) {
    let mut check = Command::new(service_binary(service));
    check.arg("--check").env_clear().envs(environment.iter().cloned());
    if let Some(file) = file {
        check.arg("--config").arg(file);
    }
    let output = check.output().unwrap();
    assert!(output.status.success(), "{file:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn environment(file: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    let pairs = text.lines().map(|line| line.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn manifests_are_valid_and_services_take_their_configurations() {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/check.sh");
    let checked = Command::new(script).arg(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    for values in ["trial", "plain", "full"] {
        for service in SERVICES {
            judge(service, Some(&dir.path().join(values).join(format!("{service}.toml"))), &[]);
        }
    }
    for service in SERVICES {
        judge(service, None, &environment(&dir.path().join("compose").join(format!("{service}.env"))));
    }
}
