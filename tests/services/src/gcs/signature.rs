//! Signed URLs, version 4. The signature is verified if it is of the account whose key the fake knows; of others, all but the
//! signature is checked: date, lifetime, scope and signed headers.

use std::fmt::Write as _;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::digest;

use super::{
    SignedRequest,
    objects::{Result, reject},
    request::Call,
    tokens,
};

/// Characters that are not encoded.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');
/// The longest lifetime of a signed URL, in seconds.
const MAX_EXPIRES: u64 = 7 * 24 * 3600;
/// Clocks may differ by these seconds.
const MAX_CLOCK_SKEW: i64 = 15 * 60;
pub(super) const SIGNATURE_PARAMETERS: [&str; 6] = [
    "X-Goog-Algorithm",
    "X-Goog-Credential",
    "X-Goog-Date",
    "X-Goog-Expires",
    "X-Goog-Signature",
    "X-Goog-SignedHeaders",
];
/// Checks a signed URL.
pub(super) fn check(call: &Call<'_>, bucket: &str, name: &str) -> Result<SignedRequest> {
    let malformed = |what: &str| {
        reject(
            400,
            "InvalidQueryParameterValue",
            format!("Invalid or missing {what}"),
        )
    };
    let required = |name: &str| {
        let found: Vec<_> = call
            .query
            .iter()
            .filter(|(found, _)| found == name)
            .collect();
        match &*found {
            [(_, value)] if !value.is_empty() => Ok(value.as_str()),
            _ => Err(malformed(name)),
        }
    };
    if required("X-Goog-Algorithm")? != "GOOG4-RSA-SHA256" {
        return Err(malformed("X-Goog-Algorithm"));
    }
    let date = required("X-Goog-Date")?;
    let signed_at = DateTime::strptime("%Y%m%dT%H%M%SZ", date)
        .ok()
        .and_then(|date| date.to_zoned(TimeZone::UTC).ok());
    let signed_at = signed_at
        .ok_or_else(|| malformed("X-Goog-Date"))?
        .timestamp()
        .as_second();
    let credential = required("X-Goog-Credential")?;
    let scope: Vec<_> = credential.rsplitn(5, '/').collect();
    let ["goog4_request", "storage", _, day, account] = &*scope else {
        return Err(malformed("X-Goog-Credential"));
    };
    if !date.starts_with(day) || day.len() != 8 {
        return Err(malformed(
            "X-Goog-Credential: its date is not that of X-Goog-Date",
        ));
    }
    let expires = required("X-Goog-Expires")?.parse().ok();
    let expires = expires.filter(|seconds| (1..=MAX_EXPIRES).contains(seconds));
    let expires: u64 = expires.ok_or_else(|| malformed("X-Goog-Expires"))?;
    let bytes =
        unhex(required("X-Goog-Signature")?).ok_or_else(|| malformed("X-Goog-Signature"))?;
    let signed_headers: Vec<_> = required("X-Goog-SignedHeaders")?
        .split(';')
        .map(str::to_owned)
        .collect();
    if !signed_headers.iter().any(|name| name == "host") || !signed_headers.is_sorted() {
        return Err(malformed("X-Goog-SignedHeaders"));
    }
    if let Some(name) = signed_headers
        .iter()
        .find(|name| !call.headers.contains_key(name.as_str()))
    {
        let message =
            format!("Header {name} was included in signedheaders, but not in the request.");
        return Err(reject(400, "MalformedSecurityHeader", message));
    }
    let is_unsigned = |name: &&str| {
        name.starts_with("x-goog-") && !signed_headers.iter().any(|signed| signed == name)
    };
    if let Some(name) = call
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .find(is_unsigned)
    {
        let message =
            format!("Header {name} was included in the request, but not in signedheaders.");
        return Err(reject(400, "MalformedSecurityHeader", message));
    }
    let now = Timestamp::now().as_second();
    if signed_at > now + MAX_CLOCK_SKEW {
        return Err(reject(
            403,
            "RequestTimeTooSkewed",
            "The date of the signature is in the future.",
        ));
    }
    if now.saturating_sub(signed_at) > expires.cast_signed() {
        return Err(reject(
            400,
            "ExpiredToken",
            "The provided token has expired. Request signature expired.",
        ));
    }
    let scope = credential[account.len() + 1..].to_owned();
    let is_verified = *account == tokens::ACCOUNT;
    if is_verified {
        let canonical = canonical_request(call, &signed_headers);
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let signed = format!("GOOG4-RSA-SHA256\n{date}\n{scope}\n{hash}");
        if !tokens::verify(&signed, &bytes) {
            let message = format!(
                "Access denied. The signed text is {signed:?}, of the request {canonical:?}."
            );
            return Err(reject(403, "SignatureDoesNotMatch", message));
        }
    }
    Ok(SignedRequest {
        method: call.method.to_string(),
        bucket: bucket.to_owned(),
        name: name.to_owned(),
        expires,
        account: (*account).to_owned(),
        signed_headers,
        is_verified,
    })
}

/// Returns the text that a signature covers by its hash.
fn canonical_request(call: &Call<'_>, signed_headers: &[String]) -> String {
    let path = utf8_percent_encode(&call.path.join("/"), PATH).to_string();
    let query = call
        .query
        .iter()
        .filter(|(name, _)| name != "X-Goog-Signature");
    let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let mut query: Vec<_> = query
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    query.sort();
    let mut canonical = format!("{}\n/{path}\n{}\n", call.method, query.join("&"));
    for name in signed_headers {
        let value = call.header(name).unwrap_or_default();
        let value: Vec<_> = value.split_whitespace().collect();
        let _ = writeln!(canonical, "{name}:{}", value.join(" "));
    }
    let payload = call
        .header("x-goog-content-sha256")
        .unwrap_or("UNSIGNED-PAYLOAD");
    let _ = write!(canonical, "\n{}\n{payload}", signed_headers.join(";"));
    canonical
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.len().is_multiple_of(2);
    let pairs = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok());
    is_hex.then(|| pairs.collect()).flatten()
}
