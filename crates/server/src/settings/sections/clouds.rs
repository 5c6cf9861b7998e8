//! The tables of settings of Google Cloud Storage and of Azure Blob Storage, with tusd's names.
//!
//! Credentials are not settings: they come from the variables, files and metadata services of the cloud.

use landfall_azure::{AccessTier, ContainerAccess};

use super::table::group;
use crate::settings::{bucket, value};

/// The size of a part, in bytes; longer uploads have larger ones.
pub(crate) const CLOUD_PART_SIZE: u64 = 8 << 20;

/// The most blocks of a blob of Azure. Google has no limit for the parts of an object.
pub(crate) const CLOUD_MAX_PARTS: u32 = 50_000;

const ACCESS: &[(&str, ContainerAccess)] = &[
    ("private", ContainerAccess::Private),
    ("blob", ContainerAccess::Blob),
    ("container", ContainerAccess::Container),
];

const DOWNLOAD: &[(&str, bool)] = &[("proxy", false), ("redirect", true)];

const TIERS: &[(&str, Option<AccessTier>)] = &[
    ("default", None),
    ("hot", Some(AccessTier::Hot)),
    ("cool", Some(AccessTier::Cool)),
    ("cold", Some(AccessTier::Cold)),
    ("archive", Some(AccessTier::Archive)),
];

group! {
    /// Settings of Google Cloud Storage.
    pub struct Gcs at gcs;
    bucket: Option<String> = value::optional(bucket::bucket), "gcs-bucket", Text("NAME"), ""
        => "Store uploads in this bucket of Google Cloud Storage instead of a directory. Credentials come from the \
            file in GCS_SERVICE_ACCOUNT_FILE, or from Application Default Credentials: the file in \
            GOOGLE_APPLICATION_CREDENTIALS, gcloud's, or the metadata server.";
    object_prefix: String = bucket::object_prefix, "gcs-object-prefix", Text("PREFIX"), ""
        => "Prefix of all object names; a trailing slash is added.";
    endpoint: Option<String> = value::optional(bucket::endpoint), "gcs-endpoint", Text("URL"), ""
        => "Base URL of the JSON API, with or without /storage/v1. Not set: STORAGE_EMULATOR_HOST, or \
            https://storage.googleapis.com.";
    redirects: bool = |v| value::choice(v, DOWNLOAD), "gcs-download", Text("proxy|redirect"), "proxy"
        => "Respond to GET with the bytes (proxy), or with a redirect to a signed URL, valid for 15 minutes (redirect). \
            Signatures need the key of a service account, or one that may sign by the IAM service.";
}

group! {
    /// Settings of Azure Blob Storage.
    pub struct Azure at azure;
    container: Option<String> = value::optional(bucket::bucket), "azure-storage", Text("CONTAINER"), ""
        => "Store uploads in this container of Azure Blob Storage instead of a directory; it is created if there is \
            none. Credentials come from AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_SAS_TOKEN, \
            AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or from Entra ID: client secret or certificate, workload \
            identity, managed identity, az.";
    access: ContainerAccess = |v| value::choice(v, ACCESS),
        "azure-container-access-type", Text("private|blob|container"), "private"
        => "Public access to a container that is created: none (private), to its blobs (blob), or to its blobs and \
            their list (container).";
    tier: Option<AccessTier> = |v| value::choice(v, TIERS),
        "azure-blob-access-tier", Text("default|hot|cool|cold|archive"), "default"
        => "Access tier of finished files. default: that of the account.";
    object_prefix: String = bucket::object_prefix, "azure-object-prefix", Text("PREFIX"), ""
        => "Prefix of all blob names; a trailing slash is added.";
    endpoint: Option<String> = value::optional(bucket::endpoint), "azure-endpoint", Text("URL"), ""
        => "Endpoint of the account. Not set: https://ACCOUNT.blob.core.windows.net. For Azurite, \
            http://127.0.0.1:10000/devstoreaccount1.";
    redirects: bool = |v| value::choice(v, DOWNLOAD), "azure-download", Text("proxy|redirect"), "proxy"
        => "Respond to GET with the bytes (proxy), or with a redirect to a signed URL, valid for 15 minutes (redirect). \
            Signatures need the key of the account, or an identity with the role Storage Blob Delegator.";
}
