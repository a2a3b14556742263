//! Rules 8, 9, 10, 12 and 18.

use std::collections::BTreeSet;
use std::time::Duration;

use waystation_domain::{Lane, PerLane, Subscriptions, Timestamp};

use super::World;
use super::world::{foreign_epoch, session_id};
use crate::limits;
use crate::mailbox::*;

pub async fn the_first_session_holds_the_mailbox(world: World) {
    let first = world.open("s1", "d1").await;
    let second = world.open("s2", "d2").await;
    assert_eq!(first.activation.unwrap().fence, 1);
    assert_eq!(second.activation, None);
    let deaf = OpenSession { reads_mail: false, ..world.session("s3", "d3") };
    world.try_open(deaf).await.unwrap();
    assert_eq!(world.close("s1").await.unwrap().holder.session, session_id("s2"), "s3 may not read mail");
}

pub async fn a_daemon_displaces_itself_and_keeps_the_role(world: World) {
    world.open("s1", "d1").await;
    world.open("s2", "d2").await;
    let third = world.open("s3", "d1").await;
    assert_eq!(third.activation.unwrap().fence, 2);
    let [displaced] = &third.displaced[..] else { panic!("one is displaced") };
    assert_eq!((displaced.session.as_str(), displaced.because), ("s1", DisplacedBecause::Superseded));
    assert_eq!(world.close("s1").await, None, "the old connection's end does not touch the new one");
    assert_eq!(world.view().await.holder, Some(session_id("s3")));
}

pub async fn there_are_at_most_five_sessions(world: World) {
    for n in 0..5 {
        world.open(&format!("s{n}"), &format!("d{n}")).await;
    }
    assert_eq!(world.try_open(world.session("s5", "d5")).await, Err(OpenRefused::TooManySessions));
    assert!(world.try_open(world.session("s6", "d3")).await.is_ok(), "displaced ones do not count");
    world.close("s0").await;
    assert!(world.try_open(world.session("s5", "d5")).await.is_ok());
}

pub async fn sessions_of_a_dead_gateway_do_not_count(mut world: World) {
    for n in 0..5 {
        world.open(&format!("s{n}"), &format!("d{n}")).await;
    }
    world.gateway("g2").await;
    world.liveness.gone.push("g1".parse().unwrap());
    let elsewhere = OpenSession { incarnation: "g2".parse().unwrap(), ..world.session("s5", "d5") };
    let opened = world.try_open(elsewhere).await.unwrap();
    assert_eq!(opened.activation.unwrap().fence, 2);
    assert!(opened.displaced.is_empty());
}

pub async fn the_newest_of_the_rest_follows_a_holder_that_ends(world: World) {
    for n in 1..=3 {
        world.open(&format!("s{n}"), &format!("d{n}")).await;
    }
    let notice = world.close("s1").await.unwrap();
    assert_eq!((notice.holder.session.as_str(), notice.holder.fence), ("s3", 2));
    assert_eq!(world.close("s2").await, None);
    assert_eq!(world.close("s3").await, None, "nobody is left");
}

pub async fn an_older_fence_reads_and_nacks_nothing(mut world: World) {
    world.fill(Lane::Normal, 1).await;
    let old = world.open("s1", "d1").await.activation.unwrap().fence;
    let entry = world.read("s1", old).await.entries.remove(0);
    world.open("s2", "d1").await;
    let read = world.reading("s1", old);
    assert_eq!(world.try_read(read).await, Err(Refused::SessionUnknown));
    let read = world.reading("s2", old);
    assert_eq!(world.try_read(read).await, Err(Refused::NotHolder));
    let nacks = vec![super::nack(&entry, Duration::ZERO)];
    let settled = world.settle(Settlement { nacks, ..world.settlement("s1", old) }).await;
    assert!(settled.fenced);
    assert_eq!(settled.heads.next_due, None);
}

pub async fn a_lease_that_ended_cannot_be_revived(mut world: World) {
    assert_eq!(world.gateway("g1").await, Renewed::Live);
    world.pass(limits::LEASE);
    assert_eq!(world.gateway("g1").await, Renewed::Expired);
    assert_eq!(world.try_open(world.session("s1", "d1")).await, Err(OpenRefused::IncarnationExpired));
    let never = OpenSession { incarnation: "g9".parse().unwrap(), ..world.session("s1", "d1") };
    assert_eq!(world.try_open(never).await, Err(OpenRefused::IncarnationExpired));
}

pub async fn a_sweep_hands_the_mailboxes_of_a_dead_gateway_on(mut world: World) {
    world.open("s1", "d1").await;
    world.pass(Duration::from_secs(10));
    world.gateway("g2").await;
    let elsewhere = OpenSession { incarnation: "g2".parse().unwrap(), ..world.session("s2", "d2") };
    world.try_open(elsewhere).await.unwrap();
    world.pass(Duration::from_secs(5));
    let gone: Vec<bool> =
        world.store.mailboxes.incarnations(world.at()).await.unwrap().iter().map(|info| info.gone).collect();
    assert_eq!(gone, [true, false]);
    let swept = world.sweep().await;
    assert_eq!(swept.activated[0].holder.session, session_id("s2"));
    assert_eq!(world.store.mailboxes.incarnations(world.at()).await.unwrap().len(), 1);
    assert_eq!(world.store.mailboxes.locate(&session_id("s1")).await.unwrap(), None);
}

