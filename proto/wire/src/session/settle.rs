//! What the client has said about messages, on its way to the store (rule 6).

use std::time::{Duration, Instant};

use waystation_domain::{AckRange, Charge, Lane, MessageId, MessageRef, Nack, Position, Reject};

use super::window::{Acked, Held};
use super::{CallFailed, Command, Session, SettleAnswer, SettleRequest};
use crate::frame::{Ack, AckStatus, FrameError, ServerFrame};

/// Items that may gather while a settlement is under way; then no more frames are taken.
const GATHERED: usize = 16_384;

/// One settlement is under way; the next one gathers.
#[derive(Debug, Default)]
pub(super) struct Settling {
    gathering: Gathered,
    /// Kept until the store has it.
    under_way: Option<Gathered>,
}

/// What goes to the store together.
#[derive(Clone, Debug, Default, PartialEq)]
struct Gathered {
    request: SettleRequest,
    /// Acks whose outcome their client wants to know.
    wanted: Vec<Wanted>,
}

/// An `ack_result` that waits for the store.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    reply_to: Option<String>,
    results: Vec<(MessageId, Judged)>,
}

/// Who says what became of an ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    /// The store, in its answer's order.
    ByStore,
    /// It is known here; told once the store has it.
    Here(AckStatus),
}

impl Gathered {
    fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.request == SettleRequest { fence: self.request.fence, ..Default::default() }
    }

    fn append(&mut self, then: Gathered) {
        let (first, then, wanted) = (&mut self.request, then.request, then.wanted);
        first.acks.extend(then.acks);
        first.ack_ids.extend(then.ack_ids);
        first.nacks.extend(then.nacks);
        first.rejects.extend(then.rejects);
        first.charges.extend(then.charges);
        first.confirm.extend(then.confirm);
        first.gap_mark = first.gap_mark.max(then.gap_mark);
        self.wanted.extend(wanted);
    }
}

impl Settling {
    fn ack(&mut self, position: Position) {
        let Position { epoch, lane, sequence } = position;
        let acks = &mut self.gathering.request.acks;
        // Acks usually come in the order of sending.
        if let Some(last) = acks.last_mut()
            && (last.epoch, last.lane, last.to + 1) == (epoch, lane, sequence)
        {
            last.to = sequence;
            return;
        }
        acks.push(AckRange { epoch, lane, from: sequence, to: sequence });
    }

    pub(super) fn charge(&mut self, position: Position, attempt: u32) {
        self.gathering.request.charges.push(Charge { position, attempt });
    }

    /// The fence has changed: acks are facts, everything else is not.
    pub(super) fn forget_fenced(&mut self) {
        let under_way = self.under_way.as_mut();
        for Gathered { request, .. } in [Some(&mut self.gathering), under_way].into_iter().flatten() {
            request.charges.clear();
            request.nacks.clear();
            request.rejects.clear();
        }
    }

    /// Whether more may gather.
    pub(super) fn has_room(&self) -> bool {
        let SettleRequest { acks, ack_ids, confirm, .. } = &self.gathering.request;
        acks.len() + ack_ids.len() + confirm.len() + self.gathering.wanted.len() < GATHERED
    }

    fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.gathering.is_empty()
    }

    /// Puts an unanswered settlement in front of what has gathered since.
    fn again(&mut self) {
        let Some(mut first) = self.under_way.take() else { return };
        first.append(std::mem::take(&mut self.gathering));
        self.gathering = first;
    }
}

impl Session {
    pub(super) fn take_ack(&mut self, reply_to: Option<String>, ack: Ack, now: Instant) {
        let Ack { ids, up_to, confirm } = ack;
        let too_far = up_to.iter().find(|(lane, sequence)| **sequence > self.lanes[*lane].sent).map(|(lane, _)| lane);
        if let Some(lane) = too_far {
            let field = Some(format!("payload.upTo.{}", lane.name()));
            let message = "is above what was sent on this connection".to_owned();
            return self.refuse(FrameError { reply_to, message, field }, now);
        }
        let mut results = Vec::new();
        for id in ids {
            let judged = self.take_ack_of(&id, confirm, now);
            if confirm {
                results.push((id, judged));
            }
        }
        for lane in Lane::ALL {
            for (id, held) in self.in_flight.take_up_to(lane, up_to[lane]) {
                self.acknowledged(&held, now);
                if confirm {
                    self.settling.gathering.request.confirm.push(MessageRef::Position(held.position));
                    results.push((id, Judged::ByStore));
                }
            }
        }
        if confirm {
            self.settling.gathering.wanted.push(Wanted { reply_to, results });
        }
        self.blocked = false;
        self.clock_after_answer(now);
    }

    fn acknowledged(&mut self, held: &Held, now: Instant) {
        self.settling.ack(held.position);
        self.note_time(held.position, now.saturating_duration_since(held.since));
    }

    fn note_time(&mut self, position: Position, took: Duration) {
        self.latency = Some(took);
        self.took.push((position, took));
    }

