//! Lives of mailboxes.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use waystation_domain::{Epoch, Lane, MessageId, PerLane, Position, SessionId, Subscriptions};
use waystation_store::limits;
use waystation_store::mailbox::*;

use super::pair::{EPOCH, Pair};

/// A message of a batch.
#[derive(Clone, Debug)]
pub struct Message {
    mailbox: u8,
    lane: usize,
    id: Option<u8>,
    size: usize,
    seconds: Option<u64>,
    fail: bool,
    caps: Option<(usize, u64, bool)>,
}

/// Where in a log; mostly where something is.
#[derive(Clone, Debug)]
pub struct Spot {
    lane: usize,
    sequence: u64,
    foreign: bool,
    /// An entry of the last read, if there was one, in place of lane and sequence.
    recent: Option<usize>,
}

#[derive(Clone, Debug)]
pub enum Step {
    Append(Vec<Message>),
    Renew {
        gateway: u8,
        draining: bool,
    },
    Open {
        mailbox: u8,
        daemon: u8,
        instance: Option<u8>,
        gateway: u8,
        reads: bool,
        window: u32,
        resume: Option<Spot>,
        subscribe: bool,
        born: Option<u64>,
    },
    Again {
        which: usize,
    },
    Close {
        which: usize,
        goodbye: bool,
        drained: bool,
    },
    Read {
        which: usize,
        repeat: bool,
        entries: usize,
        bytes: u64,
        positions: [u64; 4],
        empty: bool,
        exits: u64,
    },
    Ack {
        which: usize,
        ranges: Vec<(Spot, u64)>,
        ids: Vec<u8>,
        composed: Vec<Spot>,
        gap_mark: u64,
        /// Asked about: ids and spots.
        confirm: (Vec<u8>, Vec<Spot>),
    },
    Nack {
        which: usize,
        stale: bool,
        nacks: Vec<(Spot, u32, u64)>,
        charges: Vec<(Spot, u32)>,
        rejects: Vec<Spot>,
    },
    Compare {
        which: Vec<(usize, Option<usize>, u64)>,
    },
    Subscribe {
        which: usize,
    },
    Sweep,
    Purge {
        mailbox: u8,
    },
    Forget {
        mailbox: u8,
        numbers: Vec<u64>,
    },
    Pass {
        seconds: u64,
    },
    Look {
        id: u8,
        spot: Spot,
    },
}

fn spot() -> impl Strategy<Value = Spot> {
    (0..4usize, 0..9u64, prop::bool::weighted(0.05), prop::option::weighted(0.7, 0..6usize))
        .prop_map(|(lane, sequence, foreign, recent)| Spot { lane, sequence, foreign, recent })
}

fn message() -> impl Strategy<Value = Message> {
    let caps = prop::option::weighted(0.4, (1..6usize, 20..200u64, any::<bool>()));
    let id = prop::option::weighted(0.4, 0..6u8);
    let seconds = prop::option::weighted(0.5, 1..90u64);
    (0..2u8, 0..4usize, id, 2..60usize, seconds, prop::bool::weighted(0.1), caps).prop_map(
        |(mailbox, lane, id, size, seconds, fail, caps)| Message { mailbox, lane, id, size, seconds, fail, caps },
    )
}

