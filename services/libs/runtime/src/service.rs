//! The whole life of a service's process, the same for all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use waystation_telemetry::init_logs;
use waystation_telemetry::traces::{TraceSettingsError, Tracer};

use crate::settings::{ProcessSettings, SettingsError, Sources};
use crate::{Clock, Context, Reach, shutdown_signal};

/// A bad configuration (sysexits.h: EX_USAGE).
const BAD_CONFIGURATION: u8 = 64;

/// A service that is a process of its own.
pub trait Service: Sized {
    /// Its name, lower case.
    const NAME: &'static str;
    /// Environment names of the older platform, and the keys that they stand for.
    const OLDER: &'static [(&'static str, &'static str)];
    /// Keys that hold lists.
    const LISTS: &'static [&'static str];
    /// What it is configured with.
    type Settings: DeserializeOwned;

    /// What all services are configured with.
    fn process(settings: &Self::Settings) -> ProcessSettings;

    /// Starts. Resolves when it serves.
    fn start(settings: Self::Settings, context: &Context) -> impl Future<Output = Result<Self, StartError>>;

    /// Stops in order, within `grace` if it can.
    fn stop(self, context: &Context, grace: Duration) -> impl Future<Output = ()>;
}

/// A service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// Something that it needs cannot be had.
    #[error("{0}")]
    Failed(String),
}

impl From<SettingsError> for StartError {
    fn from(error: SettingsError) -> StartError {
        StartError::Configuration(error.to_string())
    }
}

impl From<TraceSettingsError> for StartError {
    fn from(error: TraceSettingsError) -> StartError {
        StartError::Configuration(format!("process.traces.{error}"))
    }
}

#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// TOML file; every key is in deploy/config
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only read the configuration, and say whether it can be used
    #[arg(long)]
    check: bool,
}

/// Runs a service: reads its configuration, starts it, and stops it at SIGTERM or SIGINT; a second signal ends at once.
pub fn run<S: Service>() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = !error.use_stderr();
            error.print().ok();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(BAD_CONFIGURATION) };
        }
    };
    let sources = Sources {
        service: S::NAME,
        file: arguments.config,
        older: S::OLDER,
        environment: environment(),
        lists: S::LISTS,
    };
    let settings: S::Settings = match sources.read() {
        Ok(settings) => settings,
        Err(error) => {
            init_logs(ProcessSettings::default().log);
            tracing::error!("configuration: {error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let process = S::process(&settings);
    init_logs(process.log);
    if let Err(error) = process.traces.check() {
        tracing::error!("configuration: {}", StartError::from(error));
        return ExitCode::from(BAD_CONFIGURATION);
    }
    if arguments.check {
        tracing::info!("the configuration can be read");
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(live::<S>(settings, &process));
    // What still runs was given its time.
    runtime.shutdown_background();
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                StartError::Configuration(_) => ExitCode::from(BAD_CONFIGURATION),
                StartError::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// The environment, as far as it is text.
fn environment() -> HashMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Answers whether it stopped because it was asked to.
async fn live<S: Service>(settings: S::Settings, process: &ProcessSettings) -> Result<bool, StartError> {
    let signals = |error: std::io::Error| StartError::Failed(format!("cannot receive signals: {error}"));
    let tracer = Tracer::open(S::NAME, &process.traces, Clock::wall)?;
    let age = Some(process.connection_age_seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let reach = Reach { connection_age: age, ..Reach::default() };
    let context = Context { tracer, reach, ..Context::of_host() };
    let service = tokio::select! {
        started = S::start(settings, &context) => started?,
        signal = shutdown_signal() => return signal.map(|()| true).map_err(signals),
    };
    tracing::info!(service = S::NAME, "serving");
    tokio::select! {
        signal = shutdown_signal() => signal.map_err(signals)?,
        () = context.lifecycle.stopping() => {}
    }
    tokio::select! {
        () = service.stop(&context, Duration::from_secs(process.stop_grace_seconds)) => {}
        signal = shutdown_signal() => signal.map_err(signals)?,
    }
    context.close_traces().await;
    Ok(!context.lifecycle.has_failed())
}

/// Binds a listener. `key` names the setting.
///
/// # Errors
/// If the address cannot be bound.
pub async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| StartError::Failed(format!("{key}: cannot bind {address}: {error}")))
}
