//! The Rust client over real services: what programs do with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use waystation_client::{
    Client, ConnectError, ConnectOptions, DelegationEnd, FeedNews, Outgoing, Overflow, Request, SendError, Status,
    Stopped, Task, TaskFailed, Token, Update, WorkOptions,
};
use waystation_tests::{Backend, Cell, PATIENCE, eventually};

fn options(cell: &Cell, orchestrator: &str) -> ConnectOptions {
    let dev = &cell.dev;
    ConnectOptions::new(&dev.gateway_url, orchestrator, "d1").api_key(&dev.api_key, &dev.api_secret)
}

async fn connect(cell: &Cell, orchestrator: &str) -> Client {
    let client = options(cell, orchestrator).connect().await.unwrap();
    client.connected().await.unwrap();
    client
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

#[tokio::test]
async fn messages_are_settled_in_every_way() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let client = connect(&cell, "orla").await;
    let mut messages = client.messages();
    for number in 0..4 {
        backend.route("orla", number).await;
    }
    let mut next = async || in_time(messages.try_next()).await.unwrap().unwrap();
    let [acked, nacked, rejected, dropped] = [next().await, next().await, next().await, next().await];
    assert_eq!(acked.json::<Value>().unwrap(), json!({"n": 0}));
    assert!(in_time(acked.ack_confirmed()).await.unwrap());
    nacked.nack(Duration::ZERO, "busy").await.unwrap();
    rejected.reject("cannot read it").await.unwrap();
    drop(dropped);
    let again = [next().await, next().await];
    let numbers: Vec<u64> =
        again.iter().map(|message| message.json::<Value>().unwrap()["n"].as_u64().unwrap()).collect();
    assert_eq!((numbers, again[0].attempt, again[1].redelivered), (vec![1, 3], 2, true));
    for message in again {
        message.ack().await.unwrap();
    }
    eventually("one is dead, the others are gone", async || (backend.depth("orla").await == 0).then_some(())).await;
    let statistics = client.statistics();
    assert_eq!((statistics.acknowledged, statistics.in_hand, statistics.gaps), (3, 0, 1));
    assert_eq!(client.health().status, Status::Healthy);
    assert_eq!(in_time(client.drain()).await, Stopped::Closed);
    assert!(in_time(client.messages().next()).await.is_none());
}

#[tokio::test]
async fn what_is_sent_arrives_and_what_cannot_be_is_refused() {
    let cell = Cell::start().await;
    let (orla, otto) = (connect(&cell, "orla").await, connect(&cell, "otto").await);
    let outgoing = Outgoing::to_orchestrator("otto", &json!({"n": 1})).unwrap().event_type("invoice.paid").unwrap();
    let sent = in_time(orla.send(outgoing.clone().id("m-1").unwrap())).await.unwrap();
    assert_eq!((sent.id.as_str(), sent.status.as_str()), ("m-1", "DISPATCHED"));
    let message = in_time(otto.messages().next()).await.unwrap().unwrap();
    assert_eq!((message.event_type.as_str(), message.sender.as_ref().unwrap().as_str()), ("invoice.paid", "orla"));
    message.ack().await.unwrap();
    let other = Outgoing::to_orchestrator("otto", &json!({"n": 2})).unwrap().id("m-1").unwrap();
    let Err(SendError::Refused(refused)) = in_time(orla.send(other)).await else { panic!("refused") };
    assert_eq!(refused.reason.as_deref(), Some("MESSAGE_ID_REUSED"));
    assert_eq!(Outgoing::to_orchestrator("a/b", &json!({})).unwrap_err().field, "orchestrator");
    assert_eq!(Outgoing::to_channel("c", &json!([])).unwrap_err().field, "data");
    assert_eq!(outgoing.clone().event_type("Paid").unwrap_err().field, "event_type");
    assert_eq!(outgoing.id("gap.1").unwrap_err().field, "id");
}

#[tokio::test]
async fn a_queue_has_a_bound_and_a_policy() {
    // Nobody listens there.
    let offline = |overflow| {
        ConnectOptions::new("ws://127.0.0.1:9", "orla", "d1")
            .token_callback(|_| async { Ok(Token::of_jwt("t")) })
            .queue(2, overflow)
            .connect()
    };
    let message = |name: &str| Outgoing::to_orchestrator("otto", &json!({})).unwrap().id(name).unwrap();
    let refusing = offline(Overflow::Refuse).await.unwrap();
    let _waiting = [refusing.enqueue(message("a")).await.unwrap(), refusing.enqueue(message("b")).await.unwrap()];
    assert_eq!(refusing.enqueue(message("c")).await.unwrap_err(), SendError::QueueFull(2));
    eventually("two wait", async || (refusing.health().queue_size == 2).then_some(())).await;
    let displacing = offline(Overflow::DisplaceOldest).await.unwrap();
    let first = displacing.enqueue(message("a")).await.unwrap();
    let _others = [displacing.enqueue(message("b")).await.unwrap(), displacing.enqueue(message("c")).await.unwrap()];
    assert!(matches!(in_time(first.accepted()).await, Err(SendError::Displaced(id)) if id.as_str() == "a"));
    let waiting = offline(Overflow::Wait).await.unwrap();
    let sending = [waiting.enqueue(message("a")).await.unwrap(), waiting.enqueue(message("b")).await.unwrap()];
    let third = tokio::time::timeout(Duration::from_millis(50), waiting.enqueue(message("c"))).await;
    assert!(third.is_err(), "it waits");
    in_time(waiting.close()).await;
    for sending in sending {
        assert_eq!(in_time(sending.accepted()).await, Err(SendError::Stopped(Stopped::Closed)));
    }
}

