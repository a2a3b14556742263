//! Which node serves which keys: one for all, or the masters of a cluster.
//!
//! The library's cluster client reconnects on its own and would hide which process answers; see
//! docs/decisions/0007-redis-links.md.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::{ConnectionInfo, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::RedisConfig;
use super::config::Source;
use super::counted::Counted;
use super::keys::{Place, Places};
use super::link::{Link, LinkError, Wanted};
use super::node::{Address, CallError, Node, PAUSE};
use super::scripts::Script;
use super::sentinel::at;
use super::settings::Unfit;
use crate::mailbox::Calls;
use crate::{Durability, OpenError};

/// A call follows so many redirections.
const REDIRECTIONS: usize = 6;
/// Pause while a slot is on its way between nodes.
const MIGRATING: Duration = Duration::from_millis(20);

/// The nodes by the places of keys.
struct Map {
    by_address: HashMap<String, Arc<Node>>,
    /// By the number of the place; with one node, that one for all.
    by_place: Vec<Arc<Node>>,
}

pub(super) struct Nodes {
    /// Those that are configured; none if sentinels are.
    seeds: Vec<ConnectionInfo>,
    wanted: Wanted,
    places: Places,
    lives: Arc<AtomicU64>,
    counted: Counted,
    map: ArcSwap<Map>,
    /// Held while the map is read anew.
    mapping: Mutex<Option<Instant>>,
}

impl Nodes {
    pub(super) fn new(config: &RedisConfig, places: Places) -> Result<Nodes, OpenError> {
        let lives = Arc::new(AtomicU64::new(0));
        let (seeds, by_address) = match config.source()? {
            Source::Nodes(seeds) => {
                let node = |seed: &ConnectionInfo| {
                    (seed.addr().to_string(), Node::new(Address::Fixed(Box::new(seed.clone())), &lives))
                };
                let nodes = seeds.iter().map(node).collect();
                (seeds, nodes)
            }
            Source::Sentinels(sentinels) => {
                (Vec::new(), vec![("master".to_owned(), Node::new(Address::Watched(sentinels), &lives))])
            }
        };
        let by_place = vec![by_address[0].1.clone(); places.count()];
        let by_address = by_address.into_iter().collect();
        let map = ArcSwap::from_pointee(Map { by_address, by_place });
        let wanted = Wanted { durability: config.durability, replicas: config.replicas };
        Ok(Nodes { seeds, wanted, places, lives, counted: Counted::default(), map, mapping: Mutex::new(None) })
    }

    /// Calls so far by operation.
    pub(super) fn calls(&self) -> Vec<Calls> {
        self.counted.calls()
    }

    /// How many processes have been met so far.
    pub(super) fn life(&self) -> u64 {
        self.lives.load(Ordering::Acquire)
    }

    /// The weakest promise of the nodes that are connected; before that what is configured.
    pub(super) fn durability(&self) -> Durability {
        let map = self.map.load();
        let links = map.by_address.values().filter_map(|node| node.link.load_full());
        let promise = |link: Arc<Link>| match self.wanted.durability {
            // Each of them was checked.
            Durability::Replicated => Durability::Replicated,
            Durability::Process | Durability::PageCache | Durability::Fsync => link.info.durability,
        };
        links.map(promise).min().unwrap_or(self.wanted.durability)
    }

    /// Looks again at nodes that were checked when they were connected: somebody may have changed their settings since.
    /// One that cannot be asked is judged when it can.
    pub(super) async fn judge(&self) -> Result<(), Unfit> {
        let nodes: Vec<Arc<Node>> = self.map.load().by_address.values().cloned().collect();
        for node in nodes {
            match node.link(self.wanted).await {
                Ok(link) => link.judge_again(self.wanted).await?,
                Err(CallError::Link(LinkError::Unfit(unfit))) => return Err(unfit),
                Err(CallError::Full | CallError::Link(LinkError::Redis(_))) => {}
            }
        }
        Ok(())
    }

    /// Runs a script where its keys are, following them if they have moved.
    pub(super) async fn call<A: AsRef<[u8]>>(
        &self,
        place: Place,
        script: Script,
        keys: &[&str],
        args: &[A],
    ) -> Result<Value, CallError> {
        let begun = Instant::now();
        let outcome = self.follow(place, script, keys, args).await;
        self.counted.note(script, begun.elapsed(), outcome.is_err());
        outcome
    }