pub fn step() -> impl Strategy<Value = Step> {
    let which = || 0..8usize;
    let open = (0..2u8, 0..6u8, prop::option::of(0..2u8), 0..3u8, prop::bool::weighted(0.9), 1..8u32)
        .prop_flat_map(|head| {
            (Just(head), prop::option::weighted(0.3, spot()), any::<bool>(), prop::option::weighted(0.3, 1..5u64))
        })
        .prop_map(|((mailbox, daemon, instance, gateway, reads, window), resume, subscribe, born)| Step::Open {
            mailbox,
            daemon,
            instance,
            gateway,
            reads,
            window,
            resume,
            subscribe,
            born,
        });
    let read =
        (which(), any::<bool>(), 0..12usize, 10..400u64, [0..9u64, 0..9u64, 0..9u64, 0..9u64], any::<bool>(), 0..6u64)
            .prop_map(|(which, repeat, entries, bytes, positions, empty, exits)| Step::Read {
                which,
                repeat,
                entries,
                bytes,
                positions,
                empty,
                exits,
            });
    let ack = (
        which(),
        prop::collection::vec((spot(), 0..5u64), 0..4),
        prop::collection::vec(0..6u8, 0..2),
        prop::collection::vec(spot(), 0..2),
        0..5u64,
        (prop::collection::vec(0..6u8, 0..2), prop::collection::vec(spot(), 0..3)),
    )
        .prop_map(|(which, ranges, ids, composed, gap_mark, confirm)| Step::Ack {
            which,
            ranges,
            ids,
            composed,
            gap_mark,
            confirm,
        });
    let attempts = || prop_oneof![5 => 1..3u32, 1 => 3..7u32];
    let nack = (
        which(),
        prop::bool::weighted(0.1),
        prop::collection::vec((spot(), attempts(), 0..40u64), 0..4),
        prop::collection::vec((spot(), attempts()), 0..3),
        prop::collection::vec(spot(), 0..2),
    )
        .prop_map(|(which, stale, nacks, charges, rejects)| Step::Nack { which, stale, nacks, charges, rejects });
    let report = (which(), prop::option::weighted(0.4, 0..5usize), prop_oneof![3 => Just(0), 1 => 30..50u64]);
    prop_oneof![
        10 => prop::collection::vec(message(), 1..5).prop_map(Step::Append),
        4 => (0..3u8, prop::bool::weighted(0.15)).prop_map(|(gateway, draining)| Step::Renew { gateway, draining }),
        6 => open,
        1 => which().prop_map(|which| Step::Again { which }),
        3 => (which(), any::<bool>(), any::<bool>()).prop_map(|(which, goodbye, drained)| Step::Close { which, goodbye, drained }),
        7 => read,
        4 => ack,
        5 => nack,
        3 => prop::collection::vec(report, 1..4).prop_map(|which| Step::Compare { which }),
        1 => which().prop_map(|which| Step::Subscribe { which }),
        3 => Just(Step::Sweep),
        1 => (0..2u8).prop_map(|mailbox| Step::Purge { mailbox }),
        1 => (0..2u8, prop::collection::vec(0..4u64, 0..3)).prop_map(|(mailbox, numbers)| Step::Forget { mailbox, numbers }),
        4 => prop_oneof![6 => 1..4u64, 2 => 4..60u64, 1 => Just(100_000)].prop_map(|seconds| Step::Pass { seconds }),
        2 => (0..6u8, spot()).prop_map(|(id, spot)| Step::Look { id, spot }),
    ]
}

fn key(number: u8) -> MailboxKey {
    MailboxKey { organization: "acme".parse().unwrap(), orchestrator: format!("orch-{number}").parse().unwrap() }
}

/// A session that was opened at some time.
struct Opened {
    mailbox: u8,
    open: OpenSession,
    fence: u64,
}

struct Life {
    pair: Pair,
    sessions: Vec<Opened>,
    liveness: Liveness,
    reads: u64,
    /// What the last read of a mailbox found: lane, sequence and attempt.
    recent: [Vec<(Lane, u64, u32)>; 2],
    /// The Redis' epoch of each mailbox.
    epochs: [Option<Epoch>; 2],
}

pub async fn live(steps: Vec<Step>, pair: Pair) {
    let mut life = Life {
        pair,
        sessions: Vec::new(),
        liveness: Liveness::default(),
        reads: 0,
        recent: Default::default(),
        epochs: [None; 2],
    };
    for step in steps {
        life.take(&step).await;
        life.compare_views(&step).await;
    }
}

impl Life {
    /// The position on the model's side and on the side of the Redis.
    fn positions(&self, mailbox: u8, spot: &Spot) -> (Position, Position) {
        let foreign = Epoch::from_raw(u64::MAX);
        let (lane, sequence) = match self.recent(mailbox, spot) {
            Some((lane, sequence, _)) => (lane, sequence),
            None => (Lane::ALL[spot.lane], spot.sequence),
        };
        let at = |epoch| Position { epoch, lane, sequence };
        match self.epochs[usize::from(mailbox)] {
            Some(epoch) if !spot.foreign => (at(Epoch::from_raw(EPOCH)), at(epoch)),
            _ => (at(foreign), at(foreign)),
        }
    }

    fn recent(&self, mailbox: u8, spot: &Spot) -> Option<(Lane, u64, u32)> {
        self.recent[usize::from(mailbox)].get(spot.recent?).copied()
    }

    /// The attempt of a recent entry, or the one that was made up.
    fn attempt(&self, mailbox: u8, spot: &Spot, made_up: u32) -> u32 {
        self.recent(mailbox, spot).map_or(made_up, |(_, _, attempt)| attempt)
    }