#[tokio::test]
async fn wrong_options_and_credentials_are_told() {
    let cell = Cell::start().await;
    let wrong = |options: ConnectOptions| async {
        match options.connect().await {
            Err(ConnectError::Option { option, .. }) => option,
            other => panic!("{other:?}"),
        }
    };
    let to = |url| ConnectOptions::new(url, "orla", "d1").api_key("k", "s");
    assert_eq!(wrong(to("gateway")).await, "url");
    assert_eq!(wrong(ConnectOptions::new("ws://h", "a/b", "d1").api_key("k", "s")).await, "orchestrator");
    assert_eq!(wrong(ConnectOptions::new("ws://h", "a", "d1")).await, "api_key");
    assert_eq!(wrong(to("ws://h").certificate_authorities("/nowhere")).await, "certificate_authorities");
    let client = ConnectOptions::new(&cell.dev.gateway_url, "orla", "d1").api_key(&cell.dev.api_key, "wsk_guessed");
    let client = client.connect().await.unwrap();
    let Stopped::Token(why) = in_time(client.closed()).await else { panic!("token") };
    assert!(why.contains("INVALID_CREDENTIALS"), "{why}");
    assert!(matches!(in_time(client.messages().next()).await, Some(Err(Stopped::Token(_)))), "never a silent end");
}

#[tokio::test]
async fn subscriptions_get_each_event_once_however_slow_their_reader_is() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let mut connecting = options(&cell, "orla").feed_queue(10);
    let mut slow = connecting.subscribe(&["invoice.*"], &[]).unwrap();
    let client = connecting.connect().await.unwrap();
    client.connected().await.unwrap();
    let mut other = client.subscribe(&["parcel.sent"], &[]).await.unwrap();
    eventually("both are subscribed", async || {
        backend.publish("parcel.sent", 0).await;
        let found = tokio::time::timeout(Duration::from_millis(50), other.next()).await;
        found.is_ok().then_some(())
    })
    .await;
    backend.publish_many("invoice.paid", 0..200).await;
    // Nobody reads until the queue has been full.
    eventually("it is behind", async || (client.statistics().events_received >= 11).then_some(())).await;
    let mut numbers = Vec::new();
    while numbers.len() < 200 {
        let Some(Ok(FeedNews::Event(event))) = in_time(slow.next()).await else { panic!("an event") };
        numbers.push(serde_json::from_slice::<Value>(&event.data).unwrap()["n"].as_u64().unwrap());
    }
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    assert!(client.statistics().reconnect_count > 0, "it was read again from where the reader was");
    drop(slow);
    backend.publish("invoice.paid", 999).await;
    backend.publish("parcel.sent", 7).await;
    loop {
        let Some(Ok(FeedNews::Event(event))) = in_time(other.next()).await else { panic!("an event") };
        assert_eq!(event.event_type.as_str(), "parcel.sent");
        if serde_json::from_slice::<Value>(&event.data).unwrap()["n"] == 7 {
            break;
        }
    }
}

#[tokio::test]
async fn a_feed_goes_on_where_the_process_before_ended() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let state = cell.dir.path().join("client-state");
    let start = async || {
        let mut connecting = options(&cell, "orla").state_file(&state);
        let subscription = connecting.subscribe(&["invoice.*"], &[]).unwrap();
        let client = connecting.connect().await.unwrap();
        client.connected().await.unwrap();
        (client, subscription)
    };
    let next = async |subscription: &mut waystation_client::Subscription| {
        let Some(Ok(FeedNews::Event(event))) = in_time(subscription.next()).await else { panic!("an event") };
        serde_json::from_slice::<Value>(&event.data).unwrap()["n"].as_u64().unwrap()
    };
    let (client, mut subscription) = start().await;
    backend.publish_many("invoice.paid", 0..3).await;
    assert_eq!(next(&mut subscription).await, 0);
    assert_eq!(next(&mut subscription).await, 1);
    // The third was handed out to nobody, and the second is done with once the next is asked for.
    drop(tokio::time::timeout(Duration::ZERO, subscription.next()).await);
    in_time(client.close()).await;
    backend.publish_many("invoice.paid", 3..5).await;
    let (_client, mut subscription) = start().await;
    let mut rest = vec![next(&mut subscription).await];
    while rest.last() != Some(&4) {
        rest.push(next(&mut subscription).await);
    }
    assert!(rest.ends_with(&[3, 4]) && rest.first().is_some_and(|first| *first >= 1), "{rest:?}");
}

