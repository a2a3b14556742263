//! One server.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, Connection};
use tempfile::TempDir;

use crate::{binary, free_port};

/// How long a server may take to come up; it usually takes 20 ms.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where it keeps its log.
const LOG: &str = "appendonlydir";
/// Ends the server when this process has gone, however it went: its end of the pipe closes.
const KEEPER: &str = r#""$0" "$@" & pid=$!; read -r _; kill -9 $pid 2>/dev/null; wait $pid"#;

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// `always` or `everysec`; `None`: nothing is kept over a restart.
    pub append_fsync: Option<&'static str>,
    /// Further settings, as `maxmemory`, `10mb`.
    pub settings: Vec<(&'static str, String)>,
    /// A node of a cluster.
    pub cluster: bool,
    /// No server of data but one that watches others.
    pub sentinel: bool,
}

/// A running server on a port of its own; killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    dir: TempDir,
    options: RedisOptions,
    keeper: Option<Child>,
    pid: u32,
}

impl RedisServer {
    /// Starts a server.
    pub fn start(options: RedisOptions) -> RedisServer {
        let dir = tempfile::Builder::new().prefix("waystation-redis").tempdir().unwrap();
        let mut server = RedisServer { port: free_port(), dir, options, keeper: None, pid: 0 };
        server.run();
        server
    }

    /// A database of a server that all tests of this process share.
    pub fn shared() -> String {
        use std::sync::OnceLock;
        use std::sync::atomic::{AtomicUsize, Ordering};
        static SERVER: OnceLock<RedisServer> = OnceLock::new();
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let settings = vec![("databases", "2000".into())];
        let many = RedisOptions { append_fsync: Some("everysec"), settings, ..RedisOptions::default() };
        let server = SERVER.get_or_init(|| RedisServer::start(many));
        format!("{}/{}", server.url(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn run(&mut self) {
        let persistent = self.options.append_fsync;
        let mut command = Command::new("sh");
        command.arg("-c").arg(KEEPER).arg(binary::path());
        if self.options.sentinel {
            // It keeps what it learns in its configuration, which must be a file.
            let file = self.dir.path().join("sentinel.conf");
            std::fs::write(&file, format!("port {}\nbind 127.0.0.1\ndir {}\n", self.port, self.dir.path().display()))
                .unwrap();
            command.arg(file).arg("--sentinel");
            return self.begin(command);
        }
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]);
        command.args(["--dir", self.dir.path().to_str().unwrap(), "--logfile", "log", "--enable-debug-command", "yes"]);
        command.args(["--appendonly", if persistent.is_some() { "yes" } else { "no" }]);
        if let Some(fsync) = persistent {
            command.args(["--appendfsync", fsync]);
        }
        if self.options.cluster {
            command.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
        }
        for (name, value) in &self.options.settings {
            command.arg(format!("--{name}")).arg(value);
        }
        self.begin(command);
    }

    fn begin(&mut self, mut command: Command) {
        let keeper = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.keeper = Some(keeper);
        let info: String = redis::cmd("INFO").arg("server").query(&mut self.connect()).unwrap();
        let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap();
        self.pid = pid.trim().parse().unwrap();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection, once it answers.
    pub fn connect(&self) -> Connection {
        let client = Client::open(self.url()).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let connected = client.get_connection_with_timeout(Duration::from_secs(1));
            let answered = connected.and_then(|mut connection| {
                let pong: String = redis::cmd("PING").query(&mut connection)?;
                Ok((connection, pong))
            });
            match answered {
                Ok((connection, _)) => return connection,
                Err(error) if Instant::now() > until => {
                    let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                    panic!("Redis does not come up: {error}\n{log}")
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Sends one command.
    pub fn command(&self, words: &[&str]) -> redis::Value {
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        command.query(&mut self.connect()).unwrap()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        self.signal("KILL");
        // The keeper's pipe closes; it waits for the server, so that the port is free again when this returns.
        drop(keeper.stdin.take());
        keeper.wait().unwrap();
    }

    /// Starts it again on the same port with the same files.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    /// A copy of its log, rewritten before, made while it runs.
    pub fn back_up(&self) -> TempDir {
        self.command(&["BGREWRITEAOF"]);
        let rewriting = || -> bool {
            let info: String = redis::cmd("INFO").arg("persistence").query(&mut self.connect()).unwrap();
            ["aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1"].iter().any(|state| info.contains(state))
        };
        while rewriting() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let copy = tempfile::tempdir().unwrap();
        copy_files(&self.dir.path().join(LOG), copy.path());
        copy
    }

    /// Kills it, and starts it on such a copy.
    pub fn restore(&mut self, copy: &Path) {
        self.kill();
        let log = self.dir.path().join(LOG);
        std::fs::remove_dir_all(&log).unwrap();
        std::fs::create_dir(&log).unwrap();
        copy_files(copy, &log);
        self.run();
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        // The shell's own kill: no other program is needed.
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("kill -{name} {}", self.pid)).stderr(Stdio::null()).status().unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy_files(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
