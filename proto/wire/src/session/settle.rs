//! What the client has said about messages, on its way to the store (rule 6).

use std::time::Instant;

use waystation_domain::{AckRange, Charge, MessageId, Position};

use super::window::Acked;
use super::{CallFailed, Command, Session, SettleAnswer, SettleRequest};

/// One settlement is under way; the next one gathers.
#[derive(Debug, Default)]
pub(super) struct Settling {
    gathering: SettleRequest,
    /// Kept until the store has it.
    under_way: Option<SettleRequest>,
}

impl Settling {
    fn ack(&mut self, ack: AckRange) {
        // Acks usually come in the order of sending.
        if let Some(last) = self.gathering.acks.last_mut()
            && (last.epoch, last.lane, last.to + 1) == (ack.epoch, ack.lane, ack.from)
        {
            last.to = ack.to;
            return;
        }
        self.gathering.acks.push(ack);
    }

    pub(super) fn charge(&mut self, position: Position, attempt: u32, fence: u64) {
        self.gathering.fence = fence;
        self.gathering.charges.push(Charge { position, attempt });
    }

    /// The fence has changed: acks are facts, charges are not.
    pub(super) fn forget_fenced(&mut self) {
        self.gathering.charges.clear();
        if let Some(under_way) = &mut self.under_way {
            under_way.charges.clear();
        }
    }

    fn is_idle(&self) -> bool {
        self.under_way.is_none()
            && self.gathering == SettleRequest { fence: self.gathering.fence, ..Default::default() }
    }

    /// Puts an unanswered settlement in front of what has gathered since.
    fn again(&mut self) {
        let Some(mut first) = self.under_way.take() else { return };
        let then = std::mem::take(&mut self.gathering);
        first.fence = first.fence.max(then.fence);
        first.acks.extend(then.acks);
        first.ack_ids.extend(then.ack_ids);
        first.charges.extend(then.charges);
        first.gap_mark = first.gap_mark.max(then.gap_mark);
        self.gathering = first;
    }
}

impl Session {
    pub(super) fn take_acks(&mut self, ids: Vec<MessageId>, now: Instant) {
        for id in ids {
            match self.in_flight.acknowledge(id) {
                Acked::Entry(range) => self.settling.ack(range),
                Acked::Gaps(mark) => self.settling.gathering.gap_mark = mark,
                Acked::Nothing => {}
                // Sent on an earlier connection, or never: the store knows.
                Acked::Elsewhere(id) if id.gap().is_none() => self.settling.gathering.ack_ids.push(id),
                Acked::Elsewhere(_) => {}
            }
        }
        self.blocked = false;
        self.clock_after_answer(now);
    }

    pub(super) fn settle_next(&mut self) {
        if self.settling.under_way.is_some() || self.settling.is_idle() {
            return;
        }
        let mut request = std::mem::take(&mut self.settling.gathering);
        request.fence = self.fence;
        self.settling.under_way = Some(request.clone());
        self.commands.push_back(Command::Settle(request));
    }

    /// The store has answered a settlement, or not.
    pub fn handle_settled(&mut self, settled: Result<SettleAnswer, CallFailed>, now: Instant) {
        match settled {
            Ok(answer) => {
                self.settling.under_way = None;
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

    /// Whether acks are on their way; their owner waits for them before it leaves.
    pub fn is_settling(&self) -> bool {
        !self.settling.is_idle()
    }
}
