//! The React parts in a real browser, while the gateway is stopped and started.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use waystation_tests::adapter::{Adapter, Program};
use waystation_tests::line::Line;
use waystation_tests::node::Node;
use waystation_tests::{Process, eventually};

/// Pictures for people to look at.
fn pictures() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let target = here.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file()).unwrap();
    let dir = target.join("screenshots");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Chromium as Debian installs it, if it is there.
fn system_chromium() -> Option<&'static str> {
    ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .into_iter()
        .find(|path| Path::new(path).is_file())
}

async fn picture(browser: &mut Adapter, name: &str) {
    let path = pictures().join(format!("{name}.png"));
    std::fs::remove_file(&path).ok();
    browser.order(json!({"do": "screenshot", "path": path})).await;
    browser.sees("screenshot").await;
    assert!(std::fs::metadata(path).unwrap().len() > 1_000);
}

async fn becomes(browser: &mut Adapter, status: &str) {
    browser.sees_where("status", |seen| seen["status"] == status).await;
}

async fn read(browser: &mut Adapter, selector: &str) -> String {
    browser.order(json!({"do": "read", "selector": selector})).await;
    browser.sees("text").await["text"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_shows_how_its_connection_is_while_the_gateway_stops_and_starts() {
    let prepared = tokio::task::spawn_blocking(|| {
        let node = Node::find();
        (node.client(), node.installed("tests/browser"), node)
    });
    let (client, browsers, node) = prepared.await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let line = Line::to("127.0.0.1:9".parse().unwrap()).await;
    let mut server = Command::new(&node.binary);
    server.arg(client.join("example/serve.mjs")).arg(dir.path().join("dev.json"));
    server
        .arg(format!("ws://{}/daemon/ws", line.address))
        .current_dir(&client)
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut server = server.spawn().unwrap();
    let mut printed = BufReader::new(server.stdout.take().unwrap()).lines();
    let page = printed.next_line().await.unwrap().unwrap();
    let start = async || {
        let process = Process::start_with(dir.path(), &["--allow-origin", &page]).await;
        line.lead_to(process.dev.http_url.strip_prefix("http://").unwrap().parse().unwrap());
        process
    };
    let process = start().await;
    let script = browsers.join("page.mjs");
    let url = format!("{page}/?healthCheckMs=300&silenceMs=2500&firstMs=200");
    let mut options = vec![("url", url.as_str())];
    options.extend(system_chromium().map(|path| ("chromium", path)));
    let mut browser = Program::new([node.binary.as_os_str(), script.as_os_str()]).start(&options);
    becomes(&mut browser, "healthy").await;

    browser.order(json!({"do": "fill", "text": "hello"})).await;
    eventually("the message is shown", async || {
        read(&mut browser, "ol").await.contains(r#"message.received {"content":"hello"}"#).then_some(())
    })
    .await;
    eventually("sessions and status are shown", async || {
        (read(&mut browser, "[data-testid=facts]").await == "connected, 1 sessions, daemon active").then_some(())
    })
    .await;
    picture(&mut browser, "healthy").await;

    process.signal("-STOP");
    becomes(&mut browser, "degraded").await;
    picture(&mut browser, "degraded").await;
    becomes(&mut browser, "disconnected").await;
    picture(&mut browser, "disconnected").await;
    browser.order(json!({"do": "other_tab", "text": "from a tab that is closed"})).await;
    browser.sees("other_tab").await;
    process.kill().await;
    let process = start().await;
    becomes(&mut browser, "healthy").await;
    eventually("what the other tab left is sent by this one", async || {
        read(&mut browser, "ol").await.contains("from a tab that is closed").then_some(())
    })
    .await;
    picture(&mut browser, "healthy-again").await;
    let shown = read(&mut browser, "section").await;
    assert!(shown.contains("Healthy") && shown.contains("Reconnect"), "{shown}");
    assert!(browser.sees_within("page_error", std::time::Duration::from_millis(50)).await.is_empty());
    process.kill().await;
}
