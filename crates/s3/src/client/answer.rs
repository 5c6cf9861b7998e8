//! What an answer means: done, wrong, or to be tried again.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{
    HeaderMap, StatusCode,
    header::{DATE, RETRY_AFTER},
    response::Parts,
};

use super::{error::ErrorKind, stats::Operation, xml};

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) kind: ErrorKind,
    pub(super) remedy: Remedy,
    pub(super) status: StatusCode,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) request_id: Option<String>,
}

/// What may help.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing.
    None,
    /// Trying again, after the time that the service asks for.
    Later(Option<Duration>),
    /// Other keys than those that were used.
    Keys,
    /// Asking in this region.
    Region(String),
}

impl Refusal {
    /// Sorts an answer. `body` is empty where the request was a HEAD.
    pub(super) fn of(operation: Operation, head: &Parts, body: &Bytes) -> Self {
        let problem = xml::problem(body).unwrap_or_default();
        let header = |name: &str| text(&head.headers, name);
        let region = problem.region.or_else(|| header("x-amz-bucket-region"));
        let code = problem.code;
        let mut message = problem.message;
        let kind = kind(
            operation,
            head.status,
            code.as_deref(),
            message.as_deref(),
            &region,
        );
        let remedy = match &kind {
            ErrorKind::Unavailable { .. } => Remedy::Later(retry_after(&head.headers)),
            // Another conditional write was under way; this one may still win.
            ErrorKind::PreconditionFailed if head.status == StatusCode::CONFLICT => {
                Remedy::Later(retry_after(&head.headers))
            }
            ErrorKind::BadCredentials => Remedy::Keys,
            ErrorKind::WrongRegion => region.clone().map_or(Remedy::None, Remedy::Region),
            _ => Remedy::None,
        };
        let kind = match (kind, &remedy) {
            (ErrorKind::Unavailable { .. }, Remedy::Later(retry_after)) => ErrorKind::Unavailable {
                retry_after: *retry_after,
            },
            (kind, _) => kind,
        };
        match &kind {
            ErrorKind::WrongRegion => {
                if let Some(region) = &region {
                    message = Some(format!("the bucket is in region {region}"));
                }
            }
            ErrorKind::ClockSkew => message = skew(&head.headers).or(message),
            _ => {}
        }
        Self {
            kind,
            remedy,
            status: head.status,
            code: code.map(one_line),
            message: message.map(one_line),
            request_id: problem
                .request_id
                .or_else(|| header("x-amz-request-id"))
                .map(one_line),
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned()).filter(|text| !text.is_empty())
}

/// What the service says, fit for one line of a log.
fn one_line(message: String) -> String {
    const LONGEST: usize = 300;
    let mut line: String = message
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.len() < message.len() {
        line.push('…');
    }
    line
}

fn kind(
    operation: Operation,
    status: StatusCode,
    code: Option<&str>,
    message: Option<&str>,
    region: &Option<String>,
) -> ErrorKind {
    let unavailable = ErrorKind::Unavailable { retry_after: None };
    if let Some(code) = code {
        match code {
            "NoSuchKey" => return ErrorKind::NoSuchKey,
            "NoSuchUpload" => return ErrorKind::NoSuchUpload,
            "NoSuchBucket" => return ErrorKind::NoSuchBucket,
            "PreconditionFailed" | "ConditionalRequestConflict" | "OperationAborted" => {
                return ErrorKind::PreconditionFailed;
            }
            // Some services have one code for all of these, and say which in the message.
            "AccessDenied" if message.is_some_and(tells_of_keys) => {
                return ErrorKind::BadCredentials;
            }
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
                return ErrorKind::AccessDenied;
            }
            "RequestTimeTooSkewed" => return ErrorKind::ClockSkew,
            // Garage's word for it.
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
            | "AuthorizationHeaderMalformed"
            | "NotSignedUp" => return ErrorKind::BadCredentials,
            "EntityTooSmall" => return ErrorKind::EntityTooSmall,
            "InvalidPart" => return ErrorKind::InvalidPart,
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
        // A HEAD tells its status alone.
        400 if code.is_none() && region.is_some() => ErrorKind::WrongRegion,
        401 => ErrorKind::BadCredentials,
        403 => ErrorKind::AccessDenied,
        404 if code.is_none() => match operation {
            Operation::GetObject
            | Operation::HeadObject
            | Operation::DeleteObject
            | Operation::UploadPartCopy => ErrorKind::NoSuchKey,
            Operation::UploadPart
            | Operation::ListParts
            | Operation::CompleteMultipartUpload
            | Operation::AbortMultipartUpload => ErrorKind::NoSuchUpload,
            Operation::HeadBucket
            | Operation::PutObject
            | Operation::CreateMultipartUpload
            | Operation::ListObjects
            | Operation::ListMultipartUploads => ErrorKind::NoSuchBucket,
            _ => ErrorKind::Other,
        },
        405 | 501 => ErrorKind::NotImplemented,
        412 => ErrorKind::PreconditionFailed,
        416 => ErrorKind::InvalidRange,
        408 | 429 | 500 | 502..=599 => unavailable,
        _ => ErrorKind::Other,
    }
}

/// Garage's ways to say that a key is unknown or a signature wrong.
fn tells_of_keys(message: &str) -> bool {
    message.contains("No such key:") || message.contains("Invalid signature")
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value)
            .ok()?
            .duration_since(SystemTime::now())
            .ok(),
    }
}

