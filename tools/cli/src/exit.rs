//! Classes of failures, and their exit codes.

use std::{fmt, io::ErrorKind, process::ExitCode};

use landfall_client::Error;

use crate::text::{printable, short_cause};

/// The reason for which a command or a transfer failed, and so the action that is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureClass {
    /// The server cannot be reached or is not available; the same command resumes.
    Unreachable,
    /// The server rejected it, or a file changed or cannot be read or written.
    Failed,
    /// The credentials are missing or not sufficient.
    Unauthorized,
    /// The arguments are invalid.
    Usage,
    /// The user interrupted it.
    Interrupted,
}

impl FailureClass {
    pub(crate) fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Unauthorized => 4,
            Self::Interrupted => 130,
        })
    }

    /// The name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A failure, with a message for the user.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) class: FailureClass,
    message: String,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        let (class, message) = (FailureClass::Failed, message.into());
        Self { class, message }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        let (class, message) = (FailureClass::Usage, message.into());
        Self { class, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let advice = advice(&error);
        Self::with_advice(&error, advice)
    }
}

impl Failure {
    /// Creates a failure with advice for the user.
    pub(crate) fn with_advice(error: &Error, advice: Option<&str>) -> Self {
        let class = match error {
            Error::Unauthorized(_) | Error::Authentication(_) => FailureClass::Unauthorized,
            Error::Connection(_) | Error::Unavailable(_) | Error::GaveUp { .. } => {
                FailureClass::Unreachable
            }
            Error::Cancelled => FailureClass::Interrupted,
            Error::Configuration(_) => FailureClass::Usage,
            _ => FailureClass::Failed,
        };
        let mut message = error.to_string();
        if matches!(error, Error::Connection(_) | Error::GaveUp { .. })
            && let Some((what, why)) = message.split_once(": ")
        {
            message = format!("{what}: {}", short_cause(why));
        }
        if let Some(advice) = advice {
            message.push_str("; ");
            message.push_str(advice);
        }
        Self { class, message }
    }
}

fn advice(error: &Error) -> Option<&'static str> {
    match error {
        // The server says why.
        Error::Unauthorized(rejection)
            if rejection.status == 403 && !rejection.message.is_empty() =>
        {
            None
        }
        Error::Unauthorized(_) => {
            Some("check --bearer, --token, --header or --cookie, and the permissions they have")
        }
        Error::Certificate(_) => Some("trust its authority with --cacert FILE"),
        Error::Connection(_) | Error::Unavailable(_) | Error::GaveUp { .. } => {
            Some("run the same command again to resume")
        }
        Error::SourceChanged(_) => Some("upload it again when no program writes to it"),
        Error::Gone(_) => Some("check the URL"),
        Error::Target(error) if error.kind() == ErrorKind::AlreadyExists => {
            Some("name another file with -o; the received bytes are kept")
        }
        Error::DigestMismatch => Some("download it again"),
        _ => None,
    }
}
