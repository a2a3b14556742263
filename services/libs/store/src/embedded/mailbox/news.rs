//! What subscribers are to be told of a mailbox: who is online, and what died. It is told until somebody confirms it.

use serde::{Deserialize, Serialize};
use waystation_domain::Timestamp;

use super::Mailbox;
use crate::limits;
use crate::mailbox::MailboxNews;

/// What subscribers know.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Told {
    online: bool,
    /// Number of the last dead letter.
    letters: u64,
}

impl Mailbox {
    /// When it counts as offline, if no session lives.
    fn offline_at(&self) -> Option<Timestamp> {
        let ended = self.sessions.ended()?;
        Some(if ended.goodbye { ended.at } else { ended.at.after(limits::RECONNECTING) })
    }

    /// What is so and has not been told.
    pub(super) fn news(&self, now: Timestamp) -> Option<MailboxNews> {
        let Told { online, letters } = self.told;
        let presence = match (online, self.offline_at()) {
            (false, None) => self.sessions.online_since().map(|since| (true, since)),
            (true, Some(at)) if at <= now => Some((false, at)),
            _ => None,
        };
        let head = self.dead.head();
        let is_news = presence.is_some() || head > letters;
        is_news.then_some(MailboxNews { presence, letters: (letters, head) })
    }

    /// When there will be something to tell, or to tell again.
    pub(super) fn news_due(&self, now: Timestamp) -> Option<Timestamp> {
        match self.news(now) {
            Some(_) => Some(now.after(limits::NEWS_AGAIN)),
            None => self.offline_at().filter(|_| self.told.online),
        }
    }

    /// Sessions have begun or ended.
    pub(super) fn presence_may_change(&mut self, now: Timestamp) {
        let due = match (self.told.online, self.offline_at()) {
            (false, None) => Some(now),
            (true, Some(at)) => Some(at),
            (false, Some(_)) | (true, None) => None,
        };
        if let Some(due) = due {
            self.due_by(due);
        }
    }

    pub(in crate::embedded) fn note_told(&mut self, online: Option<bool>, letters: u64) {
        if let Some(online) = online {
            self.told.online = online;
        }
        self.told.letters = letters.max(self.told.letters);
    }
}
