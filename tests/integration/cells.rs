//! Two cells, each with its own store, that hand tasks to each other over a link that may be cut.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use waystation_federation::{CellsConfig, PeerConfig};
use waystation_proto::federation::v1::peer_service_client::PeerServiceClient;
use waystation_proto::federation::v1::*;
use waystation_rpc::convert::timestamp_to;
use waystation_runtime::{Context, KnownPeer, Reach, TlsSettings};
use waystation_test_redis::free_port;
use waystation_tests::tls::Authority;
use waystation_tests::{Cell, eventually};

use super::worker::{Worker, ends, explain, look, reserved, seconds, task};

/// The way from one cell to another.
struct Link {
    address: SocketAddr,
    is_whole: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Link {
    async fn to(target: SocketAddr) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_whole, whole) = watch::channel(true);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut whole = whole.clone();
                carried.spawn(async move {
                    if !*whole.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = whole.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Link { address, is_whole, _task: task }
    }

    fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}

/// Where nobody listens yet, and no outgoing connection of another test gets to be.
fn free() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

/// Cells `a` and `b`.
struct Two {
    a: Cell,
    b: Cell,
    /// From a to b.
    link: Arc<Link>,
}

fn config(name: &str, listen: SocketAddr, authority: &Authority, peers: Vec<Value>) -> CellsConfig {
    let issued = authority.service("federation");
    let tls = json!({"certificate_file": issued.certificate, "key_file": issued.key});
    let peers = peers.into_iter().map(|peer| serde_json::from_value::<PeerConfig>(peer).unwrap());
    CellsConfig { name: name.into(), listen, tls: serde_json::from_value(tls).unwrap(), peers: peers.collect() }
}

fn peer(name: &str, address: SocketAddr, authority: &Authority, more: Value) -> Value {
    let mut peer = json!({
        "name": name,
        "address": format!("https://{address}"),
        "identity": authority.identity("federation"),
        "ca_file": authority.file(),
    });
    peer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    peer
}

impl Two {
    /// Organization dev of a may use that of b for what is granted by both.
    async fn start(dir: &Path, uses: Value, serves: Value) -> Two {
        let [of_a, of_b] = ["a", "b"].map(|name| {
            let dir = dir.join(name);
            std::fs::create_dir(&dir).unwrap();
            Authority::of_domain(&dir, &format!("{name}.example"))
        });
        let (at_a, at_b) = (free(), free());
        let link = Arc::new(Link::to(at_b).await);
        let to_a = peer("a", at_a, &of_a, json!({"serves": [serves]}));
        let to_b = peer("b", link.address, &of_b, json!({"uses": [uses]}));
        let a = Cell::start_with(|options| options.cells = Some(config("a", at_a, &of_a, vec![to_b]))).await;
        let b = Cell::start_with(|options| options.cells = Some(config("b", at_b, &of_b, vec![to_a]))).await;
        Two { a, b, link }
    }

    async fn allowed(dir: &Path) -> Two {
        Two::start(dir, json!({"organization": "dev"}), json!({"organization": "dev"})).await
    }

    /// Waits until a knows that b has free slots.
    async fn knows(&self, free: u32) {
        let known = async || {
            let request = GetOrchestratorRequest { orchestrator_id: "cell.b".into(), ..Default::default() };
            let found = self.a.backend().federation.get_orchestrator(request).await.ok()?.into_inner().orchestrator?;
            (found.standing() == Standing::Online && found.free == free).then_some(())
        };
        eventually("a knows what b can do", known).await;
    }

