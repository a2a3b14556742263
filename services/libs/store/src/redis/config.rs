//! Which Redis to use, and how it is configured.

use std::fmt;

use serde::Deserialize;

use crate::{Durability, limits};

/// Which Redis to use.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/database]` or `rediss://…`: one server, or some nodes of a cluster.
    pub urls: Vec<String>,
    /// A Redis that promises less is refused: process, page_cache or fsync.
    pub durability: Durability,
    /// Number of partitions, 1 to 1,024; fixed by the first process that uses the Redis.
    pub partitions: usize,
}

impl Default for RedisConfig {
    fn default() -> Self {
        RedisConfig { urls: Vec::new(), durability: Durability::PageCache, partitions: limits::PARTITIONS }
    }
}

impl RedisConfig {
    /// The Redis of a URL, whatever it promises. Several nodes of a cluster are separated by commas.
    pub fn of(url: &str) -> RedisConfig {
        let urls = url.split(',').map(|url| url.trim().to_owned()).collect();
        RedisConfig { urls, durability: Durability::Process, ..RedisConfig::default() }
    }
}

/// Without passwords.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RedisConfig { urls, durability, partitions } = self;
        let bare = |url: &String| url.rsplit_once('@').map_or(url.clone(), |(_, rest)| rest.to_owned());
        f.debug_struct("RedisConfig")
            .field("urls", &urls.iter().map(bare).collect::<Vec<_>>())
            .field("durability", durability)
            .field("partitions", partitions)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let config = RedisConfig::of("redis://user:secret@10.0.0.1:6379, redis://user:secret@10.0.0.2:6379");
        let shown = format!("{config:?}");
        assert!(!shown.contains("secret") && shown.contains("10.0.0.2:6379"), "{shown}");
    }
}
