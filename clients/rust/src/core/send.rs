//! Messages of this daemon on their way.

use std::time::{Duration, Instant};

use waystation_domain::MessageId;
use waystation_wire::client::{Outbound, Refused, SendAck};

use super::{Core, Moment, Pending, Ticket};
use crate::error::SendError;
use crate::journal::{Kept, Record};
use crate::outgoing::Outgoing;

/// First wait after a message was refused for now; it doubles.
const REFUSED: Duration = Duration::from_millis(250);
/// Longest.
const REFUSED_MOST: Duration = Duration::from_secs(30);
/// So often a full mailbox is tried; it would hold up what is for others.
const FULL_TRIES: u32 = 5;

impl Core {
    pub(super) fn enqueue(&mut self, id: MessageId, outgoing: Outgoing, ticket: Ticket) {
        if self.settings.displace_beyond.is_some_and(|most| self.outbox.len() >= most) {
            let most = self.outbox.len();
            match self.outbox.displace(outgoing.lane) {
                Some(displaced) => {
                    self.record(|| Record::Settled(displaced.id.clone()));
                    displaced.ticket.answer(Err(SendError::Displaced(displaced.id)));
                }
                None => return ticket.answer(Err(SendError::QueueFull(most))),
            }
        }
        let kept = self.keeps_state.then(|| Kept::new(&id, &outgoing));
        match self.outbox.push(id.clone(), outgoing, ticket) {
            Ok(()) => self.actions.records.extend(kept.map(Record::Queued)),
            Err(ticket) => ticket.answer(Err(SendError::AlreadyWaiting(id))),
        }
    }

    pub(super) fn flush_sends(&mut self, now: Moment) {
        if self.paused.is_some() {
            return;
        }
        while let Some(waiting) = self.outbox.next(now.instant) {
            let Outgoing { to, event_type, data, lane, time_to_live, .. } = &waiting.outgoing;
            let frame = Outbound::Send {
                to,
                event_type: event_type.as_ref().map(|event_type| event_type.as_str()),
                data,
                priority: lane.name(),
                message_id: &waiting.id,
                ttl_ms: time_to_live.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            };
            self.frames += 1;
            self.actions.frames.push(waystation_wire::client::encode(&frame, &self.frames.to_string(), now.wall));
            self.pending.insert(self.frames, Pending::Send(waiting.id.clone()));
        }
    }

    pub(super) fn accepted(&mut self, ack: SendAck, now: Moment) {
        let Some(waiting) = self.outbox.settle(&ack.id) else { return };
        self.record(|| Record::Settled(ack.id.clone()));
        let latency = waiting.sent.map(|sent| now.instant.saturating_duration_since(sent));
        self.watch.accepted(latency);
        waiting.ticket.answer(Ok(ack));
    }

    pub(super) fn send_refused(&mut self, id: &MessageId, refused: Refused, now: Moment) {
        self.watch.failed();
        let is_full = refused.reason.as_deref() == Some("MAILBOX_FULL");
        let passes = matches!(refused.code.as_str(), "RATE_LIMITED" | "INTERNAL_ERROR");
        let refusals = self.outbox.refused(id);
        if passes && !(is_full && refusals >= FULL_TRIES) {
            let wait = REFUSED.saturating_mul(1 << refusals.saturating_sub(1).min(16)).min(REFUSED_MOST);
            self.outbox.again(id);
            return self.pause(now.instant + wait);
        }
        if let Some(waiting) = self.outbox.settle(id) {
            self.record(|| Record::Settled(id.clone()));
            waiting.ticket.answer(Err(SendError::Refused(refused)));
        }
    }

    pub(super) fn pause(&mut self, until: Instant) {
        self.paused = Some(self.paused.map_or(until, |paused| paused.max(until)));
    }

    /// A message that is not answered in time makes the connection suspect; after three times that it is given up.
    pub(super) fn look_at_sends(&mut self, now: Instant) {
        let Some(sent) = self.outbox.oldest_sent() else { return self.watch.late(false) };
        let waited = now.saturating_duration_since(sent);
        self.watch.late(waited >= self.settings.message_timeout);
        if waited >= self.settings.message_timeout * 3 {
            self.hang_up(crate::error::Disconnect::Silent(waited));
        }
    }
}

impl super::Outbox<Ticket> {
    /// How often it has been refused, this time included.
    fn refused(&mut self, id: &MessageId) -> u32 {
        self.get_mut(id).map_or(0, |waiting| {
            waiting.ticket.refusals += 1;
            waiting.ticket.refusals
        })
    }
}
