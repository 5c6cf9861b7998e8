//! Classifies error responses by the reaction of the caller.

use bytes::Bytes;
use http::{StatusCode, response::Parts};
use landfall_objects::{Retry, clock_skew, header_text, kind_of_status, retry_after};

use super::{Error, ErrorKind, xml};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum RetryAction {
    Retry(Retry),
    /// The bucket takes only writes with a digest: it retains objects by default (Object Lock).
    AddDigest,
    ChangeRegion(String),
}

/// Converts an error response; `error` creates the error of a kind.
pub(super) fn parse_error(
    operation: &str,
    head: &Parts,
    body: &Bytes,
    error: impl FnOnce(ErrorKind) -> Error,
) -> (Error, RetryAction) {
    let problem = xml::problem(body).unwrap_or_default();
    let header = |name: &str| header_text(&head.headers, name).map(str::to_owned);
    let region = problem.region.or_else(|| header("x-amz-bucket-region"));
    let code = problem.code;
    let mut message = problem.message;
    let mut kind = classify(
        operation,
        head.status,
        code.as_deref(),
        message.as_deref(),
        &region,
    );
    let delay = retry_after(&head.headers);
    let wants_digest = head.status == StatusCode::BAD_REQUEST
        && (code.as_deref() == Some("MissingContentMD5")
            || message.as_deref().is_some_and(requires_digest));
    let retry = match &mut kind {
        ErrorKind::Unavailable { retry_after } => {
            *retry_after = delay;
            RetryAction::Retry(Retry::Later(delay))
        }
        // Another conditional write was in progress; a retry may succeed.
        ErrorKind::PreconditionFailed if head.status == StatusCode::CONFLICT => {
            RetryAction::Retry(Retry::Later(delay))
        }
        ErrorKind::BadCredentials => RetryAction::Retry(Retry::Renew),
        ErrorKind::WrongRegion => match region {
            Some(region) => {
                message = Some(format!("the bucket is in region {region}"));
                RetryAction::ChangeRegion(region)
            }
            None => RetryAction::Retry(Retry::No),
        },
        ErrorKind::ClockSkew => {
            message = clock_skew(&head.headers).or(message);
            RetryAction::Retry(Retry::No)
        }
        _ if wants_digest => RetryAction::AddDigest,
        _ => RetryAction::Retry(Retry::No),
    };
    let request_id = problem.request_id.or_else(|| header("x-amz-request-id"));
    let error = error(kind).with_response(head.status, code, message, request_id);
    (error, retry)
}

/// AWS, MinIO and moto name the header in the message, each with another code.
fn requires_digest(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("content-md5") && message.contains("required")
}

/// Of the multipart upload alone: the copy of a part also has a source.
fn names_multipart(operation: &str) -> bool {
    matches!(
        operation,
        "UploadPart" | "ListParts" | "CompleteMultipartUpload" | "AbortMultipartUpload"
    )
}