    async fn peers(&self) -> Vec<PeerStatus> {
        self.a.backend().federation.list_peers(ListPeersRequest {}).await.unwrap().into_inner().peers
    }
}

#[tokio::test]
async fn what_nobody_here_can_do_is_done_in_another_cell() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two::allowed(dir.path()).await;
    let mut boss = Worker::start(&two.a, "boss", &[], 0).await;
    let mut bert = Worker::start(&two.b, "bert", &["research"], 2).await;
    two.knows(2).await;
    let context = vec![ContextEntry { name: "plan".into(), value: "[1]".into(), version: 0 }];
    let id = boss.delegate(DelegateTaskRequest { context, ..task("research") }).await;
    let offered = bert.mail_of("delegation.offered").await;
    assert_eq!((&offered["fromOrchestratorId"], &offered["context"]), (&json!("cell.a"), &json!(["plan"])));
    assert_eq!(offered["task"]["payload"], json!({"n": 1}));
    let offer = (offered["delegationId"].as_str().unwrap().to_owned(), 1);
    assert_ne!(offer.0, id, "each cell has its own names");
    bert.answer(&offer, true).await;
    assert_eq!(boss.mail_of("delegation.accepted").await["assignee"], "cell.b");
    bert.progress(&offer, 40).await;
    assert_eq!(boss.mail_of("delegation.progress").await["progress"], 40);
    two.knows(1).await;
    bert.complete(&offer, r#"{"found":42}"#).await;
    assert_eq!(boss.mail_of("delegation.completed").await["result"], json!({"found": 42}));
    let explained = explain(&two.a, &id).await;
    assert_eq!(explained.decisions[0].chosen_id, "cell.b");
    assert_eq!(explained.delegation.unwrap().state(), DelegationState::Completed);
    assert_eq!((reserved(&two.a).await, reserved(&two.b).await), (0, 0));
    let peers = two.peers().await;
    assert_eq!((peers[0].name.as_str(), peers[0].standing(), peers[0].watched), ("b", PeerStanding::Up, 0));
    assert!(peers[0].lag.is_some_and(|lag| lag.seconds < 15));
    assert_eq!(peers[0].summaries[0].changed[0].name, "research");
    // Whoever is of this cell comes first.
    let mut anna = Worker::start(&two.a, "anna", &["research"], 1).await;
    let id = boss.delegate(task("research")).await;
    assert_eq!(anna.offer().await.0, id);
}

#[tokio::test]
async fn a_cut_link_loses_nothing_and_runs_nothing_twice() {
    const TASKS: usize = 30;
    let dir = tempfile::tempdir().unwrap();
    let two = Two::allowed(dir.path()).await;
    let mut boss = Worker::start(&two.a, "boss", &[], 0).await;
    let mut bert = Worker::start(&two.b, "bert", &["research"], TASKS as u32).await;
    two.knows(TASKS as u32).await;
    let mut ids = Vec::new();
    for number in 0..TASKS {
        if number == TASKS / 2 {
            // Offers that are on their way may have arrived, or not.
            two.link.cut();
        }
        ids.push(boss.delegate(task("research")).await);
    }
    let link = two.link.clone();
    let mut mending = JoinSet::new();
    mending.spawn(async move {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            link.mend();
            tokio::time::sleep(Duration::from_millis(300)).await;
            link.cut();
        }
        link.mend();
    });
    // What is accepted runs, and is done whether anybody hears of it or not.
    let mut ran = std::collections::BTreeMap::<String, usize>::new();
    while ran.len() < TASKS {
        let (kind, data) = bert.mail().await;
        if kind != "delegation.offered" {
            continue;
        }
        let offer = (data["delegationId"].as_str().unwrap().to_owned(), 1);
        if bert.answer(&offer, true).await == ReportOutcome::Taken {
            *ran.entry(offer.0.clone()).or_default() += 1;
            assert_eq!(bert.complete(&offer, "{}").await, ReportOutcome::Taken);
        }
    }
    mending.join_next().await.unwrap().unwrap();
    for id in &ids {
        let ended = ends(&two.a, id).await;
        assert_eq!((ended.state(), ended.late.len()), (DelegationState::Completed, 0), "{ended:?}");
    }
    assert!(ran.values().all(|times| *times == 1));
    // An offer that did not arrive in time is made once more, and what nobody had accepted is given back first.
    let all = two.b.backend().federation.list_delegations(ListDelegationsRequest::default()).await.unwrap();
    let accepted = |d: &Delegation| d.attempts.iter().any(|attempt| attempt.accepted.is_some());
    let begun = all.into_inner().delegations.into_iter().filter(accepted).count();
    assert_eq!(begun, TASKS, "one begun there for each here");
    assert_eq!((reserved(&two.a).await, reserved(&two.b).await), (0, 0));
    let mut told = 0;
    while told < TASKS {
        told += usize::from(boss.mail().await.0 == "delegation.completed");
    }
    assert!(boss.daemon.is_silent(Duration::from_millis(300)).await, "once each");
    assert_ne!(two.peers().await[0].last_error, "");
    let up = async || (two.peers().await[0].standing() == PeerStanding::Up).then_some(());
    eventually("the link is whole again", up).await;
}

