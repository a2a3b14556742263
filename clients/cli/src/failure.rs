//! What can go wrong, and the exit code that says so (sysexits.h).

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use waystation_client::{CallError, ConnectError, InvalidMessage, Stopped};

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It was called in a wrong way, or does not know where to go.
    #[error("{0}")]
    Usage(String),
    /// What was given is refused.
    #[error("{0}")]
    Data(String),
    /// A service cannot be reached.
    #[error("{0} cannot be reached: {1}")]
    Unreachable(&'static str, String),
    /// A service refused a call.
    #[error("{}{}", .0.message(), reason_of(.0).map(|reason| format!(" ({reason})")).unwrap_or_default())]
    Refused(Box<Status>),
    /// The daemon's connection has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A program could not be run, a file not be read.
    #[error("{0}")]
    Os(String),
}

/// More exactly why, as the API documents it.
fn reason_of(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

impl Failure {
    pub(crate) const USAGE: u8 = 64;
    pub(crate) const DATA: u8 = 65;
    pub(crate) const NOT_FOUND: u8 = 66;
    pub(crate) const UNAVAILABLE: u8 = 69;
    pub(crate) const OS: u8 = 71;
    pub(crate) const LATER: u8 = 75;
    pub(crate) const NOT_ALLOWED: u8 = 77;

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => Failure::USAGE,
            Failure::Data(_) => Failure::DATA,
            Failure::Unreachable(..) => Failure::UNAVAILABLE,
            Failure::Os(_) => Failure::OS,
            Failure::Stopped(Stopped::Token(_)) => Failure::NOT_ALLOWED,
            Failure::Stopped(_) => Failure::UNAVAILABLE,
            Failure::Refused(status) => match status.code() {
                Code::NotFound => Failure::NOT_FOUND,
                Code::Unauthenticated | Code::PermissionDenied => Failure::NOT_ALLOWED,
                Code::ResourceExhausted | Code::Aborted => Failure::LATER,
                Code::Unavailable | Code::DeadlineExceeded => Failure::UNAVAILABLE,
                Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition | Code::OutOfRange => {
                    Failure::DATA
                }
                Code::Ok | Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => 1,
            },
        }
    }

    /// What to do about it.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self.exit_code() {
            Failure::UNAVAILABLE => {
                Some("`waystation doctor` looks at what is wrong; `waystation up` starts one here.")
            }
            Failure::NOT_ALLOWED => Some(
                "Is the token of this organization, still good, and has it the scope? `waystation token` gets one.",
            ),
            _ => None,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Refused(Box::new(status))
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Failure {
        match error {
            ConnectError::Stopped(stopped) => Failure::Stopped(stopped),
            ConnectError::Option { .. } | ConnectError::State(_) => Failure::Usage(error.to_string()),
        }
    }
}

impl From<InvalidMessage> for Failure {
    fn from(error: InvalidMessage) -> Failure {
        Failure::Data(error.to_string())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        match error {
            CallError::Stopped(stopped) => Failure::Stopped(stopped),
            CallError::Refused(_) | CallError::RateLimited(_) | CallError::Malformed(_) | CallError::TimedOut => {
                Failure::Data(error.to_string())
            }
        }
    }
}
