//! Explains an error of the S3 client to the operator: the problem, the service's response and a remedy.
//!
//! Makes no request. The S3 client decides the kind of an error. Also names the IAM permission that an operation needs.

use landfall_s3::client::{Error, ErrorKind};

use crate::{
    diagnosis::{Diagnosis, error_line},
    settings::S3,
};

pub(crate) fn diagnose(error: &Error, settings: &S3, bucket: &str) -> Diagnosis {
    let service = settings.endpoint.as_deref().unwrap_or("Amazon S3");
    let response = error_line(error);
    let code = error.code().unwrap_or_default();
    let details = format!("{code} {}", error.message().unwrap_or_default());
    let operation = permission(error.operation());
    let needed = format!(
        "allow s3:{operation} on it, in the policy of the user or role and in that of the bucket"
    );
    let (problem, fix) = match error.kind() {
        ErrorKind::NoSuchBucket => (
            format!("the bucket {bucket:?} does not exist at {service}"),
            "create it, or correct --s3-bucket or --s3-endpoint",
        ),
        ErrorKind::BadCredentials if error.status().is_none() => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            match cause.filter(|cause| !cause.starts_with("no credentials found")) {
                // It names the profile, its file and what to run.
                Some(cause) => {
                    return Diagnosis {
                        problem: "the credentials cannot be loaded".to_owned(),
                        fix: cause,
                        response: error.operation().to_owned(),
                    };
                }
                None => (
                    "no credentials found".to_owned(),
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the \
                     machine a role",
                ),
            }
        }
        ErrorKind::BadCredentials if details.contains("SignatureDoesNotMatch") => (
            format!("{service} rejects the signature"),
            "correct AWS_SECRET_ACCESS_KEY; if it is right, a proxy in between changes the \
             request or its Host",
        ),
        ErrorKind::BadCredentials if details.contains("Expired") => (
            "the credentials have expired".to_owned(),
            "get new ones, with their AWS_SESSION_TOKEN",
        ),
        ErrorKind::BadCredentials => (
            format!("{service} rejects the credentials"),
            "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN for \
             temporary keys), or the profile of AWS_PROFILE",
        ),
        ErrorKind::ClockSkew => (
            format!("the clocks of this machine and of {service} differ too much"),
            "synchronize this machine's clock, for example by NTP",
        ),
        ErrorKind::WrongRegion => (
            format!("the bucket {bucket:?} is in another region"),
            "set --s3-region to the region in the response",
        ),
        ErrorKind::AccessDenied => (
            format!("the credentials lack a permission on {bucket:?}"),
            needed.as_str(),
        ),
        ErrorKind::StorageFull => (
            format!("{service} is full, or a quota of the account or bucket is reached"),
            "raise the quota, or delete objects",
        ),
        ErrorKind::AccountDisabled => (
            format!("the account at {service} is closed or suspended"),
            "settle it with the operator of the service",
        ),
        ErrorKind::NotImplemented => (
            format!("{service} does not support this"),
            "use another service, or do without it",
        ),
        ErrorKind::Unavailable { .. } if error.status().is_none() => (
            format!("{service} is unreachable"),
            match settings.endpoint {
                _ if response.contains("certificate") => {
                    "if the certificate is from a private authority, name its file in \
                     AWS_CA_BUNDLE, or add it to this machine's trusted ones"
                }
                Some(_) => {
                    "correct --s3-endpoint, also its http:// or https://, or start the service; \
                     if only the host with the bucket's name is unknown, set --s3-path-style true"
                }
                None => {
                    "correct --s3-region, or connect this machine to the internet; \
                         set --s3-endpoint for another service"
                }
            },
        ),
        ErrorKind::Unavailable { .. } => (
            format!("{service} is failing or overloaded"),
            "try again; if it persists, contact the operator of the service",
        ),
        _ => (
            format!("{service} sent an unexpected response"),
            "check that --s3-endpoint is that of an S3 service, not of its website or console",
        ),
    };
    Diagnosis {
        problem,
        response,
        fix: fix.to_owned(),
    }
}

pub(crate) fn permission(operation: &str) -> &str {
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
