//! Lives of feeds.

use std::time::Duration;

use proptest::prelude::*;
use waystation_domain::MessageId;
use waystation_store::feed::*;

use super::pair::Pair;

#[derive(Clone, Debug)]
pub enum Step {
    Publish { organization: u8, events: Vec<(Option<u8>, usize)>, most: u64, bytes: u64, gone: bool },
    Read { organization: u8, after: u64, most: usize, bytes: u64 },
    Interest { gateway: u8, organization: u8, flag: bool },
    Pass { seconds: u64 },
    Sweep,
}

pub fn step() -> impl Strategy<Value = Step> {
    let event = (prop::option::of(0..6u8), 2..60usize);
    prop_oneof![
        6 => (0..2u8, prop::collection::vec(event, 0..5), 1..12u64, 20..300u64, any::<bool>()).prop_map(
            |(organization, events, most, bytes, gone)| Step::Publish { organization, events, most, bytes, gone }
        ),
        4 => (0..3u8, 0..20u64, 0..8usize, 0..200u64)
            .prop_map(|(organization, after, most, bytes)| Step::Read { organization, after, most, bytes }),
        2 => (0..2u8, 0..3u8, any::<bool>())
            .prop_map(|(gateway, organization, flag)| Step::Interest { gateway, organization, flag }),
        2 => (1..40u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Sweep),
    ]
}

fn organization(number: u8) -> waystation_domain::OrganizationId {
    format!("org-{number}").parse().unwrap()
}

fn event((id, size): (Option<u8>, usize)) -> NewEvent {
    NewEvent {
        id: id.map(|id| MessageId::from_caller(&format!("e-{id}")).unwrap()),
        event_type: "invoice.paid".parse().unwrap(),
        channel: size.is_multiple_of(3).then(|| "c1".parse().unwrap()),
        trace: None,
        sender: None,
        audience: Audience::default(),
        data: vec![b' '; size].into(),
    }
}

pub async fn live(steps: Vec<Step>, mut pair: Pair) {
    for step in steps {
        let (model, redis, now) = (&pair.model.feeds, &pair.redis.feeds, Some(pair.now));
        match &step {
            Step::Publish { organization: number, events, most, bytes, gone } => {
                let publish = Publish {
                    organization: organization(*number),
                    events: events.iter().copied().map(event).collect(),
                    retention: Retention { events: *most, bytes: *bytes, age: Duration::from_secs(60) },
                    gone: gone.then(|| "g0".parse().unwrap()).into_iter().collect(),
                };
                let answers = (model.publish(publish.clone(), now).await, redis.publish(publish, now).await);
                let published = answers.1.as_ref().unwrap().outcomes.iter().flatten();
                let epochs: Vec<_> = published.map(|published| published.position.epoch).collect();
                pair.epochs.extend(epochs);
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::Read { organization: number, after, most, bytes } => {
                let read = ReadFeed { organization: organization(*number), after: *after, most: *most, bytes: *bytes };
                let answers = (model.read_feed(read.clone(), now).await, redis.read_feed(read, now).await);
                let epochs: Vec<_> =
                    answers.1.as_ref().unwrap().extent.epochs.iter().map(|(epoch, _)| *epoch).collect();
                pair.epochs.extend(epochs);
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::Interest { gateway, organization: number, flag } => {
                let interest = Interest {
                    incarnation: format!("g{gateway}").parse().unwrap(),
                    address: "http://g".into(),
                    organizations: vec![(organization(*number), *flag)],
                };
                let answers =
                    (model.set_interest(interest.clone(), now).await, redis.set_interest(interest, now).await);
                let known = answers.1.as_ref().unwrap().iter().flat_map(|extent| &extent.epochs);
                let epochs: Vec<_> = known.map(|(epoch, _)| *epoch).collect();
                pair.epochs.extend(epochs);
                pair.same(&step, answers.0, answers.1).unwrap();
            }
            Step::Pass { seconds } => pair.now = pair.now.after(Duration::from_secs(*seconds)),
            Step::Sweep => {
                let answers = (model.sweep_feeds(now).await, redis.sweep_feeds(now).await);
                pair.same(&step, answers.0, answers.1).unwrap();
            }
        }
    }
}
