//! The scripts: each operation is one, composed of what it needs and nothing else.

use crate::limits;

/// An operation that a node carries out in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Append,
    Open,
    Close,
    Read,
    Settle,
    Compare,
    Subscribe,
    Sweep,
    Purge,
    View,
    Message,
    Totals,
    Locate,
    Meta,
    Renew,
    GatewayTable,
    ForgetGateway,
    CreateRecord,
    GetRecord,
    CreateLogin,
    GetLogin,
    Rotate,
    Revoke,
    Revocations,
    SigningKey,
    SweepCredentials,
}

/// What a full store may still do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Refused by a node whose memory is full.
    Grows,
    /// Must work then, or a full store could never drain.
    Drains,
    /// Writes nothing.
    Reads,
}

const CLOCK: &str = include_str!("lua/clock.lua");
const MAILBOX: &str = include_str!("lua/mailbox.lua");
const LOG: &str = include_str!("lua/log.lua");
const SESSIONS: &str = include_str!("lua/sessions.lua");
const GATEWAYS: &str = include_str!("lua/gateways.lua");
const CREDENTIALS: &str = include_str!("lua/credentials.lua");

impl Script {
    pub(super) const ALL: [Script; 26] = {
        use Script::*;
        [
            Append,
            Open,
            Close,
            Read,
            Settle,
            Compare,
            Subscribe,
            Sweep,
            Purge,
            View,
            Message,
            Totals,
            Locate,
            Meta,
            Renew,
            GatewayTable,
            ForgetGateway,
            CreateRecord,
            GetRecord,
            CreateLogin,
            GetLogin,
            Rotate,
            Revoke,
            Revocations,
            SigningKey,
            SweepCredentials,
        ]
    };

    /// As metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Script::Append => "append",
            Script::Open => "open",
            Script::Close => "close",
            Script::Read => "read",
            Script::Settle => "settle",
            Script::Compare => "compare",
            Script::Subscribe => "subscribe",
            Script::Sweep => "sweep",
            Script::Purge => "purge",
            Script::View => "view",
            Script::Message => "message",
            Script::Totals => "totals",
            Script::Locate => "locate",
            Script::Meta => "meta",
            Script::Renew => "renew",
            Script::GatewayTable => "gateway_table",
            Script::ForgetGateway => "forget_gateway",
            Script::CreateRecord => "create_record",
            Script::GetRecord => "get_record",
            Script::CreateLogin => "create_login",
            Script::GetLogin => "get_login",
            Script::Rotate => "rotate",
            Script::Revoke => "revoke",
            Script::Revocations => "revocations",
            Script::SigningKey => "signing_key",
            Script::SweepCredentials => "sweep_credentials",
        }
    }

    fn parts(self) -> (Kind, &'static [&'static str]) {
        use Kind::{Drains, Grows, Reads};
        match self {
            Script::Append => (Grows, &[MAILBOX, LOG, include_str!("lua/append.lua")]),
            Script::Open => (Drains, &[MAILBOX, LOG, SESSIONS, include_str!("lua/open.lua")]),
            Script::Close => (Drains, &[MAILBOX, LOG, SESSIONS, include_str!("lua/close.lua")]),
            Script::Read => (Drains, &[MAILBOX, LOG, include_str!("lua/read.lua")]),
            Script::Settle => (Drains, &[MAILBOX, LOG, include_str!("lua/settle.lua")]),
            Script::Compare => (Drains, &[MAILBOX, LOG, SESSIONS, include_str!("lua/compare.lua")]),
            Script::Subscribe => (Drains, &[MAILBOX, LOG, SESSIONS, include_str!("lua/subscribe.lua")]),
            Script::Sweep => (Drains, &[MAILBOX, LOG, SESSIONS, include_str!("lua/sweep.lua")]),
            Script::Purge => (Drains, &[MAILBOX, LOG, include_str!("lua/purge.lua")]),
            Script::View => (Reads, &[MAILBOX, LOG, SESSIONS, include_str!("lua/view.lua")]),
            Script::Message => (Reads, &[MAILBOX, LOG, include_str!("lua/message.lua")]),
            Script::Totals => (Reads, &[MAILBOX, include_str!("lua/totals.lua")]),
            Script::Locate => (Reads, &[MAILBOX, include_str!("lua/locate.lua")]),
            Script::Meta => (Drains, &[include_str!("lua/meta.lua")]),
            Script::Renew => (Drains, &[GATEWAYS, include_str!("lua/renew.lua")]),
            Script::GatewayTable => (Reads, &[GATEWAYS, include_str!("lua/gateway_table.lua")]),
            Script::ForgetGateway => (Drains, &[GATEWAYS, include_str!("lua/forget_gateway.lua")]),
            Script::CreateRecord => (Grows, &[CREDENTIALS, include_str!("lua/create_record.lua")]),
            Script::GetRecord => (Reads, &[CREDENTIALS, include_str!("lua/get_record.lua")]),
            Script::CreateLogin => (Drains, &[CREDENTIALS, include_str!("lua/create_login.lua")]),
            Script::GetLogin => (Reads, &[CREDENTIALS, include_str!("lua/get_login.lua")]),
            Script::Rotate => (Drains, &[CREDENTIALS, include_str!("lua/rotate.lua")]),
            Script::Revoke => (Drains, &[CREDENTIALS, include_str!("lua/revoke.lua")]),
            Script::Revocations => (Reads, &[CREDENTIALS, include_str!("lua/revocations.lua")]),
            Script::SigningKey => (Drains, &[CREDENTIALS, include_str!("lua/signing_key.lua")]),
            Script::SweepCredentials => (Drains, &[CREDENTIALS, include_str!("lua/sweep_credentials.lua")]),
        }
    }

    /// The text for the node of a run id. Another node does not know it and answers NOSCRIPT: whoever speaks to
    /// a node that was restarted or replaced must look first, and cannot write by accident.
    pub(super) fn text(self, run_id: &str) -> String {
        let (kind, parts) = self.parts();
        let flags = match kind {
            Kind::Grows => "",
            Kind::Drains => " flags=allow-oom",
            // Without allow-oom even a look would be refused by a full node.
            Kind::Reads => " flags=no-writes,allow-oom",
        };
        let mut text = format!("#!lua{flags}\nlocal RUN = '{run_id}'\n{CLOCK}{}", parts.concat());
        for (name, value) in numbers() {
            text = text.replace(name, &value.to_string());
        }
        text
    }
}

