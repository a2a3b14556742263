//! A stop in order moves clients and loses nothing (R12).

use serde_json::json;
use waystation_tests::Cell;

#[tokio::test]
async fn a_stop_tells_daemons_when_to_come_back() {
    let mut cell = Cell::start().await;
    let backend = cell.backend();
    let mut daemon = cell.daemon("orla", "d1").await;
    backend.route("orla", 1).await;
    let events = daemon.events(1).await;
    let (told, ()) = tokio::join!(
        async {
            let told = daemon.next_of("reconnect").await;
            // Acks are still taken.
            daemon.ack(&events).await;
            assert_eq!(daemon.close_code().await, 4012);
            told
        },
        cell.stop()
    );
    assert!(told["payload"]["delay"].as_u64().unwrap() <= 2_000);
    let again = cell.again().await;
    let counters = again.backend().mailbox("orla").await.counters.unwrap();
    assert_eq!((counters.accepted, counters.acknowledged), (1, 1));
    let back = again.daemon("orla", "d2").await;
    assert_eq!(back.welcome["payload"]["resumed"], json!(false));
}
