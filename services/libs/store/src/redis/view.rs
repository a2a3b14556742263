//! What operators and callers may see.

use bytes::Bytes;
use serde::Deserialize;
use waystation_domain::{Lane, MessageId, PerLane, Position, ReportedStatus, SessionId, Timestamp};

use super::append::state;
use super::reply::{self, odd};
use super::scripts::Script;
use super::sessions::subscriptions_of;
use super::{Args, Redis, keys};
use crate::mailbox::*;
use crate::{Unavailable, limits};

/// See `view.lua`.
#[derive(Deserialize)]
struct ViewText {
    epoch: String,
    heads: Vec<u64>,
    depths: Vec<u64>,
    bytes: u64,
    dead_letters: u64,
    oldest: Option<u64>,
    counters: [u64; 5],
    holder: Option<String>,
    holder_text: String,
    heads_now: Vec<i64>,
    #[serde(default)]
    sessions: Vec<SessionText>,
    ended: String,
    moment: u64,
}

#[derive(Deserialize)]
struct SessionText {
    id: String,
    daemon: String,
    login: String,
    incarnation: String,
    opened: u64,
    status: Option<String>,
    metrics: Option<String>,
    subscriptions: Option<String>,
    /// Milliseconds.
    #[serde(default)]
    idle: u64,
}

impl ViewText {
    /// Sessions whose gateway lives, in the order of opening.
    fn live<'a>(&'a self, liveness: &'a Liveness) -> impl DoubleEndedIterator<Item = &'a SessionText> {
        let gone = |session: &SessionText| liveness.gone.iter().any(|gone| gone.as_str() == session.incarnation);
        self.sessions.iter().filter(move |session| !gone(session))
    }

    fn session(&self, session: &SessionText) -> Result<SessionView, Unavailable> {
        Ok(SessionView {
            session: reply::parse(&session.id)?,
            daemon: reply::parse(&session.daemon)?,
            login: reply::parse(&session.login)?,
            incarnation: reply::parse(&session.incarnation)?,
            opened: Timestamp::from_millis(session.opened),
            active: self.holder.as_ref() == Some(&session.id),
            status: session.status(),
            metrics: session.metrics.clone().map(Bytes::from),
            subscriptions: subscriptions_of(session.subscriptions.as_deref())?,
        })
    }

    /// When the last session ended, and whether it said goodbye.
    fn ended(&self) -> Result<Option<(Timestamp, bool)>, Unavailable> {
        let Some((at, goodbye)) = self.ended.split_once(' ') else { return Ok(None) };
        Ok(Some((Timestamp::from_millis(reply::parse(at)?), goodbye == "1")))
    }

    fn presence(&self, liveness: &Liveness) -> Result<PresenceView, Unavailable> {
        let live: Vec<&SessionText> = self.live(liveness).collect();
        let holder = self.sessions.iter().find(|session| self.holder.as_ref() == Some(&session.id));
        let active = holder.or(live.last().copied());
        let ended = self.ended()?;
        let moment = Timestamp::from_millis(self.moment);
        let presence = match (live.len(), ended) {
            (0, Some((at, false))) if moment.since(at) < limits::RECONNECTING => Presence::Reconnecting,
            // Its gateway died: nobody has seen the session end yet.
            (0, None) if !self.sessions.is_empty() => Presence::Reconnecting,
            (0, _) => Presence::Offline,
            _ => Presence::Online,
        };
        Ok(PresenceView {
            presence,
            sessions: live.len(),
            last_seen: ended.filter(|_| live.is_empty()).map(|(at, _)| at),
            status: active.filter(|_| !live.is_empty()).and_then(SessionText::status),
            silent: !live.is_empty()
                && live.iter().all(|session| u128::from(session.idle) >= limits::YIELD_AFTER.as_millis()),
        })
    }
}

impl SessionText {
    fn status(&self) -> Option<ReportedStatus> {
        self.status.as_deref().and_then(ReportedStatus::from_name)
    }
}

impl Redis {
    async fn view(&self, key: &MailboxKey, now: Now) -> Result<Option<ViewText>, Unavailable> {
        let answer = reply::bytes(self.run_on(key, Script::View, Args::default(), now).await?)?;
        if answer.is_empty() { Ok(None) } else { serde_json::from_slice(&answer).map(Some).map_err(odd) }
    }