#[tokio::test]
async fn what_a_cell_does_not_do_in_time_it_gives_back() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two::allowed(dir.path()).await;
    let mut boss = Worker::start(&two.a, "boss", &[], 0).await;
    let mut bert = Worker::start(&two.b, "bert", &["research"], 1).await;
    two.knows(1).await;
    let limits = DelegationLimits { offer: seconds(2), ..Default::default() };
    let id = boss.delegate(DelegateTaskRequest { limits: Some(limits), ..task("research") }).await;
    let (there, attempt) = bert.offer().await;
    let mut anna = Worker::start(&two.a, "anna", &["research"], 1).await;
    // It does not answer: its cell gives the task back, and only then somebody else has it.
    let offer = anna.offer().await;
    assert_eq!(offer.0, id);
    anna.answer(&offer, true).await;
    let found = look(&two.a, &id).await;
    assert_eq!((found.attempts.len(), found.attempts[0].assignee_id.as_str()), (2, "cell.b"));
    assert_eq!(found.attempts[0].state(), AttemptState::Lost);
    assert!(look(&two.b, &there).await.ended.is_some());
    assert_eq!(bert.answer(&(there, attempt), true).await, ReportOutcome::Late);
    // A delegator that does not want it any more is heard there too.
    let named = DelegateTaskRequest { to_orchestrator_id: "cell.b".into(), ..task("research") };
    two.knows(1).await;
    let id = boss.delegate(named).await;
    let offer = loop {
        let (kind, data) = bert.mail().await;
        if kind == "delegation.offered" {
            break (data["delegationId"].as_str().unwrap().to_owned(), 1);
        }
    };
    bert.answer(&offer, true).await;
    let cancel = CancelDelegationRequest { delegation_id: id.clone(), reason: "enough".into(), ..Default::default() };
    boss.calls.federation.cancel_delegation(cancel).await.unwrap();
    let cancelled = bert.mail_of("delegation.cancelled").await;
    assert_eq!(cancelled["delegationId"], offer.0.as_str());
    assert_eq!(ends(&two.b, &offer.0).await.state(), DelegationState::Cancelled);
}

#[tokio::test]
async fn an_attempt_is_one_task_however_often_and_in_whatever_words_it_is_offered() {
    let dir = tempfile::tempdir().unwrap();
    let two = Two::allowed(dir.path()).await;
    let mut bert = Worker::start(&two.b, "bert", &["research"], 2).await;
    // As cell a.
    let own = |file: &str| dir.path().join("a").join(file);
    let tls = json!({"certificate_file": own("federation.crt"), "key_file": own("federation.key")});
    let tls: TlsSettings = serde_json::from_value(tls).unwrap();
    let whom = KnownPeer {
        name: "b".into(),
        identity: "spiffe://b.example/waystation/federation".into(),
        ca_file: dir.path().join("b/ca.crt"),
    };
    let context = Context::of_host();
    let tls = tls.open_for("tests", &["h2"], &[whom], &context).unwrap();
    let reach = Reach { tls: Some(tls), ..Reach::default() };
    let channel = waystation_rpc::channel(&format!("https://{}", two.link.address), &reach).unwrap();
    let mut b = PeerServiceClient::new(channel);
    let id = || Some(PeerTask { organization_id: "dev".into(), task_id: "d-1.1".into() });
    let now = context.clock.now();
    let in_a_minute = timestamp_to(now.after(Duration::from_secs(60)));
    let offer = |value: &str| OfferTaskRequest {
        id: id(),
        task: Some(Task { id: "t-1".into(), ..Default::default() }),
        expire_time: Some(in_a_minute),
        context: vec![ContextEntry { name: "plan".into(), value: value.to_owned().into(), version: 0 }],
        ..Default::default()
    };
    for value in ["1", "1", "2"] {
        let view = b.offer_task(offer(value)).await.unwrap().into_inner().view.unwrap();
        assert_eq!(view.state(), DelegationState::Pending);
    }
    let offered = bert.offer().await;
    bert.answer(&offered, true).await;
    assert!(bert.daemon.is_silent(Duration::from_millis(300)).await, "one offer");
    // An offer to which nobody heard an answer is not taken from whoever has accepted it.
    let withdraw = |unless_accepted| WithdrawTaskRequest { id: id(), reason: "late".into(), unless_accepted };
    let view = b.withdraw_task(withdraw(true)).await.unwrap().into_inner().view.unwrap();
    assert_eq!(view.state(), DelegationState::Active);
    let view = b.withdraw_task(withdraw(false)).await.unwrap().into_inner().view.unwrap();
    assert_eq!(view.state(), DelegationState::Cancelled);
    // What was withdrawn before it came begins nothing, and neither does what came too late.
    let other = || Some(PeerTask { organization_id: "dev".into(), task_id: "d-2.1".into() });
    let before = WithdrawTaskRequest { id: other(), ..Default::default() };
    b.withdraw_task(before).await.unwrap();
    let view = b.offer_task(OfferTaskRequest { id: other(), ..offer("1") }).await.unwrap().into_inner().view.unwrap();
    assert_eq!(view.state(), DelegationState::Cancelled);
    let late = OfferTaskRequest {
        id: Some(PeerTask { organization_id: "dev".into(), task_id: "d-3.1".into() }),
        expire_time: Some(timestamp_to(now)),
        ..offer("1")
    };
    assert_eq!(b.offer_task(late).await.unwrap_err().message(), "its time is over");
    let unknown = OfferTaskRequest {
        id: Some(PeerTask { organization_id: "other".into(), task_id: "d-1.1".into() }),
        ..offer("1")
    };
    assert_eq!(b.offer_task(unknown).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    bert.mail_of("delegation.cancelled").await;
    assert!(bert.daemon.is_silent(Duration::from_millis(300)).await);
}

#[tokio::test]
async fn a_cell_does_what_it_grants_for_those_whom_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let serves = json!({"organization": "dev", "capabilities": ["testing"]});
    let two = Two::start(dir.path(), json!({"organization": "dev"}), serves).await;
    let boss = Worker::start(&two.a, "boss", &[], 0).await;
    let mut boss = boss;
    let _bert = Worker::start(&two.b, "bert", &["research", "testing"], 3).await;
    two.knows(3).await;
    let request = GetOrchestratorRequest { orchestrator_id: "cell.b".into(), ..Default::default() };
    let known = two.a.backend().federation.get_orchestrator(request).await.unwrap().into_inner().orchestrator.unwrap();
    let names: Vec<_> = known.orchestrator.unwrap().capabilities.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["testing"], "nothing else is shown");
    let id = boss.delegate(task("research")).await;
    assert_eq!(look(&two.a, &id).await.why_pending, "nobody of 1 registered has what it needs");
    // Named, without any capability: it is asked, and refuses.
    let named = DelegateTaskRequest {
        to_orchestrator_id: "cell.b".into(),
        required_capabilities: Vec::new(),
        ..task("research")
    };
    let id = boss.delegate(named).await;
    let refused = ends(&two.a, &id).await;
    assert_eq!(refused.state(), DelegationState::Rejected);
    assert!(refused.attempts[0].reason.contains("granted"), "{refused:?}");
    // Nobody takes a cell's name.
    let orchestrator = Orchestrator { orchestrator_id: "cell.b".into(), max_concurrent: 1, ..Default::default() };
    let register = RegisterOrchestratorRequest { orchestrator: Some(orchestrator), ..Default::default() };
    let refused = two.a.backend().federation.register_orchestrator(register).await.unwrap_err();
    assert!(refused.message().contains("must not begin with `cell.`"), "{}", refused.message());
}

