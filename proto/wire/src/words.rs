//! Words that both formats use.

use std::time::Duration;

use waystation_domain::{ExitReason, FeedLoss, ResumeVerdict};

/// How entries left; `None`: the list of exits was trimmed.
pub(crate) fn left(reason: Option<ExitReason>) -> &'static str {
    match reason {
        Some(ExitReason::Expired) => "expired",
        Some(ExitReason::Dead) => "dead",
        Some(ExitReason::Overflowed) => "overflowed",
        Some(ExitReason::Purged) => "purged",
        None => "trimmed",
    }
}

/// Why events of a feed are not delivered.
pub(crate) fn feed_loss(loss: FeedLoss) -> &'static str {
    match loss {
        FeedLoss::Trimmed => "trimmed",
        FeedLoss::PossiblyLost => "possibly_lost",
    }
}

pub(crate) fn resumed(verdict: ResumeVerdict) -> bool {
    verdict == ResumeVerdict::Resumed
}

/// Why a client that remembers something is not resumed.
pub(crate) fn doubt(verdict: ResumeVerdict) -> Option<&'static str> {
    match verdict {
        ResumeVerdict::Fresh | ResumeVerdict::Resumed => None,
        ResumeVerdict::StoreRestarted => Some("store_restarted"),
        ResumeVerdict::PossiblyLost => Some("possibly_lost"),
    }
}

/// Seconds after which something surely holds again.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
