//! The standing streams of routers.

use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use waystation_proto::common::v1::{Activity, ErrorReason};
use waystation_proto::gateway::v1::push::Hint as WireHint;
use waystation_proto::gateway::v1::termination::Reason;
use waystation_proto::gateway::v1::{DeliverRequest, DeliverResponse, Push as WirePush};
use waystation_rpc::convert::{activation_from, entry_from, feed_event_from, heads_from, required};
use waystation_rpc::{Fault, Watch};
use waystation_wire::{Ending, Hint, Push};

use crate::Parts;
use crate::registry::Event;

/// Answers that wait for a router. Activities that find no room are dropped; pings wait.
pub(crate) const ANSWERS: usize = 16;
/// Activities of one answer.
const TOGETHER: usize = 256;

type Answers = mpsc::Sender<Result<DeliverResponse, Status>>;

/// Serves a stream until it or the process ends.
pub(crate) fn serve(parts: &Parts, frames: Streaming<DeliverRequest>, answers: Answers) {
    let of_task = parts.clone();
    parts.context.lifecycle.spawn(async move {
        tokio::select! {
            () = take_in(&of_task, frames, answers) => {}
            () = of_task.context.lifecycle.stopping() => {}
        }
        // What the router had in hand may be lost.
        of_task.note_loss();
    });
}

impl Parts {
    /// Hints may have been lost: everything is compared with the store.
    pub(crate) fn note_loss(&self) {
        self.registry.send_all(|| Event::PossibleLoss);
        self.feeds.note_loss();
    }
}

async fn take_in(parts: &Parts, mut frames: Streaming<DeliverRequest>, answers: Answers) {
    parts.note_loss();
    let mut received = 0;
    let mut watch: Option<Watch> = None;
    loop {
        let frame = tokio::select! {
            frame = frames.message() => frame,
            Some(activities) = watched(&mut watch) => {
                report(&answers, received, activities, &mut watch);
                continue;
            }
        };
        let Ok(Some(frame)) = frame else { return };
        if frame.incarnation_id != parts.lease.incarnation().as_str() {
            let foreign = Fault::new(ErrorReason::GatewayExpired, "this gateway is another incarnation");
            return drop(answers.send(Err(foreign.into())).await);
        }
        if frame.wants_activity != watch.is_some() {
            watch = frame.wants_activity.then(|| parts.activities.watch());
        }
        received += frame.pushes.len() as u64;
        let is_ping = frame.pushes.is_empty() && frame.feeds.is_empty();
        for push in frame.pushes {
            match read(push) {
                Ok((session, push)) => parts.registry.push(&session, push),
                Err(fault) => tracing::error!("a router sent a hint that cannot be read: {fault:?}"),
            }
        }
        for push in frame.feeds {
            match push.events.into_iter().map(feed_event_from).collect() {
                Ok(events) => parts.feeds.push(&push.organization_id, events),
                Err(fault) => {
                    let fault: Fault = fault;
                    tracing::error!("a router sent an event that cannot be read: {fault:?}");
                }
            }
        }
        if frame.dropped {
            parts.note_loss();
        }
        let pong = DeliverResponse { received, ..DeliverResponse::default() };
        if is_ping && answers.send(Ok(pong)).await.is_err() {
            return;
        }
    }
}

/// What has happened here, if the router wants to know.
async fn watched(watch: &mut Option<Watch>) -> Option<Vec<Activity>> {
    let found = watch.as_mut()?.next(TOGETHER).await;
    Some(found.iter().map(|activity| Activity::clone(activity)).collect())
}

/// Tells a router; what it does not take in time is dropped and counted.
fn report(answers: &Answers, received: u64, activities: Vec<Activity>, watch: &mut Option<Watch>) {
    let Some(watch) = watch else { return };
    let (count, dropped) = (activities.len() as u64, watch.take_dropped());
    let answer = DeliverResponse { received, activities, dropped_activities: dropped };
    if answers.try_send(Ok(answer)).is_err() {
        watch.add_dropped(count + dropped);
    }
}

