//! What becomes due (rule 15).

use waystation_domain::{Lane, Timestamp};

use super::{Leaving, Mailbox};
use crate::limits;
use crate::mailbox::{ActivationNotice, ExitReason, Heads, HolderRef, Liveness, MailboxNews};

/// What a sweep found in one mailbox.
pub(in crate::embedded) struct MailboxSwept {
    pub(in crate::embedded) activated: Option<ActivationNotice>,
    pub(in crate::embedded) grown: Option<(HolderRef, Heads)>,
    pub(in crate::embedded) news: Option<MailboxNews>,
}

impl Mailbox {
    /// Lets go what has expired and is not in flight.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.expire_at_most(usize::MAX, now);
    }

    /// The same for so many: of the most urgent lanes, the oldest.
    fn expire_at_most(&mut self, most: usize, now: Timestamp) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let mut left = most;
        for lane in Lane::ALL {
            let entries = self.lanes[lane].entries.iter();
            let expired: Vec<u64> = entries
                .filter(|(sequence, entry)| entry.expires <= now && !self.in_flight(lane, **sequence))
                .map(|(sequence, _)| *sequence)
                .take(left)
                .collect();
            left -= expired.len();
            for sequence in expired {
                self.remove(lane, sequence, Leaving::Exit(ExitReason::Expired), now);
            }
        }
    }

    pub(in crate::embedded) fn sweep(&mut self, liveness: &Liveness, now: Timestamp) -> MailboxSwept {
        let exits = self.exits.head();
        self.expire_at_most(limits::EXPIRIES, now);
        self.ids.forget_old(now);
        let had_holder = self.sessions.holder().is_some();
        let activated = if had_holder { None } else { self.activate_next(liveness, now) };
        let nack_due = self.nacked.values().any(|time| *time <= now);
        let news = nack_due || self.exits.head() > exits;
        let grown = self.live_holder(liveness).filter(|_| had_holder && news).map(|h| (h, self.heads(now)));
        self.reckon_due(now);
        MailboxSwept { activated, grown, news: self.news(now) }
    }

    /// The next moment at which a sweep could change anything.
    fn reckon_due(&mut self, now: Timestamp) {
        self.reservation.take_if(|reservation| reservation.until <= now);
        let reservation = self.reservation.as_ref().map(|reservation| reservation.until);
        // A nacked entry that is due already has been told of; it waits for its reader.
        let nacks = self.nacked.values().copied().filter(|time| *time > now);
        let entries = self.lanes.iter().flat_map(|(lane, log)| log.entries.iter().map(move |entry| (lane, entry)));
        let waiting = entries.filter(|(lane, (sequence, _))| !self.in_flight(*lane, **sequence));
        let expiries = waiting.map(|(_, (_, entry))| entry.expires);
        self.due = expiries.chain(nacks).chain(reservation).chain(self.news_due(now)).min();
    }
}