    async fn follow<A: AsRef<[u8]>>(
        &self,
        place: Place,
        script: Script,
        keys: &[&str],
        args: &[A],
    ) -> Result<Value, CallError> {
        let mut asked = None;
        for _ in 0..REDIRECTIONS {
            let asking = asked.is_some();
            let node = asked.take().unwrap_or_else(|| self.map.load().by_place[self.places.index(place)].clone());
            let link = match node.link(self.wanted).await {
                Ok(link) => link,
                Err(error) => {
                    self.remap_soon().await;
                    return Err(error);
                }
            };
            let error = match link.run(script, keys, args, asking).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.code() == Some("OOM") {
                return Err(CallError::Full);
            }
            let ErrorKind::Server(kind) = error.kind() else { return Err(error.into()) };
            #[expect(clippy::wildcard_enum_match_arm, reason = "every other error is an answer")]
            match kind {
                // Somebody has flushed the scripts of this very process.
                ServerErrorKind::NoScript => drop(link.load_scripts().await?),
                ServerErrorKind::Moved => self.remap(&link).await?,
                ServerErrorKind::ReadOnly => {
                    link.give_up();
                    self.remap_soon().await;
                    return Err(error.into());
                }
                ServerErrorKind::Ask => {
                    let (address, _) = error.redirect_node().unwrap_or_default();
                    asked = Some(self.node_at(address));
                }
                ServerErrorKind::TryAgain => tokio::time::sleep(MIGRATING).await,
                _ => return Err(error.into()),
            }
        }
        Err(RedisError::from((ErrorKind::Io, "the keys keep moving")).into())
    }

    /// Connects, and learns whether this is a cluster.
    pub(super) async fn connect(&self) -> Result<(), CallError> {
        let mut failure = None;
        let known: Vec<Arc<Node>> = self.map.load().by_address.values().cloned().collect();
        for node in known {
            match node.link(self.wanted).await {
                Ok(link) => return self.remap(&link).await,
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| RedisError::from((ErrorKind::Io, "no node is known")).into()))
    }

    /// Reads from a node which one serves what.
    async fn remap(&self, link: &Link) -> Result<(), CallError> {
        let mut last = self.mapping.lock().await;
        if !link.info.cluster {
            return Ok(());
        }
        let slots = self.slots_of_places(link).await?;
        let ranges = link.ask(redis::cmd("CLUSTER").arg("SLOTS")).await?;
        let ranges: Vec<(u16, u16, String)> = ranges_of(ranges)?;
        let old = self.map.load_full();
        let mut by_address: HashMap<String, Arc<Node>> = HashMap::new();
        let mut by_place = Vec::with_capacity(slots.len());
        for slot in slots {
            let owner = ranges.iter().find(|(from, to, _)| (*from..=*to).contains(&slot));
            let (_, _, address) = owner.ok_or_else(|| RedisError::from((ErrorKind::Io, "a slot has no master")))?;
            let node = by_address.entry(address.clone()).or_insert_with(|| {
                old.by_address
                    .get(address)
                    .cloned()
                    .unwrap_or_else(|| Node::new(Address::Fixed(Box::new(self.info_of(address))), &self.lives))
            });
            by_place.push(node.clone());
        }
        for seed in &self.seeds {
            let address = seed.addr().to_string();
            by_address.entry(address).or_insert_with(|| Node::new(Address::Fixed(Box::new(seed.clone())), &self.lives));
        }
        self.map.store(Arc::new(Map { by_address, by_place }));
        *last = Some(Instant::now());
        Ok(())
    }

    /// Looks for the map at any node that answers, at most once in [`PAUSE`]: a master may have been replaced.
    async fn remap_soon(&self) {
        let recent = self.mapping.lock().await.is_some_and(|last| last.elapsed() < PAUSE);
        let known: Vec<Arc<Node>> = self.map.load().by_address.values().cloned().collect();
        if recent || known.len() < 2 {
            return;
        }
        for node in known {
            let Some(link) = node.link.load_full().filter(|link| !link.is_broken()) else { continue };
            if self.remap(&link).await.is_ok() {
                return;
            }
        }
    }

    async fn slots_of_places(&self, link: &Link) -> Result<Vec<u16>, CallError> {
        let mut slots = Vec::with_capacity(self.places.count());
        for key in self.places.keys() {
            let slot = link.ask(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key)).await?;
            slots.push(u16::from_redis_value(slot).map_err(RedisError::from)?);
        }
        Ok(slots)
    }

    fn node_at(&self, address: &str) -> Arc<Node> {
        let known = self.map.load().by_address.get(address).cloned();
        known.unwrap_or_else(|| Node::new(Address::Fixed(Box::new(self.info_of(address))), &self.lives))
    }

    /// A node of the cluster is spoken to as the first seed is.
    fn info_of(&self, address: &str) -> ConnectionInfo {
        let seed = self.seeds[0].clone();
        let Some((host, port)) = address.rsplit_once(':').and_then(|(h, p)| Some((h, p.parse().ok()?))) else {
            return seed;
        };
        at(&seed, host.to_owned(), port)
    }
}

/// Ranges of slots with the addresses of their masters.
fn ranges_of(answer: Value) -> Result<Vec<(u16, u16, String)>, RedisError> {
    let ranges = Vec::<Vec<Value>>::from_redis_value(answer)?;
    let each = ranges.into_iter().map(|range| {
        let mut fields = range.into_iter();
        let mut next = || fields.next().unwrap_or(Value::Nil);
        let (from, to, master) = (u16::from_redis_value(next())?, u16::from_redis_value(next())?, next());
        let mut master = Vec::<Value>::from_redis_value(master)?.into_iter();
        let host = String::from_redis_value(master.next().unwrap_or(Value::Nil))?;
        let port = u16::from_redis_value(master.next().unwrap_or(Value::Nil))?;
        Ok((from, to, format!("{host}:{port}")))
    });
    each.collect()
}