/// How far apart the clocks are, by the answer's date.
fn skew(headers: &HeaderMap) -> Option<String> {
    let theirs = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    let ours = SystemTime::now();
    let (apart, word) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    Some(format!(
        "this machine's clock is {} s {word} the service's",
        apart.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(operation: Operation, status: u16, headers: &[(&str, &str)], body: &str) -> Refusal {
        let mut builder = http::Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (head, ()) = builder.body(()).expect("a response").into_parts();
        Refusal::of(operation, &head, &Bytes::copy_from_slice(body.as_bytes()))
    }

    fn coded(status: u16, code: &str) -> Refusal {
        let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
        refusal(Operation::UploadPart, status, &[], &body)
    }

    #[test]
    fn codes_are_sorted() {
        let unavailable = ErrorKind::Unavailable { retry_after: None };
        for (status, code, kind, remedy) in [
            (404, "NoSuchKey", ErrorKind::NoSuchKey, Remedy::None),
            (404, "NoSuchUpload", ErrorKind::NoSuchUpload, Remedy::None),
            (404, "NoSuchBucket", ErrorKind::NoSuchBucket, Remedy::None),
            (
                412,
                "PreconditionFailed",
                ErrorKind::PreconditionFailed,
                Remedy::None,
            ),
            (
                409,
                "ConditionalRequestConflict",
                ErrorKind::PreconditionFailed,
                Remedy::Later(None),
            ),
            (403, "AccessDenied", ErrorKind::AccessDenied, Remedy::None),
            (
                403,
                "InvalidAccessKeyId",
                ErrorKind::BadCredentials,
                Remedy::Keys,
            ),
            (
                403,
                "SignatureDoesNotMatch",
                ErrorKind::BadCredentials,
                Remedy::Keys,
            ),
            (400, "ExpiredToken", ErrorKind::BadCredentials, Remedy::Keys),
            (
                403,
                "RequestTimeTooSkewed",
                ErrorKind::ClockSkew,
                Remedy::None,
            ),
            (
                400,
                "EntityTooSmall",
                ErrorKind::EntityTooSmall,
                Remedy::None,
            ),
            (416, "InvalidRange", ErrorKind::InvalidRange, Remedy::None),
            (
                400,
                "RequestTimeout",
                unavailable.clone(),
                Remedy::Later(None),
            ),
            (
                400,
                "IncompleteBody",
                unavailable.clone(),
                Remedy::Later(None),
            ),
            (503, "SlowDown", unavailable.clone(), Remedy::Later(None)),
            (
                200,
                "InternalError",
                unavailable.clone(),
                Remedy::Later(None),
            ),
            (500, "Whatever", unavailable, Remedy::Later(None)),
            (
                501,
                "NotImplemented",
                ErrorKind::NotImplemented,
                Remedy::None,
            ),
            (400, "InvalidPart", ErrorKind::InvalidPart, Remedy::None),
            (400, "BadDigest", ErrorKind::Other, Remedy::None),
        ] {
            let refusal = coded(status, code);
            assert_eq!(
                (&refusal.kind, &refusal.remedy),
                (&kind, &remedy),
                "{status} {code}"
            );
        }
    }

    #[test]
    fn a_bare_status_is_read_by_what_was_asked() {
        let kind = |operation, status| refusal(operation, status, &[], "").kind;
        assert_eq!(kind(Operation::HeadObject, 404), ErrorKind::NoSuchKey);
        assert_eq!(kind(Operation::HeadBucket, 404), ErrorKind::NoSuchBucket);
        assert_eq!(
            kind(Operation::AbortMultipartUpload, 404),
            ErrorKind::NoSuchUpload
        );
        assert_eq!(kind(Operation::HeadBucket, 403), ErrorKind::AccessDenied);
        assert_eq!(kind(Operation::GetObject, 416), ErrorKind::InvalidRange);
        for status in [408, 429, 500, 502, 503, 504, 507, 599] {
            let kind = kind(Operation::PutObject, status);
            assert_eq!(
                kind,
                ErrorKind::Unavailable { retry_after: None },
                "{status}"
            );
        }
    }

    #[test]
    fn the_right_region_is_told() {
        let body =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-x-1</Region></Error>";
        let told = refusal(Operation::ListParts, 400, &[], body);
        assert_eq!(told.kind, ErrorKind::WrongRegion);
        assert_eq!(told.remedy, Remedy::Region("eu-x-1".to_owned()));
        assert_eq!(
            told.message.as_deref(),
            Some("the bucket is in region eu-x-1")
        );
        let told = refusal(
            Operation::HeadBucket,
            301,
            &[("x-amz-bucket-region", "r")],
            "",
        );
        assert_eq!(told.remedy, Remedy::Region("r".to_owned()));
        assert_eq!(
            refusal(Operation::HeadBucket, 301, &[], "").kind,
            ErrorKind::WrongRegion
        );
    }

    #[test]
    fn retry_after_in_seconds_and_as_a_date() {
        let after =
            |value: &str| match refusal(Operation::PutObject, 503, &[("retry-after", value)], "")
                .remedy
            {
                Remedy::Later(after) => after,
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
    fn clocks_apart_are_told_in_seconds() {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(1_200));
        let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>";
        let told = refusal(Operation::PutObject, 403, &[("date", &date)], body);
        let message = told.message.expect("a message");
        assert!(
            message.starts_with("this machine's clock is 11"),
            "{message}"
        );
        assert!(message.ends_with("behind the service's"), "{message}");
    }

    /// As Garage 2.5 words them.
    #[test]
    fn some_services_tell_only_in_the_message() {
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
        ] {
            let body = format!(
                "<Error><Code>{code}</Code><Message>{message}</Message><Region>garage</Region></Error>"
            );
            let told = refusal(Operation::PutObject, status, &[], &body);
            assert_eq!(told.kind, kind, "{message}");
        }
    }

    #[test]
    fn messages_keep_to_one_line() {
        let body = format!(
            "<Error><Code>X</Code><Message>a\nb{}</Message></Error>",
            "c".repeat(999)
        );
        let message = refusal(Operation::PutObject, 400, &[], &body)
            .message
            .expect("a message");
        assert!(message.starts_with("a bc"), "{message}");
        assert_eq!(message.chars().count(), 301);
    }
}
