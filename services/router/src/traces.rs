//! What is recorded of messages that are traced, from a caller's request to its end in the store.

use waystation_domain::{MessageId, TraceParent};
use waystation_proto::router::v1::{MessageStatus, RouteMessageResponse, Settlement};
use waystation_rpc::Fault;
use waystation_store::mailbox::{AppendMessage, AppendRefused, Appended};
use waystation_telemetry::traces::{Span, SpanKind, Tracer};

/// Somebody routes a message; what follows names this span.
pub(crate) fn begin(tracer: &Tracer, call: &'static str, message: &mut AppendMessage) -> Option<Span> {
    let mut span = tracer.begin(SpanKind::Server, call, &mut message.trace)?;
    span.set("waystation.organization", message.mailbox.organization.to_string());
    span.set("waystation.orchestrator", message.mailbox.orchestrator.to_string());
    span.set("waystation.event_type", message.event_type.to_string());
    Some(span)
}

/// Its caller is answered.
pub(crate) fn end(span: Option<Span>, outcome: Result<&RouteMessageResponse, &Fault>) {
    let Some(mut span) = span else { return };
    match outcome {
        Ok(answer) => {
            let status = MessageStatus::try_from(answer.status).unwrap_or_default();
            span.set("messaging.message.id", answer.message_id.clone());
            span.set("waystation.status", status.as_str_name());
            span.set("waystation.duplicate", answer.duplicate);
        }
        Err(fault) => span.fail(fault),
    }
    span.end();
}

/// Messages go to the store: those that are traced, by their places.
pub(crate) fn append(tracer: &Tracer, messages: &mut [AppendMessage]) -> Vec<(usize, Span)> {
    let traced = messages.iter_mut().enumerate().filter_map(|(place, message)| {
        let span = tracer.follow(SpanKind::Internal, "append", message.trace.as_ref())?;
        message.trace = Some(span.context());
        Some((place, span))
    });
    traced.collect()
}

/// The store has answered, in the order of the messages.
pub(crate) fn appended(spans: Vec<(usize, Span)>, outcomes: &[Result<Appended, AppendRefused>]) {
    for (place, mut span) in spans {
        match outcomes.get(place) {
            Some(Ok(appended)) => {
                span.set("waystation.position", MessageId::composed(appended.position).as_str().to_owned())
            }
            Some(Err(refused)) => span.fail(format_args!("{refused:?}")),
            None => {}
        }
        span.end();
    }
}

/// The store could not be asked.
pub(crate) fn failed(spans: Vec<(usize, Span)>, why: &impl std::fmt::Display) {
    for (_, mut span) in spans {
        span.fail(why);
        span.end();
    }
}

/// A gateway brings acks of traced messages; and the trace of the ack, if there is but one.
pub(crate) fn settle(tracer: &Tracer, settlement: &Settlement) -> (Vec<Span>, Option<TraceParent>) {
    let traces = settlement.traceparents.iter().filter_map(|text| text.parse().ok());
    let traces: Vec<TraceParent> = traces.collect();
    let span = |trace| tracer.follow(SpanKind::Server, "settle", Some(trace));
    let spans = traces.iter().filter_map(span).collect();
    (spans, if traces.len() == 1 { traces.into_iter().next() } else { None })
}
