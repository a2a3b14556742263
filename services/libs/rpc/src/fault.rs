//! What went wrong, in the words that callers rely on.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use waystation_domain::policy::Forbidden;
use waystation_proto::common::v1::ErrorReason;
use waystation_token::TokenError;

/// `domain` of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "waystation";
/// In its metadata: what a second allows.
const LIMIT: &str = "limit_per_second";

/// An error on its way to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    reason: ErrorReason,
    message: String,
    field: Option<String>,
    retry_after: Option<Duration>,
    limit: Option<u32>,
}

/// For logs and start errors.
impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Fault {
    /// An error of a reason; the message is for people.
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Fault {
        Fault { reason, message: message.into(), field: None, retry_after: None, limit: None }
    }

    /// A field of the request cannot be taken.
    pub fn field(field: &str, problem: impl Display) -> Fault {
        Fault {
            reason: ErrorReason::InvalidField,
            message: format!("{field} {problem}"),
            field: Some(field.to_owned()),
            retry_after: None,
            limit: None,
        }
    }

    /// The store or a neighbour does not answer.
    pub fn unavailable(cause: impl Display) -> Fault {
        Fault::new(ErrorReason::Unavailable, cause.to_string()).retry(Duration::from_secs(1))
    }

    /// Something is not there, or not for this caller.
    pub fn not_found(what: &str) -> Fault {
        Fault::new(ErrorReason::NotFound, format!("{what} not found"))
    }

    /// When to try again.
    #[must_use]
    pub fn retry(self, after: Duration) -> Fault {
        Fault { retry_after: Some(after), ..self }
    }

    /// How many a second would have been allowed.
    #[must_use]
    pub fn limit(self, a_second: u32) -> Fault {
        Fault { limit: Some(a_second), ..self }
    }

    /// The field of an element of a batch.
    #[must_use]
    pub fn within(self, prefix: &str) -> Fault {
        Fault { field: self.field.map(|field| format!("{prefix}.{field}")), ..self }
    }

    /// Which of several things the fault is about.
    #[must_use]
    pub fn about(self, what: &str) -> Fault {
        Fault { message: format!("{what}: {}", self.message), ..self }
    }

    /// Its reason as callers get it.
    pub fn reason(&self) -> ErrorReason {
        self.reason
    }

    fn code(&self) -> Code {
        match self.reason {
            ErrorReason::InvalidField => Code::InvalidArgument,
            ErrorReason::NotFound => Code::NotFound,
            ErrorReason::MailboxFull
            | ErrorReason::StoreFull
            | ErrorReason::MaxConnections
            | ErrorReason::Overloaded
            | ErrorReason::RateLimited => Code::ResourceExhausted,
            ErrorReason::MessageIdReused | ErrorReason::AlreadyExists | ErrorReason::DaemonAlreadyRegistered => {
                Code::AlreadyExists
            }
            ErrorReason::OrchestratorOffline
            | ErrorReason::DurabilityUnavailable
            | ErrorReason::RotationPending
            | ErrorReason::SessionUnknown
            | ErrorReason::GatewayExpired
            | ErrorReason::DelegationState
            | ErrorReason::DelegationCycle => Code::FailedPrecondition,
            ErrorReason::Unavailable => Code::Unavailable,
            ErrorReason::Unauthenticated | ErrorReason::TokenExpired | ErrorReason::TokenRevoked => {
                Code::Unauthenticated
            }
            ErrorReason::PermissionDenied | ErrorReason::OrchestratorDisabled | ErrorReason::AddressNotAllowed => {
                Code::PermissionDenied
            }
            ErrorReason::Fenced
            | ErrorReason::DuplicateIdentity
            | ErrorReason::Superseded
            | ErrorReason::OtherVersion => Code::Aborted,
            ErrorReason::Internal | ErrorReason::Unspecified => Code::Internal,
        }
    }

    /// The reason without its prefix, as MAILBOX_FULL.
    pub fn name(&self) -> &'static str {
        let name = self.reason.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }
}

/// Why a token was refused, for its bearer.
impl From<TokenError> for Fault {
    fn from(error: TokenError) -> Fault {
        let reason = match error {
            TokenError::Invalid => ErrorReason::Unauthenticated,
            TokenError::Expired => ErrorReason::TokenExpired,
            TokenError::Revoked => ErrorReason::TokenRevoked,
        };
        Fault::new(reason, error.to_string())
    }
}

/// Why the policy refuses a caller.
impl From<Forbidden> for Fault {
    fn from(forbidden: Forbidden) -> Fault {
        Fault::new(ErrorReason::PermissionDenied, forbidden.to_string())
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        let limit = fault.limit.map(|limit| (LIMIT.to_owned(), limit.to_string()));
        let metadata: HashMap<String, String> = limit.into_iter().collect();
        let mut details = ErrorDetails::with_error_info(fault.name(), DOMAIN, metadata);
        if let Some(field) = &fault.field {
            details.add_bad_request_violation(field, &fault.message);
        }
        if let Some(after) = fault.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(fault.code(), fault.message, details)
    }
}

/// The error as an element of a batch carries it.
impl From<Fault> for tonic_types::Status {
    fn from(fault: Fault) -> tonic_types::Status {
        use prost::Message as _;
        let status = Status::from(fault);
        tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Vec::new(),
        })
    }
}

/// The reason that a status carries, if it is one of ours.
pub fn reason_of(status: &Status) -> Option<ErrorReason> {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN)?;
    ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason))
}

/// The field that a status names.
pub fn field_of(status: &Status) -> Option<String> {
    let violations = status.get_details_bad_request()?.field_violations;
    violations.into_iter().next().map(|violation| violation.field)
}

/// The error that an element of a batch carries.
pub fn status_of_element(element: tonic_types::Status) -> Status {
    use prost::Message as _;
    let details = element.encode_to_vec().into();
    Status::with_details(Code::from_i32(element.code), element.message, details)
}

/// How many a second are allowed, if a status says so.
pub fn limit_of(status: &Status) -> Option<u32> {
    status.get_details_error_info()?.metadata.get(LIMIT)?.parse().ok()
}

/// When the callee wants to be asked again.
pub fn retry_after_of(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_reason_field_and_delay() {
        let fault = Fault::field("data", "must be a JSON object").retry(Duration::from_secs(2));
        let status = Status::from(fault);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(reason_of(&status), Some(ErrorReason::InvalidField));
        assert_eq!(retry_after_of(&status), Some(Duration::from_secs(2)));
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "data");
    }

    #[test]
    fn an_element_of_a_batch_carries_the_same() {
        let element = tonic_types::Status::from(Fault::not_found("orchestrator"));
        assert_eq!((element.code, element.details.len()), (Code::NotFound as i32, 1));
        assert_eq!(reason_of(&status_of_element(element)), Some(ErrorReason::NotFound));
    }
}
