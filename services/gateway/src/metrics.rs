//! What gateway counts.

use std::collections::HashMap;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use waystation_telemetry::metrics::{Counter, Family, Gauge, Registry, Times, begin};
use waystation_wire::{CloseCode, EventFrame, ServerFrame};

/// Stands for a close code if the client went, or the line.
const BY_CLIENT: &str = "BY_CLIENT";

/// How a connection ended.
pub(crate) fn name_of(code: Option<CloseCode>) -> &'static str {
    code.map_or(BY_CLIENT, CloseCode::name)
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) auth_silence: Gauge,
    pub(crate) frames_in: Counter,
    pub(crate) frames_out: Counter,
    pub(crate) redelivered: Counter,
    gaps: Family<GapLabels, Counter>,
    /// From sending to acknowledgement.
    pub(crate) acknowledged: Times,
    closes: Family<CloseLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GapLabels {
    log: Log,
}

/// What a gap is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Log {
    Mailbox,
    Feed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloseLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    because: Refused,
}

/// Why a connection was refused before its login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Refused {
    TooMany,
    Silent,
    Origin,
    Handshake,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        registry.register("waystation_connections", "Open connections", metrics.connections.clone());
        registry.register("waystation_sessions", "Sessions that have logged in", metrics.sessions.clone());
        let help = "For how long auth has been silent, in seconds: what was revoked since is not known";
        registry.register("waystation_auth_silence_seconds", help, metrics.auth_silence.clone());
        registry.register("waystation_frames_received", "Frames of clients", metrics.frames_in.clone());
        registry.register("waystation_frames_sent", "Frames for clients", metrics.frames_out.clone());
        let help = "Messages sent to a daemon that may have had them before";
        registry.register("waystation_messages_redelivered", help, metrics.redelivered.clone());
        registry.register("waystation_gaps", "Gaps told to clients, by log", metrics.gaps.clone());
        begin(&metrics.gaps, [Log::Mailbox, Log::Feed].map(|log| GapLabels { log }));
        let help = "Time from sending a message to its acknowledgement by the daemon, in seconds";
        registry.register("waystation_acknowledge_seconds", help, metrics.acknowledged.histogram());
        registry.register("waystation_closes", "Closed WebSockets by reason", metrics.closes.clone());
        registry.register("waystation_refused", "Connections refused before their login", metrics.refused.clone());
        let reasons = CloseCode::ALL.into_iter().map(CloseCode::name).chain([BY_CLIENT]);
        begin(&metrics.closes, reasons.map(|reason| CloseLabels { reason }));
        let because = [Refused::TooMany, Refused::Silent, Refused::Origin, Refused::Handshake];
        begin(&metrics.refused, because.map(|because| RefusedLabels { because }));
        metrics
    }

    /// Closed WebSockets by the name of their code.
    pub(crate) fn closes_by_name(&self) -> HashMap<String, u64> {
        let names = CloseCode::ALL.into_iter().map(CloseCode::name).chain([BY_CLIENT]);
        let counts = names.map(|reason| (reason.to_owned(), self.closes.get_or_create(&CloseLabels { reason }).get()));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// A frame goes out to a client.
    pub(crate) fn told(&self, frame: &ServerFrame) {
        let gap = |log| self.gaps.get_or_create(&GapLabels { log }).clone();
        if let ServerFrame::Event(EventFrame { redelivered: true, .. }) = frame {
            self.redelivered.inc();
        } else if let ServerFrame::Gap { .. } = frame {
            gap(Log::Mailbox).inc();
        } else if let ServerFrame::FeedGap { .. } = frame {
            gap(Log::Feed).inc();
        }
    }

    pub(crate) fn closed(&self, code: Option<CloseCode>) {
        self.closes.get_or_create(&CloseLabels { reason: name_of(code) }).inc();
    }

    pub(crate) fn refused(&self, because: Refused) {
        self.refused.get_or_create(&RefusedLabels { because }).inc();
    }
}
