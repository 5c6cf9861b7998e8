//! SigV4: headers and presigned URLs. It sends nothing.

use std::{
    cell::RefCell,
    time::{Duration, SystemTime},
};

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
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

pub(super) const S3: &str = "s3";

#[derive(Clone, Debug)]
pub(super) struct Signer<'a> {
    credentials: &'a Credentials,
    region: &'a str,
    service: &'a str,
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
        let credential = self.credential();
        let mut authorization = HeaderValue::from_str(&format!(
            "{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        ))?;
        authorization.set_sensitive(true);
        headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }

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

    pub(super) fn date_time(&self) -> &str {
        &self.date_time
    }

    pub(super) fn credential(&self) -> String {
        format!("{}/{}", self.credentials.access_key_id, self.scope())
    }

    fn scope(&self) -> String {
        let (date, region, service) = (self.date(), self.region, self.service);
        format!("{date}/{region}/{service}/aws4_request")
    }

    fn date(&self) -> &str {
        self.date_time.split('T').next().unwrap_or_default()
    }

    fn signature(&self, request: &str) -> String {
        let digest = hex::encode(Sha256::digest(request));
        let (date_time, scope) = (&self.date_time, self.scope());
        self.sign(&format!("{ALGORITHM}\n{date_time}\n{scope}\n{digest}"))
    }

    pub(super) fn sign(&self, text: &str) -> String {
        let secret = &self.credentials.secret_access_key;
        let digest = derive_and_sign(secret, self.date(), self.region, self.service, text);
        hex::encode(digest)
    }
}

fn date_time(at: SystemTime) -> String {
    // Services reject a time out of the calendar's range.
    let at = Timestamp::try_from(at).unwrap_or_default();
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn signed_names(headers: &HeaderMap) -> String {
    let names = headers.keys().filter(|&name| name != USER_AGENT);
    let mut names: Vec<_> = names.map(HeaderName::as_str).collect();
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
    let mut out = format!("{method}\n{path}\n{query}\n");
    for name in names.split(';') {
        let values = headers.get_all(name).iter().map(|value| {
            // SigV4 collapses runs of spaces.
            let value = String::from_utf8_lossy(value.as_bytes());
            value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        });
        let values = values.collect::<Vec<_>>().join(",");
        out.push_str(&format!("{name}:{values}\n"));
    }
    out + &format!("\n{names}\n{payload}")
}

/// Cached keys per thread: enough for two clients and their token service at the change of day.
const CACHE_CAPACITY: usize = 8;

/// Secret, date, region and service.
type Scope<T> = [T; 4];

thread_local! {
    /// Deriving a key costs as much as the rest of signing. The cache is per thread, so that
    /// threads do not contend, and in order of last use.
    static DERIVED: RefCell<Vec<(Scope<String>, Hmac<Sha256>)>> = const { RefCell::new(Vec::new()) };
}

fn derive_and_sign(secret: &str, date: &str, region: &str, service: &str, text: &str) -> [u8; 32] {
    let scope = [secret, date, region, service];
    let mut mac = DERIVED.with_borrow_mut(|derived| {
        match derived.iter().position(|(other, _)| *other == scope) {
            Some(position) => derived[..=position].rotate_right(1),
            None => {
                derived.truncate(CACHE_CAPACITY - 1);
                derived.insert(0, (scope.map(str::to_owned), derive(scope)));
            }
        }
        derived[0].1.clone()
    });
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn derive([secret, date, region, service]: Scope<&str>) -> Hmac<Sha256> {
    let mut mac = keyed(format!("AWS4{secret}").as_bytes());
    for word in [date, region, service, "aws4_request"] {
        mac.update(word.as_bytes());
        mac = keyed(&mac.finalize().into_bytes());
    }
    mac
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes credentials of every length")
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod key_tests {
    use super::*;

    #[test]
    fn cached_keys_match_derived_keys() {
        for round in 0..3 {
            for day in 0..2 * CACHE_CAPACITY {
                let date = format!("202601{day:02}");
                for (secret, region, service) in [
                    ("s", "r", "s3"),
                    ("s", "r", "sts"),
                    ("s", "q", "s3"),
                    ("t", "r", "s3"),
                ] {
                    let mut mac = derive([secret, &date, region, service]);
                    mac.update(b"text");
                    let wanted: [u8; 32] = mac.finalize().into_bytes().into();
                    let got = derive_and_sign(secret, &date, region, service, "text");
                    assert_eq!(got, wanted, "{round} {date} {secret} {region} {service}");
                }
            }
            let count = DERIVED.with_borrow(Vec::len);
            assert_eq!(count, CACHE_CAPACITY);
        }
    }
}
