//! The scripts: each operation is one, composed of what it needs and nothing else.

use crate::limits;

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
const PARTITION: &str = include_str!("lua/partition.lua");
const MAILBOX: &str = include_str!("lua/mailbox.lua");
const LOG: &str = include_str!("lua/log.lua");
const SESSIONS: &str = include_str!("lua/sessions.lua");
const GATEWAYS: &str = include_str!("lua/gateways.lua");
const CREDENTIALS: &str = include_str!("lua/credentials.lua");
const FEED: &str = include_str!("lua/feed.lua");
const FEDERATION: &str = include_str!("lua/federation.lua");
const KEEP_DELEGATION: &str = include_str!("lua/keep_delegation.lua");
const REPORTS: &str = include_str!("lua/reports.lua");

/// The scripts: name, file and name in metrics, kind, and what the file builds on.
macro_rules! scripts {
    ($($script:ident, $name:literal, $kind:ident, [$($part:ident),*];)*) => {
        /// An operation that a node carries out in one step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Script {
            $($script,)*
        }

        impl Script {
            pub(super) const ALL: &[Script] = &[$(Script::$script,)*];

            /// As metrics name it.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Script::$script => $name,)*
                }
            }

            fn parts(self) -> (Kind, &'static [&'static str]) {
                match self {
                    $(Script::$script => {
                        (Kind::$kind, &[$($part,)* include_str!(concat!("lua/", $name, ".lua"))])
                    })*
                }
            }
        }
    };
}

scripts! {
    Append, "append", Grows, [PARTITION, MAILBOX, LOG];
    Open, "open", Drains, [PARTITION, MAILBOX, LOG, SESSIONS];
    Close, "close", Drains, [PARTITION, MAILBOX, LOG, SESSIONS];
    Read, "read", Drains, [PARTITION, MAILBOX, LOG];
    Settle, "settle", Drains, [PARTITION, MAILBOX, LOG];
    Compare, "compare", Drains, [PARTITION, MAILBOX, LOG, SESSIONS];
    Subscribe, "subscribe", Drains, [PARTITION, MAILBOX, LOG, SESSIONS];
    Sweep, "sweep", Drains, [PARTITION, MAILBOX, LOG, SESSIONS];
    NoteTold, "note_told", Drains, [PARTITION, MAILBOX];
    Purge, "purge", Drains, [PARTITION, MAILBOX, LOG];
    View, "view", Reads, [PARTITION, MAILBOX, LOG, SESSIONS];
    Message, "message", Reads, [PARTITION, MAILBOX, LOG];
    Residents, "residents", Reads, [PARTITION, MAILBOX, LOG];
    DeadLetters, "dead_letters", Reads, [PARTITION, MAILBOX];
    ForgetDeadLetters, "forget_dead_letters", Drains, [PARTITION, MAILBOX];
    Totals, "totals", Reads, [PARTITION, MAILBOX, LOG];
    Locate, "locate", Reads, [PARTITION, MAILBOX];
    Publish, "publish", Grows, [PARTITION, FEED];
    ReadFeed, "read_feed", Reads, [PARTITION, FEED];
    SetInterest, "set_interest", Drains, [PARTITION, FEED];
    Extents, "extents", Reads, [PARTITION, FEED];
    SweepFeeds, "sweep_feeds", Drains, [PARTITION, FEED];
    RegisterOrchestrator, "register_orchestrator", Grows, [PARTITION, FEDERATION];
    DeregisterOrchestrator, "deregister_orchestrator", Drains, [PARTITION, FEDERATION];
    ReportOrchestrator, "report_orchestrator", Drains, [PARTITION, FEDERATION];
    NoteStanding, "note_standing", Drains, [PARTITION, FEDERATION];
    Registries, "registries", Reads, [PARTITION, FEDERATION];
    Registry, "registry", Reads, [PARTITION, FEDERATION];
    GrowDelegation, "grow_delegation", Grows, [PARTITION, FEDERATION, KEEP_DELEGATION];
    Entries, "entries", Reads, [PARTITION, FEDERATION];
    CommitDelegation, "commit_delegation", Drains, [PARTITION, FEDERATION, KEEP_DELEGATION];
    Delegation, "delegation", Reads, [PARTITION, FEDERATION];
    Delegations, "delegations", Reads, [PARTITION, FEDERATION];
    HeldDelegations, "held_delegations", Reads, [PARTITION, FEDERATION];
    DueDelegations, "due_delegations", Reads, [PARTITION, FEDERATION];
    ForgetDelegation, "forget_delegation", Drains, [PARTITION, FEDERATION];
    Report, "report", Drains, [REPORTS];
    Reported, "reported", Reads, [REPORTS];
    Register, "register", Drains, [REPORTS];
    Unregister, "unregister", Drains, [REPORTS];
    Slice, "slice", Drains, [];
    Meta, "meta", Drains, [];
    Renew, "renew", Drains, [GATEWAYS];
    GatewayTable, "gateway_table", Reads, [GATEWAYS];
    ForgetGateway, "forget_gateway", Drains, [GATEWAYS];
    CreateRecord, "create_record", Grows, [CREDENTIALS];
    ReplaceRecord, "replace_record", Grows, [CREDENTIALS];
    GetRecord, "get_record", Reads, [CREDENTIALS];
    CreateLogin, "create_login", Drains, [CREDENTIALS];
    GetLogin, "get_login", Reads, [CREDENTIALS];
    Rotate, "rotate", Drains, [CREDENTIALS];
    Revoke, "revoke", Drains, [CREDENTIALS];
    Revocations, "revocations", Reads, [CREDENTIALS];
    SwapRecord, "swap_record", Grows, [CREDENTIALS];
    SetStatus, "set_status", Drains, [CREDENTIALS];
    Subject, "subject", Reads, [CREDENTIALS];
    ListRecords, "list_records", Reads, [CREDENTIALS];
    AppendAudit, "append_audit", Drains, [CREDENTIALS];
    Audit, "audit", Reads, [CREDENTIALS];
    SweepCredentials, "sweep_credentials", Drains, [CREDENTIALS];
}

