//! What operators and callers may see.

use waystation_domain::{Lane, MessageId, Position, Timestamp};

use super::{Mailbox, Resident};
use crate::limits;
use crate::mailbox::{
    Counters, DeadLetterView, Heads, HolderRef, LaneView, Liveness, MailboxView, MessageState, MessageView, Presence,
    PresenceView, ResidentView, SessionView, Totals, is_filling,
};

impl Mailbox {
    pub(in crate::embedded) fn view(&self) -> MailboxView {
        let entries = self.lanes.iter().flat_map(|(_, lane)| lane.entries.values());
        MailboxView {
            epoch: self.epoch(),
            lanes: self.lanes.map(|lane| LaneView { head: lane.head, depth: lane.entries.len() as u64 }),
            bytes: self.bytes,
            dead_letters: self.dead.len(),
            oldest: entries.map(|entry| entry.accepted).min(),
            counters: self.counters,
            holder: self.sessions.holder().map(|holder| holder.session.clone()),
        }
    }

    pub(in crate::embedded) fn residents(&self, (from, after): (Lane, u64), most: usize) -> Vec<ResidentView> {
        let lanes = Lane::ALL.into_iter().filter(|lane| *lane >= from);
        let following = lanes.flat_map(|lane| {
            let first = if lane == from { after.saturating_add(1) } else { 0 };
            self.lanes[lane].entries.range(first..).map(move |(sequence, resident)| (lane, *sequence, resident))
        });
        let view = |(lane, sequence, resident): (Lane, u64, &Resident)| {
            let (accepted, expires) = (resident.accepted, resident.expires);
            let in_flight = self.in_flight(lane, sequence);
            Some(ResidentView { entry: self.entry(lane, sequence)?, accepted, expires, in_flight })
        };
        following.filter_map(view).take(most).collect()
    }

    pub(in crate::embedded) fn dead_letters(&self, after: u64, most: usize) -> Vec<DeadLetterView> {
        self.dead.after(after, most)
    }

    pub(in crate::embedded) fn forget_dead_letters(&mut self, numbers: &[u64]) -> u64 {
        numbers.iter().filter(|number| self.dead.forget(**number)).count() as u64
    }

    /// Who is to be told of this mailbox, and what.
    pub(in crate::embedded) fn told(&self, liveness: &Liveness, now: Timestamp) -> Option<(HolderRef, Heads)> {
        Some((self.live_holder(liveness)?, self.heads(now)))
    }

    pub(in crate::embedded) fn totals(&self) -> Totals {
        let Counters { acknowledged, expired, dead, overflowed, purged } = self.counters;
        let resident: u64 = self.lanes.iter().map(|(_, lane)| lane.entries.len() as u64).sum();
        let accepted: u64 = self.lanes.iter().map(|(_, lane)| lane.head).sum();
        let accounted = acknowledged + expired + dead + overflowed + purged + resident;
        let oldest = self.lanes.iter().filter_map(|(_, lane)| lane.entries.values().next().map(|entry| entry.accepted));
        Totals {
            mailboxes: 1,
            resident,
            conservation_delta: accepted.abs_diff(accounted),
            filling: is_filling(resident, self.bytes).into(),
            oldest: oldest.min(),
        }
    }

    pub(in crate::embedded) fn message(&self, id: &MessageId) -> MessageView {
        let unknown = MessageView { state: MessageState::Unknown, position: None };
        let position = match self.ids.get(id) {
            Some(known) => self.position(known.lane, known.sequence),
            None => id.position(),
        };
        let Some(position) = position else { return unknown };
        let state = self.state(position);
        if state == MessageState::Unknown { unknown } else { MessageView { state, position: Some(position) } }
    }

    /// Rule 16.
    pub(super) fn state(&self, position: Position) -> MessageState {
        let Position { epoch, lane, sequence } = position;
        if self.owner(lane, sequence) != Some(epoch) {
            return MessageState::Unknown;
        }
        if let Some(entry) = self.lanes[lane].entries.get(&sequence) {
            return match self.in_flight(lane, sequence) {
                true => MessageState::Dispatched { attempt: entry.attempt },
                false => MessageState::Queued,
            };
        }
        if let Some(reason) = self.exits.reason(lane, sequence) {
            return MessageState::Exited(reason);
        }
        let known = sequence > self.exits.floor(lane) && sequence <= self.lanes[lane].head;
        if known && sequence > 0 { MessageState::Acknowledged } else { MessageState::Unknown }
    }

    pub(in crate::embedded) fn session_views(&self, liveness: &Liveness) -> Vec<SessionView> {
        let holder = self.sessions.holder().map(|holder| &holder.session);
        let live = self.sessions.live(liveness).rev();
        live.map(|session| SessionView {
            session: session.session.clone(),
            daemon: session.daemon.clone(),
            login: session.login.clone(),
            incarnation: session.incarnation.clone(),
            opened: session.opened,
            active: holder == Some(&session.session),
            status: session.status,
            metrics: session.metrics.clone(),
            subscriptions: self.sessions.subscriptions(&session.daemon),
        })
        .collect()
    }

    pub(in crate::embedded) fn presence(&self, liveness: &Liveness, now: Timestamp) -> PresenceView {
        let live: Vec<_> = self.sessions.live(liveness).collect();
        let active = self.sessions.holder().or(live.last().copied());
        let ended = self.sessions.ended();
        let presence = match (live.len(), ended) {
            (0, Some(ended)) if !ended.goodbye && now.since(ended.at) < limits::RECONNECTING => Presence::Reconnecting,
            // Its gateway died: nobody has seen the session end yet.
            (0, None) if self.sessions.online_since().is_some() => Presence::Reconnecting,
            (0, _) => Presence::Offline,
            _ => Presence::Online,
        };
        PresenceView {
            presence,
            sessions: live.len(),
            last_seen: ended.filter(|_| live.is_empty()).map(|ended| ended.at),
            status: active.filter(|_| !live.is_empty()).and_then(|session| session.status),
            silent: !live.is_empty() && live.iter().all(|session| session.idle >= limits::YIELD_AFTER),
        }
    }
}
