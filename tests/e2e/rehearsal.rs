//! R12: a whole deployment behind a real Envoy is rolled process by process, as Kubernetes would, while messages flow.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use waystation_client::{Client, ConnectOptions, Event, Token};
use waystation_test_redis::RedisOptions;
use waystation_tests::fleet::Size;
use waystation_tests::load::{Habits, Load};
use waystation_tests::proxy::Envoy;
use waystation_tests::{Fleet, eventually};

/// Daemons that only stay connected.
const DAEMONS: usize = 120;
/// Of them, so many may move in any second: a twentieth.
const MOST_A_SECOND: usize = DAEMONS / 20;
const SECOND: Duration = Duration::from_secs(1);

/// When daemons left and came back.
#[derive(Default)]
struct Moves {
    left: Vec<Instant>,
    gaps: Vec<Duration>,
}

/// Most within any second.
fn most_a_second(moments: &[Instant]) -> usize {
    let within = |from: &Instant| moments.iter().filter(|at| (*from..*from + SECOND).contains(at)).count();
    moments.iter().map(within).max().unwrap_or(0)
}

async fn stay(fleet: &Fleet, number: usize, moves: &Arc<Mutex<Moves>>) -> Client {
    let name = format!("calm-{number}");
    let token = fleet.token(&name).await;
    let (moves, left) = (moves.clone(), Mutex::new(None::<Instant>));
    let client = ConnectOptions::new(&fleet.url(0), &name, "d1")
        .token_callback(move |_| {
            let token = Token::of_jwt(token.clone());
            async { Ok(token) }
        })
        .on_event(move |event| {
            let (mut left, mut moves) = (left.lock().unwrap(), moves.lock().unwrap());
            // Attempts that fail are the same gap.
            if matches!(event, Event::Disconnected { .. }) && left.is_none() {
                *left = Some(Instant::now());
                moves.left.push(Instant::now());
            } else if matches!(event, Event::Connected { .. }) {
                moves.gaps.extend(left.take().map(|left| left.elapsed()));
            }
        })
        .connect()
        .await
        .unwrap();
    client.connected().await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_rolled_at_noon() {
    let size = Size { auths: 2, routers: 2, gateways: 3, federations: 2 };
    let redis = RedisOptions { append_fsync: Some("everysec"), ..RedisOptions::default() };
    let mut fleet = Fleet::start_sized(redis, size).await;
    for gateway in &mut fleet.gateways {
        // As it is configured by default.
        gateway.configure("limits__drain_spread_seconds", "20");
        gateway.configure("process__stop_grace_seconds", "30");
        gateway.terminate().await;
        gateway.start().await;
    }
    let envoy = Envoy::before(&fleet.gateways).await;
    fleet.stand_behind(&envoy.address);
    let moves = Arc::new(Mutex::new(Moves::default()));
    let mut daemons = Vec::new();
    for number in 0..DAEMONS {
        daemons.push(stay(&fleet, number, &moves).await);
    }
    let load = Load::start(&fleet, Habits::default()).await;
    load.while_rolled(&mut fleet).await;
    load.more(60).await;
    eventually("everybody is back", async || {
        let moves = moves.lock().unwrap();
        (moves.left.len() == moves.gaps.len()).then_some(())
    })
    .await;
    let outcome = load.finish(&fleet).await;
    let moves = moves.lock().unwrap();
    let (most, longest) = (most_a_second(&moves.left), moves.gaps.iter().max().unwrap());
    let mut gaps = moves.gaps.clone();
    gaps.sort_unstable();
    eprintln!(
        "{} moves of {DAEMONS} daemons, at most {most} in a second; away {:?} in the middle, {longest:?} at most; {}",
        moves.left.len(),
        gaps[gaps.len() / 2],
        outcome.verdict
    );
    assert!(moves.left.len() >= DAEMONS, "every gateway was rolled");
    assert!(most <= MOST_A_SECOND, "{most} of {DAEMONS} in a second");
}
