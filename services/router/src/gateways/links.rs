//! Where streams tell how they fare, if anybody wants to know.

use tokio::sync::mpsc;
use waystation_domain::IncarnationId;
use waystation_runtime::Entropy;

use super::breaker::LinkNews;

/// News that wait to be told; more are let go of, and the log has them.
const QUEUE: usize = 1_024;

/// Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Links(Option<Teller>);

#[derive(Clone)]
struct Teller {
    /// Tells this router's streams from those of others.
    router: String,
    news: mpsc::Sender<LinkNews>,
}

impl Links {
    /// With what is to be told.
    pub(crate) fn open(entropy: &Entropy) -> (Links, mpsc::Receiver<LinkNews>) {
        let (news, receiver) = mpsc::channel(QUEUE);
        let router = format!("router-{:08x}", entropy.below(1 << 32));
        (Links(Some(Teller { router, news })), receiver)
    }

    /// How the stream to a gateway is called.
    pub(super) fn name_of(&self, gateway: &IncarnationId) -> String {
        let router = self.0.as_ref().map_or("router", |teller| teller.router.as_str());
        format!("{router}.gateway-{gateway}")
    }

    pub(super) fn tell(&self, news: Vec<LinkNews>) {
        let Some(teller) = &self.0 else { return };
        for news in news {
            teller.news.try_send(news).ok();
        }
    }
}
