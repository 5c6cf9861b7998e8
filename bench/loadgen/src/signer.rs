//! A server that signs requests to S3, asked in the words of Uppy's clients, and the bucket that what it
//! signed is tried on.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fleet::Server;
use crate::http::{Connection, Fault};
use crate::json;

/// Bytes of what is really uploaded.
pub(crate) const SIZE: usize = 1 << 10;
const TYPE: &str = "application/octet-stream";
const BOUNDARY: &str = "what-no-field-holds";

/// Who signs, and for whom.
#[derive(Debug)]
pub(crate) struct Signer {
    address: SocketAddr,
    /// An API key, if one is asked for.
    key: Option<String>,
    made: AtomicU64,
}

/// A multipart upload that was begun.
#[derive(Clone, Debug)]
pub(crate) struct Multipart {
    id: String,
    /// In the form it has in a query.
    key: String,
}

/// What a client may send to the bucket.
#[derive(Clone, Debug)]
pub(crate) enum Signed {
    /// A PUT to this URL.
    Put(String),
    /// A POST of a form with these fields.
    Form(String, Vec<(String, String)>),
}

impl Signed {
    /// What no other has.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Put(url) => url.split('?').next().unwrap_or_default(),
            Self::Form(_, fields) => fields
                .iter()
                .find(|(name, _)| name == "key")
                .map_or("", |(_, value)| value),
        }
    }

    /// Sends [`SIZE`] bytes as it says; the entity tag of what is kept.
    ///
    /// # Errors
    /// The bucket refuses.
    pub(crate) fn upload(&self) -> Result<String, Fault> {
        let bytes = "s".repeat(SIZE);
        let (url, head, body) = match self {
            Self::Put(url) => (url, format!("PUT {{}}Content-Type: {TYPE}\r\n"), bytes),
            Self::Form(url, fields) => {
                let mut body = String::new();
                for (name, value) in fields {
                    // Writing to a String can't fail.
                    let _ = write!(
                        body,
                        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                    );
                }
                let _ = write!(
                    body,
                    "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"measured.bin\"\r\nContent-Type: {TYPE}\r\n\r\n{bytes}\r\n--{BOUNDARY}--\r\n"
                );
                let kind = format!("multipart/form-data; boundary={BOUNDARY}");
                (url, format!("POST {{}}Content-Type: {kind}\r\n"), body)
            }
        };
        let (host, target) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(|| format!("{url} was signed, which is no address on loopback"))?;
        let address = host.parse().map_err(|_| format!("{host} is no address"))?;
        let line = format!("/{target} HTTP/1.1\r\nHost: {host}\r\n");
        let request = format!(
            "{}Content-Length: {}\r\n\r\n{body}",
            head.replace("{}", &line),
            body.len()
        );
        let (reply, answer) = Connection::open(address)?.ask(&request)?;
        reply
            .expect("a signed upload", &[200, 201, 204])
            .map_err(|fault| format!("{fault}: {}", answer.trim()))?;
        reply.etag.ok_or_else(|| "an upload without ETag".into())
    }

    /// The same with a signature that is wrong in its last digit.
    pub(crate) fn forged(&self) -> Self {
        let forge = |signature: &str| {
            let (most, last) = signature.split_at(signature.len() - 1);
            format!("{most}{}", if last == "0" { "1" } else { "0" })
        };
        match self {
            Self::Put(url) => {
                let at = url.find("X-Amz-Signature=").map_or(0, |at| at + 16);
                let end = url[at..].find('&').map_or(url.len(), |end| at + end);
                Self::Put(format!(
                    "{}{}{}",
                    &url[..at],
                    forge(&url[at..end]),
                    &url[end..]
                ))
            }
            Self::Form(url, fields) => {
                let field = |(name, value): &(String, String)| {
                    let signature = name.eq_ignore_ascii_case("x-amz-signature");
                    (
                        name.clone(),
                        if signature {
                            forge(value)
                        } else {
                            value.clone()
                        },
                    )
                };
                Self::Form(url.clone(), fields.iter().map(field).collect())
            }
        }
    }
}

impl Server for Signer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}

impl Signer {
    /// Asks nothing yet. `key` is an API key, or `-`.
    pub(crate) fn new(address: SocketAddr, key: &str) -> Self {
        Self {
            address,
            key: (key != "-").then(|| key.into()),
            made: AtomicU64::new(0),
        }
    }

