//! Messages of the mailbox: handed out once, settled, acknowledged.

use std::time::Duration;

use waystation_domain::{MessageId, PerLane, Position};
use waystation_wire::client::{AckResult, GapNotice, Mail, Outbound};

use super::{Core, Moment, Pending, Verdict};
use crate::error::Disconnect;
use crate::event::Event;
use crate::inbox::Arrival;
use crate::journal::Record;

/// Most ids in one ack; a gateway takes 4,096.
const ACKED_TOGETHER: usize = 1_024;
/// How often the gateway is told that a message is still worked on; its clock runs out after 30 s (delivery, rule 7).
pub(super) const EXTEND: Duration = Duration::from_secs(10);
/// Longest reason of a rejection, in bytes.
const MAX_REASON: usize = 256;

impl Core {
    pub(super) fn mail(&mut self, mail: Mail, now: Moment) {
        self.link.reached(mail.position);
        self.watch.statistics.messages_received += 1;
        if self.draining {
            // It comes again, to whoever is here then.
            return;
        }
        match self.inbox.arrive(&mail, now.instant) {
            Arrival::New { in_doubt } => {
                let position = mail.position;
                self.record(|| Record::Begun(position));
                self.actions.handed.push((mail, in_doubt));
            }
            Arrival::Applied => {
                self.watch.statistics.duplicates_filtered += 1;
                self.acks.push(mail.id);
            }
            Arrival::InHand => self.watch.statistics.duplicates_filtered += 1,
            Arrival::Contradiction => {
                let Position { lane, sequence, .. } = mail.position;
                let what = format!("{} stands where another message stood, at {} {sequence}", mail.id, lane.name());
                self.hang_up(Disconnect::Contradiction(what));
            }
        }
    }

    pub(super) fn gap(&mut self, notice: GapNotice) {
        self.watch.statistics.gaps += 1;
        if let Some(span) = notice.span {
            self.inbox.memory.skip(span);
            if let Some(record) = Record::skipped(span) {
                self.record(|| record);
                self.link.reached_gap(span);
            }
        }
        if let Some(id) = &notice.id {
            self.acks.push(id.clone());
        } else {
            self.feeds.gap(&notice);
        }
        self.actions.events.push(Event::Gap(notice));
    }

    pub(super) fn settle(&mut self, position: Position, id: MessageId, verdict: Verdict, now: Moment) {
        match verdict {
            Verdict::Ack(done) => {
                self.apply(position);
                self.acks.push(id);
                self.actions.written.extend(done);
            }
            Verdict::Confirm(done) => {
                self.apply(position);
                if self.link.is_up() {
                    self.confirm(id, done, now);
                } else {
                    // A number of its own, so that a new connection asks.
                    self.expect(Pending::Confirm(id, done));
                }
            }
            Verdict::Nack(delay, mut reason) => {
                self.give_back(position);
                shorten(&mut reason);
                let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).min(3_600_000);
                self.verb("nack", &Outbound::Nack { event_id: &id, delay_ms, reason: &reason }, now);
            }
            Verdict::Reject(mut reason) => {
                self.give_back(position);
                shorten(&mut reason);
                let reason = if reason.is_empty() { "rejected" } else { &reason };
                self.verb("reject", &Outbound::Reject { event_id: &id, reason }, now);
            }
            Verdict::Extend => self.verb("extend", &Outbound::Extend { event_id: &id }, now),
        }
    }

    /// While the line is down the message comes again by itself.
    fn verb(&mut self, kind: &'static str, frame: &Outbound<'_>, now: Moment) {
        if self.link.is_up() {
            self.say(frame, now, Pending::Other(kind));
        }
    }

    fn apply(&mut self, position: Position) {
        self.inbox.apply(position);
        self.watch.statistics.acknowledged += 1;
        self.record(|| Record::Applied(position));
    }

    fn give_back(&mut self, position: Position) {
        self.inbox.give_back(position);
        self.record(|| Record::GivenBack(position));
    }

    pub(super) fn confirm(
        &mut self,
        id: MessageId,
        done: tokio::sync::oneshot::Sender<Result<bool, crate::Stopped>>,
        now: Moment,
    ) {
        let event_ids = [id.clone()];
        self.say(&Outbound::Ack { event_ids: &event_ids, confirm: true }, now, Pending::Confirm(id, done));
    }

    pub(super) fn ack_judged(&mut self, result: &AckResult, asked: Option<Pending>) {
        if let Some(Pending::Confirm(id, done)) = asked {
            let counted = result.results.iter().any(|(judged, counted)| *judged == id && *counted);
            done.send(Ok(counted)).ok();
        }
    }

    /// Acks that have gathered leave together; nothing waits for more.
    pub(super) fn flush_acks(&mut self, now: Moment) {
        let acks = std::mem::take(&mut self.acks);
        for event_ids in acks.chunks(ACKED_TOGETHER) {
            self.say(&Outbound::Ack { event_ids, confirm: false }, now, Pending::Other("ack"));
        }
        self.acks = acks;
        self.acks.clear();
    }

    pub(super) fn replayed(&mut self, heads: PerLane<u64>) {
        self.link.replayed(heads);
        self.actions.events.push(Event::Replayed);
    }

    /// Tells the gateway that the oldest message in hand is still worked on, unless that has taken too long.
    pub(super) fn extend_oldest(&mut self, now: Moment) {
        let Some((id, since)) = self.inbox.oldest() else { return };
        if now.instant.saturating_duration_since(*since) < self.settings.processing_limit {
            let id = id.clone();
            self.verb("extend", &Outbound::Extend { event_id: &id }, now);
        }
    }
}

/// To the length that the protocol allows.
fn shorten(reason: &mut String) {
    let end = (0..=MAX_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason.truncate(end.unwrap_or_default());
}
