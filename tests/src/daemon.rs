//! A plain WebSocket client.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;

/// A frame of a client.
pub fn frame(kind: &str, payload: Value) -> Value {
    json!({"type": kind, "id": "2f1b3c4d-0000-4000-8000-000000000001", "timestamp": "2026-01-01T00:00:00Z", "payload": payload})
}

/// What [`Daemon::receive`] found.
pub enum Received {
    Frame(Value),
    Closed,
    Nothing,
}

/// How long something is tried that may fail.
const TRY: Duration = Duration::from_secs(3);

pub struct Daemon {
    socket: WebSocketStream<TcpStream>,
    asked: u64,
    /// Whether it shows the events that Waystation itself publishes; who comes and goes is of no matter to most tests.
    pub hears_own: bool,
    /// The answer to the login.
    pub welcome: Value,
}

impl Daemon {
    /// An open socket that has not logged in.
    pub async fn open(url: &str) -> Daemon {
        let host = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(host).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = client_async(url, stream).await.unwrap();
        Daemon { socket, asked: 0, hears_own: false, welcome: Value::Null }
    }

    pub async fn connect(url: &str, orchestrator: &str, daemon: &str, token: &str) -> Daemon {
        Daemon::connect_with(url, orchestrator, daemon, token, json!({})).await
    }

    /// Logs in if it can.
    pub async fn try_connect(url: &str, orchestrator: &str, daemon: &str, token: &str) -> Option<Daemon> {
        Daemon::try_connect_with(url, orchestrator, daemon, token, json!({})).await
    }

    /// Logs in if it can, with more in its auth frame than it must have.
    pub async fn try_connect_with(
        url: &str,
        orchestrator: &str,
        daemon: &str,
        token: &str,
        more: Value,
    ) -> Option<Daemon> {
        let host = url.strip_prefix("ws://")?.split('/').next()?;
        let open = async {
            let stream = TcpStream::connect(host).await.ok()?;
            stream.set_nodelay(true).ok()?;
            Some(client_async(url, stream).await.ok()?.0)
        };
        let socket = timeout(TRY, open).await.ok()??;
        let mut client = Daemon { socket, asked: 0, hears_own: false, welcome: Value::Null };
        let mut payload = json!({"accessToken": token, "daemonId": daemon, "orchestratorId": orchestrator});
        payload.as_object_mut()?.extend(more.as_object()?.clone());
        if !client.try_send(frame("auth", payload)).await {
            return None;
        }
        match client.receive(TRY).await {
            Received::Frame(welcome) if welcome["type"] == "auth_success" => {
                client.welcome = welcome;
                Some(client)
            }
            Received::Frame(_) | Received::Closed | Received::Nothing => None,
        }
    }

    /// The next frame, if one comes in time.
    pub async fn receive(&mut self, patience: Duration) -> Received {
        loop {
            match timeout(patience, self.socket.next()).await {
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(Message::Text(text)))) => {
                    let frame = serde_json::from_str(&text).unwrap();
                    if self.shows(&frame) {
                        return Received::Frame(frame);
                    }
                }
                Ok(_) => return Received::Closed,
                Err(_) => return Received::Nothing,
            }
        }
    }

    /// Sends if the other end takes it.
    pub async fn try_send(&mut self, frame: Value) -> bool {
        timeout(TRY, self.socket.send(Message::text(frame.to_string()))).await.is_ok_and(|sent| sent.is_ok())
    }

    /// Logs in with more in its auth frame than it must have.
    pub async fn connect_with(url: &str, orchestrator: &str, daemon: &str, token: &str, more: Value) -> Daemon {
        let mut client = Daemon::open(url).await;
        let mut payload = json!({"accessToken": token, "daemonId": daemon, "orchestratorId": orchestrator});
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.send(frame("auth", payload)).await;
        client.welcome = client.next().await;
        client
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_raw(Message::text(frame.to_string())).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Sends as long as the other end takes it.
    pub async fn try_send_raw(&mut self, message: Message) -> bool {
        self.socket.send(message).await.is_ok()
    }

    async fn message(&mut self) -> Option<Message> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("a frame in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    fn shows(&self, frame: &Value) -> bool {
        self.hears_own || !frame["id"].as_str().is_some_and(|id| id.starts_with("own."))
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        loop {
            let frame = match self.message().await {
                Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
                other => panic!("a text frame, not {other:?}"),
            };
            if self.shows(&frame) {
                return frame;
            }
        }
    }

    /// The next frame of a type; others are skipped.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Payloads of the next events.
    pub async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next_of("event").await["payload"].take());
        }
        events
    }

    /// Sends a frame and answers what comes back for it.
    pub async fn ask(&mut self, kind: &str, payload: Value) -> Value {
        self.asked += 1;
        let id = format!("asked-{}", self.asked);
        self.send(json!({"type": kind, "id": id, "payload": payload})).await;
        loop {
            let answer = self.next().await;
            if answer["replyTo"] == id.as_str() {
                return answer;
            }
        }
    }

    pub async fn ack(&mut self, events: &[Value]) {
        let ids: Vec<&Value> = events.iter().map(|event| &event["eventId"]).collect();
        self.send(frame("ack", json!({"eventIds": ids}))).await;
    }

    /// Heartbeats are answered in the order of frames: what was sent before has been taken in.
    pub async fn heartbeat(&mut self) -> Value {
        self.send(frame("heartbeat", json!({"status": "active"}))).await;
        self.next_of("heartbeat_ack").await
    }

    /// The close that ends the connection; other frames are skipped.
    pub async fn closed(&mut self) -> Option<CloseFrame> {
        loop {
            match self.message().await {
                Some(Message::Close(frame)) => return frame,
                Some(_) => {}
                None => return None,
            }
        }
    }

    /// The code of the close that ends the connection; 1006 if there is none.
    pub async fn close_code(&mut self) -> u16 {
        self.closed().await.map_or(1006, |frame| frame.code.into())
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        matches!(self.receive(time).await, Received::Nothing)
    }

    /// Ends the connection without a word, as a broken line does.
    pub fn vanish(self) {}

    pub async fn close(mut self) {
        self.socket.close(None).await.ok();
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}
