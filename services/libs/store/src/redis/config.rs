//! Which Redis to use, and how it is configured.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use redis::{ClientTlsConfig, TlsCertificates};

use crate::{Durability, OpenError, limits};

/// Which Redis to use.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/database]` or `rediss://…`: one server, or some nodes of a cluster.
    pub urls: Vec<String>,
    /// A Redis that promises less is refused: process, page_cache or fsync.
    pub durability: Durability,
    /// PEM: authorities that may vouch for it, with `rediss://`. `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM: the certificate that is shown to it, and its key. `None`: none.
    pub certificate_file: Option<PathBuf>,
    /// See above.
    pub key_file: Option<PathBuf>,
    /// Number of partitions, 1 to 1,024; fixed by the first process that uses the Redis.
    pub partitions: usize,
}

impl Default for RedisConfig {
    fn default() -> Self {
        RedisConfig {
            urls: Vec::new(),
            durability: Durability::PageCache,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            partitions: limits::PARTITIONS,
        }
    }
}

impl RedisConfig {
    /// The Redis of a URL, whatever it promises. Several nodes of a cluster are separated by commas.
    pub fn of(url: &str) -> RedisConfig {
        let urls = url.split(',').map(|url| url.trim().to_owned()).collect();
        RedisConfig { urls, durability: Durability::Process, ..RedisConfig::default() }
    }
}

impl RedisConfig {
    /// What connections are secured with, if anything beside the system's authorities.
    pub(super) fn certificates(&self) -> Result<Option<TlsCertificates>, OpenError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| OpenError::Io { action: "read", path: path.clone(), source })
        };
        let client_tls = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
            }
            (None, None) => None,
            _ => return Err(OpenError::Unfit("certificate_file and key_file belong together".to_owned())),
        };
        let root_cert = self.ca_file.as_ref().map(read).transpose()?;
        let any = client_tls.is_some() || root_cert.is_some();
        Ok(any.then_some(TlsCertificates { client_tls, root_cert }))
    }
}

/// Without passwords.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RedisConfig { urls, durability, partitions, .. } = self;
        let bare = |url: &String| url.rsplit_once('@').map_or(url.clone(), |(_, rest)| rest.to_owned());
        f.debug_struct("RedisConfig")
            .field("urls", &urls.iter().map(bare).collect::<Vec<_>>())
            .field("durability", durability)
            .field("partitions", partitions)
            .finish_non_exhaustive()
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
