//! Classifies error responses by the reaction of the caller, and says to people what to do.

use bytes::Bytes;
use http::{StatusCode, response::Parts};
use landfall_objects::{
    Error, ErrorKind as Kind, Failure, Retry, clock_skew, header_text, kind_of_status, retry_after,
};

use crate::{settings::Authorization, xml};

/// The properties of a call on which its errors depend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    /// A blob, or else a container or the service.
    pub(crate) blob: bool,
    pub(crate) authorization: Authorization,
}

/// Instead of CRC-64, which emulators before Azurite 3.37 do not know.
pub(crate) const SEND_MD5: Retry = Retry::Mended("checksum");

/// Converts an error response; `error` creates the error of a kind.
pub(crate) fn refusal(
    about: About,
    head: &Parts,
    body: &Bytes,
    error: impl FnOnce(Kind) -> Error,
) -> Failure {
    let problem: xml::Problem = xml::parse(body).unwrap_or_default();
    let header = |name: &str| header_text(&head.headers, name).map(str::to_owned);
    // The source of a copy has its own code.
    let code = header("x-ms-copy-source-error-code")
        .or_else(|| header("x-ms-error-code"))
        .or(problem.code);
    let code = code.unwrap_or_default();
    let message = problem.message.unwrap_or_default();
    let message = message.lines().next().unwrap_or_default();
    let message = message.trim_end_matches('.').to_owned();
    let detail = problem.authentication_error_detail.unwrap_or_default();
    let (mut kind, known) = classify(about, head.status, &code, &message, &detail);
    let delay = retry_after(&head.headers);
    let is_identity = about.authorization == Authorization::Identity;
    let retry = match &mut kind {
        Kind::Unavailable { retry_after } => {
            *retry_after = delay;
            Retry::Later(delay)
        }
        Kind::NotImplemented if message.contains("crc64") => SEND_MD5,
        Kind::BadCredentials if is_identity => Retry::Renew,
        _ => Retry::No,
    };
    let skew = || Some(clock_skew(&head.headers)? + "; set it");
    let advice = match kind {
        Kind::ClockSkew => skew().unwrap_or_default(),
        _ if known.is_empty() => advice(about.authorization, &kind).to_owned(),
        _ => known.to_owned(),
    };
    let id = header("x-ms-request-id");
    let error = error(kind).with_response(head.status, Some(code), Some(message), id);
    let advice = Some(advice).filter(|advice| !advice.is_empty());
    let error = error.with_advice(advice);
    Failure { error, retry }
}

use Kind::{
    AccessDenied, AccountDisabled, Archived, BadCredentials, ClockSkew, EntityTooLarge,
    InvalidPart, NoSuchBucket, NoSuchKey, NotImplemented, Other, PreconditionFailed, Unavailable,
};

const ARCHIVED: &str = "rehydrate the blob to the tier hot or cool, which takes hours";
const HTTPS: &str = "the signature is for HTTPS alone";
const IMMUTABLE: &str = "use a container without immutability policy and legal hold";
const LEASED: &str = "another program has a lease of the blob; break the lease";
const NAMES: &str = "a container has a name of 3 to 63 lower-case letters, digits and hyphens";
const NETWORK: &str = "allow this address in the network rules of the account";
const NO_CONTAINER: &str = "create the container, or correct --azure-storage and the account";
const NO_KEYS: &str = "remove AZURE_STORAGE_KEY and use an identity";
const NO_TIER: &str = "this account has no such tier; change --azure-blob-access-tier";
const PRIVATE: &str = "remove --azure-container-access-type";
const SUBSCRIPTION: &str = "see the subscription of the account";
const UNAVAILABLE: Kind = Unavailable { retry_after: None };

/// Codes that mean more than their status, and advice. Other refusals have that of [`advice`].
const CODES: &[(&str, Kind, &str)] = &[
    ("AccountBeingCreated", UNAVAILABLE, ""),
    ("AccountIsDisabled", AccountDisabled, SUBSCRIPTION),
    ("AuthenticationFailed", BadCredentials, ""),
    ("AuthorizationFailure", AccessDenied, NETWORK),
    ("AuthorizationProtocolMismatch", AccessDenied, HTTPS),
    ("AuthorizationSourceIPMismatch", AccessDenied, NETWORK),
    ("BlobAccessTierNotSupportedForAccountType", Other, NO_TIER),
    ("BlobAlreadyExists", PreconditionFailed, ""),
    ("BlobArchived", Archived, ARCHIVED),
    ("BlobBeingRehydrated", Archived, "wait for it"),
    ("BlobImmutableDueToPolicy", AccessDenied, IMMUTABLE),
    ("BlobNotFound", NoSuchKey, ""),
    ("BlockCountExceedsLimit", EntityTooLarge, ""),
    ("BlockListTooLong", EntityTooLarge, ""),
    ("ContainerBeingDeleted", NoSuchBucket, NO_CONTAINER),
    ("ContainerDisabled", AccountDisabled, ""),
    ("ContainerNotFound", NoSuchBucket, NO_CONTAINER),
    // The bytes were damaged on their way.
    ("Crc64Mismatch", UNAVAILABLE, ""),
    ("FeatureNotSupported", NotImplemented, ""),
    ("FeatureVersionMismatch", NotImplemented, ""),
    ("InvalidBlobTier", Other, NO_TIER),
    ("InvalidBlockId", InvalidPart, ""),
    ("InvalidBlockList", InvalidPart, ""),
    ("InvalidResourceName", Other, NAMES),
    ("KeyBasedAuthenticationNotPermitted", AccessDenied, NO_KEYS),
    // Of another program: it may hold the lease for as long as it wants.
    ("LeaseIdMismatchWithBlobOperation", Other, LEASED),
    ("LeaseIdMissing", Other, LEASED),
    ("LeaseLost", Other, LEASED),
    ("Md5Mismatch", UNAVAILABLE, ""),
    ("OperationTimedOut", UNAVAILABLE, ""),
    ("OutOfRangeInput", Other, NAMES),
    ("PublicAccessNotPermitted", AccessDenied, PRIVATE),
    ("RequestTimeTooSkewed", ClockSkew, ""),
    ("UnsupportedHeader", NotImplemented, ""),
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
        404 if about.blob => Kind::NoSuchKey,
        404 => Kind::NoSuchBucket,
        _ => kind_of_status(status),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use landfall_objects::ErrorKind;

    use super::*;

    fn refused(authorization: Authorization, status: u16, code: &str, body: &str) -> Failure {
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
            let Failure { error, retry } = refused(Authorization::AccountKey, status, code, "");
            assert_eq!(*error.kind(), kind, "{status} {code}");
            let expected = match kind {
                ErrorKind::Unavailable { .. } => Retry::Later(wait),
                _ => Retry::No,
            };
            assert_eq!(retry, expected, "{status} {code}");
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
            let Failure { error, retry } = refusal(about, &head, &Bytes::from(body), |kind| {
                Error::new(kind, "PutBlob", "c/k")
            });
            let line = error.to_string();
            assert!(line.contains(advice), "{line}");
            assert!(
                !line.contains("RequestId") && !line.contains("S3CRET"),
                "{line}"
            );
            let renews = authorization == Identity && *error.kind() == ErrorKind::BadCredentials;
            assert_eq!(retry == Retry::Renew, renews, "{line}");
        }
    }
}
