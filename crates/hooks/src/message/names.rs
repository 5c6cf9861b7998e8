//! The names of questions and events.

use std::{fmt, str::FromStr};

use landfall::event::EventKinds;
use serde::{Deserialize, Serialize};

/// A question (pre-…) or an event (post-… and Upload…): tusd's seven, and ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookName {
    /// Asked before an upload is created.
    PreCreate,
    /// An upload was created.
    PostCreate,
    /// Bytes are coming in; told at intervals. The answer may stop the upload.
    PostReceive,
    /// Asked when all bytes are stored, before completion is acknowledged.
    PreFinish,
    /// An upload is complete.
    PostFinish,
    /// Asked before a client removes an upload.
    PreTerminate,
    /// An upload was removed.
    PostTerminate,
    /// Asked before a request touches an upload, or creates one (ours).
    PreAccess,
    /// An upload was removed because its time was over (ours).
    PostExpire,
    /// Asked before somebody is given leave to upload (ours).
    PreGrant,
    /// The upload of a job was created, or granted, where the queue tells so then (ours, as all that
    /// follow).
    #[serde(rename = "UploadStarted", alias = "upload-started")]
    UploadStarted,
    /// More bytes of a job's upload are stored.
    #[serde(rename = "UploadProgress", alias = "upload-progress")]
    UploadProgress,
    /// All bytes of a job's upload are stored.
    #[serde(rename = "UploadCompleted", alias = "upload-completed")]
    UploadCompleted,
    /// Somebody didn't want a job's upload any more.
    #[serde(rename = "UploadCancelled", alias = "upload-cancelled")]
    UploadCancelled,
    /// A job's upload can't go on.
    #[serde(rename = "UploadFailed", alias = "upload-failed")]
    UploadFailed,
    /// A job's upload wasn't begun or ended in time.
    #[serde(rename = "UploadExpired", alias = "upload-expired")]
    UploadExpired,
}

impl HookName {
    /// All of them, in tusd's order, ours last.
    pub const ALL: [Self; 16] = [
        Self::PreCreate,
        Self::PostCreate,
        Self::PostReceive,
        Self::PreFinish,
        Self::PostFinish,
        Self::PreTerminate,
        Self::PostTerminate,
        Self::PreAccess,
        Self::PostExpire,
        Self::PreGrant,
        Self::UploadStarted,
        Self::UploadProgress,
        Self::UploadCompleted,
        Self::UploadCancelled,
        Self::UploadFailed,
        Self::UploadExpired,
    ];

    /// Its name: `pre-create`, `post-create`, … `UploadStarted`, …
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreCreate => "pre-create",
            Self::PostCreate => "post-create",
            Self::PostReceive => "post-receive",
            Self::PreFinish => "pre-finish",
            Self::PostFinish => "post-finish",
            Self::PreTerminate => "pre-terminate",
            Self::PostTerminate => "post-terminate",
            Self::PreAccess => "pre-access",
            Self::PostExpire => "post-expire",
            Self::PreGrant => "pre-grant",
            Self::UploadStarted => "UploadStarted",
            Self::UploadProgress => "UploadProgress",
            Self::UploadCompleted => "UploadCompleted",
            Self::UploadCancelled => "UploadCancelled",
            Self::UploadFailed => "UploadFailed",
            Self::UploadExpired => "UploadExpired",
        }
    }

    /// The other spelling of an event of the queue: `upload-started`, …
    const fn kebab(self) -> Option<&'static str> {
        Some(match self {
            Self::UploadStarted => "upload-started",
            Self::UploadProgress => "upload-progress",
            Self::UploadCompleted => "upload-completed",
            Self::UploadCancelled => "upload-cancelled",
            Self::UploadFailed => "upload-failed",
            Self::UploadExpired => "upload-expired",
            _ => return None,
        })
    }

    /// The type of its CloudEvents: `io.landfall.upload.` and its name, or `started`, …
    pub(crate) fn cloud_event_kind(self) -> String {
        let name = self.kebab().and_then(|name| name.strip_prefix("upload-"));
        format!("io.landfall.upload.{}", name.unwrap_or(self.as_str()))
    }

    /// Whether the application is asked, and the request waits for its answer.
    #[must_use]
    pub const fn is_question(self) -> bool {
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

/// No question or event has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no hook event {0:?}")]
pub struct UnknownName(pub String);

impl FromStr for HookName {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL
            .into_iter()
            .find(|known| known.as_str() == name || known.kebab() == Some(name));
        found.ok_or_else(|| UnknownName(name.to_owned()))
    }
}

