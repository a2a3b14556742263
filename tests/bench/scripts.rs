//! What each script costs the Redis: its own time, without network and client.

use bytes::Bytes;
use waystation_domain::{Lane, PerLane};
use waystation_store::mailbox::*;
use waystation_store::{MailboxStore, RedisConfig, connect, limits};
use waystation_test_redis::{RedisOptions, RedisServer};

use crate::clients::payload;

/// Calls of each row.
const CALLS: u64 = 400;

struct Bench {
    redis: RedisServer,
    store: std::sync::Arc<dyn MailboxStore>,
}

fn key(number: u64) -> MailboxKey {
    MailboxKey { organization: "acme".parse().unwrap(), orchestrator: format!("orla-{number}").parse().unwrap() }
}

fn message(mailbox: MailboxKey, named: Option<u64>) -> AppendMessage {
    AppendMessage {
        mailbox,
        id: named.map(|number| format!("m-{number}")).map(|id| waystation_domain::MessageId::from_caller(&id).unwrap()),
        event_type: "message.received".parse().unwrap(),
        channel: None,
        trace: None,
        sender: None,
        data: Bytes::from(payload(1)),
        lane: Lane::Normal,
        time_to_live: limits::TIME_TO_LIVE,
        if_offline: IfOffline::Queue,
        limits: MailboxLimits { entries: 1_000_000, bytes: 1 << 40, ..MailboxLimits::default() },
    }
}

impl Bench {
    /// Microseconds of the server that scripts have used, and how many ran.
    fn used(&self) -> (f64, f64) {
        let text: String = redis::cmd("INFO").arg("commandstats").query(&mut self.redis.connect()).unwrap();
        let line = text.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
        let field = |name: &str| -> f64 {
            line.split([':', ',']).find_map(|field| field.strip_prefix(name)).unwrap().parse().unwrap()
        };
        (field("usec="), field("calls="))
    }

