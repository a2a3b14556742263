//! Routes messages to a daemon of its own, and measures.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use waystation_proto::router::v1::{RouteMessageRequest, RouteMessagesRequest, route_message_result};

use super::Done;
use super::daemon::options;
use crate::failure::Failure;
use crate::place::Place;
use crate::show::Show;

/// Nothing for so long: it will not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What takes longer is counted as this, in microseconds.
const LONGEST: u64 = 60_000_000;

/// Micros of a histogram as milliseconds.
fn millis(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1_000.0
}

pub(super) async fn run(place: &Place, show: Show, messages: u64, window: u64, size: u64) -> Done {
    let orchestrator = format!("bench-{:08x}", rand::random::<u32>());
    let client = options(place, &orchestrator, "bench")?.window(1_000, 16 << 20).connect().await?;
    client.connected().await?;
    let mut router = place.call_router().await?;
    let room = Arc::new(Semaphore::new(usize::try_from(window).unwrap_or(1)));
    let (requests, sending) = tokio::sync::mpsc::channel(64);
    let mut answers = router.route_messages(tokio_stream::wrappers::ReceiverStream::new(sending)).await?.into_inner();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    let (organization_id, throttle) = (place.organization.clone(), room.clone());
    tasks.spawn(async move {
        let filler = "x".repeat(usize::try_from(size).unwrap_or(0).saturating_sub(32));
        for number in 0..messages {
            // A place is given back when the message has been acknowledged.
            let Ok(permit) = throttle.clone().acquire_owned().await else { return Ok(()) };
            permit.forget();
            let sent = begun.elapsed().as_micros();
            let data = json!({"n": number, "sent": sent as u64, "filler": filler}).to_string();
            let message = RouteMessageRequest {
                organization_id: organization_id.clone(),
                orchestrator_id: orchestrator.clone(),
                data: data.into(),
                ..RouteMessageRequest::default()
            };
            if requests.send(RouteMessagesRequest { messages: vec![message] }).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    });
    tasks.spawn(async move {
        while let Some(answer) = answers.message().await? {
            for result in answer.results {
                if let Some(route_message_result::Outcome::Error(error)) = result.outcome {
                    return Err(Failure::Data(format!("a message was refused: {}", error.message)));
                }
            }
        }
        Ok(())
    });
    let bar = show.bar(messages, "messages");
    let mut latencies =
        Histogram::<u64>::new_with_bounds(1, LONGEST, 3).map_err(|error| Failure::Data(error.to_string()))?;
    let mut delivered = client.messages();
    for number in 0..messages {
        let message = loop {
            tokio::select! {
                message = delivered.next() => break message,
                Some(ended) = tasks.join_next() => ended.map_err(|error| Failure::Os(error.to_string()))??,
                () = tokio::time::sleep(PATIENCE) => return Err(Failure::Unreachable("the next message", "it did not come".into())),
            }
        };
        let Some(message) = message else { return Err(client.closed().await.into()) };
        let message = message?;
        let said: Value = message.json().unwrap_or_default();
        let now = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        latencies.saturating_record(now.saturating_sub(said["sent"].as_u64().unwrap_or(now)));
        if said["n"] != number {
            return Err(Failure::Data(format!("message {number} was expected, and {} came", said["n"])));
        }
        message.ack().await?;
        room.add_permits(1);
        bar.inc(1);
    }
    let elapsed = begun.elapsed();
    bar.finish_and_clear();
    tasks.shutdown().await;
    client.drain().await;
    let rate = messages as f64 / elapsed.as_secs_f64();
    let machine = json!({
        "messages": messages, "seconds": elapsed.as_secs_f64(), "perSecond": rate, "window": window, "size": size,
        "latencyMs": {"p50": millis(&latencies, 0.5), "p99": millis(&latencies, 0.99), "max": millis(&latencies, 1.0)},
    });
    show.say(&machine, || {
        format!(
            "{messages} messages routed, delivered and acknowledged in order in {elapsed:.2?}: {rate:.0}/s with {window} under way\nfrom routed to delivered: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
            millis(&latencies, 0.5),
            millis(&latencies, 0.99),
            millis(&latencies, 1.0),
        )
    });
    Ok(ExitCode::SUCCESS)
}
