//! The store in a Redis, one server or a cluster: each operation is one script, so that each is one atomic step.
//!
//! **Invariants:** keys of a mailbox share a partition's tag and with it a slot; a script is only run where the run id
//! in its text is that of the process; the rules are those of the embedded store, answer for answer.

mod append;
mod audit;
mod channels;
mod config;
mod counted;
mod credentials;
mod federation;
mod feeds;
mod gateways;
mod keys;
mod letters;
mod link;
mod node;
mod nodes;
mod quotas;
mod read;
mod replicated;
mod reply;
mod reports;
mod scripts;
mod sentinel;
mod sessions;
mod settings;
mod settle;
mod sweep;
mod totals;
mod view;

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use waystation_domain::{Epoch, IncarnationId, Lane, MessageId, OrganizationId, SessionId, Timestamp};

use crate::mailbox::*;
use crate::{Durability, OpenError, Unavailable};
use keys::{META, Place, Places};
use link::LinkError;
use node::CallError;
use nodes::Nodes;
use scripts::Script;
use totals::RollingTotals;

pub use channels::{Channels, Listener, Said, Speaker};
pub use config::RedisConfig;

pub(crate) struct Redis {
    nodes: Nodes,
    places: Places,
    fresh_epochs: FreshEpochs,
    /// Ends of leases as they were last read. They only grow, so one that has not passed is good enough.
    leases: Mutex<HashMap<IncarnationId, Timestamp>>,
    /// Whether the partition count has been agreed with the Redis.
    agreed: AtomicBool,
    totals: Mutex<RollingTotals>,
}

/// Candidates for new epochs: each is offered once, so that none is ever begun twice, not even after a FLUSHALL.
struct FreshEpochs {
    generation: u64,
    count: AtomicU64,
}

impl FreshEpochs {
    /// A bijection of the counter (the finalizer of SplitMix64), begun at a random place.
    fn next(&self) -> Epoch {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut z = self.generation.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Epoch::from_raw(z ^ (z >> 31))
    }
}

/// Arguments of a script.
#[derive(Default)]
struct Args(Vec<Bytes>);

impl Args {
    fn push(&mut self, arg: impl Into<Bytes>) -> &mut Self {
        self.0.push(arg.into());
        self
    }