    fn ask(
        &self,
        connection: &mut Connection,
        method: &str,
        target: &str,
        body: Option<&str>,
    ) -> Result<String, Fault> {
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n",
            self.address
        );
        if let Some(key) = &self.key {
            let _ = write!(request, "Authorization: Bearer {key}\r\n");
        }
        if let Some(body) = body {
            let length = body.len();
            let _ = write!(
                request,
                "Content-Type: application/json\r\nContent-Length: {length}\r\n"
            );
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or_default());
        let (reply, answer) = connection.ask(&request)?;
        let named = || format!("{method} {}", target.split('?').next().unwrap_or_default());
        match reply.status {
            200 => Ok(answer),
            _ => Err(reply
                .expect(&named(), &[200])
                .map_or_else(|fault| format!("{fault}: {}", answer.trim()), |()| named())),
        }
    }

    fn next(&self) -> u64 {
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    /// Begins a multipart upload.
    pub(crate) fn begin(&self, connection: &mut Connection) -> Result<Multipart, Fault> {
        let number = self.next();
        let body = format!(
            "{{\"filename\":\"measured.bin\",\"type\":\"{TYPE}\",\"metadata\":{{\"name\":\"measured.bin\",\"turn\":\"{number}\"}}}}"
        );
        let answer = self.ask(connection, "POST", "/s3/multipart", Some(&body))?;
        match (json::text(&answer, "uploadId"), json::text(&answer, "key")) {
            (Some(id), Some(key)) => Ok(Multipart {
                id: encode(id),
                key: encode(key),
            }),
            _ => Err(format!(
                "a multipart upload without uploadId and key: {answer}"
            )),
        }
    }

    /// The URL of one part.
    pub(crate) fn part(
        &self,
        connection: &mut Connection,
        upload: &Multipart,
        number: usize,
    ) -> Result<Signed, Fault> {
        let Multipart { id, key } = upload;
        let target = format!("/s3/multipart/{id}/{number}?key={key}");
        let answer = self.ask(connection, "GET", &target, None)?;
        signed(json::text(&answer, "url"), number, &answer)
    }

    /// The URL of `count` parts from `first` on; the last of them.
    pub(crate) fn batch(
        &self,
        connection: &mut Connection,
        upload: &Multipart,
        first: usize,
        count: usize,
    ) -> Result<Signed, Fault> {
        let Multipart { id, key } = upload;
        let mut target = format!("/s3/multipart/{id}/batch?key={key}&partNumbers={first}");
        let numbers = first..first + count;
        for number in numbers.clone().skip(1) {
            let _ = write!(target, "%2C{number}");
        }
        let answer = self.ask(connection, "GET", &target, None)?;
        let mut last = Err("a batch of none".into());
        for number in numbers {
            last = signed(json::text(&answer, &number.to_string()), number, &answer);
            last.as_ref().map_err(Clone::clone)?;
        }
        last
    }

    /// A form for a small file, as Uppy asks for it.
    pub(crate) fn form(&self, connection: &mut Connection) -> Result<Signed, Fault> {
        let number = self.next();
        let target = format!(
            "/s3/params?filename=measured.bin&type=application%2Foctet-stream&metadata%5Bname%5D=measured.bin&metadata%5Bturn%5D={number}"
        );
        let answer = self.ask(connection, "GET", &target, None)?;
        let fields = json::texts(&answer, "fields");
        match (
            json::text(&answer, "method"),
            json::text(&answer, "url"),
            fields,
        ) {
            (Some("POST"), Some(url), Some(fields)) => Ok(Signed::Form(url.into(), fields)),
            _ => Err(format!("no form to POST: {answer}")),
        }
    }

    /// A presigned PUT.
    pub(crate) fn put(&self, connection: &mut Connection) -> Result<Signed, Fault> {
        let number = self.next();
        let body = format!("{{\"file_name\":\"Measured {number}.bin\",\"file_type\":\"{TYPE}\"}}");
        let answer = self.ask(connection, "POST", "/api/sign_s3", Some(&body))?;
        match json::text(&answer, "signed_request") {
            Some(url) if url.contains("X-Amz-Signature=") => Ok(Signed::Put(url.into())),
            _ => Err(format!("no signed request: {answer}")),
        }
    }

    /// Completes an upload of one part.
    pub(crate) fn complete(
        &self,
        connection: &mut Connection,
        upload: &Multipart,
        number: usize,
        etag: &str,
    ) -> Result<(), Fault> {
        let Multipart { id, key } = upload;
        let etag = etag.trim_matches('"');
        let target = format!("/s3/multipart/{id}/complete?key={key}");
        let body =
            format!("{{\"parts\":[{{\"PartNumber\":{number},\"ETag\":\"\\\"{etag}\\\"\"}}]}}");
        let answer = self.ask(connection, "POST", &target, Some(&body))?;
        match json::text(&answer, "location") {
            Some(_) => Ok(()),
            None => Err(format!("completed, but nowhere: {answer}")),
        }
    }
}

/// The URL of a part, which must say which one, and be signed.
fn signed(url: Option<&str>, number: usize, answer: &str) -> Result<Signed, Fault> {
    let wanted = format!("partNumber={number}&");
    match url {
        Some(url) if url.contains(&wanted) && url.contains("X-Amz-Signature=") => {
            Ok(Signed::Put(url.into()))
        }
        _ => Err(format!("no URL of part {number}: {answer}")),
    }
}

/// As `encodeURIComponent` does.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // Writing to a String can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_a_query_may_not_hold() {
        assert_eq!(encode("uploads/ä b.bin"), "uploads%2F%C3%A4%20b.bin");
    }

    #[test]
    fn a_part_must_be_the_one_that_was_asked_for() {
        let url = "http://127.0.0.1:1/b/k?partNumber=7&X-Amz-Signature=ab&x-id=UploadPart";
        assert_eq!(
            signed(Some(url), 7, "").unwrap().name(),
            "http://127.0.0.1:1/b/k"
        );
        for (url, number) in [
            (Some(url), 70),
            (Some("http://x/?partNumber=7&"), 7),
            (None, 7),
        ] {
            assert!(signed(url, number, "").is_err());
        }
    }

    #[test]
    fn a_forgery_differs_in_its_signature_alone() {
        let put = Signed::Put("http://x/k?X-Amz-Signature=ab0&x-id=1".into());
        let Signed::Put(url) = put.forged() else {
            panic!("another kind");
        };
        assert_eq!(url, "http://x/k?X-Amz-Signature=ab1&x-id=1");
        let fields = [("key", "k"), ("X-Amz-Signature", "ab")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let form = Signed::Form("http://x/".into(), fields.into());
        assert_eq!(form.name(), "k");
        let Signed::Form(_, fields) = form.forged() else {
            panic!("another kind");
        };
        assert_eq!(fields[1].1, "a0");
    }
}
