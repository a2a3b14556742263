//! Where the master is, as its sentinels say.

use std::collections::HashMap;
use std::fmt;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisResult};
use tokio::sync::Mutex;

use crate::limits;

/// What one sentinel knows of the master.
#[derive(Debug, PartialEq, Eq)]
struct Opinion {
    /// Grows with each failover.
    epoch: u64,
    host: String,
    port: u16,
}

struct Sentinel {
    address: ConnectionInfo,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// The sentinels of a master.
pub(super) struct Sentinels {
    all: Vec<Sentinel>,
    /// Under which they know it.
    name: String,
    /// How the master is spoken to, wherever it is.
    like: ConnectionInfo,
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sentinels").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Sentinels {
    pub(super) fn new(addresses: Vec<ConnectionInfo>, name: String, like: ConnectionInfo) -> Sentinels {
        let sentinel = |address| Sentinel { address, connection: Mutex::new(None) };
        Sentinels { all: addresses.into_iter().map(sentinel).collect(), name, like }
    }

    /// The master of the latest failover that any of them has heard of: one that was cut off may tell of an older one.
    pub(super) async fn master(&self) -> RedisResult<ConnectionInfo> {
        let opinions = join_all(self.all.iter().map(|sentinel| sentinel.ask(&self.name))).await;
        let mut failure = None;
        let mut best: Option<Opinion> = None;
        for opinion in opinions {
            match opinion {
                Ok(opinion) if best.as_ref().is_none_or(|best| best.epoch < opinion.epoch) => best = Some(opinion),
                Ok(_) => {}
                Err(error) => failure = Some(error),
            }
        }
        match (best, failure) {
            (Some(Opinion { host, port, .. }), _) => Ok(at(&self.like, host, port)),
            (None, Some(error)) => Err(error),
            (None, None) => Err((ErrorKind::InvalidClientConfig, "no sentinel is given").into()),
        }
    }
}

impl Sentinel {
    async fn ask(&self, name: &str) -> RedisResult<Opinion> {
        let mut held = self.connection.lock().await;
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(limits::SENTINEL_ANSWER))
                    .set_response_timeout(Some(limits::SENTINEL_ANSWER));
                Client::open(self.address.clone())?.get_multiplexed_async_connection_with_config(&config).await?
            }
        };
        let said: HashMap<String, String> =
            redis::cmd("SENTINEL").arg("MASTER").arg(name).query_async(&mut connection).await?;
        *held = Some(connection);
        opinion(&said).ok_or_else(|| (ErrorKind::UnexpectedReturnType, "a sentinel does not tell the master").into())
    }
}

fn opinion(said: &HashMap<String, String>) -> Option<Opinion> {
    let number = |name: &str| said.get(name)?.parse().ok();
    let port = u16::try_from(number("port")?).ok()?;
    Some(Opinion { epoch: number("config-epoch")?, host: said.get("ip")?.clone(), port })
}

/// The same way to speak, at another address.
pub(super) fn at(like: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let address = if let ConnectionAddr::TcpTls { insecure, tls_params, .. } = like.addr() {
        ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    like.clone().set_addr(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_is_taken_at_its_word_if_it_is_whole() {
        let of = |pairs: &[(&str, &str)]| {
            opinion(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let whole = [("ip", "10.0.0.7"), ("port", "6380"), ("config-epoch", "3"), ("flags", "master")];
        assert_eq!(of(&whole), Some(Opinion { epoch: 3, host: "10.0.0.7".into(), port: 6380 }));
        assert_eq!(of(&whole[..2]), None);
        assert_eq!(of(&[("ip", "a"), ("port", "70000"), ("config-epoch", "3")]), None);
    }
}
