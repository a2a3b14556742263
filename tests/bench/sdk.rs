//! What the SDKs cost the client: against a server that sends as fast as its window allows.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use waystation_tests::adapter::Program;
use waystation_tests::node::Node;

use crate::usage;

const WARM: u64 = 20_000;
const MESSAGES: u64 = 200_000;
/// Unacknowledged at a time.
const WINDOW: u64 = 1_000;
/// Frames that are written together.
const TOGETHER: u64 = 64;

/// Lets a client in, and sends it all messages as fast as it acknowledges them.
async fn firehose(mut socket: WebSocketStream<TcpStream>) {
    let auth: Value = match socket.next().await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
        _ => return,
    };
    let welcome = json!({"type": "auth_success", "replyTo": auth["id"], "payload":
        {"sessionId": "s", "heartbeatIntervalMs": 30_000, "epoch": "00000000000000ab"}});
    socket.send(Message::text(welcome.to_string())).await.unwrap();
    let filler = "x".repeat(180);
    let (mut sent, mut acked) = (0, 0);
    while acked < WARM + MESSAGES {
        while sent < WARM + MESSAGES && sent < acked + WINDOW {
            let end = (sent + TOGETHER).min(WARM + MESSAGES).min(acked + WINDOW);
            for sequence in sent + 1..=end {
                let text = format!(
                    r#"{{"type":"event","id":"01234567-89ab-8cde-8000-000000000005","timestamp":"2026-01-01T00:00:00.000Z","payload":{{"eventId":"00000000000000ab.n.{sequence}","eventType":"message.received","data":{{"n":{sequence},"text":"{filler}"}},"requiresAck":true,"log":"mailbox","sequence":{sequence},"epoch":"00000000000000ab","lane":"normal","attempt":1,"redelivered":false,"sentAt":"2026-01-01T00:00:00.000Z"}}}}"#
                );
                socket.feed(Message::text(text)).await.unwrap();
            }
            socket.flush().await.unwrap();
            sent = end;
        }
        match socket.next().await {
            Some(Ok(Message::Text(text))) => acked += text.matches("00000000000000ab.n.").count() as u64,
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
    // The client ends when it has been looked at.
    while let Some(Ok(_)) = socket.next().await {}
}

/// Messages per second, per second of the client's CPU, and allocations of each, if they were counted.
pub async fn received(program: &Program) -> [f64; 3] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        firehose(tokio_tungstenite::accept_async(stream).await.unwrap()).await;
    });
    let mut command = program.clone();
    command.command.extend([url, WARM.to_string(), MESSAGES.to_string()].map(Into::into));
    let mut client = command.start(&[]);
    client.sees("warm").await;
    let before = usage::cpu_seconds(&[client.id()]);
    let done = client.sees("done").await;
    let cpu = usage::cpu_seconds(&[client.id()]) - before;
    client.kill().await;
    let count = MESSAGES as f64;
    [count / done["seconds"].as_f64().unwrap(), count / cpu, done["allocations"].as_f64().unwrap_or(f64::NAN)]
}

/// The Rust client, the TypeScript client, and `ws` alone.
pub fn programs() -> [(&'static str, Program); 3] {
    let mut build = std::process::Command::new(env!("CARGO"));
    build.args(["build", "--release", "--quiet", "--locked", "-p", "waystation-client", "--example", "throughput"]);
    assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success(), "the example builds");
    let here = std::env::current_exe().unwrap();
    let rust = here.ancestors().map(|dir| dir.join("examples/throughput")).find(|path| path.is_file()).unwrap();
    let node = Node::find();
    let script = node.client().join("build/test/throughput.js");
    let by = |way: &str| Program::new([node.binary.as_os_str(), script.as_os_str(), way.as_ref()]);
    [("rust", Program::new([rust])), ("typescript", by("sdk")), ("ws", by("ws"))]
}
