//! Classifies error responses by the reaction of the caller, and says to people what to do.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, response::Parts};
use landfall_objects::{
    Error, ErrorKind as Kind, header_text, one_line, retry_after, service_time,
};

use crate::{settings::Authorization, xml};

/// The properties of a call on which its errors depend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    /// A blob, or else a container or the service.
    pub(crate) blob: bool,
    pub(crate) authorization: Authorization,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    None,
    Backoff(Option<Duration>),
    RenewToken,
    /// Instead of CRC-64, which emulators before Azurite 3.37 do not know.
    SendMd5,
}

/// Converts an error response; `error` creates the error of a kind.
pub(crate) fn refusal(
    about: About,
    head: &Parts,
    body: &Bytes,
    error: impl FnOnce(Kind) -> Error,
) -> (Error, Action) {
    let problem = xml::problem(body);
    let header = |name: &str| header_text(&head.headers, name).map(str::to_owned);
    // The source of a copy has its own code.
    let code = header("x-ms-copy-source-error-code")
        .or_else(|| header("x-ms-error-code"))
        .or(problem.code);
    let message = problem.message.unwrap_or_default();
    let detail = problem.authentication_error_detail.unwrap_or_default();
    let message = message
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches('.')
        .to_owned();
    let code = code.unwrap_or_default();
    let (mut kind, known) = classify(about, head.status, &code, &message, &detail);
    let delay = retry_after(&head.headers);
    let action = match &mut kind {
        Kind::Unavailable { retry_after } => {
            *retry_after = delay;
            Action::Backoff(delay)
        }
        Kind::NotImplemented if message.contains("crc64") => Action::SendMd5,
        Kind::BadCredentials if about.authorization == Authorization::Identity => {
            Action::RenewToken
        }
        _ => Action::None,
    };
    let advice = match kind {
        Kind::ClockSkew => skew(&head.headers).unwrap_or_default(),
        _ if known.is_empty() => advice(about.authorization, &kind).to_owned(),
        _ => known.to_owned(),
    };
    let filled = |text: String| Some(one_line(text)).filter(|text| !text.is_empty());
    let error = error(kind).with_response(
        head.status,
        filled(code),
        filled(message),
        header("x-ms-request-id").map(one_line),
    );
    (error.with_advice(filled(advice)), action)
}

const ARCHIVED: &str = "rehydrate the blob to the tier hot or cool, which takes hours";
const IMMUTABLE: &str = "use a container without immutability policy and legal hold";
const LEASED: &str = "another program has a lease of the blob; break the lease";
const NAMES: &str = "a container has a name of 3 to 63 lower-case letters, digits and hyphens";
const NETWORK: &str = "allow this address in the network rules of the account";
const NO_CONTAINER: &str = "create the container, or correct --azure-storage and the account";
const NO_KEYS: &str = "remove AZURE_STORAGE_KEY and use an identity";
const NO_TIER: &str = "this account has no such tier; change --azure-blob-access-tier";
const UNAVAILABLE: Kind = Kind::Unavailable { retry_after: None };

/// Codes that mean more than their status, and advice. Other refusals have that of [`advice`].
const CODES: &[(&str, Kind, &str)] = &[
    ("AccountBeingCreated", UNAVAILABLE, ""),
    (
        "AccountIsDisabled",
        Kind::AccountDisabled,
        "see the subscription of the account",
    ),
    ("AuthenticationFailed", Kind::BadCredentials, ""),
    ("AuthorizationFailure", Kind::AccessDenied, NETWORK),
    (
        "AuthorizationProtocolMismatch",
        Kind::AccessDenied,
        "the signature is for HTTPS alone",
    ),
    ("AuthorizationSourceIPMismatch", Kind::AccessDenied, NETWORK),
    (
        "BlobAccessTierNotSupportedForAccountType",
        Kind::Other,
        NO_TIER,
    ),
    ("BlobAlreadyExists", Kind::PreconditionFailed, ""),
    ("BlobArchived", Kind::Archived, ARCHIVED),
    ("BlobBeingRehydrated", Kind::Archived, "wait for it"),
    ("BlobImmutableDueToPolicy", Kind::AccessDenied, IMMUTABLE),
    ("BlobNotFound", Kind::NoSuchKey, ""),
    ("BlockCountExceedsLimit", Kind::EntityTooLarge, ""),
    ("BlockListTooLong", Kind::EntityTooLarge, ""),
    ("ContainerBeingDeleted", Kind::NoSuchBucket, NO_CONTAINER),
    ("ContainerDisabled", Kind::AccountDisabled, ""),
    ("ContainerNotFound", Kind::NoSuchBucket, NO_CONTAINER),
    // The bytes were damaged on their way.
    ("Crc64Mismatch", UNAVAILABLE, ""),
    ("FeatureNotSupported", Kind::NotImplemented, ""),
    ("FeatureVersionMismatch", Kind::NotImplemented, ""),
    ("InvalidBlobTier", Kind::Other, NO_TIER),
    ("InvalidBlockId", Kind::InvalidPart, ""),
    ("InvalidBlockList", Kind::InvalidPart, ""),
    ("InvalidResourceName", Kind::Other, NAMES),
    (
        "KeyBasedAuthenticationNotPermitted",
        Kind::AccessDenied,
        NO_KEYS,
    ),
    // Of another program: it may hold the lease for as long as it wants.
    ("LeaseIdMismatchWithBlobOperation", Kind::Other, LEASED),
    ("LeaseIdMissing", Kind::Other, LEASED),
    ("LeaseLost", Kind::Other, LEASED),
    ("Md5Mismatch", UNAVAILABLE, ""),
    ("OperationTimedOut", UNAVAILABLE, ""),
    ("OutOfRangeInput", Kind::Other, NAMES),
    (
        "PublicAccessNotPermitted",
        Kind::AccessDenied,
        "remove --azure-container-access-type",
    ),
    ("RequestTimeTooSkewed", Kind::ClockSkew, ""),
    ("UnsupportedHeader", Kind::NotImplemented, ""),
];

