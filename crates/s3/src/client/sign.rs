//! AWS signature version 4 for headers, queries and POST policies.

mod key;

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, InvalidHeaderValue, USER_AGENT},
};
use jiff::{Timestamp, tz::Offset};
use sha2::{Digest, Sha256};

use super::{credentials::Credentials, encode::Query};

pub(super) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
pub(super) const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Replaces the payload's digest where there is none.
pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

pub(super) const S3: &str = "s3";

#[derive(Clone, Debug)]
pub(super) struct Signer<'a> {
    credentials: &'a Credentials,
    region: &'a str,
    service: &'a str,
    /// Time of signing: `yyyymmddThhmmssZ`.
    date_time: String,
}

impl<'a> Signer<'a> {
    pub(super) fn new(
        credentials: &'a Credentials,
        region: &'a str,
        service: &'a str,
        at: SystemTime,
    ) -> Self {
        Self {
            credentials,
            region,
            service,
            date_time: date_time(at),
        }
    }

    /// Adds the date, the payload's digest, the token and `Authorization` to `headers`.
    ///
    /// `headers` must contain `Host` and all other headers to sign; `path` and `query` are encoded
    /// as they are sent.
    pub(super) fn sign_headers(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &mut HeaderMap,
        payload: &str,
    ) -> Result<(), InvalidHeaderValue> {
        headers.insert(DATE, HeaderValue::from_str(&self.date_time)?);
        headers.insert(CONTENT_SHA256, HeaderValue::from_str(payload)?);
        if let Some(token) = &self.credentials.session_token {
            let mut token = HeaderValue::from_str(token)?;
            token.set_sensitive(true);
            headers.insert(SECURITY_TOKEN, token);
        }
        let names = signed_names(headers);
        let request = canonical_request(method, path, query, headers, &names, payload);
        let signature = self.signature(&request);
        let mut authorization = HeaderValue::from_str(&format!(
            "{ALGORITHM} Credential={}, SignedHeaders={}, Signature={signature}",
            self.credential(),
            names,
        ))?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }

    /// Returns the whole query of a URL that is valid for `expires`.
    pub(super) fn sign_query(
        &self,
        method: &Method,
        path: &str,
        mut query: Query,
        headers: &HeaderMap,
        expires: Duration,
    ) -> String {
        let names = signed_names(headers);
        query.push("X-Amz-Algorithm", ALGORITHM);
        query.push("X-Amz-Credential", &self.credential());
        query.push("X-Amz-Date", &self.date_time);
        query.push("X-Amz-Expires", &expires.as_secs().to_string());
        query.push("X-Amz-SignedHeaders", &names);
        if let Some(token) = &self.credentials.session_token {
            query.push("X-Amz-Security-Token", token);
        }
        let mut query = query.canonical();
        let request = canonical_request(method, path, &query, headers, &names, UNSIGNED_PAYLOAD);
        query.push_str("&X-Amz-Signature=");
        query.push_str(&self.signature(&request));
        query
    }

    /// Signs the base64 text of a POST policy.
    pub(super) fn sign_policy(&self, policy: &str) -> String {
        self.signed(policy)
    }

    pub(super) fn date_time(&self) -> &str {
        &self.date_time
    }

    /// Returns the value of `Credential`: key id and scope.
    pub(super) fn credential(&self) -> String {
        let id = &self.credentials.access_key_id;
        let mut out = String::with_capacity(id.len() + 64);
        out.push_str(id);
        out.push('/');
        self.push_scope(&mut out);
        out
    }

    fn push_scope(&self, out: &mut String) {
        for word in [self.date(), self.region, self.service] {
            out.push_str(word);
            out.push('/');
        }
        out.push_str("aws4_request");
    }

    fn date(&self) -> &str {
        self.date_time.split('T').next().unwrap_or_default()
    }

    fn signature(&self, request: &str) -> String {
        let mut text = String::with_capacity(192);
        text.push_str(ALGORITHM);
        text.push('\n');
        text.push_str(&self.date_time);
        text.push('\n');
        self.push_scope(&mut text);
        text.push('\n');
        push_hex(&mut text, &Sha256::digest(request));
        self.signed(&text)
    }

    fn signed(&self, text: &str) -> String {
        let secret = &self.credentials.secret_access_key;
        let digest = key::sign(secret, self.date(), self.region, self.service, text);
        hex(&digest)
    }
}

fn date_time(at: SystemTime) -> String {
    // Services reject a time out of the calendar's range.
    let at = Timestamp::try_from(at).unwrap_or_default();
    let at = Offset::UTC.to_datetime(at);
    let mut out = String::with_capacity(16);
    push_digits(&mut out, at.year().unsigned_abs(), 4);
    push_digits(&mut out, at.month().unsigned_abs().into(), 2);
    push_digits(&mut out, at.day().unsigned_abs().into(), 2);
    out.push('T');
    push_digits(&mut out, at.hour().unsigned_abs().into(), 2);
    push_digits(&mut out, at.minute().unsigned_abs().into(), 2);
    push_digits(&mut out, at.second().unsigned_abs().into(), 2);
    out.push('Z');
    out
}

/// Appends the last `count` decimal digits of a number.
fn push_digits(out: &mut String, number: u16, count: u32) {
    for object in (0..count).rev() {
        let digit = number / 10_u16.pow(object) % 10;
        out.push(char::from(b'0' + (digit as u8)));
    }
}

/// Returns the names of all headers but `User-Agent`, which proxies change, in order.
fn signed_names(headers: &HeaderMap) -> String {
    let mut names: Vec<_> = headers
        .keys()
        .filter(|&name| name != USER_AGENT)
        .map(HeaderName::as_str)
        .collect();
    names.sort_unstable();
    names.join(";")
}

fn canonical_request(
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    names: &str,
    payload: &str,
) -> String {
    let mut out = String::with_capacity(path.len() + query.len() + 256);
    for line in [method.as_str(), path, query] {
        out.push_str(line);
        out.push('\n');
    }
    for name in names.split(';') {
        out.push_str(name);
        out.push(':');
        for (index, value) in headers.get_all(name).iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            // SigV4 collapses runs of spaces.
            let value = String::from_utf8_lossy(value.as_bytes());
            for (index, word) in value.split_ascii_whitespace().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(word);
            }
        }
        out.push('\n');
    }
    for line in ["\n", names, "\n", payload] {
        out.push_str(line);
    }
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    push_hex(&mut out, bytes);
    out
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests;
