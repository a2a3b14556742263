//! One trace tells what became of a message, seen by a real collector behind a real deployment.

use tokio::task::JoinSet;
use waystation_domain::TraceParent;
use waystation_proto::router::v1::RouteMessageRequest;
use waystation_tests::collector::{Collector, Told};
use waystation_tests::tls::{Authority, from_secured};
use waystation_tests::{Backend, Daemon, Fleet, eventually};

/// What is told of a message that is pushed to its daemon: who tells it, what, and as part of what.
const STEPS: [(&str, &str, &str); 7] = [
    ("waystation-router", "RouteMessage", "the caller"),
    ("waystation-router", "append", "RouteMessage"),
    ("waystation-router", "push", "append"),
    ("waystation-gateway", "deliver", "push"),
    ("waystation-gateway", "acknowledge", "deliver"),
    ("waystation-gateway", "settle", "acknowledge"),
    ("waystation-router", "settle", "settle"),
];

fn traced(number: u64, trace: &TraceParent) -> RouteMessageRequest {
    RouteMessageRequest { traceparent: trace.to_string(), ..Backend::message("orla", number) }
}

async fn daemon(fleet: &Fleet, gateway: usize) -> Daemon {
    Daemon::connect(&fleet.url(gateway), "orla", "d1", &fleet.token("orla").await).await
}

async fn whole(collector: &Collector, trace: u128) -> Vec<Told> {
    eventually("the whole trace is there", async || {
        let spans = collector.of(trace);
        (spans.len() >= STEPS.len()).then_some(spans)
    })
    .await
}

