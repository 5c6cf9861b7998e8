//! Error responses: their kinds for callers, and advice for operators. It sends nothing.

use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, response::Parts};
use landfall_objects::{
    Error, ErrorKind, Failure, Retry, header_text, kind_of_status, retry_after,
};

use crate::resource::Problem;

/// The service refuses more than one write of an object in this time.
pub(crate) const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the error of a response, and whether to repeat the request; `error` creates the error of a kind.
pub(crate) fn classify(
    bucket: &str,
    head: &Parts,
    body: &Bytes,
    error: impl FnOnce(ErrorKind) -> Error,
) -> Failure {
    let problem = Problem::parse(body);
    let reason = problem.reason.unwrap_or_default();
    let message = problem.message.unwrap_or_default();
    let mut kind = kind(head.status, &reason, &message);
    let mut delay = retry_after(&head.headers);
    if head.status == StatusCode::TOO_MANY_REQUESTS {
        delay = Some(delay.unwrap_or_default().max(WRITE_INTERVAL));
    }
    let retry = match &mut kind {
        ErrorKind::Unavailable { retry_after } => {
            *retry_after = delay;
            Retry::Later(delay)
        }
        ErrorKind::BadCredentials => Retry::Renew,
        _ => Retry::No,
    };
    let advice = advice(&kind, bucket, &reason, &message);
    let message = match &advice {
        Some(_) => message.trim_end_matches('.').to_owned(),
        None => message,
    };
    let id = header_text(&head.headers, "x-guploader-uploadid").map(str::to_owned);
    let error = error(kind).with_response(head.status, Some(reason), Some(message), id);
    let error = error.with_advice(advice);
    Failure { error, retry }
}

fn kind(status: StatusCode, reason: &str, message: &str) -> ErrorKind {
    match (status.as_u16(), reason) {
        (
            403,
            "rateLimitExceeded" | "userRateLimitExceeded" | "quotaExceeded" | "RESOURCE_EXHAUSTED",
        ) => ErrorKind::Unavailable { retry_after: None },
        (403, "accessNotConfigured" | "accountDisabled" | "SERVICE_DISABLED") => {
            ErrorKind::AccountDisabled
        }
        (403, _) if reason.starts_with("billing") || message.contains("billing account") => {
            ErrorKind::AccountDisabled
        }
        (404, _) if message.contains("bucket does not exist") => ErrorKind::NoSuchBucket,
        (404 | 410, _) => ErrorKind::NoSuchKey,
        _ => kind_of_status(status),
    }
}

