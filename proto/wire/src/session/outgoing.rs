//! What a daemon sends, and its new tokens.

use std::time::Instant;

use super::{Command, Renewed, SendOutcome, SendRefused, Session};
use crate::frame::{ErrorCode, Outgoing, ServerFrame};

/// Messages of a client on their way; then no more frames are taken.
pub(super) const UNDER_WAY: u32 = 64;

impl Session {
    pub(super) fn take_send(&mut self, reply_to: Option<String>, message: Box<Outgoing>, now: Instant) {
        if let Err(too_many) = self.messages.take(now) {
            return self.limit("send", reply_to, too_many, now);
        }
        if !self.scopes.allows(waystation_domain::Scope::MessagesWrite) {
            let message = "the token lacks messages:write".into();
            let code = ErrorCode::InsufficientScope;
            return self.send(ServerFrame::Error { reply_to, code, message, field: None, reason: None });
        }
        self.sending += 1;
        self.commands.push_back(Command::Route { reply_to, message });
    }

    /// A message has been routed, or not.
    pub fn handle_sent(&mut self, reply_to: Option<String>, outcome: SendOutcome, now: Instant) {
        self.sending = self.sending.saturating_sub(1);
        let answer = match outcome {
            Ok(sent) => ServerFrame::SendAck { reply_to, sent },
            Err(SendRefused { code, message, field, reason }) => {
                self.refused += 1;
                ServerFrame::Error { reply_to, code, message, field: field.map(str::to_owned), reason }
            }
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
