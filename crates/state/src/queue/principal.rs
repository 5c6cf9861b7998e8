//! The result of authentication, as policies, grants and APIs use it.
//!
//! Authenticates nothing: `landfall-access` does.

use super::GrantLimits;

/// An authenticated principal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Principal {
    /// Its name: that of its API key or its certificate, the subject of its JWT, or the application's name for it.
    pub subject: String,
    /// Its own limits, in addition to those of the server.
    pub limits: GrantLimits,
    /// True if it may list and cancel the uploads of all subjects.
    pub is_admin: bool,
    /// True if the request has only credentials that browsers send automatically, such as cookies,
    /// a stored password or a certificate.
    pub by_cookie: bool,
    /// The number of its upload link, which may request grants and nothing else.
    pub link: Option<i64>,
}

impl Principal {
    /// Creates a principal without limits.
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            limits: GrantLimits::default(),
            is_admin: false,
            by_cookie: false,
            link: None,
        }
    }
}

/// Returns whether a string is a valid subject: 1 to 255 bytes without control characters.
pub fn is_subject(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
}
