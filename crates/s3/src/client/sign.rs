//! Signature version 4, in headers and in queries.

use std::{fmt::Write, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, InvalidHeaderValue, USER_AGENT},
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{credentials::Credentials, encode::Query};

pub(super) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
pub(super) const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What stands for the payload's digest where there is none.
pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// With what a request is signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signer<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) region: &'a str,
    pub(super) at: Timestamp,
}

impl Signer<'_> {
    /// Adds the date, the payload's digest, the token and `Authorization` to `headers`, which hold
    /// `Host` and everything else that is to be signed. `path` and `query` are as they are sent.
    pub(super) fn sign_headers(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &mut HeaderMap,
        payload: &str,
    ) -> Result<(), InvalidHeaderValue> {
        headers.insert(DATE, HeaderValue::from_str(&self.date_time())?);
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
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
            self.credentials.access_key_id,
            self.scope(),
            names.join(";"),
        ))?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }

    /// The whole query of a URL that may be used for `expires` from now on.
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
        query.push(
            "X-Amz-Credential",
            &format!("{}/{}", self.credentials.access_key_id, self.scope()),
        );
        query.push("X-Amz-Date", &self.date_time());
        query.push("X-Amz-Expires", &expires.as_secs().to_string());
        query.push("X-Amz-SignedHeaders", &names.join(";"));
        if let Some(token) = &self.credentials.session_token {
            query.push("X-Amz-Security-Token", token);
        }
        let mut query = query.canonical();
        let request = canonical_request(method, path, &query, headers, &names, UNSIGNED_PAYLOAD);
        query.push_str("&X-Amz-Signature=");
        query.push_str(&self.signature(&request));
        query
    }

    fn date_time(&self) -> String {
        self.at.strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    fn date(&self) -> String {
        self.at.strftime("%Y%m%d").to_string()
    }

    fn scope(&self) -> String {
        format!("{}/{}/s3/aws4_request", self.date(), self.region)
    }

    fn signature(&self, request: &str) -> String {
        let text = format!(
            "{ALGORITHM}\n{}\n{}\n{}",
            self.date_time(),
            self.scope(),
            hex(&Sha256::digest(request))
        );
        let secret = format!("AWS4{}", self.credentials.secret_access_key);
        let key = hmac(secret.as_bytes(), &self.date());
        let key = hmac(&key, self.region);
        let key = hmac(&key, "s3");
        let key = hmac(&key, "aws4_request");
        hex(&hmac(&key, &text))
    }
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Everything but what programs between here and the service like to change.
fn signed_names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers
        .keys()
        .filter(|&name| name != USER_AGENT)
        .map(HeaderName::as_str)
        .collect();
    names.sort_unstable();
    names
}

fn canonical_request(
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    names: &[&str],
    payload: &str,
) -> String {
    let mut out = format!("{method}\n{path}\n{query}\n");
    for name in names {
        out.push_str(name);
        out.push(':');
        for (index, value) in headers.get_all(*name).iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            // Runs of spaces count as one.
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
    write!(out, "\n{}\n{payload}", names.join(";")).expect("writing to a string");
    out
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("writing to a string");
    }
    out
}

#[cfg(test)]
mod tests;
