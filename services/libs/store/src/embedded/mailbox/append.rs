//! Accepting a message (rules 1, 2 and 14).

use waystation_domain::{Epoch, Lane, Position, Timestamp};

use super::ids::Known;
use super::{Leaving, Mailbox, Resident};
use crate::limits;
use crate::mailbox::{
    AppendMessage, AppendRefused, Appended, ContentDigest, ExitReason, IfOffline, Liveness, MailboxLimits,
    MessageState, Overflow, Route, Window,
};

impl Mailbox {
    pub(in crate::embedded) fn append(
        &mut self,
        message: AppendMessage,
        liveness: &Liveness,
        generation: Epoch,
        now: Timestamp,
    ) -> Result<Appended, AppendRefused> {
        self.ensure_epoch(generation);
        self.ids.forget_old(now);
        let content = message.id.as_ref().map(|_| ContentDigest::of(&message));
        if let Some(known) = message.id.as_ref().and_then(|id| self.ids.get(id)) {
            return self.repeated(known, content, liveness);
        }
        let live = self.live_holder(liveness);
        if message.if_offline == IfOffline::Fail && live.is_none() {
            return Err(AppendRefused::Offline);
        }
        self.make_room(&message, now)?;

        let lane = message.lane;
        let size = message.data.len() as u64;
        let sequence = self.lanes[lane].head + 1;
        let expires = now.after(message.time_to_live.min(limits::TIME_TO_LIVE));
        if let (Some(id), Some(content)) = (&message.id, content) {
            self.ids.insert(id.clone(), Known { lane, sequence, content });
        }
        let entry = Resident {
            id: message.id,
            event_type: message.event_type,
            channel: message.channel,
            trace: message.trace,
            sender: message.sender,
            data: message.data,
            accepted: now,
            expires,
            attempt: 1,
        };
        let log = &mut self.lanes[lane];
        let at_head = log.sent == log.head;
        log.head = sequence;
        log.entries.insert(sequence, entry);
        self.count += 1;
        self.bytes += size;
        self.due_by(expires);

        let route = if at_head && self.holder_takes_push(lane, liveness) {
            self.lanes[lane].sent = sequence;
            Route::Push
        } else {
            Route::Behind
        };
        let position = Position { epoch: generation, lane, sequence };
        let holder = self.live_holder(liveness);
        let state = match &holder {
            Some(_) => MessageState::Dispatched { attempt: 1 },
            None => MessageState::Queued,
        };
        Ok(Appended { position, state, duplicate: false, holder, route })
    }

    fn repeated(
        &self,
        known: Known,
        content: Option<ContentDigest>,
        liveness: &Liveness,
    ) -> Result<Appended, AppendRefused> {
        if Some(known.content) != content {
            return Err(AppendRefused::IdReused);
        }
        let position = self.position(known.lane, known.sequence).ok_or(AppendRefused::IdReused)?;
        Ok(Appended {
            position,
            state: self.state(position),
            duplicate: true,
            holder: self.live_holder(liveness),
            route: Route::Behind,
        })
    }

    /// Whether the mailbox with its newcomer is within the holder's window.
    fn holder_takes_push(&self, lane: Lane, liveness: &Liveness) -> bool {
        let Some(holder) = self.sessions.holder() else { return false };
        let extra = if lane == Lane::Critical { Window::CRITICAL_EXTRA } else { 0 };
        let window = holder.window;
        !liveness.is_draining(&holder.incarnation)
            && !liveness.is_gone(&holder.incarnation)
            && self.count <= (window.entries + extra) as usize
            && self.bytes <= window.bytes
    }

    fn make_room(&mut self, message: &AppendMessage, now: Timestamp) -> Result<(), AppendRefused> {
        let size = message.data.len() as u64;
        let fits = |count: usize, bytes: u64, MailboxLimits { entries, bytes: most, .. }: MailboxLimits| {
            count < entries && bytes + size <= most
        };
        if fits(self.count, self.bytes, message.limits) {
            return Ok(());
        }
        if message.limits.overflow == Overflow::RefuseNewest {
            return Err(AppendRefused::Full);
        }
        let mut victims = Vec::new();
        let (mut count, mut bytes) = (self.count, self.bytes);
        let lanes = Lane::ALL.into_iter().rev().take_while(|lane| *lane >= message.lane);
        for (lane, (sequence, entry)) in lanes.flat_map(|lane| self.lanes[lane].entries.iter().map(move |e| (lane, e)))
        {
            if victims.len() == limits::EVICTIONS || fits(count, bytes, message.limits) {
                break;
            }
            if !self.in_flight(lane, *sequence) {
                count -= 1;
                bytes -= entry.data.len() as u64;
                victims.push((lane, *sequence));
            }
        }
        if !fits(count, bytes, message.limits) {
            return Err(AppendRefused::Full);
        }
        for (lane, sequence) in victims {
            self.remove(lane, sequence, Leaving::Exit(ExitReason::Overflowed), now);
        }
        Ok(())
    }
}
