//! A message of this daemon.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use waystation_domain::{ChannelId, EventType, Lane, MessageId, OrchestratorId, check_object};
use waystation_wire::Addressee;

use crate::error::InvalidMessage;

/// A message to an orchestrator or a channel of the same organization.
///
/// ```
/// use waystation_client::{Lane, Outgoing};
///
/// let outgoing = Outgoing::to_orchestrator("otto", &serde_json::json!({"n": 1}))?.event_type("invoice.paid")?.lane(Lane::High);
/// # Ok::<(), waystation_client::InvalidMessage>(())
/// ```
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub(crate) to: Addressee,
    pub(crate) event_type: Option<EventType>,
    pub(crate) data: Box<RawValue>,
    pub(crate) lane: Lane,
    pub(crate) id: Option<MessageId>,
    pub(crate) time_to_live: Option<Duration>,
}

fn invalid(field: &'static str) -> impl Fn(&dyn std::fmt::Display) -> InvalidMessage {
    move |problem| InvalidMessage { field, problem: problem.to_string() }
}

impl Outgoing {
    /// To the mailbox of an orchestrator, where it waits until it is acknowledged.
    ///
    /// # Errors
    /// If the name is none, or `data` is no JSON object of at most 192 KiB.
    pub fn to_orchestrator(orchestrator: &str, data: &impl Serialize) -> Result<Outgoing, InvalidMessage> {
        let id: OrchestratorId = orchestrator.parse().map_err(|error| invalid("orchestrator")(&error))?;
        Outgoing::new(Addressee::Orchestrator(id), data)
    }

    /// To everybody who has subscribed to a channel.
    ///
    /// # Errors
    /// As [`Outgoing::to_orchestrator`].
    pub fn to_channel(channel: &str, data: &impl Serialize) -> Result<Outgoing, InvalidMessage> {
        let id: ChannelId = channel.parse().map_err(|error| invalid("channel")(&error))?;
        Outgoing::new(Addressee::Channel(id), data)
    }

    fn new(to: Addressee, data: &impl Serialize) -> Result<Outgoing, InvalidMessage> {
        let data = to_raw_value(data).map_err(|error| invalid("data")(&error))?;
        check_object(data.get().as_bytes()).map_err(|error| invalid("data")(&error))?;
        Ok(Outgoing { to, event_type: None, data, lane: Lane::Normal, id: None, time_to_live: None })
    }

    /// What it is. Default: `message.received`.
    ///
    /// # Errors
    /// If it is no dotted lower-case name of at most 64 characters.
    pub fn event_type(mut self, event_type: &str) -> Result<Outgoing, InvalidMessage> {
        self.event_type = Some(event_type.parse().map_err(|error| invalid("event_type")(&error))?);
        Ok(self)
    }

    /// How urgent it is. Default: normal.
    pub fn lane(mut self, lane: Lane) -> Outgoing {
        self.lane = lane;
        self
    }

    /// Makes a repeat harmless. Default: one is minted, which already makes the repeats of this client harmless.
    ///
    /// # Errors
    /// If it has not 1 to 58 of `[A-Za-z0-9._-]`, or the form of an id that Waystation makes.
    pub fn id(mut self, id: &str) -> Result<Outgoing, InvalidMessage> {
        self.id = Some(MessageId::from_caller(id).map_err(|error| invalid("id")(&error))?);
        Ok(self)
    }

    /// How long it may wait for its addressee, at least a millisecond. Default and most: as the organization allows.
    pub fn time_to_live(mut self, time: Duration) -> Outgoing {
        self.time_to_live = Some(time.max(Duration::from_millis(1)));
        self
    }

    pub(crate) fn bytes(&self) -> usize {
        self.data.get().len()
    }
}
