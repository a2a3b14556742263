//! After an append whose outcome is not known, the holder is told how far its mailbox has grown: if the store did take
//! the message, nobody has pushed it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use waystation_runtime::Context;
use waystation_store::MailboxStore;
use waystation_store::mailbox::MailboxKey;

use crate::gateways::Gateways;

/// Mailboxes that wait to be looked at. Beyond, their gateways find out when they compare heads.
const MOST: usize = 10_000;
/// Between attempts while the store does not answer.
const AGAIN: Duration = Duration::from_millis(250);

/// Looks at mailboxes once the store answers again. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Announcer(Arc<Inner>);

struct Inner {
    waiting: Mutex<BTreeSet<MailboxKey>>,
    more: Notify,
}

impl Announcer {
    pub(crate) fn start(store: Arc<dyn MailboxStore>, gateways: Gateways, context: &Context) -> Announcer {
        let announcer = Announcer(Arc::new(Inner { waiting: Mutex::default(), more: Notify::new() }));
        let (of_task, lifecycle) = (announcer.clone(), context.lifecycle.clone());
        context.lifecycle.spawn(async move {
            tokio::select! {
                () = of_task.run(&*store, &gateways) => {}
                () = lifecycle.stopping() => {}
            }
        });
        announcer
    }

    pub(crate) fn announce(&self, mailboxes: impl Iterator<Item = MailboxKey>) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for mailbox in mailboxes {
            if waiting.len() < MOST {
                waiting.insert(mailbox);
            }
        }
        self.0.more.notify_one();
    }

    fn next(&self) -> Option<MailboxKey> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first()
    }

    async fn run(&self, store: &dyn MailboxStore, gateways: &Gateways) {
        loop {
            let Some(mailbox) = self.next() else {
                self.0.more.notified().await;
                continue;
            };
            match store.holder(&mailbox, &gateways.liveness(), None).await {
                Ok(Some((holder, heads))) => gateways.push_heads(&holder, &heads),
                // Nobody holds it: whoever activates reads it.
                Ok(None) => {}
                Err(_) => {
                    self.announce(std::iter::once(mailbox));
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
