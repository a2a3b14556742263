//! What can be said on the command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::place::PlaceArguments;

/// Looks at a running Waystation, and talks to it, without code.
///
/// Exit codes: 0 done · 1 something is wrong (doctor), or not all was done · 64 wrong usage · 65 refused input · 66 not found ·
/// 69 cannot be reached · 71 a program or file cannot be used · 75 too much for now, try later · 77 not allowed.
#[derive(Debug, Parser)]
#[command(name = "waystation", version, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    /// Write JSON for machines, an object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start all services here, in one process (waystation-standalone)
    Up {
        /// Passed on, as `-- --memory`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Get a token: of a daemon by the API key, of a backend with --service
    Token {
        /// For a daemon of this orchestrator
        orchestrator: Option<String>,
        /// Log in as this backend, with --secret
        #[arg(long, requires = "secret")]
        service: Option<String>,
        /// The backend's secret
        #[arg(long, env = "WAYSTATION_SERVICE_SECRET", hide_env_values = true)]
        secret: Option<String>,
        /// Scopes, separated by commas; all that there are without it
        #[arg(long, value_delimiter = ',')]
        scopes: Vec<String>,
    },
    /// Be a daemon: print messages and events, acknowledge messages
    Listen(Listen),
    /// Route a message to an orchestrator
    Send(Send),
    /// Publish an event
    Publish(Publish),
    /// Show a mailbox, and what waits in it
    Mailbox {
        /// Whose
        orchestrator: String,
        /// Messages to list
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Messages that could not be delivered
    DeadLetters {
        #[command(subcommand)]
        what: DeadLetters,
    },
    /// List the sessions of an orchestrator
    Sessions {
        /// Whose
        orchestrator: String,
        /// End this one
        #[arg(long, value_name = "SESSION")]
        terminate: Option<String>,
    },
    /// Give a task away, and follow it to its end
    Delegate(Delegate),
    /// Say why a delegation went as it did
    Explain {
        /// As `delegate` told it
        delegation: String,
    },
    /// Show what goes on, every second
    Top {
        /// Of these orchestrators, the mailbox too
        orchestrators: Vec<String>,
        /// End after so many looks
        #[arg(long)]
        count: Option<u64>,
        /// Seconds between looks
        #[arg(long, default_value_t = 1.0)]
        interval: f64,
    },
    /// Route messages to a daemon of its own, and measure
    Bench {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        messages: u64,
        /// Under way at a time
        #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        window: u64,
        /// Bytes of data of each
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(32..=100_000))]
        size: u64,
    },
    /// Look for what is wrong, and say what to do
    Doctor {
        /// Look at this Redis too, as redis://host:port, with user:password@ before the host if it asks for them
        #[arg(long, env = "WAYSTATION_REDIS", hide_env_values = true, value_name = "URL")]
        redis: Option<String>,
    },
    /// Write completions for a shell
    Completions {
        /// Which
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Listen {
    /// Whom to serve
    pub(crate) orchestrator: String,
    /// As which daemon
    #[arg(long, default_value = "cli")]
    pub(crate) daemon: String,
    /// Print events of the feed too: exact names, prefix.* or *
    #[arg(long, value_delimiter = ',')]
    pub(crate) events: Vec<String>,
    /// Leave messages where they are
    #[arg(long)]
    pub(crate) no_ack: bool,
    /// End after so many
    #[arg(long)]
    pub(crate) count: Option<u64>,
    /// Keep in this file what was applied, so that nothing is printed twice
    #[arg(long, value_name = "FILE")]
    pub(crate) state_file: Option<std::path::PathBuf>,
}

/// How urgent a message is.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Priority {
    Low,
    #[default]
    Normal,
    High,
    Critical,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

#[derive(Args, Debug)]
pub(crate) struct Send {
    /// To whom
    pub(crate) orchestrator: String,
    /// A JSON object; - reads it from the input
    pub(crate) data: String,
    /// What it is
    #[arg(long = "type", default_value = "message.received")]
    pub(crate) event_type: String,
    /// Makes a repeat harmless
    #[arg(long)]
    pub(crate) id: Option<String>,
    #[arg(long, default_value = "normal")]
    pub(crate) priority: Priority,
    /// How many seconds it may wait
    #[arg(long, value_parser = seconds)]
    pub(crate) ttl: Option<Duration>,
    /// Wait so many seconds until it is acknowledged
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    pub(crate) wait: Option<Duration>,
    /// Fail if nobody is there
    #[arg(long)]
    pub(crate) fail_if_offline: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Publish {
    /// Its type, as invoice.paid
    pub(crate) event_type: String,
    /// A JSON object; - reads it from the input
    pub(crate) data: String,
    /// Makes a repeat harmless
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Of this channel
    #[arg(long)]
    pub(crate) channel: Option<String>,
    /// Only for these orchestrators, into their mailboxes
    #[arg(long, value_delimiter = ',')]
    pub(crate) to: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// Show them, the newest last
    List {
        /// Whose
        orchestrator: String,
        /// How many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Route them once more
    Redrive {
        /// Whose
        orchestrator: String,
        /// Numbers, as the list shows them; without any: all
        numbers: Vec<u64>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Delegate {
    /// Type of the task
    pub(crate) kind: String,
    /// Its payload as JSON; - reads it from the input
    #[arg(default_value = "{}")]
    pub(crate) payload: String,
    /// What whoever does it must be able to; the task's type without it
    #[arg(long, value_delimiter = ',')]
    pub(crate) capabilities: Vec<String>,
    /// Who is to do it
    #[arg(long, value_name = "ORCHESTRATOR")]
    pub(crate) to: Option<String>,
    /// The same id is the same delegation
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// How often it may be done anew
    #[arg(long)]
    pub(crate) retries: Option<u32>,
    /// Do not wait for its end
    #[arg(long)]
    pub(crate) no_wait: bool,
}