    pub(super) async fn mailbox_view(&self, key: &MailboxKey, now: Now) -> Result<Option<MailboxView>, Unavailable> {
        let Some(text) = self.view(key, now).await? else { return Ok(None) };
        let (heads, depths) = (reply::lanes(&text.heads)?, reply::lanes(&text.depths)?);
        let [acknowledged, expired, dead, overflowed, purged] = text.counters;
        Ok(Some(MailboxView {
            epoch: Some(reply::parse(&text.epoch)?),
            lanes: PerLane::from_fn(|lane| LaneView { head: heads[lane], depth: depths[lane] }),
            bytes: text.bytes,
            dead_letters: text.dead_letters,
            oldest: text.oldest.map(Timestamp::from_millis),
            counters: Counters { acknowledged, expired, dead, overflowed, purged },
            holder: text.holder.as_deref().map(reply::parse).transpose()?,
        }))
    }

    pub(super) async fn session_views(
        &self,
        key: &MailboxKey,
        liveness: &Liveness,
        now: Now,
    ) -> Result<Vec<SessionView>, Unavailable> {
        let Some(text) = self.view(key, now).await? else { return Ok(Vec::new()) };
        text.live(liveness).rev().map(|session| text.session(session)).collect()
    }

    pub(super) async fn presence_view(
        &self,
        key: &MailboxKey,
        liveness: &Liveness,
        now: Now,
    ) -> Result<PresenceView, Unavailable> {
        let never =
            PresenceView { presence: Presence::Offline, sessions: 0, last_seen: None, status: None, silent: false };
        self.view(key, now).await?.map_or(Ok(never), |text| text.presence(liveness))
    }

    pub(super) async fn holder_view(
        &self,
        key: &MailboxKey,
        liveness: &Liveness,
        now: Now,
    ) -> Result<Option<(HolderRef, Heads)>, Unavailable> {
        let Some(text) = self.view(key, now).await?.filter(|text| !text.holder_text.is_empty()) else {
            return Ok(None);
        };
        let holder = reply::holder(&text.holder_text)?;
        let heads = reply::heads(&text.heads_now)?;
        Ok((!liveness.is_gone(&holder.incarnation)).then_some((holder, heads)))
    }

    pub(super) async fn message_view(
        &self,
        key: &MailboxKey,
        id: &MessageId,
        now: Now,
    ) -> Result<MessageView, Unavailable> {
        let mut args = Args::default();
        args.text(id.as_str());
        match id.position() {
            Some(Position { epoch, lane, sequence }) => args.number(epoch).number(lane.letter()).number(sequence),
            None => args.text("").text("").text(""),
        };
        let mut answer = reply::list(self.run_on(key, Script::Message, args, now).await?)?;
        let unknown = MessageView { state: MessageState::Unknown, position: None };
        let found = state(&reply::text(reply::next(&mut answer)?)?)?;
        if found == MessageState::Unknown {
            return Ok(unknown);
        }
        let epoch = reply::parse(&reply::text(reply::next(&mut answer)?)?)?;
        let lane = reply::text(reply::next(&mut answer)?)?;
        let lane = Lane::from_letter(&lane).ok_or_else(|| odd(lane))?;
        let sequence = reply::number(reply::next(&mut answer)?)?;
        Ok(MessageView { state: found, position: Some(Position { epoch, lane, sequence }) })
    }

    /// The session's own id says nothing of its partition, so each is asked.
    pub(super) async fn locate_session(
        &self,
        session: &SessionId,
    ) -> Result<Option<(MailboxKey, SessionView)>, Unavailable> {
        let each = (0..self.places.partitions).map(|partition| {
            let mut args = Args::default();
            args.text(session.as_str());
            async move { reply::text(self.run_in(partition, Script::Locate, args, None).await?) }
        });
        let found = futures_util::future::try_join_all(each).await?.into_iter().find(|name| !name.is_empty());
        let Some(name) = found else { return Ok(None) };
        let key = keys::key_of(&name).ok_or_else(|| odd(name))?;
        let views = self.session_views(&key, &Liveness::default(), None).await?;
        Ok(views.into_iter().find(|view| view.session == *session).map(|view| (key, view)))
    }
}
