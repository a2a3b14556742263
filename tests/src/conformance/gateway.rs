//! A gateway that does what a script says, right or wrong.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::PATIENCE;

/// The epoch that the scripts speak of.
pub const EPOCH: &str = "00000000000000ab";

pub struct ScriptedGateway {
    listener: TcpListener,
}

impl ScriptedGateway {
    pub async fn bind() -> ScriptedGateway {
        ScriptedGateway { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.listener.local_addr().unwrap())
    }

    /// The next WebSocket; other connections are left.
    pub async fn accept(&self) -> Conversation {
        self.accept_within(PATIENCE).await.expect("the client connects in time")
    }

    pub async fn accept_within(&self, time: Duration) -> Option<Conversation> {
        let accepted = timeout(time, async {
            loop {
                let (stream, _) = self.listener.accept().await.unwrap();
                if let Ok(socket) = accept_async(stream).await {
                    return Conversation { socket };
                }
            }
        });
        accepted.await.ok()
    }

    /// Takes a connection and lets it go at once.
    pub async fn turn_away(&self) {
        drop(timeout(PATIENCE, self.listener.accept()).await.expect("the client connects in time"));
    }
}

pub struct Conversation {
    socket: WebSocketStream<TcpStream>,
}

impl Conversation {
    /// The next frame of the client; `None`: it has closed.
    pub async fn hear(&mut self) -> Option<Value> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("the client says something in time") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    /// The next frame of a type; others are passed over.
    pub async fn hear_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.hear().await.unwrap_or_else(|| panic!("the client closed and did not say {kind}"));
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The next ack that names something.
    pub async fn hear_ack(&mut self) -> Vec<String> {
        loop {
            let ack = self.hear_of("ack").await;
            let ids: Vec<String> = serde_json::from_value(ack["payload"]["eventIds"].clone()).unwrap();
            if !ids.is_empty() {
                return ids;
            }
        }
    }

    /// Waits until all of these are acknowledged.
    pub async fn hear_acks(&mut self, wanted: &[&str]) {
        let mut missing: Vec<&str> = wanted.to_vec();
        while !missing.is_empty() {
            let acked = self.hear_ack().await;
            missing.retain(|id| !acked.iter().any(|acked| acked == id));
        }
    }

    pub async fn say_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.ok();
    }

    pub async fn say_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.ok();
    }

    pub async fn say(&mut self, kind: &str, payload: Value) {
        let frame = json!({"type": kind, "id": "g", "timestamp": "2026-01-01T00:00:00Z", "payload": payload});
        self.say_text(&frame.to_string()).await;
    }

    pub async fn answer(&mut self, to: &Value, kind: &str, payload: Value) {
        let frame = json!({"type": kind, "id": "g", "timestamp": "2026-01-01T00:00:00Z", "replyTo": to["id"], "payload": payload});
        self.say_text(&frame.to_string()).await;
    }

    /// Lets the client in; answers its login.
    pub async fn welcome(&mut self, more: Value) -> Value {
        let auth = self.hear().await.expect("the client logs in");
        assert_eq!(auth["type"], "auth", "the first frame is the login: {auth}");
        for member in ["accessToken", "daemonId", "orchestratorId"] {
            assert!(auth["payload"][member].is_string(), "{member} is missing: {auth}");
        }
        let mut payload = json!({
            "sessionId": "s-1", "scopes": ["messages:read"], "heartbeatIntervalMs": 30_000, "resumed": false, "epoch": EPOCH,
            "limits": {"maxInFlight": 256, "maxInFlightBytes": 1_048_576},
        });
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.answer(&auth, "auth_success", payload).await;
        auth
    }

    /// A message of the mailbox, in the lane normal.
    pub async fn mail(&mut self, id: &str, sequence: u64) {
        self.say("event", Conversation::message(id, sequence)).await;
    }

    pub fn message(id: &str, sequence: u64) -> Value {
        json!({
            "eventId": id, "eventType": "message.received", "data": {"n": sequence}, "requiresAck": true, "log": "mailbox",
            "sequence": sequence, "epoch": EPOCH, "lane": "normal", "attempt": 1, "redelivered": false,
        })
    }

    /// An event of the feed.
    pub async fn event(&mut self, id: &str, sequence: u64) {
        let payload = json!({
            "eventId": id, "eventType": "invoice.paid", "data": {"n": sequence}, "requiresAck": false, "log": "feed",
            "sequence": sequence, "epoch": "00000000000000cd",
        });
        self.say("event", payload).await;
    }

    pub async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.close(Some(frame)).await.ok();
        // The client's own close, or its end.
        while let Ok(Some(Ok(_))) = timeout(Duration::from_secs(2), self.socket.next()).await {}
    }

    /// Waits until the client has closed.
    pub async fn is_left(&mut self) {
        while self.hear().await.is_some() {}
    }

    /// Ends the line without a word.
    pub fn vanish(self) {}
}
