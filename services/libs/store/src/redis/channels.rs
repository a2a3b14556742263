//! Channels of Redis (publish and subscribe), for neighbours that speak nothing else. Unlike all else of the store it is at
//! most once: whoever does not listen at the moment hears nothing.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, ProtocolVersion, RedisError};
use tokio::time::{sleep, timeout};

use super::RedisConfig;
use super::config::Source;
use crate::{OpenError, Unavailable, limits};

/// A listener that hears nothing looks whether the line stands so often.
const PING: Duration = Duration::from_secs(10);

/// Where channels are. In a cluster every node passes on what any was told.
#[derive(Clone)]
pub struct Channels {
    source: Source,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// On which channel.
    pub channel: String,
    /// What.
    pub payload: Bytes,
}

/// Hears what is said on channels of some patterns.
pub struct Listener {
    sink: PubSubSink,
    stream: PubSubStream,
}

/// Says something on channels.
pub struct Speaker(MultiplexedConnection);

fn unavailable(error: impl std::fmt::Display) -> Unavailable {
    Unavailable(error.to_string())
}

impl Channels {
    /// The channels of a Redis. Nothing is dialled yet.
    ///
    /// # Errors
    /// If a URL is none, or a password or a certificate cannot be read.
    pub fn of(config: &RedisConfig) -> Result<Channels, OpenError> {
        Ok(Channels { source: config.source()? })
    }

    async fn nodes(&self) -> Result<Vec<ConnectionInfo>, Unavailable> {
        match &self.source {
            Source::Nodes(nodes) => Ok(nodes.clone()),
            Source::Sentinels(sentinels) => Ok(vec![sentinels.master().await.map_err(unavailable)?]),
        }
    }

    /// Listens to channels of these patterns (as PSUBSCRIBE has them) at the first node that answers.
    ///
    /// # Errors
    /// If none does.
    pub async fn listen(&self, patterns: &[&str]) -> Result<Listener, Unavailable> {
        let mut last = Unavailable("no Redis is configured".to_owned());
        for node in self.nodes().await? {
            match timeout(limits::REDIS_CONNECT, listen_at(&node, patterns)).await {
                Ok(Ok(listener)) => return Ok(listener),
                Ok(Err(error)) => last = unavailable(error),
                Err(late) => last = unavailable(late),
            }
        }
        Err(last)
    }

    /// Dials the first node that answers.
    ///
    /// # Errors
    /// If none does.
    pub async fn speak(&self) -> Result<Speaker, Unavailable> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limits::REDIS_CONNECT))
            .set_response_timeout(Some(limits::REDIS_ANSWER));
        let mut last = Unavailable("no Redis is configured".to_owned());
        for node in self.nodes().await? {
            let client = Client::open(node).map_err(unavailable)?;
            match client.get_multiplexed_async_connection_with_config(&config).await {
                Ok(connection) => return Ok(Speaker(connection)),
                Err(error) => last = unavailable(error),
            }
        }
        Err(last)
    }
}

async fn listen_at(node: &ConnectionInfo, patterns: &[&str]) -> Result<Listener, RedisError> {
    // What is pushed is told apart from answers by version 2 of the protocol already.
    let settings = node.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
    let client = Client::open(node.clone().set_redis_settings(settings))?;
    let (mut sink, stream) = client.get_async_pubsub().await?.split();
    for pattern in patterns {
        sink.psubscribe(*pattern).await?;
    }
    Ok(Listener { sink, stream })
}

impl Listener {
    /// What is said next; `None`: the line is broken, and what is said is not heard until somebody listens anew.
    pub async fn next(&mut self) -> Option<Said> {
        loop {
            let message = tokio::select! {
                message = self.stream.next() => message?,
                () = sleep(PING) => {
                    timeout(limits::REDIS_ANSWER, self.sink.ping::<redis::Value>()).await.ok()?.ok()?;
                    continue;
                }
            };
            let payload = Bytes::copy_from_slice(message.get_payload_bytes());
            return Some(Said { channel: message.get_channel_name().to_owned(), payload });
        }
    }
}

impl Speaker {
    /// Says many things in one round trip.
    ///
    /// # Errors
    /// If the line is broken: dial anew.
    pub async fn say(&mut self, all: &[Said]) -> Result<(), Unavailable> {
        let mut pipe = redis::pipe();
        for Said { channel, payload } in all {
            pipe.cmd("PUBLISH").arg(channel).arg(&payload[..]).ignore();
        }
        pipe.query_async::<()>(&mut self.0).await.map_err(unavailable)
    }
}