/// The numbers of the rules, as scripts name them; times in milliseconds. A name comes before its own beginnings.
fn numbers() -> [(&'static str, u64); 23] {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    [
        ("@EPOCHS", limits::EPOCHS as u64),
        ("@EXITS_AGE", millis(limits::EXITS_AGE)),
        ("@EXITS", limits::EXITS as u64),
        ("@IDS_NEWEST", limits::IDS_NEWEST as u64),
        ("@IDS_AGE_ALL", millis(limits::IDS_AGE_ALL)),
        ("@IDS_AGE_NEWEST", millis(limits::IDS_AGE_NEWEST)),
        ("@IDS", limits::IDS as u64),
        ("@DEAD_LETTER_BYTES", limits::DEAD_LETTER_BYTES),
        ("@DEAD_LETTERS", limits::DEAD_LETTERS as u64),
        ("@MAILBOX_ENTRIES", limits::MAILBOX_ENTRIES as u64),
        ("@MAILBOX_BYTES", limits::MAILBOX_BYTES),
        ("@EVICTIONS", limits::EVICTIONS as u64),
        ("@CRITICAL_EXTRA", u64::from(crate::mailbox::Window::CRITICAL_EXTRA)),
        ("@ATTEMPTS", u64::from(limits::ATTEMPTS)),
        ("@NACK_DELAY", millis(limits::NACK_DELAY)),
        ("@DRAIN_RESERVATION", millis(limits::DRAIN_RESERVATION)),
        ("@DISPLACEMENT_PERIOD", millis(limits::DISPLACEMENT_PERIOD)),
        ("@DISPLACEMENTS", limits::DISPLACEMENTS as u64),
        ("@TIME_TO_LIVE", millis(limits::TIME_TO_LIVE)),
        ("@DAEMONS", limits::DAEMONS as u64),
        ("@YIELD_AFTER", millis(limits::YIELD_AFTER)),
        ("@REVOCATION_AGE", millis(limits::REVOCATION_AGE)),
        ("@REFRESH_GRACE", millis(limits::REFRESH_GRACE)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_script_is_known() {
        for script in Script::ALL {
            let text = script.text("0123");
            assert!(!text.contains('@'), "{script:?}");
            assert!(text.contains("local RUN = '0123'"));
        }
    }

    #[test]
    fn the_script_of_another_run_is_another_script() {
        assert_ne!(Script::Append.text("a"), Script::Append.text("b"));
    }
}
