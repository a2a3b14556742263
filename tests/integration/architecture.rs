//! The dependency rules of docs/architecture.md, read from cargo.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Crates of the workspace that each may use. Whatever is not here may use none.
const MAY_USE: &[(&str, &[&str])] = &[
    ("waystation-proto", &[]),
    ("waystation-domain", &[]),
    ("waystation-telemetry", &["domain"]),
    ("waystation-wire", &["domain", "proto"]),
    ("waystation-runtime", &["domain", "telemetry"]),
    ("waystation-token", &["domain"]),
    ("waystation-store", &["domain"]),
    ("waystation-client", &["domain", "wire"]),
    ("waystation-cli", &["client", "proto"]),
    ("waystation-test-redis", &[]),
    ("waystation-rpc", &["domain", "proto", "runtime", "token"]),
    ("waystation-auth", &["domain", "proto", "rpc", "runtime", "store", "telemetry", "token"]),
    ("waystation-router", &["domain", "proto", "rpc", "runtime", "store", "telemetry", "token"]),
    ("waystation-federation", &["domain", "proto", "rpc", "runtime", "store", "telemetry", "token"]),
    ("waystation-gateway", &["domain", "proto", "rpc", "runtime", "telemetry", "token", "wire"]),
    (
        "waystation-standalone",
        &["auth", "domain", "federation", "gateway", "router", "rpc", "runtime", "store", "telemetry", "token", "wire"],
    ),
];

/// Libraries that only these crates may name.
const KEPT_TO: &[(&str, &[&str])] = &[
    ("jsonwebtoken", &["waystation-token"]),
    ("redis", &["waystation-store", "waystation-test-redis", "waystation-tests"]),
    ("tokio-tungstenite", &["waystation-client", "waystation-gateway", "waystation-tests"]),
    ("rustls", &["waystation-client", "waystation-runtime", "waystation-tests"]),
    ("hyper-rustls", &["waystation-auth"]),
    ("opentelemetry", &["waystation-telemetry"]),
];

/// Libraries that these crates must not name: they hold rules, not I/O.
const WITHOUT: &[(&str, &[&str])] = &[
    ("waystation-domain", &["tokio", "tonic", "redis", "rand"]),
    ("waystation-wire", &["tokio", "tonic", "redis", "rand"]),
];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let of = |package: &cargo_metadata::Package| {
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        (package.name.to_string(), normal.map(|dependency| dependency.name.clone()).collect())
    };
    metadata.packages.iter().map(of).collect()
}

#[test]
fn crates_use_only_what_lies_below_them() {
    for (package, used) in dependencies() {
        if package == "waystation-tests" {
            continue;
        }
        let rule = MAY_USE.iter().find(|(name, _)| *name == package);
        let (_, allowed) = rule.unwrap_or_else(|| panic!("{package} has no rule"));
        for other in used.iter().filter_map(|name| name.strip_prefix("waystation-")) {
            assert!(allowed.contains(&other), "{package} must not use waystation-{other}");
        }
    }
}

#[test]
fn libraries_stay_where_they_belong() {
    for (package, used) in dependencies() {
        for (library, allowed) in KEPT_TO {
            assert!(
                !used.contains(*library) || allowed.contains(&package.as_str()),
                "{package} must not use {library}"
            );
        }
        for (_, unwanted) in WITHOUT.iter().filter(|(name, _)| *name == package) {
            for library in *unwanted {
                assert!(!used.contains(*library), "{package} must not use {library}");
            }
        }
    }
}

#[test]
fn the_rules_name_crates_that_exist() {
    let known = dependencies();
    for (package, _) in MAY_USE {
        assert!(known.contains_key(*package), "{package}");
    }
}

/// The names of all functions below a directory.
fn functions(dir: &std::path::Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn every_control_of_the_security_page_has_the_tests_that_it_names() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known = BTreeSet::new();
    for dir in ["services", "proto", "tests"] {
        functions(&root.join(dir), &mut known);
    }
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && line.split('|').count() == 6).collect();
    let controls =
        rows.iter().filter(|row| row.split('|').nth(1).is_some_and(|cell| cell.trim().parse::<u32>().is_ok()));
    let mut count = 0;
    for row in controls {
        let tests: Vec<&str> = row.split('|').nth(4).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            assert!(known.contains(test), "there is no test {test}");
        }
        count += 1;
    }
    assert_eq!(count, 17);
}
