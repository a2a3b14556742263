//! Lean clients: they must cost less than what they measure.

use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use waystation_proto::auth::v1::IssueTokenRequest;
use waystation_test_redis::{RedisOptions, RedisServer};
use waystation_tests::{Backend, Process, frame};

/// Where a server keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Embedded store with its journal.
    Journal,
    /// A Redis, appendfsync everysec.
    Redis,
}

pub struct Server {
    pub process: Process,
    redis: Option<RedisServer>,
}

impl Server {
    pub async fn start(dir: &Path, kept: Kept) -> Server {
        match kept {
            Kept::Journal => Server { process: Process::start(dir).await, redis: None },
            Kept::Redis => {
                let everysec = RedisOptions { append_fsync: Some("everysec"), ..RedisOptions::default() };
                let redis = RedisServer::start(everysec);
                let process = Process::start_with(dir, &["--redis", &redis.url()]).await;
                Server { process, redis: Some(redis) }
            }
        }
    }

    /// Every process of the server, its Redis included.
    pub fn pids(&self) -> Vec<u32> {
        std::iter::once(self.process.id()).chain(self.redis.as_ref().map(RedisServer::pid)).collect()
    }

    pub fn backend(&self) -> Backend {
        self.process.backend()
    }

    pub async fn tokens(&self, orchestrators: &[String]) -> Vec<String> {
        let mut backend = self.backend();
        let mut tokens = Vec::new();
        for orchestrator in orchestrators {
            let request = IssueTokenRequest {
                api_key: self.process.dev.api_key.clone(),
                api_secret: self.process.dev.api_secret.clone(),
                orchestrator_id: orchestrator.clone(),
                ..Default::default()
            };
            tokens.push(backend.auth.issue_token(request).await.unwrap().into_inner().access_token);
        }
        tokens
    }
}

/// A daemon that takes what comes and acknowledges each read with one frame.
pub struct Receiver {
    socket: WebSocketStream<TcpStream>,
}

impl Receiver {
    pub async fn connect(server: &Server, orchestrator: &str, token: &str) -> Receiver {
        Receiver::try_connect(server, orchestrator, token).await.expect("it logs in")
    }

    /// Logs in, if it may.
    pub async fn try_connect(server: &Server, orchestrator: &str, token: &str) -> Option<Receiver> {
        let url = &server.process.dev.gateway_url;
        let host = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(host).await.ok()?;
        stream.set_nodelay(true).unwrap();
        let config = WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(0);
        let (mut socket, _) = client_async_with_config(url, stream, Some(config)).await.ok()?;
        let payload =
            json!({"accessToken": token, "daemonId": "d1", "orchestratorId": orchestrator, "maxInFlight": 1000});
        socket.send(Message::text(frame("auth", payload).to_string())).await.ok()?;
        let welcome = socket.next().await?.ok()?;
        welcome.to_text().ok()?.contains("auth_success").then_some(Receiver { socket })
    }

    /// Waits until the server ends the connection.
    pub async fn ended(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// The next events as text, all that are there, acknowledged.
    pub async fn take(&mut self, seen: &mut Vec<String>) {
        let before = seen.len();
        let mut ids = Vec::new();
        let mut next = Some(self.socket.next().await);
        while let Some(message) = next {
            let text = message.unwrap().unwrap().into_text().unwrap().to_string();
            if let Some((_, rest)) = text.split_once(r#""eventId":""#) {
                ids.push(rest.split('"').next().unwrap().to_owned());
                seen.push(text);
            }
            // What has been read already is taken along.
            next = futures_util::future::poll_immediate(self.socket.next()).await;
        }
        if seen.len() > before {
            let ack = frame("ack", json!({"eventIds": ids}));
            self.socket.send(Message::text(ack.to_string())).await.unwrap();
        }
    }
}

/// The bare line of a daemon that has logged in and subscribed. Nothing that was subscribed may have come yet.
pub async fn subscribed(url: &str, orchestrator: &str, token: &str, event_type: &str) -> TcpStream {
    let host = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
    let stream = TcpStream::connect(host).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut socket, _) = client_async_with_config(url, stream, None).await.unwrap();
    let payload = json!({"accessToken": token, "daemonId": "d1", "orchestratorId": orchestrator,
                         "subscriptions": [event_type]});
    socket.send(Message::text(frame("auth", payload).to_string())).await.unwrap();
    let welcome = socket.next().await.unwrap().unwrap();
    assert!(welcome.to_text().unwrap().contains("auth_success"), "{welcome}");
    socket.into_inner()
}

/// The number that [`payload`] put into an event.
pub fn number_of(text: &str) -> u64 {
    let (_, rest) = text.split_once(r#""n":"#).unwrap();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// 200 bytes of JSON with a number.
pub fn payload(number: u64) -> String {
    let head = format!(r#"{{"n":{number},"pad":""#);
    let pad = "x".repeat(198 - head.len());
    format!("{head}{pad}\"}}")
}

/// Waits until a mailbox is empty.
pub async fn drained(backend: &Backend, orchestrator: &str) {
    while backend.depth(orchestrator).await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
