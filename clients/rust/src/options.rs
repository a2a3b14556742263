//! How a client is made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::mpsc;
use waystation_domain::{ChannelId, InstanceId, Pattern, Window};

use crate::client::Client;
use crate::core::{Command, Core, Settings};
use crate::driver::{Driver, Parts};
use crate::error::{ConnectError, StateError};
use crate::event::Event;
use crate::journal::{Durability, Journal};
use crate::retry::RetryPolicy;
use crate::subscription::{Reader, Subscription};
use crate::token::{Callback, Login, Occasion, Token, TokenError, TokenSource};
use crate::transport::{Endpoint, system_tls};

/// What happens when the queue of outgoing messages is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Sending waits until there is room.
    #[default]
    Wait,
    /// Sending fails with [`SendError::QueueFull`](crate::SendError::QueueFull).
    Refuse,
    /// The oldest message of the lowest lane that is not more urgent makes room; whoever sent it is told
    /// [`SendError::Displaced`](crate::SendError::Displaced).
    DisplaceOldest,
}

/// A function that is told what happens.
pub(crate) type Listener = Box<dyn Fn(&Event) + Send + Sync>;

/// Options of a client. What has a default says so.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::TryStreamExt as _;
/// use waystation_client::ConnectOptions;
///
/// let client = ConnectOptions::new("wss://gateway.example.com", "orla", "laptop-1")
///     .api_key("key-id", "wsk_…")
///     .connect()
///     .await?;
/// let mut messages = client.messages();
/// while let Some(message) = messages.try_next().await? {
///     println!("{} {}", message.event_type, String::from_utf8_lossy(&message.data));
///     message.ack().await?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct ConnectOptions {
    url: String,
    orchestrator: String,
    daemon: String,
    tokens: Tokens,
    name: String,
    version: String,
    window: Window,
    retry: RetryPolicy,
    queue: usize,
    overflow: Overflow,
    state_file: Option<PathBuf>,
    durability: Durability,
    listener: Option<Listener>,
    tls: Option<Arc<rustls::ClientConfig>>,
    authorities: Option<PathBuf>,
    connect_timeout: Duration,
    ping_interval: Duration,
    patience: Duration,
    message_timeout: Duration,
    processing_limit: Duration,
    feed_queue: usize,
    readers: Vec<Reader>,
    /// Made with the options, so that subscriptions can be.
    commands: (mpsc::Sender<Command>, mpsc::Receiver<Command>),
}

enum Tokens {
    None,
    Key { id: String, secret: String, scopes: Option<Vec<String>> },
    Source(Arc<dyn TokenSource>),
}

/// Commands that wait for the client; whoever has more waits.
const COMMANDS: usize = 1_024;
/// Shortest time between signs of life: shorter ones would only cost.
const SHORTEST: Duration = Duration::from_millis(100);

fn wrong(option: &'static str) -> impl Fn(String) -> ConnectError {
    move |problem| ConnectError::Option { option, problem }
}

fn read<T: std::str::FromStr<Err: std::fmt::Display>>(option: &'static str, text: &str) -> Result<T, ConnectError> {
    text.parse().map_err(|error: T::Err| wrong(option)(error.to_string()))
}

impl ConnectOptions {
    /// For a daemon that serves an orchestrator, at a gateway as `wss://gateway.example.com`.
    pub fn new(url: &str, orchestrator: &str, daemon: &str) -> ConnectOptions {
        ConnectOptions {
            url: url.to_owned(),
            orchestrator: orchestrator.to_owned(),
            daemon: daemon.to_owned(),
            tokens: Tokens::None,
            name: "waystation-client".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            window: Window::default(),
            retry: RetryPolicy::default(),
            queue: 1_000,
            overflow: Overflow::default(),
            state_file: None,
            durability: Durability::default(),
            listener: None,
            tls: None,
            authorities: None,
            connect_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(15),
            patience: Duration::from_secs(10),
            message_timeout: Duration::from_secs(10),
            processing_limit: Duration::from_secs(600),
            feed_queue: 1_024,
            readers: Vec::new(),
            commands: mpsc::channel(COMMANDS),
        }
    }