pub async fn a_drained_role_waits_for_its_daemon(mut world: World) {
    world.open("s1", "d1").await;
    world.open("s2", "d2").await;
    assert_eq!(world.close_as("s1", false, true).await, None);
    assert_eq!(world.open("s3", "d3").await.activation, None);
    let back = world.open("s4", "d1").await;
    assert_eq!(back.activation.unwrap().fence, 2);
    world.close_as("s4", false, true).await;
    world.pass(limits::DRAIN_RESERVATION);
    assert_eq!(world.sweep().await.activated[0].holder.session, session_id("s3"), "the newest of the rest");
}

pub async fn two_instances_that_keep_displacing_each_other_both_end(mut world: World) {
    world.gateway("g1").await;
    let instance = |world: &World, n: usize| OpenSession {
        instance: Some(if n.is_multiple_of(2) { "even" } else { "odd" }.parse().unwrap()),
        ..world.session(&format!("s{n}"), "d1")
    };
    for n in 0..4 {
        world.try_open(instance(&world, n)).await.unwrap();
        world.pass(Duration::from_secs(1));
    }
    let refused = world.try_open(instance(&world, 4)).await;
    let Err(OpenRefused::DuplicateIdentity(displaced)) = refused else { panic!("{refused:?}") };
    assert_eq!(displaced[0].because, DisplacedBecause::DuplicateIdentity);
    assert_eq!(world.presence().await, Presence::Reconnecting);
    world.pass(limits::DISPLACEMENT_PERIOD);
    world.gateway("g2").await;
    let later = OpenSession { incarnation: "g2".parse().unwrap(), ..instance(&world, 6) };
    assert!(world.try_open(later).await.is_ok());
}

pub async fn a_silent_holder_yields_to_one_that_lives(world: World) {
    world.open("s1", "d1").await;
    let silent = |idle| SessionReport { idle: Duration::from_secs(idle), ..world.report("s1") };
    assert!(world.compare(silent(60)).await.activated.is_empty(), "there is nobody else");
    world.open("s2", "d2").await;
    assert!(world.compare(silent(34)).await.activated.is_empty());
    let compared = world.compare(silent(35)).await;
    assert_eq!(compared.activated[0].holder.session, session_id("s2"));
    assert_eq!(compared.results[0].unwrap().activation, None, "it does not hold the mailbox any more");
}

pub async fn whoever_is_not_heard_is_silent(world: World) {
    let is_silent =
        async || world.store.mailboxes.presence(&world.key(), &world.liveness, world.at()).await.unwrap().silent;
    assert!(!is_silent().await, "there is nobody");
    world.open("s1", "d1").await;
    let heard = |session: &str, idle| SessionReport { idle: Duration::from_secs(idle), ..world.report(session) };
    world.compare(heard("s1", 34)).await;
    assert!(!is_silent().await);
    world.compare(heard("s1", 35)).await;
    assert!(is_silent().await);
    world.open("s2", "d2").await;
    assert!(!is_silent().await, "another daemon is heard");
    world.compare(heard("s2", 40)).await;
    assert!(is_silent().await);
    world.compare(heard("s1", 0)).await;
    assert!(!is_silent().await);
}

pub async fn a_paused_holder_yields_at_once(world: World) {
    world.open("s1", "d1").await;
    let report = |status| SessionReport { status: Some(status), ..world.report("s1") };
    assert_eq!(world.compare(report(ReportedStatus::Paused)).await.activated, []);
    assert_eq!(world.view().await.holder, None);
    let compared = world.compare(report(ReportedStatus::Active)).await;
    assert_eq!(compared.activated[0].holder.fence, 2);
    world.open("s2", "d2").await;
    let compared = world.compare(report(ReportedStatus::Paused)).await;
    assert_eq!(compared.activated[0].holder.session, session_id("s2"));
}

pub async fn resume_points_are_judged_never_clamped(world: World) {
    world.fill(Lane::Normal, 5).await;
    let epoch = world.view().await.epoch;
    let judge = async |epoch, normal, session: &str| {
        let positions = PerLane::from_fn(|lane| if lane == Lane::Normal { normal } else { 0 });
        let resume = Some(ResumePoint { epoch, positions });
        world.gateway("g1").await;
        world.try_open(OpenSession { resume, ..world.session(session, "d1") }).await.unwrap().verdict
    };
    assert_eq!(judge(epoch, 5, "s1").await, ResumeVerdict::Resumed);
    assert_eq!(judge(epoch, 6, "s2").await, ResumeVerdict::PossiblyLost);
    assert_eq!(judge(Some(foreign_epoch()), 1, "s3").await, ResumeVerdict::PossiblyLost);
    assert_eq!(judge(Some(foreign_epoch()), 0, "s4").await, ResumeVerdict::StoreRestarted);
    assert_eq!(judge(None, 1, "s5").await, ResumeVerdict::PossiblyLost);
    assert_eq!(world.open("s6", "d1").await.verdict, ResumeVerdict::Fresh);
}