fn classify(
    operation: &str,
    status: StatusCode,
    code: Option<&str>,
    message: Option<&str>,
    region: &Option<String>,
) -> ErrorKind {
    let unavailable = ErrorKind::Unavailable { retry_after: None };
    if let Some(code) = code {
        match code {
            // Ceph says this of multipart uploads that have ended.
            "NoSuchKey" if names_multipart(operation) => return ErrorKind::NoSuchUpload,
            "NoSuchKey" => return ErrorKind::NoSuchKey,
            "NoSuchUpload" => return ErrorKind::NoSuchUpload,
            "NoSuchBucket" => return ErrorKind::NoSuchBucket,
            "PreconditionFailed" | "ConditionalRequestConflict" | "OperationAborted" => {
                return ErrorKind::PreconditionFailed;
            }
            // Some services use one code for several errors and differ only in the message.
            "AccessDenied" if message.is_some_and(is_credential_error) => {
                return ErrorKind::BadCredentials;
            }
            "AccessDenied" if message.is_some_and(is_quota_error) => {
                return ErrorKind::StorageFull;
            }
            "AccessDenied" => return ErrorKind::AccessDenied,
            "AccountProblem" | "AllAccessDisabled" | "NotSignedUp" | "UserSuspended" => {
                return ErrorKind::AccountDisabled;
            }
            "InvalidObjectState" => return ErrorKind::Archived,
            "QuotaExceeded" | "InsufficientStorage" | "StorageFull" => {
                return ErrorKind::StorageFull;
            }
            // MinIO's codes.
            "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => {
                return ErrorKind::StorageFull;
            }
            "RequestTimeTooSkewed" => return ErrorKind::ClockSkew,
            // Garage's message.
            "InvalidRequest" if message.is_some_and(|text| text.contains("Date is too old")) => {
                return ErrorKind::ClockSkew;
            }
            "AuthorizationHeaderMalformed" if region.is_some() => return ErrorKind::WrongRegion,
            "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" => {
                return ErrorKind::WrongRegion;
            }
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "TokenRefreshRequired"
            | "InvalidSecurity"
            | "MissingSecurityHeader"
            | "AuthorizationHeaderMalformed" => return ErrorKind::BadCredentials,
            "EntityTooSmall" => return ErrorKind::EntityTooSmall,
            "EntityTooLarge" => return ErrorKind::EntityTooLarge,
            "InvalidPart" | "InvalidPartOrder" | "InvalidPartNumber" => {
                return ErrorKind::InvalidPart;
            }
            // Garage's message, while another call completes the upload.
            "InvalidRequest"
                if message.is_some_and(|text| text.contains("No data was uploaded")) =>
            {
                return ErrorKind::InvalidPart;
            }
            "InvalidRange" => return ErrorKind::InvalidRange,
            "NotImplemented" | "MethodNotAllowed" => return ErrorKind::NotImplemented,
            "RequestTimeout"
            | "RequestTimeoutException"
            | "IncompleteBody"
            | "SlowDown"
            | "ServiceUnavailable"
            | "InternalError"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "TooManyRequests"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "PriorRequestNotComplete" => return unavailable,
            _ => {}
        }
    }
    match status.as_u16() {
        301 | 307 | 308 => ErrorKind::WrongRegion,
        400 if code.is_none() && region.is_some() => ErrorKind::WrongRegion,
        404 if code.is_none() => match operation {
            "GetObject" | "HeadObject" | "DeleteObject" | "UploadPartCopy" => ErrorKind::NoSuchKey,
            _ if names_multipart(operation) => ErrorKind::NoSuchUpload,
            "HeadBucket"
            | "PutObject"
            | "CreateMultipartUpload"
            | "ListObjectsV2"
            | "ListMultipartUploads" => ErrorKind::NoSuchBucket,
            _ => ErrorKind::Other,
        },
        _ => kind_of_status(status),
    }
}

/// Garage's messages for an unknown key and a wrong signature.
fn is_credential_error(message: &str) -> bool {
    message.contains("No such key:") || message.contains("Invalid signature")
}

