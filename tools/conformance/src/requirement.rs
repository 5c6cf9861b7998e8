//! Levels, protocols and capabilities of requirements, and the results of checks.

use std::fmt;

/// The level of a requirement (RFC 2119).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// MUST, MUST NOT, SHALL.
    Must,
    /// SHOULD, SHOULD NOT.
    Should,
    /// MAY, or a reading of a text that is open.
    May,
}

impl Level {
    /// Returns the keyword of RFC 2119.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.keyword())
    }
}

/// A protocol that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// tus 1.0.0.
    Tus,
    /// The IETF draft "Resumable Uploads for HTTP".
    Draft,
}

impl Protocol {
    /// Returns the name used by `--protocol` and `--expect`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tus => "tus",
            Self::Draft => "draft",
        }
    }

    /// Returns the title of the specification.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Tus => "tus 1.0.0",
            Self::Draft => "Resumable Uploads for HTTP",
        }
    }
}

/// What a server has to offer for a check to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// The tus extension `creation`.
    Creation,
    /// The tus extension `creation-with-upload`.
    CreationWithUpload,
    /// The tus extension `creation-defer-length`.
    CreationDeferLength,
    /// The tus extension `expiration`.
    Expiration,
    /// The tus extension `checksum`.
    Checksum,
    /// The tus extension `checksum-trailer`.
    ChecksumTrailer,
    /// The tus extension `termination`.
    Termination,
    /// The tus extension `concatenation`.
    Concatenation,
    /// The tus extension `concatenation-unfinished`.
    ConcatenationUnfinished,
    /// A limit of the size of uploads, reported by `Tus-Max-Size` or `Upload-Limit`.
    MaxSize,
}

impl Capability {
    /// All extensions of tus 1.0.0.
    pub const EXTENSIONS: [Self; 9] = [
        Self::Creation,
        Self::CreationWithUpload,
        Self::CreationDeferLength,
        Self::Expiration,
        Self::Checksum,
        Self::ChecksumTrailer,
        Self::Termination,
        Self::Concatenation,
        Self::ConcatenationUnfinished,
    ];

    /// Returns the token of `Tus-Extension`, or the name used by `--expect`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::CreationWithUpload => "creation-with-upload",
            Self::CreationDeferLength => "creation-defer-length",
            Self::Expiration => "expiration",
            Self::Checksum => "checksum",
            Self::ChecksumTrailer => "checksum-trailer",
            Self::Termination => "termination",
            Self::Concatenation => "concatenation",
            Self::ConcatenationUnfinished => "concatenation-unfinished",
            Self::MaxSize => "max-size",
        }
    }
}

/// A reason why a check does not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The server violates the requirement.
    #[error("{0}")]
    Failed(String),
    /// The server violates the requirement, and its makers have documented that; the reason is in the text.
    #[error("{0}")]
    Documented(String),
    /// The check does not apply to this server.
    #[error("{0}")]
    Skipped(String),
    /// The check could not be carried out.
    #[error("{0}")]
    Error(String),
}

impl Finding {
    /// Returns a violation of the requirement.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// Returns a reason why the check does not apply.
    pub fn skipped(text: impl Into<String>) -> Self {
        Self::Skipped(text.into())
    }
}

/// The result of a check's function.
pub type CheckResult<T = ()> = Result<T, Finding>;

/// Fails the check with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        match $condition {
            true => Ok(()),
            false => Err($crate::requirement::Finding::failed(format!($($message)+))),
        }
    };
}
pub(crate) use ensure;

/// Fails unless a value is the expected one.
pub(crate) fn equal<T: PartialEq + fmt::Display>(name: &str, found: T, expected: T) -> CheckResult {
    ensure!(found == expected, "{name} is {found}, not {expected}")
}

/// Skips the check.
pub(crate) fn skip<T>(reason: impl Into<String>) -> CheckResult<T> {
    Err(Finding::skipped(reason))
}

/// Fails the check.
pub(crate) fn fail<T>(text: impl Into<String>) -> CheckResult<T> {
    Err(Finding::failed(text))
}
