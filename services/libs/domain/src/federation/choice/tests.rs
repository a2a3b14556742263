use super::*;

fn capability(name: &str) -> Capability {
    Capability { name: name.parse().unwrap(), version: None, level: None }
}

fn registration(name: &str, capabilities: &[&str]) -> Registration {
    Registration {
        id: name.parse().unwrap(),
        name: String::new(),
        region: "eu".into(),
        tier: String::new(),
        capabilities: capabilities.iter().map(|name| capability(name)).collect(),
        max_concurrent: 4,
        weight: 100,
        token_limit: Some(1_000),
    }
}

fn candidate(registration: &Registration) -> Candidate<'_> {
    Candidate { registration, reserved: 0, standing: Standing::Online, tokens_used: 0, errors: 0 }
}

const ANYBODY: Wanted<'static> = Wanted {
    to: None,
    capabilities: &[],
    region: "",
    tokens: 0,
    preferred: &[],
    excluded: &[],
    refused: &[],
    hops: &[],
    tried: &[],
    strategy: Strategy::LeastLoaded,
    affinity: "",
};

fn chosen(wanted: &Wanted<'_>, candidates: &[Candidate<'_>], turn: u64) -> String {
    let decision = choose(wanted, candidates.iter().copied(), (turn.wrapping_mul(7_919), turn), Timestamp::default());
    decision.chosen.map_or(String::new(), |chosen| chosen.to_string())
}

#[test]
fn each_reason_is_counted_and_told() {
    let registrations: Vec<_> = (0..9).map(|n| registration(&format!("o-{n}"), &["research"])).collect();
    let incapable = registration("o-x", &["testing"]);
    let mut all: Vec<_> = registrations.iter().map(candidate).collect();
    all[0].standing = Standing::Offline;
    all[1].standing = Standing::Draining;
    all[2].reserved = 4;
    all[3].tokens_used = 950;
    all.push(candidate(&incapable));
    let ids: Vec<_> = registrations.iter().map(|registration| registration.id.clone()).collect();
    let research = [capability("research")];
    let wanted = Wanted {
        capabilities: &research,
        tokens: 100,
        excluded: &ids[4..6],
        hops: &ids[6..7],
        refused: &ids[7..9],
        ..ANYBODY
    };
    let decision = choose(&wanted, all.iter().copied(), (0, 0), Timestamp::default());
    assert_eq!((decision.seen, &decision.chosen), (10, &None));
    assert_eq!(
        decision.to_string(),
        "0 free of those who have what it needs; 2 excluded; 1 handed it on already; 2 refused; 1 offline; \
         1 draining; 1 online without enough tokens; 1 online but full"
    );
    assert!(!decision.is_exhausted(), "some may come back");
    let elsewhere = Wanted { region: "us", ..ANYBODY };
    let decision = choose(&elsewhere, all.iter().copied(), (0, 0), Timestamp::default());
    assert_eq!(decision.count(Dismissal::OtherRegion), 10);
    assert_eq!(decision.dismissed[0].some.len(), NAMED);
    let nothing = [capability("ml-training")];
    let decision = choose(&Wanted { capabilities: &nothing, ..ANYBODY }, all, (0, 0), Timestamp::default());
    assert_eq!(decision.to_string(), "nobody of 10 registered has what it needs");
}

#[test]
fn strategies_differ_in_whom_they_take() {
    let specialist = registration("spec", &["research"]);
    let generalist = registration("gene", &["research", "testing", "analysis"]);
    let heavy = Registration { weight: 900, ..registration("heavy", &["research", "testing"]) };
    let mut all = [candidate(&specialist), candidate(&generalist), candidate(&heavy)];
    (all[0].reserved, all[1].reserved, all[2].reserved) = (2, 1, 3);
    let by = |strategy| Wanted { strategy, affinity: "customer-7", ..ANYBODY };
    assert_eq!(chosen(&by(Strategy::LeastLoaded), &all, 1), "gene");
    assert_eq!(chosen(&by(Strategy::CapabilityAware), &all, 1), "spec");
    assert_eq!(chosen(&by(Strategy::Weighted), &all, 1), "heavy");
    let turns: Vec<_> = (0..4).map(|turn| chosen(&by(Strategy::RoundRobin), &all, turn)).collect();
    assert_eq!(turns, ["gene", "heavy", "spec", "gene"]);
    let sticky = chosen(&by(Strategy::Sticky), &all, 1);
    assert!((0..50).all(|turn| chosen(&by(Strategy::Sticky), &all, turn) == sticky));
    let drawn: std::collections::BTreeSet<_> =
        (0..50).map(|turn| chosen(&by(Strategy::PowerOfTwo), &all, turn)).collect();
    assert!(!drawn.contains("heavy"), "the fullest of three never wins against another: {drawn:?}");
    assert_eq!(drawn.len(), 2, "{drawn:?}");
}

#[test]
fn an_unreliable_one_loses_by_weight() {
    let (good, bad) = (registration("good", &[]), registration("bad", &[]));
    let failing = Candidate { errors: 200, ..candidate(&bad) };
    let wanted = Wanted { strategy: Strategy::Weighted, ..ANYBODY };
    assert!((0..20).all(|turn| chosen(&wanted, &[candidate(&good), failing], turn) == "good"));
}

#[test]
fn the_preferred_the_untried_and_the_healthy_come_first_and_the_others_if_need_be() {
    let (anna, bert) = (registration("anna", &[]), registration("bert", &[]));
    let all = [candidate(&anna), Candidate { standing: Standing::Degraded, ..candidate(&bert) }];
    assert_eq!(chosen(&ANYBODY, &all, 3), "anna");
    let tried = [anna.id.clone()];
    assert_eq!(chosen(&Wanted { tried: &tried, ..ANYBODY }, &all, 3), "bert");
    assert_eq!(chosen(&Wanted { tried: &tried, ..ANYBODY }, &all[..1], 3), "anna", "there is nobody else");
    let preferred = [bert.id.clone()];
    assert_eq!(chosen(&Wanted { preferred: &preferred, ..ANYBODY }, &all, 3), "bert");
    let decision = choose(&ANYBODY, all, (0, 0), Timestamp::default());
    assert_eq!(decision.behind, 1, "who waits behind others is told too");
}

#[test]
fn ten_thousand_keep_ten_scores_and_equal_ones_share_the_work() {
    let registrations: Vec<_> = (0..10_000).map(|n| registration(&format!("o-{n}"), &["research"])).collect();
    for strategy in [Strategy::LeastLoaded, Strategy::PowerOfTwo, Strategy::Weighted, Strategy::RoundRobin] {
        let wanted = Wanted { strategy, ..ANYBODY };
        let drawn: std::collections::BTreeSet<_> = (0..20)
            .map(|turn| {
                let all = registrations.iter().map(candidate);
                let decision = choose(&wanted, all, (turn * 1_000_003, turn), Timestamp::default());
                assert!(decision.scores.len() <= SCORED);
                decision.chosen.unwrap()
            })
            .collect();
        assert!(drawn.len() > 15, "{strategy:?}: {drawn:?}");
    }
}
