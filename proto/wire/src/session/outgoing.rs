//! What a daemon sends, its calls about tasks, and its new tokens.

use std::collections::VecDeque;
use std::time::Instant;

use super::{CallOutcome, Command, Renewed, SendOutcome, SendRefused, Session};
use crate::frame::{ErrorCode, Outgoing, ServerFrame, TaskCall};

/// Messages of a client on their way; then no more frames are taken.
const UNDER_WAY: usize = 64;
/// Their bytes, before the last of them.
const UNDER_WAY_BYTES: usize = 1 << 20;

/// Messages of a client on their way. They are answered in their order.
#[derive(Debug, Default)]
pub(super) struct Sending {
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Sending {
    pub(super) fn has_room(&self) -> bool {
        self.sizes.len() < UNDER_WAY && self.bytes < UNDER_WAY_BYTES
    }

    fn begin(&mut self, size: usize) {
        self.sizes.push_back(size);
        self.bytes += size;
    }

    fn end(&mut self) {
        self.bytes -= self.sizes.pop_front().unwrap_or(0);
        if self.sizes.is_empty() {
            // Most clients send nothing.
            self.sizes = VecDeque::new();
        }
    }
}

impl Session {
    pub(super) fn take_send(&mut self, reply_to: Option<String>, message: Box<Outgoing>, now: Instant) {
        if let Err(too_many) = self.messages.take(now) {
            return self.limit("send", reply_to, too_many, now);
        }
        self.sending.begin(message.data.len());
        self.commands.push_back(Command::Route { reply_to, message });
    }

    /// Calls are made one after the other: whoever accepts a task and tells its result at once means it in this order.
    pub(super) fn take_task(&mut self, reply_to: Option<String>, call: Box<TaskCall>, now: Instant) {
        if let Err(too_many) = self.messages.take(now) {
            return self.limit(call.kind.name(), reply_to, too_many, now);
        }
        self.sending.begin(call.payload.len());
        self.calls.push_back((reply_to, call));
        if self.calls.len() == 1 {
            self.call_next();
        }
    }

    /// The call that has waited longest is under way until it is answered.
    fn call_next(&mut self) {
        if let Some((reply_to, call)) = self.calls.front() {
            self.commands.push_back(Command::Call { reply_to: reply_to.clone(), call: call.clone() });
        }
    }

    /// A call about tasks has been answered.
    pub fn handle_called(&mut self, outcome: CallOutcome, now: Instant) {
        let Some((reply_to, call)) = self.calls.pop_front() else { return };
        self.sending.end();
        if self.calls.is_empty() {
            self.calls = VecDeque::new();
        }
        let answer = match outcome {
            Ok((kind, payload)) => ServerFrame::TaskAnswer { reply_to, kind, payload },
            Err(refused) => self.refusal(call.kind.name(), reply_to, refused),
        };
        self.send(answer);
        self.call_next();
        self.step(now);
    }

    /// What a client is told that something was not done.
    fn refusal(&mut self, action: &'static str, reply_to: Option<String>, refused: SendRefused) -> ServerFrame {
        self.refused += 1;
        let SendRefused { code, message, field, reason, limited } = refused;
        match limited {
            Some((retry_after, most)) => ServerFrame::RateLimit { reply_to, action, retry_after, current: most, most },
            None => ServerFrame::Error { reply_to, code, message, field, reason },
        }
    }

    /// A message has been routed, or not.
    pub fn handle_sent(&mut self, reply_to: Option<String>, outcome: SendOutcome, now: Instant) {
        self.sending.end();
        let answer = match outcome {
            Ok(sent) => ServerFrame::SendAck { reply_to, sent },
            Err(refused) => self.refusal("send", reply_to, refused),
        };
        self.send(answer);
        self.step(now);
    }

    pub(super) fn take_renewal(&mut self, reply_to: Option<String>, access_token: String, now: Instant) {
        match self.messages.take(now) {
            Ok(()) => self.commands.push_back(Command::Renew { reply_to, access_token }),
            Err(too_many) => self.limit("auth_refresh", reply_to, too_many, now),
        }
    }

    /// A new token has been judged. Of one that is refused nothing comes: the present one goes on.
    pub fn handle_refreshed(&mut self, reply_to: Option<String>, judged: Result<Renewed, &'static str>) {
        match judged {
            Ok(Renewed { scopes, expires }) => {
                self.scopes = scopes;
                self.send(ServerFrame::AuthRefreshed { reply_to, scopes: scopes.to_strings(), expires });
            }
            Err(why) => {
                self.refused += 1;
                self.send(ServerFrame::Error {
                    reply_to,
                    code: ErrorCode::NotAuthenticated,
                    message: why.into(),
                    field: Some("payload.accessToken".into()),
                    reason: None,
                });
            }
        }
    }
}
