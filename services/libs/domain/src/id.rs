//! Identifiers: a type for each, so that one cannot be passed for another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest identifier, in bytes. Store keys and ids of events are built from them.
const MAX_LEN: usize = 64;

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// More than 64 characters.
    #[error("must have at most {MAX_LEN} characters")]
    TooLong,
    /// Other characters could let two tenants share a key of the store.
    #[error("may hold only letters, digits, '.', '_' and '-'")]
    Character,
}

pub(crate) fn check(text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > max {
        return Err(IdError::TooLong);
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.bytes().all(allowed) { Ok(()) } else { Err(IdError::Character) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 64 of `[A-Za-z0-9._-]`. Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "Arc<str>", into = "Arc<str>")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text, MAX_LEN)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<Arc<str>> for $name {
            type Error = IdError;
            fn try_from(text: Arc<str>) -> Result<Self, IdError> {
                check(&text, MAX_LEN)?;
                Ok(Self(text))
            }
        }

        /// Maps can be asked by the text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for Arc<str> {
            fn from(id: $name) -> Arc<str> {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A tenant.
    OrganizationId
);
id!(
    /// An addressee: has a mailbox and a presence.
    OrchestratorId
);
id!(
    /// One process that serves an orchestrator.
    DaemonId
);
id!(
    /// One live connection of one daemon; minted by the gateway.
    SessionId
);
id!(
    /// A token family: all tokens that descend from one login.
    LoginId
);
id!(
    /// One run of one gateway process.
    IncarnationId
);
id!(
    /// One running client, if it announces itself.
    InstanceId
);
id!(
    /// A channel of the platform.
    ChannelId
);
id!(
    /// The public half of an API key.
    ApiKeyId
);
id!(
    /// One token (claim `jti`).
    TokenId
);

id!(
    /// A task that is handed on.
    DelegationId
);
id!(
    /// Something that those who share a task's context call by name: scratchpad, taskHistory, whatever they agree on.
    EntryName
);
id!(
    /// Something that is said to many.
    BroadcastId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hold_only_what_store_keys_can_carry() {
        assert_eq!("".parse::<DaemonId>(), Err(IdError::Empty));
        assert_eq!("a".repeat(65).parse::<DaemonId>(), Err(IdError::TooLong));
        for bad in ["a{b", "a}b", "a/b", "a:b", "a b", "a\0b", "ä"] {
            assert_eq!(bad.parse::<OrchestratorId>(), Err(IdError::Character), "{bad:?}");
        }
        assert!("Az09._-".parse::<OrganizationId>().is_ok());
        assert!("a".repeat(64).parse::<OrganizationId>().is_ok());
    }
}
