//! A plain client of server-sent events.

use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::PATIENCE;

/// One event of a stream.
#[derive(Clone, Debug)]
pub struct SseEvent {
    /// `message` unless it has another name.
    pub event: String,
    /// Of this event or the last that had one.
    pub id: String,
    pub data: Value,
}

/// An open stream.
pub struct Sse {
    body: Incoming,
    text: String,
    id: String,
    /// Ends with the stream.
    _connection: JoinSet<()>,
}

impl Sse {
    /// Opens a stream, or answers the status that refused it; `None`: nobody answers.
    pub async fn try_open(base: &str, path: &str, token: &str, last: Option<&str>) -> Option<Result<Sse, u16>> {
        let host = base.strip_prefix("http://")?.to_owned();
        let open = async {
            let stream = TcpStream::connect(&host).await.ok()?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
            let mut task = JoinSet::new();
            task.spawn(async move { drop(connection.await) });
            let mut request = Request::get(path)
                .header("host", &host)
                .header("accept", "text/event-stream")
                .header("authorization", format!("Bearer {token}"));
            if let Some(last) = last {
                request = request.header("last-event-id", last);
            }
            let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.ok()?;
            let status = response.status().as_u16();
            let id = last.unwrap_or_default().to_owned();
            Some((status, Sse { body: response.into_body(), text: String::new(), id, _connection: task }))
        };
        let (status, stream) = timeout(Duration::from_secs(3), open).await.ok()??;
        Some(if status == 200 { Ok(stream) } else { Err(status) })
    }

    pub async fn open(base: &str, path: &str, token: &str, last: Option<&str>) -> Sse {
        let opened = Sse::try_open(base, path, token, last).await.expect("it answers");
        opened.unwrap_or_else(|status| panic!("refused: {status}"))
    }

    /// The next event, comments skipped; `None`: the stream has ended.
    pub async fn try_next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = self.read(&block) {
                    return Some(event);
                }
                continue;
            }
            let frame = self.body.frame().await?.ok()?;
            self.text.push_str(std::str::from_utf8(frame.data_ref()?).unwrap());
        }
    }

    pub async fn next(&mut self) -> SseEvent {
        timeout(PATIENCE, self.try_next()).await.expect("an event in time").expect("the stream goes on")
    }

    /// The next messages or events.
    pub async fn items(&mut self, count: usize) -> Vec<SseEvent> {
        let mut items = Vec::new();
        while items.len() < count {
            let event = self.next().await;
            if event.event == "message" {
                items.push(event);
            }
        }
        items
    }

    fn read(&mut self, block: &str) -> Option<SseEvent> {
        let (mut event, mut data) = ("message".to_owned(), String::new());
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("event", text)) => event = text.to_owned(),
                Some(("id", text)) => self.id = text.to_owned(),
                Some(("data", text)) => data.push_str(text),
                _ => {}
            }
        }
        (!data.is_empty()).then(|| SseEvent { event, id: self.id.clone(), data: serde_json::from_str(&data).unwrap() })
    }
}