    fn number(&mut self, number: impl fmt::Display) -> &mut Self {
        self.push(number.to_string())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.push(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<CallError> for Unavailable {
    fn from(error: CallError) -> Unavailable {
        Unavailable(error.to_string())
    }
}

impl Redis {
    pub(crate) async fn connect(config: &RedisConfig, generation: u64) -> Result<Redis, OpenError> {
        if !(1..=1_024).contains(&config.partitions) {
            return Err(OpenError::Unfit(format!("partitions is {}, must be 1 to 1024", config.partitions)));
        }
        if config.replicas == 0 {
            return Err(OpenError::Unfit("replicas is 0, must be 1 at least".into()));
        }
        let places = Places { partitions: config.partitions };
        let redis = Redis {
            nodes: Nodes::new(config, places)?,
            places,
            fresh_epochs: FreshEpochs { generation, count: AtomicU64::new(0) },
            leases: Mutex::default(),
            agreed: AtomicBool::new(false),
            totals: Mutex::default(),
        };
        match redis.agree().await {
            Ok(()) => Ok(redis),
            Err(Disagreed::Unfit(why)) => Err(OpenError::Unfit(why)),
            Err(Disagreed::Unavailable(why)) => {
                tracing::warn!("Redis does not answer yet: {why}");
                Ok(redis)
            }
        }
    }

    /// Connects and agrees on the partition count, unless that has been done.
    async fn agree(&self) -> Result<(), Disagreed> {
        if self.agreed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.nodes.connect().await?;
        let args = [Bytes::from(self.places.partitions.to_string()), Bytes::new()];
        let found = self.nodes.call(Place::Gateways, Script::Meta, &[META], &args).await?;
        self.check_partitions(reply::number(found).map_err(|error| Disagreed::Unavailable(error.0))?)?;
        self.agreed.store(true, Ordering::Release);
        Ok(())
    }

    async fn forget_agreement(&self) -> Result<(), Disagreed> {
        self.agreed.store(false, Ordering::Release);
        self.agree().await
    }

    /// Two deployments that spread mailboxes differently would each lose the other's mail.
    fn check_partitions(&self, found: u64) -> Result<(), Disagreed> {
        if found == self.places.partitions as u64 {
            return Ok(());
        }
        self.agreed.store(false, Ordering::Release);
        let configured = self.places.partitions;
        Err(Disagreed::Unfit(format!("this Redis is used with {found} partitions, but {configured} are configured")))
    }

    /// Runs a script. `now` is its last argument.
    async fn run(
        &self,
        place: Place,
        script: Script,
        keys: &[&str],
        mut args: Args,
        now: Now,
    ) -> Result<Value, CallError> {
        self.agree().await.map_err(|disagreed| match disagreed {
            Disagreed::Unfit(why) | Disagreed::Unavailable(why) => {
                CallError::from(redis::RedisError::from((redis::ErrorKind::Io, "the store cannot be used", why)))
            }
        })?;
        args.push(now.map(|now| now.as_millis().to_string()).unwrap_or_default());
        self.nodes.call(place, script, keys, &args.0).await
    }

    /// Runs a script of a partition.
    async fn run_in(&self, partition: usize, script: Script, args: Args, now: Now) -> Result<Value, CallError> {
        self.run(Place::Partition(partition), script, &[&keys::partition_key(partition)], args, now).await
    }

    /// Runs a script of a mailbox, whose name is the first argument.
    async fn run_on(&self, key: &MailboxKey, script: Script, mut args: Args, now: Now) -> Result<Value, CallError> {
        args.0.insert(0, keys::name_of(key).into());
        self.run_in(self.places.partition_of(key), script, args, now).await
    }
}

/// Why this process does not use the Redis.
enum Disagreed {
    Unfit(String),
    Unavailable(String),
}

impl From<CallError> for Disagreed {
    fn from(error: CallError) -> Disagreed {
        match error {
            CallError::Link(LinkError::Unfit(unfit)) => Disagreed::Unfit(format!("Redis is not fit: {unfit}")),
            CallError::Full | CallError::Link(LinkError::Redis(_)) => Disagreed::Unavailable(error.to_string()),
        }
    }
}

#[async_trait]
impl MailboxStore for Redis {
    fn durability(&self) -> Durability {
        self.nodes.durability()
    }
    fn life(&self) -> u64 {
        self.nodes.life()
    }
    async fn judge(&self) -> Result<(), String> {
        self.nodes.judge().await.map_err(|unfit| unfit.to_string())
    }
    fn calls(&self) -> Vec<Calls> {
        self.nodes.calls()
    }
    fn partitions(&self) -> usize {
        self.places.partitions
    }
    fn partition_of(&self, key: &MailboxKey) -> usize {
        self.places.partition_of(key)
    }
    async fn append(&self, append: Append, now: Now) -> Result<Vec<Result<Appended, AppendRefused>>, Unavailable> {
        self.append_messages(append, now).await
    }
    async fn open(&self, open: OpenSession, now: Now) -> Result<Result<Opened, OpenRefused>, Unavailable> {
        self.open_session(open, now).await
    }
    async fn close(&self, close: CloseSession, now: Now) -> Result<Option<ActivationNotice>, Unavailable> {
        self.close_session(close, now).await
    }
    async fn read(&self, read: ReadMailbox, now: Now) -> Result<Result<ReadAnswer, Refused>, Unavailable> {
        self.read_log(read, now).await
    }
    async fn settle(&self, settle: Settle, now: Now) -> Result<Vec<Settled>, Unavailable> {
        self.settle_all(settle, now).await
    }
    async fn compare(&self, compare: Compare, now: Now) -> Result<Compared, Unavailable> {
        self.compare_sessions(compare, now).await
    }
    async fn subscribe(&self, subscribe: Subscribe, now: Now) -> Result<Result<(), Refused>, Unavailable> {
        self.replace_subscriptions(subscribe, now).await
    }
    async fn renew(&self, renew: RenewIncarnation, now: Now) -> Result<Renewed, Unavailable> {
        self.renew_lease(renew, now).await
    }
    async fn sweep(&self, sweep: Sweep, now: Now) -> Result<Swept, Unavailable> {
        self.sweep_all(sweep, now).await
    }
    async fn note_told(&self, told: NewsTold, now: Now) -> Result<(), Unavailable> {
        self.note_news_told(told, now).await
    }
    async fn purge(&self, purge: Purge, now: Now) -> Result<u64, Unavailable> {
        reply::number(self.run_on(&purge.mailbox, Script::Purge, Args::default(), now).await?)
    }
    async fn forget_dead_letters(&self, forget: ForgetDeadLetters, now: Now) -> Result<u64, Unavailable> {
        self.forget_letters(forget, now).await
    }
    async fn incarnations(&self, now: Now) -> Result<Vec<IncarnationInfo>, Unavailable> {
        self.gateway_table(now).await
    }
    async fn mailbox(&self, key: &MailboxKey, now: Now) -> Result<Option<MailboxView>, Unavailable> {
        self.mailbox_view(key, now).await
    }
    async fn message(&self, key: &MailboxKey, id: &MessageId, now: Now) -> Result<MessageView, Unavailable> {
        self.message_view(key, id, now).await
    }
    async fn residents(
        &self,
        key: &MailboxKey,
        after: (Lane, u64),
        most: usize,
        now: Now,
    ) -> Result<Vec<ResidentView>, Unavailable> {
        self.resident_views(key, after, most, now).await
    }
    async fn dead_letters(
        &self,
        key: &MailboxKey,
        after: u64,
        most: usize,
        now: Now,
    ) -> Result<Vec<DeadLetterView>, Unavailable> {
        self.dead_letter_views(key, after, most, now).await
    }
    async fn sessions(&self, key: &MailboxKey, liveness: &Liveness, now: Now) -> Result<Vec<SessionView>, Unavailable> {
        self.session_views(key, liveness, now).await
    }
    async fn presence(&self, key: &MailboxKey, liveness: &Liveness, now: Now) -> Result<PresenceView, Unavailable> {
        self.presence_view(key, liveness, now).await
    }
    async fn holder(
        &self,
        key: &MailboxKey,
        liveness: &Liveness,
        now: Now,
    ) -> Result<Option<(HolderRef, Heads)>, Unavailable> {
        self.holder_view(key, liveness, now).await
    }
    async fn totals(&self) -> Result<Totals, Unavailable> {
        self.rolling_totals(RollingTotals::of_all).await
    }
    async fn organization_totals(&self, organization: &OrganizationId) -> Result<Totals, Unavailable> {
        self.rolling_totals(|totals| totals.of(organization)).await
    }
    async fn locate(&self, session: &SessionId) -> Result<Option<(MailboxKey, SessionView)>, Unavailable> {
        self.locate_session(session).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_epoch_is_offered_twice() {
        let fresh = FreshEpochs { generation: 7, count: AtomicU64::new(0) };
        let offered: std::collections::HashSet<u64> = (0..10_000).map(|_| fresh.next().as_raw()).collect();
        assert_eq!(offered.len(), 10_000);
    }
}
