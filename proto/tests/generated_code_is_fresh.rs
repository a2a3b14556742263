//! The code under `src/gen` is what the `.proto` files say. `make proto` rewrites it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::{env, fs};

const FILES: [&str; 8] = [
    "waystation/auth/v1/auth.proto",
    "waystation/common/v1/common.proto",
    "waystation/daemon/v1/daemon.proto",
    "waystation/federation/v1/federation.proto",
    "waystation/federation/v1/peer.proto",
    "waystation/gateway/v1/gateway.proto",
    "waystation/router/v1/router.proto",
    "waystation/router/v1/session.proto",
];

/// Set by `make proto`: writes instead of comparing.
const REWRITE: &str = "WAYSTATION_REWRITE_PROTO";

fn generate(into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(FILES).unwrap();
    fs::write(into.join("descriptor.bin"), compiler.encode_file_descriptor_set()).unwrap();

    let with_comments = protox::compile(FILES, [root]).unwrap();
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .out_dir(into)
        .compile_fds(with_comments)
        .unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name())).collect();
    names.sort();
    names
}

#[test]
fn generated_code_is_fresh() {
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    if env::var_os(REWRITE).is_some() {
        generate(&checked_in);
        return;
    }
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    assert_eq!(files(fresh.path()), files(&checked_in), "run `make proto`");
    for name in files(fresh.path()) {
        assert!(
            fs::read(fresh.path().join(&name)).unwrap() == fs::read(checked_in.join(&name)).unwrap(),
            "{} is stale: run `make proto`",
            name.display()
        );
    }
}
