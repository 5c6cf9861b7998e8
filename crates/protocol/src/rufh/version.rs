//! Interop versions.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// An interop version of the draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InteropVersion(u8);

impl InteropVersion {
    /// The newest version whose rules are known. Larger ones have the same rules.
    pub const NEWEST: Self = Self(10);
    pub(super) const OLDEST: Self = Self(3);

    /// Returns the version of a number; `None` for one that never had the fields of this protocol.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::OLDEST.0 {
            return None;
        }
        Some(Self(number))
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns whether `Upload-Incomplete` takes the place of `Upload-Complete`, with the opposite value.
    #[must_use]
    pub const fn uses_incomplete(self) -> bool {
        self.0 == 3
    }

    /// Returns whether an upload is complete with all bytes of its known length, without `Upload-Complete`.
    #[must_use]
    pub const fn completes_at_length(self) -> bool {
        self.0 <= 6
    }

    /// Returns whether data of an append must be of [`PARTIAL_UPLOAD`](super::PARTIAL_UPLOAD).
    #[must_use]
    pub const fn requires_partial_upload(self) -> bool {
        self.0 >= 6
    }

    /// Returns whether HEAD and DELETE must not have fields of an upload; later versions ignore them.
    #[must_use]
    pub const fn forbids_upload_fields(self) -> bool {
        self.0 <= 6
    }

    /// Returns whether an append must have `Upload-Complete`; before, its absence means the last data.
    #[must_use]
    pub const fn requires_complete(self) -> bool {
        self.0 >= 7
    }

    /// Returns whether an upload ends when more data arrives than its length allows (section 4.1.3).
    #[must_use]
    pub const fn ends_beyond_length(self) -> bool {
        self.0 >= 7
    }

    /// Returns whether interim responses report the offset.
    #[must_use]
    pub const fn reports_progress(self) -> bool {
        self.0 >= 5
    }

    /// Returns whether all interim responses to a creation have `Location`, and not the first alone.
    #[must_use]
    pub const fn repeats_location(self) -> bool {
        self.0 >= 8
    }

    /// Returns whether the limit of an upload's lifetime is `expires`, and not `max-age`.
    #[must_use]
    pub const fn names_expires(self) -> bool {
        self.0 <= 6
    }
}

impl fmt::Display for InteropVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The interop versions that a server accepts; by default all that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InteropVersions(BTreeSet<InteropVersion>);

impl Default for InteropVersions {
    fn default() -> Self {
        let known = InteropVersion::OLDEST.0..=InteropVersion::NEWEST.0;
        Self(known.map(InteropVersion).collect())
    }
}

impl InteropVersions {
    /// Accepts none: all requests are of tus.
    pub const OFF: Self = Self(BTreeSet::new());

    /// Returns whether none is accepted.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a version is accepted.
    #[must_use]
    pub fn contains(&self, version: InteropVersion) -> bool {
        self.0.contains(&version)
    }
}

impl FromIterator<InteropVersion> for InteropVersions {
    fn from_iter<I: IntoIterator<Item = InteropVersion>>(versions: I) -> Self {
        Self(versions.into_iter().collect())
    }
}

/// `on` (all known versions), `off`, or a list of numbers such as `6,10`.
impl FromStr for InteropVersions {
    type Err = InvalidInteropVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "on" => return Ok(Self::default()),
            "off" => return Ok(Self::OFF),
            _ => {}
        }
        let parse = |part: &str| {
            let number = part.trim().parse().ok();
            number
                .and_then(InteropVersion::new)
                .ok_or_else(|| InvalidInteropVersion(part.trim().to_owned()))
        };
        text.split(',').map(parse).collect()
    }
}

impl fmt::Display for InteropVersions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_off() {
            return f.write_str("off");
        }
        if *self == Self::default() {
            return f.write_str("on");
        }
        let numbers: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

/// The text is no list of numbers from 3 to 255.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an interop version; write on, off, or numbers from 3 to 255, such as 6,10")]
pub struct InvalidInteropVersion(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_as_printed() {
        for text in ["on", "off", "6", "3,6,12"] {
            let versions: InteropVersions = text.parse().unwrap();
            assert_eq!(versions.to_string(), text);
        }
        assert_eq!("3,4,5,6,7,8,9,10".parse(), Ok(InteropVersions::default()));
        for bad in ["", "2", "-3", "3,", "all", "3 4", "256"] {
            assert!(bad.parse::<InteropVersions>().is_err(), "{bad:?}");
        }
    }
}
