//! Explains an error of a call to Google Cloud Storage or to Azure to the operator: the problem, the service's response
//! and a remedy.
//!
//! Makes no request. The clients decide the kind of an error, and advise where the service says enough. Also names the
//! permission or the right that an operation needs.

use landfall_objects::{Error, ErrorKind};

use crate::{
    diagnosis::{Diagnosis, error_line},
    settings::Settings,
};

/// The operation of requests for a token, which a client makes before its calls.
const GET_TOKEN: &str = "GetToken";

/// The terms of a cloud and its settings.
struct CloudTerms<'a> {
    service: &'static str,
    /// A bucket, or a container.
    noun: &'static str,
    bucket: &'a str,
    bucket_flag: &'static str,
    endpoint: Option<&'a str>,
    endpoint_flag: &'static str,
    /// The remedy for missing credentials.
    credentials: &'static str,
}

pub(crate) fn diagnose_gcs(error: Error, settings: &Settings, bucket: &str) -> Diagnosis {
    let terms = CloudTerms {
        service: "Google Cloud Storage",
        noun: "bucket",
        bucket,
        bucket_flag: "--gcs-bucket",
        endpoint: settings.gcs.endpoint.as_deref(),
        endpoint_flag: "--gcs-endpoint",
        credentials: "set GCS_SERVICE_ACCOUNT_FILE to the key of a service account, log in with gcloud auth \
                      application-default login, or give the machine a service account",
    };
    let reason = error.code().unwrap_or_default();
    let problem = match error.kind() {
        ErrorKind::AccessDenied if is_retained(reason) => {
            Some(format!("the bucket {bucket:?} retains its objects"))
        }
        ErrorKind::AccessDenied => {
            let permission = permission(&error);
            Some(format!(
                "the permission {permission} is missing on {bucket:?}"
            ))
        }
        ErrorKind::AccountDisabled if is_api_disabled(reason) => {
            Some("the API of Cloud Storage is not enabled in the project".to_owned())
        }
        ErrorKind::AccountDisabled => {
            Some(format!("the project of {bucket:?} has no active billing"))
        }
        _ => None,
    };
    terms.diagnose(error, problem)
}

pub(crate) fn diagnose_azure(error: Error, settings: &Settings, container: &str) -> Diagnosis {
    let terms = CloudTerms {
        service: "Azure Blob Storage",
        noun: "container",
        bucket: container,
        bucket_flag: "--azure-storage",
        endpoint: settings.azure.endpoint.as_deref(),
        endpoint_flag: "--azure-endpoint",
        credentials: "set AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, or give the \
                      machine an identity",
    };
    let code = error.code().unwrap_or_default();
    let problem = match error.kind() {
        ErrorKind::AccessDenied if MISSING_RIGHT.contains(&code) => {
            let right = right(error.operation());
            Some(format!("the right to {right} is missing on {container:?}"))
        }
        ErrorKind::AccountDisabled => Some("the account is disabled".to_owned()),
        _ => None,
    };
    terms.diagnose(error, problem)
}