/// Garage and Backblaze have no code for it.
fn is_quota_error(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("quota is reached") || message.contains("storage cap exceeded")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{super::operation::Operation, *};

    fn error_response(
        operation: Operation,
        status: u16,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (Error, RetryAction) {
        let mut builder = http::Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (head, ()) = builder.body(()).expect("a response").into_parts();
        let body = Bytes::copy_from_slice(body.as_bytes());
        parse_error(operation.name(), &head, &body, |kind| {
            Error::new(kind, "", "")
        })
    }

    fn coded(status: u16, code: &str) -> (Error, RetryAction) {
        let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        error_response(Operation::UploadPart, status, &[], &body)
    }

    #[test]
    fn error_codes_are_classified() {
        let unavailable = ErrorKind::Unavailable { retry_after: None };
        for (status, code, kind, retry) in [
            (
                404,
                "NoSuchUpload",
                ErrorKind::NoSuchUpload,
                RetryAction::Retry(Retry::No),
            ),
            (
                404,
                "NoSuchBucket",
                ErrorKind::NoSuchBucket,
                RetryAction::Retry(Retry::No),
            ),
            (
                412,
                "PreconditionFailed",
                ErrorKind::PreconditionFailed,
                RetryAction::Retry(Retry::No),
            ),
            (
                409,
                "ConditionalRequestConflict",
                ErrorKind::PreconditionFailed,
                RetryAction::Retry(Retry::Later(None)),
            ),
            (
                403,
                "AccessDenied",
                ErrorKind::AccessDenied,
                RetryAction::Retry(Retry::No),
            ),
            (
                403,
                "InvalidAccessKeyId",
                ErrorKind::BadCredentials,
                RetryAction::Retry(Retry::Renew),
            ),
            (
                403,
                "SignatureDoesNotMatch",
                ErrorKind::BadCredentials,
                RetryAction::Retry(Retry::Renew),
            ),
            (
                400,
                "ExpiredToken",
                ErrorKind::BadCredentials,
                RetryAction::Retry(Retry::Renew),
            ),
            (
                403,
                "RequestTimeTooSkewed",
                ErrorKind::ClockSkew,
                RetryAction::Retry(Retry::No),
            ),
            (
                400,
                "EntityTooSmall",
                ErrorKind::EntityTooSmall,
                RetryAction::Retry(Retry::No),
            ),
            (
                416,
                "InvalidRange",
                ErrorKind::InvalidRange,
                RetryAction::Retry(Retry::No),
            ),
            (
                400,
                "RequestTimeout",
                unavailable.clone(),
                RetryAction::Retry(Retry::Later(None)),
            ),
            (
                400,
                "IncompleteBody",
                unavailable.clone(),
                RetryAction::Retry(Retry::Later(None)),
            ),
            (
                503,
                "SlowDown",
                unavailable.clone(),
                RetryAction::Retry(Retry::Later(None)),
            ),
            (
                200,
                "InternalError",
                unavailable.clone(),
                RetryAction::Retry(Retry::Later(None)),
            ),
            (
                500,
                "Whatever",
                unavailable,
                RetryAction::Retry(Retry::Later(None)),
            ),
            (
                501,
                "NotImplemented",
                ErrorKind::NotImplemented,
                RetryAction::Retry(Retry::No),
            ),
            (
                400,
                "InvalidPart",
                ErrorKind::InvalidPart,
                RetryAction::Retry(Retry::No),
            ),
            (
                400,
                "InvalidPartOrder",
                ErrorKind::InvalidPart,
                RetryAction::Retry(Retry::No),
            ),
            (
                400,
                "EntityTooLarge",
                ErrorKind::EntityTooLarge,
                RetryAction::Retry(Retry::No),
            ),
            (
                403,
                "QuotaExceeded",
                ErrorKind::StorageFull,
                RetryAction::Retry(Retry::No),
            ),
            (
                507,
                "XMinioStorageFull",
                ErrorKind::StorageFull,
                RetryAction::Retry(Retry::No),
            ),
            (
                507,
                "Whatever",
                ErrorKind::StorageFull,
                RetryAction::Retry(Retry::No),
            ),
            (
                403,
                "AccountProblem",
                ErrorKind::AccountDisabled,
                RetryAction::Retry(Retry::No),
            ),
            (
                403,
                "UserSuspended",
                ErrorKind::AccountDisabled,
                RetryAction::Retry(Retry::No),
            ),
            (
                403,
                "InvalidObjectState",
                ErrorKind::Archived,
                RetryAction::Retry(Retry::No),
            ),
            (
                400,
                "BadDigest",
                ErrorKind::Other,
                RetryAction::Retry(Retry::No),
            ),
            (
                400,
                "MissingContentMD5",
                ErrorKind::Other,
                RetryAction::AddDigest,
            ),
        ] {
            let (error, action) = coded(status, code);
            assert_eq!((error.kind(), action), (&kind, retry), "{status} {code}");
        }
    }

    #[test]
    fn a_missing_key_of_a_multipart_upload_is_a_missing_upload() {
        let body = "<Error><Code>NoSuchKey</Code></Error>";
        for (operation, wanted) in [
            (Operation::UploadPart, ErrorKind::NoSuchUpload),
            (Operation::ListParts, ErrorKind::NoSuchUpload),
            (Operation::CompleteMultipartUpload, ErrorKind::NoSuchUpload),
            (Operation::AbortMultipartUpload, ErrorKind::NoSuchUpload),
            // The source.
            (Operation::UploadPartCopy, ErrorKind::NoSuchKey),
            (Operation::GetObject, ErrorKind::NoSuchKey),
        ] {
            let (error, _) = error_response(operation, 404, &[], body);
            assert_eq!(*error.kind(), wanted, "{operation:?}");
        }
    }

    #[test]
    fn status_without_code_is_classified_by_operation() {
        let kind =
            |operation, status| (error_response(operation, status, &[], "").0.kind()).clone();
        assert_eq!(kind(Operation::HeadObject, 404), ErrorKind::NoSuchKey);
        assert_eq!(kind(Operation::HeadBucket, 404), ErrorKind::NoSuchBucket);
        assert_eq!(
            kind(Operation::AbortMultipartUpload, 404),
            ErrorKind::NoSuchUpload
        );
        assert_eq!(kind(Operation::HeadBucket, 403), ErrorKind::AccessDenied);
        assert_eq!(kind(Operation::GetObject, 416), ErrorKind::InvalidRange);
        for status in [408, 429, 500, 502, 503, 504, 599] {
            let kind = kind(Operation::PutObject, status);
            assert_eq!(
                kind,
                ErrorKind::Unavailable { retry_after: None },
                "{status}"
            );
        }
    }

    #[test]
    fn right_region_is_reported() {
        let body =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-x-1</Region></Error>";
        let (error, retry) = error_response(Operation::ListParts, 400, &[], body);
        assert_eq!(*error.kind(), ErrorKind::WrongRegion);
        assert_eq!(retry, RetryAction::ChangeRegion("eu-x-1".to_owned()));
        assert_eq!(error.message(), Some("the bucket is in region eu-x-1"));
        let (_, retry) = error_response(
            Operation::HeadBucket,
            301,
            &[("x-amz-bucket-region", "r")],
            "",
        );
        assert_eq!(retry, RetryAction::ChangeRegion("r".to_owned()));
        let (error, _) = error_response(Operation::HeadBucket, 301, &[], "");
        assert_eq!(*error.kind(), ErrorKind::WrongRegion);
    }

    #[test]
    fn retry_after_in_seconds_and_as_a_date() {
        let after = |value: &str| match error_response(
            Operation::PutObject,
            503,
            &[("retry-after", value)],
            "",
        )
        .1
        {
            RetryAction::Retry(Retry::Later(after)) => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let until = after(&date).expect("a time");
        assert!(
            until > Duration::from_secs(55) && until <= Duration::from_secs(60),
            "{until:?}"
        );
        assert_eq!(after("soon"), None);
        assert_eq!(after("Thu, 01 Jan 1970 00:00:00 GMT"), None);
    }

    #[test]
    fn clock_skew_is_reported_in_seconds() {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(1_200));
        let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>";
        let (error, _) = error_response(Operation::PutObject, 403, &[("date", &date)], body);
        let message = error.message().expect("a message");
        assert!(
            message.starts_with("this machine's clock is 11"),
            "{message}"
        );
        assert!(message.ends_with("behind the service's"), "{message}");
    }

    /// The messages are those of Garage 2.5.
    #[test]
    fn message_distinguishes_equal_codes() {
        for (status, code, message, kind) in [
            (
                400,
                "InvalidRequest",
                "Bad request: Date is too old",
                ErrorKind::ClockSkew,
            ),
            (
                400,
                "InvalidRequest",
                "Bad request: anything else",
                ErrorKind::Other,
            ),
            (
                403,
                "AccessDenied",
                "Forbidden: No such key: GK0",
                ErrorKind::BadCredentials,
            ),
            (
                403,
                "AccessDenied",
                "Forbidden: Invalid signature",
                ErrorKind::BadCredentials,
            ),
            (
                403,
                "AccessDenied",
                "Forbidden: Operation is not allowed",
                ErrorKind::AccessDenied,
            ),
            (
                403,
                "AccessDenied",
                "Forbidden: Bucket size quota is reached, maximum total size for bucket: 9",
                ErrorKind::StorageFull,
            ),
        ] {
            let body = format!(
                "<Error><Code>{code}</Code><Message>{message}</Message><Region>garage</Region></Error>"
            );
            let (error, _) = error_response(Operation::PutObject, status, &[], &body);
            assert_eq!(*error.kind(), kind, "{message}");
        }
    }

    /// AWS, MinIO, moto.
    #[test]
    fn a_bucket_that_takes_only_writes_with_a_digest_is_recognized() {
        for (code, message, wanted) in [
            (
                "InvalidRequest",
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests \
                 with Object Lock parameters",
                RetryAction::AddDigest,
            ),
            (
                "MissingContentMD5",
                "Missing required header for this request: Content-Md5.",
                RetryAction::AddDigest,
            ),
            (
                "MissingUploadObjectWithObjectLockHeaders",
                "Content-MD5 or x-amz-sdk-checksum-algorithm header required to upload an object",
                RetryAction::AddDigest,
            ),
            (
                "InvalidDigest",
                "The Content-MD5 you specified is not valid.",
                RetryAction::Retry(Retry::No),
            ),
        ] {
            let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
            let (_, retry) = error_response(Operation::PutObject, 400, &[], &body);
            assert_eq!(retry, wanted, "{code}");
        }
    }

    #[test]
    fn messages_are_one_line() {
        let body = format!(
            "<Error><Code>X</Code><Message>a\nb{}</Message></Error>",
            "c".repeat(999)
        );
        let (error, _) = error_response(Operation::PutObject, 400, &[], &body);
        let message = error.message().expect("a message");
        assert!(message.starts_with("a bc"), "{message}");
        assert_eq!(message.chars().count(), 301);
    }
}
