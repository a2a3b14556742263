//! The Redis store passes the conformance suite, on one server and on a cluster of three masters.
#![allow(clippy::unwrap_used, missing_docs)]

use waystation_store::{RedisConfig, Store, connect};
use waystation_test_redis::RedisServer;

async fn single() -> Store {
    connect(&RedisConfig::of(&RedisServer::shared()), 7).await.unwrap()
}

mod one_server {
    waystation_store::conformance_suite!(super::super::single().await);
}

mod cluster {
    use std::sync::OnceLock;

    use tokio::sync::{Mutex, MutexGuard};
    use waystation_store::{RedisConfig, Store, connect};
    use waystation_test_redis::RedisCluster;

    /// The cluster serves one test at a time, each from nothing.
    async fn alone() -> MutexGuard<'static, RedisCluster> {
        static CLUSTER: OnceLock<Mutex<RedisCluster>> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(|| Mutex::new(RedisCluster::start())).lock().await;
        cluster.flush();
        cluster
    }

    async fn open(cluster: &RedisCluster) -> Store {
        connect(&RedisConfig::of(&cluster.url()), 7).await.unwrap()
    }

    macro_rules! on_the_cluster {
        () => {
            waystation_store::conformance_suite!({
                let cluster = super::alone().await;
                let store = super::open(&cluster).await;
                (store, cluster)
            });
        };
    }
    on_the_cluster!();
}