pub async fn presence_tells_online_reconnecting_and_offline(mut world: World) {
    assert_eq!(world.presence().await, Presence::Offline);
    world.open("s1", "d1").await;
    assert_eq!(world.presence().await, Presence::Online);
    world.close("s1").await;
    assert_eq!(world.presence().await, Presence::Reconnecting);
    world.pass(limits::RECONNECTING);
    assert_eq!(world.presence().await, Presence::Offline);
    world.gateway("g2").await;
    let elsewhere = OpenSession { incarnation: "g2".parse().unwrap(), ..world.session("s2", "d1") };
    world.try_open(elsewhere).await.unwrap();
    world.close_as("s2", true, false).await;
    assert_eq!(world.presence().await, Presence::Offline, "it said goodbye");
}

pub async fn changes_of_presence_are_news_until_they_were_told(mut world: World) {
    let heard = async |world: &World| -> Vec<(bool, Timestamp)> {
        world.sweep().await.news.iter().filter_map(|(_, news)| news.presence).collect()
    };
    assert_eq!(heard(&world).await, []);
    let begun = world.now;
    world.open("s1", "d1").await;
    assert_eq!(heard(&world).await, [(true, begun)]);
    assert_eq!(heard(&world).await, [], "not at once again");
    world.pass(limits::NEWS_AGAIN);
    assert_eq!(heard(&world).await, [(true, begun)], "nobody has confirmed it");
    world.told(Some(true), 0).await;
    world.pass(limits::NEWS_AGAIN);
    assert_eq!(heard(&world).await, []);
    // A short interruption is not told.
    world.close("s1").await;
    world.pass(limits::RECONNECTING / 2);
    assert_eq!(heard(&world).await, []);
    world.open("s2", "d1").await;
    world.pass(limits::RECONNECTING);
    assert_eq!(heard(&world).await, []);
    world.gateway("g1").await;
    world.gateway("g2").await;
    let elsewhere = OpenSession { incarnation: "g2".parse().unwrap(), ..world.session("s3", "d1") };
    world.try_open(elsewhere).await.unwrap();
    world.close("s3").await;
    world.pass(limits::RECONNECTING);
    assert_eq!(heard(&world).await, [(false, world.now)]);
    world.told(Some(false), 0).await;
    world.pass(limits::NEWS_AGAIN);
    assert_eq!(heard(&world).await, []);
    world.gateway("g3").await;
    let elsewhere = OpenSession { incarnation: "g3".parse().unwrap(), ..world.session("s4", "d1") };
    world.try_open(elsewhere).await.unwrap();
    world.told(Some(true), 0).await;
    world.close_as("s4", true, false).await;
    assert_eq!(heard(&world).await, [(false, world.now)], "it said goodbye");
}

pub async fn subscriptions_belong_to_the_daemon(world: World) {
    world.open("s1", "d1").await;
    let wanted = Subscriptions::default().subscribe(&["message.*".parse().unwrap()], &BTreeSet::new()).unwrap();
    let subscribe = Subscribe { mailbox: world.key(), session: session_id("s1"), subscriptions: wanted.clone() };
    world.store.mailboxes.subscribe(subscribe.clone(), world.at()).await.unwrap().unwrap();
    world.close("s1").await;
    assert_eq!(world.open("s2", "d1").await.subscriptions, wanted);
    assert_eq!(world.open("s3", "d2").await.subscriptions, Subscriptions::default());
    let gone = world.store.mailboxes.subscribe(subscribe, world.at()).await.unwrap();
    assert_eq!(gone, Err(Refused::SessionUnknown));
}

pub async fn a_connection_opened_again_does_not_displace_a_newer_one(world: World) {
    let first = world.open("s1", "d1").await;
    let second = world.open("s2", "d1").await;
    assert!(second.born > first.born);
    let again = |session: &str, born| OpenSession { born: Some(born), ..world.session(session, "d1") };
    // Its gateway was stopped for a while; meanwhile the daemon has connected elsewhere.
    assert_eq!(world.try_open(again("s1", first.born)).await, Err(OpenRefused::Superseded));
    assert_eq!(world.try_open(again("s2", second.born)).await.unwrap().born, second.born, "a repeat");
    // The store has forgotten the newer one, and the older one was opened again first.
    world.close("s2").await;
    world.try_open(again("s1", first.born)).await.unwrap();
    let back = world.try_open(again("s2", second.born)).await.unwrap();
    assert_eq!(back.displaced[0].session.as_str(), "s1");
    assert!(world.open("s3", "d1").await.born > second.born);
}