#[tokio::test]
async fn a_cell_that_nobody_vouches_for_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [of_a, of_b, of_mallory] = ["a", "b", "mallory"].map(|name| {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        // The same names, by another authority.
        Authority::of_domain(&dir, if name == "b" { "b.example" } else { "a.example" })
    });
    let at_b = free();
    let to_a = peer("a", free(), &of_a, json!({"serves": [{"organization": "dev"}]}));
    let b = Cell::start_with(|options| options.cells = Some(config("b", at_b, &of_b, vec![to_a]))).await;
    let _bert = Worker::start(&b, "bert", &["research"], 1).await;
    let standing_of = async |authority: &Authority, vouched: &Authority| {
        let at_a = free();
        let to_b = peer("b", at_b, vouched, json!({"uses": [{"organization": "dev"}]}));
        let cell = Cell::start_with(|options| options.cells = Some(config("a", at_a, authority, vec![to_b]))).await;
        let tried = async || {
            let peers = cell.backend().federation.list_peers(ListPeersRequest {}).await.unwrap().into_inner().peers;
            let peer = peers.into_iter().next()?;
            (!peer.last_error.is_empty() || peer.standing() == PeerStanding::Up).then_some(peer)
        };
        eventually("it has tried", tried).await
    };
    let genuine = standing_of(&of_a, &of_b).await;
    assert_eq!(genuine.standing(), PeerStanding::Up, "{genuine:?}");
    let stranger = standing_of(&of_mallory, &of_b).await;
    assert_eq!((stranger.standing(), stranger.summaries.len()), (PeerStanding::Connecting, 0), "{stranger:?}");
    // And whoever it calls must be the one that it means.
    let wrong = standing_of(&of_a, &of_mallory).await;
    assert_eq!(wrong.standing(), PeerStanding::Connecting, "{wrong:?}");
}
