//! Bells that ring when something of a mailbox has been acknowledged, for callers that wait for that.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tokio::sync::Notify;
use waystation_store::mailbox::MailboxKey;

/// Mailboxes share so many bells: whoever is woken for nothing looks at the store for nothing.
const BELLS: usize = 256;

pub(crate) struct Bells([Notify; BELLS]);

impl Default for Bells {
    fn default() -> Self {
        Bells(std::array::from_fn(|_| Notify::new()))
    }
}

impl Bells {
    /// The bell of a mailbox.
    pub(crate) fn of(&self, mailbox: &MailboxKey) -> &Notify {
        let mut hasher = DefaultHasher::new();
        mailbox.hash(&mut hasher);
        &self.0[usize::try_from(hasher.finish() % BELLS as u64).unwrap_or(0)]
    }
}
