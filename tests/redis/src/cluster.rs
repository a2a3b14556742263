//! A cluster of three masters.

use std::time::{Duration, Instant};

use crate::{RedisOptions, RedisServer};

const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// Three masters that share the slots.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes and waits until they agree.
    pub fn start() -> RedisCluster {
        let options = RedisOptions { cluster: true, ..RedisOptions::default() };
        let nodes: Vec<RedisServer> = SLOTS.iter().map(|_| RedisServer::start(options.clone())).collect();
        for (number, (node, (from, to))) in nodes.iter().zip(SLOTS).enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            node.command(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port().to_string()]);
        }
        let until = Instant::now() + Duration::from_secs(30);
        let agreed = |node: &RedisServer| {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut node.connect()).unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        while !nodes.iter().all(agreed) {
            assert!(Instant::now() < until, "the nodes of the cluster do not agree");
            std::thread::sleep(Duration::from_millis(20));
        }
        RedisCluster { nodes }
    }

    /// Its masters.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The URL of one of its nodes.
    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    /// Forgets everything.
    pub fn flush(&self) {
        for node in &self.nodes {
            node.command(&["FLUSHALL"]);
        }
    }

    /// Moves a slot with its keys to the node of a number, as an operator would.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let id =
            |node: &RedisServer| -> String { redis::cmd("CLUSTER").arg("MYID").query(&mut node.connect()).unwrap() };
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let (source_id, target_id, slot) = (id(source), id(target), slot.to_string());
        target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]);
        source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]);
        loop {
            let keys: Vec<String> =
                redis::cmd("CLUSTER").arg("GETKEYSINSLOT").arg(&slot).arg(10).query(&mut source.connect()).unwrap();
            if keys.is_empty() {
                break;
            }
            let port = target.port().to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            source.command(&migrate);
        }
        for node in [target, source] {
            node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]);
        }
    }
}
