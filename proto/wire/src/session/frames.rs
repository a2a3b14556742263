//! Frames of the client.

use std::time::Instant;

use waystation_domain::policy::{Forbidden, FrameKind, Identity};
use waystation_domain::{FeedPoint, ReportedStatus, Subscriptions, TokenClass};

use super::{Busy, CallFailed, Command, CompareAnswer, Session};
use crate::close::CloseCode;
use crate::frame::{ClientFrame, ErrorCode, FrameError, Heartbeat, Received, ServerFrame};
use crate::handshake::STRIKES;
use crate::rate::TooMany;

impl Session {
    /// The client lives: a WebSocket ping or pong.
    pub fn handle_liveness(&mut self, now: Instant) {
        self.last_frame = now;
    }

    /// Takes a frame. Call it only while [`Session::wants_input`].
    pub fn handle_frame(&mut self, received: Result<Received, FrameError>, now: Instant) {
        self.last_frame = now;
        self.received += 1;
        let Received { id, frame } = match received {
            Ok(received) => received,
            Err(error) => return self.strike(error, now),
        };
        self.strikes = 0;
        if !matches!(frame, ClientFrame::Heartbeat(_)) {
            self.last_traffic = Some(now);
        }
        let sender = Identity { class: TokenClass::Access, name: "", scopes: self.scopes };
        if let Err(forbidden) = frame.kind().rule().check(sender) {
            return self.forbid(frame.kind(), id, forbidden, now);
        }
        match frame {
            ClientFrame::Ack(ack) => self.take_ack(id, ack, now),
            ClientFrame::Nack { id: event, delay } => self.take_nack(id, &event, delay, now),
            ClientFrame::Reject { id: event, reason } => self.take_reject(id, &event, reason, now),
            ClientFrame::Extend { id: event } => self.take_extend(id, &event, now),
            ClientFrame::Send(message) => self.take_send(id, message, now),
            ClientFrame::Task(call) => self.take_task(id, call, now),
            ClientFrame::AuthRefresh { access_token } => self.take_renewal(id, access_token, now),
            ClientFrame::Goodbye => {
                self.said_goodbye = true;
                self.close(CloseCode::Normal);
            }
            ClientFrame::Heartbeat(heartbeat) => self.take_heartbeat(id, heartbeat, now),
            ClientFrame::Subscribe { patterns, channels } => {
                let wanted = self.subscriptions.subscribe(&patterns, &channels);
                self.change_subscriptions("subscribe", id, wanted, now);
            }
            ClientFrame::Unsubscribe { patterns } => {
                let wanted = self.subscriptions.unsubscribe(&patterns);
                self.change_subscriptions("unsubscribe", id, wanted, now);
            }
            ClientFrame::Auth(_) => {
                let error = "this connection has logged in already";
                self.refuse(FrameError { reply_to: id, message: error.into(), field: Some("type".into()) }, now);
            }
        }
        self.step(now);
    }

    /// A frame that the token does not allow counts like one that it does.
    fn forbid(&mut self, kind: FrameKind, reply_to: Option<String>, forbidden: Forbidden, now: Instant) {
        if let Err(too_many) = self.messages.take(now) {
            self.limit(kind.name(), reply_to, too_many, now);
        } else {
            let (code, message) = (ErrorCode::InsufficientScope, forbidden.to_string());
            self.send(ServerFrame::Error { reply_to, code, message, field: None, reason: None });
        }
        self.step(now);
    }

    fn strike(&mut self, error: FrameError, now: Instant) {
        self.refuse(error, now);
        self.strikes += 1;
        if self.strikes >= STRIKES {
            self.close(CloseCode::ProtocolError);
        }
    }

    pub(super) fn refuse(&mut self, error: FrameError, now: Instant) {
        self.send(ServerFrame::invalid(error));
        self.count_refusal(now);
    }

    /// Frames that are answered by a refusal are themselves limited.
    fn count_refusal(&mut self, now: Instant) {
        self.refused += 1;
        if self.refusals.take(now).is_err() {
            self.close(CloseCode::RateLimited);
        }
    }

    pub(super) fn limit(&mut self, action: &'static str, reply_to: Option<String>, too_many: TooMany, now: Instant) {
        let TooMany { retry_after, current, most } = too_many;
        self.send(ServerFrame::RateLimit { reply_to, action, retry_after, current, most });
        self.count_refusal(now);
    }

