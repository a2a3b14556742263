//! The feed of one organization, and those who sit at it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slab::Slab;
use waystation_domain::{FeedEvent, FeedGap, FeedLoss, FeedPoint, OrganizationId, ScopeSet, Subscriptions, may_see};
use waystation_wire::{FeedNews, FollowRequest, Followed, SharedEvent};

use super::index::{Index, Slot};
use super::tap::{News, Tap};
use super::{AGAIN, Shared, Viewer};
use crate::registry::{Event, Handle};
use crate::upstream::{FeedUnread, Witness};

/// What is missing is waited for before it is read: it is on another router's way.
const MISSING: Duration = Duration::from_millis(5);
/// Events, and bytes of data, that a subscriber that is behind gets at once.
const AT_ONCE: usize = 64;
const AT_ONCE_BYTES: usize = 64 * 1024;
/// Pieces that are looked through for a subscriber before it is told how far that went.
const PIECES: usize = 16;
/// A tap reads so much at once.
const TAP_EVENTS: u64 = 256;
const TAP_BYTES: u64 = 1 << 20;
/// A feed without subscribers is followed for so long.
const WANTED_FOR: Duration = Duration::from_secs(30);

pub(super) struct Feed {
    organization: OrganizationId,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None`: routers do not know yet that somebody is here.
    tap: Option<Tap>,
    members: Slab<Member>,
    /// Those who are at the head.
    index: Index,
    /// Who asked before the tap stood.
    waiting: Vec<(Slot, FollowRequest)>,
    joining: bool,
    pulling: bool,
    /// Something was missing while it was read.
    pull_again: bool,
    /// Counts events, so that nobody gets one twice.
    told: u64,
    /// The tap's head when the keeper looked last.
    seen_head: Option<FeedPoint>,
    empty_since: Option<Instant>,
    /// Whose witness is shown next.
    turn: usize,
}

struct Member {
    handle: Arc<Handle>,
    viewer: Viewer,
    is_live: bool,
    told: u64,
}

impl Member {
    fn tell(&self, news: FeedNews) {
        self.handle.events.push(Event::Feed(news));
    }
}

impl Viewer {
    /// What no index tells.
    fn may_see(&self, event: &FeedEvent) -> bool {
        let excluded = &self.subscriptions.excluded;
        (excluded.is_empty() || !excluded.iter().any(|gone| gone.matches(&event.event_type)))
            && may_see(self.scopes, &event.event_type)
            && (event.audience.is_everybody()
                || event.audience.includes(self.orchestrator.as_ref(), self.daemon.as_ref()))
    }

    fn wants(&self, event: &FeedEvent) -> bool {
        self.subscriptions.wants(&event.event_type, event.channel.as_ref()) && self.may_see(event)
    }
}

/// A place at a feed, left when dropped.
pub(crate) struct Seat {
    feed: Arc<Feed>,
    slot: Slot,
}

impl Seat {
    /// Asks for what follows; the answer comes into the queue of events.
    pub(crate) fn follow(&self, request: FollowRequest) {
        self.feed.follow(self.slot, request);
    }

    /// Nothing comes by itself any more.
    pub(crate) fn unfollow(&self) {
        self.feed.lock().detach(self.slot);
    }

    /// Other events are wanted from now on.
    pub(crate) fn filter(&self, subscriptions: Subscriptions) {
        self.feed.lock().change(self.slot, |viewer| viewer.subscriptions = subscriptions);
    }

    /// The token allows something else.
    pub(crate) fn allow(&self, scopes: ScopeSet) {
        self.feed.lock().change(self.slot, |viewer| viewer.scopes = scopes);
    }

    /// Has the present head told, behind all that came before it.
    pub(crate) fn mark(&self) {
        let state = self.feed.lock();
        let head = state.tap.as_ref().and_then(|tap| tap.extent().head_position());
        if let (Some(member), Some(head)) = (state.members.get(self.slot).filter(|member| member.is_live), head) {
            member.tell(FeedNews::Reached(head));
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let now = self.feed.now();
        let mut state = self.feed.lock();
        state.detach(self.slot);
        state.waiting.retain(|(slot, _)| *slot != self.slot);
        state.members.try_remove(self.slot);
        if state.members.is_empty() {
            state.empty_since = Some(now);
        }
    }
}

impl State {
    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Viewer)) {
        let Some(member) = self.members.get_mut(slot) else { return };
        if member.is_live {
            self.index.remove(slot, &member.viewer.subscriptions);
        }
        change(&mut member.viewer);
        if member.is_live {
            self.index.insert(slot, &member.viewer.subscriptions);
        }
    }

    fn attach(&mut self, slot: Slot) {
        let Some(member) = self.members.get_mut(slot).filter(|member| !member.is_live) else { return };
        member.is_live = true;
        self.index.insert(slot, &member.viewer.subscriptions);
    }

    fn detach(&mut self, slot: Slot) {
        let Some(member) = self.members.get_mut(slot).filter(|member| member.is_live) else { return };
        member.is_live = false;
        self.index.remove(slot, &member.viewer.subscriptions);
    }

    /// Tells those who are at the head and want it.
    fn distribute(&mut self, news: News) {
        for gap in news.gaps {
            for (_, member) in self.members.iter().filter(|(_, member)| member.is_live) {
                member.tell(FeedNews::Gap(gap));
            }
        }
        let State { members, index, told, .. } = self;
        for event in news.events {
            *told += 1;
            index.matching(&event.event.event_type, event.event.channel.as_ref(), |slot| {
                let Some(member) = members.get_mut(slot).filter(|member| member.told != *told) else { return };
                member.told = *told;
                if member.viewer.may_see(&event.event) {
                    member.tell(FeedNews::Event(event.clone()));
                }
            });
        }
    }

    /// Why the feed may come here: another subscriber's each time.
    fn witness(&mut self) -> Option<Witness> {
        let count = self.members.len();
        self.turn = self.turn.wrapping_add(1);
        let at = self.turn.checked_rem(count)?;
        self.members.iter().nth(at).map(|(_, member)| member.handle.witness())
    }
}

impl Feed {
    pub(super) fn new(organization: OrganizationId, shared: Arc<Shared>) -> Arc<Feed> {
        Arc::new(Feed { organization, shared, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        self.shared.context.clock.instant()
    }

    pub(super) fn sit(self: Arc<Self>, handle: Arc<Handle>, viewer: Viewer) -> Seat {
        let mut state = self.lock();
        state.empty_since = None;
        let slot = state.members.insert(Member { handle, viewer, is_live: false, told: 0 });
        drop(state);
        Seat { feed: self, slot }
    }

    pub(super) fn is_unwanted(&self) -> bool {
        let now = self.now();
        self.lock().empty_since.is_some_and(|since| now.saturating_duration_since(since) >= WANTED_FOR)
    }

    /// Events came from a router.
    pub(super) fn push(self: &Arc<Self>, events: Vec<FeedEvent>) {
        let mut state = self.lock();
        // What was published before the tap stood is read.
        let Some(tap) = &mut state.tap else { return };
        let (events, is_behind) = tap.take(events);
        state.distribute(News { gaps: Vec::new(), events });
        if is_behind {
            self.pull(&mut state, MISSING);
        }
    }

    /// Reads what the tap lacks, after a pause.
    fn pull(self: &Arc<Self>, state: &mut State, pause: Duration) {
        if state.pulling {
            state.pull_again = true;
            return;
        }
        state.pulling = true;
        let feed = self.clone();
        self.shared.context.lifecycle.spawn(async move {
            tokio::time::sleep(pause).await;
            while feed.pull_once().await {}
        });
    }

    /// Reads once; answers whether there is more to read.
    async fn pull_once(&self) -> bool {
        let wanted = {
            let mut state = self.lock();
            state.pull_again = false;
            let head = state.tap.as_ref().map(Tap::head);
            let witness = state.witness();
            if head.is_none() || witness.is_none() {
                state.pulling = false;
            }
            head.zip(witness)
        };
        let Some((head, witness)) = wanted else { return false };
        let read = self.shared.calls.read(&witness, head.sequence, TAP_EVENTS, TAP_BYTES).await;
        let Ok((extent, events)) = read else {
            tokio::time::sleep(AGAIN).await;
            return true;
        };
        let mut state = self.lock();
        let Some(tap) = &mut state.tap else { return false };
        let news = tap.take_piece(&extent, events.into_iter().map(SharedEvent::new).collect());
        let is_behind = tap.extent().head < extent.head;
        state.distribute(news);
        state.pulling = is_behind || state.pull_again;
        state.pulling
    }

    /// Asks for what follows a point, for one subscriber.
    fn follow(self: &Arc<Self>, slot: Slot, request: FollowRequest) {
        let mut state = self.lock();
        if state.tap.is_some() {
            return self.serve(&mut state, slot, request);
        }
        state.waiting.push((slot, request));
        if !std::mem::replace(&mut state.joining, true) {
            let feed = self.clone();
            self.shared.context.lifecycle.spawn(async move {
                while feed.join().await.is_err() {
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
    }

    /// Has routers push to this gateway; then those are served who wait.
    async fn join(self: &Arc<Self>) -> Result<(), FeedUnread> {
        let witness = self.lock().witness();
        let extent = match witness {
            Some(witness) => Some(self.shared.calls.compare(&witness).await?),
            None => None,
        };
        let mut state = self.lock();
        state.joining = false;
        let Some(extent) = extent else { return Ok(()) };
        state.tap = Some(Tap::begin(extent));
        for (slot, request) in std::mem::take(&mut state.waiting) {
            self.serve(&mut state, slot, request);
        }
        Ok(())
    }

    /// Answers from what is here, or reads.
    fn serve(self: &Arc<Self>, state: &mut State, slot: Slot, request: FollowRequest) {
        let (Some(tap), Some(member)) = (&state.tap, state.members.get(slot)) else { return };
        let head = tap.head();
        let from = request.from.unwrap_or(head);
        let recent = if from == head { Some(Vec::new()) } else { tap.since(from) };
        let Some(recent) = recent else {
            state.detach(slot);
            let feed = self.clone();
            return self.shared.context.lifecycle.spawn(async move { feed.catch_up(slot, request.number, from).await });
        };
        let (events, cut) = portion(recent.into_iter(), &member.viewer);
        let (at, is_live) = cut.map_or((head, true), |at| (at, false));
        let followed = Followed { number: request.number, gaps: Vec::new(), events, at, is_live };
        // Under the lock: what is told from now on comes behind this.
        member.tell(FeedNews::Followed(Box::new(followed)));
        if is_live {
            state.attach(slot);
        } else {
            state.detach(slot);
        }
    }

    /// Reads the log for a subscriber that is behind.
    async fn catch_up(&self, slot: Slot, number: u64, from: FeedPoint) {
        loop {
            let (viewer, witness) = {
                let mut state = self.lock();
                // Its seat may have been taken by another; a request that nobody made is not expected there.
                let Some(member) = state.members.get(slot) else { return };
                let viewer = member.viewer.clone();
                let Some(witness) = state.witness() else { return };
                (viewer, witness)
            };
            if let Ok(followed) = self.look_through(&viewer, &witness, number, from).await {
                if let Some(member) = self.lock().members.get(slot) {
                    member.tell(FeedNews::Followed(Box::new(followed)));
                }
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Some pieces of the log, as far as one viewer wants to see them.
    async fn look_through(
        &self,
        viewer: &Viewer,
        witness: &Witness,
        number: u64,
        from: FeedPoint,
    ) -> Result<Followed, FeedUnread> {
        let mut followed = Followed { number, gaps: Vec::new(), events: Vec::new(), at: from, is_live: false };
        let known = self.lock().tap.as_ref().map(|tap| tap.extent().clone()).unwrap_or_default();
        let start = known.start(from);
        if start.after != from.sequence || !start.gaps.is_empty() {
            // What is known here may be older than what the client has seen elsewhere.
            let (extent, _) = self.shared.calls.read(witness, from.sequence, 1, 1).await?;
            let start = extent.start(from);
            if start.after != from.sequence || !start.gaps.is_empty() {
                let at = FeedPoint { epoch: extent.owner(start.after), sequence: start.after };
                return Ok(Followed { gaps: start.gaps, at, ..followed });
            }
        }
        for _ in 0..PIECES {
            let at = followed.at.sequence;
            let piece = self.shared.pieces.after(&self.organization, witness, at).await?;
            let floor = piece.extent.floor;
            if floor > at {
                // It was trimmed in the meantime.
                let epoch = piece.extent.owner(floor);
                followed.gaps.push(FeedGap { loss: FeedLoss::Trimmed, epoch, from: at + 1, to: floor });
                followed.at = FeedPoint { epoch, sequence: floor };
                break;
            }
            let later = piece.events.iter().filter(|event| event.event.position.sequence > at);
            let (events, cut) = portion(later.cloned(), viewer);
            let is_found = !events.is_empty();
            followed.events = events;
            followed.at = match (cut, piece.through().filter(|through| *through > at)) {
                (Some(cut), _) => cut,
                (None, Some(through)) => FeedPoint { epoch: piece.extent.owner(through), sequence: through },
                // The head, by the name of its present epoch.
                (None, None) => FeedPoint { epoch: piece.extent.epoch(), sequence: piece.extent.head },
            };
            if is_found || followed.at.sequence >= piece.extent.head {
                break;
            }
        }
        Ok(followed)
    }

    /// Compares the tap with the store, which thereby hears that somebody is here.
    pub(super) async fn compare(self: Arc<Self>) {
        let witness = {
            let mut state = self.lock();
            let head = state.tap.as_ref().map(Tap::head);
            if state.seen_head == head
                && let Some(tap) = &mut state.tap
            {
                tap.forget_recent();
            }
            state.seen_head = head;
            state.tap.is_some().then(|| state.witness()).flatten()
        };
        let Some(witness) = witness else { return };
        // If it fails, the next round asks again.
        let Ok(extent) = self.shared.calls.compare(&witness).await else { return };
        let mut state = self.lock();
        let Some(tap) = &state.tap else { return };
        let head = FeedPoint { epoch: extent.epoch(), sequence: extent.head };
        let is_newer = tap.extent().head > extent.head && tap.head().epoch == extent.epoch();
        if tap.head() != head && !is_newer {
            self.pull(&mut state, Duration::ZERO);
        }
    }
}

/// As much of what follows as a viewer gets at once, and, if that is not all, up to where it is.
fn portion(
    events: impl Iterator<Item = Arc<SharedEvent>>,
    viewer: &Viewer,
) -> (Vec<Arc<SharedEvent>>, Option<FeedPoint>) {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for event in events {
        if !viewer.wants(&event.event) {
            continue;
        }
        bytes += event.event.data.len();
        if taken.len() == AT_ONCE || bytes > AT_ONCE_BYTES && !taken.is_empty() {
            let last: Option<&Arc<SharedEvent>> = taken.last();
            let at = last.map(|event| event.event.position.into());
            return (taken, at);
        }
        taken.push(event);
    }
    (taken, None)
}