impl Script {
    /// Whether it may change something.
    pub(super) fn writes(self) -> bool {
        self.parts().0 != Kind::Reads
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
fn numbers() -> [(&'static str, u64); 32] {
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
        ("@NEWS_AGAIN", millis(limits::NEWS_AGAIN)),
        ("@RECONNECTING", millis(limits::RECONNECTING)),
        ("@DRAIN_RESERVATION", millis(limits::DRAIN_RESERVATION)),
        ("@DISPLACEMENT_PERIOD", millis(limits::DISPLACEMENT_PERIOD)),
        ("@DISPLACEMENTS", limits::DISPLACEMENTS as u64),
        ("@TIME_TO_LIVE", millis(limits::TIME_TO_LIVE)),
        ("@DAEMONS", limits::DAEMONS as u64),
        ("@YIELD_AFTER", millis(limits::YIELD_AFTER)),
        ("@EXPIRIES", limits::EXPIRIES as u64),
        ("@BURST_SECONDS", crate::quota::BURST.as_secs()),
        ("@METRICS_AGE", millis(limits::METRICS_AGE)),
        ("@METRICS", limits::METRICS as u64),
        ("@REGISTRATION_SILENCE", millis(limits::REGISTRATION_SILENCE)),
        ("@REMEMBERED", millis(crate::report::REMEMBERED)),
        ("@AUDIT_EVENTS", limits::AUDIT_EVENTS as u64),
        ("@REVOCATION_AGE", millis(limits::REVOCATION_AGE)),
        ("@REFRESH_GRACE", millis(limits::REFRESH_GRACE)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_script_is_known() {
        for script in Script::ALL.iter().copied() {
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