/// The session that a hint is for, and what it says.
fn read(push: WirePush) -> Result<(String, Push), Fault> {
    let fence = push.fence;
    let hint = match required("hint", push.hint)? {
        WireHint::Entry(entry) => Hint::Entry(entry_from(entry)?),
        WireHint::Heads(heads) => Hint::Heads(heads_from(Some(heads))),
        WireHint::Activation(activation) => Hint::Activated(activation_from(fence, activation)?),
        WireHint::Termination(termination) => Hint::Terminated(match termination.reason() {
            Reason::Unspecified | Reason::Superseded => Ending::Superseded,
            Reason::DuplicateIdentity => Ending::DuplicateIdentity,
        }),
    };
    Ok((push.session_id, Push { fence, hint }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use waystation_domain::{Activation, Epoch, Heads, Lane, PerLane, Position, ResumeVerdict, Subscriptions, Window};
    use waystation_proto::gateway::v1::Entry;
    use waystation_rpc::convert::position_to;
    use waystation_wire::{
        Allowance, ClientProfile, Command, FrameStamp, Opening, ServerFrame, Session, SessionConfig, json,
    };

    use super::*;

    const MESSAGES: u64 = 100;

    fn activation() -> Activation {
        let heads = Heads::default();
        Activation { fence: 1, epoch: Epoch::from_raw(7), marks: PerLane::default(), heads, gap_mark: 0 }
    }

    fn session() -> Session {
        let window = Window::LARGEST;
        let opening = Opening {
            activation: Some(activation()),
            verdict: ResumeVerdict::Fresh,
            subscriptions: Subscriptions::default(),
            feed_head: None,
            allowance: Allowance { window, messages: None, messages_announced: None },
        };
        let profile = ClientProfile {
            session: "s1".parse().unwrap(),
            auth_frame: None,
            resume: None,
            resume_feed: None,
            announces_client: false,
            knows_gaps: false,
        };
        Session::new(SessionConfig::default(), profile, opening, Default::default(), now())
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> std::time::Instant {
        std::time::Instant::now()
    }

    fn push(sequence: u64) -> WirePush {
        let position = Position { epoch: Epoch::from_raw(7), lane: Lane::Normal, sequence };
        let entry = Entry {
            position: Some(position_to(position)),
            message_id: waystation_domain::MessageId::composed(position).as_str().to_owned(),
            event_type: "message.received".into(),
            data: Bytes::from_static(br#"{"n":1}"#),
            attempt: 1,
            ..Entry::default()
        };
        WirePush { session_id: "s1".into(), fence: 1, hint: Some(WireHint::Entry(entry)) }
    }

    /// What comes from a router as bytes and leaves for the socket as text.
    fn carry(frame: Bytes, session: &mut Session, out: &mut Vec<u8>) -> u64 {
        let (now, mut sent) = (now(), 0);
        for push in DeliverRequest::decode(frame).unwrap().pushes {
            session.handle_push(read(push).unwrap().1, now);
            while let Some(command) = session.next_command() {
                if let Command::Send(frame @ ServerFrame::Event(_)) = command {
                    let stamp = FrameStamp { connection: 1, number: sent, now: Default::default() };
                    out.clear();
                    json::encode(&frame, stamp, out);
                    sent += u64::from(!out.is_empty());
                }
            }
        }
        sent
    }

    #[test]
    fn a_pushed_message_costs_few_allocations() {
        let pushes = |range: std::ops::RangeInclusive<u64>| {
            let request = DeliverRequest { pushes: range.map(push).collect(), ..DeliverRequest::default() };
            Bytes::from(request.encode_to_vec())
        };
        let mut session = session();
        // The first ones make what all others use.
        let mut out = Vec::new();
        carry(pushes(1..=MESSAGES), &mut session, &mut out);
        let frame = pushes(MESSAGES + 1..=2 * MESSAGES);
        let mut sent = 0;
        let counted = allocation_counter::measure(|| sent = carry(frame, &mut session, &mut out));
        assert_eq!(sent, MESSAGES);
        let each = counted.count_total as f64 / MESSAGES as f64;
        assert!(each <= 8.5, "{each} allocations a message");
    }
}
