//! The standing stream to one gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use waystation_domain::IncarnationId;
use waystation_proto::gateway::v1::gateway_service_client::GatewayServiceClient;
use waystation_proto::gateway::v1::{DeliverRequest, DeliverResponse};
use waystation_rpc::{Activities, Bearer, channel};
use waystation_runtime::Context;
use waystation_telemetry::traces::Span;

use super::breaker::Breaker;
use super::{Hinted, Links};

/// A stream that says nothing is pinged so often …
const PING: Duration = Duration::from_secs(2);
/// … and is broken after this silence.
const SILENCE: Duration = Duration::from_secs(4);
/// Pauses before dialling again: 1, 2, 4, 8, then 10 s, each with jitter.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Hints that go into one frame.
const TOGETHER: usize = 256;

/// Whether hints were dropped since the gateway was last told. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Drops(Arc<(AtomicBool, Notify)>);

impl Drops {
    pub(super) fn note(&self) {
        if !self.0.0.swap(true, Ordering::AcqRel) {
            self.0.1.notify_one();
        }
    }

    /// Has the next frame sent now.
    pub(super) fn wake(&self) {
        self.0.1.notify_one();
    }

    async fn noted(&self) {
        self.0.1.notified().await;
    }

    fn take(&self) -> bool {
        self.0.0.swap(false, Ordering::AcqRel)
    }
}

pub(super) struct Stream {
    pub(super) incarnation: IncarnationId,
    pub(super) address: String,
    pub(super) bearer: Bearer,
    pub(super) drops: Drops,
    pub(super) activities: Activities,
    pub(super) links: Links,
    pub(super) context: Context,
}

/// Why a stream ended.
enum Ended {
    /// Nobody sends to this gateway any more, or another process answers at its address.
    ForGood,
    /// It can be dialled again.
    Broken(Status),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Ended {
        if status.code() == Code::FailedPrecondition { Ended::ForGood } else { Ended::Broken(status) }
    }
}

impl Stream {
    /// Runs until the gateway is gone from the table or the process stops.
    pub(super) async fn run(self, mut hints: mpsc::Receiver<Hinted>) {
        let lifecycle = self.context.lifecycle.clone();
        let mut breaker = Breaker::new(self.links.name_of(&self.incarnation));
        let mut pause = FIRST_PAUSE;
        loop {
            let dialled = self.context.clock.instant();
            let ended = tokio::select! {
                ended = self.carry(&mut hints, &mut breaker) => ended,
                () = lifecycle.stopping() => return,
            };
            let Ended::Broken(status) = ended else {
                self.links.tell(breaker.give_up("the gateway is gone"));
                return;
            };
            tracing::warn!(gateway = %self.incarnation, "stream ended: {}", status.message());
            if self.context.clock.instant() - dialled > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            let half = u64::try_from(pause.as_millis() / 2).unwrap_or(0);
            let jitter = Duration::from_millis(self.context.entropy.below(half));
            let (rest, now) = (pause / 2 + jitter, self.context.clock.now());
            self.links.tell(breaker.break_off(status.message(), now, now.after(rest)));
            tokio::select! {
                () = sleep(rest) => {}
                () = lifecycle.stopping() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Dials, then carries hints until the stream breaks. Hints that wait meanwhile are not lost by that:
    /// the gateway drops what it has sent already.
    async fn carry(&self, hints: &mut mpsc::Receiver<Hinted>, breaker: &mut Breaker) -> Ended {
        if hints.is_closed() {
            // A gateway that died answers nobody: it would be dialled for as long as the router lives.
            return Ended::ForGood;
        }
        self.links.tell(breaker.dial(self.context.clock.now()));
        match self.dial().await {
            Ok((frames, answers)) => {
                self.links.tell(breaker.stand(self.context.clock.now()));
                self.forward(hints, frames, answers).await
            }
            Err(status) => status.into(),
        }
    }

    async fn dial(&self) -> Result<(mpsc::Sender<DeliverRequest>, Streaming<DeliverResponse>), Status> {
        let (frames, receiver) = mpsc::channel(4);
        let mut client =
            GatewayServiceClient::with_interceptor(channel(&self.address, &self.context.reach)?, self.bearer.clone());
        // The first frame names the incarnation, so that a process that took over the address refuses.
        frames.try_send(self.frame(Vec::new(), self.drops.take())).ok();
        let dialled = timeout(SILENCE, client.deliver(ReceiverStream::new(receiver))).await;
        let answers = dialled.map_err(|_| Status::unavailable("no answer"))??.into_inner();
        Ok((frames, answers))
    }

    fn frame(&self, hints: Vec<Hinted>, dropped: bool) -> DeliverRequest {
        let (mut pushes, mut feeds) = (Vec::with_capacity(hints.len()), Vec::new());
        for hint in hints {
            match hint {
                Hinted::Session(push, span) => {
                    span.into_iter().for_each(Span::end);
                    pushes.push(push);
                }
                Hinted::Feed(push) => feeds.push(push),
            }
        }
        let wants_activity = self.activities.are_watched();
        DeliverRequest { incarnation_id: self.incarnation.to_string(), pushes, feeds, dropped, wants_activity }
    }

    async fn forward(
        &self,
        hints: &mut mpsc::Receiver<Hinted>,
        frames: mpsc::Sender<DeliverRequest>,
        mut answers: Streaming<DeliverResponse>,
    ) -> Ended {
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut together = Vec::new();
        let mut silent_until = self.context.clock.instant() + SILENCE;
        loop {
            let frame = tokio::select! {
                // Reserving first leaves hints in their queue while the gateway does not read.
                permit = frames.reserve() => match permit {
                    Err(_) => return Ended::Broken(Status::unavailable("the gateway closed the stream")),
                    Ok(permit) => {
                        let found = tokio::select! {
                            count = hints.recv_many(&mut together, TOGETHER) => Found::Hints(count),
                            _ = ping.tick() => Found::Ping,
                            () = self.drops.noted() => Found::Ping,
                            answer = answers.message() => Found::Answer(answer),
                            () = sleep_until(silent_until.into()) => Found::Silence,
                        };
                        match found {
                            Found::Hints(0) => return Ended::ForGood,
                            Found::Hints(_) | Found::Ping => {
                                let pushes = std::mem::take(&mut together);
                                permit.send(self.frame(pushes, self.drops.take()));
                                continue;
                            }
                            Found::Answer(_) | Found::Silence => found,
                        }
                    }
                },
                answer = answers.message() => Found::Answer(answer),
                () = sleep_until(silent_until.into()) => Found::Silence,
            };
            match frame {
                Found::Answer(Ok(Some(answer))) => {
                    silent_until = self.context.clock.instant() + SILENCE;
                    self.activities.note_dropped(answer.dropped_activities);
                    answer.activities.into_iter().for_each(|activity| self.activities.pass_on(activity));
                }
                Found::Answer(Ok(None)) => return Ended::Broken(Status::unavailable("the gateway ended the stream")),
                Found::Answer(Err(status)) => return status.into(),
                Found::Silence => return Ended::Broken(Status::unavailable("no answer to a ping")),
                Found::Hints(_) | Found::Ping => {}
            }
        }
    }
}

/// What a round of [`Stream::forward`] found.
enum Found {
    Hints(usize),
    Ping,
    Answer(Result<Option<DeliverResponse>, Status>),
    Silence,
}
