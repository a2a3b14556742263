//! A store with a clock that the test turns, and the words in which cases are told.

use std::time::Duration;

use bytes::Bytes;
use waystation_domain::{Epoch, Lane, MessageId, PerLane, Position, SessionId, Timestamp};

use crate::mailbox::*;
use crate::{Store, limits};

pub struct World {
    pub store: Store,
    pub now: Timestamp,
    pub liveness: Liveness,
    reads: u64,
}

/// Acks of one position.
pub fn ack(position: Position) -> AckRange {
    AckRange { epoch: position.epoch, lane: position.lane, from: position.sequence, to: position.sequence }
}

pub fn nack(entry: &Entry, delay: Duration) -> Nack {
    Nack { position: entry.position, attempt: entry.attempt, delay }
}

impl World {
    pub fn new(store: Store) -> World {
        World { store, now: Timestamp::from_millis(1_000_000_000), liveness: Liveness::default(), reads: 0 }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    pub fn at(&self) -> Now {
        Some(self.now)
    }

    pub fn key(&self) -> MailboxKey {
        MailboxKey { organization: "acme".parse().unwrap(), orchestrator: "orla".parse().unwrap() }
    }

    pub fn message(&self, data: &str) -> AppendMessage {
        AppendMessage {
            mailbox: self.key(),
            id: None,
            event_type: "message.received".parse().unwrap(),
            channel: None,
            trace: None,
            sender: None,
            data: Bytes::copy_from_slice(data.as_bytes()),
            lane: Lane::Normal,
            time_to_live: limits::TIME_TO_LIVE,
            if_offline: IfOffline::Queue,
            limits: MailboxLimits::default(),
        }
    }

    pub fn named(&self, id: &str, data: &str) -> AppendMessage {
        AppendMessage { id: Some(MessageId::from_caller(id).unwrap()), ..self.message(data) }
    }

    pub async fn append_all(&self, messages: Vec<AppendMessage>) -> Vec<Result<Appended, AppendRefused>> {
        let append = Append { messages, liveness: self.liveness.clone() };
        let answers = self.store.mailboxes.append(append, self.at()).await.unwrap();
        self.check_conservation().await;
        answers
    }

    pub async fn append(&self, message: AppendMessage) -> Result<Appended, AppendRefused> {
        self.append_all(vec![message]).await.remove(0)
    }

    /// Appends plain messages to a lane.
    pub async fn fill(&self, lane: Lane, count: usize) -> Vec<Appended> {
        let message = AppendMessage { lane, ..self.message("{}") };
        let answers = self.append_all(vec![message; count]).await;
        answers.into_iter().map(Result::unwrap).collect()
    }

    pub async fn gateway(&self, name: &str) -> Renewed {
        let renew = RenewIncarnation {
            incarnation: name.parse().unwrap(),
            address: format!("http://{name}"),
            draining: false,
            lease: limits::LEASE,
        };
        self.store.mailboxes.renew(renew, self.at()).await.unwrap()
    }

    /// A request to open session `session` of daemon `daemon` on gateway `g1`.
    pub fn session(&self, session: &str, daemon: &str) -> OpenSession {
        OpenSession {
            mailbox: self.key(),
            session: session.parse().unwrap(),
            daemon: daemon.parse().unwrap(),
            login: format!("login-{daemon}").parse().unwrap(),
            instance: None,
            incarnation: "g1".parse().unwrap(),
            address: "http://g1".into(),
            reads_mail: true,
            window: Window { entries: 256, bytes: 1 << 20 },
            resume: None,
            subscriptions: None,
            born: None,
            most: limits::SESSIONS,
            liveness: self.liveness.clone(),
        }
    }

    pub async fn try_open(&self, open: OpenSession) -> Result<Opened, OpenRefused> {
        let answer = self.store.mailboxes.open(open, self.at()).await.unwrap();
        self.check_conservation().await;
        answer
    }

    /// Opens a session on `g1`, whose lease it renews.
    pub async fn open(&self, session: &str, daemon: &str) -> Opened {
        self.gateway("g1").await;
        self.try_open(self.session(session, daemon)).await.unwrap()
    }

    pub async fn close(&self, session: &str) -> Option<ActivationNotice> {
        self.close_as(session, false, false).await
    }

    pub async fn close_as(&self, session: &str, goodbye: bool, drained: bool) -> Option<ActivationNotice> {
        let close = CloseSession {
            mailbox: self.key(),
            session: session.parse().unwrap(),
            goodbye,
            drained,
            liveness: self.liveness.clone(),
        };
        self.store.mailboxes.close(close, self.at()).await.unwrap()
    }

    /// A read from the beginning with a large window.
    pub fn reading(&mut self, session: &str, fence: u64) -> ReadMailbox {
        self.reads += 1;
        ReadMailbox {
            mailbox: self.key(),
            session: session.parse().unwrap(),
            fence,
            read_id: self.reads,
            positions: PerLane::default(),
            exits_position: 0,
            max_entries: 1_000,
            max_critical: 1_016,
            max_bytes: 16 << 20,
            window_empty: true,
        }
    }

    pub async fn try_read(&self, read: ReadMailbox) -> Result<ReadAnswer, Refused> {
        let answer = self.store.mailboxes.read(read, self.at()).await.unwrap();
        self.check_conservation().await;
        answer
    }

    pub async fn read(&mut self, session: &str, fence: u64) -> ReadAnswer {
        let read = self.reading(session, fence);
        self.try_read(read).await.unwrap()
    }

    pub fn settlement(&self, session: &str, fence: u64) -> Settlement {
        Settlement {
            mailbox: self.key(),
            session: session.parse().unwrap(),
            fence,
            acks: Vec::new(),
            ack_ids: Vec::new(),
            nacks: Vec::new(),
            rejects: Vec::new(),
            charges: Vec::new(),
            gap_mark: 0,
            confirm: Vec::new(),
        }
    }

    pub async fn settle(&self, settlement: Settlement) -> Settled {
        let settle = Settle { settlements: vec![settlement] };
        let settled = self.store.mailboxes.settle(settle, self.at()).await.unwrap();
        self.check_conservation().await;
        settled.into_iter().next().unwrap()
    }

    pub async fn ack(&self, position: Position) -> Settled {
        self.settle(Settlement { acks: vec![ack(position)], ..self.settlement("nobody", 0) }).await
    }

    pub fn report(&self, session: &str) -> SessionReport {
        SessionReport {
            mailbox: self.key(),
            session: session.parse().unwrap(),
            status: None,
            metrics: None,
            idle: Duration::ZERO,
        }
    }

    pub async fn compare(&self, report: SessionReport) -> Compared {
        let compare = Compare { reports: vec![report], liveness: self.liveness.clone() };
        self.store.mailboxes.compare(compare, self.at()).await.unwrap()
    }

    pub async fn sweep(&self) -> Swept {
        let mut swept = self.sweep_once().await;
        while swept.more {
            let next = self.sweep_once().await;
            swept.activated.extend(next.activated);
            swept.grown.extend(next.grown);
            swept.news.extend(next.news);
            swept.more = next.more;
        }
        swept
    }

    pub async fn sweep_once(&self) -> Swept {
        let swept = self.store.mailboxes.sweep(Sweep { limit: 1_000 }, self.at()).await.unwrap();
        self.check_conservation().await;
        swept
    }

    /// Subscribers have been told.
    pub async fn told(&self, online: Option<bool>, letters: u64) {
        let told = NewsTold { mailbox: self.key(), online, letters };
        self.store.mailboxes.note_told(told, self.at()).await.unwrap();
    }

    pub async fn view(&self) -> MailboxView {
        self.store.mailboxes.mailbox(&self.key(), self.at()).await.unwrap().unwrap()
    }

    pub async fn state(&self, id: &MessageId) -> MessageState {
        self.store.mailboxes.message(&self.key(), id, self.at()).await.unwrap().state
    }

    pub async fn presence(&self) -> Presence {
        self.store.mailboxes.presence(&self.key(), &self.liveness, self.at()).await.unwrap().presence
    }

    /// R19, after every step.
    async fn check_conservation(&self) {
        if let Some(view) = self.store.mailboxes.mailbox(&self.key(), self.at()).await.unwrap() {
            assert_eq!(view.conservation_delta(), 0, "{view:?}");
        }
    }
}

/// Sequences of the entries, in their order.
pub fn sequences(answer: &ReadAnswer) -> Vec<(Lane, u64)> {
    answer.entries.iter().map(|entry| (entry.position.lane, entry.position.sequence)).collect()
}

/// An epoch that no store has.
pub fn foreign_epoch() -> Epoch {
    Epoch::from_raw(u64::MAX)
}

pub fn session_id(text: &str) -> SessionId {
    text.parse().unwrap()
}
