//! What becomes due.

use serde::Deserialize;
use serde_json::json;
use waystation_domain::{IncarnationId, Timestamp};

use super::keys::{CREDENTIALS, Place, key_of};
use super::reply::{self, NoticeText};
use super::scripts::Script;
use super::{Args, Redis};
use crate::Unavailable;
use crate::mailbox::{IncarnationInfo, MailboxNews, NewsTold, Now, Sweep, Swept};

/// See `sweep.lua`.
#[derive(Deserialize)]
struct SweepText {
    handled: usize,
    #[serde(default)]
    activated: Vec<NoticeText>,
    #[serde(default)]
    grown: Vec<GrownText>,
    #[serde(default)]
    left: Vec<String>,
    #[serde(default)]
    news: Vec<NewsText>,
    more: bool,
}

#[derive(Deserialize)]
struct NewsText {
    mailbox: String,
    presence: Option<(u8, u64)>,
    letters: (u64, u64),
}

#[derive(Deserialize)]
struct GrownText {
    holder: String,
    heads: Vec<i64>,
}

impl Redis {
    pub(super) async fn note_news_told(&self, told: NewsTold, now: Now) -> Result<(), Unavailable> {
        let mut args = Args::default();
        args.push(told.online.map(|online| u8::from(online).to_string()).unwrap_or_default()).number(told.letters);
        self.run_on(&told.mailbox, Script::NoteTold, args, now).await?;
        Ok(())
    }

    /// Every partition is swept by a script of its own. Several routers may do so at once: whatever is due is done
    /// by the first that comes.
    pub(super) async fn sweep_all(&self, sweep: Sweep, now: Now) -> Result<Swept, Unavailable> {
        let gateways = self.gateway_table(now).await?;
        let gone: Vec<&IncarnationInfo> = gateways.iter().filter(|gateway| gateway.gone).collect();
        let names = |of: &[&IncarnationInfo]| -> Vec<String> { of.iter().map(|g| g.incarnation.to_string()).collect() };
        let draining: Vec<&IncarnationInfo> = gateways.iter().filter(|gateway| gateway.draining).collect();
        let ends: Vec<u64> = gone.iter().map(|gateway| gateway.lease_until.as_millis()).collect();
        let request = json!({
            "gone": names(&gone), "draining": names(&draining), "ends": ends, "limit": sweep.limit,
        });
        let request = request.to_string();
        let mut swept = Swept::default();
        let mut left: Vec<String> = Vec::new();
        // One after the other: what others ask of the node finds its turn in between.
        for partition in 0..self.places.partitions {
            let mut args = Args::default();
            args.text(&request);
            let text: SweepText = reply::json(self.run_in(partition, Script::Sweep, args, now).await?)?;
            swept.handled += text.handled;
            swept.more |= text.more;
            left.extend(text.left);
            for NewsText { mailbox, presence, letters } in text.news {
                let key = key_of(&mailbox).ok_or_else(|| reply::odd(&mailbox))?;
                let presence = presence.map(|(online, since)| (online == 1, Timestamp::from_millis(since)));
                swept.news.push((key, MailboxNews { presence, letters }));
            }
            for notice in text.activated {
                swept.activated.push(notice.read()?);
            }
            for grown in text.grown {
                swept.grown.push((reply::holder(&grown.holder)?, reply::heads(&grown.heads)?));
            }
        }
        let buried = gone.iter().map(|gateway| &gateway.incarnation);
        let buried: Vec<&IncarnationId> = buried.filter(|one| !left.iter().any(|left| left == one.as_str())).collect();
        for incarnation in buried {
            swept.handled += usize::from(self.forget_gateway(incarnation, now).await?);
        }
        let forgotten =
            self.run(Place::Credentials, Script::SweepCredentials, &[CREDENTIALS], Args::default(), now).await?;
        swept.handled += usize::try_from(reply::number(forgotten)?).unwrap_or(usize::MAX);
        Ok(swept)
    }
}
