//! The values of settings. Nothing is sent.

use std::fmt;

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
