//! The command line, as people and scripts use it.

use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use waystation_test_redis::{RedisOptions, RedisServer};
use waystation_tests::Process;
use waystation_tests::process::binary;

/// The tool, which is built with the standalone.
fn tool() -> PathBuf {
    binary().with_file_name("waystation")
}

struct Shell {
    dev: PathBuf,
}

impl Shell {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tool());
        command.arg("--dev").arg(&self.dev).args(arguments).kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// The objects that a command prints.
    async fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["--json"], arguments].concat()).await;
        assert!(output.status.success(), "{arguments:?} {output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn code(&self, arguments: &[&str]) -> i32 {
        self.run(arguments).await.status.code().unwrap()
    }
}

async fn start() -> (tempfile::TempDir, Process, Shell) {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path()).await;
    let shell = Shell { dev: dir.path().join("dev.json") };
    (dir, process, shell)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_sent_looked_at_and_listened_to() {
    let (_dir, _process, shell) = start().await;
    let sent = shell.json(&["send", "orla", r#"{"n":1}"#, "--id", "m-1", "--priority", "high"]).await;
    assert_eq!((&sent[0]["messageId"], &sent[0]["status"]), (&json!("m-1"), &json!("queued")));
    assert_eq!(shell.json(&["send", "orla", r#"{"n":1}"#, "--id", "m-1"]).await[0]["duplicate"], true);
    let shown = shell.json(&["mailbox", "orla"]).await;
    assert_eq!(
        (&shown[0]["depth"], &shown[0]["lanes"]["high"], &shown[0]["conservationDelta"]),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!((&shown[1]["messageId"], &shown[1]["data"]), (&json!("m-1"), &json!({"n": 1})));
    let people = String::from_utf8(shell.run(&["mailbox", "orla"]).await.stdout).unwrap();
    assert!(people.contains("1 wait (0 critical, 1 high") && people.contains("m-1"), "{people}");
    let heard = shell.json(&["listen", "orla", "--count", "1"]).await;
    assert_eq!((&heard[0]["id"], &heard[0]["lane"]), (&json!("m-1"), &json!("high")));
    assert_eq!(shell.json(&["mailbox", "orla"]).await[0]["depth"], 0);

    let mut listening = shell.command(&["--json", "listen", "orla", "--events", "invoice.*", "--count", "2"]);
    let mut listening =
        listening.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(listening.stderr.take().unwrap()).lines();
    assert!(told.next_line().await.unwrap().unwrap().starts_with("connected"));
    assert_eq!(shell.json(&["sessions", "orla"]).await[0]["daemonId"], "cli");
    let waited = shell.json(&["send", "orla", r#"{"n":2}"#, "--wait", "10"]).await;
    assert_eq!(waited[0]["status"], "acknowledged");
    shell.json(&["publish", "invoice.paid", r#"{"n":3}"#, "--id", "e-1"]).await;
    let heard = String::from_utf8(listening.wait_with_output().await.unwrap().stdout).unwrap();
    let heard: Vec<Value> = heard.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&heard[0]["data"]["n"], &heard[1]["id"], &heard[1]["log"]), (&json!(2), &json!("e-1"), &json!("feed")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_died_is_listed_and_routed_once_more() {
    let (_dir, process, shell) = start().await;
    shell.json(&["send", "orla", r#"{"n":1}"#, "--id", "m-1"]).await;
    let mut daemon = crate::daemon(&process, "orla").await;
    let event = daemon.events(1).await;
    daemon
        .send(waystation_tests::frame("reject", json!({"eventId": event[0]["eventId"], "reason": "cannot read it"})))
        .await;
    daemon.heartbeat().await;
    daemon.close().await;
    let dead = waystation_tests::eventually("it is dead", async || {
        shell.json(&["dead-letters", "list", "orla"]).await.into_iter().next()
    })
    .await;
    assert_eq!((&dead["messageId"], &dead["reason"]), (&json!("m-1"), &json!("cannot read it")));
    assert_eq!(shell.json(&["dead-letters", "redrive", "orla"]).await[0]["routedAs"], "m-1.r1");
    assert!(shell.json(&["dead-letters", "list", "orla"]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_say_what_is_wrong() {
    let (_dir, process, shell) = start().await;
    assert_eq!(shell.code(&["no-such-command"]).await, 64);
    assert_eq!(shell.code(&["send", "orla", "no JSON"]).await, 65);
    assert_eq!(shell.code(&["send", "a/b", "{}"]).await, 65);
    assert_eq!(shell.code(&["send", "orla", "{}", "--fail-if-offline"]).await, 65);
    assert_eq!(shell.code(&["explain", "nothing"]).await, 66);
    assert_eq!(shell.code(&["--router", "http://127.0.0.1:9", "mailbox", "orla"]).await, 69);
    assert_eq!(shell.code(&["--token", "forged", "mailbox", "orla"]).await, 77);
    assert_eq!(shell.code(&["--api-secret", "wsk_guessed", "listen", "orla"]).await, 77);
    let nowhere = Shell { dev: "/nowhere/dev.json".into() };
    let output = nowhere.run(&["mailbox", "orla"]).await;
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--router or WAYSTATION_ROUTER is needed"));
    let token = shell.json(&["token", "orla", "--scopes", "messages:read"]).await;
    assert_eq!(token[0]["scopes"], json!(["messages:read"]));
    let completions = shell.run(&["completions", "bash"]).await;
    assert!(String::from_utf8(completions.stdout).unwrap().contains("dead-letters"));
    process.kill().await;
    assert_eq!(shell.code(&["mailbox", "orla"]).await, 69);
    assert_eq!(shell.code(&["doctor"]).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_bench_and_doctor_look_at_a_running_cell() {
    let (_dir, _process, shell) = start().await;
    let measured = shell.json(&["bench", "--messages", "500"]).await;
    assert!(
        measured[0]["perSecond"].as_f64().unwrap() > 0.0 && measured[0]["latencyMs"]["p50"].as_f64().unwrap() > 0.0
    );
    let looks = shell.json(&["top", "orla", "--count", "2", "--interval", "0.1"]).await;
    assert_eq!((looks.len(), &looks[1]["accepted"], &looks[1]["of"][0]["depth"]), (2, &json!(500), &json!(0)));
    let fit = RedisServer::start(RedisOptions::default());
    let found = shell.run(&["--json", "doctor", "--redis", &fit.url()]).await;
    let text = String::from_utf8(found.stdout).unwrap();
    let checks: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong: Vec<&Value> = checks.iter().filter(|check| check["ok"] == false).collect();
    let judged = |name: &str| checks.iter().any(|check| check["check"] == name);
    assert!(
        ["router", "auth", "federation", "gateway", "clocks", "Redis version"].iter().all(|name| judged(name)),
        "{text}"
    );
    assert!(
        wrong.iter().all(|check| ["appendonly", "appendfsync"].contains(&check["check"].as_str().unwrap())),
        "{text}"
    );
    let evicting = RedisServer::start(RedisOptions {
        settings: vec![("maxmemory", "50mb".into()), ("maxmemory-policy", "allkeys-lru".into())],
        ..RedisOptions::default()
    });
    let found = shell.run(&["doctor", "--redis", &evicting.url()]).await;
    let text = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(1));
    assert!(text.contains("WRONG  maxmemory-policy: allkeys-lru") && text.contains("Set noeviction"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_given_away_and_explained() {
    let (_dir, process, shell) = start().await;
    let nobody = shell.json(&["delegate", "research", "--no-wait"]).await;
    let id = nobody[0]["delegationId"].as_str().unwrap();
    let explained = shell.json(&["explain", id]).await;
    assert_eq!(explained[0]["state"], "pending");
    assert!(explained[0]["whyPending"].as_str().unwrap().contains("nobody"), "{explained:?}");

    let dev = &process.dev;
    let client =
        waystation_client::ConnectOptions::new(&dev.gateway_url, "anna", "d1").api_key(&dev.api_key, &dev.api_secret);
    let client = client.connect().await.unwrap();
    client.connected().await.unwrap();
    let options = waystation_client::WorkOptions::new(&["sum"]);
    let _worker = client.work(options, |_| Ok(()), async |_| Ok(json!({"answer": 42}))).await.unwrap();
    let followed = shell.json(&["delegate", "sum", r#"{"a":1}"#]).await;
    let last = followed.last().unwrap();
    assert_eq!((&last["state"], &last["result"]), (&json!("completed"), &json!({"answer": 42})));
    let explained = shell.run(&["explain", followed[0]["delegationId"].as_str().unwrap()]).await;
    assert!(String::from_utf8(explained.stdout).unwrap().contains("attempt 1 by anna: done"));
}
