//! A whole cell in this process.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use waystation_standalone::{DevFile, Options, Standalone, StoreOptions};
use waystation_store::RedisConfig;
use waystation_test_redis::RedisServer;

use crate::{Backend, Daemon, http, log_in, post};

/// Standalone on any free ports, with a state directory of its own.
pub struct Cell {
    pub dev: DevFile,
    pub standalone: Option<Standalone>,
    pub dir: TempDir,
    kept: (PathBuf, StoreOptions),
}

/// Set to `redis`, cells keep their messages in a Redis.
const STORE: &str = "WAYSTATION_TEST_STORE";

impl Cell {
    pub async fn start() -> Cell {
        Cell::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Options)) -> Cell {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options { any_ports: true, ..Options::new(dir.path().to_owned()) };
        if std::env::var_os(STORE).is_some_and(|store| store == "redis") {
            options.store = StoreOptions::Redis(RedisConfig::of(&RedisServer::shared()));
        }
        change(&mut options);
        let kept = (options.state_dir.clone(), options.store.clone());
        let standalone = Standalone::start(options).await.unwrap();
        Cell { dev: standalone.dev.clone(), standalone: Some(standalone), dir, kept }
    }

    /// Starts again with what a stopped cell has kept.
    pub async fn again(&self) -> Cell {
        let (state_dir, store) = self.kept.clone();
        Cell::start_with(|options| (options.state_dir, options.store) = (state_dir, store)).await
    }

    pub async fn stop(&mut self) {
        if let Some(standalone) = self.standalone.take() {
            assert!(standalone.stop(Duration::from_secs(5)).await, "nothing runs on after a stop");
        }
    }

    pub fn backend(&self) -> Backend {
        Backend::new(&self.dev)
    }

    /// The answer to a login.
    pub async fn log_in(&self, orchestrator: &str) -> Value {
        log_in(&self.dev, orchestrator).await
    }

    /// The answer to a login that is refused.
    pub async fn log_in_refused(&self, orchestrator: &str) -> Value {
        let login =
            json!({"apiKey": self.dev.api_key, "apiSecret": self.dev.api_secret, "orchestratorId": orchestrator});
        let answer = http(&self.dev.http_url, post("/api/daemon/auth", &login)).await;
        assert!(!answer.status().is_success());
        serde_json::from_slice(answer.body()).unwrap()
    }

    /// The answer to a refresh.
    pub async fn refresh(&self, refresh_token: &str) -> Value {
        let request = post("/api/daemon/auth/refresh", &json!({"refreshToken": refresh_token}));
        serde_json::from_slice(http(&self.dev.http_url, request).await.body()).unwrap()
    }

    /// An access token with only these scopes.
    pub async fn token_with(&self, orchestrator: &str, scopes: &[&str]) -> String {
        let login = json!({
            "apiKey": self.dev.api_key,
            "apiSecret": self.dev.api_secret,
            "orchestratorId": orchestrator,
            "scopes": scopes,
        });
        let answer = http(&self.dev.http_url, post("/api/daemon/auth", &login)).await;
        let answer: Value = serde_json::from_slice(answer.body()).unwrap();
        answer["accessToken"].as_str().unwrap().to_owned()
    }

    /// An access token for an orchestrator.
    pub async fn token(&self, orchestrator: &str) -> String {
        log_in(&self.dev, orchestrator).await["accessToken"].as_str().unwrap().to_owned()
    }

    /// A daemon that has logged in.
    pub async fn daemon(&self, orchestrator: &str, daemon: &str) -> Daemon {
        let token = self.token(orchestrator).await;
        Daemon::connect(&self.dev.gateway_url, orchestrator, daemon, &token).await
    }
}
