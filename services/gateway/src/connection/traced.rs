//! What is recorded of messages that are traced, from the hand of a session to the ack of its daemon.

use std::collections::HashMap;
use std::time::Duration;

use waystation_domain::{Position, TraceParent};
use waystation_runtime::Clock;
use waystation_telemetry::traces::{Span, SpanKind, Tracer};
use waystation_wire::{EventFrame, ServerFrame};

/// Traced messages of one session that are remembered until their acks.
const MOST: usize = 1_024;

/// Most sessions have no traced message in hand, and hold nothing.
#[derive(Default)]
pub(super) struct Traced(Option<Box<InHand>>);

#[derive(Default)]
struct InHand {
    /// Queued for the socket.
    writing: Vec<Span>,
    /// With the daemon, and what follows from that names.
    in_flight: HashMap<Position, TraceParent>,
    /// Acknowledged, and not on the way to the store yet.
    acknowledged: Vec<TraceParent>,
}

impl Traced {
    /// A frame is queued for the socket.
    pub(super) fn queued(&mut self, tracer: &Tracer, frame: &ServerFrame, clock: &Clock) {
        let ServerFrame::Event(EventFrame { entry, redelivered }) = frame else { return };
        if entry.trace.is_none() {
            return;
        }
        let waited = clock.now().since(entry.accepted);
        let span = tracer.follow_after(SpanKind::Producer, "deliver", entry.trace.as_ref(), waited);
        let Some(mut span) = span else { return };
        let hand = self.0.get_or_insert_default();
        if hand.in_flight.len() >= MOST {
            // What was rejected, or was acknowledged on another way, stays behind.
            hand.in_flight.clear();
        }
        span.set("waystation.attempt", i64::from(entry.attempt));
        span.set("waystation.redelivered", *redelivered);
        hand.in_flight.insert(entry.position, span.context());
        hand.writing.push(span);
    }

    /// All that was queued has been written.
    pub(super) fn written(&mut self) {
        if let Some(hand) = &mut self.0 {
            hand.writing.drain(..).for_each(Span::end);
        }
    }

    /// A daemon has acknowledged a message; the trace that tells of it, if one does.
    pub(super) fn acknowledged(&mut self, tracer: &Tracer, at: Position, took: Duration) -> Option<TraceParent> {
        let hand = self.0.as_mut()?;
        let delivered = hand.in_flight.remove(&at)?;
        let span = tracer.tell(SpanKind::Consumer, "acknowledge", &delivered, took)?;
        let trace = span.context();
        span.end();
        hand.acknowledged.push(trace.clone());
        Some(trace)
    }

    /// What was acknowledged goes to the store.
    pub(super) fn settling(&mut self, tracer: &Tracer) -> Vec<Span> {
        let Some(hand) = &mut self.0 else { return Vec::new() };
        let traces = std::mem::take(&mut hand.acknowledged);
        let follow = |trace| tracer.follow(SpanKind::Client, "settle", Some(trace));
        let spans = traces.iter().filter_map(follow).collect();
        if hand.in_flight.is_empty() && hand.writing.is_empty() {
            self.0 = None;
        }
        spans
    }
}
