//! Writes that are answered once replicas have them.
//!
//! WAIT holds up its connection, so writes have one of their own, and those that come meanwhile share the next WAIT. It
//! waits for everything that this connection has seen: the answer to a repeat is as safe as the first one was.

use std::sync::{Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue as _, RedisError, RedisResult, Value};
use tokio::sync::oneshot;

use crate::limits;

/// Writes that share a WAIT.
const TOGETHER: usize = 128;

struct Waiting {
    command: Cmd,
    /// Its keys are on their way to this node.
    asking: bool,
    answer: oneshot::Sender<RedisResult<Value>>,
}

pub(super) struct Writer {
    connection: MultiplexedConnection,
    /// So many must have it.
    replicas: u32,
    waiting: Mutex<Vec<Waiting>>,
    /// Held by the one who sends for all.
    turn: tokio::sync::Mutex<()>,
}

impl Writer {
    pub(super) fn new(connection: MultiplexedConnection, replicas: u32) -> Writer {
        Writer { connection, replicas, waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Runs a command. Its outcome is not known if too few replicas say in time that they have it.
    pub(super) async fn run(&self, command: Cmd, asking: bool) -> RedisResult<Value> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { command, asking, answer });
        loop {
            let _turn = self.turn.lock().await;
            match answered.try_recv() {
                Ok(outcome) => return outcome,
                // Whoever sent it has gone.
                Err(oneshot::error::TryRecvError::Closed) => {
                    return Err(unknown("whether it was written is not known"));
                }
                Err(oneshot::error::TryRecvError::Empty) => self.send_some().await,
            }
        }
    }

    async fn send_some(&self) {
        let some: Vec<Waiting> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // What nobody waits for any more must not be written late.
            waiting.retain(|waiting| !waiting.answer.is_closed());
            let count = waiting.len().min(TOGETHER);
            waiting.drain(..count).collect()
        };
        let mut pipeline = redis::pipe();
        for Waiting { command, asking, .. } in &some {
            if *asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(command.clone());
        }
        let patience = u64::try_from(limits::REDIS_REPLICAS.as_millis()).unwrap_or(u64::MAX);
        pipeline.cmd("WAIT").arg(self.replicas).arg(patience);
        let count = some.iter().map(|waiting| 1 + usize::from(waiting.asking)).sum::<usize>() + 1;
        let sent = self.connection.clone().send_packed_commands(&pipeline, 0, count).await;
        let outcome = sent.and_then(|mut values| {
            let have = u32::from_redis_value(values.pop().unwrap_or(Value::Nil).extract_error()?)?;
            if have < self.replicas { Err(unknown("too few replicas have it")) } else { Ok(values) }
        });
        match outcome {
            Ok(values) => {
                let mut values = values.into_iter();
                for Waiting { asking, answer, .. } in some {
                    let value = values.nth(usize::from(asking)).unwrap_or(Value::Nil);
                    answer.send(value.extract_error()).ok();
                }
            }
            Err(error) => {
                for Waiting { answer, .. } in some {
                    answer.send(Err(error.clone())).ok();
                }
            }
        }
    }
}

fn unknown(why: &'static str) -> RedisError {
    (ErrorKind::Extension, why).into()
}
