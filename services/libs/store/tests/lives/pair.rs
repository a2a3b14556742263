//! Two stores that live the same life.

use std::fmt::Debug;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use waystation_domain::{Epoch, Timestamp};
use waystation_store::{Config, RedisConfig, Store, connect, open};
use waystation_test_redis::{RedisCluster, RedisServer};

/// The model's only epoch.
pub const EPOCH: u64 = 7;

pub struct Pair {
    pub model: Store,
    pub redis: Store,
    pub now: Timestamp,
    /// Epochs of the Redis that stand for the model's.
    pub epochs: Vec<Epoch>,
}

impl Pair {
    /// The model and one server.
    pub async fn on_one_server() -> Pair {
        // Cases follow each other and begin from nothing; tests that run at once have databases of their own.
        static SERVER: OnceLock<RedisServer> = OnceLock::new();
        let server = SERVER.get_or_init(|| RedisServer::start(Default::default()));
        thread_local!(static DATABASE: u8 = {
            static NEXT: AtomicU8 = AtomicU8::new(0);
            NEXT.fetch_add(1, Ordering::Relaxed)
        });
        let url = format!("{}/{}", server.url(), DATABASE.with(|number| *number));
        let mut connection = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
        redis::cmd("FLUSHDB").exec(&mut connection).unwrap();
        Pair::over(&url).await
    }

    /// The model and a cluster, which only one test uses.
    pub async fn on_a_cluster() -> Pair {
        static CLUSTER: OnceLock<RedisCluster> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(RedisCluster::start);
        cluster.flush();
        Pair::over(&cluster.url()).await
    }

    async fn over(url: &str) -> Pair {
        let redis = connect(&RedisConfig::of(url), 99).await.unwrap();
        let model = open(&Config::Memory, EPOCH).unwrap();
        Pair { model, redis, now: Timestamp::from_millis(1_700_000_000_000), epochs: Vec::new() }
    }

    /// Both answers are one; answers the model's.
    pub fn same<T: Debug>(&self, what: &dyn Debug, model: T, redis: T) -> T {
        let expected = format!("{model:?}");
        let mut found = format!("{redis:?}");
        for epoch in &self.epochs {
            found = found.replace(&epoch.to_string(), &Epoch::from_raw(EPOCH).to_string());
        }
        assert_eq!(found, expected, "Redis (left) and the model disagree on {what:?}");
        model
    }
}
