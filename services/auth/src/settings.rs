//! What an organization may choose, judged.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use prost_types::Duration as WireDuration;
use waystation_domain::{Network, Window};
use waystation_proto::auth::v1::{OrganizationSettings as Wire, OverflowPolicy};
use waystation_rpc::Fault;
use waystation_rpc::convert::parse;
use waystation_store::credential::OrganizationSettings;
use waystation_store::limits;
use waystation_store::mailbox::{MailboxLimits, Overflow};

/// Smallest mailbox in bytes: any message fits an empty one.
const LEAST_BYTES: u64 = 256 * 1024;
const SHORTEST: Duration = Duration::from_secs(1);
const MOST_FRAMES: u32 = 1_000_000;
const MOST_SESSIONS: u32 = 100;
const MOST_MESSAGES: u32 = 1_000_000;
const MOST_NETWORKS: usize = 32;

/// A number within its range; 0: not chosen.
fn chosen<T: PartialOrd + Default + Display + Copy>(
    field: &str,
    number: T,
    range: RangeInclusive<T>,
) -> Result<Option<T>, Fault> {
    if number == T::default() {
        return Ok(None);
    }
    if !range.contains(&number) {
        return Err(Fault::field(
            &format!("settings.{field}"),
            format!("must be {} to {}", range.start(), range.end()),
        ));
    }
    Ok(Some(number))
}

fn time(field: &str, time: Option<&WireDuration>, longest: Duration) -> Result<Option<Duration>, Fault> {
    let Some(time) = time else { return Ok(None) };
    let read = Duration::try_from(*time).ok().filter(|time| (SHORTEST..=longest).contains(time));
    let problem = || format!("must be 1 to {} s", longest.as_secs());
    read.map(Some).ok_or_else(|| Fault::field(&format!("settings.{field}"), problem()))
}

/// # Errors
/// INVALID_ARGUMENT naming the field.
pub(crate) fn from_wire(wire: &Wire) -> Result<OrganizationSettings, Fault> {
    let usual = OrganizationSettings::default();
    let most = u32::try_from(limits::LARGEST_MAILBOX_ENTRIES).unwrap_or(u32::MAX);
    let entries = chosen("mailbox_messages", wire.mailbox_messages, 1..=most)?;
    let bytes = chosen("mailbox_bytes", wire.mailbox_bytes, LEAST_BYTES..=limits::LARGEST_MAILBOX_BYTES)?;
    let overflow = match OverflowPolicy::try_from(wire.overflow_policy) {
        Ok(OverflowPolicy::Unspecified | OverflowPolicy::RefuseNewest) => Overflow::RefuseNewest,
        Ok(OverflowPolicy::ReplaceOldest) => Overflow::ReplaceOldest,
        Err(_) => return Err(Fault::field("settings.overflow_policy", "is not known")),
    };
    let longest = time("longest_time_to_live", wire.longest_time_to_live.as_ref(), limits::TIME_TO_LIVE)?;
    let longest = longest.unwrap_or(usual.longest_time_to_live);
    let (smallest, largest) = (Window::SMALLEST, Window::LARGEST);
    let window_entries = chosen("max_in_flight", wire.max_in_flight, smallest.entries..=largest.entries)?;
    let window_bytes = chosen("max_in_flight_bytes", wire.max_in_flight_bytes, smallest.bytes..=largest.bytes)?;
    Ok(OrganizationSettings {
        mailbox: MailboxLimits {
            entries: entries.and_then(|count| usize::try_from(count).ok()).unwrap_or(usual.mailbox.entries),
            bytes: bytes.unwrap_or(usual.mailbox.bytes),
            overflow,
        },
        time_to_live: time("time_to_live", wire.time_to_live.as_ref(), longest)?.unwrap_or(longest),
        longest_time_to_live: longest,
        frames_per_minute: chosen("frames_per_minute", wire.frames_per_minute, 1..=MOST_FRAMES)?,
        frames_per_minute_announced: chosen(
            "frames_per_minute_announced",
            wire.frames_per_minute_announced,
            1..=MOST_FRAMES,
        )?,
        window: Window {
            entries: window_entries.unwrap_or(usual.window.entries),
            bytes: window_bytes.unwrap_or(usual.window.bytes),
        },
        sessions: chosen("sessions_per_orchestrator", wire.sessions_per_orchestrator, 1..=MOST_SESSIONS)?,
        auto_create_orchestrators: wire.auto_create_orchestrators,
        messages_per_second: chosen("messages_per_second", wire.messages_per_second, 1..=MOST_MESSAGES)?,
        networks: networks("settings.networks", &wire.networks)?,
    })
}