    /// Logs in with an API key: its id, and the whole secret `wsk_…`.
    pub fn api_key(mut self, id: &str, secret: &str) -> ConnectOptions {
        self.tokens = Tokens::Key { id: id.to_owned(), secret: secret.to_owned(), scopes: None };
        self
    }

    /// Asks for these scopes only. With [`api_key`](ConnectOptions::api_key). Default: all that the key has.
    pub fn scopes(mut self, wanted: &[&str]) -> ConnectOptions {
        if let Tokens::Key { scopes, .. } = &mut self.tokens {
            *scopes = Some(wanted.iter().map(|scope| (*scope).to_owned()).collect());
        }
        self
    }

    /// Asks a function for tokens: at first, when one ends, and when one was refused.
    pub fn token_callback<F, Fut>(self, callback: F) -> ConnectOptions
    where
        F: Fn(Occasion) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Token, TokenError>> + Send + 'static,
    {
        self.token_source(Arc::new(Callback(callback)))
    }

    /// Asks for tokens there.
    pub fn token_source(mut self, source: Arc<dyn TokenSource>) -> ConnectOptions {
        self.tokens = Tokens::Source(source);
        self
    }

    /// How the software is announced to the gateway. Default: this library.
    pub fn client_name(mut self, name: &str, version: &str) -> ConnectOptions {
        (self.name, self.version) = (name.to_owned(), version.to_owned());
        self
    }

    /// How many messages, and how many bytes of them, are taken unsettled: 1 to 1,000, and 64 KiB to 16 MiB. Default: 256
    /// and 1 MiB.
    pub fn window(mut self, messages: u32, bytes: u64) -> ConnectOptions {
        self.window = Window::within_limits(messages, bytes);
        self
    }

    /// How the client comes back. Default: from 1 s doubling to 60 s with full jitter; after ten failures one attempt a
    /// minute.
    pub fn retry(mut self, policy: RetryPolicy) -> ConnectOptions {
        self.retry = policy;
        self
    }

    /// How many messages may wait to be sent, at least one, and what happens when there are more. Default: 1,000, and
    /// sending waits.
    pub fn queue(mut self, most: usize, overflow: Overflow) -> ConnectOptions {
        (self.queue, self.overflow) = (most.max(1), overflow);
        self
    }

    /// Keeps in this file what must survive the process: which messages were applied, which wait to be sent, and where the
    /// feed is. One client at a time may use it. Default: none.
    pub fn state_file(mut self, path: impl Into<PathBuf>) -> ConnectOptions {
        self.state_file = Some(path.into());
        self
    }

    /// How much the state file survives. Default: the end of the process.
    pub fn durability(mut self, durability: Durability) -> ConnectOptions {
        self.durability = durability;
        self
    }

    /// Calls a function with what happens. It must not block.
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> ConnectOptions {
        self.listener = Some(Box::new(listener));
        self
    }

    /// TLS as configured there. Default: what the operating system trusts.
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> ConnectOptions {
        self.tls = Some(config);
        self
    }

    /// Trusts the authorities in this PEM file too.
    pub fn certificate_authorities(mut self, path: impl Into<PathBuf>) -> ConnectOptions {
        self.authorities = Some(path.into());
        self
    }