/// A set of [`HookName`]s.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct HookNames(u32);

impl HookNames {
    /// What tusd enables unless told otherwise.
    pub const USUAL: Self = Self::of(&[
        HookName::PreCreate,
        HookName::PostCreate,
        HookName::PostReceive,
        HookName::PostTerminate,
        HookName::PostFinish,
    ]);

    /// Those whose answers have an effect.
    pub const ANSWERED: Self = Self::of(&[
        HookName::PreCreate,
        HookName::PostReceive,
        HookName::PreFinish,
        HookName::PreTerminate,
        HookName::PreAccess,
        HookName::PreGrant,
    ]);

    /// The events of the upload queue.
    pub const OF_QUEUE: Self = Self::of(&[
        HookName::UploadStarted,
        HookName::UploadProgress,
        HookName::UploadCompleted,
        HookName::UploadCancelled,
        HookName::UploadFailed,
        HookName::UploadExpired,
    ]);

    /// These.
    #[must_use]
    pub const fn of(names: &[HookName]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < names.len() {
            bits |= names[at].bit();
            at += 1;
        }
        Self(bits)
    }

    /// Whether `name` is among them.
    #[must_use]
    pub const fn has(self, name: HookName) -> bool {
        self.0 & name.bit() != 0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The questions among them.
    pub fn questions(self) -> impl Iterator<Item = HookName> {
        self.iter().filter(|name| name.is_question())
    }

    /// All, in the order of [`HookName::ALL`].
    pub fn iter(self) -> impl Iterator<Item = HookName> {
        HookName::ALL
            .into_iter()
            .filter(move |name| self.has(*name))
    }

    /// The kinds of events that these names tell of.
    #[must_use]
    pub const fn event_kinds(self) -> EventKinds {
        EventKinds {
            created: self.has(HookName::PostCreate),
            progress: self.has(HookName::PostReceive),
            completed: self.has(HookName::PostFinish),
            terminated: self.has(HookName::PostTerminate),
            expired: self.has(HookName::PostExpire),
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
    fn every_name_is_read_back() {
        for name in HookName::ALL {
            assert_eq!(name.as_str().parse(), Ok(name));
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(json, format!("{:?}", name.as_str()));
            assert_eq!(serde_json::from_str::<HookName>(&json).unwrap(), name);
        }
        for name in HookNames::OF_QUEUE.iter() {
            let other = name.kebab().unwrap();
            assert_eq!(other.parse(), Ok(name));
            let json = format!("{other:?}");
            assert_eq!(serde_json::from_str::<HookName>(&json).unwrap(), name);
        }
        assert!("uploadstarted".parse::<HookName>().is_err());
        assert!("Pre-Create".parse::<HookName>().is_err());
    }

    #[test]
    fn sets() {
        let all: HookNames = HookName::ALL.into_iter().collect();
        assert_eq!(all.iter().count(), 16);
        assert_eq!(all.questions().count(), 5);
        assert_eq!(HookNames::OF_QUEUE.questions().count(), 0);
        assert!(HookNames::OF_QUEUE.and(HookNames::USUAL).is_empty());
        assert_eq!(HookNames::OF_QUEUE.event_kinds(), EventKinds::NONE);
        assert_eq!(all.and(HookNames::USUAL), HookNames::USUAL);
        assert!(!HookNames::USUAL.has(HookName::PreFinish));
        assert!(HookNames::default().is_empty());
    }
}