/// # Errors
/// INVALID_ARGUMENT naming the field.
pub(crate) fn networks(field: &str, texts: &[String]) -> Result<Vec<Network>, Fault> {
    if texts.len() > MOST_NETWORKS {
        return Err(Fault::field(field, format!("must have at most {MOST_NETWORKS} elements")));
    }
    let each = texts.iter().enumerate().map(|(index, text)| parse(&format!("{field}[{index}]"), text));
    each.collect()
}

pub(crate) fn to_wire(settings: &OrganizationSettings) -> Wire {
    let OrganizationSettings { mailbox, window, .. } = settings;
    let overflow = match mailbox.overflow {
        Overflow::RefuseNewest => OverflowPolicy::RefuseNewest,
        Overflow::ReplaceOldest => OverflowPolicy::ReplaceOldest,
    };
    Wire {
        mailbox_messages: u32::try_from(mailbox.entries).unwrap_or(u32::MAX),
        mailbox_bytes: mailbox.bytes,
        overflow_policy: overflow.into(),
        time_to_live: settings.time_to_live.try_into().ok(),
        longest_time_to_live: settings.longest_time_to_live.try_into().ok(),
        frames_per_minute: settings.frames_per_minute.unwrap_or(0),
        frames_per_minute_announced: settings.frames_per_minute_announced.unwrap_or(0),
        max_in_flight: window.entries,
        max_in_flight_bytes: window.bytes,
        sessions_per_orchestrator: settings.sessions.unwrap_or(0),
        auto_create_orchestrators: settings.auto_create_orchestrators,
        messages_per_second: settings.messages_per_second.unwrap_or(0),
        networks: settings.networks.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_chosen_has_its_default() {
        let settings = from_wire(&Wire::default()).unwrap();
        assert_eq!(settings, OrganizationSettings::default());
        assert_eq!(from_wire(&to_wire(&settings)).unwrap(), settings);
    }

    #[test]
    fn refusals_name_the_field() {
        let seconds = |seconds| Some(WireDuration { seconds, nanos: 0 });
        let day = 24 * 3_600;
        let bad = [
            ("mailbox_messages", Wire { mailbox_messages: 100_001, ..Wire::default() }),
            ("mailbox_bytes", Wire { mailbox_bytes: 1_000, ..Wire::default() }),
            ("overflow_policy", Wire { overflow_policy: 9, ..Wire::default() }),
            ("time_to_live", Wire { time_to_live: seconds(0), ..Wire::default() }),
            ("time_to_live", Wire { time_to_live: seconds(day), longest_time_to_live: seconds(9), ..Wire::default() }),
            ("longest_time_to_live", Wire { longest_time_to_live: seconds(8 * day), ..Wire::default() }),
            ("frames_per_minute", Wire { frames_per_minute: 1_000_001, ..Wire::default() }),
            ("frames_per_minute_announced", Wire { frames_per_minute_announced: u32::MAX, ..Wire::default() }),
            ("max_in_flight", Wire { max_in_flight: 1_001, ..Wire::default() }),
            ("max_in_flight_bytes", Wire { max_in_flight_bytes: 1, ..Wire::default() }),
            ("messages_per_second", Wire { messages_per_second: 1_000_001, ..Wire::default() }),
            ("networks[1]", Wire { networks: vec!["::1".into(), "192.0.2.1/24".into()], ..Wire::default() }),
            ("networks", Wire { networks: vec!["::1".into(); 33], ..Wire::default() }),
            ("sessions_per_orchestrator", Wire { sessions_per_orchestrator: 101, ..Wire::default() }),
        ];
        for (field, wire) in bad {
            let fault = from_wire(&wire).unwrap_err().to_string();
            assert!(fault.starts_with(&format!("settings.{field}: ")), "{fault}");
        }
    }
}