    /// How long a connection and its login may take, each. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> ConnectOptions {
        self.connect_timeout = timeout;
        self
    }

    /// After how long a silence the gateway is pinged, and how long the answer may take before the line counts as dead; both
    /// at least 100 ms. Default: 15 s and 10 s.
    pub fn ping(mut self, interval: Duration, patience: Duration) -> ConnectOptions {
        (self.ping_interval, self.patience) = (interval.max(SHORTEST), patience.max(SHORTEST));
        self
    }

    /// After how long an unanswered message makes the connection degraded; after three times that it is given up, and the
    /// message sent again. Default: 10 s.
    pub fn message_timeout(mut self, timeout: Duration) -> ConnectOptions {
        self.message_timeout = timeout.max(SHORTEST);
        self
    }

    /// How long the program may work on a message before it is given to somebody else or comes again. Default: 10 minutes.
    pub fn processing_limit(mut self, limit: Duration) -> ConnectOptions {
        self.processing_limit = limit;
        self
    }

    /// How many events may wait for each slow reader, at least one. Default: 1,024.
    pub fn feed_queue(mut self, events: usize) -> ConnectOptions {
        self.feed_queue = events.max(1);
        self
    }

    /// Subscribes to events of the organization's feed before the client connects, so that with a state file no event between
    /// two processes is missed. What options subscribe to replaces what the daemon was subscribed to.
    ///
    /// # Errors
    /// If a pattern or channel is none.
    pub fn subscribe(&mut self, patterns: &[&str], channels: &[&str]) -> Result<Subscription, ConnectError> {
        let (patterns, channels) = selection(patterns, channels)?;
        let number = self.readers.len() as u64;
        let commands = self.commands.0.downgrade();
        let (reader, subscription) = Subscription::new(number, patterns, channels, self.feed_queue, commands);
        self.readers.push(reader);
        Ok(subscription)
    }

    /// Starts the client. It connects in the background and stays connected; [`Client::connected`] waits for the first time.
    ///
    /// # Errors
    /// If an option is wrong, or the state file cannot be used.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let orchestrator = read("orchestrator", &self.orchestrator)?;
        let daemon = read("daemon", &self.daemon)?;
        let authorities = match &self.authorities {
            None => Vec::new(),
            Some(path) => CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect)
                .map_err(|error| wrong("certificate_authorities")(format!("{}: {error}", path.display())))?,
        };
        let make_tls = || self.tls.clone().map_or_else(|| system_tls(&authorities), Ok);
        let endpoint = Endpoint::new(&self.url, self.connect_timeout, make_tls).map_err(wrong("url"))?;
        let tokens = match self.tokens {
            Tokens::None => return Err(wrong("api_key")("or another source of tokens must be given".into())),
            Tokens::Source(source) => source,
            Tokens::Key { id, secret, scopes } => {
                let mut body = serde_json::json!({"apiKey": id, "apiSecret": secret, "orchestratorId": self.orchestrator, "daemonId": self.daemon});
                if let Some(scopes) = scopes {
                    body["scopes"] = scopes.into();
                }
                Arc::new(Login::new(endpoint.clone(), body))
            }
        };
        let (journal, restored) = match self.state_file {
            None => (None, None),
            Some(path) => {
                let durability = self.durability;
                let opened = tokio::task::spawn_blocking(move || Journal::open(&path, durability)).await;
                let (journal, restored) = opened.map_err(|error| StateError::Io(std::io::Error::other(error)))??;
                (Some(journal), Some(restored))
            }
        };
        let mut wanted: Vec<Pattern> = self.readers.iter().flat_map(|reader| reader.patterns.clone()).collect();
        wanted.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        wanted.dedup();
        let settings = Settings {
            orchestrator,
            daemon,
            instance: new_instance(),
            name: self.name,
            version: self.version,
            window: self.window,
            subscriptions: Some(wanted).filter(|wanted| !wanted.is_empty()),
            login_timeout: self.connect_timeout,
            ping_interval: self.ping_interval,
            patience: self.patience,
            message_timeout: self.message_timeout,
            processing_limit: self.processing_limit,
            displace_beyond: (self.overflow == Overflow::DisplaceOldest).then_some(self.queue),
        };
        let parts = Parts {
            core: Core::new(settings, restored),
            journal,
            endpoint,
            tokens,
            retry: self.retry,
            listener: self.listener,
            commands: self.commands,
            readers: self.readers,
            // Whatever is in hand before and after a change of the connection.
            deliveries: 2 * (self.window.entries as usize + Window::CRITICAL_EXTRA as usize),
        };
        Ok(Driver::start(parts, self.queue, self.overflow, self.feed_queue))
    }
}

/// Patterns and channels from their texts.
pub(crate) fn selection(patterns: &[&str], channels: &[&str]) -> Result<(Vec<Pattern>, Vec<ChannelId>), ConnectError> {
    let patterns = patterns.iter().map(|text| read("patterns", text)).collect::<Result<Vec<Pattern>, _>>()?;
    let channels = channels.iter().map(|text| read("channels", text)).collect::<Result<_, _>>()?;
    if patterns.is_empty() {
        return Err(wrong("patterns")("must not be empty".into()));
    }
    Ok((patterns, channels))
}

fn new_instance() -> InstanceId {
    let text = format!("{:032x}", rand::random::<u128>());
    text.parse().unwrap_or_else(|error| unreachable!("hexadecimal digits are an id: {error}"))
}
