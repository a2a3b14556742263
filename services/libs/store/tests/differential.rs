//! The same random operations on the embedded store, which is the specification, and on a real Redis: every answer is
//! equal. Epochs are opaque, so those of the Redis are written as those of the model before comparing.
#![allow(clippy::unwrap_used, missing_docs)]

mod lives {
    pub mod credentials;
    pub mod federation;
    pub mod feeds;
    pub mod mailboxes;
    pub mod pair;
}

use lives::pair::Pair;
use proptest::prelude::*;

/// Lives that each test tries, unless PROPTEST_CASES says otherwise.
const CASES: u32 = 100;

fn config(share: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    ProptestConfig { cases: cases / share, failure_persistence: None, ..ProptestConfig::default() }
}

fn run(life: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(life);
}

proptest! {
    #![proptest_config(config(1))]
    #[test]
    fn mailboxes_live_alike(steps in prop::collection::vec(lives::mailboxes::step(), 1..140)) {
        run(async { lives::mailboxes::live(steps, Pair::on_one_server().await).await });
    }

    #[test]
    fn feeds_live_alike(steps in prop::collection::vec(lives::feeds::step(), 1..60)) {
        run(async { lives::feeds::live(steps, Pair::on_one_server().await).await });
    }

    #[test]
    fn federations_live_alike(steps in prop::collection::vec(lives::federation::step(), 1..80)) {
        run(async { lives::federation::live(steps, Pair::on_one_server().await).await });
    }

    #[test]
    fn credentials_live_alike(steps in prop::collection::vec(lives::credentials::step(), 1..40)) {
        run(async { lives::credentials::live(steps, Pair::on_one_server().await).await });
    }
}

proptest! {
    #![proptest_config(config(5))]
    #[test]
    fn mailboxes_live_alike_on_a_cluster(steps in prop::collection::vec(lives::mailboxes::step(), 1..100)) {
        run(async { lives::mailboxes::live(steps, Pair::on_a_cluster().await).await });
    }
}