    fn take_ack_of(&mut self, id: &MessageId, confirm: bool, now: Instant) -> Judged {
        let which = match self.in_flight.acknowledge(id) {
            Acked::Entry(position, since) => {
                self.settling.ack(position);
                self.note_time(position, now.saturating_duration_since(since));
                MessageRef::Position(position)
            }
            Acked::Gaps(mark) => {
                self.settling.gathering.request.gap_mark = mark;
                return Judged::Here(AckStatus::Acked);
            }
            Acked::Gap => return Judged::Here(AckStatus::Acked),
            Acked::UnknownGap => return Judged::Here(AckStatus::Stale),
            // Sent on an earlier connection, or never: the store knows.
            Acked::Elsewhere => {
                self.settling.gathering.request.ack_ids.push(id.clone());
                MessageRef::Id(id.clone())
            }
        };
        if confirm {
            self.settling.gathering.request.confirm.push(which);
        }
        Judged::ByStore
    }

    /// Lets go of an entry that the client names; `None`: it has been refused.
    fn take_named(&mut self, reply_to: Option<String>, id: &MessageId, now: Instant) -> Option<Held> {
        let held = self.in_flight.take(id);
        if held.is_none() {
            self.refuse_unknown(reply_to, id, now);
        }
        held
    }

    fn refuse_unknown(&mut self, reply_to: Option<String>, id: &MessageId, now: Instant) {
        let message = if id.gap().is_some() { "is a gap" } else { "is not in flight on this connection" };
        let field = Some("payload.eventId".to_owned());
        self.refuse(FrameError { reply_to, message: message.into(), field }, now);
    }

    pub(super) fn take_nack(&mut self, reply_to: Option<String>, id: &MessageId, delay: Duration, now: Instant) {
        if let Some(Held { position, attempt, .. }) = self.take_named(reply_to, id, now) {
            self.settling.gathering.request.nacks.push(Nack { position, attempt, delay });
            self.blocked = false;
            self.clock_after_answer(now);
        }
    }

    pub(super) fn take_reject(&mut self, reply_to: Option<String>, id: &MessageId, reason: String, now: Instant) {
        if let Some(Held { position, .. }) = self.take_named(reply_to, id, now) {
            self.settling.gathering.request.rejects.push(Reject { position, reason });
            self.blocked = false;
            self.clock_after_answer(now);
        }
    }

    pub(super) fn take_extend(&mut self, reply_to: Option<String>, id: &MessageId, now: Instant) {
        match self.in_flight.find(id) {
            Some(position) => self.extend_clock(position, now),
            None => self.refuse_unknown(reply_to, id, now),
        }
    }

    pub(super) fn settle_next(&mut self) {
        if self.settling.under_way.is_some() || self.settling.is_idle() {
            return;
        }
        let mut gathered = std::mem::take(&mut self.settling.gathering);
        gathered.request.fence = self.fence;
        self.commands.push_back(Command::Settle(gathered.request.clone()));
        self.settling.under_way = Some(gathered);
    }

    /// The store has answered a settlement, or not.
    pub fn handle_settled(&mut self, settled: Result<SettleAnswer, CallFailed>, now: Instant) {
        match settled {
            Ok(answer) => {
                let wanted = self.settling.under_way.take().map(|gathered| gathered.wanted).unwrap_or_default();
                self.confirm(wanted, &answer.confirmed);
                if answer.fenced && self.fence > 0 {
                    self.compare_at = now;
                } else {
                    self.note_heads(&answer.heads, now);
                }
            }
            Err(_) => {
                self.settling.again();
                self.retry_at = Some(now + self.config.retry);
            }
        }
        self.step(now);
    }

    /// Messages have been acknowledged on another way: they are not in flight any more.
    pub fn handle_acknowledged(&mut self, ids: &[MessageId], now: Instant) {
        let mut mark = 0;
        for id in ids {
            match self.in_flight.acknowledge(id) {
                Acked::Gaps(position) => mark = position,
                Acked::Entry(..) | Acked::Gap | Acked::UnknownGap | Acked::Elsewhere => {}
            }
        }
        if mark > 0 {
            self.settling.gathering.request.gap_mark = mark;
        }
        self.blocked = false;
        self.clock_after_answer(now);
        self.step(now);
    }

    /// Tells what became of acks, now that the store has them.
    fn confirm(&mut self, wanted: Vec<Wanted>, confirmed: &[bool]) {
        let mut confirmed = confirmed.iter();
        for Wanted { reply_to, results } in wanted {
            let mut status = |judged| match judged {
                Judged::Here(status) => status,
                Judged::ByStore if confirmed.next() == Some(&true) => AckStatus::Acked,
                Judged::ByStore => AckStatus::Stale,
            };
            let results = results.into_iter().map(|(id, judged)| (id, status(judged))).collect();
            self.send(ServerFrame::AckResult { reply_to, results });
        }
    }

    /// Whether acks are on their way; their owner waits for them before it leaves.
    pub fn is_settling(&self) -> bool {
        !self.settling.is_idle()
    }
}