    fn take_heartbeat(&mut self, reply_to: Option<String>, heartbeat: Heartbeat, now: Instant) {
        let least = self.config.heartbeat_least;
        let since = self.last_heartbeat.map(|last| now.saturating_duration_since(last));
        if let Some(since) = since.filter(|since| *since < least) {
            let too_many = TooMany { retry_after: least - since, current: 2, most: 1 };
            return self.limit("heartbeat", reply_to, too_many, now);
        }
        self.last_heartbeat = Some(now);
        self.reported.0 = heartbeat.status.or(self.reported.0);
        if heartbeat.metrics.is_some() {
            self.reported.1.clone_from(&heartbeat.metrics);
        }
        self.busy = Some(Busy::Heartbeat { reply_to });
        self.compare(heartbeat.status, heartbeat.metrics, now);
    }

    pub(super) fn compare(&mut self, status: Option<ReportedStatus>, metrics: Option<bytes::Bytes>, now: Instant) {
        self.comparing = true;
        self.compare_at = now + self.config.compare_every;
        self.commands.push_back(Command::Compare { status, metrics, idle: self.idle(now) });
    }

    /// The store has answered a comparison, or not.
    pub fn handle_compared(&mut self, compared: Result<CompareAnswer, CallFailed>, now: Instant) {
        self.comparing = false;
        let mut heads = None;
        match compared {
            Ok(CompareAnswer { heads: found, activation }) => {
                heads = Some(found.lanes);
                match activation {
                    Some(activation) if activation.fence > self.fence || Some(activation.epoch) != self.epoch => {
                        self.activate(&activation, now);
                    }
                    Some(_) => self.note_heads(&found, now),
                    None if self.fence > 0 => self.stand_by(),
                    None => {}
                }
            }
            Err(CallFailed::SessionUnknown) => {
                self.stand_by();
                self.commands.push_back(Command::Reopen);
            }
            Err(CallFailed::Unavailable | CallFailed::NotHolder) => {
                self.retry_at = Some(now + self.config.retry);
            }
        }
        if let Some(Busy::Heartbeat { reply_to }) = self.busy.take_if(|busy| matches!(busy, Busy::Heartbeat { .. })) {
            let feed = self.follower.point();
            self.send(ServerFrame::HeartbeatAck { reply_to, next: self.config.heartbeat, heads, feed });
        }
        self.step(now);
    }

    fn change_subscriptions(
        &mut self,
        action: &'static str,
        reply_to: Option<String>,
        wanted: Result<Subscriptions, waystation_domain::PatternError>,
        now: Instant,
    ) {
        if let Err(too_many) = self.messages.take(now) {
            return self.limit(action, reply_to, too_many, now);
        }
        match wanted {
            Ok(wanted) => {
                self.commands.push_back(Command::Subscribe(wanted.clone()));
                self.busy = Some(Busy::Subscribe { reply_to, wanted });
            }
            Err(error) => {
                let field = Some("payload.eventTypes".to_owned());
                self.refuse(FrameError { reply_to, message: error.to_string(), field }, now);
            }
        }
    }

    /// The store has answered a change of subscriptions, or not.
    pub fn handle_subscribed(&mut self, subscribed: Result<Option<FeedPoint>, CallFailed>, now: Instant) {
        let Some(Busy::Subscribe { reply_to, wanted }) =
            self.busy.take_if(|busy| matches!(busy, Busy::Subscribe { .. }))
        else {
            return;
        };
        match subscribed {
            Ok(head) => {
                self.change_feed(&wanted, head);
                self.subscriptions = wanted;
                self.tell_subscriptions(reply_to);
            }
            Err(failed) => {
                if failed == CallFailed::SessionUnknown {
                    self.commands.push_back(Command::Reopen);
                }
                self.send(ServerFrame::Error {
                    reply_to,
                    code: ErrorCode::InternalError,
                    message: "the subscription could not be stored; try again".into(),
                    field: None,
                    reason: None,
                });
            }
        }
        self.step(now);
    }

    fn tell_subscriptions(&mut self, reply_to: Option<String>) {
        if !self.profile.announces_client {
            return;
        }
        let Subscriptions { patterns, excluded } = &self.subscriptions;
        let frame = ServerFrame::Subscribed {
            reply_to,
            patterns: patterns.iter().map(|subscription| subscription.pattern.clone()).collect(),
            excluded: excluded.iter().cloned().collect(),
            channels: patterns.iter().flat_map(|subscription| subscription.channels.clone()).collect(),
        };
        self.send(frame);
    }
}
