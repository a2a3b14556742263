//! The words of Waystation as types, and the rules that need nothing but them.
//!
//! **Invariant:** no I/O, no clock, no randomness, no async runtime in this crate.

mod event_type;
pub mod federation;
mod feed;
mod id;
mod json;
mod lane;
mod log;
mod message_id;
mod network;
pub mod policy;
mod position;
mod revocation;
mod scope;
mod signing;
mod subscription;
mod time;
mod trace;
mod typed_event;

pub use event_type::{EventType, EventTypeError};
pub use feed::{Audience, FeedEvent, FeedExtent, FeedGap, FeedLoss, FeedPoint, FeedPosition, FeedStart, may_see};
pub use id::{
    ApiKeyId, BroadcastId, ChannelId, DaemonId, DelegationId, EntryName, IdError, IncarnationId, InstanceId, LoginId,
    OrchestratorId, OrganizationId, SessionId, TokenId,
};
pub use json::{JsonError, MAX_DATA_BYTES, MAX_JSON_DEPTH, check_document, check_object};
pub use lane::{Lane, PerLane};
pub use log::{
    AckRange, Activation, Charge, Entry, ExitReason, Gap, GapRange, Heads, MessageRef, Nack, Reject, ReportedPresence,
    ReportedStatus, ResumePoint, ResumeVerdict, Window,
};
pub use message_id::{MessageId, MessageIdError};
pub use network::{Network, NetworkError, allows_address};
pub use policy::TokenClass;
pub use position::{Epoch, ParseEpochError, Position};
pub use revocation::{Revocation, Revoked};
pub use scope::{Scope, ScopeSet};
pub use signing::SigningAlgorithm;
pub use subscription::{MAX_PATTERNS, Pattern, PatternError, Subscription, Subscriptions};
pub use time::{ParseTimestampError, Timestamp};
pub use trace::{ParseTraceParentError, TraceParent};
pub use typed_event::{CATEGORIES, TypedEventError, category_of, check_typed};
