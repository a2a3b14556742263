//! Calls that are answered: tasks, contexts, capabilities.

use std::time::Instant;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::{Core, Moment, Pending};
use crate::error::CallError;
use crate::event::Event;

/// Most calls under way; a gateway makes them one after the other.
const UNDER_WAY: usize = 64;

/// One call. All calls can be repeated without harm, and are when the line breaks.
#[derive(Debug)]
pub(crate) struct Call {
    /// Type of the frame.
    pub(crate) kind: &'static str,
    pub(crate) payload: Box<RawValue>,
    /// When its caller waits no longer.
    pub(crate) until: Instant,
    pub(crate) answer: oneshot::Sender<Result<Bytes, CallError>>,
}

impl Call {
    pub(super) fn answer(self, answer: Result<Bytes, CallError>) {
        self.answer.send(answer).ok();
    }
}

impl Core {
    pub(super) fn flush_calls(&mut self, now: Moment) {
        let under_way = self.pending.values().filter(|pending| matches!(pending, Pending::Call(_))).count();
        for _ in under_way..UNDER_WAY {
            let Some(call) = self.calls.pop_front() else { return };
            self.say_call(call, now);
        }
    }

    pub(super) fn answered(&mut self, kind: String, payload: Bytes, asked: Option<Pending>) {
        match asked {
            Some(Pending::Call(call)) => call.answer(Ok(payload)),
            // A newer gateway may say what is not known here.
            _ => self.actions.events.push(Event::Unknown { kind }),
        }
    }

    pub(super) fn expire_calls(&mut self, now: Instant) {
        let is_late = |pending: &Pending| matches!(pending, Pending::Call(call) if call.until <= now);
        let late: Vec<u64> = self.pending.iter().filter(|(_, pending)| is_late(pending)).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(Pending::Call(call)) = self.pending.remove(&id) {
                call.answer(Err(CallError::TimedOut));
            }
        }
        let (late, rest) = self.calls.drain(..).partition::<std::collections::VecDeque<_>, _>(|call| call.until <= now);
        self.calls = rest;
        late.into_iter().for_each(|call| call.answer(Err(CallError::TimedOut)));
    }
}
