//! The conformance kit: runs any client against a gateway that follows a script, and tells what the client gets wrong.
//!
//! A client takes part with an adapter of some fifty lines, which is told what to do and tells what it sees
//! (docs/clients.md, "Conformance").

mod gateway;
mod scenarios;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::json;

use crate::adapter::{Adapter, Program};
pub use gateway::{Conversation, ScriptedGateway};
pub use scenarios::SCENARIOS;

/// How long a scenario may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What a client must do, and how that is seen.
pub struct Scenario {
    pub name: &'static str,
    pub run: fn(Stage) -> futures_util::future::BoxFuture<'static, ()>,
}

/// Where a scenario is played.
pub struct Stage {
    pub gateway: ScriptedGateway,
    program: Program,
    pub dir: tempfile::TempDir,
}

impl Stage {
    async fn new(program: Program) -> Stage {
        Stage { gateway: ScriptedGateway::bind().await, program, dir: tempfile::tempdir().unwrap() }
    }

    /// Starts the client, impatient and with more options.
    pub fn client(&self, more: &[(&str, &str)]) -> Adapter {
        let url = self.gateway.url();
        let mut options = vec![("url", url.as_str()), ("orchestrator", "orla"), ("daemon", "d1")];
        for usual in [
            ("backoff", "50"),
            ("backoff_most", "400"),
            ("ping", "5000"),
            ("patience", "5000"),
            ("timeout", "2000"),
            ("transports", "websocket"),
        ] {
            if !more.iter().any(|(name, _)| *name == usual.0) {
                options.push(usual);
            }
        }
        options.extend(more);
        self.program.start(&options)
    }

    /// The client's first connection, logged in with a token that lasts.
    pub async fn connected(&mut self, more: &[(&str, &str)]) -> (Adapter, Conversation) {
        let mut client = self.client(more);
        give_token(&mut client, "t-1").await;
        let mut conversation = self.gateway.accept().await;
        conversation.welcome(json!({})).await;
        client.sees("connected").await;
        (client, conversation)
    }
}

/// Gives the client the token that it wants.
pub async fn give_token(client: &mut Adapter, token: &str) {
    client.sees("token_wanted").await;
    client.order(json!({"do": "token", "token": token})).await;
}

/// The scenarios that a client failed, with what was seen.
pub async fn failures(
    program: &Program,
    only: Option<&str>,
    mut told: impl FnMut(&str, bool),
) -> Vec<(String, String)> {
    let mut failures = Vec::new();
    for Scenario { name, run } in SCENARIOS {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let stage = Stage::new(program.clone()).await;
        let played = tokio::time::timeout(LIMIT, AssertUnwindSafe(run(stage)).catch_unwind()).await;
        let problem = match played {
            Ok(Ok(())) => None,
            Ok(Err(panic)) => Some(text_of(&*panic)),
            Err(_) => Some(format!("not over after {LIMIT:?}")),
        };
        told(name, problem.is_none());
        failures.extend(problem.map(|problem| ((*name).to_owned(), problem)));
    }
    failures
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
