//! A daemon that prints what it gets: `cargo run -p waystation-client --example daemon -- orla`, beside `make run`.
#![allow(clippy::print_stdout)]

use futures_util::TryStreamExt as _;
use serde_json::Value;
use waystation_client::{ConnectOptions, Lane};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let orchestrator = std::env::args().nth(1).unwrap_or_else(|| "orla".to_owned());
    let dev: Value = serde_json::from_slice(&std::fs::read(".waystation/dev.json")?)?;
    let text = |name: &str| dev[name].as_str().unwrap_or_default().to_owned();
    let client = ConnectOptions::new(&text("gateway_url"), &orchestrator, "example")
        .api_key(&text("api_key"), &text("api_secret"))
        .on_event(|event| eprintln!("{event:?}"))
        .connect()
        .await?;
    let mut messages = client.messages();
    while let Some(message) = messages.try_next().await? {
        let data: Value = message.json()?;
        println!("{} {data}", message.event_type);
        if message.position.lane == Lane::Critical {
            println!("at once!");
        }
        message.ack().await?;
    }
    Ok(())
}
