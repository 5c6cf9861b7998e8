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
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn credentials() -> Credentials {
        Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        )
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    fn signer(credentials: &Credentials) -> Signer<'_> {
        Signer {
            credentials,
            region: "us-east-1",
            at: "2013-05-24T00:00:00Z".parse().expect("a timestamp"),
        }
    }

    /// Signs an example of the S3 manual ("Signature calculations: header-based").
    fn header_signature(
        method: Method,
        path: &str,
        query: Query,
        extra: &[(&'static str, &'static str)],
        payload: &str,
    ) -> String {
        let credentials = credentials();
        let mut headers = headers(&[("host", "examplebucket.s3.amazonaws.com")]);
        headers.extend(self::headers(extra));
        signer(&credentials)
            .sign_headers(&method, path, &query.canonical(), &mut headers, payload)
            .expect("signs");
        let authorization = headers[AUTHORIZATION].to_str().expect("text").to_owned();
        assert!(headers[AUTHORIZATION].is_sensitive());
        authorization
            .split_once("Signature=")
            .expect("a signature")
            .1
            .to_owned()
    }

    #[test]
    fn the_manuals_get_object() {
        let signature = header_signature(
            Method::GET,
            "/test.txt",
            Query::new(),
            &[("range", "bytes=0-9"), ("user-agent", "not signed")],
            EMPTY,
        );
        assert_eq!(
            signature,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    #[test]
    fn the_manuals_put_object() {
        let signature = header_signature(
            Method::PUT,
            &super::super::encode::path("/test$file.text"),
            Query::new(),
            &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        );
        assert_eq!(
            signature,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn the_manuals_bucket_lifecycle() {
        let query = Query::new().with("lifecycle", "");
        let signature = header_signature(Method::GET, "/", query, &[], EMPTY);
        assert_eq!(
            signature,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
    }

    #[test]
    fn the_manuals_list_objects() {
        let query = Query::new().with("max-keys", "2").with("prefix", "J");
        let signature = header_signature(Method::GET, "/", query, &[], EMPTY);
        assert_eq!(
            signature,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn the_manuals_presigned_url() {
        let credentials = credentials();
        let query = signer(&credentials).sign_query(
            &Method::GET,
            "/test.txt",
            Query::new(),
            &headers(&[("host", "examplebucket.s3.amazonaws.com")]),
            Duration::from_secs(86_400),
        );
        assert_eq!(
            query,
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2F\
             us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&\
             X-Amz-SignedHeaders=host&X-Amz-Signature=\
             aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    /// Computed beforehand by a program of its own.
    #[test]
    fn a_presigned_put_that_pins_length_and_type() {
        let credentials = credentials();
        let query = signer(&credentials).sign_query(
            &Method::PUT,
            "/uploads/test.txt",
            Query::new().with("x-amz-acl", "public-read"),
            &headers(&[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("content-length", "11"),
                ("content-type", "text/plain"),
            ]),
            Duration::from_secs(86_400),
        );
        let signature = query.rsplit_once('=').expect("a signature").1;
        assert_eq!(
            signature,
            "e3b7759c48c839e847eb92155b3ee1eebeff10492b0119d438e50f6f769d2d38"
        );
    }

    #[test]
    fn temporary_keys_bring_their_token() {
        let mut credentials = credentials();
        credentials.session_token = Some("a token/+=".to_owned());
        let signer = signer(&credentials);
        let mut sent = headers(&[("host", "h")]);
        signer
            .sign_headers(&Method::GET, "/", "", &mut sent, EMPTY)
            .expect("signs");
        assert_eq!(sent["x-amz-security-token"], "a token/+=");
        let authorization = sent[AUTHORIZATION].to_str().expect("text");
        assert!(
            authorization.contains("host;x-amz-content-sha256;x-amz-date;x-amz-security-token,")
        );
        let query = signer.sign_query(
            &Method::GET,
            "/",
            Query::new(),
            &headers(&[("host", "h")]),
            Duration::from_secs(1),
        );
        assert!(query.contains("&X-Amz-Security-Token=a%20token%2F%2B%3D&"));
    }

    #[test]
    fn a_token_that_no_header_can_hold_is_refused() {
        let mut credentials = credentials();
        credentials.session_token = Some("two\nlines".to_owned());
        let mut sent = headers(&[("host", "h")]);
        let signed = signer(&credentials).sign_headers(&Method::GET, "/", "", &mut sent, EMPTY);
        assert!(signed.is_err());
    }

    #[test]
    fn runs_of_spaces_count_as_one() {
        let text = canonical_request(
            &Method::GET,
            "/",
            "",
            &headers(&[("x-amz-meta-a", "  one   two ")]),
            &["x-amz-meta-a"],
            EMPTY,
        );
        assert!(text.contains("\nx-amz-meta-a:one two\n"));
    }
}
