//! What to do when the service refuses: from an error to a sentence.

use std::fmt;

use landfall_s3::client::{Error, ErrorKind};

use crate::settings::S3;

/// What is wrong, what the service said, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// What is wrong, in our words.
    pub(crate) wrong: String,
    /// What the service, or the network, said.
    pub(crate) said: String,
    /// What to do.
    pub(crate) remedy: String,
}

impl Advice {
    /// Sorts out an error of a call on `bucket`.
    pub(crate) fn new(error: &Error, settings: &S3, bucket: &str) -> Self {
        let service = settings.endpoint.as_deref().unwrap_or("Amazon S3");
        let said = said(error);
        let told = format!(
            "{} {}",
            error.code().unwrap_or_default(),
            error.message().unwrap_or_default()
        );
        let (wrong, remedy) = match error.kind() {
            ErrorKind::NoSuchBucket => (
                format!("there is no bucket {bucket:?} at {service}"),
                "create it, or correct --s3-bucket or --s3-endpoint".to_owned(),
            ),
            ErrorKind::BadCredentials if error.status().is_none() => (
                "no credentials can be had".to_owned(),
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the \
                 machine a role"
                    .to_owned(),
            ),
            ErrorKind::BadCredentials if told.contains("SignatureDoesNotMatch") => (
                format!("{service} doesn't take the signature"),
                "correct AWS_SECRET_ACCESS_KEY; if it is right, a proxy on the way changes the \
                 request or its Host"
                    .to_owned(),
            ),
            ErrorKind::BadCredentials if told.contains("Expired") => (
                "the credentials have expired".to_owned(),
                "get new ones, with their AWS_SESSION_TOKEN".to_owned(),
            ),
            ErrorKind::BadCredentials => (
                format!("{service} doesn't take the credentials"),
                "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN for \
                 keys that end), or what AWS_PROFILE names"
                    .to_owned(),
            ),
            ErrorKind::ClockSkew => (
                format!("the clocks of this machine and of {service} differ too much"),
                "set this machine's clock, best by NTP".to_owned(),
            ),
            ErrorKind::WrongRegion => (
                format!("the bucket {bucket:?} is in another region"),
                "set --s3-region to the one named here".to_owned(),
            ),
            ErrorKind::AccessDenied => (
                format!("the credentials may not do this in {bucket:?}"),
                format!(
                    "allow s3:{} on it, in the policy of the user or role and in that of the \
                     bucket",
                    right(error.operation())
                ),
            ),
            ErrorKind::NotImplemented => (
                format!("{service} doesn't have this"),
                "use another service, or do without".to_owned(),
            ),
            ErrorKind::Unavailable { .. } if error.status().is_none() => (
                format!("{service} can't be reached"),
                match settings.endpoint {
                    Some(_) => "correct --s3-endpoint, or start the service".to_owned(),
                    None => "correct --s3-region, or give this machine a way to the internet; \
                             another service is named by --s3-endpoint"
                        .to_owned(),
                },
            ),
            ErrorKind::Unavailable { .. } => (
                format!("{service} has a fault, or too much to do"),
                "try again; if it lasts, ask those who run the service".to_owned(),
            ),
            _ => (
                format!("{service} gives no answer that makes sense"),
                "see that --s3-endpoint is that of an S3 service, not of its web page or console"
                    .to_owned(),
            ),
        };
        Self {
            wrong,
            said,
            remedy,
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.wrong, self.remedy, self.said)
    }
}

/// What the service or the network said, on one line.
pub(crate) fn said(error: &Error) -> String {
    let text = error.to_string();
    if !text.contains(char::is_control) {
        return text;
    }
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.collect()
}

/// The right that an operation needs, as policies name it.
pub(crate) fn right(operation: &str) -> &str {
    match operation {
        "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => "PutObject",
        "UploadPartCopy" => "GetObject and s3:PutObject",
        "HeadObject" => "GetObject",
        "ListParts" => "ListMultipartUploadParts",
        "ListMultipartUploads" => "ListBucketMultipartUploads",
        "ListObjectsV2" | "HeadBucket" => "ListBucket",
        "GetBucketCors" => "GetBucketCORS",
        "PutBucketCors" => "PutBucketCORS",
        other => other,
    }
}