fn classify(
    about: About,
    status: StatusCode,
    code: &str,
    message: &str,
    detail: &str,
) -> (Kind, &'static str) {
    match code {
        // The service checks the date before the signature.
        "AuthenticationFailed" if detail.to_ascii_lowercase().contains("date header") => {
            return (Kind::ClockSkew, "");
        }
        // Azurite says this of a wrong signature, the service of an address that a firewall refuses.
        "AuthorizationFailure" if message.contains("failed to authenticate") => {
            return (Kind::BadCredentials, "");
        }
        _ => {}
    }
    if let Some((_, kind, advice)) = CODES.iter().find(|(one, ..)| *one == code) {
        return (kind.clone(), advice);
    }
    let kind = match status.as_u16() {
        401 => Kind::BadCredentials,
        403 => Kind::AccessDenied,
        404 if about.blob => Kind::NoSuchKey,
        404 => Kind::NoSuchBucket,
        405 | 501 => Kind::NotImplemented,
        412 => Kind::PreconditionFailed,
        413 => Kind::EntityTooLarge,
        416 => Kind::InvalidRange,
        507 => Kind::StorageFull,
        408 | 429 | 500 | 502..=599 => UNAVAILABLE,
        _ => Kind::Other,
    };
    (kind, "")
}

/// Advice that depends on the credentials.
fn advice(authorization: Authorization, kind: &Kind) -> &'static str {
    use Authorization::{AccountKey, Identity, SharedAccessSignature};
    match (kind, authorization) {
        (Kind::BadCredentials, AccountKey) => {
            "the key is not of this account; copy a current one from its access keys"
        }
        (Kind::BadCredentials, SharedAccessSignature) => {
            "the shared access signature is invalid or has expired; create another one"
        }
        (Kind::BadCredentials, Identity) => {
            "the token was rejected; check AZURE_TENANT_ID and that the account is of this tenant"
        }
        (Kind::AccessDenied, Identity) => {
            "give the identity the role Storage Blob Data Contributor on the container"
        }
        (Kind::AccessDenied, SharedAccessSignature) => {
            "create a shared access signature with the rights racwdl on containers and objects"
        }
        _ => "",
    }
}

fn skew(headers: &HeaderMap) -> Option<String> {
    let theirs = service_time(headers)?;
    let (apart, word) = match SystemTime::now().duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let seconds = apart.as_secs();
    Some(format!(
        "this machine's clock is {seconds} s {word} the service's; set it"
    ))
}

#[cfg(test)]
mod tests {
    use landfall_objects::ErrorKind;

    use super::*;

    fn refused(
        authorization: Authorization,
        status: u16,
        code: &str,
        body: &str,
    ) -> (Error, Action) {
        let builder = http::Response::builder().status(status);
        let builder = builder
            .header("x-ms-error-code", code)
            .header("retry-after", "3");
        let (head, ()) = builder.body(()).unwrap().into_parts();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let about = About {
            blob: true,
            authorization,
        };
        refusal(about, &head, &body, |kind| {
            Error::new(kind, "PutBlob", "c/k")
        })
    }