/// Works as its handler says; answers the client, which must live as long.
async fn worker<F>(
    cell: &Cell,
    name: &str,
    handler: impl Fn(Task) -> F + Send + Sync + 'static,
) -> (Client, waystation_client::Worker)
where
    F: Future<Output = Result<Value, TaskFailed>> + Send + 'static,
{
    let client = connect(cell, name).await;
    let judge = |offer: &waystation_client::Offer| {
        if offer.task.payload["wanted"] == false { Err("not for me".to_owned()) } else { Ok(()) }
    };
    let worker = client.work(WorkOptions::new(&["research"]).at_a_time(2), judge, handler).await.unwrap();
    (client, worker)
}

#[tokio::test]
async fn a_task_is_given_away_done_and_answered() {
    let cell = Cell::start().await;
    let (anna, working) = worker(&cell, "anna", |task| async move {
        task.progress(40, "reading").await.unwrap();
        task.put_context("notes", &json!({"seen": 3}), None).await.unwrap();
        match task.offer.task.payload["question"].as_str() {
            Some(question) => Ok(json!({"answer": question.len()})),
            None => Err(TaskFailed("no question".into())),
        }
    })
    .await;
    let boss = connect(&cell, "boss").await;
    let mut delegation = in_time(boss.delegate(&Request::new("research", json!({"question": "why?"})))).await.unwrap();
    let mut updates = Vec::new();
    while let Some(update) = in_time(delegation.next()).await.unwrap() {
        updates.push(update);
    }
    assert!(matches!(&updates[0], Update::Accepted { assignee, .. } if assignee == "anna"), "{updates:?}");
    assert!(updates.contains(&Update::Progress { percent: 40.0, message: "reading".into() }), "{updates:?}");
    assert!(updates.contains(&Update::Context { name: "notes".into() }), "{updates:?}");
    assert_eq!(updates.last(), Some(&Update::Ended(DelegationEnd::Completed(json!({"answer": 4})))));

    let mut failing = boss.delegate(&Request::new("research", json!({})).max_retries(0)).await.unwrap();
    let end = in_time(failing.end()).await.unwrap();
    assert!(matches!(end, DelegationEnd::Failed { ref error, .. } if error.contains("no question")), "{end:?}");

    let refused = Request::new("research", json!({"wanted": false}));
    let mut refused = boss.delegate(&refused).await.unwrap();
    assert!(
        matches!(in_time(refused.next()).await.unwrap(), Some(Update::Rejected { reason, .. }) if reason == "not for me")
    );
    in_time(working.stop()).await.unwrap();
    assert_eq!(in_time(anna.drain()).await, Stopped::Closed);
}

#[tokio::test]
async fn a_task_that_is_cancelled_stops() {
    let cell = Cell::start().await;
    let cancelled = Arc::new(AtomicU32::new(0));
    let counting = cancelled.clone();
    let (_anna, _working) = worker(&cell, "anna", move |task| {
        let counting = counting.clone();
        async move {
            // Dropped when the task is cancelled, wherever it is.
            struct Counted(Arc<AtomicU32>);
            impl Drop for Counted {
                fn drop(&mut self) {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }
            }
            let _counted = Counted(counting);
            task.progress(1, "").await.unwrap();
            std::future::pending().await
        }
    })
    .await;
    let boss = connect(&cell, "boss").await;
    let mut delegation = boss.delegate(&Request::new("research", json!({}))).await.unwrap();
    while !matches!(in_time(delegation.next()).await.unwrap(), Some(Update::Progress { .. })) {}
    delegation.cancel("not needed").await.unwrap();
    assert_eq!(in_time(delegation.end()).await.unwrap(), DelegationEnd::Cancelled);
    eventually("it has stopped", async || (cancelled.load(Ordering::SeqCst) == 1).then_some(())).await;
}

#[tokio::test]
async fn backends_messages_pass_while_tasks_run() {
    let cell = Cell::start().await;
    let backend: Backend = cell.backend();
    let (anna, _working) = worker(&cell, "anna", |_| std::future::pending()).await;
    let boss = connect(&cell, "boss").await;
    let mut delegation = boss.delegate(&Request::new("research", json!({}))).await.unwrap();
    assert!(matches!(in_time(delegation.next()).await.unwrap(), Some(Update::Accepted { .. })));
    backend.route("anna", 7).await;
    let message = in_time(anna.messages().next()).await.unwrap().unwrap();
    assert_eq!(message.json::<Value>().unwrap()["n"], 7);
}
