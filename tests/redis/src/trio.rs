//! A master with two replicas, watched by three sentinels.

use std::time::{Duration, Instant};

use crate::{RedisOptions, RedisServer};

/// Under which sentinels know the master.
pub const MASTER: &str = "waystation";
/// Sentinels that must agree.
const QUORUM: &str = "2";

/// Three servers, one of which is the master, and three sentinels.
#[derive(Debug)]
pub struct RedisTrio {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl RedisTrio {
    /// Starts all, and waits until replicas follow and sentinels know each other. The settings are for each server.
    pub fn start(settings: &[(&'static str, &str)]) -> RedisTrio {
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let options = RedisOptions { append_fsync: Some("everysec"), settings, ..RedisOptions::default() };
        let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start(options.clone())).collect();
        let port = servers[0].port().to_string();
        for replica in &servers[1..] {
            replica.command(&["REPLICAOF", "127.0.0.1", &port]);
        }
        let watching = RedisOptions { sentinel: true, ..RedisOptions::default() };
        let sentinels: Vec<RedisServer> = (0..3).map(|_| RedisServer::start(watching.clone())).collect();
        for sentinel in &sentinels {
            sentinel.command(&["SENTINEL", "MONITOR", MASTER, "127.0.0.1", &port, QUORUM]);
            for (name, value) in [("down-after-milliseconds", "1000"), ("failover-timeout", "5000")] {
                sentinel.command(&["SENTINEL", "SET", MASTER, name, value]);
            }
        }
        let trio = RedisTrio { servers, sentinels };
        let info = |server: &RedisServer, section: &str| -> String {
            redis::cmd("INFO").arg(section).query(&mut server.connect()).unwrap()
        };
        eventually("replicas follow and sentinels know each other", || {
            info(&trio.servers[0], "replication").contains("connected_slaves:2")
                && trio.servers[1..].iter().all(|one| info(one, "replication").contains("master_link_status:up"))
                && trio.sentinels.iter().all(|one| info(one, "sentinel").contains("slaves=2,sentinels=3"))
        });
        trio
    }

    /// URLs of the sentinels.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::url).collect()
    }

    /// The servers. The first was the master in the beginning.
    pub fn servers(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    /// Processes of the servers.
    pub fn pids(&self) -> Vec<u32> {
        self.servers.iter().map(RedisServer::pid).collect()
    }

    /// The number of the server that most sentinels call the master.
    pub fn master(&self) -> usize {
        let named = |sentinel: &RedisServer| -> String {
            let said: (String, String) = redis::cmd("SENTINEL")
                .arg("GET-MASTER-ADDR-BY-NAME")
                .arg(MASTER)
                .query(&mut sentinel.connect())
                .unwrap();
            said.1
        };
        let votes: Vec<String> = self.sentinels.iter().map(named).collect();
        let count = |server: &RedisServer| votes.iter().filter(|vote| **vote == server.port().to_string()).count();
        let (number, _) = self.servers.iter().enumerate().max_by_key(|(_, server)| count(server)).unwrap();
        number
    }

    /// Waits until another than this one is the master.
    pub fn await_another(&self, than: usize) -> usize {
        eventually("sentinels choose another master", || self.master() != than);
        self.master()
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