    fn memory_used(&self) -> f64 {
        let text: String = redis::cmd("INFO").arg("memory").query(&mut self.redis.connect()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.trim().parse().unwrap()
    }

    /// Prints what mailboxes and messages take in memory.
    async fn memory(&self) {
        const MAILBOXES: u64 = 2_000;
        println!("| memory of the Redis | bytes |\n|---|---|");
        let empty = self.memory_used();
        for number in 0..MAILBOXES {
            self.append(vec![message(key(10_000 + number), None)]).await;
        }
        let used = self.memory_used();
        println!("| a mailbox with its first message | {:.0} |", (used - empty) / MAILBOXES as f64);
        for number in 0..MAILBOXES {
            self.append(vec![message(key(10_000 + number), None); 10]).await;
        }
        let full = self.memory_used();
        println!("| each further message of 200 bytes | {:.0} |", (full - used) / MAILBOXES as f64 / 10.0);
        for number in 0..MAILBOXES {
            self.open(10_000 + number).await;
        }
        println!("| a session | {:.0} |", (self.memory_used() - full) / MAILBOXES as f64);
    }

    /// Prints the cost of a call, and of each message in it.
    async fn row(&self, name: &str, messages: f64, mut call: impl AsyncFnMut(u64)) {
        let before = self.used();
        for number in 0..CALLS {
            call(number).await;
        }
        let after = self.used();
        let micros = (after.0 - before.0) / (after.1 - before.1);
        println!("| {name} | {micros:.1} | {:.1} |", micros / messages);
    }

    async fn append(&self, messages: Vec<AppendMessage>) {
        let append = Append { messages, liveness: Liveness::default() };
        for outcome in self.store.append(append, None).await.unwrap() {
            outcome.unwrap();
        }
    }

    async fn open(&self, mailbox: u64) -> u64 {
        let renew = RenewIncarnation {
            incarnation: "g1".parse().unwrap(),
            address: "http://g1:8781".into(),
            draining: false,
            lease: limits::LEASE,
        };
        self.store.renew(renew, None).await.unwrap();
        let open = OpenSession {
            mailbox: key(mailbox),
            session: format!("session-{mailbox}").parse().unwrap(),
            daemon: "d1".parse().unwrap(),
            login: "l1".parse().unwrap(),
            instance: None,
            incarnation: "g1".parse().unwrap(),
            address: "http://g1:8781".into(),
            reads_mail: true,
            window: Window { entries: 1_000, bytes: 16 << 20 },
            resume: None,
            subscriptions: None,
            born: None,
            most: limits::SESSIONS,
            liveness: Liveness::default(),
        };
        self.store.open(open, None).await.unwrap().unwrap().activation.map_or(0, |activation| activation.fence)
    }

    fn read(mailbox: u64, fence: u64, after: u64, most: usize) -> ReadMailbox {
        ReadMailbox {
            mailbox: key(mailbox),
            session: format!("session-{mailbox}").parse().unwrap(),
            fence,
            read_id: after,
            positions: PerLane::from_fn(|lane| if lane == Lane::Normal { after } else { 0 }),
            exits_position: 0,
            max_entries: most,
            max_critical: most,
            max_bytes: 16 << 20,
            window_empty: false,
        }
    }

    async fn acknowledge(&self, mailbox: u64, from: u64, to: u64) {
        let epoch = self.store.mailbox(&key(mailbox), None).await.unwrap().unwrap().epoch.unwrap();
        self.acknowledge_in(mailbox, AckRange { epoch, lane: Lane::Normal, from, to }).await;
    }

    async fn acknowledge_in(&self, mailbox: u64, range: AckRange) {
        let settlement = Settlement {
            mailbox: key(mailbox),
            session: format!("session-{mailbox}").parse().unwrap(),
            fence: 1,
            acks: vec![range],
            ack_ids: Vec::new(),
            nacks: Vec::new(),
            rejects: Vec::new(),
            charges: Vec::new(),
            gap_mark: 0,
            confirm: Vec::new(),
        };
        let settled = self.store.settle(Settle { settlements: vec![settlement] }, None).await.unwrap();
        assert_eq!(settled[0].acknowledged, range.to - range.from + 1);
    }
}

/// Prints the table.
pub async fn table() {
    let redis = RedisServer::start(RedisOptions { append_fsync: Some("everysec"), ..RedisOptions::default() });
    let config = RedisConfig { partitions: 1, ..RedisConfig::of(&redis.url()) };
    let bench = Bench { store: connect(&config, 7).await.unwrap().mailboxes, redis };
    println!("| script, 200-byte messages | µs a call | µs a message |\n|---|---|---|");
    bench.row("append 1, nobody connected", 1.0, async |_| bench.append(vec![message(key(1), None)]).await).await;
    let named = async |number| bench.append(vec![message(key(2), Some(number))]).await;
    bench.row("append 1 with an id of the caller's", 1.0, named).await;
    let fence = bench.open(3).await;
    bench.row("append 1, pushed to a session", 1.0, async |_| bench.append(vec![message(key(3), None)]).await).await;
    bench.row("append 8 to one mailbox", 8.0, async |_| bench.append(vec![message(key(4), None); 8]).await).await;
    let spread = async |_| bench.append((0..64).map(|number| message(key(100 + number), None)).collect()).await;
    bench.row("append 64 to 64 mailboxes", 64.0, spread).await;
    let read = async |number| {
        let found = bench.store.read(Bench::read(3, fence, number, 1), None).await.unwrap().unwrap();
        assert_eq!(found.entries.len(), 1);
    };
    bench.row("read 1", 1.0, read).await;
    let fence = bench.open(4).await;
    let read = async |number| {
        let found = bench.store.read(Bench::read(4, fence, number, 64), None).await.unwrap().unwrap();
        assert_eq!(found.entries.len(), 64);
    };
    bench.row("read 64", 64.0, read).await;
    let epoch = bench.store.mailbox(&key(3), None).await.unwrap().unwrap().epoch.unwrap();
    let one = |number| AckRange { epoch, lane: Lane::Normal, from: number + 1, to: number + 1 };
    bench.row("acknowledge 1", 1.0, async |number| bench.acknowledge_in(3, one(number)).await).await;
    let epoch = bench.store.mailbox(&key(4), None).await.unwrap().unwrap().epoch.unwrap();
    // The last read ends at 463.
    bench.acknowledge(4, 1, 60).await;
    let one_of_many = |number: u64| AckRange { epoch, lane: Lane::Normal, from: 61 + number, to: 61 + number };
    bench.row("acknowledge 1 of many", 1.0, async |number| bench.acknowledge_in(4, one_of_many(number)).await).await;
    bench
        .row("sweep a partition with nothing due", 1.0, async |_| {
            bench.store.sweep(Sweep { limit: 100 }, None).await.unwrap();
        })
        .await;
    bench.memory().await;
}
