//! `waystation-standalone`: all services in one process.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use secrecy::SecretString;
use waystation_gateway::WebOrigin;
use waystation_standalone::{Options, Standalone, StartError, StoreOptions, banner};
use waystation_store::{Durability, OpenError, RedisConfig};
use waystation_telemetry::traces::TraceSettings;
use waystation_telemetry::{LogFormat, init_logs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A bad configuration (sysexits.h: EX_USAGE).
const BAD_CONFIGURATION: u8 = 64;
/// How long a stop waits for each service.
const GRACE: Duration = Duration::from_secs(10);

/// All services of Waystation in one process, over the embedded store or a Redis.
#[derive(Parser)]
#[command(name = "waystation-standalone", version)]
struct Arguments {
    /// Directory of the journal, the secrets and dev.json
    #[arg(long, env = "WAYSTATION_STATE_DIR", default_value = ".waystation")]
    state_dir: PathBuf,
    /// Keep nothing: a stop forgets every message
    #[arg(long, conflicts_with = "fsync")]
    memory: bool,
    /// Let each answer wait for the disk: survives a power cut
    #[arg(long)]
    fsync: bool,
    /// Use a Redis in place of the embedded store: redis://host:port, several nodes of a cluster with commas
    #[arg(long, value_name = "URL", env = "WAYSTATION_REDIS", hide_env_values = true, conflicts_with_all = ["memory", "fsync"])]
    redis: Option<String>,
    /// Loopback address to bind
    #[arg(long, default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Bind any free ports; dev.json tells which
    #[arg(long)]
    any_ports: bool,
    /// An OTLP collector (gRPC) that every message is traced to, as http://127.0.0.1:4317
    #[arg(long, value_name = "URL")]
    traces: Option<String>,
    /// Write logs as JSON
    #[arg(long)]
    json_logs: bool,
    /// Shared HS256 secret of the older platform, at least 32 bytes
    #[arg(long, env = "DAEMON_JWT_SECRET", hide_env_values = true)]
    daemon_jwt_secret: Option<String>,
    /// Where daemons connect, beside the documented paths
    #[arg(long, env = "WS_PATH", value_parser = path)]
    path: Option<String>,
    /// A web page that may call, as http://localhost:3000; may be given more than once
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    allowed_origins: Vec<WebOrigin>,
    /// How often daemons send heartbeats, in milliseconds
    #[arg(long, env = "WS_HEARTBEAT_INTERVAL", value_parser = clap::value_parser!(u64).range(1..))]
    heartbeat_interval_ms: Option<u64>,
    /// Until the auth frame, in milliseconds
    #[arg(long, env = "WS_AUTH_TIMEOUT", value_parser = clap::value_parser!(u64).range(1..))]
    auth_timeout_ms: Option<u64>,
    /// Daemons of one orchestrator that may be connected
    #[arg(long, env = "WS_MAX_CONNECTIONS_PER_VP", value_parser = clap::value_parser!(u8).range(1..=100))]
    sessions_per_orchestrator: Option<u8>,
}

fn path(text: &str) -> Result<String, String> {
    let plain = text.starts_with('/') && !text.contains(['{', '}', '*']);
    if plain { Ok(text.to_owned()) } else { Err("must be a plain path that begins with /".to_owned()) }
}

impl Arguments {
    fn into_options(self) -> Options {
        let store = match (self.redis, self.memory) {
            (Some(url), _) => StoreOptions::Redis(RedisConfig::of(&url)),
            (None, true) => StoreOptions::Memory,
            (None, false) => StoreOptions::Journal { fsync: self.fsync },
        };
        let mut options = Options {
            store,
            bind: self.bind,
            any_ports: self.any_ports,
            hs256: self.daemon_jwt_secret.map(SecretString::from),
            allowed_origins: self.allowed_origins,
            ..Options::new(self.state_dir)
        };
        if let Some(endpoint) = self.traces {
            options.traces = TraceSettings { endpoint, ratio: 1.0, callers_ratio: 1.0 };
        }
        options.path = self.path.unwrap_or(options.path);
        options.session.heartbeat = self.heartbeat_interval_ms.map_or(options.session.heartbeat, Duration::from_millis);
        options.limits.auth = self.auth_timeout_ms.map_or(options.limits.auth, Duration::from_millis);
        options.sessions_per_orchestrator =
            self.sessions_per_orchestrator.map_or(options.sessions_per_orchestrator, usize::from);
        options
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = !error.use_stderr();
            error.print().ok();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(BAD_CONFIGURATION) };
        }
    };
    init_logs(if arguments.json_logs { LogFormat::Json } else { LogFormat::Text });
    match run(arguments.into_options()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                StartError::Options(_) | StartError::Store(OpenError::Unfit(_)) => ExitCode::from(BAD_CONFIGURATION),
                StartError::Store(_) | StartError::Io { .. } | StartError::Service(_) => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(options: Options) -> Result<bool, StartError> {
    let state_dir = options.state_dir.clone();
    let standalone = Standalone::start(options).await?;
    let durability = match standalone.store.mailboxes.durability() {
        Durability::Process => "PROCESS",
        Durability::PageCache => "PAGE_CACHE",
        Durability::Fsync => "FSYNC",
        Durability::Replicated => "REPLICATED",
    };
    let text = banner(&standalone.dev, &state_dir, durability);
    // A closed standard output is no reason not to serve.
    std::io::stdout().write_all(text.as_bytes()).ok();
    let in_order = standalone.run(GRACE).await;
    in_order.map_err(|source| StartError::Io { action: "receive signals".to_owned(), source })
}