    /// Mostly the session that holds one of the mailboxes, sometimes any, newest first.
    fn session(&self, which: usize) -> Option<&Opened> {
        if which < 4 {
            let of_mailbox = self.sessions.iter().filter(|known| usize::from(known.mailbox) == which % 2);
            return of_mailbox.max_by_key(|known| known.fence);
        }
        self.sessions.iter().rev().nth(which - 4)
    }

    fn note(&mut self, session: &SessionId, fence: u64) {
        if let Some(known) = self.sessions.iter_mut().find(|known| known.open.session == *session) {
            known.fence = fence;
        }
    }

    async fn take(&mut self, step: &Step) {
        let (now, model, redis) = (Some(self.pair.now), self.pair.model.clone(), self.pair.redis.clone());
        let (model, redis) = (&model.mailboxes, &redis.mailboxes);
        macro_rules! both {
            ($method:ident($model:expr, $redis:expr)) => {{
                let answers = (model.$method($model, now).await.unwrap(), redis.$method($redis, now).await.unwrap());
                self.learn_epochs().await;
                self.pair.same(step, answers.0, answers.1)
            }};
        }
        match step {
            Step::Append(messages) => {
                let messages = messages.iter().map(|message| self.message(message)).collect();
                let append = Append { messages, liveness: self.liveness.clone() };
                both!(append(append.clone(), append));
            }
            Step::Renew { gateway, draining } => self.renew(step, *gateway, *draining).await,
            Step::Open { mailbox, resume, gateway, .. } => {
                // Mostly on a gateway that lives.
                if !self.sessions.len().is_multiple_of(5) {
                    self.renew(step, *gateway, false).await;
                }
                let open = self.open(step);
                let point = |position: Position| ResumePoint {
                    epoch: Some(position.epoch),
                    positions: PerLane::from_fn(|lane| if lane == position.lane { position.sequence } else { 0 }),
                };
                let points = resume.as_ref().map(|spot| self.positions(*mailbox, spot));
                let with = |point: Option<ResumePoint>| OpenSession { resume: point, ..open.clone() };
                let opened = both!(open(with(points.map(|p| point(p.0))), with(points.map(|p| point(p.1)))));
                let fence = opened.ok().and_then(|opened| opened.activation).map_or(0, |activation| activation.fence);
                self.sessions.push(Opened { mailbox: *mailbox, open, fence });
            }
            Step::Again { which } => {
                let Some(open) = self.session(*which).map(|known| known.open.clone()) else { return };
                both!(open(open.clone(), open)).ok();
            }
            Step::Close { which, goodbye, drained } => {
                let Some(known) = self.session(*which) else { return };
                let close = CloseSession {
                    mailbox: key(known.mailbox),
                    session: known.open.session.clone(),
                    goodbye: *goodbye,
                    drained: *drained,
                    liveness: self.liveness.clone(),
                };
                if let Some(notice) = both!(close(close.clone(), close)) {
                    self.note(&notice.holder.session, notice.holder.fence);
                }
            }
            Step::Read { which, repeat, entries, bytes, positions, empty, exits } => {
                self.reads += u64::from(!repeat);
                let Some(known) = self.session(*which) else { return };
                let mut each = positions.iter();
                let read = ReadMailbox {
                    mailbox: key(known.mailbox),
                    session: known.open.session.clone(),
                    fence: known.fence,
                    read_id: self.reads,
                    positions: PerLane::from_fn(|_| *each.next().unwrap()),
                    exits_position: *exits,
                    max_entries: *entries,
                    max_critical: entries + 2,
                    max_bytes: *bytes,
                    window_empty: *empty,
                };
                let mailbox = usize::from(known.mailbox);
                if let Ok(answer) = both!(read(read.clone(), read)) {
                    let entries = answer.entries.iter();
                    self.recent[mailbox] = entries.map(|e| (e.position.lane, e.position.sequence, e.attempt)).collect();
                }
            }
            Step::Ack { which, ranges, ids, composed, gap_mark, confirm } => {
                let Some(known) = self.session(*which) else { return };
                let (mailbox, mut settlement) = (known.mailbox, settlement(known));
                settlement.gap_mark = *gap_mark;
                let named = ids.iter().map(|id| MessageId::from_caller(&format!("id-{id}")).unwrap());
                settlement.ack_ids = named.collect();
                let asked = confirm.0.iter().map(|id| MessageId::from_caller(&format!("id-{id}")).unwrap());
                settlement.confirm = asked.map(MessageRef::Id).collect();
                let (mut of_model, mut of_redis) = (settlement.clone(), settlement);
                for (spot, length) in ranges {
                    let (model, redis) = self.positions(mailbox, spot);
                    let range = |Position { epoch, lane, sequence }| AckRange {
                        epoch,
                        lane,
                        from: sequence,
                        to: sequence + length,
                    };
                    of_model.acks.push(range(model));
                    of_redis.acks.push(range(redis));
                }
                for spot in composed {
                    let (model, redis) = self.positions(mailbox, spot);
                    of_model.ack_ids.push(MessageId::composed(model));
                    of_redis.ack_ids.push(MessageId::composed(redis));
                }
                for spot in &confirm.1 {
                    let (model, redis) = self.positions(mailbox, spot);
                    of_model.confirm.extend([MessageRef::Position(model), MessageRef::Id(MessageId::composed(model))]);
                    of_redis.confirm.extend([MessageRef::Position(redis), MessageRef::Id(MessageId::composed(redis))]);
                }
                both!(settle(Settle { settlements: vec![of_model] }, Settle { settlements: vec![of_redis] }));
            }
            Step::Nack { which, stale, nacks, charges, rejects } => {
                let Some(known) = self.session(*which) else { return };
                let (mailbox, mut settlement) = (known.mailbox, settlement(known));
                settlement.fence += u64::from(*stale);
                let (mut of_model, mut of_redis) = (settlement.clone(), settlement);
                for (spot, attempt, seconds) in nacks {
                    let (model, redis) = self.positions(mailbox, spot);
                    let attempt = self.attempt(mailbox, spot, *attempt);
                    let nack = |position| Nack { position, attempt, delay: Duration::from_secs(*seconds) };
                    of_model.nacks.push(nack(model));
                    of_redis.nacks.push(nack(redis));
                }
                for (spot, attempt) in charges {
                    let (model, redis) = self.positions(mailbox, spot);
                    let attempt = self.attempt(mailbox, spot, *attempt);
                    of_model.charges.push(Charge { position: model, attempt });
                    of_redis.charges.push(Charge { position: redis, attempt });
                }
                for spot in rejects {
                    let (model, redis) = self.positions(mailbox, spot);
                    of_model.rejects.push(Reject { position: model, reason: "not mine".into() });
                    of_redis.rejects.push(Reject { position: redis, reason: "not mine".into() });
                }
                both!(settle(Settle { settlements: vec![of_model] }, Settle { settlements: vec![of_redis] }));
            }
            Step::Compare { which } => {
                let reports: Vec<SessionReport> = which.iter().filter_map(|one| self.report(one)).collect();
                let compare = Compare { reports, liveness: self.liveness.clone() };
                let sorted = |mut compared: Compared| {
                    compared.activated.sort_unstable_by(|a, b| a.holder.session.cmp(&b.holder.session));
                    compared
                };
                let answers = (
                    sorted(model.compare(compare.clone(), now).await.unwrap()),
                    sorted(redis.compare(compare, now).await.unwrap()),
                );
                for notice in self.pair.same(step, answers.0, answers.1).activated {
                    self.note(&notice.holder.session, notice.holder.fence);
                }
            }
            Step::Subscribe { which } => {
                let Some(known) = self.session(*which) else { return };
                let subscriptions = subscriptions("vp.*");
                let (mailbox, session) = (key(known.mailbox), known.open.session.clone());
                let subscribe = Subscribe { mailbox, session, subscriptions };
                both!(subscribe(subscribe.clone(), subscribe)).ok();
            }
            Step::Sweep => self.sweep(step).await,
            Step::Purge { mailbox } => {
                let purge = Purge { mailbox: key(*mailbox) };
                both!(purge(purge.clone(), purge));
            }
            Step::Forget { mailbox, numbers } => {
                let forget = ForgetDeadLetters { mailbox: key(*mailbox), numbers: numbers.clone() };
                both!(forget_dead_letters(forget.clone(), forget));
            }
            Step::Pass { seconds } => self.pair.now = self.pair.now.after(Duration::from_secs(*seconds)),
            Step::Look { id, spot } => {
                let id = MessageId::from_caller(&format!("id-{id}")).unwrap();
                for mailbox in 0..2 {
                    let (of_model, of_redis) = self.positions(mailbox, spot);
                    let (of_model, of_redis) = (MessageId::composed(of_model), MessageId::composed(of_redis));
                    for (of_model, of_redis) in [(&id, &id), (&of_model, &of_redis)] {
                        let answers = (
                            model.message(&key(mailbox), of_model, now).await.unwrap(),
                            redis.message(&key(mailbox), of_redis, now).await.unwrap(),
                        );
                        self.pair.same(step, answers.0, answers.1);
                    }
                }
            }
        }
    }

