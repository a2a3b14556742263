//! A connection to one node.
//!
//! **Invariant:** a link never reconnects. One TCP connection ends at one process, so the run id that was read at its
//! beginning holds for its whole life, and the scripts that carry this run id were loaded into that very process.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, PushInfo, PushKind, RedisError, Value};

use super::replicated::Writer;
use super::scripts::Script;
use super::settings::{NodeInfo, Unfit};
use crate::Durability;
use crate::limits;

/// A node cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("Redis is not fit: {0}")]
    Unfit(#[from] Unfit),
}

/// What a node must promise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) durability: Durability,
    /// With REPLICATED: how many replicas must have what was written.
    pub(super) replicas: u32,
}

pub(super) struct Link {
    /// Where it leads.
    pub(super) address: String,
    connection: MultiplexedConnection,
    /// For writes, if replicas must have them: a second connection. That it ends at the same process is shown by the
    /// scripts, which no other process knows.
    writer: Option<Writer>,
    pub(super) info: NodeInfo,
    /// By the number of the script.
    hashes: Vec<String>,
    broken: Arc<AtomicBool>,
}

impl Link {
    pub(super) async fn open(node: &ConnectionInfo, wanted: Wanted) -> Result<Link, LinkError> {
        let broken = Arc::new(AtomicBool::new(false));
        let noticed = broken.clone();
        // Told at once, so that the next call opens another link and does not fail on this one.
        let notice = move |push: PushInfo| -> Result<(), Infallible> {
            if push.kind == PushKind::Disconnection {
                noticed.store(true, Ordering::Release);
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limits::REDIS_CONNECT))
            .set_response_timeout(Some(limits::REDIS_ANSWER))
            .set_push_sender(notice);
        let client = Client::open(node.clone())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let info = NodeInfo::read(&mut connection).await?;
        info.check(wanted.durability)?;
        let writer = if wanted.durability == Durability::Replicated {
            let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            Some(Writer::new(connection, wanted.replicas))
        } else {
            None
        };
        let mut link = Link { address: node.addr().to_string(), connection, writer, info, hashes: Vec::new(), broken };
        link.hashes = link.load_scripts().await?;
        Ok(link)
    }

    /// Loads every script; answers their hashes, which are the same each time.
    pub(super) async fn load_scripts(&self) -> Result<Vec<String>, RedisError> {
        let mut load = redis::pipe();
        for script in Script::ALL {
            load.cmd("SCRIPT").arg("LOAD").arg(script.text(&self.info.run_id));
        }
        load.query_async(&mut self.connection.clone()).await
    }

    /// Runs a script. Never loads it: a node that does not know it may be another one.
    pub(super) async fn run<A: AsRef<[u8]>>(
        &self,
        script: Script,
        keys: &[&str],
        args: &[A],
        asking: bool,
    ) -> Result<Value, RedisError> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hashes[script as usize]).arg(keys.len());
        for key in keys {
            command.arg(key);
        }
        for arg in args {
            command.arg(arg.as_ref());
        }
        let mut connection = self.connection.clone();
        let answer = if let Some(writer) = self.writer.as_ref().filter(|_| script.writes()) {
            writer.run(command, asking).await
        } else if asking {
            let mut pipeline = redis::pipe();
            pipeline.cmd("ASKING").ignore().add_command(command);
            pipeline.query_async::<(Value,)>(&mut connection).await.map(|(answer,)| answer)
        } else {
            connection.send_packed_command(&command).await.and_then(Value::extract_error)
        };
        answer.inspect_err(|error| self.judge(error))
    }

    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, RedisError> {
        let answer = self.connection.clone().send_packed_command(command).await.and_then(Value::extract_error);
        answer.inspect_err(|error| self.judge(error))
    }

    /// Reads anew what the node says of itself.
    pub(super) async fn judge_again(&self, wanted: Wanted) -> Result<(), Unfit> {
        match NodeInfo::read(&mut self.connection.clone()).await {
            Ok(info) => info.check(wanted.durability),
            Err(error) => {
                self.judge(&error);
                Ok(())
            }
        }
    }

    /// After silence too the link is given up: a connection that a partition has cut never breaks by itself.
    fn judge(&self, error: &RedisError) {
        if error.is_timeout() || error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
        {
            self.give_up();
        }
    }

    pub(super) fn give_up(&self) {
        self.broken.store(true, Ordering::Release);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}
