use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn credentials() -> Credentials {
    Credentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )
}

fn at(text: &str) -> SystemTime {
    text.parse::<Timestamp>().expect("a timestamp").into()
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
    Signer::new(credentials, "us-east-1", S3, at("2013-05-24T00:00:00Z"))
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
fn manual_example_get_object() {
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
fn manual_example_put_object() {
    let signature = header_signature(
        Method::PUT,
        &landfall_objects::path("/test$file.text").to_string(),
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
fn manual_example_bucket_lifecycle() {
    let query = Query::new().with("lifecycle", "");
    let signature = header_signature(Method::GET, "/", query, &[], EMPTY);
    assert_eq!(
        signature,
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    );
}

#[test]
fn manual_example_list_objects() {
    let query = Query::new().with("max-keys", "2").with("prefix", "J");
    let signature = header_signature(Method::GET, "/", query, &[], EMPTY);
    assert_eq!(
        signature,
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    );
}

#[test]
fn manual_example_presigned_url() {
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

/// Computed with an independent program.
#[test]
fn presigned_put_with_fixed_length_and_type() {
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

/// The manual's example ("Example: browser-based upload using HTTP POST").
#[test]
fn manual_example_policy() {
    let policy = r#"{ "expiration": "2015-12-30T12:00:00.000Z",
  "conditions": [
    {"bucket": "sigv4examplebucket"},
    ["starts-with", "$key", "user/user1/"],
    {"acl": "public-read"},
    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},
    ["starts-with", "$Content-Type", "image/"],
    {"x-amz-meta-uuid": "14365123651274"},
    {"x-amz-server-side-encryption": "AES256"},
    ["starts-with", "$x-amz-meta-tag", ""],

    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},
    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
    {"x-amz-date": "20151229T000000Z" }
  ]
}"#;
    assert_eq!(
        policy_signature(&policy.replace('\n', "\r\n")),
        "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"
    );
}

/// Computed with an independent program.
#[test]
fn policy_with_content_length_range() {
    let policy = r#"{"expiration":"2015-12-30T12:00:00.000Z","conditions":[{"bucket":"examplebucket"},{"key":"uploads/test.txt"},["content-length-range",1,1048576]]}"#;
    assert_eq!(
        policy_signature(policy),
        "bdf9071285192b57a028092dba82945970ee90a893e46c4075f541c5900fad85"
    );
}

fn policy_signature(policy: &str) -> String {
    let credentials = credentials();
    let at = at("2015-12-29T00:00:00Z");
    let signer = Signer::new(&credentials, "us-east-1", S3, at);
    signer.sign(&STANDARD.encode(policy))
}

#[test]
fn time_is_formatted_for_signing() {
    assert_eq!(date_time(at("2013-05-24T00:00:00Z")), "20130524T000000Z");
    assert_eq!(
        date_time(at("2026-12-01T23:09:59.999Z")),
        "20261201T230959Z"
    );
    assert_eq!(date_time(SystemTime::UNIX_EPOCH), "19700101T000000Z");
}

#[test]
fn temporary_credentials_include_token() {
    let mut credentials = credentials();
    credentials.session_token = Some("a token/+=".to_owned());
    let signer = signer(&credentials);
    let mut sent = headers(&[("host", "h")]);
    signer
        .sign_headers(&Method::GET, "/", "", &mut sent, EMPTY)
        .expect("signs");
    assert_eq!(sent["x-amz-security-token"], "a token/+=");
    let authorization = sent[AUTHORIZATION].to_str().expect("text");
    assert!(authorization.contains("host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"));
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
fn invalid_session_token_is_rejected() {
    let mut credentials = credentials();
    credentials.session_token = Some("two\nlines".to_owned());
    let mut sent = headers(&[("host", "h")]);
    let signed = signer(&credentials).sign_headers(&Method::GET, "/", "", &mut sent, EMPTY);
    assert!(signed.is_err());
}

#[test]
fn runs_of_spaces_are_collapsed() {
    let text = canonical_request(
        &Method::GET,
        "/",
        "",
        &headers(&[("x-amz-meta-a", "  one   two ")]),
        "x-amz-meta-a",
        EMPTY,
    );
    assert!(text.contains("\nx-amz-meta-a:one two\n"));
}

/// Signatures of botocore, AWS's Python library.
mod as_botocore_does {
    use super::*;
    use crate::client::{ClientSettings, address::Address};

    const KEY: &str = "ordner/a b+c%20d~ü//x?y#z&=.mp4";

    fn credentials(token: Option<&str>) -> Credentials {
        let mut credentials =
            Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        credentials.session_token = token.map(str::to_owned);
        credentials
    }

    fn signer(credentials: &Credentials) -> Signer<'_> {
        Signer::new(credentials, "eu-central-1", S3, at("2026-11-20T12:34:56Z"))
    }

    fn path() -> String {
        let settings = ClientSettings::default();
        let address = Address::new(&settings, Some("http://127.0.0.1:3900")).expect("an address");
        address.target("eu-central-1", "bucket", Some(KEY)).path
    }

    fn presigned(method: Method, query: Query, token: Option<&str>, seconds: u64) -> String {
        let credentials = credentials(token);
        let headers = headers(&[("host", "127.0.0.1:3900")]);
        let expires = Duration::from_secs(seconds);
        let query = signer(&credentials).sign_query(&method, &path(), query, &headers, expires);
        query
            .rsplit_once("X-Amz-Signature=")
            .expect("a signature")
            .1
            .to_owned()
    }

    #[test]
    fn a_part_with_temporary_keys() {
        let query = Query::new()
            .with("partNumber", "12")
            .with("uploadId", "a/b+c==");
        assert_eq!(
            presigned(Method::PUT, query, Some("tok/en+with=="), 3_600),
            "3012930ec4989dc42b1471b97aaf40b8e4ab0afb8212a85c483fb31f2e8415b7"
        );
    }

    #[test]
    fn a_download_under_another_name() {
        let query = Query::new().with(
            "response-content-disposition",
            "attachment; filename=\"ü b.mp4\"",
        );
        assert_eq!(
            presigned(Method::GET, query, None, 1),
            "a97f346d3906296a7d357aaa5b23d2fe7c2be4c603770926313051f52c4ffc8f"
        );
    }

    #[test]
    fn headers_with_needless_spaces() {
        let credentials = credentials(Some("tok/en+with=="));
        let mut headers = headers(&[
            ("host", "127.0.0.1:3900"),
            ("x-amz-meta-name", "  two   spaces "),
            ("content-type", "video/mp4"),
            ("x-amz-tagging", "a=1&b=2"),
        ]);
        signer(&credentials)
            .sign_headers(&Method::PUT, &path(), "", &mut headers, EMPTY)
            .expect("signs");
        assert_eq!(
            headers[AUTHORIZATION],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261120/eu-central-1/s3/aws4_request, \
             SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-name;\
             x-amz-security-token;x-amz-tagging, \
             Signature=d13e419c84613e66a89a83b3aa1eb6be3f248df0ed60bf2db1a05f51ece0ccde"
        );
    }
}
