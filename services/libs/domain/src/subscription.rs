//! Which feed events a daemon asked for.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::event_type::is_dotted_name;
use crate::{ChannelId, EventType};

/// Most patterns of one daemon.
pub const MAX_PATTERNS: usize = 50;

/// An event type, `prefix.*`, or `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pattern(String);

/// Why patterns are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Malformed.
    #[error("must be an event type, `prefix.*` or `*`")]
    Malformed,
    /// More than 50.
    #[error("at most {MAX_PATTERNS} patterns")]
    TooMany,
}

impl Pattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an event of this type is meant.
    pub fn matches(&self, event_type: &EventType) -> bool {
        let name = event_type.as_str();
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == self.0,
        }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        let name = text.strip_suffix(".*").unwrap_or(text);
        if text == "*" || is_dotted_name(name) && text.len() <= 64 {
            Ok(Pattern(text.to_owned()))
        } else {
            Err(PatternError::Malformed)
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One pattern and the channels it is limited to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Which events.
    pub pattern: Pattern,
    /// Filters events that have a channel; empty: all.
    pub channels: BTreeSet<ChannelId>,
}

/// All that one daemon asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriptions {
    /// In the order in which they were first asked for.
    pub patterns: Vec<Subscription>,
    /// Taken out of wider patterns.
    pub excluded: BTreeSet<Pattern>,
}

impl Subscriptions {
    /// Adds patterns; the same pattern again replaces its channels and lifts its exclusion.
    ///
    /// # Errors
    /// If there would be more than 50.
    pub fn subscribe(&self, patterns: &[Pattern], channels: &BTreeSet<ChannelId>) -> Result<Self, PatternError> {
        let mut next = self.clone();
        for pattern in patterns {
            next.excluded.remove(pattern);
            let added = Subscription { pattern: pattern.clone(), channels: channels.clone() };
            match next.patterns.iter_mut().find(|known| known.pattern == *pattern) {
                Some(known) => *known = added,
                None => next.patterns.push(added),
            }
        }
        next.within_limit()
    }

    /// Removes patterns; a name that a wider pattern still covers becomes an exclusion.
    ///
    /// # Errors
    /// If there would be more than 50 exclusions.
    pub fn unsubscribe(&self, patterns: &[Pattern]) -> Result<Self, PatternError> {
        let mut next = self.clone();
        for pattern in patterns {
            next.patterns.retain(|known| known.pattern != *pattern);
            if next.patterns.iter().any(|known| covers(&known.pattern, pattern)) {
                next.excluded.insert(pattern.clone());
            }
        }
        let Subscriptions { patterns, excluded } = &mut next;
        excluded.retain(|gone| patterns.iter().any(|known| covers(&known.pattern, gone)));
        next.within_limit()
    }

    /// Whether an event is wanted.
    pub fn wants(&self, event_type: &EventType, channel: Option<&ChannelId>) -> bool {
        let on_channel = |s: &Subscription| channel.is_none_or(|c| s.channels.is_empty() || s.channels.contains(c));
        self.patterns.iter().any(|s| s.pattern.matches(event_type) && on_channel(s))
            && !self.excluded.iter().any(|gone| gone.matches(event_type))
    }

    fn within_limit(self) -> Result<Self, PatternError> {
        if self.patterns.len().max(self.excluded.len()) > MAX_PATTERNS {
            return Err(PatternError::TooMany);
        }
        Ok(self)
    }
}

fn covers(wide: &Pattern, narrow: &Pattern) -> bool {
    wide != narrow && wide.as_str().strip_suffix('*').is_some_and(|prefix| narrow.as_str().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn wants(subscriptions: &Subscriptions, event: &str, channel: Option<&str>) -> bool {
        let channel: Option<ChannelId> = channel.map(|c| c.parse().unwrap());
        subscriptions.wants(&event.parse().unwrap(), channel.as_ref())
    }

    #[test]
    fn patterns_are_exact_prefixed_or_everything() {
        for bad in ["", "a*", "*.a", "a.*.b", "**", "A.b", "a..*", ".*"] {
            assert_eq!(bad.parse::<Pattern>(), Err(PatternError::Malformed), "{bad}");
        }
        let some = Subscriptions::default().subscribe(&patterns(&["message.*", "call.started"]), &BTreeSet::new());
        let some = some.unwrap();
        assert!(wants(&some, "message.received", None));
        assert!(wants(&some, "call.started", Some("c1")));
        assert!(!wants(&some, "call.ended", None));
        assert!(!wants(&some, "messages.received", None));
    }

    #[test]
    fn unsubscribing_a_name_takes_it_out_of_a_wider_pattern() {
        let all = Subscriptions::default().subscribe(&patterns(&["*"]), &BTreeSet::new()).unwrap();
        let less = all.unsubscribe(&patterns(&["message.deleted", "call.*"])).unwrap();
        assert!(wants(&less, "message.received", None));
        assert!(!wants(&less, "message.deleted", None));
        assert!(!wants(&less, "call.started", None));
        let again = less.subscribe(&patterns(&["call.*"]), &BTreeSet::new()).unwrap();
        assert!(wants(&again, "call.started", None));
        assert_eq!(again.unsubscribe(&patterns(&["*", "call.*"])).unwrap(), Subscriptions::default());
    }

    #[test]
    fn channels_filter_only_events_that_have_one() {
        let channels = BTreeSet::from(["c1".parse().unwrap()]);
        let some = Subscriptions::default().subscribe(&patterns(&["message.*"]), &channels).unwrap();
        assert!(wants(&some, "message.received", None));
        assert!(wants(&some, "message.received", Some("c1")));
        assert!(!wants(&some, "message.received", Some("c2")));
        let wider = some.subscribe(&patterns(&["message.*"]), &BTreeSet::new()).unwrap();
        assert!(wants(&wider, "message.received", Some("c2")));
    }

    #[test]
    fn there_are_at_most_fifty_patterns() {
        let names: Vec<String> = (0..51).map(|n| format!("t{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let none = BTreeSet::new();
        assert!(Subscriptions::default().subscribe(&patterns(&names[..50]), &none).is_ok());
        assert_eq!(Subscriptions::default().subscribe(&patterns(&names), &none), Err(PatternError::TooMany));
    }
}
