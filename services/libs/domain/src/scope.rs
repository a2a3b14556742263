//! What a token allows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// One permission.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Scope { $($(#[$doc])* #[serde(rename = $text)] $name,)* }

        impl Scope {
            /// All there are, in the order of their bits.
            pub const ALL: &[Scope] = &[$(Scope::$name,)*];

            /// As tokens carry it.
            pub fn as_str(self) -> &'static str {
                match self { $(Scope::$name => $text,)* }
            }
        }
    };
}

scopes! {
    /// Receive the mailbox.
    MessagesRead = "messages:read",
    /// Send messages.
    MessagesWrite = "messages:write",
    /// See channels.
    ChannelsRead = "channels:read",
    /// Join channels.
    ChannelsJoin = "channels:join",
    /// See users.
    UsersRead = "users:read",
    /// See who is online.
    PresenceRead = "presence:read",
    /// Report one's own presence.
    PresenceWrite = "presence:write",
    /// Read files.
    FilesRead = "files:read",
    /// Write files.
    FilesWrite = "files:write",
    /// Join calls.
    CallsJoin = "calls:join",
    /// Manage calls.
    CallsManage = "calls:manage",
    /// Change an orchestrator's status.
    VpStatus = "vp:status",
    /// Change an orchestrator's configuration.
    VpConfig = "vp:config",
    /// Receive events.
    EventsRead = "events:read",
    /// Publish events.
    EventsWrite = "events:write",
    /// Query orchestrators.
    FederationRead = "federation:read",
    /// Delegate.
    FederationWrite = "federation:write",
    /// Look into the own organization.
    AdminRead = "admin:read",
    /// Change the own organization.
    AdminWrite = "admin:write",
    /// Everything in every organization: operators.
    AdminAll = "admin:*",
}

impl FromStr for Scope {
    type Err = UnknownScope;
    fn from_str(text: &str) -> Result<Scope, UnknownScope> {
        Scope::ALL.iter().copied().find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no such scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a known scope")]
pub struct UnknownScope;

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScopeSet(u32);

impl ScopeSet {
    /// Whether the scope is granted; `admin:*` grants all.
    pub fn allows(self, scope: Scope) -> bool {
        self.contains(scope) || self.contains(Scope::AdminAll)
    }

    /// Whether the set holds this very scope.
    pub fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u32) != 0
    }

    /// What both hold.
    pub fn intersection(self, other: ScopeSet) -> ScopeSet {
        ScopeSet(self.0 & other.0)
    }

    /// Whether it holds nothing.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }

    /// As tokens and answers carry them.
    pub fn to_strings(self) -> Vec<String> {
        self.iter().map(|scope| scope.as_str().to_owned()).collect()
    }

    /// The known ones among texts; others are dropped, as a token of the platform may carry its own.
    pub fn from_known<'a>(texts: impl IntoIterator<Item = &'a str>) -> ScopeSet {
        texts.into_iter().filter_map(|text| text.parse::<Scope>().ok()).collect()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> ScopeSet {
        ScopeSet(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granted_is_what_was_requested_and_the_key_has() {
        let key: ScopeSet = [Scope::MessagesRead, Scope::EventsRead].into_iter().collect();
        let requested = ScopeSet::from_known(["messages:read", "admin:*", "made:up"]);
        let granted = key.intersection(requested);
        assert_eq!(granted.to_strings(), ["messages:read"]);
        assert!(!granted.allows(Scope::EventsRead));
    }

    #[test]
    fn an_operator_may_do_everything() {
        let operator: ScopeSet = [Scope::AdminAll].into_iter().collect();
        assert!(Scope::ALL.iter().all(|scope| operator.allows(*scope)));
    }
}
