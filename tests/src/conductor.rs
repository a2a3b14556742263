//! A plain client of the conductor's dialect.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;

pub struct Conductor {
    socket: WebSocketStream<TcpStream>,
    /// The first frame.
    pub greeting: Value,
    /// The subprotocol that the server has selected.
    pub protocol: Option<String>,
}

impl Conductor {
    /// Connects with a token among the subprotocols, as browsers do; `None`: nobody answers. Else the status that refused.
    pub async fn try_connect(base: &str, protocols: &str) -> Option<Result<Conductor, u16>> {
        let host = base.strip_prefix("http://")?.to_owned();
        let mut request = format!("ws://{host}/ws").into_client_request().unwrap();
        if !protocols.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        }
        let connect = async {
            let stream = TcpStream::connect(&host).await.ok()?;
            match client_async(request, stream).await {
                Ok((socket, response)) => {
                    let protocol = response.headers().get("sec-websocket-protocol");
                    let protocol = protocol.map(|value| value.to_str().unwrap().to_owned());
                    let mut conductor = Conductor { socket, greeting: Value::Null, protocol };
                    conductor.greeting = conductor.try_next().await?;
                    Some(Ok(conductor))
                }
                Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Some(Err(response.status().as_u16())),
                Err(_) => None,
            }
        };
        timeout(Duration::from_secs(3), connect).await.ok()?
    }

    pub async fn connect(base: &str, token: &str) -> Conductor {
        let connected = Conductor::try_connect(base, &format!("waystation.events.v1, bearer.{token}")).await;
        connected.expect("it answers").unwrap_or_else(|status| panic!("refused: {status}"))
    }

    pub async fn try_send(&mut self, frame: Value) -> bool {
        self.socket.send(Message::text(frame.to_string())).await.is_ok()
    }

    /// The next frame; `None`: the connection has ended.
    pub async fn try_next(&mut self) -> Option<Value> {
        loop {
            match self.socket.next().await?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Binary(_) | Message::Close(_) | Message::Frame(_) => return None,
            }
        }
    }

    pub async fn next(&mut self) -> Value {
        timeout(PATIENCE, self.try_next()).await.expect("a frame in time").expect("the connection stands")
    }

    /// Sends a frame and answers the next one.
    pub async fn ask(&mut self, frame: Value) -> Value {
        assert!(self.try_send(frame).await);
        self.next().await
    }

    /// Subscribes, after a position if there is one.
    pub async fn subscribe(&mut self, categories: &[&str], position: Option<&str>) -> Value {
        let client = self.greeting["clientId"].clone();
        let mut frame = json!({"type": "subscribe", "categories": categories, "clientId": client});
        if let Some(position) = position {
            frame["position"] = position.into();
        }
        self.ask(frame).await
    }

    /// The next events.
    pub async fn events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            let frame = self.next().await;
            if frame["type"] == "event" {
                events.push(frame);
            }
        }
        events
    }
}
