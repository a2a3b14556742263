//! The real binary in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use tokio::process::{Child, Command};
use waystation_standalone::DevFile;

use crate::{Backend, PATIENCE, eventually};

pub struct Process {
    pub dev: DevFile,
    child: Child,
}

/// The binary, built once in the profile of this test.
pub fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = std::process::Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "-p", "waystation-standalone", "--bins"]);
        if cfg!(debug_assertions) {
            // All that tests start, at once and before any of them begins: a compiler beside them would slow them down.
            build.args(["-p", "waystation-cli", "-p", "waystation-client", "--example", "adapter"]);
        } else {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "the binary builds");
        let here = std::env::current_exe().unwrap();
        // target/<profile>/deps/<this test>, or target/<profile>/<this binary>
        let profile = here.ancestors().find(|dir| dir.join("waystation-standalone").is_file()).unwrap();
        profile.join("waystation-standalone")
    })
}

/// The command, for those who want more than [`Process::start`] does.
pub fn command(state_dir: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg("--any-ports").arg("--state-dir").arg(state_dir);
    command.stdout(Stdio::null()).kill_on_drop(true);
    command
}

impl Process {
    /// Starts it over a state directory, and waits until it is ready.
    pub async fn start(state_dir: &Path) -> Process {
        Process::start_with(state_dir, &[]).await
    }

    pub async fn start_with(state_dir: &Path, more: &[&str]) -> Process {
        let file = state_dir.join(DevFile::NAME);
        std::fs::remove_file(&file).ok();
        let mut child = command(state_dir).args(more).spawn().unwrap();
        let dev = eventually("dev.json is written", async || {
            assert!(child.try_wait().unwrap().is_none(), "the process ended");
            DevFile::read(state_dir).ok()
        })
        .await;
        Process { dev, child }
    }

    pub fn backend(&self) -> Backend {
        Backend::new(&self.dev)
    }

    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// kill -9
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM; answers the exit code.
    pub async fn terminate(&mut self) -> i32 {
        self.signal("-TERM");
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends in time").unwrap().code().unwrap_or(-1)
    }

    pub fn signal(&self, signal: &str) {
        let sent = std::process::Command::new("kill").arg(signal).arg(self.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}