/// The samples of a metric over all services.
async fn sum(fleet: &Fleet, sample: &str) -> f64 {
    let mut sum = 0.0;
    for service in fleet.routers.iter().chain(&fleet.gateways) {
        let page = service.text("/metrics").await;
        let values = page.lines().filter_map(|line| line.strip_prefix(sample));
        sum += values.map(|value| value.trim().parse::<f64>().unwrap()).sum::<f64>();
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_request_to_the_ack() {
    let mut collector = Collector::start().await;
    let fleet = Fleet::start_traced(&collector.endpoint).await;
    let backend = Backend::new(&fleet.dev(0, 0));
    let mut receiver = daemon(&fleet, 1).await;

    // Pushed, delivered, acknowledged.
    let trace = TraceParent::sampled(0x1111_2222_3333_4444_5555_6666_7777_8888, 0x9999);
    let message = RouteMessageRequest { data: r#"{"canary":"c4n4ry"}"#.into(), ..traced(1, &trace) };
    backend.try_route(message).await.unwrap();
    let events = receiver.events(1).await;
    let shown: TraceParent = events[0]["traceparent"].as_str().unwrap().parse().unwrap();
    assert!(shown.trace() == trace.trace() && shown.parent() != trace.parent() && shown.is_sampled(), "{shown}");
    receiver.ack(&events).await;
    let spans = whole(&collector, trace.trace()).await;
    assert_eq!(spans.len(), STEPS.len(), "{spans:?}");
    let mut parent = trace.parent().to_be_bytes().to_vec();
    for (service, step, of) in STEPS {
        let fits = |told: &&Told| told.service == service && told.span.name == step;
        let told = spans.iter().find(fits).unwrap_or_else(|| panic!("{service} tells no {step}: {spans:?}"));
        assert_eq!(told.parent(), parent, "{step} belongs to {of}");
        assert!(told.span.start_time_unix_nano <= told.span.end_time_unix_nano, "{told:?}");
        parent.clone_from(&told.span.span_id);
        if step == "push" {
            assert_eq!(shown.parent().to_be_bytes().to_vec(), parent, "the daemon can tell what it does of it");
        }
    }
    assert_eq!(spans[0].text("waystation.orchestrator"), Some("orla"));
    assert!(!format!("{spans:?}").contains("c4n4ry"), "no payload is told");
    let page = fleet.gateways[1].open_metrics().await;
    let exemplar = format!("trace_id=\"{:032x}\"", trace.trace());
    assert!(page.contains(&exemplar), "the histogram of acks leads to the trace: {page}");

    // Whoever does not record a trace is not recorded.
    let silent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse().unwrap();
    backend.try_route(traced(2, &silent)).await.unwrap();
    let events = receiver.events(1).await;
    assert_eq!(events[0]["traceparent"], silent.as_str());
    receiver.ack(&events).await;

    // Without the collector everything goes on.
    collector.kill().await;
    let failed = r#"waystation_spans_total{outcome="Failed"}"#;
    let before = sum(&fleet, failed).await;
    let lost = TraceParent::sampled(0xabc, 1);
    for number in 0..50 {
        backend.try_route(traced(number, &lost)).await.unwrap();
    }
    let events = receiver.events(50).await;
    receiver.ack(&events).await;
    eventually("what could not be told is counted", async || (sum(&fleet, failed).await > before).then_some(())).await;
    eventually("all is acknowledged", async || (backend.depth("orla").await == 0).then_some(())).await;
    collector.resume().await;
    let again = TraceParent::sampled(0xdef, 1);
    eventually("it is told again", async || {
        backend.try_route(traced(3, &again)).await.unwrap();
        (!collector.of(again.trace()).is_empty()).then_some(())
    })
    .await;
    assert!(collector.of(silent.trace()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_waited_is_told_when_it_is_read() {
    let collector = Collector::start().await;
    let fleet = Fleet::start_traced(&collector.endpoint).await;
    let backend = Backend::new(&fleet.dev(0, 0));
    let trace = TraceParent::sampled(0x77, 0x9999);
    backend.try_route(traced(1, &trace)).await.unwrap();
    let mut receiver = daemon(&fleet, 0).await;
    let events = receiver.events(1).await;
    receiver.ack(&events).await;
    let steps = || {
        let told = collector.of(trace.trace());
        (told.len() >= STEPS.len() - 1).then_some(told)
    };
    let spans = eventually("the whole trace is there", async || steps()).await;
    let mut names: Vec<&str> = spans.iter().map(|told| told.span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["RouteMessage", "acknowledge", "append", "deliver", "settle", "settle"], "nothing was pushed");
    let of = |step: &str| spans.iter().find(|told| told.span.name == step).unwrap();
    assert_eq!(of("deliver").parent(), of("append").span.span_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_not_there_stops_nobody_and_one_behind_tls_is_told() {
    let mut fleet = Fleet::start_traced("http://127.0.0.1:9").await;
    let mut receiver = daemon(&fleet, 0).await;
    let backend = Backend::new(&fleet.dev(0, 1));
    backend.try_route(traced(1, &TraceParent::sampled(1, 1))).await.unwrap();
    let events = receiver.events(1).await;
    receiver.ack(&events).await;
    eventually("it is acknowledged", async || (backend.depth("orla").await == 0).then_some(())).await;

    let (dir, mut tasks) = (tempfile::tempdir().unwrap(), JoinSet::new());
    let authority = Authority::new(dir.path());
    let collector = Collector::start().await;
    let plain = collector.endpoint.trim_start_matches("http://").parse().unwrap();
    let secured = from_secured(plain, &authority.host("collector"), &mut tasks).await;
    let router = &mut fleet.routers[0];
    router.configure("process__traces__endpoint", &format!("https://127.0.0.1:{}", secured.port()));
    router.set_variable("SSL_CERT_FILE", authority.file().to_str().unwrap());
    assert_eq!(router.terminate().await, 0, "a stop does not wait for a collector");
    router.start().await;
    let trace = TraceParent::sampled(2, 1);
    Backend::new(&fleet.dev(0, 0)).try_route(traced(2, &trace)).await.unwrap();
    eventually("it is told", async || (!collector.of(trace.trace()).is_empty()).then_some(())).await;
}
