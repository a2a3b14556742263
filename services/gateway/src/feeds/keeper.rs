//! Compares feeds with the store, tells it where subscribers are, and lets go what nobody wants.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Feeds;
use super::feed::Feed;

/// What no push told is found so often.
const EVERY: Duration = Duration::from_secs(30);
/// Several doubts in a short time are one.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs until the process stops.
pub(super) fn start(feeds: &Feeds) {
    let feeds = feeds.clone();
    let lifecycle = feeds.0.shared.context.lifecycle.clone();
    lifecycle.clone().spawn(async move {
        loop {
            let doubted = tokio::select! {
                () = feeds.0.doubt.notified() => true,
                () = tokio::time::sleep(EVERY) => false,
                () = lifecycle.stopping() => return,
            };
            if doubted {
                tokio::time::sleep(PAUSE).await;
            }
            // Calls of one round are joined.
            join_all(feeds.all().iter().map(Arc::clone).map(Feed::compare)).await;
            let unwanted = feeds.take_unwanted();
            let calls = &feeds.0.shared.calls;
            join_all(unwanted.into_iter().map(|organization| calls.lose_interest(organization))).await;
        }
    });
}
