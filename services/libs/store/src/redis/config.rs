//! Which Redis to use, and how it is configured.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use redis::{
    Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo, RedisError,
    TlsCertificates,
};

use super::sentinel::Sentinels;
use crate::{Durability, OpenError, limits};

/// Which Redis to use.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/database]` or `rediss://…`: one server, or some nodes of a cluster; or the
    /// sentinels that watch [`RedisConfig::sentinel_master`].
    pub urls: Vec<String>,
    /// Under which name sentinels know the master. `None`: there are none.
    pub sentinel_master: Option<String>,
    /// Who logs in. `None`: whom the URL names, if it does.
    pub username: Option<String>,
    /// A file with the password; read at the start. `None`: the URL's, if it has one.
    pub password_file: Option<PathBuf>,
    /// A Redis that promises less is refused: process, page_cache, fsync or replicated.
    pub durability: Durability,
    /// With `replicated`: how many replicas must have what was written before it is answered.
    pub replicas: u32,
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
            sentinel_master: None,
            username: None,
            password_file: None,
            durability: Durability::PageCache,
            replicas: 1,
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
    /// Where the Redis is, and how it is spoken to.
    pub(super) fn source(&self) -> Result<Source, OpenError> {
        let certificates = self.certificates()?;
        let info = |url: &String| connection_info(url, certificates.as_ref());
        let infos = self.urls.iter().map(info).collect::<Result<Vec<_>, RedisError>>();
        let infos = infos.map_err(|error| OpenError::Unfit(format!("urls: {error}")))?;
        let Some(first) = infos.first() else { return Err(unfit("urls: no Redis is given")) };
        if let Some(name) = self.sentinel_master.as_ref().filter(|name| !name.is_empty()) {
            // What URLs say of users and databases is for the sentinels.
            let settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
            let like = first.clone().set_redis_settings(self.with_login(settings)?);
            return Ok(Source::Sentinels(Arc::new(Sentinels::new(infos, name.clone(), like))));
        }
        let nodes = infos.into_iter().map(|info| {
            let settings = self.with_login(info.redis_settings().clone())?;
            Ok(info.set_redis_settings(settings))
        });
        Ok(Source::Nodes(nodes.collect::<Result<_, OpenError>>()?))
    }

    fn with_login(&self, settings: RedisConnectionInfo) -> Result<RedisConnectionInfo, OpenError> {
        let Some(file) = &self.password_file else {
            return if self.username.is_some() { Err(unfit("username: needs password_file")) } else { Ok(settings) };
        };
        if settings.username().is_some() || settings.password().is_some() {
            return Err(unfit("password_file: urls have a password already"));
        }
        let password = String::from_utf8(read(file)?).map_err(|_| unfit("password_file: is no text"))?;
        let settings = settings.set_password(password.trim_end_matches(['\r', '\n']));
        Ok(self.username.iter().fold(settings, |settings, name| settings.set_username(name)))
    }

    /// What connections are secured with, if anything beside the system's authorities.
    fn certificates(&self) -> Result<Option<TlsCertificates>, OpenError> {
        let client_tls = match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
            }
            (None, None) => None,
            _ => return Err(unfit("certificate_file and key_file belong together")),
        };
        let root_cert = self.ca_file.as_ref().map(read).transpose()?;
        let any = client_tls.is_some() || root_cert.is_some();
        Ok(any.then_some(TlsCertificates { client_tls, root_cert }))
    }
}

/// Where a Redis is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// One server, or some nodes of a cluster.
    Nodes(Vec<ConnectionInfo>),
    /// Wherever these say that the master is.
    Sentinels(Arc<Sentinels>),
}

fn read(path: &PathBuf) -> Result<Vec<u8>, OpenError> {
    std::fs::read(path).map_err(|source| OpenError::Io { action: "read", path: path.clone(), source })
}

fn unfit(why: &str) -> OpenError {
    OpenError::Unfit(why.to_owned())
}

/// Reads a URL. Answers are small and many: without TCP_NODELAY each would wait for the next. Version 3 of the protocol
/// tells when the connection ends.
fn connection_info(url: &str, certificates: Option<&TlsCertificates>) -> Result<ConnectionInfo, RedisError> {
    let info = match certificates {
        None => url.into_connection_info()?,
        Some(certificates) => Client::build_with_tls(url, certificates.clone())?.get_connection_info().clone(),
    };
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_tcp_settings(tcp).set_redis_settings(redis))
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
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_password_comes_from_one_place_and_every_node_gets_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"s3cret\n").unwrap();
        let config = |url: &str, name: Option<&str>, file: Option<&std::path::Path>| {
            let (username, password_file) = (name.map(str::to_owned), file.map(PathBuf::from));
            RedisConfig { username, password_file, ..RedisConfig::of(url) }.source()
        };
        let source = config("redis://a:1,redis://b:2", Some("router"), Some(file.path())).unwrap();
        let Source::Nodes(nodes) = source else { panic!("{source:?}") };
        for node in nodes {
            let settings = node.redis_settings();
            assert_eq!((settings.username(), settings.password()), (Some("router"), Some("s3cret")));
        }
        for (url, name, file, words) in [
            ("redis://u:p@a:1", None, Some(file.path()), "password_file"),
            ("redis://a:1", Some("router"), None, "username"),
            ("redis://a:1", None, Some(std::path::Path::new("/not/there")), "/not/there"),
            ("http://a:1", None, None, "urls"),
        ] {
            let refused = config(url, name, file).unwrap_err().to_string();
            assert!(refused.contains(words) && !refused.contains("u:p"), "{refused}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let config = RedisConfig::of("redis://user:secret@10.0.0.1:6379, redis://user:secret@10.0.0.2:6379");
        let shown = format!("{config:?}");
        assert!(!shown.contains("secret") && shown.contains("10.0.0.2:6379"), "{shown}");
    }
}
