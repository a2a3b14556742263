//! Gives a task away and does it itself: `cargo run -p waystation-client --example worker`, beside `make run`.
#![allow(clippy::print_stdout)]

use serde_json::{Value, json};
use waystation_client::{ConnectOptions, Offer, Request, Task, TaskFailed, WorkOptions};

async fn sum(task: Task) -> Result<Value, TaskFailed> {
    let numbers = task.offer.task.payload["numbers"].as_array().cloned().unwrap_or_default();
    // Whoever does not hear of the half will hear of the whole.
    task.progress(50, "halfway").await.ok();
    Ok(json!({"sum": numbers.iter().filter_map(Value::as_f64).sum::<f64>()}))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dev: Value = serde_json::from_slice(&std::fs::read(".waystation/dev.json")?)?;
    let text = |name: &str| dev[name].as_str().unwrap_or_default().to_owned();
    let connect = async |orchestrator: &str| {
        ConnectOptions::new(&text("gateway_url"), orchestrator, "example")
            .api_key(&text("api_key"), &text("api_secret"))
            .connect()
            .await
    };
    let (anna, boss) = (connect("anna").await?, connect("boss").await?);
    let judge = |offer: &Offer| if offer.task.kind == "sum" { Ok(()) } else { Err("not mine".to_owned()) };
    let worker = anna.work(WorkOptions::new(&["sum"]).at_a_time(4), judge, sum).await?;
    let mut delegation = boss.delegate(&Request::new("sum", json!({"numbers": [1, 2, 39]}))).await?;
    while let Some(update) = delegation.next().await? {
        println!("{update:?}");
    }
    worker.stop().await?;
    anna.drain().await;
    boss.drain().await;
    Ok(())
}
