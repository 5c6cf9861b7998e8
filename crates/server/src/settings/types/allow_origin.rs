//! The value of `--cors-allow-origin`.
//!
//! Anchors are not added, since tusd's users rely on partial matches. An expression that can match no origin is an
//! error; only expressions without groups, sets and repetitions are examined for that.

/// A regular expression of allowed origins, matched anywhere in the `Origin` header as in tusd.
/// The default allows every origin.
#[derive(Clone, Debug, Default)]
pub struct AllowOrigin(Option<regex_lite::Regex>);

impl AllowOrigin {
    /// Compiles a regular expression.
    ///
    /// # Errors
    /// If it is malformed, or can match no origin.
    pub fn new(pattern: &str) -> Result<Self, String> {
        if pattern == ".*" || pattern.is_empty() {
            return Ok(Self(None));
        }
        match regex_lite::Regex::new(pattern) {
            Ok(_) if !can_match_origin(pattern) => Err(format!(
                "{pattern:?} matches no origin: an origin is scheme, host and port, without a slash at \
                 its end; write several as ^(https://a\\.example|https://b\\.example)$"
            )),
            Ok(regex) => Ok(Self(Some(regex))),
            Err(error) => Err(format!("not a regular expression: {error}")),
        }
    }

    /// Returns whether an origin is allowed.
    pub fn matches(&self, origin: &str) -> bool {
        self.0.as_ref().is_none_or(|regex| regex.is_match(origin))
    }

    /// Returns the expression; `.*` if all origins are allowed.
    pub fn pattern(&self) -> &str {
        self.0.as_ref().map_or(".*", |regex| regex.as_str())
    }
}

fn can_match_origin(pattern: &str) -> bool {
    if pattern.contains(['[', ']', '(', ')', '{', '}', '|', '?', '*', '+']) {
        return true;
    }
    let plain = pattern.replace("\\/", "/");
    let host = match plain.rsplit_once("//") {
        Some((_, host)) => host,
        None => plain.trim_start_matches(['^', '/']),
    };
    let odd = |c: char| c == ',' || c == '/' || c.is_whitespace() || c.is_control();
    !host.contains(odd) && plain.matches('/').count() <= 2
}

impl PartialEq for AllowOrigin {
    fn eq(&self, other: &Self) -> bool {
        self.pattern() == other.pattern()
    }
}
