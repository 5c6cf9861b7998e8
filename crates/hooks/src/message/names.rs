//! The names of hooks and events, and sets of them.
//!
//! Settings, receivers and messages stored in the outbox contain these names, so a name must not change. Sets are bit
//! masks for this process and are not stored.

use std::{fmt, str::FromStr};

use landfall::event::EventKinds;
use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer as _, value},
};

macro_rules! hook_names {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $(or $alias:literal)?;)*) => {
        /// The name of a blocking hook (`pre-…`) or an event (`post-…`, `Upload…`).
        ///
        /// The first seven are tusd's, the others are Landfall's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum HookName {
            $($(#[$doc])* #[serde(rename = $name $(, alias = $alias)?)] $variant,)*
        }

        impl HookName {
            /// All names: tusd's in its order, then Landfall's.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Returns the name: `pre-create`, `post-create`, …, `UploadStarted`, …
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

hook_names! {
    /// Called before an upload is created.
    PreCreate = "pre-create";
    /// An upload was created.
    PostCreate = "post-create";
    /// An upload is receiving data; sent at intervals. The response may stop the upload.
    PostReceive = "post-receive";
    /// Called when all bytes are stored, before the completion is acknowledged.
    PreFinish = "pre-finish";
    /// An upload is complete.
    PostFinish = "post-finish";
    /// Called before a client terminates an upload.
    PreTerminate = "pre-terminate";
    /// An upload was terminated.
    PostTerminate = "post-terminate";
    /// Called before any operation on an upload, or a creation.
    PreAccess = "pre-access";
    /// An upload expired.
    PostExpire = "post-expire";
    /// Called before a grant is issued.
    PreGrant = "pre-grant";
    /// The upload of a job was created, or granted if the queue reports grants as started.
    UploadStarted = "UploadStarted" or "upload-started";
    /// The stored offset of a job's upload has grown.
    UploadProgress = "UploadProgress" or "upload-progress";
    /// All bytes of a job's upload are stored.
    UploadCompleted = "UploadCompleted" or "upload-completed";
    /// A job was cancelled.
    UploadCancelled = "UploadCancelled" or "upload-cancelled";
    /// A job's upload failed.
    UploadFailed = "UploadFailed" or "upload-failed";
    /// A job's upload was not created, or not completed, in time.
    UploadExpired = "UploadExpired" or "upload-expired";
}

impl HookName {
    /// Returns the CloudEvents type: `io.landfall.upload.post-finish` or
    /// `io.landfall.upload.started`.
    pub fn cloud_event_kind(self) -> String {
        let name = self.as_str().trim_start_matches("Upload");
        format!("io.landfall.upload.{}", name.to_ascii_lowercase())
    }

    /// Returns whether this is a blocking hook: the request waits for the response.
    pub const fn is_blocking(self) -> bool {
        matches!(
            self,
            Self::PreCreate
                | Self::PreFinish
                | Self::PreTerminate
                | Self::PreAccess
                | Self::PreGrant
        )
    }

    const fn bit(self) -> u32 {
        1 << self as u16
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An unknown name: its kind, and the name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {0} {1:?}")]
pub struct UnknownName(pub &'static str, pub String);

impl FromStr for HookName {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let known = Self::deserialize(name.into_deserializer());
        known.map_err(|_: value::Error| UnknownName("hook event", name.to_owned()))
    }
}

/// A set of [`HookName`]s.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct HookNames(u32);

impl HookNames {
    /// The names that tusd enables by default.
    pub const DEFAULT: Self = Self::from_names(&[
        HookName::PreCreate,
        HookName::PostCreate,
        HookName::PostReceive,
        HookName::PostTerminate,
        HookName::PostFinish,
    ]);

    /// The job events of the upload queue.
    pub const JOB_EVENTS: Self = Self::from_names(&[
        HookName::UploadStarted,
        HookName::UploadProgress,
        HookName::UploadCompleted,
        HookName::UploadCancelled,
        HookName::UploadFailed,
        HookName::UploadExpired,
    ]);

    /// Creates a set of names.
    pub const fn from_names(names: &[HookName]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < names.len() {
            bits |= names[at].bit();
            at += 1;
        }
        Self(bits)
    }

    /// Returns whether `name` is in the set.
    pub const fn contains(self, name: HookName) -> bool {
        self.0 & name.bit() != 0
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the names in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the names in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the blocking hooks in the set.
    pub fn blocking(self) -> impl Iterator<Item = HookName> {
        self.iter().filter(|name| name.is_blocking())
    }

    /// Returns all names in the set, in the order of [`HookName::ALL`].
    pub fn iter(self) -> impl Iterator<Item = HookName> {
        HookName::ALL
            .into_iter()
            .filter(move |name| self.contains(*name))
    }

    /// Returns the event kinds that correspond to the set.
    pub const fn event_kinds(self) -> EventKinds {
        EventKinds {
            created: self.contains(HookName::PostCreate),
            progress: self.contains(HookName::PostReceive),
            completed: self.contains(HookName::PostFinish),
            terminated: self.contains(HookName::PostTerminate),
            expired: self.contains(HookName::PostExpire),
        }
    }
}

impl fmt::Debug for HookNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<HookName> for HookNames {
    fn from_iter<I: IntoIterator<Item = HookName>>(names: I) -> Self {
        Self(names.into_iter().fold(0, |bits, name| bits | name.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_round_trips() {
        for name in HookName::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(json, format!("{:?}", name.as_str()));
            assert_eq!(serde_json::from_str::<HookName>(&json).unwrap(), name);
        }
        for name in HookNames::JOB_EVENTS.iter() {
            let other = name.as_str().replace("Upload", "upload-").to_lowercase();
            assert_eq!(other.parse(), Ok(name));
            let json = format!("{other:?}");
            assert_eq!(serde_json::from_str::<HookName>(&json).unwrap(), name);
        }
        assert!("uploadstarted".parse::<HookName>().is_err());
        assert!("Pre-Create".parse::<HookName>().is_err());
    }

    #[test]
    fn set_operations() {
        let all: HookNames = HookName::ALL.into_iter().collect();
        assert_eq!(all.iter().count(), 16);
        assert_eq!(all.blocking().count(), 5);
        assert_eq!(HookNames::JOB_EVENTS.blocking().count(), 0);
        assert!(
            HookNames::JOB_EVENTS
                .intersection(HookNames::DEFAULT)
                .is_empty()
        );
        assert_eq!(HookNames::JOB_EVENTS.event_kinds(), EventKinds::NONE);
        assert_eq!(all.intersection(HookNames::DEFAULT), HookNames::DEFAULT);
        assert!(!HookNames::DEFAULT.contains(HookName::PreFinish));
        assert!(HookNames::default().is_empty());
    }
}
