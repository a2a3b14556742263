//! A plain peer of the older federation.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;

pub struct Peer {
    own: String,
    socket: WebSocketStream<TcpStream>,
}

impl Peer {
    /// Connects; else the status that refused.
    pub async fn try_connect(base: &str, own: &str, query: &str, token: &str) -> Result<Peer, u16> {
        let host = base.strip_prefix("http://").unwrap();
        let mut request = format!("ws://{host}/federation{query}").into_client_request().unwrap();
        if !token.is_empty() {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let stream = TcpStream::connect(host).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Peer { own: own.to_owned(), socket }),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn connect(base: &str, own: &str, query: &str, token: &str) -> Peer {
        let mut peer = Peer::try_connect(base, own, query, token).await.unwrap();
        assert_eq!(peer.next().await["type"], "status");
        peer
    }

    /// Says something, with its payload in a text as older peers do.
    pub async fn say(&mut self, kind: &str, payload: Value) {
        self.send(json!({"type": kind, "payload": payload.to_string(), "from": self.own, "to": "*"})).await;
    }

    pub async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next frame; what its payload says lies beside it as `said`.
    pub async fn next(&mut self) -> Value {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
            let Message::Text(text) = message.expect("an open socket").unwrap() else { continue };
            let mut frame: Value = serde_json::from_str(&text).unwrap();
            let payload = frame["payload"].clone();
            frame["said"] = payload.as_str().map_or(payload.clone(), |text| serde_json::from_str(text).unwrap());
            return frame;
        }
    }

    /// The next frame, which is of a kind: what it says.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        let mut frame = self.next().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame["said"].take()
    }

    /// Whether nothing comes for a while. Meanwhile pings are answered.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        timeout(time, self.next()).await.is_err()
    }

    /// Ends as a process that dies.
    pub fn vanish(self) {}
}
