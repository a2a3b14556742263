//! A feed over processes that die and lines that break: everybody sees every event once, in order.

use std::time::Duration;

use waystation_tests::Fleet;
use waystation_tests::subscribers::Subscribers;

/// Events, unless WAYSTATION_EVENTS says otherwise.
const EVENTS: u64 = 2_000;
/// Times that each line breaks.
const BREAKS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_ways_of_receiving_see_the_same_events_in_the_same_order() {
    let events = std::env::var("WAYSTATION_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(EVENTS);
    let mut fleet = Fleet::start().await;
    let subscribers = Subscribers::start(&fleet, events, BREAKS).await;
    // One gateway and one router die on the way, at a third and two thirds of it.
    let (third, two_thirds) = (events / 3 / 50 * 50, events * 2 / 3 / 50 * 50);
    subscribers
        .publish(async |number| {
            if number == third {
                fleet.gateways[0].kill().await;
                fleet.gateways[0].start().await;
            }
            if number == two_thirds {
                fleet.routers[0].kill().await;
                fleet.routers[0].start().await;
            }
            // Not everything at once: lines break while events come.
            while number > subscribers.slowest() + 500 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    let connections = subscribers.finish(Duration::from_secs(60 + events / 100)).await;
    println!("{events} events, connections: {connections:?}");
    for (way, connected) in connections {
        assert!(connected > BREAKS, "{way:?} connected {connected} times");
    }
}
