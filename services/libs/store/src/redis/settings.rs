//! What a node must be before anything is written to it.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;

use crate::Durability;

/// Oldest version whose scripts have flags.
const OLDEST: (u64, u64) = (7, 0);

/// A node that must not be used, and why.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("it is version {0}; Waystation needs Redis 7.0 or Valkey 7.2 at least")]
    Version(String),
    #[error("its maxmemory-policy is {0}, which deletes mail; set noeviction")]
    Eviction(String),
    #[error("it promises {found:?}, but {wanted:?} is configured; see appendonly and appendfsync")]
    Durability { found: Durability, wanted: Durability },
    #[error("it would write without replicas; set min-replicas-to-write and min-replicas-max-lag")]
    Alone,
    #[error("it is a replica")]
    Replica,
}

/// What a node says of itself.
#[derive(Debug)]
pub(super) struct NodeInfo {
    pub(super) run_id: String,
    pub(super) durability: Durability,
    pub(super) cluster: bool,
    version: String,
    policy: String,
    replica: bool,
    /// It refuses writes while it has too few replicas.
    needs_replicas: bool,
}

impl NodeInfo {
    pub(super) async fn read(connection: &mut MultiplexedConnection) -> redis::RedisResult<NodeInfo> {
        let text: String = redis::cmd("INFO").query_async(connection).await?;
        // Managed services forbid CONFIG. What it would have said is then taken at its weakest.
        let fsync: HashMap<String, String> =
            redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(connection).await.unwrap_or_default();
        Ok(NodeInfo::parse(&text, fsync.get("appendfsync").map(String::as_str)))
    }

    fn parse(text: &str, appendfsync: Option<&str>) -> NodeInfo {
        let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let field = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
        let durability = match (field("aof_enabled").as_str(), appendfsync) {
            ("1", Some("always")) => Durability::Fsync,
            // `no` leaves it to the system when to write to the disk, but kill -9 loses nothing all the same.
            ("1", _) => Durability::PageCache,
            _ => Durability::Process,
        };
        NodeInfo {
            run_id: field("run_id"),
            durability,
            cluster: field("cluster_enabled") == "1",
            version: field("redis_version"),
            policy: field("maxmemory_policy"),
            replica: field("role") == "slave",
            // Only told by a node that was told to care.
            needs_replicas: fields.contains_key("min_slaves_good_slaves"),
        }
    }

    /// Refuses a node that would lose mail.
    pub(super) fn check(&self, wanted: Durability) -> Result<(), Unfit> {
        let mut numbers = self.version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if version < OLDEST {
            return Err(Unfit::Version(self.version.clone()));
        }
        if self.policy != "noeviction" {
            return Err(Unfit::Eviction(self.policy.clone()));
        }
        // A master that comes back empty would empty its replicas.
        let alone = if wanted == Durability::Replicated { Durability::PageCache } else { wanted };
        if self.durability < alone {
            return Err(Unfit::Durability { found: self.durability, wanted });
        }
        if self.replica {
            return Err(Unfit::Replica);
        }
        if wanted == Durability::Replicated && !self.needs_replicas { Err(Unfit::Alone) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nmaxmemory_policy:noeviction\r\n\
                        aof_enabled:1\r\nrole:master\r\ncluster_enabled:0\r\n";

    fn refused(text: &str, fsync: Option<&str>, wanted: Durability) -> Option<String> {
        NodeInfo::parse(text, fsync).check(wanted).err().map(|unfit| unfit.to_string())
    }

    #[test]
    fn a_node_is_taken_at_what_it_says() {
        assert_eq!(refused(GOOD, Some("always"), Durability::Fsync), None);
        assert_eq!(refused(GOOD, Some("everysec"), Durability::PageCache), None);
        assert_eq!(NodeInfo::parse(GOOD, None).durability, Durability::PageCache);
        assert_eq!(NodeInfo::parse(GOOD, None).run_id, "abc");
    }

    #[test]
    fn what_would_lose_mail_is_refused_by_its_name() {
        let of = |from: &str, to: &str| refused(&GOOD.replace(from, to), Some("everysec"), Durability::PageCache);
        assert!(of("7.0.15", "6.2.7").unwrap().contains("6.2.7"));
        assert!(of("noeviction", "allkeys-lru").unwrap().contains("allkeys-lru"));
        assert!(of("aof_enabled:1", "aof_enabled:0").unwrap().contains("Process"));
        assert!(of("role:master", "role:slave").unwrap().contains("replica"));
        let replicated = |text: &str| refused(text, Some("everysec"), Durability::Replicated);
        assert!(replicated(GOOD).unwrap().contains("min-replicas-to-write"));
        let careful = GOOD.replace("role:", "min_slaves_good_slaves:1\r\nrole:");
        assert_eq!(replicated(&careful), None);
        assert!(replicated(&careful.replace("aof_enabled:1", "aof_enabled:0")).unwrap().contains("appendonly"));
        assert!(refused(GOOD, Some("everysec"), Durability::Fsync).unwrap().contains("Fsync"));
    }
}