    #[test]
    fn codes_are_classified() {
        let wait = Some(Duration::from_secs(3));
        let unavailable = ErrorKind::Unavailable { retry_after: wait };
        for (status, code, kind) in [
            (404, "BlobNotFound", ErrorKind::NoSuchKey),
            (404, "ContainerNotFound", ErrorKind::NoSuchBucket),
            (409, "ContainerBeingDeleted", ErrorKind::NoSuchBucket),
            (409, "BlobAlreadyExists", ErrorKind::PreconditionFailed),
            (412, "ConditionNotMet", ErrorKind::PreconditionFailed),
            (412, "LeaseIdMissing", ErrorKind::Other),
            (403, "AuthenticationFailed", ErrorKind::BadCredentials),
            (
                403,
                "AuthorizationPermissionMismatch",
                ErrorKind::AccessDenied,
            ),
            (
                403,
                "InsufficientAccountPermissions",
                ErrorKind::AccessDenied,
            ),
            (403, "AccountIsDisabled", ErrorKind::AccountDisabled),
            (409, "BlobArchived", ErrorKind::Archived),
            (416, "InvalidRange", ErrorKind::InvalidRange),
            (400, "InvalidBlockList", ErrorKind::InvalidPart),
            (413, "RequestBodyTooLarge", ErrorKind::EntityTooLarge),
            (400, "Md5Mismatch", unavailable.clone()),
            (503, "ServerBusy", unavailable.clone()),
            (500, "OperationTimedOut", unavailable.clone()),
            (429, "", unavailable.clone()),
            (502, "Whatever", unavailable),
            (501, "", ErrorKind::NotImplemented),
            (400, "InvalidHeaderValue", ErrorKind::Other),
        ] {
            let (error, action) = refused(Authorization::AccountKey, status, code, "");
            assert_eq!(*error.kind(), kind, "{status} {code}");
            let expected = match kind {
                ErrorKind::Unavailable { .. } => Action::Backoff(wait),
                _ => Action::None,
            };
            assert_eq!(action, expected, "{status} {code}");
        }
    }

    #[test]
    fn people_learn_what_to_do() {
        use Authorization::{AccountKey, Identity, SharedAccessSignature};
        let detail = |text: &str| {
            format!(
                "<Error><Code>c</Code><Message>Refused.\nRequestId:1\nTime:2</Message>\
                <AuthenticationErrorDetail>{text}</AuthenticationErrorDetail></Error>"
            )
        };
        for (authorization, status, code, body, advice) in [
            (
                AccountKey,
                404,
                "ContainerNotFound",
                String::new(),
                "--azure-storage",
            ),
            (
                AccountKey,
                403,
                "AuthenticationFailed",
                detail("S3CRET"),
                "access keys",
            ),
            (
                AccountKey,
                403,
                "AuthenticationFailed",
                detail("The date header is incorrect"),
                "clock",
            ),
            (
                Identity,
                403,
                "AuthorizationPermissionMismatch",
                detail(""),
                "role Storage Blob Data Contributor",
            ),
            (
                Identity,
                401,
                "InvalidAuthenticationInfo",
                detail(""),
                "AZURE_TENANT_ID",
            ),
            (
                SharedAccessSignature,
                403,
                "AuthenticationFailed",
                detail("Signature not valid: expiry"),
                "has expired",
            ),
            (
                SharedAccessSignature,
                403,
                "AuthorizationPermissionMismatch",
                detail(""),
                "racwdl",
            ),
            (
                AccountKey,
                403,
                "KeyBasedAuthenticationNotPermitted",
                detail(""),
                "use an identity",
            ),
            (
                AccountKey,
                403,
                "AuthorizationFailure",
                detail(""),
                "network rules",
            ),
            (AccountKey, 409, "BlobArchived", detail(""), "rehydrate"),
            (
                AccountKey,
                412,
                "LeaseIdMissing",
                detail(""),
                "break the lease",
            ),
        ] {
            let builder = http::Response::builder().status(status);
            let builder = builder
                .header("x-ms-error-code", code)
                .header("date", "Wed, 21 Oct 2015 07:28:00 GMT");
            let (head, ()) = builder.body(()).unwrap().into_parts();
            let about = About {
                blob: true,
                authorization,
            };
            let (error, action) = refusal(about, &head, &Bytes::from(body), |kind| {
                Error::new(kind, "PutBlob", "c/k")
            });
            let line = error.to_string();
            assert!(line.contains(advice), "{line}");
            assert!(
                !line.contains("RequestId") && !line.contains("S3CRET"),
                "{line}"
            );
            let renews = authorization == Identity && *error.kind() == ErrorKind::BadCredentials;
            assert_eq!(action == Action::RenewToken, renews, "{line}");
        }
    }
}
