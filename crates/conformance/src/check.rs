//! A check: one requirement of a specification, and the function that verifies it.

use std::fmt;

use futures_util::future::BoxFuture;

use crate::context::Context;

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

type RunCheck = for<'a> fn(&'a Context) -> BoxFuture<'a, CheckResult>;

/// A requirement of a specification, and the function that verifies it.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The name, such as `tus/creation/succeeds-with-201`. Names do not change between versions.
    pub id: &'static str,
    /// The section of the specification.
    pub section: &'static str,
    /// The level of the requirement.
    pub level: Level,
    /// The requirement as one sentence.
    pub requirement: &'static str,
    /// Needed besides the capabilities of the group.
    pub needs: &'static [Capability],
    pub(crate) run: RunCheck,
}

impl Check {
    pub(crate) const fn must(
        id: &'static str,
        section: &'static str,
        requirement: &'static str,
        run: RunCheck,
    ) -> Self {
        Self {
            id,
            section,
            level: Level::Must,
            requirement,
            needs: &[],
            run,
        }
    }

    pub(crate) const fn should(
        id: &'static str,
        section: &'static str,
        requirement: &'static str,
        run: RunCheck,
    ) -> Self {
        Self {
            level: Level::Should,
            ..Self::must(id, section, requirement, run)
        }
    }

    pub(crate) const fn may(
        id: &'static str,
        section: &'static str,
        requirement: &'static str,
        run: RunCheck,
    ) -> Self {
        Self {
            level: Level::May,
            ..Self::must(id, section, requirement, run)
        }
    }

    pub(crate) const fn needs(self, needs: &'static [Capability]) -> Self {
        Self { needs, ..self }
    }
}

/// Checks of one extension or chapter.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The specification.
    pub protocol: Protocol,
    /// The title in reports.
    pub title: &'static str,
    /// Needed by each check.
    pub needs: &'static [Capability],
    /// Runs only with `--chaos`.
    pub is_chaos: bool,
    /// The checks in the order of the report.
    pub checks: &'static [Check],
}

/// Fails the check with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::check::Finding::failed(format!($($message)+)));
        }
    };
}
pub(crate) use ensure;

/// Declares the table `CHECKS` of a file.
///
/// A row is `level "id", SECTION, "requirement" => function;`, with capabilities in brackets before the requirement,
/// and arguments after the function's name.
macro_rules! checks {
    ($(
        $level:ident $id:literal, $section:expr, $([$($need:ident),+],)?
        $requirement:literal => $run:ident $(($($argument:expr),*))?;
    )*) => {
        pub(super) const CHECKS: &[$crate::check::Check] = &[$(
            $crate::check::Check::$level($id, $section, $requirement, |context| {
                Box::pin($run(context $($(, $argument)*)?))
            })
            $(.needs(&[$($crate::check::Capability::$need),+]))?
        ),*];
    };
}
pub(crate) use checks;