    fn message(&self, message: &Message) -> AppendMessage {
        let limits = message.caps.map_or_else(MailboxLimits::default, |(entries, bytes, replace)| MailboxLimits {
            entries,
            bytes,
            overflow: if replace { Overflow::ReplaceOldest } else { Overflow::RefuseNewest },
        });
        AppendMessage {
            mailbox: key(message.mailbox),
            id: message.id.map(|id| MessageId::from_caller(&format!("id-{id}")).unwrap()),
            event_type: "message.received".parse().unwrap(),
            channel: message.fail.then(|| "room-1".parse().unwrap()),
            trace: None,
            sender: message.fail.then(|| "orch-9".parse().unwrap()),
            // With an id the size is the content: sometimes the same, sometimes another one.
            data: Bytes::from(vec![b'x'; if message.id.is_some() { message.size / 20 } else { message.size }]),
            lane: Lane::ALL[message.lane],
            time_to_live: message.seconds.map_or(limits::TIME_TO_LIVE, Duration::from_secs),
            if_offline: if message.fail { IfOffline::Fail } else { IfOffline::Queue },
            limits,
        }
    }

    fn open(&self, step: &Step) -> OpenSession {
        let Step::Open { mailbox, daemon, instance, gateway, reads, window, subscribe, born, .. } = step else {
            unreachable!()
        };
        OpenSession {
            mailbox: key(*mailbox),
            session: format!("s{}", self.sessions.len()).parse().unwrap(),
            daemon: format!("d{daemon}").parse().unwrap(),
            login: format!("login-{}", self.sessions.len() % 3).parse().unwrap(),
            instance: instance.map(|instance| format!("i{instance}").parse().unwrap()),
            incarnation: format!("g{gateway}").parse().unwrap(),
            address: format!("http://g{gateway}:1"),
            reads_mail: *reads,
            window: Window { entries: *window, bytes: 300 },
            resume: None,
            subscriptions: subscribe.then(|| subscriptions("message.*")),
            born: *born,
            most: 4,
            liveness: self.liveness.clone(),
        }
    }

