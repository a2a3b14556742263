//! Where a fleet keeps what it knows.

use waystation_test_redis::{RedisServer, RedisTrio};

/// A Redis, or three.
pub enum Kept {
    One(RedisServer),
    /// With sentinels.
    Trio(RedisTrio),
}

impl Kept {
    /// kill -9 of the one that is written to.
    pub fn kill(&mut self) {
        match self {
            Kept::One(redis) => redis.kill(),
            Kept::Trio(trio) => {
                let master = trio.master();
                trio.servers()[master].kill();
            }
        }
    }

    /// Starts all anew.
    pub fn restart(&mut self) {
        match self {
            Kept::One(redis) => redis.restart(),
            Kept::Trio(trio) => trio.servers().iter_mut().for_each(RedisServer::restart),
        }
    }

    /// Processes of the servers.
    pub fn pids(&self) -> Vec<u32> {
        match self {
            Kept::One(redis) => vec![redis.pid()],
            Kept::Trio(trio) => trio.pids(),
        }
    }
}
