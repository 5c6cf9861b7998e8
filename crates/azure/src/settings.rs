//! The values of settings, and errors in them. Nothing is sent.

use std::{fmt, str::FromStr};

use crate::error::SettingsError;

/// The access tier of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTier {
    /// For frequent access.
    Hot,
    /// For blobs that stay at least 30 days.
    Cool,
    /// For blobs that stay at least 90 days.
    Cold,
    /// Offline: a blob must be rehydrated for hours before it can be read.
    Archive,
}

impl AccessTier {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hot => "Hot",
            Self::Cool => "Cool",
            Self::Cold => "Cold",
            Self::Archive => "Archive",
        }
    }
}

impl FromStr for AccessTier {
    type Err = SettingsError;

    fn from_str(word: &str) -> Result<Self, SettingsError> {
        let mut tiers = [Self::Hot, Self::Cool, Self::Cold, Self::Archive].into_iter();
        let tier = tiers.find(|tier| tier.name().eq_ignore_ascii_case(word));
        tier.ok_or_else(|| SettingsError::Tier(word.to_owned()))
    }
}

/// The rights on a container of requests without credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainerAccess {
    /// None.
    #[default]
    Private,
    /// Reading blobs, by name.
    Blob,
    /// Reading and listing blobs.
    Container,
}

impl ContainerAccess {
    /// As the service names it; `None` for private.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::Private => None,
            Self::Blob => Some("blob"),
            Self::Container => Some("container"),
        }
    }
}

impl FromStr for ContainerAccess {
    type Err = SettingsError;

    fn from_str(word: &str) -> Result<Self, SettingsError> {
        match word {
            "" | "private" => Ok(Self::Private),
            "blob" => Ok(Self::Blob),
            "container" => Ok(Self::Container),
            _ => Err(SettingsError::ContainerAccess(word.to_owned())),
        }
    }
}

/// The kind of authorization of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// By the key of the account.
    AccountKey,
    /// By a shared access signature.
    SharedAccessSignature,
    /// By a token of Microsoft Entra ID.
    Identity,
}

impl fmt::Display for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccountKey => "account key",
            Self::SharedAccessSignature => "shared access signature",
            Self::Identity => "identity",
        })
    }
}