    fn report(&self, (which, status, idle): &(usize, Option<usize>, u64)) -> Option<SessionReport> {
        let known = self.session(*which)?;
        let status = status
            .map(|status| ReportedStatus::from_name(["active", "idle", "busy", "paused", "error"][status]).unwrap());
        Some(SessionReport {
            mailbox: key(known.mailbox),
            session: known.open.session.clone(),
            status,
            metrics: status.map(|_| Bytes::from_static(br#"{"errors":1}"#)),
            idle: Duration::from_secs(*idle),
        })
    }

    async fn renew(&mut self, step: &Step, gateway: u8, draining: bool) {
        let renew = RenewIncarnation {
            incarnation: format!("g{gateway}").parse().unwrap(),
            address: format!("http://g{gateway}:1"),
            draining,
            lease: Duration::from_secs(10),
        };
        let now = Some(self.pair.now);
        let model = self.pair.model.mailboxes.renew(renew.clone(), now).await.unwrap();
        let redis = self.pair.redis.mailboxes.renew(renew, now).await.unwrap();
        if self.pair.same(step, model, redis) == Renewed::Expired {
            self.sweep(step).await;
        }
        let listed = self.incarnations(step).await;
        let which = |wanted: fn(&IncarnationInfo) -> bool| {
            listed.iter().filter(|info| wanted(info)).map(|info| info.incarnation.clone()).collect()
        };
        self.liveness = Liveness { gone: which(|info| info.gone), draining: which(|info| info.draining) };
    }

    async fn sweep(&mut self, step: &Step) {
        let sorted = |mut swept: Swept| {
            swept.activated.sort_unstable_by(|a, b| a.holder.session.cmp(&b.holder.session));
            swept.grown.sort_unstable_by(|a, b| a.0.session.cmp(&b.0.session));
            swept.news.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            // How much was looked at is a matter of each store.
            Swept { handled: 0, ..swept }
        };
        let (now, sweep) = (Some(self.pair.now), Sweep { limit: 1_000 });
        let model = sorted(self.pair.model.mailboxes.sweep(sweep.clone(), now).await.unwrap());
        let redis = sorted(self.pair.redis.mailboxes.sweep(sweep, now).await.unwrap());
        let swept = self.pair.same(step, model, redis);
        for notice in swept.activated {
            self.note(&notice.holder.session, notice.holder.fence);
        }
        for (mailbox, news) in swept.news {
            // Some of it is confirmed.
            if news.presence.is_some_and(|(_, since)| since.as_millis().is_multiple_of(2)) || news.letters.1 % 3 == 2 {
                let online = news.presence.map(|(online, _)| online);
                let told = NewsTold { mailbox, online, letters: news.letters.1 };
                self.pair.model.mailboxes.note_told(told.clone(), now).await.unwrap();
                self.pair.redis.mailboxes.note_told(told, now).await.unwrap();
            }
        }
    }

    async fn incarnations(&self, step: &Step) -> Vec<IncarnationInfo> {
        let now = Some(self.pair.now);
        let model = self.pair.model.mailboxes.incarnations(now).await.unwrap();
        let redis = self.pair.redis.mailboxes.incarnations(now).await.unwrap();
        self.pair.same(step, model, redis)
    }

    /// A mailbox of the Redis has an epoch of its own.
    async fn learn_epochs(&mut self) {
        for number in 0..2u8 {
            if self.epochs[usize::from(number)].is_none() {
                let view = self.pair.redis.mailboxes.mailbox(&key(number), Some(self.pair.now)).await.unwrap();
                self.epochs[usize::from(number)] = view.and_then(|view| view.epoch);
                self.pair.epochs.extend(self.epochs[usize::from(number)]);
            }
        }
    }

    /// Whatever can be seen is the same after each step.
    async fn compare_views(&mut self, step: &Step) {
        let (now, liveness) = (Some(self.pair.now), self.liveness.clone());
        let (model, redis) = (self.pair.model.mailboxes.clone(), self.pair.redis.mailboxes.clone());
        for number in 0..2 {
            let key = key(number);
            let views = (model.mailbox(&key, now).await.unwrap(), redis.mailbox(&key, now).await.unwrap());
            if let Some(view) = self.pair.same(step, views.0, views.1) {
                assert_eq!(view.conservation_delta(), 0);
            }
            let sessions = (
                model.sessions(&key, &liveness, now).await.unwrap(),
                redis.sessions(&key, &liveness, now).await.unwrap(),
            );
            self.pair.same(step, sessions.0, sessions.1);
            let presence = (
                model.presence(&key, &liveness, now).await.unwrap(),
                redis.presence(&key, &liveness, now).await.unwrap(),
            );
            self.pair.same(step, presence.0, presence.1);
            for after in [(Lane::Critical, 0), (Lane::Normal, 2)] {
                let residents = (
                    model.residents(&key, after, 9, now).await.unwrap(),
                    redis.residents(&key, after, 9, now).await.unwrap(),
                );
                self.pair.same(step, residents.0, residents.1);
            }
            let letters = (
                model.dead_letters(&key, 1, 5, now).await.unwrap(),
                redis.dead_letters(&key, 1, 5, now).await.unwrap(),
            );
            self.pair.same(step, letters.0, letters.1);
            let told =
                (model.holder(&key, &liveness, now).await.unwrap(), redis.holder(&key, &liveness, now).await.unwrap());
            self.pair.same(step, told.0, told.1);
        }
        if let Some(known) = self.sessions.last() {
            let session = &known.open.session;
            let found = (model.locate(session).await.unwrap(), redis.locate(session).await.unwrap());
            self.pair.same(step, found.0, found.1);
        }
    }
}

fn settlement(known: &Opened) -> Settlement {
    Settlement {
        mailbox: key(known.mailbox),
        session: known.open.session.clone(),
        fence: known.fence,
        acks: Vec::new(),
        ack_ids: Vec::new(),
        nacks: Vec::new(),
        rejects: Vec::new(),
        charges: Vec::new(),
        gap_mark: 0,
        confirm: Vec::new(),
    }
}

fn subscriptions(pattern: &str) -> Subscriptions {
    Subscriptions::default().subscribe(&[pattern.parse().unwrap()], &Default::default()).unwrap()
}