impl CloudTerms<'_> {
    fn diagnose(&self, mut error: Error, problem: Option<String>) -> Diagnosis {
        let advice = error.take_advice();
        let response = error_line(&error);
        let Self { service, noun, .. } = *self;
        let bucket = self.bucket;
        let (usual, fix) = match error.kind() {
            _ if error.operation() == GET_TOKEN => self.no_token(&error),
            ErrorKind::BadCredentials if error.status().is_none() => self.no_token(&error),
            ErrorKind::NoSuchBucket => (
                format!("the {noun} {bucket:?} does not exist"),
                format!("create it, or correct {}", self.bucket_flag),
            ),
            ErrorKind::BadCredentials => (
                format!("{service} rejects the credentials"),
                self.credentials.to_owned(),
            ),
            ErrorKind::ClockSkew => (
                format!("the clocks of this machine and of {service} differ too much"),
                "synchronize this machine's clock, for example by NTP".to_owned(),
            ),
            ErrorKind::AccessDenied | ErrorKind::AccountDisabled => (
                format!("{service} denies the call on {bucket:?}"),
                "ask the owner of the account".to_owned(),
            ),
            ErrorKind::StorageFull => (
                format!("{service} is full, or a quota of the account is reached"),
                "raise the quota, or delete objects".to_owned(),
            ),
            ErrorKind::NotImplemented => (
                format!("{service} does not support this"),
                format!("correct {}, or use another service", self.endpoint_flag),
            ),
            ErrorKind::Unavailable { .. } if error.status().is_none() => {
                let endpoint = self.endpoint.unwrap_or(service);
                (
                    format!("{endpoint} is unreachable"),
                    self.unreachable(&response),
                )
            }
            ErrorKind::Unavailable { .. } => (
                format!("{service} is failing or overloaded"),
                "try again; if it persists, see the status page of the service".to_owned(),
            ),
            _ => (
                format!("{service} sent an unexpected response"),
                format!("check {} and {}", self.bucket_flag, self.endpoint_flag),
            ),
        };
        Diagnosis {
            problem: problem.unwrap_or(usual),
            response,
            fix: advice.unwrap_or(fix),
        }
    }

    fn no_token(&self, error: &Error) -> (String, String) {
        let problem = "the credentials give no access token".to_owned();
        match error.kind() {
            ErrorKind::Unavailable { .. } => {
                let fix = "connect this machine to the service that issues tokens";
                (problem, fix.to_owned())
            }
            _ if error.to_string().contains("found no ") => (problem, self.credentials.to_owned()),
            _ => (problem, "renew or correct these credentials".to_owned()),
        }
    }

    fn unreachable(&self, response: &str) -> String {
        let flag = self.endpoint_flag;
        match self.endpoint {
            _ if response.contains("certificate") => {
                "if the certificate is from a private authority, name its file in SSL_CERT_FILE, or add it to this \
                 machine's trusted ones"
                    .to_owned()
            }
            Some(_) => {
                format!("correct {flag}, also its http:// or https://, or start the service")
            }
            None => {
                format!("connect this machine to the internet, or set {flag} for another service")
            }
        }
    }
}

/// Returns the error of a service that cannot be reached at all.
pub(super) fn no_connection(why: String) -> Error {
    Error::new(
        ErrorKind::Unavailable { retry_after: None },
        "connection",
        "",
    )
    .with_message(why)
}

fn is_api_disabled(reason: &str) -> bool {
    matches!(reason, "accessNotConfigured" | "SERVICE_DISABLED")
}

fn is_retained(reason: &str) -> bool {
    reason.starts_with("retention") || reason.starts_with("objectUnder")
}

/// Returns the permission that a call lacks, as the service names it, or else that of the operation.
fn permission(error: &Error) -> String {
    let message = error.message().unwrap_or_default();
    let named = message.find("storage.").map(|at| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let name = message[at..].split(|c| !is_name(c)).next();
        name.unwrap_or_default().trim_end_matches('.')
    });
    if let Some(name) = named.filter(|name| name.matches('.').count() == 2) {
        return name.to_owned();
    }
    match error.operation() {
        "objects.insert" => "storage.objects.create",
        "objects.compose" | "objects.rewrite" => "storage.objects.create or storage.objects.get",
        "objects.delete" | "batch" => "storage.objects.delete",
        "buckets.testIamPermissions" => "storage.buckets.get",
        operation => return format!("storage.{operation}"),
    }
    .to_owned()
}

/// Codes of Azure for rights that are missing; others name another cause.
const MISSING_RIGHT: [&str; 5] = [
    "AuthorizationPermissionMismatch",
    "AuthorizationResourceTypeMismatch",
    "AuthorizationServiceMismatch",
    "InsufficientAccountPermissions",
    "",
];

/// Returns the right that an operation of Azure needs, with its letter in a shared access signature.
fn right(operation: &str) -> &'static str {
    match operation {
        "PutBlob" => "create and write blobs (c, w)",
        "PutBlock" | "PutBlockList" => "write blobs (w)",
        "PutBlockFromURL" => "read and write blobs (r, w)",
        "DeleteBlob" => "delete blobs (d)",
        "ListBlobs" => "list blobs (l)",
        "CreateContainer" => "create containers (c)",
        "GetContainerProperties" | "GetBlobServiceProperties" => "read properties (r)",
        _ => "read blobs (r)",
    }
}
