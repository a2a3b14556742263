//! What daemons say of themselves.

use std::time::Duration;

use bytes::Bytes;
use waystation_domain::{ReportedPresence, ReportedStatus};

use super::World;
use crate::limits;
use crate::report::*;

fn silent(world: &World) -> Report {
    Report {
        mailbox: world.key(),
        heartbeat: false,
        status: None,
        message: None,
        presence: None,
        presence_text: None,
        metrics: None,
    }
}

async fn say(world: &World, report: Report) -> Changed {
    let changed = world.store.reports.report(vec![report], world.at()).await.unwrap();
    assert_eq!(changed.len(), 1);
    changed[0]
}

async fn view(world: &World) -> ReportView {
    world.store.reports.reported(&world.key(), world.at()).await.unwrap()
}

pub async fn what_a_daemon_says_is_kept_until_it_says_otherwise(mut world: World) {
    assert_eq!(view(&world).await, ReportView::default());
    let busy =
        Report { status: Some(ReportedStatus::Busy), message: Some("so much \"to\" do".into()), ..silent(&world) };
    say(&world, Report { heartbeat: true, ..busy }).await;
    let first = world.now;
    world.pass(Duration::from_secs(5));
    let away = Report { presence: Some(ReportedPresence::Away), presence_text: Some("lunch".into()), ..silent(&world) };
    say(&world, away).await;
    let expected = ReportView {
        status: Some(ReportedStatus::Busy),
        message: "so much \"to\" do".into(),
        presence: Some(ReportedPresence::Away),
        presence_text: "lunch".into(),
        heartbeat: Some(first),
        ..ReportView::default()
    };
    assert_eq!(view(&world).await, expected);
    say(&world, Report { status: Some(ReportedStatus::Idle), heartbeat: true, ..silent(&world) }).await;
    let status = Some(ReportedStatus::Idle);
    let expected = ReportView { status, message: String::new(), heartbeat: Some(world.now), ..expected };
    assert_eq!(view(&world).await, expected);
    // Others are not touched.
    let other = crate::mailbox::MailboxKey { orchestrator: "another".parse().unwrap(), ..world.key() };
    assert_eq!(world.store.reports.reported(&other, world.at()).await.unwrap(), ReportView::default());
}

pub async fn a_report_tells_what_it_has_changed(world: World) {
    let changed = |status, presence| Changed { status, presence };
    let busy = Report { status: Some(ReportedStatus::Busy), heartbeat: true, ..silent(&world) };
    assert_eq!(say(&world, busy.clone()).await, changed(true, false));
    assert_eq!(say(&world, busy.clone()).await, changed(false, false));
    assert_eq!(say(&world, Report { message: Some("why".into()), ..busy.clone() }).await, changed(true, false));
    let away = Report { presence: Some(ReportedPresence::Away), ..silent(&world) };
    assert_eq!(say(&world, away.clone()).await, changed(false, true));
    let both = Report { status: Some(ReportedStatus::Idle), presence_text: Some("lunch".into()), ..away };
    assert_eq!(say(&world, both).await, changed(true, true));
    // Many at once are answered in their order.
    let other = |name: &str| crate::mailbox::MailboxKey { orchestrator: name.parse().unwrap(), ..world.key() };
    let of = |name: &str| Report { mailbox: other(name), ..busy.clone() };
    let many: Vec<Report> = ["o-a", "o-b", "o-a", "o-c", "o-d", "o-b"].map(of).into();
    let answers = world.store.reports.report(many, world.at()).await.unwrap();
    let news: Vec<bool> = answers.iter().map(|one| one.status).collect();
    assert_eq!(news, [true, true, false, true, true, false]);
}

pub async fn the_newest_metrics_of_a_day_are_kept(mut world: World) {
    let metrics = |n: usize| Bytes::from(format!(r#"{{"queueDepth":{n}}}"#));
    for n in 0..limits::METRICS + 5 {
        say(&world, Report { metrics: Some(metrics(n)), ..silent(&world) }).await;
        world.pass(Duration::from_secs(60));
    }
    let kept = view(&world).await.metrics;
    assert_eq!(kept.len(), limits::METRICS);
    assert_eq!((&kept[0].1, &kept[99].1), (&metrics(5), &metrics(104)));
    world.pass(limits::METRICS_AGE - Duration::from_secs(60));
    let left = view(&world).await.metrics;
    assert_eq!(left.len(), 1, "the others are older than a day");
    assert_eq!(left[0].1, metrics(104));
}

pub async fn another_daemon_registers_when_the_first_is_silent(mut world: World) {
    let store = world.store.reports.clone();
    let register = async |world: &World, instance: &str| {
        let info = Bytes::from(format!(r#"{{"host":"{instance}"}}"#));
        world.store.reports.register(&world.key(), instance.parse().unwrap(), info, world.at()).await.unwrap()
    };
    for _ in 0..2 {
        assert_eq!(register(&world, "i1").await, Registered::Yes, "a repeat is harmless");
    }
    assert_eq!(register(&world, "i2").await, Registered::Another);
    world.pass(limits::REGISTRATION_SILENCE);
    say(&world, Report { heartbeat: true, ..silent(&world) }).await;
    world.pass(limits::REGISTRATION_SILENCE);
    assert_eq!(register(&world, "i2").await, Registered::Another, "its heartbeat was heard");
    world.pass(Duration::from_millis(1));
    assert_eq!(register(&world, "i2").await, Registered::Yes);
    let known = view(&world).await.registration.unwrap();
    assert_eq!((known.instance.as_str(), &known.info[..], known.at), ("i2", &br#"{"host":"i2"}"#[..], world.now));
    let leave =
        async |instance: &str| store.unregister(&world.key(), &instance.parse().unwrap(), world.at()).await.unwrap();
    assert!(!leave("i1").await, "it is not registered any more");
    assert!(leave("i2").await);
    assert!(!leave("i2").await);
    assert_eq!(register(&world, "i3").await, Registered::Yes);
}