/// Returns advice about an error that the operator can mend.
fn advice(kind: &ErrorKind, bucket: &str, reason: &str, message: &str) -> Option<String> {
    Some(match kind {
        ErrorKind::NoSuchBucket => format!(
            "create the bucket {bucket:?}, or correct --gcs-bucket (its name has no gs:// and no folder)"
        ),
        ErrorKind::AccessDenied if reason.starts_with("retention") || reason.starts_with("objectUnder") => {
            format!("remove the retention policy or hold of the bucket {bucket:?}, which forbids to delete parts")
        }
        ErrorKind::AccessDenied => format!(
            "grant the role Storage Object User (roles/storage.objectUser) on the bucket {bucket:?} to this account"
        ),
        ErrorKind::AccountDisabled if reason == "accessNotConfigured" || reason == "SERVICE_DISABLED" => {
            "enable the API: gcloud services enable storage.googleapis.com".to_owned()
        }
        ErrorKind::AccountDisabled => format!("enable billing for the project of the bucket {bucket:?}"),
        ErrorKind::BadCredentials => {
            "the access token is expired, revoked or of another service; check GCS_SERVICE_ACCOUNT_FILE and \
             GOOGLE_APPLICATION_CREDENTIALS, and the clock of this machine"
                .to_owned()
        }
        ErrorKind::Other if message.contains("requester pays") => format!(
            "turn requester pays off, since no other project is billed: gcloud storage buckets update gs://{bucket} \
             --no-requester-pays"
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn classified(status: u16, headers: &[(&str, &str)], body: &str) -> (Error, Retry) {
        let mut builder = http::Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (head, ()) = builder.body(()).expect("a response").into_parts();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let error = |kind| Error::new(kind, "objects.insert", "files");
        let Failure { error, retry } = classify("files", &head, &body, error);
        (error, retry)
    }

    fn reason(status: u16, reason: &str, message: &str) -> (Error, Retry) {
        let body =
            json!({"error": {"code": status, "message": message, "errors": [{"reason": reason}]}});
        classified(status, &[], &body.to_string())
    }

    #[test]
    fn errors_are_classified() {
        let unavailable = ErrorKind::Unavailable { retry_after: None };
        for (status, code, message, kind) in [
            (
                401,
                "authError",
                "Invalid Credentials",
                ErrorKind::BadCredentials,
            ),
            (
                403,
                "forbidden",
                "a does not have storage.objects.create access",
                ErrorKind::AccessDenied,
            ),
            (403, "retentionPolicyNotMet", "", ErrorKind::AccessDenied),
            (403, "rateLimitExceeded", "", unavailable.clone()),
            (403, "userRateLimitExceeded", "", unavailable.clone()),
            (403, "accessNotConfigured", "", ErrorKind::AccountDisabled),
            (
                403,
                "accountDisabled",
                "The billing account for the owning project is disabled",
                ErrorKind::AccountDisabled,
            ),
            (404, "notFound", "No such object: b/k", ErrorKind::NoSuchKey),
            (
                404,
                "notFound",
                "The specified bucket does not exist.",
                ErrorKind::NoSuchBucket,
            ),
            (412, "conditionNotMet", "", ErrorKind::PreconditionFailed),
            (
                416,
                "requestedRangeNotSatisfiable",
                "",
                ErrorKind::InvalidRange,
            ),
            (400, "invalid", "", ErrorKind::Other),
            (501, "", "", ErrorKind::NotImplemented),
        ] {
            let (error, retry) = reason(status, code, message);
            assert_eq!(*error.kind(), kind, "{status} {code}");
            let wanted = match kind {
                ErrorKind::Unavailable { .. } => Retry::Later(None),
                ErrorKind::BadCredentials => Retry::Renew,
                _ => Retry::No,
            };
            assert_eq!(retry, wanted, "{status} {code}");
        }
        for status in [408, 500, 502, 503, 504] {
            let (error, retry) = classified(status, &[], "");
            assert_eq!(
                (error.kind(), retry),
                (&unavailable, Retry::Later(None)),
                "{status}"
            );
        }
    }

    #[test]
    fn too_many_writes_wait_for_a_second_at_least() {
        let after = |headers| classified(429, headers, "").1;
        assert_eq!(after(&[]), Retry::Later(Some(WRITE_INTERVAL)));
        assert_eq!(
            after(&[("retry-after", "0")]),
            Retry::Later(Some(WRITE_INTERVAL))
        );
        let three = Duration::from_secs(3);
        assert_eq!(after(&[("retry-after", "3")]), Retry::Later(Some(three)));
    }

    #[test]
    fn sentences_say_what_to_do() {
        let (error, _) = reason(404, "notFound", "The specified bucket does not exist.");
        assert_eq!(
            error.to_string(),
            "objects.insert files: 404 notFound: The specified bucket does not exist; create the bucket \"files\", or \
             correct --gcs-bucket (its name has no gs:// and no folder)"
        );
        let (error, _) = reason(
            403,
            "forbidden",
            "x@y does not have storage.objects.create access",
        );
        let text = error.to_string();
        assert!(
            text.contains("Storage Object User (roles/storage.objectUser) on the bucket \"files\""),
            "{text}"
        );
        let message = "Bucket is a requester pays bucket but no user project provided.";
        let text = reason(400, "required", message).0.to_string();
        assert!(text.contains("--no-requester-pays"), "{text}");
        for (code, wanted) in [
            (
                "accessNotConfigured",
                "gcloud services enable storage.googleapis.com",
            ),
            ("accountDisabled", "enable billing"),
            ("retentionPolicyNotMet", "retention policy"),
        ] {
            let text = reason(403, code, "").0.to_string();
            assert!(text.contains(wanted), "{text}");
        }
        let (error, _) = classified(401, &[("x-guploader-uploadid", "ID")], "<html>");
        let text = error.to_string();
        assert!(
            text.contains("GCS_SERVICE_ACCOUNT_FILE") && text.ends_with("(request ID)"),
            "{text}"
        );
    }
}
